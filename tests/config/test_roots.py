"""What the files in `[roots]` may hold, and that they are read once."""

import base64
import os
from hashlib import sha256
from pathlib import Path

import pytest

from donjon.config import Config
from donjon.config.roots import MAX_CERTIFICATES, MAX_SIZE, certificates_of, read
from donjon.errors import ParseError, PlatformError, UsageError
from donjon.keep import Launch


def pem(der: bytes, label: str = "CERTIFICATE") -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n"


def test_reads_certificates_in_the_order_of_the_file_with_the_digest_of_its_bytes(tmp_path: Path) -> None:
    text = "Ours, until 2031\n" + pem(b"first" * 30) + "\r\n# and\r\n" + pem(b"second").replace("\n", "\r\n")
    (tmp_path / "a.pem").write_bytes(text.encode())
    roots = read(Config(roots={"a": str(tmp_path / "a.pem"), "b": pem(b"third")}))
    assert roots["a"].certificates == (b"first" * 30, b"second")
    assert roots["a"].digest == sha256(text.encode()).hexdigest()
    assert (roots["b"].certificates, roots["b"].digest) == ((b"third",), sha256(pem(b"third").encode()).hexdigest())


KEY = pem(b"secret", "PRIVATE KEY")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected certificates in PEM, found none"),
        ("0\x82", "expected certificates in PEM, found none"),
        (pem(b"x") + KEY, 'expected blocks labelled CERTIFICATE alone, got "PRIVATE KEY"'),
        (pem(b"x", "X509 CRL"), 'expected blocks labelled CERTIFICATE alone, got "X509 CRL"'),
        (pem(b"x", "TRUSTED CERTIFICATE"), 'expected blocks labelled CERTIFICATE alone, got "TRUSTED CERTIFICATE"'),
        ("-----BEGIN CERTIFICATE", 'expected blocks labelled CERTIFICATE alone, got "CERTIFICATE"'),
        ("-----BEGIN \x1b[31m\n", 'expected blocks labelled CERTIFICATE alone, got "\\u001b[31m"'),
        (pem(b"x")[:-10], "certificate 1: expected its last line, got none"),
        (pem(b"x") + "-----BEGIN CERTIFICATE-----\n" + pem(b"y"), "certificate 2: expected its last line, got none"),
        (pem(b"x").replace("eA", "e!A"), "certificate 1: expected base64, got something else"),
        (pem(b"x").replace("eA==", "eA=="[:-1]), "certificate 1: expected base64, got something else"),
        (pem(b""), "certificate 1: expected base64, got nothing"),
        (pem(b"x") * (MAX_CERTIFICATES + 1), "expected at most 1024 certificates, got more"),
        ("#" * (MAX_SIZE + 1), "expected at most 1048576 bytes, got more"),
    ],
)
def test_refuses_what_is_no_list_of_certificates(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        certificates_of(text.encode(), "roots.a: a.pem")
    assert caught.value.message == f"roots.a: a.pem: {message}"
    assert caught.value.message.isprintable()


def test_a_private_key_is_not_shown() -> None:
    with pytest.raises(ParseError) as caught:
        certificates_of(KEY.encode(), "roots.a")
    assert base64.b64encode(b"secret").decode() not in str(caught.value) + (caught.value.hint or "")
    assert "stays with its owner" in (caught.value.hint or "")


def test_messages_name_the_entry_and_the_file(tmp_path: Path) -> None:
    missing = str(tmp_path / "no\x1b.pem")
    with pytest.raises(UsageError) as caught:
        read(Config(roots={"our keeps": missing}))
    where = str(tmp_path) + "/no\\u001b.pem"
    assert caught.value.message == f'roots."our keeps": cannot read {where}: no such file or directory'
    with pytest.raises(UsageError, match=r"^roots\.a: cannot read .*: is a directory$"):
        read(Config(roots={"a": str(tmp_path)}))
    with pytest.raises(ParseError, match=r"^roots\.a: /dev/zero: expected at most 1048576 bytes, got more$"):
        read(Config(roots={"a": "/dev/zero"}))
    with pytest.raises(ParseError, match=r"^roots\.a: expected blocks"):
        read(Config(roots={"a": KEY}))


def test_a_file_that_may_not_be_read_is_the_machines_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: object, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(PlatformError, match=r"^roots\.a: cannot read a\.pem: permission denied$"):
        read(Config(roots={"a": "a.pem"}))


def test_a_launch_reads_its_roots_once(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text(pem(b"first"))
    launch = Launch(b"", Config(roots={"a": str(tmp_path / "a.pem")}))
    first = launch.roots()
    os.unlink(tmp_path / "a.pem")
    assert launch.roots() is first
    assert first["a"].certificates == (b"first",)
    assert dict(Launch(b"").roots()) == {}
