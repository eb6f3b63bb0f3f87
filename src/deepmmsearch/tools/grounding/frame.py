"""Whether a server's model sees pictures as they are sent: only then its boxes in pixels lie where it means them.

A server that makes pictures smaller says so nowhere but in the number of tokens that it read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from deepmmsearch import images
from deepmmsearch.errors import Failed, ToolError
from deepmmsearch.images import CELL

# the sides of a picture that is larger than any bounds, and of one that is smaller
_LARGE, _SMALL = (8000, 6000), (CELL, CELL)


class FrameError(Failed):
    """A server's model sees pictures in another size than they are sent in."""


@runtime_checkable
class PictureCounter(Protocol):
    """A model behind an endpoint that can be asked how many tokens it reads of a picture. `bounds`: the least and most
    pixels of what it is sent."""

    bounds: tuple[int, int]

    @property
    def name(self) -> str: ...
    async def prompt_tokens(self, size: tuple[int, int], /) -> int | None: ...


async def check_frame(server: PictureCounter, kind: type[FrameError | ToolError] = FrameError) -> None:
    """Compares the tokens of the largest and the smallest picture that are sent with what they should be (one for 28 x
    28 pixels, as Qwen2.5-VL has it). Where the server counts none, nothing can be told.

    Raises `kind`, and EndpointError where the server cannot be asked.
    """
    least, most = server.bounds
    sizes = [images.view_size(size, least, most) for size in (_LARGE, _SMALL)]
    large, small = await asyncio.gather(*(server.prompt_tokens(size) for size in sizes))
    if large is None or small is None or large == small:
        return
    (width, height), expected = sizes[0], [w * h // CELL**2 for w, h in sizes]
    more, wanted = large - small, expected[0] - expected[1]
    if more != wanted:
        raise kind(
            f"{server.name} reads a picture of {width} x {height} pixels as {more + expected[1]} tokens, where "
            f"{expected[0]} were expected: its model sees pictures in another size than they are sent in, and boxes in "
            f"pixels would be cut out elsewhere. {_advice(more, wanted, (more + expected[1]) * CELL**2)}"
        )


def _advice(more: int, wanted: int, pixels: int) -> str:
    bounds = "Set min_pixels and max_pixels of this endpoint to those in the preprocessor_config.json of its model"
    enough = f" (max_pixels: {pixels} would do)" if 0 < more < wanted else ""
    return f"{bounds}{enough}; or set grounding.dialect if it writes boxes otherwise, or grounding: none."


class Once:
    """Awaits what it is given until it went well once, at most one at a time in an event loop. What is wrong with the
    frame is kept."""

    def __init__(self, check: Callable[[], Awaitable[None]]) -> None:
        self._check = check
        self._done: FrameError | ToolError | bool = False
        self._running: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        if self._done is True:
            return
        if isinstance(self._done, Exception):
            raise type(self._done)(*self._done.args)
        loop = asyncio.get_running_loop()
        if self._running is None or self._running.done() or self._running.get_loop() is not loop:
            self._running = loop.create_task(self._run())
        # an episode that is cancelled must not take the check from the others
        await asyncio.shield(self._running)

    async def _run(self) -> None:
        try:
            await self._check()
            self._done = True
        except (FrameError, ToolError) as error:
            self._done = error
            raise
