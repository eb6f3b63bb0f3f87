"""The application: what all doors have in common, and the doors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deepmmsearch.hosts import Hosts
from deepmmsearch.serve.account import CONTENT_TYPE
from deepmmsearch.serve.bodies import refused
from deepmmsearch.serve.border import Border
from deepmmsearch.serve.callers import key_of
from deepmmsearch.serve.house import House
from deepmmsearch.serve.mcp_door import make_mcp
from deepmmsearch.serve.mcp_sessions import Keyed
from deepmmsearch.serve.openai_api import openai_routes
from deepmmsearch.serve.page_api import page_routes
from deepmmsearch.serve.refusals import NoKey

# of a body: pictures in base64, and texts
ROOM_FOR_TEXT = 4_000_000
MCP_BYTES = 32_000_000
# of one caller's hosts: each takes some 40 kB, and is forgotten when it says nothing for so many seconds
MCP_SESSIONS, MCP_IDLE = 2_000, 900.0


def make_app(house: House) -> Border:
    """The server's ASGI application, with its border around it. Raises UserError for names and origins that are not."""

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "playing": house.room.playing, "waiting": house.room.waiting})

    async def metrics(request: Request) -> Response:
        try:
            house.callers.find(key_of(request.headers, request.cookies))
        except NoKey as error:
            return refused(error)
        return Response(house.account.told(house.room), media_type=CONTENT_TYPE)

    mcp = make_mcp(house)
    # names and pages of other sites are the border's
    open_to_all = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    inner = mcp.streamable_http_app(
        max_request_body_size=MCP_BYTES,
        max_sessions=None,
        session_idle_timeout=MCP_IDLE,
        transport_security=open_to_all,
    )

    @asynccontextmanager
    async def alive(app: Starlette) -> AsyncIterator[None]:
        try:
            async with mcp.session_manager.run():
                yield
        finally:
            await house.close()

    recipe, uploads = house.recipe, house.recipe.uploads
    named = () if recipe.host in ("0.0.0.0", "::") else (recipe.host,)
    hosts = Hosts((*named, *recipe.allow_hosts), recipe.origins)
    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/metrics", metrics),
            *openai_routes(house),
            Route("/mcp", Keyed(inner, house.callers, MCP_SESSIONS, MCP_IDLE)),
            *page_routes(house),
        ],
        lifespan=alive,
    )
    return Border(app, hosts, ROOM_FOR_TEXT + uploads.pictures * uploads.bytes * 4 // 3)
