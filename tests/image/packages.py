"""Packages as small as they can be."""

from __future__ import annotations

import io
import tarfile
import zipfile


def tar(files: dict[str, bytes | str]) -> bytes:
    """A tar archive, xz: bytes are a file's content, a text is a link's target."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        top = tarfile.TarInfo("./")  # as packages begin
        top.type = tarfile.DIRTYPE
        archive.addfile(top)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size, member.mode = len(content), 0o755
                archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def ar(members: dict[str, bytes]) -> bytes:
    """An ar archive."""
    out = b"!<arch>\n"
    for name, content in members.items():
        out += (
            f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
        )
    return out


def deb(files: dict[str, bytes | str]) -> bytes:
    """A Debian package."""
    return ar({"debian-binary": b"2.0\n", "control.tar.xz": tar({}), "data.tar.xz": tar(files)})


def wheel(files: dict[str, bytes]) -> bytes:
    """A Python wheel."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()
