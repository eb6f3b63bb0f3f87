"""Replies as streams of events (text/event-stream), which stay open while an episode is played."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse

ALIVE_SECONDS = 10.0
STILL = ": still at work\n\n"
"""A comment, which clients pass over."""
_LIVE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event_data(value: Any) -> str:
    """One event."""
    return f"data: {json.dumps(value)}\n\n"


def event_stream(pieces: AsyncIterator[str]) -> Response:
    """The reply; nothing between keeps it back."""
    return StreamingResponse(pieces, media_type="text/event-stream", headers=_LIVE)


async def with_pauses(states: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The states, and None whenever nothing came for a while: then `STILL` is sent, so that nobody between hangs up."""
    following: asyncio.Future[Any] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(anext(states))
            done, _ = await asyncio.wait([following], timeout=ALIVE_SECONDS)
            if not done:
                yield None
                continue
            try:
                state = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield state
    finally:
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await following
