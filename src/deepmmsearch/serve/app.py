"""The application: what all doors have in common, and the doors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deepmmsearch.serve.house import House


def make_app(house: House) -> Starlette:
    """Every route of the server. Raises nothing: what is wrong with a request is its reply."""

    async def health(request: Request) -> Response:
        room = house.room
        return JSONResponse({"status": "ok", "playing": room.playing, "waiting": room.waiting})

    @asynccontextmanager
    async def alive(app: Starlette) -> AsyncIterator[None]:
        yield
        await house.close()

    return Starlette(routes=[Route("/health", health)], lifespan=alive)
