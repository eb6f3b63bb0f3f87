"""MCP servers, through the SDK: their tools, and what these give back. Nothing that a server says is believed."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from PIL.Image import Image
from pydantic import ValidationError

from deepmmsearch.agent.lines import cut, one_line
from deepmmsearch.agent.metering import calling, received
from deepmmsearch.agent.protocols import OfferedTool, ToolReply
from deepmmsearch.errors import MissingExtra, ToolError
from deepmmsearch.redaction import Redaction
from deepmmsearch.tools.http import GuardedClient
from deepmmsearch.tools.mcp_replies import NOT_A_MESSAGE, Replies
from deepmmsearch.tools.thumbnails import open_image

if TYPE_CHECKING:
    import httpx2
    from mcp import Client

T = TypeVar("T")
Opened = Callable[[], AbstractAsyncContextManager[Any]]
MOST_TOOLS, MOST_PICTURES = 500, 4
LONGEST_REPLY, LONGEST_SCHEMA, LARGEST_PICTURE = 200_000, 200_000, 10_000_000
STARTING = 60.0
"""Seconds for a program to start and for a server to greet."""
_CLOSED, _CLOSING = -32000, ("Connection closed", "SSE stream ")
"""What the SDK says of a connection that is gone; of other words with this code a server is the author."""


class McpServer:
    """ToolServer. `opened` connects: `program` or `address`. It is connected to when it is needed, for all event loops
    of this process by a thread of its own, and again where it is gone. `timeout`: seconds for one answer; `secrets`:
    what it is sent, which does not come back."""

    def __init__(self, name: str, opened: Opened, timeout: float = 30.0, secrets: Iterable[str] = ()) -> None:
        """Raises MissingExtra."""
        try:
            import mcp  # noqa: F401
        except ImportError:
            raise MissingExtra("MCP servers as tools", "mcp") from None
        # each line that is no message would be written to the terminal, with a traceback
        for logger in ("mcp.client", "mcp.shared", "client"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        self.name, self.timeout = name, timeout
        self._opened, self._redaction = opened, Redaction(secrets)
        self._line: tuple[int, _Line] | None = None
        self._lock = threading.Lock()
        self._late = 0  # answers in a row that did not come in time

    async def offered(self) -> list[OfferedTool]:
        return await self._ask(self._listed)

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolReply:
        with calling("mcp", self.name):
            result = await self._ask(lambda client: _called(client, tool, arguments))
            text, pictures = _contents(result)
            received(len(text.encode("utf-8", "replace")) + sum(map(len, pictures)))
            text = self._redaction.text(text)
            if result.is_error:
                raise ToolError(f"The tool failed. It says: {cut(one_line(text), 500) or 'nothing'}")
            return ToolReply(text, tuple([await self._picture(content) for content in pictures]))

    def close(self) -> None:
        with self._lock:
            if self._line is not None and self._line[0] == os.getpid():
                self._line[1].end()
            self._line = None

    async def _listed(self, client: Client) -> list[OfferedTool]:
        found: list[OfferedTool] = []
        cursor: str | None = None
        while len(found) < MOST_TOOLS:
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                schema = json.dumps(tool.input_schema)
                if len(schema) <= LONGEST_SCHEMA:
                    about = cut(self._redaction.text(tool.description or ""), LONGEST_REPLY)
                    found.append(OfferedTool(tool.name[:200], about, schema))
            cursor = page.next_cursor
            if not cursor or not page.tools:
                break
        return found[:MOST_TOOLS]

    async def _picture(self, content: bytes) -> Image:
        if len(content) > LARGEST_PICTURE:
            raise ToolError(f"A picture of {len(content):,} bytes came back, more than {LARGEST_PICTURE:,}.")
        return await open_image(content)

    async def _ask(self, request: Callable[[Client], Awaitable[T]]) -> T:
        from mcp import MCPError

        line = self._connected()
        try:
            async with asyncio.timeout(STARTING):
                # shielded: who gives up waiting must not end it for the others
                loop, client = await asyncio.shield(asyncio.wrap_future(line.ready))
            async with asyncio.timeout(self.timeout):
                made = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_made(request, client), loop))
            self._late = 0
            return made
        except TimeoutError:
            seconds = self.timeout
            self._late += 1
            # one slow answer costs nobody else's; a server that gives none may be writing without end
            if not line.ready.done() or self._late > 1:
                self._drop(line)
                self._late = 0
                seconds = self.timeout if line.ready.done() else STARTING
            raise ToolError(f"The MCP server {self.name} did not answer within {seconds:g} s.") from None
        except MCPError as error:
            if error.data is NOT_A_MESSAGE:
                raise ToolError(f"The MCP server {self.name} sent a reply that is not a message of MCP.") from None
            if error.code == _CLOSED and error.message.startswith(_CLOSING):
                self._drop(line)
                raise ToolError(f"The MCP server {self.name} ended before it answered.") from None
            said = cut(one_line(self._redaction.text(error.message)), 500)
            raise ToolError(f"The MCP server {self.name} refuses: {said}") from None
        # the border to the SDK and to whatever a server makes it raise
        except Exception as error:
            self._drop(line)
            cause = _cause(error)
            if isinstance(cause, ToolError):
                said = self._redaction.text(str(cause))
            else:
                said = "its answer is not in MCP's form" if isinstance(cause, ValidationError) else type(cause).__name__
            raise ToolError(f"The MCP server {self.name} cannot be used: {said}") from None

    def _connected(self) -> _Line:
        with self._lock:
            # a forked process has none of its parent's threads
            if self._line is None or self._line[0] != os.getpid():
                self._line = os.getpid(), _Line(self._opened)
            return self._line[1]

    def _drop(self, line: _Line) -> None:
        with self._lock:
            if self._line is not None and self._line[1] is line:
                self._line = None
        line.end()


class _Line:
    """A connection, held open by a thread. `ready`: its event loop and the SDK's client."""

    def __init__(self, opened: Opened) -> None:
        self.ready: Future[tuple[asyncio.AbstractEventLoop, Client]] = Future()
        self._over = threading.Event()
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        threading.Thread(target=lambda: asyncio.run(self._hold(opened)), name="mcp", daemon=True).start()

    def end(self) -> None:
        self._over.set()
        if self._task is not None:
            loop, task = self._task
            with suppress(RuntimeError):  # it is over already
                loop.call_soon_threadsafe(task.cancel)

    async def _hold(self, opened: Opened) -> None:
        from mcp import Client

        task = asyncio.current_task()
        assert task is not None
        self._task = asyncio.get_running_loop(), task
        try:
            if self._over.is_set():
                raise asyncio.CancelledError
            # no cache: it would take a server's word for how long its answers hold
            async with Client(opened(), cache=None) as client:
                self.ready.set_result((self._task[0], client))
                await asyncio.Event().wait()
        except BaseException as error:
            if not self.ready.done():
                gone = ToolError("it ended before it answered")
                self.ready.set_exception(gone if isinstance(error, asyncio.CancelledError) else error)


