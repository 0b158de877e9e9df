"""The Steward over HTTP: Enarx's interface, ours beside it, and a listener for operators.

    POST /                    a request, or a bundle of them, in DER; certificates in DER       (Enarx)
    GET  /                    200                                                               (Enarx)
    GET  /v1/nonce            a nonce for evidence to bind
    POST /v1/attest           a request and a nonce in JSON; a certificate, or the reasons
    POST /v1/verdict          the same, without a certificate: what would be decided
    GET  /v1/trust-anchors    whom to trust, and what this Steward accepts
    GET  /v1/record           the record's end, to be kept; /v1/record/<serial> the entry of a certificate
    GET  /v1/problems/<name>  what an error means
    GET  /v1/openapi.json     all of this for programs

Operators have /livez, /readyz, /metrics and the whole record on a listener of their own.

What arrives is hostile: a body is refused by its length before it is read, has ten seconds to arrive, and is of one
type; JSON has no name twice. Errors are problem documents (RFC 9457) with every check that was made. Enarx's statuses:
400 for what is malformed or refused, 401 for a request without evidence; below /v1 a refusal is 403.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from donjon.errors import DonjonError, ParseError, PlatformError
from donjon.steward._openapi import document
from donjon.steward.answer import decision_dict
from donjon.steward.endorsement import MAX_SENT, Proofs
from donjon.steward.endorsement import read as read_endorsement
from donjon.steward.nonce import SIZE
from donjon.steward.procedure import Ground
from donjon.steward.record import Entry
from donjon.steward.request import MAX_BUNDLE, MAX_REQUEST, parse_bundle
from donjon.steward.service import Answer, BusyError, Service
from donjon.tee.contract import shown

PKCS10 = "application/pkcs10"
BUNDLE = "application/vnd.steward.pkcs10-bundle.v1"
PKI_PATH = "application/pkix-pkipath"
PROBLEM = "application/problem+json"
MAX_JSON = MAX_REQUEST * 4 // 3 + 256 * 1024
"""A request, a launch descriptor, and statements."""
BODY_SECONDS = 10.0
MAX_ENTRIES = 1000
"""Of the record in one answer."""
PROBLEMS = {
    "busy": "Too many decisions wait for the disk. Come again after the time that Retry-After gives.",
    "collateral": "A vendor's service did not answer yet, and without it the evidence cannot be judged. Come again.",
    "content-type": "The body is of a type that this path does not take.",
    "internal": "A mistake of the service; its log says more.",
    "malformed": "What was sent is not what its format demands. `detail` says where and what was expected.",
    "method": "This path is there, but not for this method.",
    "not-found": "There is no such path, or no such thing.",
    "refused": "The evidence is not genuine or not acceptable. `checks` has every question that was asked.",
    "timeout": "The body took too long to arrive.",
    "too-large": "The body is longer than this path takes.",
    "unattested": "The request carries no evidence, or that of several TEEs.",
    "unavailable": "The service cannot issue now, for a reason of its own. Come again later.",
}
"""Types of problems: /v1/problems/<name>, where the text can be read."""

Handler = Callable[[Service, Request], Awaitable[Response]]
Routes = dict[str, dict[str, Handler]]

_STATUS_ENARX = {Ground.MALFORMED: 400, Ground.UNATTESTED: 401, Ground.REFUSED: 400}
_STATUS = {Ground.MALFORMED: 400, Ground.UNATTESTED: 401, Ground.REFUSED: 403}
_MEMBERS = {"request", "nonce", "descriptor", "endorsements"}
_NO_STORE = {"Cache-Control": "no-store"}


class ProblemError(Exception):
    """An answer that is not what was asked for."""

    def __init__(self, status: int, kind: str, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.members = members

    def response(self) -> Response:
        """As a problem document."""
        found = {
            "type": f"/v1/problems/{self.kind}",
            "title": self.kind.replace("-", " "),
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }
        headers = dict(_NO_STORE)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Attestation"
        if self.status == 503:
            headers["Retry-After"] = "1"
        return Response(json.dumps(found, ensure_ascii=False), self.status, headers, PROBLEM)


def public(service: Service) -> ASGIApp:
    """What Keeps and relying parties talk to."""
    about = document()
    routes: Routes = {
        "/": {"GET": _health, "POST": _enarx},
        "/v1/nonce": {"GET": _nonce},
        "/v1/attest": {"POST": _attest},
        "/v1/verdict": {"POST": _verdict},
        "/v1/trust-anchors": {"GET": _anchors},
        "/v1/record": {"GET": _head},
        "/v1/record/{serial}": {"GET": _entry},
        "/v1/problems/{kind}": {"GET": _problem},
        "/v1/openapi.json": {"GET": lambda _service, _request: _ready(JSONResponse(about))},
    }
    return _application(service, routes)


def admin(service: Service) -> ASGIApp:
    """What operators and their programs talk to."""
    routes: Routes = {
        "/livez": {"GET": lambda _service, _request: _ready(PlainTextResponse("ok\n"))},
        "/readyz": {"GET": _readyz},
        "/metrics": {"GET": _metrics},
        "/v1/record": {"GET": _entries},
    }
    return _application(service, routes)


def _application(service: Service, routes: Routes) -> ASGIApp:
    """Routes, with one place where every error becomes an answer and every answer is counted."""

    def endpoint(path: str, handlers: dict[str, Handler]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            try:
                response = await handlers[method](service, request)
            except ProblemError as problem:
                response = problem.response()
            except ClientDisconnect:
                response = Response(status_code=400)  # nobody reads it
            except DonjonError as error:
                response = _of_error(service, error).response()
            except Exception as error:
                service.log.error(f"{path}: {type(error).__name__}: {error}", target="donjon.steward")
                response = ProblemError(500, "internal", "a mistake of this service").response()
            service.metrics.count("requests_total", route=path, status=str(response.status_code))
            return response

        return answer

    found = Starlette(
        routes=[Route(path, endpoint(path, handlers), methods=[*handlers]) for path, handlers in routes.items()]
    )
    found.router.redirect_slashes = False  # to where a request's Host says
    return _Strangers(found, service)


class _Strangers:
    """Gives a problem document where the framework would answer in plain text: an unknown path, another method."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        problem: ProblemError | None = None
        allowed = ""

        async def watch(message: Message) -> None:
            nonlocal problem, allowed
            if message["type"] == "http.response.start" and message["status"] in (404, 405) and not _is_ours(message):
                missing = message["status"] == 404
                kind, detail = ("not-found", "no such path") if missing else ("method", "another method")
                problem = ProblemError(message["status"], kind, detail)
                allowed = next((value.decode() for name, value in message["headers"] if name == b"allow"), "")
                return
            if problem is None:
                await send(message)

        await self._app(scope, receive, watch)
        if problem is not None:
            self._service.metrics.count("requests_total", route="other", status=str(problem.status))
            response = problem.response()
            if allowed:
                response.headers["Allow"] = allowed
            await response(scope, receive, send)


