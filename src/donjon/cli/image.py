"""`donjon image`: the guest image of the VM Keeps, built and described."""

from __future__ import annotations

import json

from donjon import image
from donjon.cli import tui
from donjon.image import store
from donjon.log import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.cli.parse import Options
    from donjon.image import Image

__all__ = ["build", "info"]


def build(options: Options) -> int:
    """Build an image, or find it built, and say which it is."""
    log = tui.logger(options.log_filter, options.log_target)
    made = image.build(options.variant, lambda text: log.info(text, "donjon.image"), options.out)
    tui.write(tui.table(_head(made)))
    return 0


def info(options: Options) -> int:
    """Show what an image is, and what it is made of."""
    found = image.find(options.variant)
    if options.check:
        store.check(found)
    tui.write(as_json(found) if options.json else as_text(found, options.check))
    return 0


def as_json(found: Image) -> str:
    """The manifest, and beside it what it does not say of itself."""
    whole = {"digest": found.digest, "directory": found.directory, "sbom": found.sbom, **found.manifest}
    return json.dumps(whole, indent=2) + "\n"


def as_text(found: Image, checked: bool) -> str:
    """What is measured, what each megabyte is for, and the packages."""
    manifest = found.manifest
    files = manifest["files"]
    rows = [
        *_head(found),
        ("Command line", found.cmdline),
        ("Kernel", f"{_megabytes(files['bzImage']['size'])}, SHA-256 {printable(files['bzImage']['sha256'])}"),
        ("Initramfs", f"{_megabytes(files['initrd.zst']['size'])}, SHA-256 {printable(files['initrd.zst']['sha256'])}"),
        ("Unpacked", f"{_megabytes(files['initrd.cpio']['size'])} of the guest's memory"),
        ("SBOM", printable(found.sbom)),
    ]
    if checked:
        rows.append(("Checked", "every file is what the manifest says"))
    text = tui.table(rows)
    text += f"\n{tui.bold('What the megabytes of the initramfs are for')}: compressed, and in memory\n"
    shares: dict[str, list[int]] = {}
    for part in manifest["purposes"]:
        share = shares.setdefault(part["purpose"], [0, 0])
        share[0] += part["zstd"]
        share[1] += part["raw"]
    for name, (packed, raw) in sorted(shares.items(), key=lambda share: -share[1][0]):
        text += f"  {packed / 1e6:6.2f}  {raw / 1e6:6.2f}  {printable(name)}\n"
    text += f"\n{tui.bold('Packages')}\n"
    packages = [
        (printable(row["name"]), printable(row["version"]) + ("" if row["use"] == "image" else " (only to build)"))
        for row in manifest["packages"]
    ]
    width = max((len(name) for name, _ in packages), default=0)
    return text + "".join(f"  {name:{width}}  {version}\n" for name, version in packages)


def _head(found: Image) -> list[tuple[str, str]]:
    return [("Variant", found.variant), ("Digest", found.digest), ("Directory", printable(found.directory))]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
