"""The certificates that a configuration trusts: what the files named in `[roots]` hold.

    roots = read(config)
    roots["keeps"].certificates        # DER, in the order of the file
    roots["keeps"].digest              # what the workload's digest binds

A configuration has only names and paths, so that it can be made, compared and sent to another process without its
files. A Keep reads each of them once, when it starts, and uses what it read then for both: the digest, and the
certificates that are trusted. So whoever exchanges a file makes another workload of it, and nobody can between the two.

A file holds certificates and nothing else. A private key does not belong there, and a list of revoked certificates
would be passed over in silence. Text around the certificates is a comment, as usual in such files.

Source: RFC 7468, sections 2 and 5.
"""

from __future__ import annotations

import binascii
import errno
from hashlib import sha256

from donjon.config._rules import PEM, escape, path_text, quote
from donjon.errors import ParseError, PlatformError, UsageError, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from donjon.config.models import Config

__all__ = ["MAX_CERTIFICATES", "MAX_SIZE", "Root", "certificates_of", "read"]

MAX_SIZE = 1 << 20
"""Bytes of a file; the roots of a whole operating system are 220 KB."""
MAX_CERTIFICATES = 1024
"""In one file; an operating system has some 140."""

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR)


class Root:
    """The content of one entry of `[roots]`.

    Args:
        data: the file's bytes.
        certificates: those in it, DER.
    """

    __slots__ = ("certificates", "data", "digest")

    def __init__(self, data: bytes, certificates: tuple[bytes, ...]) -> None:
        self.data = data
        self.digest = sha256(data).hexdigest()
        """SHA-256 of the file's bytes (of the text, as UTF-8, where the configuration has it in line)."""
        self.certificates = certificates


def read(config: Config) -> Mapping[str, Root]:
    """Read every root of a configuration.

    Raises:
        UsageError: a file is missing. PlatformError: it cannot be read.
        ParseError: it holds no certificate, or something else; the message names the entry.
    """
    found = {}
    for name, value in config.roots.items():
        where = path_text(("roots", name))
        inline = PEM in value
        data = value.encode() if inline else _bytes(value, where)
        found[name] = Root(data, certificates_of(data, where if inline else f"{where}: {escape(value)}"))
    return found


def certificates_of(data: bytes, where: str) -> tuple[bytes, ...]:
    """The certificates in PEM, as DER; only their armour is looked at.

    Args:
        where: what messages begin with.
    Raises:
        ParseError: there is none, something else, or more than may be.
    """
    if len(data) > MAX_SIZE:
        raise ParseError(f"{where}: expected at most {MAX_SIZE} bytes, got more", "is it the right file?")
    found: list[bytes] = []
    for part in data.split(PEM.encode())[1:]:
        label, closed, rest = part.partition(b"-----")
        if label != b"CERTIFICATE" or not closed:
            shown = quote(label[:40].partition(b"\n")[0].decode("utf-8", "replace"))
            hint = "a private key stays with its owner: name the certificate's own file"
            raise ParseError(
                f"{where}: expected blocks labelled CERTIFICATE alone, got {shown}",
                hint if b"PRIVATE" in label else "keep certificates in a file of their own",
            )
        body, closed, _ = rest.partition(b"-----END CERTIFICATE-----")
        if len(found) == MAX_CERTIFICATES:
            raise ParseError(f"{where}: expected at most {MAX_CERTIFICATES} certificates, got more", "remove some")
        number = len(found) + 1
        if not closed:
            raise ParseError(f"{where}: certificate {number}: expected its last line, got none", "is the file whole?")
        try:
            found.append(binascii.a2b_base64(b"".join(body.split()), strict_mode=True))
        except binascii.Error as error:
            raise ParseError(f"{where}: certificate {number}: expected base64, got something else") from error
        if not found[-1]:
            raise ParseError(f"{where}: certificate {number}: expected base64, got nothing")
    if not found:
        raise ParseError(
            f"{where}: expected certificates in PEM, found none",
            "openssl x509 -inform DER -in FILE makes PEM of a certificate in DER",
        )
    return tuple(found)


def _bytes(path: str, where: str) -> bytes:
    """Read the file, or one byte more than it may have."""
    try:
        with open(path, "rb") as stream:
            return stream.read(MAX_SIZE + 1)
    except OSError as error:
        text = f"{where}: cannot read {escape(path)}: {words_of(error)}"
        if error.errno in _ABSENT:
            hint = "[roots] in Enarx.toml names PEM files, relative to where Enarx.toml is"
            raise UsageError(text, hint) from error
        raise PlatformError(text, "check who may read it: ls -l") from error
