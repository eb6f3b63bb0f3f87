"""The application: what all doors have in common, and the doors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deepmmsearch.serve.service import Service


def make_app(service: Service) -> Starlette:
    """Every route of the server. Raises nothing: what is wrong with a request is its reply."""

    async def health(request: Request) -> Response:
        room = service.room
        return JSONResponse({"status": "ok", "playing": room.playing, "waiting": room.waiting})

    @asynccontextmanager
    async def alive(app: Starlette) -> AsyncIterator[None]:
        yield
        await service.close()

    return Starlette(routes=[Route("/health", health)], lifespan=alive)
