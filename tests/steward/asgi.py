"""A client that calls an application in memory: no socket, no thread, whatever bytes one wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def call_async(
    app: ASGIApp,
    method: str,
    target: str,
    body: bytes | Iterable[bytes] = b"",
    kind: str | None = None,
    length: str | None = None,
    stop: bool = False,
) -> Reply:
    """Send one request.

    Args:
        body: or its parts as they arrive.
        kind: the content type. length: of the body, as the client claims it; without it, as it is.
        stop: the client goes away after the body's parts.
    """
    parts = [body] if isinstance(body, bytes) else list(body)
    headers = [(b"content-type", kind.encode())] if kind is not None else []
    claimed = length if length is not None else str(sum(map(len, parts))) if isinstance(body, bytes) else None
    headers += [(b"content-length", claimed.encode())] if claimed is not None else []
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": stop or number + 1 < len(parts)}
        for number, part in enumerate(parts)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        if not stop:
            await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    content = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return Reply(start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, content)


def call(app: ASGIApp, method: str, target: str, body: bytes | Iterable[bytes] = b"", **options: Any) -> Reply:
    return asyncio.run(call_async(app, method, target, body, **options))
