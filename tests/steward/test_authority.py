"""The authority: keys that nobody else reads, certificates that say what was judged and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from donjon.errors import ParseError, PlatformError, UsageError
from donjon.steward import authority, result
from donjon.steward.authority import Authority, Issued
from donjon.steward.policy import parse
from donjon.steward.procedure import Grant, Trust, decide
from donjon.tee.contract import Roots
from donjon.wire.der import SEQUENCE, Der
from tests.steward.requests import NOW, Realm, kvm_request, new_key, request, spki

WORKLOAD = bytes(range(32))
POLICY = f"""
accept_unattested = true
domain = "keeps.example.com"
[[workload]]
digest = ["{WORKLOAD.hex()}"]
names = ["shop.example.com", "10.0.0.1"]
"""
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("steward") / "ca")


@pytest.fixture(scope="module")
def ca(directory: str) -> Authority:
    return authority.create(directory, NOW)


@pytest.fixture(scope="module")
def grant() -> Grant:
    realm = Realm(WORKLOAD)
    return decide(realm.request(), realm.trust, parse(POLICY), NOW).require()


def kvm_grant(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | None = None, text: str = "") -> Grant:
    data = request(("1.3.6.1.4.1.58270.1.1", b""), key=key) if key else kvm_request()
    policy = parse(f"accept_unattested = true\n{text}")
    return decide(data, {"kvm": Trust((Roots({}),))}, policy, NOW).require()


def read(issued: Issued) -> x509.Certificate:
    return x509.load_der_x509_certificate(issued.der)


def names_of(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(item.value) for item in found]


def extension(certificate: x509.Certificate, oid: str) -> bytes | None:
    for item in certificate.extensions:
        if item.oid.dotted_string == oid:
            assert isinstance(item.value, x509.UnrecognizedExtension)
            assert not item.critical
            return item.value.value
    return None


# Issuing


def test_names_the_instance_the_policys_names_and_the_workload(ca: Authority, grant: Grant) -> None:
    issued = ca.issue(grant, NOW)
    assert names_of(read(issued)) == [
        f"urn:uuid:{issued.instance}",
        f"{issued.instance}.keeps.example.com",
        "shop.example.com",
        "10.0.0.1",
        "ni:///sha-256;AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    ]


def test_no_two_certificates_share_a_number_or_an_instance(ca: Authority) -> None:
    some = [ca.issue(kvm_grant(), NOW) for _ in range(20)]
    assert len({item.serial for item in some}) == len({item.instance for item in some}) == 20
    assert all(1 << 126 <= item.serial < 1 << 127 for item in some)
    for item in some:
        instance = UUID(item.instance)
        assert (instance.int, instance.version, instance.variant) == (item.serial, 4, RFC_4122)


def test_lives_for_a_day_from_five_minutes_ago(ca: Authority) -> None:
    certificate = read(ca.issue(kvm_grant(), NOW))
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW + DAY


def test_lives_as_long_as_the_policy_says(ca: Authority) -> None:
    certificate = read(ca.issue(kvm_grant(text='lifetime = "10m"\n'), NOW))
    assert certificate.not_valid_after_utc == NOW + timedelta(minutes=10)


def test_is_for_both_ends_of_tls_and_issues_nothing(ca: Authority) -> None:
    extensions = read(ca.issue(kvm_grant(), NOW)).extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    usage = {item.dotted_string for item in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value}
    assert usage == {"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}


def test_holds_the_judgement(ca: Authority, grant: Grant) -> None:
    value = extension(read(ca.issue(grant, NOW)), result.CMW)
    assert value is not None
    told = result.read_cmw(value)["submods"]["cca"]["ear_attester_claims"]
    assert told["workload"] == WORKLOAD.ljust(64, b"\0").hex()
    assert told["simulated"] is True


def test_says_what_is_simulated_or_unprotected(ca: Authority, grant: Grant) -> None:
    for one, word in ((grant, "simulated"), (kvm_grant(), "unprotected")):
        value = extension(read(ca.issue(one, NOW)), result.MARKERS)
        assert value is not None
        assert result.read_markers(value) == (word,)


@pytest.mark.parametrize(
    "key", [new_key(), ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=["P-256", "P-384", "Ed25519"],
)  # fmt: skip
def test_certifies_the_key_of_the_request(
    ca: Authority, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
) -> None:
    certificate = read(ca.issue(kvm_grant(key), NOW))
    assert certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == spki(key)


def test_a_strict_library_verifies_the_chain(ca: Authority, grant: Grant) -> None:
    leaf = read(ca.issue(grant, NOW))
    builder = x509.verification.PolicyBuilder().store(x509.verification.Store([ca.anchor])).time(NOW)
    verifier = builder.build_server_verifier(x509.DNSName("shop.example.com"))
    assert verifier.verify(leaf, [ca.certificate]) == [leaf, ca.certificate, ca.anchor]


def test_openssl_verifies_the_chain(ca: Authority, grant: Grant, tmp_path: Path) -> None:
    leaf = read(ca.issue(grant, NOW))
    for name, item in (("leaf", leaf), ("issuing", ca.certificate), ("root", ca.anchor)):
        (tmp_path / name).write_bytes(item.public_bytes(Encoding.PEM))
    words = ["openssl", "verify", "-x509_strict", "-attime", str(int(NOW.timestamp())), "-CAfile", "root"]
    words += ["-untrusted", "issuing", "-verify_hostname", "shop.example.com", "leaf"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "leaf: OK\n", done.stderr


def test_gives_enarx_a_path_of_issuer_and_leaf(ca: Authority) -> None:
    issued = ca.issue(kvm_grant(), NOW)
    path = Der(ca.pki_path(issued), "path").sequence()
    assert path.whole(SEQUENCE, "issuer") == ca.certificate.public_bytes(Encoding.DER)
    assert path.whole(SEQUENCE, "leaf") == issued.der
    path.end()


def test_gives_enarx_the_output_of_a_bundle(ca: Authority) -> None:
    issued = tuple(ca.issue(kvm_grant(), NOW) for _ in range(2))
    output = Der(ca.output(issued), "output").sequence()
    chain, certificates = output.sequence("chain"), output.sequence("issued")
    assert chain.whole(SEQUENCE, "issuer") == ca.certificate.public_bytes(Encoding.DER)
    assert [certificates.whole(SEQUENCE, "leaf") for _ in issued] == [item.der for item in issued]
    for reader in (chain, certificates, output):
        reader.end()


@pytest.mark.parametrize("after", [timedelta(days=398), -DAY])
def test_issues_nothing_when_its_own_certificate_is_not_valid(ca: Authority, after: timedelta) -> None:
    with pytest.raises(PlatformError, match="not valid now"):
        ca.issue(kvm_grant(), NOW + after)


def test_no_certificate_outlives_its_issuer(ca: Authority) -> None:
    late = ca.not_after - timedelta(hours=1)
    assert ca.issue(kvm_grant(), late).not_after == ca.not_after


def test_secrets_are_the_keys_own_and_apart_by_purpose(ca: Authority, directory: str) -> None:
    assert ca.secret(b"nonce") == authority.load(directory, NOW).secret(b"nonce") != ca.secret(b"other")
    assert len(ca.secret(b"nonce")) == 32


# On disk


def test_writes_keys_that_only_its_user_can_read(ca: Authority, directory: str) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in Path(directory).iterdir()}
    assert modes == {"root.key": 0o600, "root.crt": 0o600, "issuing.pem": 0o600}
    assert Path(directory).stat().st_mode & 0o777 == 0o700


def test_reads_what_it_wrote(ca: Authority, directory: str) -> None:
    assert authority.exists(directory)
    assert authority.load(directory, NOW).chain == ca.chain


def test_does_not_write_over_an_authority(ca: Authority, directory: str) -> None:
    with pytest.raises(UsageError, match="there is an authority already"):
        authority.create(directory, NOW)


def test_says_what_is_left_of_one_whose_making_was_broken_off(tmp_path: Path) -> None:
    (tmp_path / "root.key").touch()
    with pytest.raises(UsageError) as caught:
        authority.create(str(tmp_path), NOW)
    assert caught.value.hint == "its making was broken off: remove what is there (root.key), or name another directory"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
@pytest.mark.parametrize("name", ["issuing.pem", "root.key"])
def test_refuses_a_key_that_others_can_read(tmp_path: Path, name: str, mode: int) -> None:
    authority.create(str(tmp_path), NOW)
    (tmp_path / name).chmod(mode)
    with pytest.raises(UsageError, match=f"owner alone can read, got the mode {mode:o}"):
        authority.load(str(tmp_path), NOW + 380 * DAY)  # when the root's key is needed too


def test_refuses_a_key_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.create(str(tmp_path), NOW)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    if (tmp_path / "issuing.pem").stat().st_uid == 0:
        os.chown(tmp_path / "issuing.pem", 4712, -1)
    with pytest.raises(UsageError, match="expected a key of this user's"):
        authority.load(str(tmp_path), NOW)


def test_renews_its_issuing_certificate_in_time_and_keeps_the_root(tmp_path: Path) -> None:
    first = authority.create(str(tmp_path), NOW)
    assert authority.load(str(tmp_path), NOW + 300 * DAY).chain == first.chain
    (tmp_path / "issuing.pem.new").write_text("left over")
    later = NOW + 380 * DAY
    second = authority.load(str(tmp_path), later)
    assert second.anchor == first.anchor
    assert second.certificate != first.certificate
    assert second.certificate.not_valid_after_utc == later + authority.ISSUING_LIFE
    assert authority.load(str(tmp_path), later).chain == second.chain
    assert sorted(path.name for path in tmp_path.iterdir()) == ["issuing.pem", "root.crt", "root.key"]


def test_goes_on_without_the_roots_key_as_long_as_it_can(tmp_path: Path) -> None:
    first = authority.create(str(tmp_path), NOW)
    (tmp_path / "root.key").unlink()
    assert authority.load(str(tmp_path), NOW + 396 * DAY).chain == first.chain


def test_leaves_nothing_behind_when_it_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", broken_after(3))
    with pytest.raises(PlatformError, match="cannot make an authority"):
        authority.create(str(tmp_path), NOW)
    assert not any(tmp_path.iterdir())


def broken_after(count: int) -> Callable[[int], None]:
    left = [count]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")

    return fsync


# From elsewhere


def own_pair(tmp_path: Path, key: object = None, ca: bool = True, mode: int = 0o600) -> tuple[str, str]:
    """A self-signed authority, as Enarx's users have it."""
    key = key or new_key()
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "own")])
    usage = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW - DAY).not_valid_after(NOW + 30 * DAY)
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(True, 0), True).add_extension(usage, True)
    certificate = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "key").chmod(mode)
    (tmp_path / "crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    return str(tmp_path / "key"), str(tmp_path / "crt")


@pytest.mark.parametrize(
    "key", [None, ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=["P-256", "P-384", "Ed25519"],
)  # fmt: skip
def test_issues_with_a_key_that_somebody_else_made(tmp_path: Path, key: object) -> None:
    ca = authority.from_files(*own_pair(tmp_path, key))
    read(ca.issue(kvm_grant(), NOW)).verify_directly_issued_by(ca.anchor)
    path = Der(ca.pki_path(ca.issue(kvm_grant(), NOW)), "path").sequence()
    assert path.whole(SEQUENCE, "issuer") == ca.anchor.public_bytes(Encoding.DER)


def test_sends_what_stands_between_it_and_the_root(tmp_path: Path) -> None:
    first = authority.create(str(tmp_path / "a"), NOW)
    data = (tmp_path / "a/issuing.pem").read_bytes()
    (tmp_path / "key").write_bytes(data)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "crt").write_bytes(data + (tmp_path / "a/root.crt").read_bytes())
    ca = authority.from_files(str(tmp_path / "key"), str(tmp_path / "crt"))
    assert ca.path == first.path
    assert ca.anchor == first.anchor


def test_a_self_signed_authority_does_not_make_it_accept_anything(tmp_path: Path) -> None:
    authority.from_files(*own_pair(tmp_path))
    assert not decide(kvm_request(), {"kvm": Trust((Roots({}),))}, parse(""), NOW).accepted


def test_refuses_files_that_do_not_fit(tmp_path: Path) -> None:
    key, crt = own_pair(tmp_path)
    with pytest.raises(UsageError, match="cannot read"):
        authority.from_files(key, str(tmp_path / "missing"))
    with pytest.raises(PlatformError, match="cannot read"):
        authority.from_files(key, str(tmp_path))
    with pytest.raises(ParseError, match="expected certificates in PEM"):
        authority.from_files(key, key)
    (tmp_path / "big").write_bytes(bytes(authority.MAX_FILE + 1))
    with pytest.raises(ParseError, match="expected at most"):
        authority.from_files(key, str(tmp_path / "big"))
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match="do not belong together"):
        authority.from_files(own_pair(tmp_path / "other")[0], crt)
    with pytest.raises(UsageError, match="got the mode 644"):
        authority.from_files(*own_pair(tmp_path, mode=0o644))
    with pytest.raises(UsageError, match="may not issue"):
        authority.from_files(*own_pair(tmp_path, ca=False))
    with pytest.raises(ParseError, match="expected a key of P-256, P-384 or Ed25519"):
        authority.from_files(*own_pair(tmp_path, rsa.generate_private_key(65537, 2048)))


def test_refuses_a_chain_that_is_none(tmp_path: Path) -> None:
    key, crt = own_pair(tmp_path)
    authority.create(str(tmp_path / "a"), NOW)
    Path(crt).write_bytes(Path(crt).read_bytes() + (tmp_path / "a/root.crt").read_bytes())
    with pytest.raises(UsageError, match="each to be issued by the next"):
        authority.from_files(key, crt)


def test_refuses_a_key_with_a_password(tmp_path: Path) -> None:
    key, crt = own_pair(tmp_path)
    Path(key).write_bytes(new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    with pytest.raises(ParseError, match="without a password"):
        authority.from_files(key, crt)
