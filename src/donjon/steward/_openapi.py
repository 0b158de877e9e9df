"""The service's interface for programs, as OpenAPI 3.1. A test compares it with the routes and with real answers."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_NUMBER = {"type": "integer", "minimum": 0}
_BASE64 = {"type": "string", "contentEncoding": "base64"}
_BINARY = {"type": "string", "format": "binary"}
_DIGEST = {"type": "string", "pattern": "^([0-9a-f]{64})?$", "description": "SHA-256 in hex; empty where there is none"}
_SERIAL = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_TIME = {"type": "string", "format": "date-time"}


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any], about: str) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _problem(about: str) -> dict[str, Any]:
    return {"description": about, "content": {"application/problem+json": {"schema": _ref("Problem")}}}


_SCHEMAS: dict[str, Any] = {
    "Place": _object({"entry": _NUMBER, "hash": _DIGEST}),
    "Check": _object(
        {
            "name": _TEXT,
            "outcome": {"enum": ["passed", "failed", "not applicable"]},
            "found": _TEXT,
            "demanded": _TEXT,
            "spec": _TEXT,
        },
        note=_TEXT,
    ),
    "Problem": _object(
        {"type": {"type": "string", "format": "uri-reference"}, "title": _TEXT, "status": _NUMBER, "detail": _TEXT},
        tee=_TEXT,
        at=_TIME,
        policy=_DIGEST,
        request=_DIGEST,
        evidence=_DIGEST,
        checks=_list(_ref("Check")),
        record=_ref("Place"),
    ),
    "Question": {
        **_object(
            {"request": {**_BASE64, "description": "PKCS#10 in DER"}},
            nonce={"type": "string", "description": "base64url, from /v1/nonce"},
            descriptor={**_BASE64, "description": "the launch descriptor whose digest the evidence binds"},
            endorsements={
                **_list(_ref("Endorsement")),
                "maxItems": 8,
                "description": "statements about the launch or its package, by signers that the policy names",
            },
        ),
        "additionalProperties": False,
    },
    "Endorsement": _object(
        {
            "payloadType": {"const": "application/vnd.in-toto+json"},
            "payload": _BASE64,
            "signatures": {**_list(_object({"keyid": _DIGEST, "sig": _BASE64})), "minItems": 1, "maxItems": 4},
        }
    ),
    "Nonce": _object({"nonce": {"type": "string", "description": "base64url"}, "expires": _TIME}),
    "Certificate": _object(
        {
            "chain": {**_list(_BASE64), "description": "DER, the Keep's own certificate first"},
            "serial": _SERIAL,
            "instance": {"type": "string", "format": "uuid"},
            "not_after": _TIME,
            "markers": _list({"enum": ["simulated", "unprotected"]}),
            "notes": _list(_TEXT),
            "record": _ref("Place"),
        }
    ),
    "Verdict": _object(
        {
            "accepted": _FLAG,
            "tee": _TEXT,
            "ground": {"enum": ["", "refused"]},
            "at": _TIME,
            "policy": _DIGEST,
            "request": _DIGEST,
            "evidence": _DIGEST,
            "checks": _list(_ref("Check")),
            "record": _ref("Place"),
        },
        report={"type": "object"},
        grant={"type": "object"},
    ),
    "Anchors": _object(
        {
            "anchors": {**_list(_TEXT), "description": "PEM"},
            "issuers": {**_list(_TEXT), "description": "PEM"},
            "accept_unattested": _FLAG,
            "require_nonce": _FLAG,
            "tees": _list(_TEXT),
            "simulated": _list(_TEXT),
            "policy": _DIGEST,
        }
    ),
    "Head": _object({"entries": _NUMBER, "hash": _DIGEST}),
    "Entry": _object({"entry": _NUMBER, "hash": _DIGEST, "body": _TEXT}),
}

_PROBLEMS = {
    "400": _problem("malformed"),
    "401": _problem("a request without evidence"),
    "403": _problem("evidence that is not genuine or not acceptable, with every check"),
    "408": _problem("the body took too long"),
    "413": _problem("the body is too long"),
    "415": _problem("another content type"),
    "500": _problem("a mistake of the service"),
    "503": _problem("busy, the record cannot be written, or a vendor has not answered yet"),
}


def document() -> dict[str, Any]:
    """The whole document."""
    from donjon import __version__

    question = {"required": True, "content": {"application/json": {"schema": _ref("Question")}}}
    serial = {"name": "serial", "in": "path", "required": True, "schema": _SERIAL}
    no_refusal = {status: problem for status, problem in _PROBLEMS.items() if status != "403"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Donjon Steward",
            "version": __version__,
            "summary": "Evidence in, certificate out.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/": {
                "get": {
                    "summary": "Is it there",
                    "operationId": "health",
                    "responses": {"200": {"description": "yes"}},
                },
                "post": {
                    "summary": "Certificates as Enarx's clients ask for them",
                    "operationId": "enarx",
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/pkcs10": {"schema": _BINARY},
                            "application/vnd.steward.pkcs10-bundle.v1": {"schema": _BINARY},
                        },
                    },
                    "responses": {
                        "200": {
                            "description": "PkiPath, or for a bundle SEQUENCE { chain, issued }, in DER",
                            "content": {
                                "application/pkix-pkipath": {"schema": _BINARY},
                                "application/octet-stream": {"schema": _BINARY},
                            },
                        },
                        **{status: _PROBLEMS[status] for status in ("400", "401", "408", "413", "500", "503")},
                    },
                },
            },
            "/v1/nonce": {
                "get": {
                    "summary": "A nonce for evidence to bind, good for five minutes",
                    "operationId": "nonce",
                    "responses": {"200": _json(_ref("Nonce"), "a nonce")},
                }
            },
            "/v1/attest": {
                "post": {
                    "summary": "A certificate for a key that evidence binds",
                    "operationId": "attest",
                    "requestBody": question,
                    "responses": {"200": _json(_ref("Certificate"), "a certificate"), **_PROBLEMS},
                }
            },
            "/v1/verdict": {
                "post": {
                    "summary": "What would be decided, without a certificate",
                    "operationId": "verdict",
                    "requestBody": question,
                    "responses": {"200": _json(_ref("Verdict"), "accepted or refused"), **no_refusal},
                }
            },
            "/v1/trust-anchors": {
                "get": {
                    "summary": "Whom to trust, and what this Steward accepts",
                    "operationId": "anchors",
                    "responses": {"200": _json(_ref("Anchors"), "roots and flags")},
                }
            },
            "/v1/record": {
                "get": {
                    "summary": "The record's end; whoever keeps it can see later that nothing was cut off",
                    "operationId": "head",
                    "responses": {
                        "200": _json(_ref("Head"), "how many entries, and the last one's hash"),
                        "503": _PROBLEMS["503"],
                    },
                }
            },
            "/v1/record/{serial}": {
                "get": {
                    "summary": "The entry of a certificate",
                    "operationId": "entry",
                    "parameters": [serial],
                    "responses": {
                        "200": _json(_ref("Entry"), "the entry as it was hashed"),
                        "400": _problem("not a serial number"),
                        "404": _problem("no such certificate"),
                        "503": _PROBLEMS["503"],
                    },
                }
            },
            "/v1/problems/{kind}": {
                "get": {
                    "summary": "What a type of error means",
                    "operationId": "problem",
                    "parameters": [{"name": "kind", "in": "path", "required": True, "schema": _TEXT}],
                    "responses": {
                        "200": {"description": "a sentence", "content": {"text/plain": {"schema": _TEXT}}},
                        "404": _problem("no such type"),
                    },
                }
            },
            "/v1/openapi.json": {
                "get": {
                    "summary": "This document",
                    "operationId": "openapi",
                    "responses": {"200": _json({"type": "object"}, "OpenAPI 3.1")},
                }
            },
        },
        "components": {"schemas": _SCHEMAS},
    }
