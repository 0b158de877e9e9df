"""The process that makes identities: what it makes, and what its failures become."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from donjon.errors import BugError, PlatformError, UsageError, VerifyError
from donjon.identity import Apart, Beside, Identity, self_signed
from donjon.identity.apart import Making


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


def test_what_is_said_there_is_heard_here_in_its_order() -> None:
    said: list[str] = []

    def make(say: Callable[[str], None]) -> Identity:
        say("first")
        say("second\n\udcff")
        return self_signed()

    assert len(Apart(make, said.append).result().chain) == 1
    assert said == ["first", "second\n?"]


def test_an_identity_keeps_its_end() -> None:
    one = self_signed()
    assert Apart(lambda _say: Identity(one._key, one.chain, 1234.5)).result().expires == 1234.5
    assert Apart(lambda _say: one).result().expires is None


def test_a_process_that_hangs_is_ended_when_its_time_is_over() -> None:
    def hang(_say: Callable[[str], None]) -> Identity:
        time.sleep(60)
        raise AssertionError

    begun = time.monotonic()
    with pytest.raises(PlatformError, match=r"the Keep's identity was not made within 0\.2 s"):
        Apart(hang, seconds=0.2).result()
    assert time.monotonic() - begun < 10


def test_nothing_of_ours_stays_open_there() -> None:
    reader, writer = os.pipe()

    def wait(_say: Callable[[str], None]) -> Identity:
        time.sleep(60)
        raise AssertionError

    made = Apart(wait)
    try:
        os.close(writer)
        poller = select.poll()
        poller.register(reader, select.POLLIN)
        assert poller.poll(10_000)  # the end of the pipe: nobody else holds it open
        assert os.read(reader, 1) == b""
    finally:
        made.cancel()
        os.close(reader)
    with pytest.raises(ChildProcessError):
        os.waitpid(made._pid, 0)


def test_standard_streams_there_are_not_ours(capfd: pytest.CaptureFixture[str]) -> None:
    def write(_say: Callable[[str], None]) -> Identity:
        os.write(1, b"out")
        os.write(2, b"err")
        assert os.read(0, 1) == b""
        return self_signed()

    Apart(write).result()
    assert capfd.readouterr() == ("", "")


def test_verify_errors_and_their_kin_keep_their_family() -> None:
    class RefusedError(VerifyError):
        """One that only its module knows."""

    with pytest.raises(VerifyError, match="no") as caught:
        Apart(lambda _say: _fails(RefusedError("no", "a hint"))).result()
    assert (type(caught.value), caught.value.hint) == (VerifyError, "a hint")


# ---- a process that waits beside the Keep


def _end(beside: Beside) -> None:
    beside.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(beside._pid, 0)


def test_a_process_beside_the_keep_makes_an_identity_each_time_it_is_asked() -> None:
    said: list[str] = []

    def make(say: Callable[[str], None]) -> Identity:
        say(str(os.getpid()))
        return self_signed()

    beside = Beside(make)
    try:
        first, second = beside.begin(said.append).result(), beside.begin(said.append).result()
    finally:
        _end(beside)
    assert first.key_pem() != second.key_pem()
    assert len({*said, str(os.getpid()), str(beside._pid)}) == 4


def test_what_it_fails_at_is_an_error_here_and_the_next_is_made_all_the_same() -> None:
    outcomes: list[type[Exception]] = []

    def make(say: Callable[[str], None]) -> Identity:
        raise VerifyError("the Steward refuses")

    beside = Beside(make)
    try:
        for _ in range(2):
            with pytest.raises(VerifyError, match="the Steward refuses") as caught:
                beside.begin().result()
            outcomes.append(caught.type)
    finally:
        _end(beside)
    assert outcomes == [VerifyError, VerifyError]


def test_what_hangs_there_is_ended_when_its_time_is_over() -> None:
    def hang(_say: Callable[[str], None]) -> Identity:
        time.sleep(60)
        raise AssertionError

    beside = Beside(hang, seconds=0.3)
    try:
        with pytest.raises(PlatformError, match=r"was not made within 0\.3 s"):
            beside.begin().result()
    finally:
        _end(beside)


def test_what_dies_there_early_is_our_mistake() -> None:
    beside = Beside(lambda _say: os._exit(3))
    try:
        with pytest.raises(BugError, match="ended early"):
            beside.begin().result()
    finally:
        _end(beside)


def test_the_process_beside_holds_nothing_of_ours_and_ends_with_us() -> None:
    reader, writer = os.pipe()
    beside = Beside(lambda _say: self_signed())
    try:
        os.close(writer)
        poller = select.poll()
        poller.register(reader, select.POLLIN)
        assert poller.poll(10_000)
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)
        _end(beside)


def test_an_identity_can_come_from_any_process_that_writes_records() -> None:
    made = Apart(lambda _say: self_signed())
    pid, reader = made.give_away()
    assert len(Making(reader).result().chain) == 1
    assert os.waitpid(pid, 0)[1] == 0
