"""What an adversary would try. Each of these is a way in that must stay shut, and a finding becomes a case here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from donjon.steward import authority as stewards
from donjon.steward import result
from donjon.tee import cca
from donjon.tee.contract import Check, Outcome
from donjon.verify import Demands, RefusedError, judge
from donjon.verify.certificates import MAX_CHAIN
from donjon.verify.result import uri
from donjon.wire import der
from donjon.wire.der import Der
from tests.steward.requests import NOW
from tests.verify.chains import (
    DAY,
    NAME,
    OTHER,
    WORKLOAD,
    Chain,
    Entity,
    authority,
    claims,
    granted,
    new_key,
    simulated_trust,
    unknown,
    with_evidence,
)


def failed(checks: tuple[Check, ...]) -> set[str]:
    return {check.name for check in checks if check.outcome is Outcome.FAILED}


def refused(chain: Any, demands: Demands) -> set[str]:
    with pytest.raises(RefusedError) as caught:
        judge(chain, demands, NOW)
    return failed(caught.value.checks)


def resigned(certificate: bytes, key: Any, change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    """The certificate with other extensions than a builder would make, signed anew."""
    outer = Der(certificate, "certificate").sequence()
    tbs, algorithm = outer.sequence(), outer.whole(der.SEQUENCE, "algorithm")
    parts: list[bytes] = []
    while tbs.left and tbs.tag != der.context(3):
        parts.append(tbs.whole(0, "part"))
    listed = tbs.inside(der.context(3)).sequence()
    extensions: list[bytes] = []
    while listed.left:
        extensions.append(listed.whole(der.SEQUENCE, "extension"))
    encoded = der.encode(der.SEQUENCE, *change(extensions))
    signed = der.encode(der.SEQUENCE, *parts, der.encode(der.context(3), encoded))
    signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return der.encode(der.SEQUENCE, signed, algorithm, der.encode(der.BIT_STRING, b"\0" + signature))


def extension(oid: str, value: bytes) -> bytes:
    content = der.encode(der.OID, der.oid_content(oid)), der.encode(der.OCTET_STRING, value)
    return der.encode(der.SEQUENCE, *content)


# Chains


def test_a_keeps_certificate_issues_no_other() -> None:
    """The oldest one: whoever has a certificate signs the next."""
    chain = Chain()
    leaf, issuing = chain.built()
    forged = Chain(told=claims(workload=OTHER.hex()))
    forged.names = [x509.UniformResourceIdentifier(uri(OTHER))]
    forged.issuing = chain.leaf
    evil = forged.built()[0]
    assert refused((evil, leaf, issuing), chain.demands()) == {"chain.authorities", "chain.path_length"}


def test_an_authority_shows_itself_as_a_keep() -> None:
    chain = Chain()
    leaf, issuing = chain.built()
    demands = chain.demands()
    assert "leaf.authority" in refused((issuing,), demands)
    assert "leaf.authority" in refused((demands.anchors[0],), demands)
    assert "leaf.authority" in refused((issuing, leaf), demands)  # in the wrong order


def test_an_authority_of_the_same_names_with_other_keys() -> None:
    chain, evil = Chain(), Chain()
    evil.leaf = chain.leaf
    assert refused(evil.built(), chain.demands()) == {"chain.anchor"}
    assert refused((*evil.built(), evil.anchor), chain.demands()) == {"chain.anchor"}
    assert refused((*evil.built(), chain.demands().anchors[0]), chain.demands()) >= {"chain.issued", "chain.anchor"}


def test_a_result_copied_from_another_certificate_is_not_signed_with_it() -> None:
    chain = Chain()
    good, issuing = chain.built()
    value = next(
        item.value.value
        for item in x509.load_der_x509_certificate(good).extensions
        if isinstance(item.value, x509.UnrecognizedExtension) and item.oid.dotted_string == result.CMW
    )
    thief = Entity("thief", extensions={"result": (unknown(result.CMW, value), False)}, issuer="Test Issuing")
    assert "chain.issued" in refused((thief.signed(thief), issuing), chain.demands())
    alone = Entity("thief", extensions={"result": (unknown(result.CMW, value), False)})
    assert refused((alone.signed(alone),), Demands()) == {"evidence.carried"}


def test_the_key_of_a_certificate_exchanged_breaks_its_signature() -> None:
    chain = Chain()
    leaf, issuing = chain.built()
    mine = new_key().public_key()
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    old, new = chain.leaf.key.public_key().public_bytes(*form), mine.public_bytes(*form)
    assert old in leaf
    assert refused((leaf.replace(old, new), issuing), chain.demands()) == {"chain.issued", "chain.anchor"}


def test_chains_that_go_in_circles_end() -> None:
    chain = Chain()
    leaf, issuing = chain.built()
    one, two = authority("One", None), authority("Two", None)
    low = chain.leaf.signed(one)
    circle = (low, one.signed(two), two.signed(one))
    demands = chain.demands()
    assert refused(circle, demands) == {"chain.anchor"}
    assert refused((low, *circle[1:], *circle[1:]), demands) == {"chain.distinct", "chain.anchor"}
    itself = one.signed(one)
    assert refused((low, itself, itself, itself), demands) == {"chain.distinct", "chain.anchor"}
    assert refused((leaf, issuing, issuing), demands) >= {"chain.distinct"}
    chain.issuing = chain.root
    again = chain.anchor  # of the root's key, but not the one that is believed
    judge((chain.built()[0], again), demands, NOW)
    assert refused((chain.built()[0], again, again), demands) == {"chain.distinct"}


def test_the_longest_chain_takes_no_time() -> None:
    begun = time.monotonic()
    chain, demands = [bytes(30_000)] * MAX_CHAIN, Chain().demands()
    for _ in range(100):
        refused(chain, demands)
    big = with_evidence(change=lambda keep: keep.extensions.update(big=(unknown("1.2.3", bytes(120_000)), False)))
    for _ in range(20):
        judge([big], Demands(roots=simulated_trust(), accept_unattested=True), NOW)
    assert time.monotonic() - begun < 20
    too_big = with_evidence(change=lambda keep: keep.extensions.update(big=(unknown("1.2.3", bytes(140_000)), False)))
    assert refused([too_big], Demands(accept_unattested=True)) == {"chain.format"}


def test_many_anchors_are_looked_at_by_name() -> None:
    chain = Chain()
    others = tuple(replace(chain.root, subject=f"Root {number}").signed(chain.root) for number in range(50))
    judge(chain.built(), Demands(anchors=(*others, chain.anchor)), NOW)


# Certificates


def test_an_extension_twice() -> None:
    """Who reads the first and who reads the last would see two results."""
    chain = Chain()
    leaf, issuing = chain.built()
    second = result.write_cmw(claims(workload=OTHER.hex()))
    for extra in (
        extension(result.CMW, second),
        extension(result.MARKERS, result.write_markers(())) * 2,
        extension("2.5.29.19", der.encode(der.SEQUENCE)),
    ):
        twice = resigned(leaf, chain.issuing.key, lambda items, extra=extra: [*items, extra])  # type: ignore[misc]
        assert refused((twice, issuing), chain.demands()) == {"chain.format"}
    same = resigned(leaf, chain.issuing.key, lambda items: items)
    judge((same, issuing), chain.demands(), NOW)  # so it was the extension


def test_evidence_twice() -> None:
    key = new_key()
    good = with_evidence(key)
    value = next(
        item.value.value
        for item in x509.load_der_x509_certificate(good).extensions
        if isinstance(item.value, x509.UnrecognizedExtension)
    )
    twice = resigned(good, key, lambda items: [*items, extension(cca.OID, value)])
    assert refused([twice], Demands(roots=simulated_trust(), accept_unattested=True)) == {"chain.format"}


def test_bytes_behind_and_between() -> None:
    chain = Chain()
    leaf, issuing = chain.built()
    demands = chain.demands()
    assert refused((leaf + b"\0", issuing), demands) == {"chain.format"}
    assert refused((leaf + issuing,), demands) == {"chain.format"}
    outer = Der(leaf, "x").sequence()
    parts = [outer.whole(0, "part") for _ in range(3)]
    assert refused((der.encode(der.SEQUENCE, *parts, b"\x05\0"), issuing), demands) == {"chain.format"}
    behind = resigned(leaf, chain.issuing.key, lambda items: [*items, b"\x05\0"])
    assert refused((behind, issuing), demands) == {"chain.format"}
    result_and_more = extension(result.CMW, result.write_cmw(claims()) + b"\0")
    odd = Chain(told=None)
    leaf, issuing = odd.built()
    odd_leaf = resigned(leaf, odd.issuing.key, lambda items: [*items, result_and_more])
    assert refused((odd_leaf, issuing), odd.demands()) == {"result.format"}


def test_lengths_that_are_not_der() -> None:
    chain = Chain()
    leaf, issuing = chain.built()
    assert leaf[1] == 0x82
    longer = leaf[:1] + b"\x83\0" + leaf[2:]
    endless = leaf[:1] + b"\x80" + leaf[4:] + b"\0\0"
    for odd in (longer, endless):
        assert refused((odd, issuing), chain.demands()) == {"chain.format"}


@pytest.mark.parametrize(
    "name", [f"{NAME}\0.evil.example", f"{NAME}\n", f"{NAME}\x1b[2J", "x" * 600], ids=["nul", "line", "escape", "long"]
)
def test_names_that_end_early_for_some_readers(name: str) -> None:
    chain = Chain()
    chain.names = [x509.UniformResourceIdentifier(uri(WORKLOAD)), x509.DNSName(name)]
    assert refused(chain.built(), chain.demands(names=(NAME,))) == {"chain.format"}


def test_names_are_compared_whole() -> None:
    chain = Chain()
    chain.names = [
        x509.UniformResourceIdentifier(uri(WORKLOAD)), x509.DNSName("*.example.com"), x509.DNSName(f"{NAME}.evil.org"),
        x509.RFC822Name(f"x@{NAME}"), x509.DNSName(f"evil-{NAME}"),
    ]  # fmt: skip
    assert refused(chain.built(), chain.demands(names=(NAME,))) == {"demand.name"}
    judge(chain.built(), chain.demands(names=("*.EXAMPLE.com",)), NOW)  # as it stands there, and no pattern


def test_addresses_are_the_same_however_written_and_uris_are_not() -> None:
    from ipaddress import ip_address

    chain = Chain()
    chain.names = [x509.UniformResourceIdentifier(uri(WORKLOAD)), x509.IPAddress(ip_address("2001:db8::1"))]
    judge(chain.built(), chain.demands(names=("2001:0DB8:0::1",)), NOW)
    judge(chain.built(), chain.demands(names=(uri(WORKLOAD),)), NOW)
    assert refused(chain.built(), chain.demands(names=(uri(WORKLOAD).lower(),))) == {"demand.name"}


def test_a_workload_in_capitals_is_a_workload_too() -> None:
    chain = Chain()
    chain.names = [x509.UniformResourceIdentifier(uri(WORKLOAD)), x509.UniformResourceIdentifier("NI" + uri(OTHER)[2:])]
    assert refused(chain.built(), chain.demands()) == {"result.workload"}


@pytest.mark.parametrize("serial", [0, -1, 2**160])
def test_serial_numbers_that_nobody_may_give(serial: int) -> None:
    chain = Chain()
    leaf, issuing = chain.built()
    outer = Der(leaf, "x").sequence()
    tbs, algorithm = outer.sequence(), outer.whole(der.SEQUENCE, "algorithm")
    parts = [tbs.whole(0, "part") for _ in range(8)]
    parts[1] = der.encode(der.INTEGER, der.integer_content(serial))
    signed = der.encode(der.SEQUENCE, *parts)
    assert isinstance(chain.issuing.key, ec.EllipticCurvePrivateKey)
    signature = chain.issuing.key.sign(signed, ec.ECDSA(hashes.SHA256()))
    odd = der.encode(der.SEQUENCE, signed, algorithm, der.encode(der.BIT_STRING, b"\0" + signature))
    assert refused((odd, issuing), chain.demands()) == {"chain.format"}


def test_another_algorithm_outside_than_inside() -> None:
    chain = Chain()
    leaf, issuing = chain.built()
    outer = Der(leaf, "x").sequence()
    tbs, algorithm, signature = (outer.whole(0, "part") for _ in range(3))
    other = algorithm.replace(der.oid_content("1.2.840.10045.4.3.2"), der.oid_content("1.2.840.10045.4.3.3"))
    assert other != algorithm
    assert refused((der.encode(der.SEQUENCE, tbs, other, signature), issuing), chain.demands()) == {"chain.format"}


# Results and evidence


def test_a_marker_left_out_or_hidden() -> None:
    told = claims(simulated=True)
    next(iter(told["submods"].values()))["ear_status"] = "none"
    for markers in ((), ("unprotected",), ("Simulated",), ("simulated ",)):
        chain = Chain(told=told, markers=markers)
        assert refused(chain.built(), chain.demands(accept_unattested=True)) == {"result.markers"}
    empty = Chain(told=told)
    leaf, issuing = empty.built()
    none = resigned(
        leaf, empty.issuing.key, lambda items: [*items, extension(result.MARKERS, der.encode(der.SEQUENCE))]
    )
    assert refused((none, issuing), empty.demands(accept_unattested=True)) == {"result.markers"}


def test_evidence_of_another_keep_in_ones_own_certificate() -> None:
    demands = Demands(roots=simulated_trust(), accept_unattested=True)
    assert refused([with_evidence(bound=new_key())], demands) == {"evidence.binding"}


def test_evidence_behind_a_steward_that_was_not_asked_for() -> None:
    """Both at once: a certificate of a strange authority that carries good evidence for its key."""
    key = new_key()
    good = x509.load_der_x509_certificate(with_evidence(key))
    value = next(item.value for item in good.extensions if isinstance(item.value, x509.UnrecognizedExtension))
    chain = Chain()
    chain.leaf.key = key
    chain.leaf.extensions["evidence"] = (value, False)
    assert refused(chain.built(), Demands(roots=simulated_trust(), accept_unattested=True)) == {"leaf.signature"}
    alone = chain.built()[:1]
    assert refused(alone, Demands(roots=simulated_trust(), accept_unattested=True)) == {"leaf.signature"}


def test_an_old_certificate_with_its_clock_set_forward() -> None:
    """A Steward's key that leaked for a moment: results beyond the certificate's dates are not believed."""
    chain = Chain(told={**claims(), "iat": int((NOW - 2 * DAY).timestamp())})
    assert refused(chain.built(), chain.demands()) == {"result.time"}
    chain = Chain(told={**claims(), "iat": int((NOW + timedelta(minutes=6)).timestamp())})
    assert refused(chain.built(), chain.demands()) == {"result.time"}


def test_a_real_stewards_certificate_with_any_other_key_is_refused(tmp_path: Any) -> None:
    ca = stewards.create(str(tmp_path / "ca"), NOW)
    issued = ca.issue(granted(new_key()), NOW)
    other = stewards.create(str(tmp_path / "other"), NOW)
    root = x509.load_pem_x509_certificate((tmp_path / "other" / "root.crt").read_bytes())
    assert root.subject == ca.anchor.subject
    demands = Demands(anchors=(root.public_bytes(Encoding.DER),), accept_unattested=True)
    assert refused((issued.der, *ca.path), demands) == {"chain.anchor"}
    assert refused((issued.der, *other.path), demands) >= {"chain.issued"}
