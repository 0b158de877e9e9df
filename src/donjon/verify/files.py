"""Demands from words and files: what the command line and users of the library write.

expect(steward_root="root.pem", workload="5e3f...")
expect("verify.toml")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from donjon.errors import ParseError
from donjon.files import read
from donjon.log import printable
from donjon.steward import files
from donjon.verify import policy as policies
from donjon.verify.demands import Demands

MAX_ROOTS = 1_000_000
"""Bytes of a file with roots of Stewards."""

Words = str | Sequence[str]


def expect(
    policy: str | os.PathLike[str] | None = None,
    *,
    steward_root: Words | None = None,
    roots: str | None = None,
    tee: Words | None = None,
    product: Words | None = None,
    measurement: Words | None = None,
    workload: Words | None = None,
    names: Words | None = None,
    max_age: str | timedelta | None = None,
    accept_unattested: bool = False,
) -> Demands:
    """Read demands.

    Args:
        policy: a file with demands; what else is given must not stand there too.
        steward_root: files with roots of Stewards, PEM.
        roots: a file with roots for evidence beside the vendors' own, as `donjon steward judge` reads them.
        tee, product, measurement, workload, names: one of these; text with commas, or a sequence, which must
            not be empty. Digests in hex.
        max_age: how long ago a Steward may have judged, such as "24h".
        accept_unattested: KVM, and simulated hardware whose roots are trusted, may pass.
    Raises:
        UsageError: a value is wrong, a file is missing, or demands contradict each other.
        ParseError: a file is malformed. PlatformError: a file cannot be read.
    """
    given: dict[str, Any] = {
        "steward_root": _words(steward_root),
        "roots": roots,
        "tee": _words(tee),
        "product": _words(product),
        "measurement": _words(measurement),
        "workload": _words(workload),
        "names": _words(names),
        "max_age": f"{int(max_age.total_seconds())}s" if isinstance(max_age, timedelta) else max_age,
        "accept_unattested": accept_unattested,
    }
    base = policies.Policy()
    folder = ""
    if policy is not None:
        path = os.fspath(policy)
        base = policies.parse(files.read_text(path, policies.MAX_FILE), printable(path))
        folder = os.path.dirname(path)
    whole = base.joined(policies.asked(**given))
    from_policy = base.asked  # files that it names stand beside it
    anchors = [
        anchor
        for path in whole.asked.steward_root
        for anchor in read_anchors(os.path.join(folder, path) if from_policy.steward_root else path)
    ]
    extra = None
    if whole.asked.roots is not None:
        path = os.path.join(folder, whole.asked.roots) if from_policy.roots else whole.asked.roots
        pile = files.Pile()
        pile.add_roots(printable(path), files.read_text(path, files.MAX_ROOTS))
        extra = pile.trust()
    return whole.demands(anchors, extra)


def read_anchors(path: str) -> list[bytes]:
    """The roots in a PEM file, in DER.

    Raises:
        ParseError: it holds none, or something else. UsageError: it is missing.
    """
    data = read(path, MAX_ROOTS)
    try:
        return [item.public_bytes(Encoding.DER) for item in x509.load_pem_x509_certificates(data)]
    except ValueError as error:
        hint = "a Steward keeps its root in root.crt; `GET /v1/trust-anchors` shows it"
        raise ParseError(f"{printable(path)}: expected certificates in PEM", hint) from error


def _words(value: Words | None) -> Words | None:
    return value if value is None or isinstance(value, str) else tuple(value)
