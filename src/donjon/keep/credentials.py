"""A Keep's identity while it runs: made while the sockets are opened, and renewed before it expires.

A certificate of a Steward lives for hours. When two thirds of its life are over (sooner or later by a twentieth, so
that many Keeps do not come at once), a fork makes the next one, with a fresh key and fresh evidence; the reactor hears
of it through the fork's pipe, between whatever else it does. It is a fork of a process that was made before the guest
ran, as the Keep itself may not fork or connect by then. Every handshake that begins later shows the new chain;
connections that are open keep their keys and notice nothing. What fails is tried again, later each time, for as long as
the Keep runs, and said each time.

If a certificate expires all the same, handshakes are refused until there is a new one: nobody is shown what no client
may accept. A listener asks that for each handshake and by the clock of the wall, so that it holds for a guest that
computes for hours, and for a machine that slept.
"""

from __future__ import annotations

import os
import time

from donjon.errors import DonjonError, PlatformError
from donjon.identity import Apart, Beside, self_signed
from donjon.wasm.wasi.reactor import POLLIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from donjon.identity import Identity
    from donjon.identity.apart import Making
    from donjon.keep.launch import Launch
    from donjon.keep.network import Begin, Make
    from donjon.log import Logger
    from donjon.wasm.wasi.reactor import Reactor

__all__ = ["Credentials", "maker"]

SHARE = 2 / 3
"""Of a certificate's life, until it is renewed."""
JITTER = 1 / 20
FIRST_RETRY, LONGEST_RETRY = 15.0, 900.0
"""Seconds until a renewal that failed is tried again: doubled each time; never more than a tenth of a certificate's
life."""
LOOK = 60.0
"""Seconds between looks at the clock of the wall, which can be set, and goes on while a machine sleeps."""
RENEWAL_SECONDS = 120.0
"""After which an attempt that says nothing is given up; its process has ended itself before."""


def maker(launch: Launch, names: Sequence[str]) -> Make:
    """What makes a launch's identities: with evidence, if it is attested, or without.

    Args:
        names: that clients connect to, for a certificate that the Keep signs itself.
    """
    if not launch.attested():
        return lambda _say: self_signed(names)
    from donjon.keep import attest

    return attest.maker(launch, names)


class Credentials:
    """The identity of one Keep. Making it begins at once.

    Args:
        make: makes one, in a process of its own; from `maker`.
        clock: seconds since 1970.
        begin: starts that process, where it is no fork of this one.
    """

    def __init__(
        self,
        make: Make,
        reactor: Reactor,
        log: Logger,
        clock: Callable[[], float] = time.time,
        begin: Begin | None = None,
    ) -> None:
        self._reactor = reactor
        self._log = log
        self._clock = clock
        self._make = make
        self._begin = begin
        self._making: Making | None = self._start(log.info)
        self._beside: Beside | None = None
        self._identity: Identity | None = None
        self._contexts: list[ssl.SSLContext] = []
        self._timer = (-1, -1)
        self._due = 0.0
        self._wait = FIRST_RETRY
        self._told = False

    def _start(self, say: Callable[[str], None]) -> Making:
        return Apart(self._make, say) if self._begin is None else self._begin(self._make, say)

    def _renew(self, say: Callable[[str], None]) -> Making:
        if self._begin is not None:
            return self._begin(self._make, say)
        assert self._beside is not None  # noqa: S101 - there is a certificate that expires
        return self._beside.begin(say)

    def identity(self) -> Identity:
        """The current one; waits for the first.

        Raises:
            DonjonError: it cannot be had, and the Keep must not run.
        """
        if self._identity is None:
            assert self._making is not None  # noqa: S101 - an error is raised once and ends the Keep
            made = self._making.result()
            self._making = None
            self._identity = made
            if made.expires is not None:
                if self._begin is None:
                    self._beside = Beside(self._make)
                self._timer = os.pipe()  # nothing is ever written: the reactor waits for its deadline only
                self._plan(made.expires)
        return self._identity

    def show_in(self, context: ssl.SSLContext) -> None:
        """From now on this server's handshakes show whatever is current, and fail while nothing is."""
        import ssl

        if self.identity().expires is None:
            return  # nobody renews what the Keep has signed itself for a year

        def ask(_connection: object, _name: object, _context: object) -> int | None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR if self._expired() else None

        context.sni_callback = ask  # which OpenSSL calls for every ClientHello, with a name in it or without
        self._contexts.append(context)

    def close(self) -> None:
        """Stop renewing."""
        if self._making is not None:
            self._reactor.remove(self._making.fileno())
            self._making.cancel()
            self._making = None
        if self._beside is not None:
            self._beside.close()
            self._beside = None
        if self._timer[0] >= 0:
            self._reactor.remove(self._timer[0])
            for end in self._timer:
                os.close(end)
            self._timer = (-1, -1)

    # ---- renewal

    def _expired(self) -> bool:
        expires = None if self._identity is None else self._identity.expires
        if expires is None or self._clock() < expires:
            return False
        if not self._told:
            self._told = True
            self._log.error(
                f"the Keep's certificate has expired at {_shown(expires)}: no new TLS connection is accepted until it "
                "is renewed; open ones go on"
            )
        return True

    def _plan(self, expires: float) -> None:
        now = self._clock()
        life = max(expires - now, 0.0)
        self._wait = min(FIRST_RETRY, life / 10)
        self._due = now + life * (SHARE + JITTER * (2 * _random() - 1))
        self._arm()

    def _arm(self) -> None:
        seconds = min(max(self._due - self._clock(), 0.0), LOOK)
        self._reactor.add(self._timer[0], POLLIN, self._tick, time.monotonic() + seconds)

    def _tick(self, _events: int) -> None:
        self._expired()
        if self._clock() < self._due:
            self._arm()
            return
        try:
            self._making = self._renew(lambda text: self._log.debug(text, "donjon.keep"))
        except DonjonError as error:
            self._failed(error)
            return
        self._reactor.add(self._making.fileno(), POLLIN, self._step, time.monotonic() + RENEWAL_SECONDS)

    def _step(self, events: int) -> None:
        making = self._making
        assert making is not None  # noqa: S101 - its descriptor called
        host = making.fileno()
        try:
            if not events:
                making.cancel()
                raise PlatformError(f"nothing came within {RENEWAL_SECONDS:g} s")
            made = making.step()
            if made is None:
                return
            self._replace(made)
        except DonjonError as error:
            self._making = None
            self._reactor.remove(host)
            self._failed(error)
        else:
            self._making = None
            self._reactor.remove(host)
            assert made.expires is not None  # noqa: S101 - only such are renewed
            self._log.info(f"the Keep's certificate is renewed, and valid until {_shown(made.expires)}")
            self._plan(made.expires)

    def _replace(self, made: Identity) -> None:
        from donjon.tls.context import show

        for context in self._contexts:
            show(context, made)
        self._identity = made
        self._told = False

    def _failed(self, error: DonjonError) -> None:
        assert self._identity is not None  # noqa: S101
        expires = self._identity.expires or 0.0
        longest = min(LONGEST_RETRY, max(expires - self._clock(), self._wait))
        wait = self._wait * (1 + JITTER * (2 * _random() - 1))
        words = error.message.replace("\n", "; ")
        self._log.warn(
            f"the Keep's certificate is not renewed: {words}; it expires at {_shown(expires)}, next attempt in "
            f"{wait:.0f} s"
        )
        self._due = self._clock() + wait
        self._wait = min(self._wait * 2, longest)
        self._expired()
        self._arm()


def _random() -> float:
    """0 to 1; `random` takes 8 ms to import."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


def _shown(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
