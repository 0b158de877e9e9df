"""What an image is made of, as an SPDX 2.3 document: packages with their digests and where they come from.   [SPDX-2.3]

The format demands a time of creation. It is the same one always, so that equal images have equal documents.
"""

from __future__ import annotations

import json
from urllib.parse import quote

from donjon import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["make"]

ALWAYS = "1970-01-01T00:00:00Z"
DEBIAN = "Organization: Debian"


def make(manifest: Mapping[str, Any], digest: str) -> bytes:
    """The document of one image.

    Args:
        digest: of the manifest, hex; it makes the document's name.
    """
    image = f"SPDXRef-image-{manifest['variant']}"
    used = {
        about["package"] for part in manifest["segments"] for about in part["content"].values() if "package" in about
    }
    packages = [_image(manifest, image, digest), _donjon()]
    relations = [
        _relation("SPDXRef-DOCUMENT", "DESCRIBES", image),
        _relation(image, "CONTAINS", "SPDXRef-donjon"),
    ]
    for row in manifest["packages"]:
        reference = f"SPDXRef-{row['kind']}-{row['name'].replace('_', '-').replace('+', '-')}"
        packages.append(_package(row, reference))
        if row["name"] in used or row["name"].startswith("linux-image-"):
            relations.append(_relation(image, "CONTAINS", reference))
        else:
            relations.append(_relation(reference, "BUILD_TOOL_OF", image))
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"donjon-image-{manifest['variant']}",
        "documentNamespace": f"urn:donjon:image:{digest}",
        "creationInfo": {
            "created": ALWAYS,
            "creators": [f"Tool: donjon-{__version__}"],
            "comment": "The time is always this one, so that equal images have equal documents.",
        },
        "packages": packages,
        "relationships": relations,
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _image(manifest: Mapping[str, Any], reference: str, digest: str) -> dict[str, object]:
    files = ", ".join(f"{name} sha256:{about['sha256']}" for name, about in sorted(manifest["files"].items()))
    return {
        "SPDXID": reference,
        "name": f"donjon-image-{manifest['variant']}",
        "versionInfo": __version__,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "comment": f"manifest sha256:{digest}; {files}",
    }


def _donjon() -> dict[str, object]:
    return {
        "SPDXID": "SPDXRef-donjon",
        "name": "donjon",
        "versionInfo": __version__,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "Apache-2.0",
        "licenseDeclared": "Apache-2.0",
        "copyrightText": "NOASSERTION",
        "externalRefs": [_purl(f"pkg:pypi/donjon@{__version__}")],
    }


def _package(row: Mapping[str, Any], reference: str) -> dict[str, object]:
    deb = row["kind"] == "deb"
    version = row["version"]
    name = f"{quote(row['name'])}@{quote(version, safe='')}"
    if deb:
        architecture = row["path"].rpartition("_")[2].removesuffix(".deb")
        purl = f"pkg:deb/debian/{name}?arch={architecture}&distro=bookworm"
    else:
        purl = f"pkg:pypi/{name}"
    return {
        "SPDXID": reference,
        "name": row["name"],
        "versionInfo": version,
        "packageFileName": row["path"].rpartition("/")[2] if deb else row["file"],
        "supplier": DEBIAN if deb else "NOASSERTION",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": row["sha256"]}],
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [_purl(purl)],
    }


def _purl(locator: str) -> dict[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
