"""Pages that can be mailed: one HTML file with everything in it, no script, nothing from outside.

What a policy, a page, a hit or a data set wrote is untrusted: the templates escape every value, and a content security
policy admits the page's own style and pictures in it alone.
"""

from __future__ import annotations

import base64
import hashlib
import io
from typing import NamedTuple
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from deepmmsearch.escaping import plain

WIDTHS = {"scene": 420, "crop": 160, "hit": 72}


class Thumbnail(NamedTuple):
    """A small copy of a picture; `address` is a data URL."""

    address: str
    width: int
    height: int


def render_page(template: str, title: str, lead: str, style: str = "", **values: object) -> str:
    """A template of `show/templates` as a page. `style` is added to that of all pages; it must be the program's own."""
    css = _TEMPLATES.get_template("page.css").render() + style
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode("ascii")
    page = _TEMPLATES.get_template(template)
    return page.render(values, title=title, lead=lead, style=css, style_digest=f"sha256-{digest}")


def thumbnail(image: Image.Image, use: str) -> Thumbnail:
    """As small as its `use` (scene, crop or hit) needs it."""
    small = image.convert("RGB")
    # bounded in height too: a picture may be long
    small.thumbnail((WIDTHS[use], WIDTHS[use]), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    address = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{address}", small.width, small.height)


def is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _shown(value: object) -> object:
    """Nothing that turns round what stands beside it, or hides in it."""
    return plain(value) if type(value) is str else value


def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("deepmmsearch.show"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals["thumbnail"] = thumbnail
    made.tests["web_address"] = is_web_address
    return made


_TEMPLATES = _templates()
