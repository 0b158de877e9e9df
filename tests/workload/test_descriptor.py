"""The launch descriptor and the digest of it."""

from __future__ import annotations

from hashlib import sha256

import pytest

from donjon.workload import Descriptor

PACKAGE = bytes(range(32))


def test_is_the_json_that_is_documented() -> None:
    found = Descriptor(PACKAGE, ["b", "a"], {"Z": "1", "A": "2"}, {"keeps": bytes(32)})
    assert found.json() == (
        b'{"args":["b","a"],"env":{"A":"2","Z":"1"},"package":"' + PACKAGE.hex().encode() + b'",'
        b'"roots":{"keeps":"' + b"00" * 32 + b'"}}'
    )


def test_the_digest_is_of_the_domain_and_the_json() -> None:
    found = Descriptor(PACKAGE)
    assert found.digest() == sha256(b"donjon launch descriptor v1\0" + found.json()).digest()
    # sha256sum says the same of those bytes.
    assert found.digest().hex() == "e03984244d0305e65eb92633205fa1282daaba2430a4ee90abe915e93bf6bf46"


@pytest.mark.parametrize(
    "other",
    [
        Descriptor(bytes(32)),
        Descriptor(PACKAGE, ["x"]),
        Descriptor(PACKAGE, [], {"x": ""}),
        Descriptor(PACKAGE, [], {}, {"x": bytes(32)}),
        Descriptor(PACKAGE, ["", ""]),
    ],
    ids=["package", "argument", "variable", "root", "empty arguments"],
)
def test_whatever_is_launched_otherwise_has_another_digest(other: Descriptor) -> None:
    assert other.digest() != Descriptor(PACKAGE).digest()
