"""Asks vendors over HTTP: few at a time, not often, and never where evidence says.

    vendors = Vendors(settings)
    body, headers = await vendors.get("amd", address)
    body, headers = await vendors.get("amd", address, lasting=True)

A vendor that cannot be reached, or that says that it is asked too often, is left alone for a while: a second, then
twice as long each time, at most ten minutes or what its Retry-After says. An answer has a largest size and a longest
time, all of it together; redirects are not followed, as they lead to addresses that nobody here has chosen; compression
is not asked for, so nothing grows on arrival.

What lasts (certificates of single chips) has turns, a queue and pauses of its own: anybody can invent chips, and must
not keep the lists away by that, without which nobody is accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

from donjon import __version__
from donjon.errors import PlatformError, UsageError, words_of
from donjon.steward.policy import Collateral

MAX_ANSWER = 2 * 1024 * 1024 + 4096
"""Bytes: a list of 1 MiB in hex, and some."""
SECONDS = 10.0
"""For a whole answer."""
RATE = 1.0
"""Questions a second to one vendor in the long run."""
BURST = 12
"""And so many at once."""
MAX_QUEUE = 64
"""Questions that wait for their turn; beyond it the answer is that the vendor is busy."""
FIRST, LONGEST = 1.0, 600.0
"""Seconds for which a vendor that fails is left alone: at first, and at most."""
LONGEST_ASKED = 3600.0
"""The same if the vendor asks for it."""


class VendorError(PlatformError):
    """A vendor did not answer, or not with what was asked for; later it may."""


class MissingError(VendorError):
    """The vendor answered: there is no such thing."""


@dataclass
class _Vendor:
    """What is known of one vendor, for lists or for what lasts: how often it may be asked, and whether it fails.

    Args:
        tokens: questions that may be asked at once. asked: when they were counted.
    """

    tokens: float = BURST
    asked: float = 0.0
    queue: int = 0
    failures: int = 0
    until: float = 0.0
    why: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Vendors:
    """All vendors.

    Args:
        settings: the policy's table `[collateral]`.
        clock: seconds that only grow.
    Raises:
        UsageError: the file of certificates cannot be read.
    """

    def __init__(self, settings: Collateral, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._vendors: dict[tuple[str, bool], _Vendor] = {}
        self._client: httpx.AsyncClient | None = None
        try:
            self._context = ssl.create_default_context(cafile=settings.ca)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"[collateral] ca: cannot use {settings.ca}: {words_of(error)}") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def rest(self, vendor: str, lasting: bool = False) -> float:
        """Seconds for which a vendor is left alone; 0 when it may be asked."""
        return max(0.0, self._state(vendor, lasting).until - self._clock())

    def _state(self, vendor: str, lasting: bool) -> _Vendor:
        return self._vendors.setdefault((vendor, lasting), _Vendor())

    async def get(self, vendor: str, address: str, lasting: bool = False) -> tuple[bytes, Mapping[str, str]]:
        """Ask.

        Args:
            lasting: it never changes, and there are as many of it as chips.
        Returns:
            The body, and the headers with names in lower case.
        Raises:
            MissingError: there is no such thing. VendorError: there is no answer.
        """
        state = self._state(vendor, lasting)
        await self._turn(vendor, state)
        try:
            async with asyncio.timeout(SECONDS):
                reply, body = await self._ask(address)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, TimeoutError) as error:
            why = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
            raise self._failed(state, f"{vendor}: no answer: {why}") from error
        status = reply.status_code
        if status == 200:
            state.failures, state.until = 0, 0.0
            return body, {name.lower(): value for name, value in reply.headers.items()}
        if status in (400, 404, 410):
            state.failures, state.until = 0, 0.0
            raise MissingError(f"{vendor}: expected an answer of 200, got {status}: there is no such thing")
        raise self._failed(state, f"{vendor}: expected an answer of 200, got {status}", _seconds(reply))

    async def _turn(self, vendor: str, state: _Vendor) -> None:
        """Wait until this vendor may be asked again."""
        self._refuse_resting(vendor, state)
        if state.queue >= MAX_QUEUE:
            raise VendorError(f"{vendor}: too many questions wait for their turn")
        state.queue += 1
        try:
            async with state.lock:
                now = self._clock()
                state.tokens = min(BURST, state.tokens + (now - state.asked) * RATE) if state.asked else BURST
                state.asked = now
                if state.tokens < 1:
                    await asyncio.sleep((1 - state.tokens) / RATE)
                    state.tokens, state.asked = 1.0, self._clock()
                state.tokens -= 1
        finally:
            state.queue -= 1
        self._refuse_resting(vendor, state)

    def _refuse_resting(self, vendor: str, state: _Vendor) -> None:
        if state.until > self._clock():
            raise VendorError(f"{vendor}: left alone for a while, since it failed: {state.why}")

    def _failed(self, state: _Vendor, why: str, asked: float = 0.0) -> VendorError:
        pause = min(LONGEST, FIRST * 2**state.failures)
        state.failures = min(state.failures + 1, 20)
        state.until = self._clock() + max(pause, min(asked, LONGEST_ASKED))
        state.why = why
        return VendorError(why)

    async def _ask(self, address: str) -> tuple[httpx.Response, bytes]:
        if self._client is None:
            self._client = httpx.AsyncClient(
                verify=self._context,
                follow_redirects=False,
                timeout=SECONDS,
                limits=httpx.Limits(max_connections=8, max_keepalive_connections=4),
                headers={"User-Agent": f"donjon/{__version__}", "Accept-Encoding": "identity"},
            )
        async with self._client.stream("GET", address) as reply:
            parts: list[bytes] = []
            size = 0
            if reply.headers.get("content-encoding", "identity") != "identity":
                raise httpx.DecodingError("expected an answer without compression")
            async for part in reply.aiter_raw():
                size += len(part)
                if size > MAX_ANSWER:
                    raise httpx.DecodingError(f"expected an answer of at most {MAX_ANSWER} bytes, got more")
                parts.append(part)
            return reply, b"".join(parts)


def _seconds(reply: httpx.Response) -> float:
    """What Retry-After asks for, when it is a number."""
    with contextlib.suppress(ValueError):
        return float(int(reply.headers.get("retry-after", "0")[:9]))
    return 0.0
