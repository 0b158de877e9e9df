"""A Steward as its client sees it: certificates for a request, over HTTPS, from a service that may be anything.

    client = Client("https://steward.example.com", context, say)
    chain = client.certify(lambda nonce: make_request(nonce))         # DER, the leaf first; nothing is verified yet

Two protocols. Ours: `GET /v1/nonce`, then `POST /v1/attest` with a request whose evidence binds that nonce. Enarx's,
where the Steward answers 404 or 405 to the first: `POST` of the request to the address itself, a PkiPath comes back.
Nothing else makes it fall back: a Steward of ours that fails is not taken for one that knows no nonces.

The answer is read as hostile. Every exchange has a deadline as a whole, every body a size; redirects are not followed,
types are compared, JSON has no name twice. What is wrong with the chain itself, `donjon.identity` finds out.

Whose fault it is decides what happens: a Steward that cannot be reached, or says that it cannot answer now (429, 502,
503, 504), is asked again, a few times, later each time. One that refuses is not: the same question has the same answer.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import random
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from donjon.errors import DonjonError, ParseError, PlatformError, UsageError, VerifyError, words_of
from donjon.log import printable
from donjon.wire.der import SEQUENCE, Der

__all__ = ["ATTEMPTS", "MAX_CERTIFICATES", "Client", "RefusedError", "UnreachableError"]

EXCHANGE_SECONDS = 15.0
"""A request and its whole answer, from the name's resolution to the last byte."""
TOTAL_SECONDS = 60.0
"""All attempts and the waits between them."""
ATTEMPTS = 5
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0
"""Seconds between attempts: doubled each time, plus or minus a quarter. A longer Retry-After is cut to the longest."""
MAX_ANSWER = 256 * 1024
MAX_CERTIFICATES = 8
MAX_NONCE = 255
MAX_DETAIL, MAX_CHECKS = 400, 8
"""Characters of the Steward's own words in a message, and how many failed checks."""

PKCS10 = "application/pkcs10"
PKI_PATH = "application/pkix-pkipath"
JSON = "application/json"
PROBLEM = "application/problem+json"
LATER = (429, 502, 503, 504)
HINT = "check `steward` in Enarx.toml and that the service runs; a Keep does not run without its certificate"

Say = Callable[[str], None]
Dial = Callable[[str, int, Callable[[], float]], socket.socket]
R = TypeVar("R")


class UnreachableError(PlatformError):
    """The Steward cannot be asked now; `after` is how long it wants to be left alone, in seconds."""

    def __init__(self, message: str, hint: str | None = None, after: float | None = None) -> None:
        super().__init__(message, hint)
        self.after = after


class RefusedError(VerifyError):
    """The Steward has judged, and refused. The message has its reasons."""


class _TimedSocket(ssl.SSLSocket):
    """Reads until a moment, not for so long at a time: a peer that sends a byte now and then cannot hold it."""

    end = 0.0  # set by _Connection; on the clock of time.monotonic

    def recv_into(self, *args: Any, **more: Any) -> int:
        self.settimeout(_left(self.end))
        return super().recv_into(*args, **more)

    def sendall(self, *args: Any, **more: Any) -> None:
        self.settimeout(_left(self.end))
        super().sendall(*args, **more)


