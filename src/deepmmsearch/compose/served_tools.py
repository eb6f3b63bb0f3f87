"""Tools of the MCP servers that a recipe names."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING

from deepmmsearch.agent.protocols import OfferedTool, ToolServer
from deepmmsearch.agent.table import SERVED, Tool
from deepmmsearch.compose.tool_settings import McpServerSettings
from deepmmsearch.errors import MissingExtra, ToolError, UserError
from deepmmsearch.redaction import public_address

if TYPE_CHECKING:
    from deepmmsearch.tools.http import GuardedClient
    from deepmmsearch.tools.recorder import Recorder

ClientFor = Callable[[Sequence[str], Sequence[str], Sequence[str]], "GuardedClient"]


def served_tools(
    servers: Sequence[McpServerSettings], client_for: ClientFor, environ: Mapping[str, str], recorder: Recorder | None
) -> tuple[Tool, ...]:
    """Each server is asked what it offers. Raises UserError, also where it lacks a tool that is named; MissingExtra."""
    from deepmmsearch.tools.served_tool import ServedTool

    made: dict[str, Tool] = {}
    for settings in servers:
        server = _recorded(settings, client_for, environ, recorder)
        for offered in _chosen(settings, _offered(server)):
            tool = ServedTool(offered, server, settings.limit)
            if tool.name in made:
                raise UserError(f"Two tools would be called {tool.name}. Give one of the servers another name.")
            made[tool.name] = tool
    return tuple(made.values())


def tool_server(settings: McpServerSettings, client_for: ClientFor, environ: Mapping[str, str]) -> ToolServer:
    """Nothing is started or connected to yet. Raises UserError for a variable or program that is not there;
    MissingExtra."""
    if find_spec("mcp") is None:
        raise MissingExtra("MCP servers as tools", "mcp")
    from deepmmsearch.tools.mcp_server import McpServer, address, program
    from deepmmsearch.tools.providers.catalog import find_key
    from deepmmsearch.tools.recorder import named_secrets

    name = f"{SERVED}{settings.name}"
    if settings.url is None:
        if shutil.which(settings.command[0]) is None:
            raise UserError(f"There is no program {settings.command[0]!r} for the MCP server {settings.name}.")
        for variable in settings.variables:
            if variable not in environ:
                raise UserError(f"The MCP server {settings.name} needs {variable}. Set {variable} in the environment.")
        passed = {variable: environ[variable] for variable in settings.variables}
        return McpServer(name, program(settings.command, passed), settings.timeout, named_secrets(passed))
    keys = [find_key(name, settings.key_variable, environ)] if settings.key_variable else []
    bearer = "Bearer " if settings.key_header.lower() == "authorization" else ""
    headers = {settings.key_header: bearer + keys[0]} if keys else {}
    client = client_for([settings.url], [settings.url], keys)
    return McpServer(name, address(settings.url, client, headers, settings.timeout), settings.timeout, keys)


def _recorded(
    settings: McpServerSettings, client_for: ClientFor, environ: Mapping[str, str], recorder: Recorder | None
) -> ToolServer:
    replaying = recorder is not None and recorder.mode == "replay"
    server = None if replaying else tool_server(settings, client_for, environ)
    if recorder is None:
        assert server is not None
        return server
    from deepmmsearch.tools.recorded import RecordedToolServer

    place = public_address(settings.url) if settings.url else list(settings.command)
    return RecordedToolServer(server, recorder, {"provider": f"{SERVED}{settings.name}", "server": place})


def _offered(server: ToolServer) -> list[OfferedTool]:
    try:
        # a toolbox may be put together within an event loop
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: asyncio.run(_asked(server))).result()
    except ToolError as error:
        raise UserError(f"{error} Repair it, or remove it from mcp.") from None


async def _asked(server: ToolServer) -> list[OfferedTool]:
    return await server.offered()


def _chosen(settings: McpServerSettings, offered: Sequence[OfferedTool]) -> list[OfferedTool]:
    known = {tool.name: tool for tool in offered}
    for name in settings.tools:
        if name not in known:
            there = ", ".join(sorted(known))[:500] or "none"
            raise UserError(f"The MCP server {settings.name} has no tool {name!r}. It has: {there}.")
    return [known[name] for name in dict.fromkeys(settings.tools)]
