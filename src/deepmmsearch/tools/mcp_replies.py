"""What a program writes as an MCP server, read so that nobody waits for a reply that is none."""

from __future__ import annotations

import json
import re
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import ReadStream
    from mcp.shared.message import SessionMessage

_ID = re.compile(r'"id"\s*:\s*(\d{1,15})\b')
_PART = re.compile(r'"(jsonrpc|id|method|result|error)"\s*:')
MALFORMED = -32700
"""JSON-RPC's parse error."""


class Replies:
    """The reading end of a program's messages. A reply that is no message becomes an error for who waits for it; other
    lines, which programs print beside their messages, are dropped."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception]) -> None:
        self._stream = stream

    async def receive(self) -> SessionMessage | Exception:
        from mcp.shared.message import SessionMessage
        from mcp_types import ErrorData, JSONRPCError

        while True:
            item = await self._stream.receive()
            if not isinstance(item, Exception):
                return item
            if (asked := replied_to(_line(item))) is not None:
                said = ErrorData(code=MALFORMED, message="its reply is not a message of MCP")
                return SessionMessage(JSONRPCError(jsonrpc="2.0", id=asked, error=said))

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        from anyio import EndOfStream

        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def replied_to(line: str) -> int | None:
    """The number of the request that a line which is no message means to answer; None where it means none."""
    parts = set(_PART.findall(line[:200])) if line.lstrip().startswith("{") else set()
    found = _ID.search(line)
    if found is None or "method" in parts or not parts & {"jsonrpc", "result", "error"}:
        return None
    return int(found[1])


def _line(error: Exception) -> str:
    """What could not be read: pydantic keeps the text, or the object where it is JSON."""
    errors = getattr(error, "errors", None)
    for each in errors(include_url=False) if errors is not None else ():
        if isinstance(each["input"], dict):
            return json.dumps(each["input"])
        if each["type"] == "json_invalid":
            return str(each["input"])
    return ""
