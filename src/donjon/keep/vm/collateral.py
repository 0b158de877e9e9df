"""What a vendor publishes about its hardware, fetched for a machine that has no way to the vendor.

    request    "snp vcek-genoa-<chip>-<TCB>"       a TEE and the name of a need, as its `fetch.py` has it
    answer     what `Fetch.keep` makes of the vendor's answer; the guest verifies it

A request names a thing, never an address: which there are and where, the TEE's folder says, so a guest cannot have
this machine ask anybody else. What the operator has in the folders of `donjon platform` is taken from there. What is
fetched and never changes is kept in the user's cache, as vendors refuse who asks too often; it is as hostile as the
vendor's answer, and whoever gets it verifies it.

One request after another, each in a fork, as HTTP waits, and what parses a stranger's answer should hold nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections import deque

from donjon.errors import DonjonError, PlatformError
from donjon.keep.vm.loop import IN
from donjon.sallyport.machine import MAX_COLLATERAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from donjon.keep.vm.loop import Loop
    from donjon.log import Logger
    from donjon.sallyport.frames import Collateral
    from donjon.sallyport.machine import HostMachine
    from donjon.tee.contract import Fetch, Need

__all__ = ["Fetcher", "find"]

SECONDS = 45
MOST_FILES = 64
"""Of a folder, which are looked into."""
MOST = 64
"""Requests of one Keep: it needs a handful."""
GOOD, BAD = b"+", b"-"
PR_SET_PDEATHSIG = 1


class Fetcher:
    """Answers a machine's requests.

    Args:
        addresses: vendor -> a copy of its service.
    """

    def __init__(
        self, loop: Loop, machine: HostMachine, log: Logger, addresses: Mapping[str, str] | None = None
    ) -> None:
        self._loop = loop
        self._machine = machine
        self._log = log
        self._addresses = addresses or {}
        self._waiting: deque[Collateral] = deque()
        self._asked = 0
        self._reader = -1
        self._pid = 0
        self._answer = bytearray()

    def take(self, asked: Collateral) -> None:
        """Answer in time; a machine has no more than a few requests open, as the sallyport sees to."""
        self._asked += 1
        if self._asked > MOST:
            self._machine.collateral_failed(asked.id, f"a Keep gets no more than {MOST} answers")
            return
        self._waiting.append(asked)
        if self._reader < 0:
            self._begin()

    def _begin(self) -> None:
        asked = self._waiting[0]
        libc, parent = ctypes.PyDLL(None), os.getpid()
        self._reader, writer = os.pipe()
        self._answer.clear()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(writer)
            self._done(BAD + b"this machine has no room for another process")
            return
        if self._pid == 0:
            try:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() == parent:
                    _fetch(asked.request, self._addresses, writer)
            finally:
                os._exit(0)
        os.close(writer)
        self._loop.watch(self._reader, IN, self._read)

    def _read(self, _events: int) -> None:
        data = os.read(self._reader, 65536)
        self._answer += data
        if not data or len(self._answer) > MAX_COLLATERAL + 1:
            self._done(bytes(self._answer))

    def _done(self, answer: bytes) -> None:
        asked = self._waiting.popleft()
        self._end()
        if answer[:1] == GOOD and len(answer) <= MAX_COLLATERAL + 1:
            self._log.debug(f"collateral {asked.request}: {len(answer) - 1} bytes", "donjon.keep")
            self._machine.reply(asked.id, answer[1:])
        else:
            message = answer[1:2000].decode("utf-8", "replace") or "the process that fetches it broke off"
            self._log.debug(f"collateral {asked.request}: {message}", "donjon.keep")
            self._machine.collateral_failed(asked.id, message)
        if self._waiting:
            self._begin()

    def _end(self) -> None:
        if self._reader >= 0:
            self._loop.forget(self._reader)
            os.close(self._reader)
            self._reader = -1
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def close(self) -> None:
        """Give up what is under way."""
        self._waiting.clear()
        self._end()


def _fetch(request: str, addresses: Mapping[str, str], writer: int) -> NoReturn:
    """The fork: it keeps nothing of ours open, finds the answer, writes it and ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.alarm(SECONDS)
    answer = os.dup(writer)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.dup2(answer, 3, inheritable=False)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    try:
        said = GOOD + find(request, addresses)
    except DonjonError as error:
        said = BAD + error.message.encode("utf-8", "replace")
    with os.fdopen(3, "wb") as out:
        out.write(said)
    os._exit(0)


def find(request: str, addresses: Mapping[str, str] | None = None) -> bytes:
    """What is asked for: from a folder of this machine, else from the vendor.

    Raises:
        UsageError: there is no such TEE. ParseError: its vendor publishes nothing of this name, or answers nonsense.
        PlatformError: it is not to be had.
    """
    from donjon.tee import load_fetch

    kind, _, name = request.partition(" ")
    fetch = load_fetch(kind)
    if fetch is None:
        raise PlatformError(f"{kind}: its vendor publishes nothing")
    need = fetch.need(name)
    found = _kept(fetch, need)
    if found is None:
        found = _ask(fetch, need, (addresses or {}).get(fetch.VENDOR, fetch.BASE))
        if need.lasting:
            _keep(kind, need, found)
    return found


def _kept(fetch: Fetch, need: Need) -> bytes | None:
    """It, if the operator or an earlier Keep has fetched it; lists end, so only what never changes is taken."""
    if not need.lasting:
        return None
    from donjon.platform.caching import folders

    for folder in (folders()[fetch.VENDOR], _folder()):
        try:
            names = sorted(os.listdir(folder))[:MOST_FILES] if folder else []
        except OSError:
            continue
        for name in names:
            with contextlib.suppress(OSError, DonjonError), open(os.path.join(folder, name), "rb") as file:
                found = fetch.sort(file.read(MAX_COLLATERAL)).get(need.name)
                if found is not None:
                    return found
    return None


def _ask(fetch: Fetch, need: Need, base: str) -> bytes:
    import asyncio

    from donjon.steward.fetching import Vendors
    from donjon.steward.policy import Collateral as Settings

    async def ask() -> bytes:
        vendors = Vendors(Settings())
        try:
            body, headers = await vendors.get(fetch.VENDOR, fetch.address(need, base), need.lasting)
        finally:
            await vendors.close()
        return fetch.keep(need, body, headers)

    return asyncio.run(ask())


def _folder() -> str:
    """The user's own; "" where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):  # its specification: ignore what is not absolute
        base = os.path.expanduser("~/.cache")
    return f"{base}/donjon/collateral" if base.startswith("/") else ""


def _keep(kind: str, need: Need, data: bytes) -> None:
    """Keep it for the next Keep of this user; without a place it is fetched again."""
    folder = _folder()
    if not folder:
        return
    draft = f"{folder}/.{os.urandom(8).hex()}.new"
    with contextlib.suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        try:
            with open(draft, "xb") as file:
                file.write(data)
            os.replace(draft, f"{folder}/{kind}-{need.name}")
        except OSError:
            os.unlink(draft)
            raise
