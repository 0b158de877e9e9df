"""The Steward's own collateral: fetched from vendors, verified, kept in memory and in a directory, used for judging.

    depot = Depot(directory, trust, settings, vendors)
    decision, later = await depot.settle(lambda trust: decide(request, trust, policy, now), now, deadline)

A request is judged at once with what is at hand. Only if it is refused, and something is missing that a vendor has, and
the evidence is consistent as far as it goes (`Need.after`), the vendor is asked, and the request waits for the answer:
at most WAIT seconds, once for all requests that miss the same. Other requests do not wait. What fails is not asked for
again for a while; what is there is asked for again when half of its time has passed, at the latest after a day.

Nothing is asked for before evidence needs it, so a Steward for machines of one vendor never talks to the other.

What has ended (`nextUpdate`) is not used, except within the window that the policy states (`stale`), and only while
newer cannot be had: the vendor fails, or `offline` is set. Then the TEE's verification gets that window as `grace`, its
check says how long ago the collateral has ended, and the note goes into the certificate.

A file is as hostile as an answer: both are verified before use. Files are written beside their place and moved there,
so that a file is whole or not there. Nothing older replaces what is newer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from donjon import tee
from donjon.errors import DonjonError, ParseError, VerifyError, words_of
from donjon.log import QUIET, Logger
from donjon.steward.metrics import Metrics
from donjon.steward.policy import Collateral
from donjon.steward.procedure import Decision, Trust
from donjon.tee.contract import Need, Outcome, Piece, Tee

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.steward.fetching import Vendors

WAIT = 3.0
"""Seconds that a request waits for a vendor at most."""
MAX_WAITING = 64
"""Requests that wait for vendors at one time; those beyond are told to come again, so that others find a place."""
DAY = timedelta(days=1)
SOON = timedelta(minutes=10)
UNUSED = timedelta(days=7)
"""What nobody has asked for that long is not fetched anew."""
LEEWAY = timedelta(minutes=10)
"""By which a vendor's clock may go before ours."""
MAX_PIECES = 20_000
"""In memory, and in the directory."""
MAX_FAILURES = 10_000
MAX_KEPT = 3 * 1024 * 1024
"""Bytes of a file."""
PART = ".part"
TICK = 20.0
"""Seconds between two looks for what has to be fetched anew."""
NOT_THERE = 3600.0
"""Seconds for which an answer "there is no such thing" counts."""
WRONG = 60.0
"""Seconds before something that was answered wrongly is asked for again."""


class Key(NamedTuple):
    """A need, and the TEE whose it is."""

    tee: str
    need: Need


