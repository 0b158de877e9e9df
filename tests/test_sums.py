"""SHA-2, whoever computes it."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from donjon import sums


@pytest.mark.parametrize("name", ["sha224", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("size", [0, 1, 65, sums.SHORT, sums.SHORT + 1])
def test_both_ways_give_what_hashlib_gives(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "_hashlib", raising=False)
    data = bytes(range(256)) * (size // 256 + 1)
    made = sums.new(name, size)
    made.update(data[:size])
    assert made.digest() == hashlib.new(name, data[:size]).digest()


def test_sha256_of_all_at_once() -> None:
    assert sums.sha256(b"abc").hex().startswith("ba7816bf8f01cfea")


def test_openssl_is_loaded_for_much_and_not_for_little() -> None:
    script = (
        "import sys; from donjon import sums; sums.sha256(bytes(sums.SHORT)); print('_hashlib' in sys.modules); "
        "sums.sha256(bytes(sums.SHORT + 1)); print('_hashlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_python_that_has_none_of_its_own_uses_hashlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_sha2", None)
    monkeypatch.setitem(sys.modules, "_sha256", None)
    monkeypatch.setattr(sums, "_OWN", sums._own())
    assert sums._OWN == {}
    assert sums.sha256(b"abc").hex().startswith("ba7816bf8f01cfea")
