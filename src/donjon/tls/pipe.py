"""TLS 1.3 without I/O: ciphertext in, plaintext out, and the other way round.

Theory of operation. OpenSSL reads from one memory buffer (`feed` fills it) and writes to another (`take` empties it).
The pipe never waits: what cannot go on yet says so with a value (`False`, `STARVED`), and an exception means that the
connection is over. An exception costs more than a small message does (1.3 against 0.9 us), so it is kept off the
ordinary path: OpenSSL is only asked to read when there is something to read.

Three things are less simple than they look:

- *Readable is not ready.* A session ticket or a KeyUpdate makes a socket readable and holds no data. `prefetch`
  decrypts the beginning of the next record, so that a poller knows.
- *The end.* Data ends with the peer's close_notify, which is authenticated. A TCP connection that ends without one was
  cut, by whoever: `Truncated`. OpenSSL's buffer is never told of the end of TCP; the pipe keeps that to itself, because
  Python asks OpenSSL to take a cut for a clean end (OP_IGNORE_UNEXPECTED_EOF).
- *Half-close.* Python's `unwrap` calls SSL_shutdown twice, and the second call reads: it would take data that the peer
  sends for a violation of the protocol. So `close_notify` first hides from OpenSSL what is still to be read.

Memory: a pipe costs about 15 KiB. OpenSSL's two buffers grow to the largest amount that ever lay in them and stay so;
who feeds at most `FEED` bytes before reading keeps a pipe below 60 KiB (about 100 when fed 64 KiB at a time).

Source: RFC 8446, sections 4.6 (post-handshake messages), 5.1 (records), 6.1 (closure alerts).
"""

from __future__ import annotations

import _ssl
import ssl
from enum import Enum, auto

from donjon.errors import BugError, DonjonError, UsageError, VerifyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

STARVED = -1  # read_into, peek_into: nothing to read before more ciphertext comes
RECORD = 16_384  # bytes of plaintext that fit into one record
FEED = 5 + RECORD + 1 + 16  # bytes on the wire of a full record: header, plaintext, type, authentication tag
PREFETCH = 4_096  # bytes that `prefetch` decrypts ahead: a small message whole, of a large one the beginning
BULK = 4_096  # bytes; after a read this long more is probably there, and asking again (0.25 us) pays

HANDSHAKE_RECORD, ALERT_RECORD = 22, 21  # what a TLS peer's first byte can be
FORBIDDEN = bytes.fromhex("16 03 03 00 01 00")  # a handshake record that is not encrypted, after the handshake
HTTP_WORDS = (b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"CONN", b"TRAC", b"PATC", b"PRI ", b"HTTP")


class TlsError(VerifyError):
    """The TLS connection is over: the peer is not what it must be, spoke something else, or was tampered with."""


class Truncated(TlsError):  # noqa: N818  (says what happened to the data; it is the one that callers tell apart)
    """TCP ended before the peer said that it was done: data may be missing."""


class Unproven(TlsError):  # noqa: N818  (says what the peer is)
    """The peer has shown no certificate, or none that is accepted; it may well speak TLS as it should."""


class State(Enum):
    """How far a connection is."""

    HANDSHAKE = auto()
    OPEN = auto()
    WE_CLOSED = auto()
    """Our close_notify is sent; the peer may go on sending."""
    PEER_CLOSED = auto()
    """The peer's close_notify is read; we may go on sending."""
    CLOSED = auto()
    FAILED = auto()


class Event(Enum):
    """What moves a connection from state to state."""

    AGREED = auto()
    WE_CLOSE = auto()
    PEER_CLOSES = auto()
    FAULT = auto()


# fmt: off
S, E = State, Event
PATHS: dict[State, dict[Event, State]] = {
    S.HANDSHAKE:   {E.AGREED: S.OPEN, E.WE_CLOSE: S.CLOSED, E.FAULT: S.FAILED},
    S.OPEN:        {E.WE_CLOSE: S.WE_CLOSED, E.PEER_CLOSES: S.PEER_CLOSED, E.FAULT: S.FAILED},
    S.WE_CLOSED:   {E.PEER_CLOSES: S.CLOSED, E.FAULT: S.FAILED},
    S.PEER_CLOSED: {E.WE_CLOSE: S.CLOSED, E.FAULT: S.FAILED},
    S.CLOSED:      {},
    S.FAILED:      {},
}

