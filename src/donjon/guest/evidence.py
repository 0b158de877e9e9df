"""The hardware's evidence, which only root may ask for: by processes that do this one thing and end.

What the kernel's interface returns has passed through the host: certificates beside an SNP report, a whole quote of
TDX, which is why there `Place.named` has what the launcher named. So it is parsed where neither process 1 nor the
sallyport is, without a capability, and for a limited time.

A host that sends no certificate along with an SNP report is asked for it, by the chip's id and the TCB that the report
has. What it answers is taken if it is the certificate of the key that has signed this very report; if not, or if there
is no answer, the operator is told, and the evidence goes as it is: a Steward can fetch the certificate too.
"""

from __future__ import annotations

import os
import select
import time

from donjon.errors import DonjonError, PlatformError, VerifyError
from donjon.guest.requests import LONGEST, failed, failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from donjon.guest.agent import Place
    from donjon.guest.requests import Asker

__all__ = ["SECONDS", "begin", "check_named"]

SECONDS = 60.0
"""The longest that evidence may take; the kernel itself gives up on a quote of TDX's after 30."""
LONGEST_WARNING = 500
"""Characters."""
NAMED = 64
"""Bytes of what a launcher can name, at most."""


def check_named(place: Place, digest: bytes) -> None:
    """See that the hardware names this launch: its launcher has put the descriptor's digest where it signs it.

    Raises:
        VerifyError: it names another, or none. PlatformError: there is no evidence.
    """
    named = _named(place) if place.named is None else place.named
    if named != digest.ljust(len(named), b"\0"):
        raise VerifyError(
            f"launch descriptor: the hardware names the workload {named[:32].hex()}, got {digest.hex()}",
            "the machine was started for another launch than the one that was handed over",
        )


def _named(place: Place) -> bytes:
    """What the hardware says that the launcher has named."""
    reader, writer = os.pipe()
    pid = _fork(place, lambda: _claimed(place), writer)
    os.close(writer)
    data = b""
    end = time.monotonic() + SECONDS
    try:
        poller = select.poll()
        poller.register(reader, select.POLLIN)
        while len(data) <= LONGEST and (left := end - time.monotonic()) > 0:
            if poller.poll(left * 1000):
                more = os.read(reader, LONGEST)
                if not more:
                    break
                data += more
        else:
            os.kill(pid, 9)
    finally:
        os.close(reader)
        os.waitpid(pid, 0)
    kind, _, rest = data.partition(b"\0")
    if kind == b"failed":
        raise failed(rest)
    if kind != b"named" or not 0 < len(rest) <= NAMED:
        raise PlatformError(f"the TEE gave no evidence within {SECONDS:g} s")
    return rest


def _claimed(place: Place) -> bytes:
    from donjon.tee import load

    value = _collected(place, bytes(64))
    kind = load(str(place.tee))
    evidence, _ = kind.parse(value)
    _, named = kind.claimed(evidence)
    return b"named\0" + named


def begin(place: Place, report_data: bytes, asker: _socket.socket, requests: _socket.socket) -> int:
    """Start a process that has evidence made and sends it, or why there is none; the process's number.

    Args:
        asker: where it sends it.
        requests: by which that process asks the agent.
    """

    def make() -> bytes:
        value = _collected(place, report_data)
        if place.tee == "snp":
            from donjon.guest.requests import Asker

            value = _completed(place, value, Asker(requests))
        data = b"evidence\0" + value
        if len(data) > LONGEST:
            raise PlatformError(f"evidence: expected at most {LONGEST} bytes, got {len(data)}")
        return data

    os.set_blocking(asker.fileno(), False)
    return _fork(place, make, asker.fileno(), requests.fileno())


def _collected(place: Place, report_data: bytes) -> bytes:
    from importlib import import_module

    value: bytes = import_module(f"donjon.tee.{place.tee}.collect").collect(report_data, root=place.tsm)
    return value


def _completed(place: Place, value: bytes, asker: Asker) -> bytes:
    """With the certificate of the report's key, if the host had to be asked for it, and has it."""
    from donjon.tee.snp.alone import complete, lacks
    from donjon.tee.snp.roots import vendor

    try:
        name = lacks(value)
        if not name:
            return value
        certificate, _ = asker.ask("collateral", name)
        return complete(value, certificate, None if place.variant == "simulated" else vendor())
    except Exception as error:  # whatever a host can do with its answer: there is evidence all the same
        why = error.message if isinstance(error, DonjonError) else f"{type(error).__name__}: {error}"
        text = f"the evidence goes without the certificate of its key: {why}".replace("\0", "")
        asker.ask("unfit", text[:LONGEST_WARNING])
        return value


def _fork(place: Place, make: Callable[[], bytes], writer: int, *keep: int) -> int:
    """Have a process of its own write what is made, or why it is not; it goes on to have the descriptors to keep."""
    pid = os.fork()
    if pid:
        return pid
    try:
        try:
            _give_up(place, writer, *keep)
            data = make()
        except BaseException as error:  # this process must not go on as if it were process 1
            data = failure(error)
        os.write(writer, data)
    finally:
        os._exit(0)


def _give_up(place: Place, *keep: int) -> None:
    """Be root without its powers: the owner of the kernel's interface, and no more."""
    from donjon import linux
    from donjon.guest.confine import hold

    null = os.open(os.devnull, os.O_RDWR)
    hold((null, null, null), *keep)
    if place.confined:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        linux.keep_capabilities()
