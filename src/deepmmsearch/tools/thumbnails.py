"""Pictures from outside: fetched by the guarded client, opened within the bounds for what strangers send."""

from __future__ import annotations

import asyncio

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.tools.http import Response
from deepmmsearch.tools.providers.api import Client

MAX_BYTES = 10_000_000
# not image/*: an SVG is a program
TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/jpg", "application/octet-stream")


async def fetch(client: Client, url: str, *, max_bytes: int = MAX_BYTES, timeout: float | None = None) -> Response:
    """What lies at an address and is said to be a picture. Raises ToolError: refused, or not to be had."""
    return await client.request("GET", url, accept=TYPES, timeout=timeout, max_bytes=max_bytes)


async def open_image(content: bytes, *, max_pixels: int = images.WEB_PIXELS) -> Image:
    """A picture that a stranger sent. Raises ToolError."""
    try:
        return await asyncio.wrap_future(
            images.loading(content, max_pixels=max_pixels, formats=images.WEB_FORMATS, name="A picture from outside")
        )
    except UserError as error:
        raise ToolError(str(error)) from None
