"""What people write in a query beside words: "a phrase", -without, site:, folder:, filetype:, before:, after:.

Any text is a query and nothing in it is an error: what does not fit the form of an operator is words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deepmmsearch.engine.page_tags import FOLDER, KIND, SITE

PROSE = 8
"""So many words beside phrases are a question, and not what somebody types to find a phrase."""
_PART = re.compile(r'(?P<minus>-?)(?:["“„«](?P<phrase>[^"“”„«»]+)["”“»](?!\w)|(?P<plain>\S+))')
_SITE = re.compile(r"(?:https?://)?([\w-]+(?:\.[\w-]+)*)/?", re.I)
_DATE = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?")
_KIND = re.compile(r"\.?(\w{1,8})")
# not -5, not --flag, not x -y
_EXCLUDED = re.compile(r"[^\W\d_][\w+#.'’]+")


@dataclass(frozen=True)
class ParsedQuery:
    """`words` are searched for, phrases included; each passage has every one of `phrases` and none of `without`.
    `tags` must be a page's, `without_tags` must not; dates as YYYYMMDD, `after` included and `before` not."""

    words: str
    phrases: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    without_tags: tuple[str, ...] = ()
    after: int | None = None
    before: int | None = None

    @property
    def filters(self) -> bool:
        dated = self.after is not None or self.before is not None
        return dated or bool(self.phrases or self.without or self.tags or self.without_tags)


def parsed(text: str) -> ParsedQuery:
    words: list[str] = []
    phrases, without, tags, without_tags = list[str](), list[str](), list[str](), list[str]()
    dates: dict[str, int] = {}
    for part in _PART.finditer(text):
        minus = bool(part["minus"]) and (part.start() == 0 or text[part.start() - 1].isspace())
        if (phrase := part["phrase"]) is not None:
            (without if minus else phrases).append(phrase.strip())
            words += [] if minus else [phrase]
        elif tag := _tag(part["plain"]):
            (without_tags if minus else tags).append(tag)
        elif not minus and (date := _dated(part["plain"])):
            dates[date[0]] = date[1]
        elif minus and _EXCLUDED.fullmatch(part["plain"]):
            without.append(part["plain"])
        else:
            words.append(part[0])
    beside = " ".join(words).split()
    quoted = sum(len(phrase.split()) for phrase in phrases)
    # nothing to search for, or prose in which words are quoted: these were no operators
    if (not words and without) or len(beside) - quoted > PROSE:
        return ParsedQuery(text)
    kept = [phrase for phrase in phrases if phrase]
    return ParsedQuery(
        " ".join(words), tuple(kept), tuple(without), tuple(tags), tuple(without_tags), dates.get("after"),
        dates.get("before"),
    )  # fmt: skip


def _tag(part: str) -> str | None:
    name, _, value = part.partition(":")
    match name.lower():
        case "site" if found := _SITE.fullmatch(value):
            return SITE + found[1].lower().removeprefix("www.")
        case "folder" if value.strip("/"):
            return FOLDER + value.strip("/").lower()
        case "filetype" if found := _KIND.fullmatch(value):
            return KIND + found[1].lower()
    return None


def _dated(part: str) -> tuple[str, int] | None:
    name, _, value = part.partition(":")
    found = _DATE.fullmatch(value)
    if name.lower() not in ("before", "after") or not found:
        return None
    year, month, day = found.groups()
    return name.lower(), int(f"{year}{month or '01'}{day or '01'}")
