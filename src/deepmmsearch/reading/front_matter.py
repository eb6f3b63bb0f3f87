"""What a Markdown page says of itself above its text: YAML between lines of dashes, TOML between plus signs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from deepmmsearch.reading.document import clean

MAX_LINES = 300
_NAMES = {
    "title": ("title", "linktitle"),
    "url": ("url", "canonical_url", "canonical", "source"),
    "date": ("date", "published", "pubdate", "publishdate", "created", "updated", "lastmod"),
    "language": ("lang", "language", "locale"),
}
_WORDS = ("description", "summary", "excerpt", "aliases", "tags", "keywords", "categories")
_DAY = re.compile(r"(\d{4})(?:([-/.])|\s?年\s?)(0?[1-9]|1[0-2])(?:\2|\s?月\s?)(0?[1-9]|[12]\d|3[01])(?!\d)")
_YEAR = re.compile(r"((?:19|20)\d\d)(?:[-/.](0?[1-9]|1[0-2]))?")


class FrontMatter:
    """`words`: what it says besides, a line each, such as "tags: boats, harbours"."""

    def __init__(self, told: Mapping[str, Any] | None = None) -> None:
        known = {str(name).strip().lower(): _texts(value) for name, value in (told or {}).items()}
        self.title, self.url, date, self.language = (
            next((", ".join(known[name]) for name in names if known.get(name)), "") for names in _NAMES.values()
        )
        self.date = _day(date)
        self.words = [f"{name}: {', '.join(known[name])}" for name in _WORDS if known.get(name)]


def _day(date: str) -> str | None:
    """2021/5/3, 3 May 2021; 2021-05 and 2021 count by their first day."""
    if day := _DAY.match(date):
        return f"{day[1]}-{day[3]:>02}-{day[4]:>02}"
    if year := _YEAR.fullmatch(date):
        return f"{year[1]}-{year[2] or '1':>02}-01"
    if len(date) > 40 or not any(map(str.isalpha, date)):
        return None  # 03/05/2021 is one day here and another one there
    from htmldate import find_date

    try:
        found: str | None = find_date(f"<meta name='date' content='{escape(date)}'><p></p>", extensive_search=False)
    except Exception:  # as over pages
        return None
    return found


def split_front_matter(text: str) -> tuple[FrontMatter, str]:
    """And the page below it. What looks like front matter and is none stays part of the page."""
    first, *lines = text.split("\n", MAX_LINES + 1)
    fence = first.rstrip()
    closing = {"---": ("---", "..."), "+++": ("+++",)}.get(fence, ())
    end = next((n for n, line in enumerate(lines[:MAX_LINES]) if line.rstrip() in closing), None)
    if end is None:
        return FrontMatter(), text
    told = _toml(lines[:end]) if fence == "+++" else _yaml(lines[:end])
    if told is None:
        return FrontMatter(), text
    return FrontMatter(told), "\n".join(lines[end + 1 :])


def _yaml(lines: list[str]) -> Mapping[str, Any] | None:
    import yaml

    written = "\n".join(lines)
    try:
        # an alias is what makes YAML grow, and a loader of dates refuses those that do not exist
        told = None if re.search(r"[&*]\w", written) else yaml.load(written[:20_000], Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        told = None
    if isinstance(told, dict) or (told is None and not written.strip()):
        return told or {}
    # people write what YAML does not take: `title: Oru: a town`
    pairs = [line.partition(":") for line in lines if line.strip() and not line.lstrip().startswith(("#", "-"))]
    if not all(colon for _, colon, _ in pairs):
        return None
    return {name: value.strip().strip("\"'") for name, _, value in pairs}


def _toml(lines: list[str]) -> Mapping[str, Any] | None:
    import tomllib

    try:
        return tomllib.loads("\n".join(lines)[:20_000])
    except (ValueError, RecursionError):
        return None


def _texts(value: object) -> list[str]:
    """Of a text, a number, a date, or a list of such; of anything else nothing."""
    if isinstance(value, list):
        return [text for item in value[:100] if not isinstance(item, list) for text in _texts(item)]
    text = "" if value is None or isinstance(value, dict) else clean(str(value))
    return [text] if text else []
