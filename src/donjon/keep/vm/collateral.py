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
import os
from collections import deque

from donjon import files
from donjon.errors import DonjonError, ParseError, PlatformError
from donjon.keep.vm.apart import Apart
from donjon.sallyport.machine import MAX_COLLATERAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

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
        self._fork: Apart | None = None

    def take(self, asked: Collateral) -> None:
        """Answer in time; a machine has no more than a few requests open, as the sallyport sees to."""
        self._asked += 1
        if self._asked > MOST:
            self._machine.collateral_failed(asked.id, f"a Keep gets no more than {MOST} answers")
            return
        self._waiting.append(asked)
        if self._fork is None:
            self._begin()

    def _begin(self) -> None:
        request = self._waiting[0].request
        try:
            self._fork = Apart(
                self._loop, lambda: _answer(request, self._addresses), self._done, SECONDS, MAX_COLLATERAL + 1
            )
        except OSError:
            self._done(BAD + b"this machine has no room for another process")

    def _done(self, answer: bytes) -> None:
        self._fork = None
        asked = self._waiting.popleft()
        if answer[:1] == GOOD:
            self._log.debug(f"collateral {asked.request}: {len(answer) - 1} bytes", "donjon.keep")
            self._machine.reply(asked.id, answer[1:])
        else:
            message = answer[1:2000].decode("utf-8", "replace") or "the process that fetches it broke off"
            self._log.debug(f"collateral {asked.request}: {message}", "donjon.keep")
            self._machine.collateral_failed(asked.id, message)
        if self._waiting:
            self._begin()

    def close(self) -> None:
        """Give up what is under way."""
        self._waiting.clear()
        if self._fork is not None:
            self._fork.close()
            self._fork = None


def _answer(request: str, addresses: Mapping[str, str]) -> bytes:
    """In the fork: what was found, or why there is nothing."""
    try:
        return GOOD + find(request, addresses)
    except DonjonError as error:
        return BAD + error.message.encode("utf-8", "replace")


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
        if len(found) > MAX_COLLATERAL:
            what = f"{fetch.VENDOR}: {need.name}"
            raise ParseError(f"{what}: expected at most {MAX_COLLATERAL} bytes, got {len(found)}")
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
    caches = files.caches()
    return f"{caches}/collateral" if caches else ""


def _keep(kind: str, need: Need, data: bytes) -> None:
    """Keep it for the next Keep of this user; without a place it is fetched again."""
    folder = _folder()
    if not folder:
        return
    with contextlib.suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with files.replacing(f"{folder}/{kind}-{need.name}") as file:
            file.write(data)
