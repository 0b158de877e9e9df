"""Make `src/donjon/image/lock.json` anew, from what Debian's archives and requirements/run.txt have today.

    python -m tools.image_lock [--dry-run] MIRROR

MIRROR is a mirror of Debian that has `debian-security` beside `debian`, such as https://HOST/debian.
Needs a Debian with gpgv, dpkg and debian-archive-keyring, pip, and a network. The archives' lists are taken only with
their signature; the digests in the lock are those of the lists. Images of another lock have other measurements, so
policies have to be written anew, and the change belongs into CHANGELOG.md.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from packaging.requirements import Requirement

from donjon.image import fetching
from donjon.image import lock as locks

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "src/donjon/image/lock.json"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITES = {
    "bookworm": ("debian", "bookworm"),
    "security": ("debian-security", "bookworm-security"),
    "backports": ("debian", "bookworm-backports"),
}
"""Name here -> archive, suite."""
KERNEL = "linux-image-cloud-amd64"
"""The package that depends on the newest kernel, of `backports`."""
DEBS = {
    "ca-certificates": "image", "libc6": "image", "libexpat1": "image", "libffi8": "image", "libgcc-s1": "image",
    "libpython3.11-minimal": "image", "libpython3.11-stdlib": "image", "libssl3": "image", "libzstd1": "build",
    "python3.11-minimal": "image", "zlib1g": "image",
}  # fmt: skip
"""Package of `bookworm` or `security`, whichever is newer -> what for."""
WHEELS = ("cffi", "cryptography", "msgspec", "wasmtime")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")
INSIDE = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_python_implementation": "CPython"}
LIMIT = 128 << 20

Fields = dict[str, str]


def main(arguments: list[str]) -> int:
    """Write the lock, or only print what it would be."""
    *options, mirror = arguments or [""]
    if not mirror.startswith(("http://", "https://")) or options not in ([], ["--dry-run"]):
        raise SystemExit("usage: python -m tools.image_lock [--dry-run] MIRROR, such as https://HOST/debian")
    lists = {name: _packages(f"{mirror.rstrip('/')}/", *suite) for name, suite in SUITES.items()}
    kernel = lists["backports"][KERNEL]["Depends"].split()[0]
    rows = [_deb(name, use, lists) for name, use in {**DEBS, kernel: "image"}.items()]
    with tempfile.TemporaryDirectory() as folder:
        rows = sorted(rows, key=lambda row: str(row["name"])) + [_wheel(name, folder) for name in WHEELS]
    text = json.dumps(
        {"format": locks.FORMAT, "snapshot": f"{datetime.now(UTC):%Y%m%dT000000Z}", "packages": rows}, indent=1
    )
    locks.parse(text.encode(), "the new lock")
    before = {package.name: package for package in locks.load().packages}
    for row in rows:
        old = before.get(str(row["name"]))
        if old is None or old.sha256 != row["sha256"]:
            print(f"{row['name']}: {old.version if old else 'new'} -> {row['version']}")
    if not options:
        LOCK.write_text(f"{text}\n", encoding="utf-8")
    return 0


def _packages(mirror: str, archive: str, suite: str) -> dict[str, Fields]:
    """The packages of a suite, by name, from its list, whose digest a signed file has."""
    name = "main/binary-amd64/Packages.xz"
    base = fetching.of_archive(mirror, archive)
    signed = fetching.download(f"{base}dists/{suite}/InRelease", LIMIT)
    done = subprocess.run(
        ["gpgv", "--quiet", "--keyring", KEYRING, "--output", "-"], input=signed, capture_output=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{archive} {suite}: the signature does not hold:\n{done.stderr.decode()}")
    digests = done.stdout.decode().partition("\nSHA256:\n")[2].split("\n")
    expected = next(line.split()[0] for line in digests if line.endswith(f" {name}"))
    data = fetching.download(f"{base}dists/{suite}/{name}", LIMIT)
    if hashlib.sha256(data).hexdigest() != expected:
        raise SystemExit(f"{archive} {suite}: {name} is not what the signed file says: try again later")
    found = {}
    for text in lzma.decompress(data).decode().split("\n\n"):
        lines = (line.partition(": ") for line in text.split("\n") if line and not line.startswith(" "))
        fields = {key: value for key, _, value in lines}
        if fields:
            found[fields["Package"]] = {**fields, "archive": archive}
    return found


def _deb(name: str, use: str, lists: dict[str, dict[str, Fields]]) -> dict[str, object]:
    suites = ("backports",) if name.startswith("linux-image-") else ("bookworm", "security")
    newest: Fields | None = None
    for fields in (lists[suite].get(name) for suite in suites):
        if fields and (newest is None or _newer(fields["Version"], newest["Version"])):
            newest = fields
    if newest is None:
        raise SystemExit(f"{name}: no archive has it")
    return {
        "kind": "deb", "name": name, "version": newest["Version"], "archive": newest["archive"],
        "path": newest["Filename"], "size": int(newest["Size"]), "sha256": newest["SHA256"], "use": use,
    }  # fmt: skip


def _newer(one: str, other: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", one, "gt", other], check=False).returncode == 0


def _wheel(name: str, folder: str) -> dict[str, object]:
    """The wheel that requirements/run.txt pins, for the image's interpreter."""
    lines = (ROOT / "requirements/run.txt").read_text(encoding="utf-8").replace("\\\n", " ").split("\n")
    pins = [Requirement(line.partition(" --hash")[0]) for line in lines if line.startswith(f"{name}==")]
    requirement = next(pin for pin in pins if pin.marker is None or pin.marker.evaluate(INSIDE))
    version = str(requirement.specifier).removeprefix("==")
    line = next(line for line in lines if line.startswith(f"{name}=={version} "))
    pin = " ".join([f"{name}=={version}", *re.findall(r"--hash=\S+", line)])
    into = Path(folder) / name
    into.mkdir()
    (into / "pin.txt").write_text(pin, encoding="utf-8")
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [
        sys.executable, "-m", "pip", "--quiet", "download", "--require-hashes", "--no-deps", "--only-binary", ":all:",
        *fetching.PYTHON, *platforms, "--dest", str(into), "-r", str(into / "pin.txt"),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    (file,) = into.glob("*.whl")
    data = file.read_bytes()
    return {
        "kind": "wheel", "name": name, "version": version, "file": file.name, "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(), "use": "image",
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
