"""The process that makes identities: what it makes, and what its failures become."""

import os
import subprocess
import sys

import pytest

from donjon.errors import BugError, PlatformError, UsageError
from donjon.identity import Apart, Identity, self_signed


def test_hands_over_an_identity_whose_key_fits_its_certificate() -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_der_x509_certificate

    made = Apart(lambda _say: self_signed(["127.0.0.2"])).result()
    key = load_pem_private_key(made.key_pem(), None)
    assert load_der_x509_certificate(made.certificate).public_key() == key.public_key()


def test_does_not_load_the_library_into_this_process() -> None:
    script = (
        "from donjon.identity import Apart, self_signed\n"
        "import sys\n"
        "made = Apart(lambda _say: self_signed()).result()\n"
        "print(len(made.chain), any(name.startswith('cryptography') for name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ})
    assert (done.stdout, done.stderr) == ("1 False\n", "")


def _fails(error: BaseException) -> Identity:
    raise error


@pytest.mark.parametrize(
    ("error", "family", "text"),
    [
        (UsageError("no such name", hint="another"), UsageError, "no such name"),
        (ImportError("no module named x"), PlatformError, "cannot load what makes the Keep's key: no module named x"),
        (ZeroDivisionError("1/0"), BugError, "internal error: ZeroDivisionError: 1/0"),
    ],
)
def test_a_failure_there_is_an_error_here(error: BaseException, family: type[Exception], text: str) -> None:
    with pytest.raises(family, match=text):
        Apart(lambda _say: _fails(error)).result()


def test_a_process_that_ends_early_is_our_mistake() -> None:
    with pytest.raises(BugError, match="ended early"):
        Apart(lambda _say: os._exit(3)).result()
