"""The interpreter's own SHA-2 and OpenSSL's are the same function."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from donjon import hashes


@pytest.mark.parametrize("name", ["sha224", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("size", [0, 1, 1000, hashes.SMALL - 1, hashes.SMALL])
def test_a_hash_is_that_of_hashlib(name: str, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert hashes.digest(name, data) == hashlib.new(name, data).digest()
    made = hashes.new(name, 0)
    made.update(data)
    assert made.digest() == hashlib.new(name, data).digest()
    if name == "sha256":
        assert hashes.sha256(data) == hashlib.sha256(data).digest()


@pytest.mark.parametrize(("size", "loaded"), [(10, False), (1 << 20, True)])
def test_openssl_is_loaded_for_much_alone(size: int, loaded: bool) -> None:
    code = f"import sys; from donjon import hashes; hashes.sha256(bytes({size})); print('_hashlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(loaded)
