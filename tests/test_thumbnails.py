"""Pictures from outside come through the client, and only as what they are."""

from __future__ import annotations

import io

import pytest

pytest.importorskip("httpx2")

from PIL import Image

from deepmmsearch import images
from deepmmsearch.errors import ToolError
from deepmmsearch.tools.http import GuardedClient, Refused, TooLarge
from deepmmsearch.tools.thumbnails import fetch, open_image
from ssrf import PUBLIC, Internet, Request, reply


def picture(format: str = "PNG", size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 10, 10)).save(buffer, format, **options)
    return buffer.getvalue()


async def fetched(web: GuardedClient, url: str, max_pixels: int = images.WEB_PIXELS, **options: int) -> Image.Image:
    return await open_image((await fetch(web, url, **options)).content, max_pixels=max_pixels)


async def test_a_picture_is_fetched_and_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    def handler(request: Request) -> bytes:
        match request.path:
            case "/a.png":
                return reply(picture(exif=exif), Content_Type="image/png")
            case "/untyped":
                return reply(picture("WEBP"))
            case "/page":
                return reply("<html>", Content_Type="text/html")
            case "/drawing.svg":
                return reply("<svg onload=alert(1)>", Content_Type="image/svg+xml")
            case "/lie.png":
                return reply("<html>", Content_Type="image/png")
            case "/cut.png":
                return reply(picture(size=(400, 300))[:200], Content_Type="image/png")
            case "/scan.tiff":
                return reply(picture("TIFF"), Content_Type="application/octet-stream")
            case "/wide.png":
                return reply(picture(size=(6000, 5000)), Content_Type="image/png")
        return reply(status=302, Location="http://127.0.0.1/a.png")

    async with Internet({"public.example": [[PUBLIC]]}, handler) as internet:
        web = GuardedClient(resolve=internet.resolve, backend=internet.backend, timeout=60)
        async with web:
            site = "http://public.example"
            upright = await fetched(web, f"{site}/a.png")
            assert (upright.size, upright.mode, upright.info) == ((30, 40), "RGB", {})
            assert (await fetched(web, f"{site}/untyped")).size == (40, 30)
            for path in ("/page", "/drawing.svg"):
                with pytest.raises(Refused, match="expected image/jpeg"):
                    await fetched(web, site + path)
            for path, reason in (
                ("/lie.png", "not a picture"),
                ("/scan.tiff", "not a picture"),
                ("/cut.png", "truncated"),
                ("/wide.png", "more than 25 megapixels"),
            ):
                with pytest.raises(ToolError, match=reason):
                    await fetched(web, site + path)
            with pytest.raises(TooLarge):
                await fetched(web, f"{site}/a.png", max_bytes=50)
            with pytest.raises(ToolError, match="megapixels"):
                await fetched(web, f"{site}/a.png", max_pixels=50)
            with pytest.raises(Refused):
                await fetched(web, f"{site}/elsewhere")
        assert set(internet.connected) == {PUBLIC}


async def test_bytes_of_a_stranger() -> None:
    assert (await open_image(picture("GIF"))).size == (40, 30)
    for content in (b"", b"\x89PNG", picture("BMP")):
        with pytest.raises(ToolError):
            await open_image(content)