class _Connection(http.client.HTTPSConnection):
    """One exchange, with a deadline for all of it."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, end: float, dial: Dial) -> None:
        super().__init__(host, port, context=context)
        self._tls = context
        self._end = end
        self._dial = dial

    def connect(self) -> None:
        """Reach it, and shake hands."""
        raw = self._dial(self.host, self.port, lambda: _left(self._end))
        try:
            raw.settimeout(_left(self._end))
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wrapped = self._tls.wrap_socket(raw, server_hostname=self.host)
            assert isinstance(wrapped, _TimedSocket)  # noqa: S101 - the context says so
            wrapped.end = self._end
            self.sock = wrapped
        except BaseException:
            raw.close()
            raise


def dial(host: str, port: int, left: Callable[[], float]) -> socket.socket:
    """Reach the first address that answers.

    Args:
        left: how many seconds there are; it raises TimeoutError when there are none.
    Raises:
        OSError, UnicodeError: none does.
    """
    problem: OSError = OSError("no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        raw = socket.socket(family, kind, protocol)
        try:
            raw.settimeout(left())
            raw.connect(address)
        except OSError as error:
            raw.close()
            problem = error
            continue
        return raw
    raise problem


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class Client:
    """A Steward.

    Args:
        url: its address, https.
        context: how TLS with it is made; it verifies certificate and name. It belongs to this client from now on.
        say: told about each attempt that failed and will be made again.
        attempts: how often it is asked at most.
        dial: how it is reached, where not from here.
    Raises:
        UsageError: the URL is none that a Steward can have.
    """

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext,
        say: Say = lambda _text: None,
        attempts: int | None = None,
        dial: Dial = dial,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme.lower() != "https" or not parts.hostname or parts.username is not None:
            raise UsageError(f"steward {url!r}: expected https://HOST, without a user")
        if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
            raise UsageError("a Steward is only spoken to over TLS that verifies its certificate and name")
        context.sslsocket_class = _TimedSocket
        self._context = context
        self._host, self._port = parts.hostname, parts.port or 443
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._base = parts.path.rstrip("/")
        self._say = say
        self._attempts = ATTEMPTS if attempts is None else attempts
        self._dial = dial
        self.name = f"the Steward {printable(url)}"

    def certify(self, request: Callable[[bytes | None], bytes], descriptor: bytes | None = None) -> tuple[bytes, ...]:
        """Ask for a certificate.

        Args:
            request: makes a PKCS#10 request, DER, whose evidence binds this nonce; None where the Steward has none. It
                is called once for each attempt.
            descriptor: the launch descriptor, for policies that name packages; a Steward of Enarx's does not get it.
        Returns:
            2 to MAX_CERTIFICATES certificates in DER, the leaf first; not verified.
        Raises:
            UnreachableError: it could not be asked, or not now, as often as it was tried.
            RefusedError: it refused.
            VerifyError: TLS with it failed.
            ParseError: it answered with something else than its protocol.
        """
        end = time.monotonic() + TOTAL_SECONDS
        wait = FIRST_WAIT
        for attempt in range(1, self._attempts + 1):
            try:
                return self._attempt(request, descriptor, end)
            except UnreachableError as error:
                pause = wait * random.uniform(0.75, 1.25)  # noqa: S311 - so that Keeps do not come back all at once
                if error.after is not None:
                    pause = max(pause, min(error.after, LONGEST_WAIT))
                if attempt == self._attempts or time.monotonic() + pause >= end:
                    times = f"; it was asked {attempt} times" if attempt > 1 else ""
                    raise UnreachableError(error.message + times, error.hint, error.after) from error
                self._say(f"{error.message}; asking again in {pause:.1f} s")
                time.sleep(pause)
                wait = min(wait * 2, LONGEST_WAIT)
        raise UsageError(f"attempts: expected at least 1, got {self._attempts}")

    def _attempt(
        self, request: Callable[[bytes | None], bytes], descriptor: bytes | None, end: float
    ) -> tuple[bytes, ...]:
        nonce = self._nonce(end)
        made = request(nonce)
        if nonce is None:
            body = self._exchange(end, "POST", self._target, made, PKCS10, PKI_PATH)
            return self._read(lambda: _pki_path(body))
        asked = {"request": base64.b64encode(made).decode(), "nonce": base64.urlsafe_b64encode(nonce).decode()}
        if descriptor is not None:
            asked["descriptor"] = base64.b64encode(descriptor).decode()
        body = self._exchange(end, "POST", f"{self._base}/v1/attest", json.dumps(asked).encode(), JSON, JSON)
        return self._read(lambda: _chain(body))

    def _nonce(self, end: float) -> bytes | None:
        """A nonce, or None from a Steward that knows none: 404 or 405, and a whole answer."""
        status, kind, body, _ = self._raw(end, "GET", f"{self._base}/v1/nonce", None, "", JSON)
        if status in (404, 405):
            return None
        self._expect(status, kind, body, JSON, None)
        return self._read(lambda: _nonce_in(body))

    def _exchange(self, end: float, method: str, target: str, body: bytes, kind: str, accept: str) -> bytes:
        status, came, answer, after = self._raw(end, method, target, body, kind, accept)
        self._expect(status, came, answer, accept, after)
        return answer

    def _expect(self, status: int, kind: str, body: bytes, wanted: str, after: float | None) -> None:
        if status == 200:
            if kind != wanted:
                raise ParseError(f"{self.name}: expected an answer of type {wanted}, got {_short(kind, 60) or 'none'}")
            return
        if 300 <= status < 400:
            raise ParseError(
                f"{self.name}: expected an answer, got a redirect ({status}), which is not followed",
                "write the address that it leads to as `steward` in Enarx.toml, if you trust it",
            )
        words = _problem(kind, body)
        if status in LATER:
            raise UnreachableError(f"{self.name} cannot answer now ({status}){words}", HINT, after)
        if 400 <= status < 500:
            raise RefusedError(
                f"{self.name} refuses ({status}){words}",
                "its policy decides, and its operator can read more in its record; the Keep does not run without its "
                "certificate",
            )
        raise PlatformError(f"{self.name}: expected an answer, got status {status}{words}", "its log says more")

    def _raw(
        self, end: float, method: str, target: str, body: bytes | None, kind: str, accept: str
    ) -> tuple[int, str, bytes, float | None]:
        """Status, media type, body and Retry-After of one exchange."""
        end = min(end, time.monotonic() + EXCHANGE_SECONDS)
        connection = _Connection(self._host, self._port, self._context, end, self._dial)
        headers = {"Accept": f"{accept}, {PROBLEM}", "Connection": "close", "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = kind
        try:
            connection.request(method, target, body, headers)
            with connection.getresponse() as reply:
                size = reply.getheader("Content-Length") or "0"
                if not size.isascii() or not size.isdigit() or len(size) > 9 or int(size) > MAX_ANSWER:
                    raise ParseError(f"{self.name}: expected at most {MAX_ANSWER} bytes, got {_short(size, 20)}")
                answer = reply.read(MAX_ANSWER + 1)
                if len(answer) > MAX_ANSWER:
                    raise ParseError(f"{self.name}: expected at most {MAX_ANSWER} bytes, got more")
                if reply.length:  # of Content-Length, what did not come
                    raise ConnectionError("connection closed in the middle of the answer")
                came = (reply.getheader("Content-Type") or "").partition(";")[0].strip().lower()
                return reply.status, came, answer, _seconds(reply.getheader("Retry-After"))
        except DonjonError:
            raise
        except ssl.SSLCertVerificationError as error:
            raise VerifyError(
                f"{self.name}: its certificate is not to be trusted: {_short(error.verify_message, 200)}",
                "its certificate must lead to a root of this system; for a private one, name it in [roots] of "
                "Enarx.toml and write `steward_ca`",
            ) from error
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, http.client.RemoteDisconnected, ConnectionError) as error:
            raise self._unreachable(error, "cannot be reached") from error
        except ssl.SSLError as error:
            raise VerifyError(
                f"{self.name}: no TLS with it: {_short(error.reason or str(error), 80).lower().replace('_', ' ')}",
                "it must speak TLS 1.3 at this address and port; `donjon steward serve` does with --tls-crt, --tls-key",
            ) from error
        except TimeoutError as error:
            raise UnreachableError(f"{self.name} did not answer within {EXCHANGE_SECONDS:g} s", HINT) from error
        except (OSError, UnicodeError) as error:
            raise self._unreachable(error, "cannot be reached") from error
        except http.client.IncompleteRead as error:
            raise UnreachableError(f"{self.name} stopped in the middle of its answer", HINT) from error
        except (http.client.HTTPException, ValueError) as error:
            raise ParseError(f"{self.name}: expected HTTP, got something else ({type(error).__name__})") from error
        finally:
            connection.close()

    def _unreachable(self, error: Exception, what: str) -> UnreachableError:
        words = words_of(error) if isinstance(error, OSError | UnicodeError) else str(error)
        return UnreachableError(f"{self.name} {what}: {_short(words, 200)}", HINT)

    def _read(self, read: Callable[[], R]) -> R:
        try:
            return read()
        except ParseError as error:
            raise ParseError(f"{self.name} answered with something else than certificates: {error.message}") from error


def _pki_path(data: bytes) -> tuple[bytes, ...]:
    """The certificates of a PkiPath, the leaf first.   [RFC 6066, section 10.1: the leaf is the last]"""
    source = Der(data, "PkiPath")
    path = source.sequence()
    source.end()
    found: list[bytes] = []
    while path.left:
        if len(found) == MAX_CERTIFICATES:
            raise path.refuse("certificate", f"at most {MAX_CERTIFICATES}", "more")
        found.append(path.whole(SEQUENCE, "certificate"))
    return _enough(tuple(reversed(found)))


def _chain(body: bytes) -> tuple[bytes, ...]:
    chain = _object(body).get("chain")
    if not isinstance(chain, list) or len(chain) > MAX_CERTIFICATES:
        raise ParseError(f"chain: expected an array of at most {MAX_CERTIFICATES} certificates")
    return _enough(tuple(_decoded(item, "chain", b"+/") for item in chain))


def _enough(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
    if len(chain) < 2:
        raise ParseError(f"chain: expected a certificate and who has signed it, got {len(chain)} certificates")
    return chain


def _nonce_in(body: bytes) -> bytes:
    nonce = _decoded(_object(body).get("nonce"), "nonce", b"-_")
    if not 16 <= len(nonce) <= MAX_NONCE:
        raise ParseError(f"nonce: expected 16 to {MAX_NONCE} bytes, got {len(nonce)}")
    return nonce


def _decoded(value: object, name: str, letters: bytes) -> bytes:
    if isinstance(value, str):
        try:
            return base64.b64decode(value + "=" * (-len(value) % 4), altchars=letters, validate=True)
        except (ValueError, binascii.Error):
            pass
    raise ParseError(f"{name}: expected base64{'url' if letters == b'-_' else ''}")


def _object(body: bytes) -> dict[str, Any]:
    """A JSON object in which no name stands twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ParseError("expected each name once in a JSON object")
        return found

    try:
        found = json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ParseError("expected JSON") from error
    if not isinstance(found, dict):
        raise ParseError("expected a JSON object")
    return found


