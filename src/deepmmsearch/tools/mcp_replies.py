"""What a program writes as an MCP server, read so that nobody waits for a reply that is none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import ReadStream
    from mcp.shared.message import SessionMessage

# a string, whether it is a name, and the number that follows it; it backtracks nowhere, and takes a string without end
_TOKEN = re.compile(r'"((?:[^"\\]+|\\.)*+)"?(\s*+:(?:\s*+(\d{1,15})(?=\s*+[,}]|\s*+\Z))?)?|[{}\[\]]', re.DOTALL)
_ENDS = {"{": "}", "[": "]"}
NOT_A_MESSAGE = object()
"""What the error that is ours alone holds as its data: a server's own may have any code and words."""


class Replies:
    """The reading end of a program's messages. A reply that is no message becomes an error for who waits for it; other
    lines, which programs print beside their messages, are dropped."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception]) -> None:
        self._stream = stream

    async def receive(self) -> SessionMessage | Exception:
        from mcp.shared.message import SessionMessage
        from mcp_types import PARSE_ERROR, ErrorData, JSONRPCError

        while True:
            item = await self._stream.receive()
            if not isinstance(item, Exception):
                return item
            if (asked := replied_to(_line(item))) is not None:
                said = ErrorData(code=PARSE_ERROR, message="its reply is not a message of MCP", data=NOT_A_MESSAGE)
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
    names, ids = set[str](), set[str | None]()
    for name, number in _outermost(line):
        names.add(name)
        if name == "id":
            ids.add(number)
    if "method" in names or not names & {"jsonrpc", "result", "error"} or len(ids) != 1:
        return None
    (asked,) = ids
    return None if asked is None else int(asked)


def _outermost(line: str) -> Iterator[tuple[str, str | None]]:
    """The names of the object that a line begins with, and the whole numbers that they stand for, as far as it can be
    told what lies in what."""
    if not line.lstrip().startswith("{"):
        return
    open_ends: list[str] = []
    for found in _TOKEN.finditer(line):
        if (mark := found[0]) in _ENDS:
            open_ends.append(_ENDS[mark])
        elif mark in _ENDS.values():
            if open_ends.pop() != mark or not open_ends:
                return
        elif len(open_ends) == 1 and found[2]:
            yield found[1], found[3]


def _line(error: Exception) -> str:
    """What could not be read: pydantic keeps the text, or the object where it is JSON."""
    errors = getattr(error, "errors", None)
    for each in errors(include_url=False) if errors is not None else ():
        if isinstance(each["input"], dict):
            return json.dumps(each["input"])
        if each["type"] == "json_invalid":
            return str(each["input"])
    return ""
