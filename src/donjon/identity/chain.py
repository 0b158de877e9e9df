"""A private key and its chain of certificates, kept together and kept in memory."""

from __future__ import annotations

from binascii import b2a_base64
from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class Identity:
    """The key of a Keep and the certificates that vouch for it. The key shows in no text and cannot be pickled.

    Args:
        key: the private key, PKCS#8 in DER, not encrypted.
        chain: certificates in DER, the Keep's own first; each is signed by the next.
        expires: when it has to be replaced at the latest, in seconds since 1970; None for one that nobody renews.
    """

    __slots__ = ("_key", "chain", "expires")

    def __init__(self, key: bytes, chain: tuple[bytes, ...], expires: float | None = None) -> None:
        self._key = key
        self.chain = chain
        self.expires = expires

    @property
    def certificate(self) -> bytes:
        """The Keep's own certificate in DER."""
        return self.chain[0]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `certificate` in hexadecimal; `openssl x509 -fingerprint -sha256` prints it with colons."""
        return sha256(self.certificate).hexdigest()

    def key_pem(self) -> bytes:
        """The private key as PEM. Nothing but TLS has a use for it."""
        return _pem("PRIVATE KEY", self._key)

    def chain_pem(self) -> bytes:
        """The chain as PEM, the Keep's own certificate first, as TLS sends it."""
        return b"".join(_pem("CERTIFICATE", one) for one in self.chain)

    def __repr__(self) -> str:
        return f"<Identity {self.fingerprint[:16]}, {len(self.chain)} certificate{'s'[: len(self.chain) != 1]}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Identity cannot be pickled or copied: the key stays in the Keep")


def _pem(label: str, der: bytes) -> bytes:
    """Source: RFC 7468, section 2: base64 in lines of 64 characters."""
    lines = b"".join(b2a_base64(der[start : start + 48]) for start in range(0, len(der), 48))
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label.encode(), lines, label.encode())
