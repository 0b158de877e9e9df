"""Whether a chain of certificates that came back is one for our key: asked before a Keep shows it to anybody.

A Steward that errs, or whoever stands in its place, must not make a Keep run with a certificate that no client accepts,
or that names another workload. Whether the chain's end is to be trusted, relying parties ask: a Keep has no use for it
but to be believed.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning

from donjon.errors import ParseError, VerifyError

__all__ = ["MAX_CERTIFICATE", "check_path"]

MAX_CERTIFICATE = 128 * 1024
_UNREADABLE = (
    ValueError,
    TypeError,  # a bit string for a name
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
LEEWAY = timedelta(minutes=5)
"""By which our clock may be behind the issuer's. It may not be ahead: an expired certificate is of no use."""


def check_path(chain: Sequence[bytes], spki: bytes, workload: bytes, now: datetime) -> datetime:
    """Check a chain.

    Args:
        chain: DER, the leaf first, each signed by the next.
        spki: our key, SubjectPublicKeyInfo in DER.
        workload: our digest; a workload that the leaf names must be this one.
    Returns:
        Until when all of it is valid.
    Raises:
        ParseError: something in it is no certificate.
        VerifyError: it is not a chain for our key, now.
    """
    # A chain is ours when
    # (1) the leaf is for our key, and for no authority;      (2) each certificate is signed by the next;
    # (3) all but the leaf are authorities, deep enough;      (4) each is valid now;
    # (5) the workload that the leaf names, if any, is ours.
    # Not asked here: who has signed the last one. A root's signature by itself says nothing, and it need not be a root.
    path = [_read(data, number) for number, data in enumerate(chain)]
    if len(path) < 2:
        raise VerifyError(f"certificate chain: expected at least 2 certificates, got {len(path)}")
    try:
        leaf_key = path[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ParseError("certificate[0]: expected a key that can be read") from error
    if leaf_key != spki:  # (1)
        raise VerifyError("certificate[0]: expected a certificate for this Keep's key, got one for another key")
    basic = _basic(path[0])
    if basic is not None and basic.ca:
        raise VerifyError("certificate[0]: expected a certificate that signs no others, got an authority's")
    for number, (one, above) in enumerate(pairwise(path)):
        _check_signed(one, above, number)  # (2)
        _check_authority(above, number + 1)  # (3)
    for number, one in enumerate(path):  # (4)
        start, end = one.not_valid_before_utc, one.not_valid_after_utc
        if not start - LEEWAY <= now < end:
            when = "expired" if now >= end else "not yet valid"
            raise VerifyError(
                f"certificate[{number}]: expected one that is valid at {_shown(now)}, got one valid from "
                f"{_shown(start)} to {_shown(end)} ({when})",
                "compare this machine's clock with the Steward's",
            )
    _check_workload(path[0], workload)  # (5)
    return min(one.not_valid_after_utc for one in path)


def _read(data: bytes, number: int) -> x509.Certificate:
    if len(data) > MAX_CERTIFICATE:
        raise ParseError(f"certificate[{number}]: expected at most {MAX_CERTIFICATE} bytes, got {len(data)}")
    try:
        with warnings.catch_warnings():
            # Enarx's Steward makes itself an authority with the serial number 0, which RFC 5280 does not allow.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            found = x509.load_der_x509_certificate(data)
        _ = (
            found.extensions,
            found.issuer,
            found.subject,
        )  # they are read when asked for: what is malformed raises now
    except _UNREADABLE as error:
        raise ParseError(f"certificate[{number}]: expected a certificate in DER") from error
    return found


def _check_signed(one: x509.Certificate, above: x509.Certificate, number: int) -> None:
    try:
        one.verify_directly_issued_by(above)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise VerifyError(
            f"certificate[{number}]: expected a signature by the next certificate of the chain, got another"
        ) from error


def _check_authority(one: x509.Certificate, number: int) -> None:
    basic = _basic(one)
    if basic is None or not basic.ca:
        raise VerifyError(f"certificate[{number}]: expected an authority's (CA true), got one that may sign none")
    below = number - 1  # authorities between it and the leaf
    if basic.path_length is not None and basic.path_length < below:
        raise VerifyError(
            f"certificate[{number}]: expected room for {below} authorities below it, got {basic.path_length}"
        )
    try:
        usage = one.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.key_cert_sign:
        raise VerifyError(f"certificate[{number}]: expected a key that may sign certificates, got another key usage")


def _basic(one: x509.Certificate) -> x509.BasicConstraints | None:
    try:
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None


def _check_workload(leaf: x509.Certificate, workload: bytes) -> None:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    ours = "ni:///sha-256;" + base64.urlsafe_b64encode(workload).rstrip(b"=").decode()
    for name in names.get_values_for_type(x509.UniformResourceIdentifier):
        if name.startswith("ni:") and name != ours:
            raise VerifyError(
                f"certificate[0]: expected the workload {workload.hex()}, got a certificate for {name[:80]!r}"
            )


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
