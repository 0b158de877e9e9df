"""Where AMD keeps certificates, and the roots that are shipped."""

from __future__ import annotations

import pytest

from donjon.errors import BugError, UsageError
from donjon.tee.snp import roots
from donjon.tee.snp.collateral import chain_address, crl_address, vcek_address
from donjon.tee.snp.layout import Product, SigningKey, Tcb
from donjon.tee.snp.simulate import TCBS
from donjon.tee.snp.x509 import is_ca, read_certificate, signed_by


def test_addresses_of_milan_have_the_whole_id() -> None:
    address = vcek_address(Product.Milan, b"\xab" * 64, Tcb(bootloader=4, tee=0, snp=24, microcode=219))
    query = "blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"
    assert address == f"https://kdsintf.amd.com/vcek/v1/Milan/{'ab' * 64}?{query}"


def test_addresses_of_turin_have_eight_bytes_and_one_number_more() -> None:
    address = vcek_address(Product.Turin, b"\xab" * 8 + bytes(56), TCBS[Product.Turin], "http://cache")
    assert address == f"http://cache/vcek/v1/Turin/{'ab' * 8}?fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=04&ucodeSPL=81"


def test_lists_and_chains() -> None:
    assert crl_address(Product.Genoa) == "https://kdsintf.amd.com/vcek/v1/Genoa/crl"
    assert chain_address(Product.Genoa, SigningKey.VLEK) == "https://kdsintf.amd.com/vlek/v1/Genoa/cert_chain"


def test_a_masked_chip_has_no_address() -> None:
    with pytest.raises(UsageError, match="the report has no CHIP_ID"):
        vcek_address(Product.Genoa, bytes(64), TCBS[Product.Genoa])


def test_the_shipped_roots_are_whole_chains() -> None:
    anchors = {name: read_certificate(data) for name, data in roots.vendor().anchors.items()}
    for product in Product:
        ark = anchors[f"{product.name}/ARK"]
        assert ark.subject.common_name == f"ARK-{product.name}"
        for kind, name in (("ARK", "ARK"), ("ASK", "SEV"), ("ASVK", "SEV-VLEK")):
            certificate = anchors[f"{product.name}/{kind}"]
            assert certificate.subject.common_name == f"{name}-{product.name}"
            assert signed_by(certificate, ark)
            assert is_ca(certificate)
    assert not roots.vendor().simulated


def test_a_root_that_is_not_the_pinned_one_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(roots.PINNED, "Milan/ARK", "00" * 32)
    with pytest.raises(BugError, match=r"ark_milan\.der: expected SHA-256 0000"):
        roots.vendor.__wrapped__()
