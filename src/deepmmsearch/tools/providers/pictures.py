"""What reverse image search needs: a picture as a small JPEG, its public address where it has one, and thumbnails."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image as Pillow
from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.errors import ToolError
from deepmmsearch.tools.providers.api import Client, ranked, web_address
from deepmmsearch.tools.thumbnails import fetch, open_image
from deepmmsearch.types import Hit

LONGEST_SIDE = 1600
THUMBNAIL_BYTES, THUMBNAIL_PIXELS, THUMBNAIL_SECONDS = 500_000, 4_000_000, 6.0
_ADDRESS, _DIGEST = "address", "address_digest"


def with_address(image: Image, address: str) -> Image:
    """The picture, marked with the public address it was fetched from."""
    marked = image.copy()
    # A crop inherits the marks of its picture but not its pixels: the digest tells them apart.
    marked.info = {**image.info, _ADDRESS: address, _DIGEST: images.digest(image)}
    return marked


def address_of(image: Image) -> str | None:
    """The public address of exactly these pixels, None for a crop and for a picture from a file."""
    address = web_address(image.info.get(_ADDRESS))
    return address if address and image.info.get(_DIGEST) == images.digest(image) else None


def as_jpeg(image: Image, most_bytes: int) -> bytes:
    """The picture as JPEG of at most `most_bytes`, at most LONGEST_SIDE pixels wide and high."""
    small, side = image.convert("RGB"), LONGEST_SIDE
    while True:
        small.thumbnail((side, side), Pillow.Resampling.LANCZOS)
        for quality in (92, 80, 65):
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=quality)
            if buffer.tell() <= most_bytes or side <= 64:
                return buffer.getvalue()
        side = side * 2 // 3


async def illustrated(client: Client | None, found: Sequence[tuple[Hit, object]], k: int) -> list[Hit]:
    """The first k hits, each address once, with the pictures at the addresses given beside them; without a client, or
    where a picture cannot be had, the hit alone. Strangers said where they lie: they are asked for from `outside`, also
    at the provider's own address."""
    places = {id(h): place for h, place in found}
    hits = ranked((h for h, _ in found), k)
    if client is None:
        return hits
    turn = asyncio.Lock()
    seen = await asyncio.gather(*(_thumbnail(client.outside, places[id(h)], turn) for h in hits))
    return [replace(h, image=picture) for h, picture in zip(hits, seen, strict=True)]


async def _thumbnail(client: Client, address: object, turn: asyncio.Lock) -> Image | None:
    if not isinstance(address, str):
        return None
    try:
        if address.startswith("data:image/"):
            content = base64.b64decode(address.partition("base64,")[2][: 2 * THUMBNAIL_BYTES], validate=True)
        elif web_address(address):
            reply = await fetch(client, address, max_bytes=THUMBNAIL_BYTES, timeout=THUMBNAIL_SECONDS)
            content = reply.content
        else:
            return None
        # one at a time: hostile pictures of one search make those of another wait for one of them, not for all
        async with turn:
            return await open_image(content, max_pixels=THUMBNAIL_PIXELS)
    except (ToolError, binascii.Error):
        return None