def _problem(kind: str, body: bytes) -> str:
    """What the Steward says about it: the detail and the failed checks of a problem document, or a line of text.

    It goes into a message for a terminal: bounded, and without what a terminal would obey.
    Source: RFC 9457, section 3; `checks` is ours.
    """
    if kind == "text/plain":
        text = _short(body[: 4 * MAX_DETAIL].decode("utf-8", "replace").strip(), MAX_DETAIL)
        return f": {text}" if text else ""
    if kind != PROBLEM:
        return ""
    try:
        found = _object(body)
    except ParseError:
        return ""
    lines = []
    detail = found.get("detail") or found.get("title")
    if isinstance(detail, str):
        lines.append(_short(detail, MAX_DETAIL))
    checks = found.get("checks")
    failed = [
        check
        for check in (checks if isinstance(checks, list) else [])
        if isinstance(check, dict) and check.get("outcome") == "failed"
    ]
    for check in failed[:MAX_CHECKS]:
        name, wanted, came = (_short(str(check.get(key, "")), MAX_DETAIL) for key in ("name", "demanded", "found"))
        line = f"{name}: expected {wanted}, got {came}"
        if line not in lines:
            lines.append(line)
    if len(failed) > MAX_CHECKS:
        lines.append(f"and {len(failed) - MAX_CHECKS} more")
    return ": " + "\n".join(lines) if lines else ""


def _short(text: str, most: int) -> str:
    return printable(text if len(text) <= most else text[: most - 1] + "…")


def _seconds(value: str | None) -> float | None:
    """Retry-After in seconds; as a date it is not read, the own wait holds then."""
    return float(value) if value and value.isascii() and value.isdigit() and len(value) <= 9 else None
