"""What every request passes before a door sees it: the server's name, the page it comes from, its size and its pace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepmmsearch.hosts import Hosts

# a body that comes to a standstill for so long is not waited for
SECONDS = 30.0
# sentences of the page
_CODES = {413: "large_body", 408: "slow_body"}
_TOO_LATE = f"Nothing more of the request came for {SECONDS:g} s."
_GONE: Message = {"type": "http.disconnect"}
_Refuse = Callable[[], Awaitable[None]]
MOST_VALUES = 500_000
"""Lists, objects and their parts in a body: each takes a hundred times the memory of its bytes once it is read."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Border:
    """Refuses what calls the server by another name or comes from a page of another site, and bodies of more than
    `most` bytes; adds headers that tell browsers to be careful."""

    def __init__(self, app: ASGIApp, hosts: Hosts, most: int) -> None:
        self._app, self._hosts, self._most = app, hosts, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        arrived = str((scope.get("server") or ("127.0.0.1", None))[0])
        refusal = self._hosts.refuse(headers, arrived)
        if refusal is not None:
            await _say(send, refusal.status, refusal.reason)
            return
        told = next((value for name, value in headers if name.lower() == "content-length"), "0")
        if not told.isdecimal() or len(told) > 20 or int(told) > self._most:
            await _say(send, 413, self._too_large, _CODES[413])
            return
        sent = _Sent(send)

        async def refuse(status: int, reason: str) -> None:
            if not sent.began:
                await _say(send, status, reason, _CODES[status])
            sent.closed = True

        body = _Body(receive, self._most, lambda: refuse(413, self._too_large), lambda: refuse(408, _TOO_LATE))
        try:
            await self._app(scope, body, sent)
        # what was refused looks to the app as if its client had gone
        except Exception:
            if not sent.closed:
                raise

    @property
    def _too_large(self) -> str:
        return f"At most {self._most} bytes and {MOST_VALUES} values are taken. Send less, or smaller pictures."


class _Body:
    """What the app receives: no more than `most` bytes and MOST_VALUES values, none of them late. After the body it
    waits for the client to hang up, as long as that may take."""

    def __init__(self, receive: Receive, most: int, too_large: _Refuse, too_late: _Refuse) -> None:
        self._receive, self._left, self._whole = receive, most, False
        self._too_large, self._too_late = too_large, too_late
        self._values = MOST_VALUES

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(SECONDS):
                message = await self._receive()
        except TimeoutError:
            await self._too_late()
            return _GONE
        body = message.get("body", b"")
        self._left -= len(body)
        # neither stands in base64
        self._values -= body.count(b",") + body.count(b"[") + body.count(b"{")
        if self._left < 0 or self._values < 0:
            await self._too_large()
            return _GONE
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message


class _Sent:
    """Notes whether a reply has begun, and adds HEADERS to it; once `closed`, nothing more is sent."""

    def __init__(self, send: Send) -> None:
        self._send, self.began, self.closed = send, False, False

    async def __call__(self, message: Message) -> None:
        if self.closed:
            return
        if message["type"] == "http.response.start":
            self.began = True
            named = {name.lower() for name, _ in message.get("headers", ())}
            more = [header for header in HEADERS if header[0] not in named]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await self._send(message)


async def _say(send: Send, status: int, reason: str, code: str | None = None) -> None:
    body = json.dumps({"error": {"message": reason, "type": "invalid_request_error", "code": code}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *HEADERS]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