def _is_ours(message: Message) -> bool:
    return (b"content-type", PROBLEM.encode()) in message["headers"]


def _of_error(service: Service, error: DonjonError) -> ProblemError:
    if isinstance(error, BusyError):
        return ProblemError(503, "busy", error.message)
    if isinstance(error, PlatformError):
        service.log.error(error.message, target="donjon.steward")
        return ProblemError(503, "unavailable", "the service cannot issue now")  # what is wrong, operators read
    if isinstance(error, ParseError):
        return ProblemError(400, "malformed", error.message)
    service.log.error(error.message, target="donjon.steward")
    return ProblemError(500, "internal", "a mistake of this service")


# Enarx's interface


async def _health(_service: Service, _request: Request) -> Response:
    return Response()


async def _enarx(service: Service, request: Request) -> Response:
    kind = _media_type(request)
    if kind not in (PKCS10, BUNDLE):
        raise ProblemError(400, "content-type", f"expected {PKCS10} or {BUNDLE}")
    body = await read_body(request, MAX_REQUEST if kind == PKCS10 else MAX_BUNDLE)
    answers = await service.attest([body] if kind == PKCS10 else parse_bundle(body))
    issued = tuple(answer.issued for answer in answers if answer.issued is not None)
    if len(issued) < len(answers):
        raise refusal(next(answer for answer in answers if not answer.decision.accepted), _STATUS_ENARX)
    authority = service.authority
    if kind == PKCS10:
        return Response(authority.pki_path(issued[0]), headers=_NO_STORE, media_type=PKI_PATH)
    return Response(authority.output(issued), headers=_NO_STORE, media_type="application/octet-stream")


