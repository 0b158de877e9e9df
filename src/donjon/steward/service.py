"""The Steward as one object: judges, issues, records, and only then answers. It knows nothing of HTTP.

    service = Service(policy, trust, authority, Writer(record))
    answers = await service.attest([request])        # on disk when this returns

The order is what counts: a certificate is made, its entry is written, and when the disk has it the certificate leaves.
Killed before, nobody has the certificate; killed after, the entry is there.

Entries of many requests are written together (`Writer`): while one commit waits for the disk, the next batch gathers.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from donjon.errors import PlatformError
from donjon.log import QUIET, Logger
from donjon.steward import nonce as nonces
from donjon.steward import record
from donjon.steward.authority import Authority, Issued
from donjon.steward.depot import WAIT, Depot
from donjon.steward.endorsement import Envelope, Proofs
from donjon.steward.metrics import Metrics
from donjon.steward.policy import Policy
from donjon.steward.procedure import Decision, Trust, decide
from donjon.steward.record import Book, Head, open_book

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.steward.fetching import Vendors

T = TypeVar("T")

MAX_BATCH = 512
"""Entries in one commit."""
MAX_WAITING = 4096
"""Entries that wait for the disk; beyond it, the service says that it is busy."""


class BusyError(PlatformError):
    """More requests wait than the disk can take; come again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request gets.

    Args:
        issued: the certificate, if it was granted and asked for.
        head: where in the record the decision stands.
        later: it was refused for something that a vendor has not answered yet.
    """

    decision: Decision
    issued: Issued | None
    head: Head
    later: bool = False


class Writer:
    """Writes entries in a thread of its own, as many at once as are there.

    Args:
        book: opened for this; closed by `close`.

    `head` is the record's end as far as this process has written it, `failure` why the last commit failed, or nothing.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self.path = book.path
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._waiting = 0
        self.head = book.head()
        self.failure = ""
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    async def write(self, entries: Sequence[dict[str, Any]]) -> tuple[Head, ...]:
        """Have entries written; they are on disk when this returns.

        Raises:
            BusyError: too many wait. PlatformError: they could not be written.
        """
        if self._waiting + len(entries) > MAX_WAITING:
            raise BusyError("too many decisions wait for the disk", "come again in a moment")
        loop = asyncio.get_running_loop()
        job = _Job(entries, loop, loop.create_future())
        self._waiting += len(entries)
        self._queue.put(job)
        try:
            # A client that goes away does not take back what the thread is about to write.
            return await asyncio.shield(job.future)
        finally:
            self._waiting -= len(entries)

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._queue.put(None)
        self._thread.join()
        self._book.close()

    def _run(self) -> None:
        last = False
        while not last:
            jobs: list[_Job] = []
            count = 0
            job = self._queue.get()
            while job is not None:
                jobs.append(job)
                count += len(job.entries)
                if count >= MAX_BATCH or self._queue.empty():
                    break
                job = self._queue.get()
            last = job is None
            if jobs:
                self._commit(jobs)

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            heads = self._book.append([entry for job in jobs for entry in job.entries])
        except BaseException as error:  # whatever it is, somebody waits for it
            self.failure = str(error) or type(error).__name__
            for job in jobs:
                job.finish(None, error)
            return
        self.failure = ""
        self.head = heads[-1]
        at = 0
        for job in jobs:
            job.finish(heads[at : at + len(job.entries)], None)
            at += len(job.entries)


@dataclass(frozen=True, slots=True)
class _Job:
    entries: Sequence[dict[str, Any]]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[tuple[Head, ...]]

    def finish(self, heads: tuple[Head, ...] | None, error: BaseException | None) -> None:
        """Tell who waits, in the thread of the event loop."""

        def tell() -> None:
            if self.future.done():
                return
            if heads is not None:
                self.future.set_result(heads)
            else:
                self.future.set_exception(error or PlatformError("the record was not written"))

        self.loop.call_soon_threadsafe(tell)