# OpenSSL's reason -> our words. What is missing here is said in OpenSSL's words.
REASONS = {
    "HTTP_REQUEST":                       "peer spoke plain HTTP to a TLS port",
    "WRONG_VERSION_NUMBER":               "peer spoke no TLS: expected a record header (16 03), got something else",
    "UNSUPPORTED_PROTOCOL":               "peer does not offer TLS 1.3",
    "TLSV1_ALERT_PROTOCOL_VERSION":       "peer does not accept TLS 1.3",
    "NO_SHARED_CIPHER":                   "peer offers none of our cipher suites",
    "NO_SUITABLE_KEY_SHARE":              "peer offers none of our groups for the key exchange",
    "NO_SUITABLE_GROUPS":                 "peer offers none of our groups for the key exchange",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "a record is damaged or was altered on its way",
    "RECORD_LAYER_FAILURE":               "a record is damaged or was altered on its way",  # OpenSSL 3.2 on
    "PEER_DID_NOT_RETURN_A_CERTIFICATE":  "peer showed no certificate",
    "SSLV3_ALERT_UNEXPECTED_MESSAGE":     "peer refused: unexpected message (so a Keep ends what it does not accept)",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED":  "peer refused: it demands a certificate",
    "SSLV3_ALERT_BAD_RECORD_MAC":         "peer says that a record is damaged or was altered on its way",
}
# fmt: on