def refusal(answer: Answer, statuses: dict[Ground, int]) -> ProblemError:
    """The reasons, all of them."""
    decision = answer.decision
    ground = decision.ground or Ground.REFUSED
    detail = str(decision.failure) if decision.failure else "refused"
    found = decision_dict(decision)
    kind = {Ground.MALFORMED: "malformed", Ground.UNATTESTED: "unattested", Ground.REFUSED: "refused"}[ground]
    members = {name: found[name] for name in ("tee", "at", "policy", "request", "evidence", "checks")}
    if answer.later:
        return ProblemError(503, "collateral", detail, **members, record=_place(answer))
    return ProblemError(statuses[ground], kind, detail, **members, record=_place(answer))


# Ours


async def _nonce(service: Service, _request: Request) -> Response:
    value, end = service.nonce()
    return JSONResponse({"nonce": base64url(value), "expires": shown(end)}, headers=_NO_STORE)


async def _attest(service: Service, request: Request) -> Response:
    data, nonce, proofs = await _asked(request)
    (answer,) = await service.attest([data], nonce, proofs=proofs)
    issued = answer.issued
    if issued is None:
        raise refusal(answer, _STATUS)
    grant = answer.decision.require()
    path = (issued.der, *reversed(service.authority.path))
    found = {
        "chain": [base64.b64encode(item).decode() for item in path],
        "serial": f"{issued.serial:032x}",
        "instance": issued.instance,
        "not_after": shown(issued.not_after),
        "markers": list(grant.markers),
        "notes": list(grant.notes),
        "record": _place(answer),
    }
    return JSONResponse(found, headers=_NO_STORE)


async def _verdict(service: Service, request: Request) -> Response:
    data, nonce, proofs = await _asked(request)
    (answer,) = await service.attest([data], nonce, issue=False, proofs=proofs)
    if answer.decision.ground in (Ground.MALFORMED, Ground.UNATTESTED):
        raise refusal(answer, _STATUS)
    return JSONResponse({**decision_dict(answer.decision), "record": _place(answer)}, headers=_NO_STORE)


async def _anchors(service: Service, _request: Request) -> Response:
    general = service.policy.general
    found = {
        "anchors": [service.authority.anchor.public_bytes(Encoding.PEM).decode()],
        "issuers": [item.public_bytes(Encoding.PEM).decode() for item in service.authority.chain[:-1]],
        "accept_unattested": general.accept_unattested,
        "require_nonce": general.require_nonce,
        "tees": [name for name in general.tees if name in service.trust],
        "simulated": sorted(name for name, item in service.trust.items() if any(r.simulated for r in item.roots)),
        "policy": service.policy.digest.hex(),
    }
    return JSONResponse(found, headers={"Cache-Control": "public, max-age=300"})


async def _head(service: Service, _request: Request) -> Response:
    head = await service.look(lambda book: book.head())  # others may write to the same record
    return JSONResponse({"entries": head.seq, "hash": head.hash.hex()}, headers=_NO_STORE)


async def _entry(service: Service, request: Request) -> Response:
    text = request.path_params["serial"]
    if len(text) != 32 or not all(letter in "0123456789abcdef" for letter in text):
        raise ProblemError(400, "malformed", "serial: expected 32 hex digits")
    entry = await service.look(lambda book: book.of_serial(int(text, 16)))
    if entry is None:
        raise ProblemError(404, "not-found", "no certificate of this serial number was issued here")
    return JSONResponse(_entry_dict(entry), headers=_NO_STORE)


async def _problem(_service: Service, request: Request) -> Response:
    text = PROBLEMS.get(request.path_params["kind"])
    if text is None:
        raise ProblemError(404, "not-found", "no such problem")
    return PlainTextResponse(text + "\n")