class Service:
    """A Steward.

    Args:
        clock: gives the time with its zone.
        random: gives so many bytes that nobody can foresee.
        depot: the service's own collateral; without one, what requests bring has to do.
        endorsements: digest → the operator's statements about workloads.
    """

    def __init__(
        self,
        policy: Policy,
        trust: Mapping[str, Trust],
        authority: Authority,
        writer: Writer,
        log: Logger = QUIET,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        random: Callable[[int], bytes] = os.urandom,
        depot: Depot | None = None,
        endorsements: Mapping[bytes, tuple[Envelope, ...]] | None = None,
    ) -> None:
        self.policy = policy
        self.trust = trust
        self.authority = authority
        self.writer = writer
        self.log = log
        self.clock = clock
        self.random = random
        self.depot = depot
        self.endorsements = endorsements or {}
        self.metrics = depot.metrics if depot else Metrics()
        self.draining = False
        self._reading = asyncio.Lock()
        self._secret = authority.secret(b"nonce")

    async def change(
        self,
        policy: Policy,
        trust: Mapping[str, Trust],
        endorsements: Mapping[bytes, tuple[Envelope, ...]],
        vendors: Vendors | None,
        supplied: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Go on with another policy; decisions under way keep theirs."""
        self.policy, self.trust, self.endorsements = policy, trust, endorsements
        if self.depot is not None:
            await self.depot.change(trust, policy.collateral, vendors, supplied)

    def nonce(self) -> tuple[bytes, datetime]:
        """A fresh nonce, and when it ends."""
        now = self.clock()
        return nonces.make(self._secret, now, self.random(16)), now + nonces.LIFE

    async def attest(
        self,
        requests: Sequence[bytes],
        nonce: bytes | None = None,
        issue: bool = True,
        proofs: Proofs | None = None,
    ) -> tuple[Answer, ...]:
        """Judge requests, issue what is granted, record all of it.

        Of several requests all get a certificate, or none does: what comes behind one that is refused is not judged,
        and has no answer.

        Args:
            issue: False only asks what would be decided.
            proofs: what came along for the workload.
        Raises:
            PlatformError: it cannot be recorded, or the authority's certificate has ended; nothing is issued then.
        """
        # A policy that is loaded meanwhile is for those that come after.
        now, policy, trust = self.clock(), self.policy, self.trust
        proofs = replace(proofs or Proofs(), kept=self.endorsements)
        if self.depot is not None and self.depot.behind:
            raise PlatformError("this machine's clock stands before what vendors have signed", "set the clock")

        def judge(data: bytes, trust: Mapping[str, Trust]) -> Decision:
            started = time.perf_counter()
            decision = decide(data, trust, policy, now, nonce, self._secret, proofs)
            self.metrics.observe("decision_seconds", time.perf_counter() - started, tee=decision.tee or "none")
            return decision

        decisions: list[Decision] = []
        later: list[bool] = []
        deadline = time.monotonic() + WAIT
        for number, data in enumerate(requests):
            if number:
                await asyncio.sleep(0)  # others wait too
            if self.depot is None:
                decision, may_change = judge(data, trust), False
            else:
                decision, may_change = await self.depot.settle(partial(judge, data), now, deadline, trust)
            decisions.append(decision)
            later.append(may_change)
            if not decision.accepted:
                break  # so nobody gets a certificate; and a bundle of rubbish fills the record with one entry, not 32
        wanted = issue and all(decision.accepted for decision in decisions)
        issued = [self.authority.issue(decision.require(), now) if wanted else None for decision in decisions]
        pairs = list(zip(decisions, issued, strict=True))
        started = time.perf_counter()
        heads = await self.writer.write([{**record.describe(*pair), "asked": _asked(issue)} for pair in pairs])
        self.metrics.observe("record_seconds", time.perf_counter() - started)
        for pair in pairs:
            self._tell(*pair)
        return tuple(
            Answer(*pair, head, may_change) for pair, head, may_change in zip(pairs, heads, later, strict=True)
        )

    def _tell(self, decision: Decision, issued: Issued | None) -> None:
        failure = decision.failure
        verdict = "accepted" if decision.accepted else "refused"
        name = failure.name if failure else ""
        self.metrics.count("decisions_total", tee=decision.tee or "none", verdict=verdict, check=name)
        if decision.grant is not None and issued is not None:
            marked = " ".join(decision.grant.markers)
            self.metrics.count("certificates_total", tee=decision.tee, marked=marked)
            self.log.info(
                f"{decision.tee}: issued {issued.instance}{f', {marked}' if marked else ''}", "donjon.steward"
            )
        elif failure is not None:
            self.log.info(f"{decision.tee or 'request'}: refused, {failure}", target="donjon.steward")

    async def look(self, question: Callable[[Book], T]) -> T:
        """Read the record, in a thread, one question after the other: a database may take its time.

        Raises:
            PlatformError: it cannot be read.
        """

        def ask() -> T:
            with open_book(self.writer.path, read_only=True) as book:
                return question(book)

        async with self._reading:
            return await asyncio.to_thread(ask)

    def ready(self) -> dict[str, str]:
        """What stands in the way of serving, by its name; nothing when all is well."""
        found: dict[str, str] = {}
        if self.draining:
            found["draining"] = "the service is about to end"
        now = self.clock()
        if self.authority.not_after <= now:
            found["authority"] = "its certificate has ended"
        if self.writer.failure:
            found["record"] = self.writer.failure
        if self.depot is not None and self.depot.behind:
            found["clock"] = "it stands before what vendors have signed"
        return found

    def scrape(self) -> str:
        """The metrics, as they are now."""
        from donjon import __version__

        if self.depot is not None:
            self.depot.scrape()
        self.metrics.put("record_entries", self.writer.head.seq)
        self.metrics.put("authority_expiry_seconds", (self.authority.not_after - self.clock()).total_seconds())
        self.metrics.put("accept_unattested", float(self.policy.general.accept_unattested))
        self.metrics.put("build_info", 1, version=__version__)
        return self.metrics.text()


def _asked(issue: bool) -> str:
    return "certificate" if issue else "verdict"
