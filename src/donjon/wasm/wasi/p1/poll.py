"""poll_oneoff: wait for clocks and descriptors.   [WASI-P1]

A server polls the same descriptors again and again, so the last call's subscriptions are kept with what was made of
them, a `Plan`: where the bytes are the same and no descriptor was closed since, the kernel is asked at once.
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

Watched = tuple[int, int, int, Descriptor]
"""A subscription to a descriptor: position in the list, userdata, Eventtype, descriptor."""

Found = list[tuple[int, int, int, int, int]]
"""Events: userdata, errno, Eventtype, bytes, flags."""

# fmt: off
SUBSCRIPTION = Struct("<QB7xI4xQQH6x")  # userdata tag | fd, or id timeout precision flags   [WASI-P1 subscription]
EVENT = Struct("<QHB5xQH6x")            # userdata error type | nbytes flags                 [WASI-P1 event]
# fmt: on
ABSTIME = 1
MOST = 16384
"""Subscriptions in one call; a guest has at most half as many descriptors."""


class Plan:
    """What a list of subscriptions comes to.

    Attributes:
        key, generation: the subscriptions' bytes, and the state of the descriptors they were looked up in.
        poller: knows every host descriptor; None, there is none.
        by_host: host descriptor -> its subscriptions.
        asked: the subscriptions whose descriptor may know something that the kernel does not.
        clocks: userdata, clock, nanoseconds, flags.
        failed: events that are true at once, because a subscription cannot be met.
    """

    __slots__ = ("asked", "by_host", "clocks", "failed", "generation", "key", "poller")

    def __init__(self, guest: Guest, key: bytes) -> None:
        self.key = key
        self.generation = guest.generation
        self.by_host: dict[int, list[Watched]] = {}
        self.asked: list[Watched] = []
        self.clocks: list[tuple[int, int, int, int]] = []
        self.failed: Found = []
        masks: dict[int, int] = {}
        for index, (userdata, tag, fd, timeout, _, flags) in enumerate(SUBSCRIPTION.iter_unpack(key)):
            if tag == Eventtype.CLOCK:
                if fd in (Clock.REALTIME, Clock.MONOTONIC):
                    self.clocks.append((userdata, fd, timeout, flags))
                else:
                    self.failed.append((userdata, Errno.NOTSUP if fd < len(NOW) else Errno.INVAL, tag, 0, 0))
                continue
            if tag > Eventtype.FD_WRITE:
                raise WasiError(Errno.INVAL, f"subscription {index}: eventtype {tag}: expected 0 to 2")
            descriptor = guest.fds.get(fd)
            if descriptor is None or not descriptor.rights & Rights.POLL_FD_READWRITE:
                error = Errno.BADF if descriptor is None else Errno.NOTCAPABLE
                self.failed.append((userdata, error, tag, 0, 0))
                continue
            entry = (index, userdata, tag, descriptor)
            if descriptor.asks:
                self.asked.append(entry)
            host = descriptor.host
            if host >= 0:
                self.by_host.setdefault(host, []).append(entry)
                masks[host] = masks.get(host, 0) | descriptor.mask(tag)
        self.poller: select.poll | None = None
        if masks:
            self.poller = select.poll()
            for host, mask in masks.items():
                self.poller.register(host, mask)

    def wait(self, guest: Guest) -> Found:
        """Wait until something is true; what is, in no particular order, at least one event."""
        reactor, poller = guest.reactor, self.poller
        due = self._due() if self.clocks else None
        while True:
            found = list(self.failed)
            seen = set()
            for index, userdata, tag, descriptor in self.asked:
                event = descriptor.ready(tag)
                if event is not None:
                    found.append((userdata, event[0], tag, event[1], event[2]))
                    seen.add(index)
            left = None if due is None else max(0.0, due - time.monotonic())
            if poller is not None:
                for host, events in reactor.poll(poller, 0.0 if found else left):
                    for index, userdata, tag, descriptor in self.by_host[host]:
                        event = None if index in seen else descriptor.woken(tag, events)
                        if event is not None:
                            found.append((userdata, event[0], tag, event[1], event[2]))
            elif left is not None and not found:
                reactor.sleep(left)
            if due is not None and time.monotonic() >= due:
                found += self._rung()
            if found:
                return found

    def _due(self) -> float:
        """When the first clock rings, on time.monotonic's scale in seconds."""
        now, first = time.monotonic(), float("inf")
        for _, clock, timeout, flags in self.clocks:
            if flags & ABSTIME:
                timeout -= NOW[clock]()
            first = min(first, timeout)
        return now + first / 1e9

    def _rung(self) -> Found:
        """The events of the clocks that ring first."""
        now = [clock() for clock in NOW[:2]]
        relative = [timeout for _, _, timeout, flags in self.clocks if not flags & ABSTIME]
        first = min(relative, default=0)
        rung: Found = []
        for userdata, clock, timeout, flags in self.clocks:
            if timeout <= now[clock] if flags & ABSTIME else timeout == first:
                rung.append((userdata, Errno.SUCCESS, Eventtype.CLOCK, 0, 0))
        return rung


@wasi()
def poll_oneoff(guest: Guest, in_: Pointer, out: Pointer, nsubscriptions: U32) -> Size:
    """Wait until at least one subscription is true, and report those that are.   [WASI-P1 poll_oneoff]

    Data that TLS has decrypted already counts as ready; a TLS connection whose handshake is under way does not.
    inval: no subscription, too many, or one of no known type. A subscription's own error is in its event.
    """
    if not 0 < nsubscriptions <= MOST:
        raise WasiError(Errno.INVAL, f"{nsubscriptions} subscriptions: expected 1 to {MOST}")
    if (in_ | out) & 7:
        raise WasiError(Errno.INVAL, f"arrays at {in_:#x} and {out:#x}: expected multiples of 8")
    memory = guest.memory
    key = bytes(memory.span(in_, 48 * nsubscriptions))
    memory.span(out, 32 * nsubscriptions)
    plan = guest.plan
    if plan is None or plan.key != key or plan.generation != guest.generation:
        plan = guest.plan = Plan(guest, key)
    events = plan.wait(guest)
    u8 = memory.u8
    for event in events:
        EVENT.pack_into(u8, out, *event)
        out += 32
    return len(events)