async def _asked(request: Request) -> tuple[bytes, bytes | None, Proofs]:
    """The request, the nonce, and what speaks for the workload, in a JSON body."""
    if _media_type(request) != "application/json":
        raise ProblemError(415, "content-type", "expected application/json")
    found = read_json(await read_body(request, MAX_JSON))
    if not isinstance(found, dict) or not {"request"} <= set(found) <= _MEMBERS:
        raise ProblemError(
            400, "malformed", "expected an object with request, and any of nonce, descriptor, endorsements"
        )
    proofs = _proofs(found)
    given = found.get("nonce")
    data = _decoded(found["request"], "request", b"+/")
    if given is None:
        return data, None, proofs
    nonce = _decoded(given, "nonce", b"-_")
    if len(nonce) != SIZE:
        raise ProblemError(400, "malformed", f"nonce: expected {SIZE} bytes, got {len(nonce)}")
    return data, nonce, proofs


def _proofs(found: dict[str, Any]) -> Proofs:
    """The launch descriptor and the statements in a body."""
    descriptor = found.get("descriptor")
    data = None if descriptor is None else _decoded(descriptor, "descriptor", b"+/")
    sent = found.get("endorsements", [])
    if not isinstance(sent, list) or len(sent) > MAX_SENT:
        raise ProblemError(400, "malformed", f"endorsements: expected a list of at most {MAX_SENT}")
    for item in sent:
        if not isinstance(item, dict):
            raise ProblemError(400, "malformed", "endorsements: expected objects")
    return Proofs(data, tuple(read_endorsement(item) for item in sent))


def _decoded(value: object, name: str, letters: bytes) -> bytes:
    if isinstance(value, str):
        try:
            return base64.b64decode(value + "=" * (-len(value) % 4), altchars=letters, validate=True)
        except (ValueError, binascii.Error):
            pass
    raise ProblemError(400, "malformed", f"{name}: expected base64{'url' if letters == b'-_' else ''}")


def _place(answer: Answer) -> dict[str, Any]:
    return {"entry": answer.head.seq, "hash": answer.head.hash.hex()}


def _entry_dict(entry: Entry) -> dict[str, Any]:
    return {"entry": entry.seq, "hash": entry.hash.hex(), "body": entry.body}


# For operators


async def _readyz(service: Service, _request: Request) -> Response:
    problems = service.ready()
    found = {
        "ready": not problems,
        "problems": problems,
        "accept_unattested": service.policy.general.accept_unattested,
        "policy": service.policy.digest.hex(),
        "authority_not_after": shown(service.authority.not_after),
        "record_entries": service.writer.head.seq,
    }
    return JSONResponse(found, 503 if problems else 200, _NO_STORE)


async def _metrics(service: Service, _request: Request) -> Response:
    return Response(service.scrape(), headers=_NO_STORE, media_type="text/plain; version=0.0.4")


async def _entries(service: Service, request: Request) -> Response:
    after, limit = (_number(request, name, default) for name, default in (("after", 0), ("limit", 100)))
    entries = await service.look(lambda book: book.read(after, min(limit, MAX_ENTRIES)))
    return JSONResponse({"entries": [_entry_dict(entry) for entry in entries]}, headers=_NO_STORE)


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ProblemError(400, "malformed", f"{name}: expected a number")
    return int(text)


# What arrives


async def read_body(request: Request, most: int) -> bytes:
    """The body.

    Raises:
        ProblemError: it is longer than `most` (413), or takes longer than BODY_SECONDS (408).
    """
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 12) or int(length) > most:
        raise ProblemError(413, "too-large", f"expected at most {most} bytes")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise ProblemError(413, "too-large", f"expected at most {most} bytes")
                parts.append(part)
    except TimeoutError as error:
        raise ProblemError(408, "timeout", f"expected the body within {BODY_SECONDS:.0f} seconds") from error
    return b"".join(parts)


def read_json(data: bytes) -> Any:
    """A JSON text without a name twice in one object, and without NaN.

    Raises:
        ProblemError: it is none.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ProblemError(400, "malformed", "expected each name once in an object")
        return found

    def constant(name: str) -> None:
        raise ProblemError(400, "malformed", f"expected JSON, got {name}")

    try:
        return json.loads(data.decode(), object_pairs_hook=once, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, "malformed", "expected JSON in UTF-8") from error


def base64url(data: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _ready(response: Response) -> Response:
    return response