@dataclass
class _Held:
    piece: Piece
    fetched: datetime
    used: datetime


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why something could not be had; `down` when the vendor failed and not the question."""

    until: float
    down: bool


class Depot:
    """What is known of vendors' collateral.

    Args:
        directory: where it is kept; None keeps it in memory alone.
        trust: TEE → roots that pieces are verified with, and what is added to collateral beside them.
        settings: the policy's table `[collateral]`.
        vendors: whom to ask; None asks nobody, whatever the settings say.
        supplied: files that the operator has, with their names: used as if they had been fetched just now.
        clock: gives the time with its zone. seconds: gives seconds that only grow.
    """

    def __init__(
        self,
        directory: str | None,
        trust: Mapping[str, Trust],
        settings: Collateral,
        vendors: Vendors | None,
        log: Logger = QUIET,
        metrics: Metrics | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        seconds: Callable[[], float] = time.monotonic,
        supplied: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        self.directory = directory
        self.base = trust
        self.settings = settings
        self.vendors = vendors
        self.log = log
        self.metrics = metrics or Metrics()
        self.clock = clock
        self.seconds = seconds
        self.supplied = supplied
        self.floor: datetime | None = None
        self._held: OrderedDict[Key, _Held] = OrderedDict()
        self._on_disk: dict[Key, None] = {}
        self._failed: OrderedDict[Key, _Failure] = OrderedDict()
        self._waiting = 0
        self._flights: dict[Key, asyncio.Task[None]] = {}
        self._load()

    @property
    def behind(self) -> bool:
        """Whether this machine's clock stands before something that a vendor has already signed."""
        return self.floor is not None and self.clock() + LEEWAY < self.floor

    async def change(
        self,
        trust: Mapping[str, Trust],
        settings: Collateral,
        vendors: Vendors | None,
        supplied: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Go on with other roots, settings and files; what is kept is read and verified anew."""
        old, self.vendors = self.vendors, vendors
        self.base, self.settings, self.supplied = trust, settings, supplied
        self._held.clear()
        self._failed.clear()
        self._load()
        await self._land_all()
        if old is not None:
            await old.close()

    # Judging with it

    def trust(
        self, now: datetime, missed: dict[Key, Need], base: Mapping[str, Trust] | None = None
    ) -> dict[str, Trust]:
        """Trust with what is at hand.

        Args:
            missed: gets what a vendor may have and we do not. base: see `settle`.
        """
        items = (self.base if base is None else base).items()
        return {name: self._trust(tee.load(name), item, now, missed) for name, item in items}

    def _trust(self, kind: Tee, base: Trust, now: datetime, missed: dict[Key, Need]) -> Trust:
        def complete(evidence: Any, own: Any) -> Any:
            own = base.complete(evidence, own)
            late, lacking = False, False
            for need in kind.needs(evidence):
                key = Key(kind.NAME, need)
                held = self._get(key)
                if held is None:
                    missed[key] = need
                    lacking = lacking or self._may_ask(key)
                    continue
                held.used = now
                if now > held.piece.ends and not need.lasting:
                    if not self._may_be_late(key, now - held.piece.ends):
                        missed[key] = need
                        lacking = lacking or self._may_ask(key)
                        continue
                    late = True
                own = kind.join(own, held.piece.collateral)
            # It opens for what was sent as well: so only when nothing more can be had.
            return replace(own, grace=self.settings.stale) if late and not lacking else own

        return Trust(base.roots, complete)

    def _may_be_late(self, key: Key, by: timedelta) -> bool:
        """Whether what has ended may still be used: newer cannot be had, and the policy's window is open."""
        return by <= self.settings.stale and not self._may_ask(key)

    async def settle(
        self,
        judge: Callable[[Mapping[str, Trust]], Decision],
        now: datetime,
        deadline: float,
        base: Mapping[str, Trust] | None = None,
    ) -> tuple[Decision, bool]:
        """Judge, and judge again when something that was missing has come.

        Args:
            now: the time of judgement. deadline: until when to wait, as `seconds` counts.
            base: the roots that belong to the policy that `judge` asks: while it waits, others may come with another.
        Returns:
            The decision; and whether it may be another one later, as a vendor did not answer yet.
        """
        base = self.base if base is None else base
        while True:
            missed: dict[Key, Need] = {}
            decision = judge(self.trust(now, missed, base))
            if not missed:
                return decision, False
            wanted = [key for key, need in missed.items() if _is_worth(decision, need)]
            if decision.accepted:
                # The same from us, so that nobody can go on with an older one that has not ended yet. What simulated
                # hardware needs, no vendor has.
                if decision.grant is not None and not decision.grant.report.simulated:
                    self._ask(wanted)
                return decision, False
            flights = self._ask(wanted)
            left = deadline - self.seconds()
            if not flights or left <= 0 or self._waiting >= MAX_WAITING:
                return decision, any(key in self._flights or self._is_down(key) for key in wanted)
            self._waiting += 1
            try:
                await asyncio.wait(flights, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._waiting -= 1

    def _ask(self, keys: list[Key]) -> list[asyncio.Task[None]]:
        """Have these fetched; one flight for each."""
        found = []
        for key in keys:
            if key not in self._flights and self._may_ask(key):
                task = asyncio.get_running_loop().create_task(self._fetch(key))
                self._flights[key] = task
                task.add_done_callback(partial(self._land, key))
            if key in self._flights:
                found.append(self._flights[key])
        return found

    def _land(self, key: Key, _: asyncio.Task[None]) -> None:
        self._flights.pop(key, None)

    def _may_ask(self, key: Key) -> bool:
        failure = self._failed.get(key)
        if failure is not None and failure.until > self.seconds():
            return False
        fetch = tee.load_fetch(key.tee)
        if fetch is None or self.vendors is None or self.settings.offline:
            return False
        return not self.vendors.rest(fetch.VENDOR, key.need.lasting)

    def _is_down(self, key: Key) -> bool:
        failure = self._failed.get(key)
        fetch = tee.load_fetch(key.tee)
        vendors = self.vendors if fetch is not None else None
        resting = fetch and vendors and vendors.rest(fetch.VENDOR, key.need.lasting) > 0
        return bool(resting) or (failure is not None and failure.down and failure.until > self.seconds())

    async def _fetch(self, key: Key) -> None:
        """Ask the vendor for one thing. Raises nothing: what went wrong is remembered."""
        from donjon.steward.fetching import MissingError

        fetch = tee.load_fetch(key.tee)
        if fetch is None or self.vendors is None:
            return
        result = "fetched"
        try:
            address = fetch.address(key.need, self.settings.address(fetch))
            answer = await self.vendors.get(fetch.VENDOR, address, key.need.lasting)
            kept = fetch.keep(key.need, *answer)
            piece = self._verified(key, kept)
            result = await self._take(key, piece, kept)
        except MissingError as error:
            result = "missing"
            self._fail(key, NOT_THERE, down=False)
            self._tell(key, error)
        except (ParseError, VerifyError) as error:
            result = "wrong"
            self._fail(key, WRONG, down=True)
            self._tell(key, error)
        except Exception as error:
            if not isinstance(error, DonjonError):  # it must not be asked again and again
                self.log.error(f"{key.tee} {key.need.name[:16]}: {type(error).__name__}: {error}", "donjon.steward")
                error = VerifyError(type(error).__name__)
            result = "down"
            self._fail(key, max(1.0, self.vendors.rest(fetch.VENDOR, key.need.lasting)), down=True)
            self._tell(key, error)
        self.metrics.count("collateral_fetches_total", vendor=fetch.VENDOR, result=result)

    async def _take(self, key: Key, piece: Piece, kept: bytes) -> str:
        """Keep what has come, unless it is older than what is there."""
        now = self.clock()
        old = self._get(key)
        if old is not None and piece.made < old.piece.made:
            self._fail(key, WRONG, down=True)
            self.log.warn(f"{key.tee} {key.need.name}: the vendor sent an older one", target="donjon.steward")
            return "older"
        self._hold(key, piece, now, old.used if old else now)
        self._failed.pop(key, None)
        if piece.ends < now:
            self._fail(key, WRONG, down=True)  # newer cannot be had now
        if self.directory is not None:
            try:
                await asyncio.to_thread(self._write, key, kept)
                self._on_disk[key] = None
                if len(self._on_disk) > MAX_PIECES:
                    self._remove(_superfluous(self._on_disk))
            except OSError as error:
                self.log.warn(f"cannot keep {key.tee} {key.need.name}: {error.strerror}", target="donjon.steward")
        return "fetched"

    def _verified(self, key: Key, kept: bytes) -> Piece:
        """Verify with each set of roots in turn.

        Raises:
            ParseError: it is not well formed. VerifyError: none of them has signed it.
        """
        fetch = tee.load_fetch(key.tee)
        wrong: ParseError | VerifyError = VerifyError(f"{key.tee}: expected a vendor's service, got none")
        if fetch is None:
            raise wrong
        for roots in self.base[key.tee].roots:
            try:
                return fetch.piece(key.need, kept, roots)
            except (ParseError, VerifyError) as error:
                wrong = error
        raise wrong

    def _tell(self, key: Key, error: DonjonError) -> None:
        name = f"{key.need.name[:16]}..." if key.need.lasting else key.need.name  # no chip is named
        self.log.warn(f"{key.tee} {name}: {error.message}", target="donjon.steward")

    def _fail(self, key: Key, seconds: float, down: bool) -> None:
        self._failed[key] = _Failure(self.seconds() + seconds, down)
        self._failed.move_to_end(key)
        while len(self._failed) > MAX_FAILURES:
            self._failed.popitem(last=False)

    # In memory

    def _get(self, key: Key) -> _Held | None:
        held = self._held.get(key)
        if held is not None:
            self._held.move_to_end(key)
            return held
        return self._read(key) if key in self._on_disk else None

    def _hold(self, key: Key, piece: Piece, fetched: datetime, used: datetime) -> _Held:
        held = self._held[key] = _Held(piece, fetched, used)
        self._held.move_to_end(key)
        if not key.need.lasting:
            self.floor = max(self.floor or piece.made, piece.made)
        if len(self._held) > MAX_PIECES:
            del self._held[_superfluous(self._held)]
        return held

    async def run(self) -> None:
        """Fetch anew what has to be, until it is cancelled."""
        while True:
            await asyncio.sleep(TICK)
            self.refresh()

    def refresh(self) -> list[asyncio.Task[None]]:
        """Have fetched what is due."""
        now = self.clock()
        due = [
            key
            for key, held in self._held.items()
            if not key.need.lasting and now - held.used < UNUSED and now >= _due(held)
        ]
        return self._ask(due)

    async def close(self) -> None:
        """End what is under way."""
        await self._land_all()
        if self.vendors is not None:
            await self.vendors.close()

    async def _land_all(self) -> None:
        flights = [*self._flights.values()]
        for task in flights:
            task.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def scrape(self) -> None:
        """Bring the metrics up to date."""
        now = self.clock()
        ages: dict[tuple[str, str], float] = {}
        for key, held in self._held.items():
            if not key.need.lasting:
                series = (key.tee, key.need.name.partition("-")[0])
                ages[series] = max(ages.get(series, 0.0), (now - held.piece.made).total_seconds())
        for (name, kind), age in ages.items():
            self.metrics.put("collateral_age_seconds", age, tee=name, kind=kind)
        self.metrics.put("collateral_pieces", len(self._held))

    # In the directory: <directory>/<TEE>/<name of the need>

    def _path(self, key: Key) -> str:
        return os.path.join(self.directory or "", key.tee, key.need.name)

    def _load(self) -> None:
        """Read what changes, and remember what is there of the rest."""
        self._on_disk.clear()
        for name in self.base if self.directory is not None else ():
            fetch = tee.load_fetch(name)
            folder = os.path.join(self.directory or "", name)
            if fetch is None or not os.path.isdir(folder):
                continue
            try:
                entries = sorted(os.listdir(folder))[: 2 * MAX_PIECES]  # lists come before VCEKs
            except OSError as error:
                self.log.warn(f"cannot read collateral {name}: {words_of(error)}", target="donjon.steward")
                continue
            for entry in entries:
                try:
                    key = Key(name, fetch.need(entry))
                except ParseError:
                    if entry.endswith(PART):  # a writer was killed
                        self._discard(os.path.join(folder, entry))
                    continue
                self._on_disk[key] = None
                if not key.need.lasting:
                    self._read(key)
        for name in self.base:
            fetch = tee.load_fetch(name)
            for file, data in self.supplied if fetch is not None else ():
                self._use(name, file, data)

    def _use(self, name: str, file: str, data: bytes) -> None:
        """Use an operator's file for one TEE, as far as it is that TEE's and newer than what is there."""
        fetch = tee.load_fetch(name)
        now = self.clock()
        if fetch is None:
            return
        try:
            found = fetch.sort(data)
        except ParseError as error:  # `files.read_collateral` has told before
            self.log.warn(f"{file} is not used for {name}: {error.message}", target="donjon.steward")
            return
        for about, kept in found.items():
            try:
                key = Key(name, fetch.need(about))
                piece, old = self._verified(key, kept), self._get(key)
                if old is None or piece.made > old.piece.made:
                    self._hold(key, piece, now, now)
            except (ParseError, VerifyError) as error:
                self.log.warn(f"{file} is not used for {name}: {error.message}", target="donjon.steward")

    def _read(self, key: Key) -> _Held | None:
        """A file, verified; a wrong one is taken away."""
        path = self._path(key)
        try:
            with open(path, "rb") as stream:
                fetched = datetime.fromtimestamp(os.fstat(stream.fileno()).st_mtime, UTC)
                kept = stream.read(MAX_KEPT + 1)
            if len(kept) > MAX_KEPT:
                raise ParseError(f"expected at most {MAX_KEPT} bytes, got more")
            piece = self._verified(key, kept)
        except (OSError, OverflowError) as error:
            self._on_disk.pop(key, None)
            self.log.warn(f"cannot read collateral {key.tee}/{key.need.name[:24]}: {error}", target="donjon.steward")
            return None
        except (ParseError, VerifyError) as error:
            self.log.warn(f"collateral {key.tee}/{key.need.name[:24]} is not used: {error}", target="donjon.steward")
            self._remove(key)
            return None
        now = self.clock()
        return self._hold(key, piece, min(fetched, now), now)

    def _remove(self, key: Key) -> None:
        if key in self._on_disk:
            del self._on_disk[key]
            self._discard(self._path(key))

    @staticmethod
    def _discard(path: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(path)

    def _write(self, key: Key, kept: bytes) -> None:
        path = self._path(key)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        beside = f"{path}.{os.getpid()}{PART}"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as stream:
            stream.write(kept)
            stream.flush()
            os.fsync(descriptor)
        os.replace(beside, path)


def _superfluous(keys: Collection[Key]) -> Key:
    """What goes first where there are too many: the oldest of what lasts. Anybody can have a Steward fetch that, and
    only its machine does without it; of lists there are few, and all machines need them."""
    return next((key for key in keys if key.need.lasting), None) or next(iter(keys))


def _due(held: _Held) -> datetime:
    """When half of its time has passed since it came, at the latest after a day, at the earliest after SOON."""
    half = (held.piece.ends - held.fetched) / 2
    return held.fetched + max(min(half, DAY), SOON)


def _is_worth(decision: Decision, need: Need) -> bool:
    """Whether to ask a vendor: nothing that does not depend on the answer is already wrong.

    That is the request itself, the nonce, and what is asked of evidence of every TEE: no list changes key or workload.
    """
    if any(check.name.startswith(("request.", "nonce.", "evidence.")) for check in decision.failures):
        return False
    passed = {check.name for check in decision.checks if check.outcome is Outcome.PASSED}
    return {"request.signature", *need.after} <= passed
