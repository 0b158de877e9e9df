"""A report that came alone, and the certificate of its key that somebody fetched: which it needs, and is this the one?

For a Keep whose host sends no certificates along, and hands it what it asks for. Nothing of that is believed: the
certificate has to be of AMD's chain, of the kind, chip and TCB that the report names, and its key has to have signed
this very report. What is not asked is the time, as the clock inside is the host's, and revocation: both are the
Steward's business.
"""

from __future__ import annotations

from donjon.errors import VerifyError
from donjon.tee.contract import Checks, Roots
from donjon.tee.snp.collateral import needs
from donjon.tee.snp.evidence import encode, parse
from donjon.tee.snp.layout import Product
from donjon.tee.snp.vek import read_vek
from donjon.tee.snp.verify import check_key
from donjon.wire.der import Der

__all__ = ["complete", "lacks"]


def lacks(evidence: bytes) -> str:
    """The name of the certificate that the evidence came without; "" where it has it, or where nobody can name it.

    Args:
        evidence: the value of a certificate request's extension.
    Raises:
        ParseError: it is not well formed.
    """
    found, _ = parse(evidence)
    names = (need.name for need in needs(found) if need.lasting)
    return next(names, "") if found.vek is None else ""


def complete(evidence: bytes, certificate: bytes, roots: Roots | None) -> bytes:
    """The same evidence with the certificate in it.

    Args:
        evidence: a report alone, in an OCTET STRING, that `lacks` something.
        certificate: DER, from anybody.
        roots: AMD's; None where hardware is simulated, whose maker nobody here knows: there, that the certificate's key
            has signed the report has to do.
    Raises:
        ParseError: the certificate is not well formed. VerifyError: it is not that of the report's key.
    """
    found, _ = parse(evidence)
    product = Product.of_cpuid(found.report.cpuid) if found.report.cpuid else None
    if product is None:
        raise VerifyError("SNP report: expected one that names its product, got none")
    vek = read_vek(certificate)
    checks = Checks("snp")
    check_key(checks, found.report, vek, product, roots)
    if not checks.ok:
        raise checks.refusal()
    return encode(Der(evidence, "evidence").octets("report"), certificate)
