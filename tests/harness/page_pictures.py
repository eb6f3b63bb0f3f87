"""The pictures of the page in docs/page, taken anew from a server that `deepmmsearch serve` has started:

python tests/harness/page_pictures.py http://127.0.0.1:8400/
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

OUT = Path(__file__).parents[2] / "docs" / "page"
DESK, PHONE = {"width": 1200, "height": 860}, {"width": 390, "height": 800}


def main(url: str) -> None:
    OUT.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        light = browser.new_page(viewport=DESK, color_scheme="light")
        light.goto(url)
        light.wait_for_selector("#examples img")
        light.wait_for_timeout(1000)
        _take(light, "first-visit")
        _ask(light)
        _take(light, "answer")
        address = light.url
        dark = browser.new_page(viewport=DESK, color_scheme="dark", locale="de-DE")
        phone = browser.new_page(viewport=PHONE, color_scheme="light", locale="zh-CN", device_scale_factor=2)
        for page, name in ((dark, "dark"), (phone, "phone")):
            page.goto(address)
            _unfold(page)
            _take(page, name)
        browser.close()


def _ask(page: Any) -> None:
    page.click("#examples button >> nth=0")
    page.wait_for_selector("#pictures img")
    page.click("#send")
    page.wait_for_selector(".said", timeout=120_000)
    page.click(".cite >> nth=0")
    _settle(page)


def _unfold(page: Any) -> None:
    page.wait_for_selector(".said")
    page.click(".steps > summary")
    _settle(page)


def _settle(page: Any) -> None:
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(1000)


def _take(page: Any, name: str) -> None:
    taken = Image.open(io.BytesIO(page.screenshot()))
    taken.convert("RGB").quantize(256, kmeans=3).save(OUT / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
