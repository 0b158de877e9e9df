"""poll_oneoff: wait for clocks and descriptors.   [WASI-P1]

A server polls the same descriptors again and again, so the last call's subscriptions are kept with what was made of
them, a `Plan`: where the bytes are the same and no descriptor was closed since, the kernel is asked at once, and what
it says of a plain socket is translated once.
"""

import select
import time
from struct import Struct

from donjon.wasm.wasi.descriptors.base import Descriptor
from donjon.wasm.wasi.p1.clock import NOW
from donjon.wasm.wasi.p1.errno import Errno, WasiError
from donjon.wasm.wasi.p1.guest import Guest
from donjon.wasm.wasi.p1.rights import Rights
from donjon.wasm.wasi.p1.trampoline import wasi
from donjon.wasm.wasi.p1.types import U32, Clock, Eventtype, Pointer, Size
from donjon.wasm.wasi.reactor import Reactor

Watched = tuple[int, int, int, Descriptor]
"""A subscription to a descriptor: position in the list, userdata, Eventtype, descriptor."""

# fmt: off
SUBSCRIPTION = Struct("<QB7xI4xQQH6x")  # userdata tag | fd, or id timeout precision flags   [WASI-P1 subscription]
EVENT = Struct("<QHB5xQH6x")            # userdata error type | nbytes flags                 [WASI-P1 event]
# fmt: on
ABSTIME = 1  # subclockflags.subscription_clock_abstime
MOST = 16384
"""Subscriptions in one call; more only for a guest that may have more than half as many descriptors."""

_NONE: set[int] = set()


class Plan:
    """What a list of subscriptions comes to.

    Attributes:
        place: where the lists are and how long; they lie inside memory, which never shrinks.
        key, generation: the subscriptions' bytes, and the state of the descriptors they were looked up in.
        poller: knows every host descriptor; None, there is none.
        by_host: host descriptor -> its subscriptions.
        asked: the subscriptions whose descriptor is always asked before the kernel.
        eager: descriptor -> its subscriptions, for those that may know something that the kernel does not.
        clocks: userdata, clock, nanoseconds, flags.
        failed: events that are true at once, because a subscription cannot be met.
        simple: unless a descriptor is eager, only the kernel has to be asked, by `poll`.
        answers: what the kernel said of a plain descriptor -> its events.
    """

    __slots__ = (
        "answers",
        "asked",
        "by_host",
        "clocks",
        "eager",
        "end",
        "failed",
        "generation",
        "key",
        "place",
        "poll",
        "poller",
        "simple",
    )

    def __init__(self, guest: Guest, place: tuple[int, int, int], key: bytes) -> None:
        self.place = place
        self.end = place[0] + len(key)
        self.key = key
        self.generation = guest.generation
        self.by_host: dict[int, list[Watched]] = {}
        self.asked: list[Watched] = []
        self.eager: dict[Descriptor, list[Watched]] = {}
        self.clocks: list[tuple[int, int, int, int]] = []
        self.failed: list[bytes] = []
        self.answers: dict[tuple[int, int], bytes] = {}
        masks: dict[int, int] = {}
        for index, (userdata, tag, fd, timeout, _, flags) in enumerate(SUBSCRIPTION.iter_unpack(key)):
            if tag == Eventtype.CLOCK:
                if fd in (Clock.REALTIME, Clock.MONOTONIC):
                    self.clocks.append((userdata, fd, timeout, flags))
                else:
                    error = Errno.NOTSUP if fd < len(NOW) else Errno.INVAL
                    self.failed.append(EVENT.pack(userdata, error, tag, 0, 0))
                continue
            if tag > Eventtype.FD_WRITE:
                raise WasiError(Errno.INVAL, f"subscription {index}: eventtype {tag}: expected 0 to 2")
            descriptor = guest.fds.get(fd)
            if descriptor is None or not descriptor.rights & Rights.POLL_FD_READWRITE:
                error = Errno.BADF if descriptor is None else Errno.NOTCAPABLE
                self.failed.append(EVENT.pack(userdata, error, tag, 0, 0))
                continue
            entry = (index, userdata, tag, descriptor)
            if descriptor.asks:
                self.asked.append(entry)
            if descriptor.buffers:
                self.eager.setdefault(descriptor, []).append(entry)
            host = descriptor.host
            if host >= 0:
                self.by_host.setdefault(host, []).append(entry)
                masks[host] = masks.get(host, 0) | descriptor.mask(tag)
        self.simple = bool(masks) and not (self.asked or self.clocks or self.failed)
        self.poller = select.poll() if masks else None
        if self.poller is not None:
            for host, mask in masks.items():
                self.poller.register(host, mask)
            self.poll = self.poller.poll

    def wait(self, reactor: Reactor) -> bytes:
        """Wait until something is true; what is, in no particular order, as at least one event's bytes."""
        poller = self.poller
        rings = self._rings() if self.clocks else []
        due = min(rings, default=None)
        while True:
            events = list(self.failed)
            seen = self._ask(reactor, events) if self.asked or reactor.eager else _NONE
            left = None if due is None else max(0, due - time.monotonic_ns()) / 1e9
            if poller is not None:
                for host, bits in reactor.poll(poller, 0.0 if events else left):
                    for index, userdata, tag, descriptor in self.by_host[host]:
                        event = None if index in seen else descriptor.woken(tag, bits)
                        if event is not None:
                            events.append(EVENT.pack(userdata, event[0], tag, event[1], event[2]))
            elif left is not None and not events:
                reactor.sleep(left)
            if due is not None:
                now = time.monotonic_ns()
                for (userdata, _, _, _), ring in zip(self.clocks, rings, strict=True):
                    if ring <= now:
                        events.append(EVENT.pack(userdata, Errno.SUCCESS, Eventtype.CLOCK, 0, 0))
            if events:
                return b"".join(events)

    def answer(self, pair: tuple[int, int]) -> bytes:
        """The events for what the kernel says of one host descriptor; of a plain one, remembered for the next time."""
        found, plain = b"", True
        for _, userdata, tag, descriptor in self.by_host[pair[0]]:
            event = descriptor.woken(tag, pair[1])
            if event is not None:
                found += EVENT.pack(userdata, event[0], tag, event[1], event[2])
            plain = plain and not descriptor.buffers
        if plain:
            self.answers[pair] = found
        return found

    def _ask(self, reactor: Reactor, events: list[bytes]) -> set[int]:
        """Add what descriptors know by themselves; returns the positions of the subscriptions that are true by that."""
        entries = self.asked
        if self.eager and reactor.eager:
            entries = entries + [entry for one in reactor.eager for entry in self.eager.get(one, ())]
        seen = set()
        for index, userdata, tag, descriptor in entries:
            event = descriptor.ready(tag)
            if event is not None:
                events.append(EVENT.pack(userdata, event[0], tag, event[1], event[2]))
                seen.add(index)
        return seen

    def _rings(self) -> list[int]:
        """When each clock rings, on the scale of time.monotonic_ns."""
        rings = []
        for _, clock, timeout, flags in self.clocks:
            now = time.monotonic_ns()
            rings.append(now + (timeout - NOW[clock]() if flags & ABSTIME else timeout))
        return rings