class TlsPipe:
    """One end of a TLS 1.3 connection.

    `feed(bytes)` takes ciphertext from the peer; `take()` gives ciphertext to send, `b""` if there is none. The two are
    methods of OpenSSL's buffers themselves, as a call through Python would cost as much as they do. After any error
    call `take` once more: it gives the alert that tells the peer why. Do not feed once `eof` or `closed` is true.

    Args:
        context: from `server_context` or `client_context`.
        server_side: whether we are the one who was connected to.
        server_hostname: the name or IP address that the peer's certificate must carry; needed on the client's side.
        peer: what messages call the peer, such as "example.com:443"; by default `server_hostname`.
    Raises:
        UsageError: `server_hostname` is no name, or is missing.
    """

    __slots__ = (
        "_ended",
        "_fault",
        "_final",
        "_greeted",
        "_held",
        "_incoming",
        "_object",
        "_outgoing",
        "_pending",
        "_read",
        "_write",
        "feed",
        "handshaken",
        "peer",
        "server_side",
        "state",
        "take",
    )

    feed: Callable[[bytes | bytearray | memoryview], int]
    take: Callable[[], bytes]

    def __init__(
        self, context: ssl.SSLContext, server_side: bool, server_hostname: str | None = None, peer: str | None = None
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        name = server_hostname and server_hostname.partition("%")[0].rstrip(".")  # neither zone nor root dot is sent
        if name is None and not server_side:  # Python would then verify the chain, and no name
            raise UsageError("cannot verify a peer without its name: a client needs `server_hostname`")
        try:
            outer = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=name)
        except ValueError as error:  # UnicodeError included
            raise UsageError(f"cannot verify a peer called {server_hostname!r}: {_plain(str(error))}") from error
        self._object = outer
        # The inner object has the same methods without a layer of Python around each. If it goes, the outer one does.
        inner: ssl.SSLObject = getattr(outer, "_sslobj", outer)
        self._read: Callable[..., int] = inner.read  # type: ignore[assignment]  # bytes when called without a buffer
        self._write: Callable[[bytes | bytearray | memoryview], int] = inner.write
        self._pending = inner.pending
        self.feed = self._incoming.write
        self.take = self._outgoing.read
        self._held = b""  # plaintext that was decrypted ahead
        self._ended = False  # TCP's end was reached: nothing more will be fed
        self._final = False  # what a read finds when everything is read is no longer STARVED, but an end or an error
        self._greeted = False  # the peer's first byte was looked at
        self._fault: TlsError | None = None
        self.state = State.HANDSHAKE
        self.handshaken = False
        self.server_side = server_side
        self.peer = peer or server_hostname

    def handshake(self) -> bool:
        """Go on with the handshake as far as the bytes fed so far allow.

        Returns:
            True when it is complete; False while more ciphertext is needed. Send what `take` gives in either case.
        Raises:
            TlsError: the peer speaks no TLS 1.3, or its certificate is not accepted; the pipe is dead.
        """
        if self.state is not State.HANDSHAKE:
            self._raise_fault()
            return True
        if not self._greeted:
            self._greet()
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            if self._ended:
                self._fail(Truncated("peer closed the connection during the TLS handshake" + self._who()))
                self._raise_fault()
            return False
        except OSError as error:
            self._fail(self._explain(error))
            self._raise_fault()
        self._move(Event.AGREED)
        self.handshaken = True
        return True

    def _greet(self) -> None:
        """Refuse a peer that speaks no TLS by its first byte, before OpenSSL spends anything on it."""
        if not self._incoming.pending:
            return
        head = self._incoming.read()
        self._greeted = True
        if head[0] in (HANDSHAKE_RECORD, ALERT_RECORD):
            self.feed(head)
            return
        if head.startswith(HTTP_WORDS):
            what = "peer spoke plain HTTP to a TLS port" if self.server_side else "peer spoke plain HTTP instead of TLS"
        else:
            what = f"peer spoke no TLS: expected a record header (16 03), got {head[:5].hex(' ')}"
        self._fail(TlsError(what + self._who()))
        self._raise_fault()

    def read_into(self, view: memoryview) -> int:
        """Decrypt into `view`, as much as fits and is there.

        Args:
            view: one dimension of bytes, writable, not empty.
        Returns:
            the number of bytes, at least 1; 0 when the peer has ended its data cleanly; `STARVED` when more ciphertext
            is needed. A short read does not mean that nothing is left: ask `prefetch`.
        Raises:
            Truncated: TCP ended before the peer's close_notify.
            TlsError: a record was altered, the peer sent an alert, ...; everything before it was read.
        """
        held = self._held
        if held:
            size = len(held)
            if size <= len(view):
                view[:size] = held
                self._held = b""
                return size if size < BULK else self._fill(view, size)
            size = len(view)
            view[:] = held[:size]
            self._held = held[size:]
            return size
        if not self._incoming.pending and not self._pending():
            return self._exhausted()
        room = len(view)
        try:
            size = self._read(room, view)
        except OSError as error:
            return self._stopped(error)
        if size:
            return size if size < BULK or size == room else self._fill(view, size)
        return self._peer_closed() if room else 0

    def _fill(self, view: memoryview, size: int) -> int:
        """Append further records to the `size` bytes in `view`; what stops that is found again by the next read."""
        room = len(view)
        while size < room and (self._incoming.pending or self._pending()):
            try:
                more = self._read(room - size, view[size:])
            except OSError as error:
                self._stopped(error, quiet=True)
                break
            if not more:
                self._peer_closed()
                break
            size += more
        return size

    def peek_into(self, view: memoryview) -> int:
        """Like `read_into`, but the bytes stay to be read again; never more than one record's worth of them."""
        wanted = min(len(view), RECORD)
        self.prefetch()
        while len(self._held) < wanted and (self._incoming.pending or self._pending()):
            before = len(self._held)
            self._hold(wanted - before)
            if len(self._held) == before:
                break
        size = min(len(self._held), wanted)
        if not size:
            return self._exhausted() if wanted else 0
        view[:size] = self._held[:size]
        return size

    def prefetch(self) -> bool:
        """Tell whether `read_into` has an answer: plaintext, the end, or an error. Decrypts at most one record's start.

        Returns:
            False when more ciphertext is needed, even though the socket may just have been readable.
        """
        if self._held:
            return True
        waiting = self._incoming.pending
        if waiting:
            # The plaintext is shorter than its ciphertext, so that a small message needs a small buffer only.
            self._hold(waiting if waiting < PREFETCH else PREFETCH)  # noqa: FURB136  (calling min takes 70 ns)
            if len(self._held):
                return True
        return self._final or self._pending() > 0

    def _hold(self, size: int) -> None:
        """Decrypt up to `size` bytes into `_held`."""
        try:
            more: bytes = self._read(size)  # type: ignore[assignment]
        except OSError as error:
            self._stopped(error, quiet=True)
            return
        if more:
            if len(more) == size < PREFETCH and self._pending():  # the record came in parts: `size` is its last one's
                more += self._read(self._pending())  # type: ignore[operator]
            self._held = self._held + more if self._held else more
        else:
            self._peer_closed()

    @property
    def buffered(self) -> int:
        """Bytes of plaintext that are ready now; there may be more in ciphertext that was fed and not yet looked at."""
        return len(self._held) + self._pending()

    def write(self, view: bytes | bytearray | memoryview) -> int:
        """Encrypt all of `view`; `take` then has the ciphertext (22 bytes more for each 16 KiB or part of it).

        Everything is accepted: to bound memory, write no more while `backlog` is high.

        Returns:
            the length of `view`.
        Raises:
            UsageError: the handshake is not complete, or `close_notify` was called before.
            TlsError: the connection has failed.
        """
        size = len(view)
        if size:
            try:
                self._write(view)
            except OSError as error:
                raise self._refuse(error) from error
        return size

    def seal(self, view: bytes | bytearray | memoryview) -> bytes:
        """`write` and `take` in one, for the ordinary case; keeps OpenSSL's buffer small when `view` is large."""
        size = len(view)
        if 0 < size <= RECORD:
            try:
                self._write(view)
            except OSError as error:
                raise self._refuse(error) from error
            return self.take()
        whole = memoryview(view)
        pieces = [self.take()]
        for start in range(0, size, RECORD):
            self.write(whole[start : start + RECORD])
            pieces.append(self.take())
        return b"".join(pieces)

    @property
    def backlog(self) -> int:
        """Bytes of ciphertext that wait for `take`."""
        return self._outgoing.pending

    def close_notify(self) -> None:
        """Tell the peer that we will send no more; reading goes on. Only the first call does something.

        During the handshake there is nothing to end: the pipe is closed, and nothing is sent.
        """
        if Event.WE_CLOSE not in PATHS[self.state]:
            return
        if self.state is State.HANDSHAKE:
            self._move(Event.WE_CLOSE)
            return
        # OpenSSL must see neither the rest of a record that is half read, nor ciphertext (theory of operation above).
        while (rest := self._pending()) and self._fault is None:
            self._hold(rest)
        unseen = self._incoming.read()
        try:
            self._object.unwrap()
        except ssl.SSLWantReadError:
            pass  # sent; the peer has not answered yet
        except OSError as error:
            self._fail(self._explain(error))
            return
        finally:
            self.feed(unseen)
        self._move(Event.WE_CLOSE)

    def feed_eof(self) -> None:
        """Say that TCP's end was reached: nothing more will be fed."""
        self._ended = self._final = True

    @property
    def eof(self) -> bool:
        """The peer has ended its data cleanly; some of it may still wait to be read."""
        return self.state in (State.PEER_CLOSED, State.CLOSED)

    @property
    def closed(self) -> bool:
        """Both ends are done, or the connection has failed."""
        return self.state in (State.CLOSED, State.FAILED)

    @property
    def suite(self) -> str | None:
        """The cipher suite by its name in RFC 8446, or None before there is one."""
        cipher = self._object.cipher()
        return cipher[0] if cipher else None

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate in DER, or None when it showed none."""
        return self._object.getpeercert(binary_form=True) if self.handshaken else None

    @property
    def peer_chain(self) -> tuple[bytes, ...]:
        """The peer's chain as OpenSSL has verified it, in DER: its own certificate first, the trusted root last.

        What the peer sent beside it is not there. Empty where no certificate was asked for, or none is verified yet.
        """
        if not self.handshaken:
            return ()
        public = getattr(self._object, "get_verified_chain", None)  # Python 3.13
        if public is not None:
            return tuple(public())
        inner = self._object._sslobj  # type: ignore[attr-defined]
        return tuple(one.public_bytes(_ssl.ENCODING_DER) for one in inner.get_verified_chain() or ())

    def refuse(self, reason: str, hint: str | None = None) -> None:
        """End a connection whose peer has kept the rules of TLS, but is not acceptable; `take` then gives an alert.

        Python has no way to send an alert of one's choice. But OpenSSL sends one when it meets a record that TLS 1.3
        forbids, and so it gets one to read: the peer hears «unexpected message», encrypted as everything is by now, and
        knows that it was refused and not cut off. Before the handshake is done, or after a fault, nothing is sent.
        """
        if self.state is not State.OPEN:
            return
        self._incoming.read()  # whatever the peer has sent by now, nobody wants it
        self._held = b""
        self.feed(FORBIDDEN)
        try:
            self._read(1)
        except OSError:
            pass
        self._fail(Unproven(reason + self._who(), hint))

    # What follows is off the ordinary path.

    def _exhausted(self) -> int:
        """The answer to a read when OpenSSL has nothing: an error, the end, or `STARVED`."""
        if not self._final:
            return STARVED
        self._raise_fault()
        if self.eof:
            return 0
        self._cut()
        self._raise_fault()
        return STARVED

    def _stopped(self, error: OSError, quiet: bool = False) -> int:
        """The answer to a read that OpenSSL did not fulfil; `quiet` leaves an error to the next read."""
        if isinstance(error, ssl.SSLZeroReturnError):
            return self._peer_closed()
        if isinstance(error, ssl.SSLWantReadError):
            if self._ended:
                self._cut()
        else:
            self._fail(self._explain(error))
        if not quiet:
            self._raise_fault()
        return STARVED

    def _peer_closed(self) -> int:
        """Note the peer's close_notify; OpenSSL reports it again at each read."""
        if Event.PEER_CLOSES in PATHS[self.state]:
            self._move(Event.PEER_CLOSES)
        return 0

    def _cut(self) -> None:
        self._fail(Truncated("peer's data was cut short: TCP ended without close_notify" + self._who()))

    def _refuse(self, error: OSError) -> DonjonError:
        """What a failed write means."""
        if self.state in (State.WE_CLOSED, State.CLOSED):
            return UsageError("write after close_notify")
        if self.state is State.HANDSHAKE:
            return UsageError("write before the TLS handshake is complete")
        self._fail(self._explain(error))
        return self._copy_of_fault() or BugError(f"TLS pipe: cannot write in state {self.state.name}")

    def _move(self, event: Event) -> None:
        state = PATHS[self.state].get(event)
        if state is None:
            raise BugError(f"TLS pipe: {event.name} cannot happen in state {self.state.name}")
        self.state = state
        self._final = self._ended or self.eof or self.closed

    def _fail(self, fault: TlsError) -> None:
        """Remember the first fault; those that follow are its echo."""
        if self._fault is None and Event.FAULT in PATHS[self.state]:
            self._fault = fault
            self._write = _dead  # OpenSSL knows nothing of a cut, and would go on writing
            self._move(Event.FAULT)

    def _raise_fault(self) -> None:
        copy = self._copy_of_fault()
        if copy is not None:
            raise copy from copy.__cause__

    def _copy_of_fault(self) -> TlsError | None:
        """A fresh exception each time: one that was raised holds its callers' frames, and these hold guest memory."""
        fault = self._fault
        if fault is None:
            return None
        copy = type(fault)(fault.message, fault.hint)
        copy.__cause__ = fault.__cause__
        return copy

    def _who(self) -> str:
        return f" (peer {self.peer})" if self.peer else ""

    def _explain(self, error: OSError) -> TlsError:
        """OpenSSL's error in our words."""
        hint, kind = None, TlsError
        reason = getattr(error, "reason", None) or ""
        if isinstance(error, ssl.SSLCertVerificationError):
            what = f"certificate verify failed: {_plain(error.verify_message)}"
            hint, kind = HINTS.get(error.verify_code), Unproven
        elif reason in REASONS:
            what = REASONS[reason]
            kind = Unproven if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE" else TlsError
        elif "_ALERT_" in reason:
            what = f"peer refused: {_plain(reason.partition('_ALERT_')[2])}"
        else:
            what = f"TLS failed: {_plain(reason or error.strerror or str(error))}"
        fault = kind(what + self._who(), hint)
        fault.__cause__ = error.with_traceback(None)
        return fault


def _dead(_view: bytes | bytearray | memoryview) -> int:
    raise OSError("the connection has failed")


# fmt: off
TRUST = "if its issuer is to be trusted, name a file with the issuer's certificate (PEM) in SSL_CERT_FILE"
HINTS = {  # X509_V_ERR_*, x509_vfy.h
    10: "check the clocks of both machines",                            # expired
    9:  "check the clocks of both machines",                            # not yet valid
    18: TRUST, 19: TRUST, 20: TRUST, 21: TRUST,                         # self-signed, unknown issuer
    62: "connect by a name that is in the peer's certificate",          # host name mismatch
    64: "connect by an IP address that is in the peer's certificate",   # IP address mismatch
}
# fmt: on


def _plain(text: str) -> str:
    """OpenSSL's or Python's text as we write: no tags around it, words, lower case at the start, no period."""
    if text.startswith("["):
        text = text.partition("] ")[2]
    text = text.partition(" (_ssl.c")[0].rstrip(".")
    if text.isupper():
        text = text.replace("_", " ").lower()
    return text[:1].lower() + text[1:]
