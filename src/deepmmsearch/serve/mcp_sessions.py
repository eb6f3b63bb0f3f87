"""Who may open a session of MCP over HTTP, and how many at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepmmsearch.serve.callers import Callers, key_of
from deepmmsearch.serve.refusals import NoKey

SESSION, VERSION = "mcp-session-id", "mcp-protocol-version"


@dataclass
class _Session:
    """`asking`: requests that are under way, `used`: when the last one ended."""

    owner: str
    used: float
    asking: int = 0


class Keyed:
    """Lets in who has a key, before a session is begun; each caller to its own sessions alone, of which it may have
    `most` at once. `idle`: seconds after which a session that asks nothing is forgotten by `app`."""

    def __init__(
        self, app: ASGIApp, callers: Callers, most: int, idle: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app, self._callers, self._most, self._idle, self._clock = app, callers, most, idle, clock
        self._sessions: dict[str, _Session] = {}
        self._opening: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            owner = self._callers.find(key_of(headers, {})).name
        except NoKey as error:
            await JSONResponse({"error": str(error)}, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        id = headers.get(SESSION)
        if id is not None:
            await self._continue(id, owner, scope, receive, send)
        elif headers.get(VERSION) in (None, *HANDSHAKE_PROTOCOL_VERSIONS):
            await self._open(owner, scope, receive, send)
        else:
            # of this version each request stands alone
            await self._app(scope, receive, send)

    async def _open(self, owner: str, scope: Scope, receive: Receive, send: Send) -> None:
        now = self._clock()
        self._sessions = {i: s for i, s in self._sessions.items() if s.asking or now - s.used < self._idle}
        count = sum(session.owner == owner for session in self._sessions.values()) + self._opening[owner]
        if count >= self._most:
            told = (
                f"{count} sessions of yours are open, as many as you may have. End one, or wait until one is forgotten."
            )
            await JSONResponse({"error": told}, 503)(scope, receive, send)
            return

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                begun = Headers(raw=message["headers"]).get(SESSION)
                self._sessions |= {} if begun is None else {begun: _Session(owner, self._clock())}
            await send(message)

        self._opening[owner] += 1
        try:
            await self._app(scope, receive, noting)
        finally:
            self._opening[owner] -= 1

    async def _continue(self, id: str, owner: str, scope: Scope, receive: Receive, send: Send) -> None:
        session = self._sessions.get(id)
        if session is None or session.owner != owner:
            await JSONResponse({"error": "There is no such session of yours. Begin a new one."}, 404)(
                scope, receive, send
            )
            return
        session.asking += 1
        try:
            await self._app(scope, receive, send)
        finally:
            session.asking, session.used = session.asking - 1, self._clock()
            if scope["method"] == "DELETE":
                self._sessions.pop(id, None)