def program(command: Sequence[str], environ: Mapping[str, str]) -> Opened:
    """A program that speaks over standard input and output. Besides PATH, HOME and the like it gets `environ` alone;
    it ends when its input does."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Any, None]:
        from mcp import StdioServerParameters
        from mcp.client.stdio import stdio_client

        parameters = StdioServerParameters(
            command=command[0], args=list(command[1:]), env=dict(environ), encoding_error_handler="replace"
        )
        # what it says there would reach the terminal as it is
        with Path(os.devnull).open("w") as nowhere:
            async with stdio_client(parameters, errlog=nowhere) as (read, write):
                yield Replies(read), write

    return opened


def address(url: str, client: GuardedClient, headers: Mapping[str, str], timeout: float) -> Opened:
    """A server over HTTP, through the guarded client's connections."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Any, None]:
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        guarded = httpx2.AsyncClient(
            transport=client.transport(),
            event_hooks={"response": [_refuse_packed]},
            headers={"User-Agent": client.user_agent, **headers, "Accept-Encoding": "identity"},
            # its stream of events may be silent for longer than an answer may take
            timeout=httpx2.Timeout(timeout, read=300),
            trust_env=False,
        )
        async with guarded, streamable_http_client(url, http_client=guarded) as streams:
            yield streams

    return opened


async def _refuse_packed(reply: httpx2.Response) -> None:
    """The connections bound what is sent; nothing would bound what that unpacks to."""
    if reply.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ToolError("it answers in a compressed form that was not asked for")


async def _made(request: Callable[[Client], Awaitable[T]], client: Client) -> T:
    return await request(client)


async def _called(client: Client, tool: str, arguments: Mapping[str, Any]) -> Any:
    from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult

    asked = CallToolRequest(params=CallToolRequestParams(name=tool, arguments=dict(arguments)))
    # not call_tool: that would check the answer against a schema, with patterns, that the server chose
    return await client.session.send_request(asked, CallToolResult)


def _contents(result: Any) -> tuple[str, list[bytes]]:
    """What it says, and its pictures as they came."""
    texts: list[str] = []
    pictures: list[bytes] = []
    for part in result.content:
        within = getattr(part, "resource", part)
        if isinstance(text := getattr(within, "text", None), str):
            texts.append(text)
        elif getattr(part, "type", "") == "image" and len(pictures) < MOST_PICTURES:
            try:
                pictures.append(base64.b64decode(part.data[: LARGEST_PICTURE * 2], validate=True))
            except (binascii.Error, ValueError):
                raise ToolError("A picture came back that is not in base64.") from None
        elif uri := getattr(within, "uri", None):
            texts.append(f"{getattr(within, 'name', '') or ''} {uri}".strip())
    if not texts and not pictures and result.structured_content is not None:
        texts.append(json.dumps(result.structured_content, ensure_ascii=False))
    return "\n".join(texts)[:LONGEST_REPLY], pictures


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