@wasi()
def poll_oneoff(guest: Guest, in_: Pointer, out: Pointer, nsubscriptions: U32) -> Size:
    """Wait until at least one subscription is true, and report those that are.   [WASI-P1 poll_oneoff]

    Data that TLS has decrypted already counts as ready; a TLS connection whose handshake is under way does not.
    inval: no subscription, too many, or one of no known type. A subscription's own error is in its event.
    """
    plan = guest.plan
    place = (in_, out, nsubscriptions)
    u8 = guest.memory.u8
    if (
        plan is None
        or plan.place != place
        or plan.generation != guest.generation
        or plan.key != bytes(u8[in_ : plan.end])
    ):
        plan = _plan(guest, place)
        guest.plan = None if plan.failed else plan  # what is not open now can be open the next time
    events = b""
    reactor = guest.reactor
    if plan.simple and not (reactor.tasks or reactor.eager):
        ready = plan.poll()
        if len(ready) == 1:
            events = plan.answers.get(ready[0]) or plan.answer(ready[0])
        else:
            events = b"".join([plan.answers.get(pair) or plan.answer(pair) for pair in ready])
    if not events:
        events = plan.wait(reactor)
    u8[out : out + len(events)] = events
    return len(events) // EVENT.size


def _plan(guest: Guest, place: tuple[int, int, int]) -> Plan:
    """Check where the guest's lists are, and make a plan of its subscriptions."""
    in_, out, count = place
    most = max(MOST, 2 * guest.limit)
    if not 0 < count <= most:
        raise WasiError(Errno.INVAL, f"{count} subscriptions: expected 1 to {most}")
    if (in_ | out) & 7:
        raise WasiError(Errno.INVAL, f"arrays at {in_:#x} and {out:#x}: expected multiples of 8")
    guest.memory.span(out, EVENT.size * count)
    return Plan(guest, place, bytes(guest.memory.span(in_, SUBSCRIPTION.size * count)))
