"""A page of Org -> its text without the mark-up, the pictures it shows and its headings. Nothing in it is run."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Sequence

from deepmmsearch.reading.blocks import Blocks
from deepmmsearch.reading.document import Document, clean
from deepmmsearch.reading.wrapping import unwrapped

_HEADING = re.compile(r"(\*{1,12}) +(?:(?:TODO|DONE|NEXT|WAITING|CANCELLED|CANCELED|HOLD) +)?(?:\[#\w\] +)?(\S.*)")
_TAGS = re.compile(r"\s:(?:[\w@#%]{1,40}:){1,20}$")
_KEY = re.compile(r"#\+(\w{1,40})(?:\[[^\]\n]{0,200}\])?:(.*)", re.I)
_BEGIN = re.compile(r"[ \t]*#\+begin_(\w{1,40})\b.*", re.I)
_CODE = ("src", "example", "export")
_DRAWER = re.compile(r"[ \t]*:[\w-]{1,60}:[ \t]*")
_COMMENT = re.compile(r"[ \t]*#(?: |$)|[ \t]*-{5,}$")
_LITERAL = re.compile(r"[ \t]*:(?: (.*))?")
_RULE = re.compile(r"\|[-+|]+")
_ITEM = re.compile(r"[ \t]*(?:[-+]|\d{1,3}[.)])[ \t]+(?:\[[ xX-]\][ \t]+)?(\S.*)")
_LINK = re.compile(r"\[\[([^\[\]\n]{1,1000})\](?:\[([^\[\]\n]{1,1000})\])?\]")
_MARKED = re.compile(
    r"(?<![\w=~])(?P<verbatim>[=~])(?P<code>[^\s=~](?:[^=~\n]{0,300}[^\s=~])?)(?P=verbatim)(?![\w=~])"
    r"|(?<![\w*/+_])(?P<mark>[*/+_])(?P<said>[^\s*/+_](?:[^*/+\n]{0,300}[^\s*/+_])?)(?P=mark)(?![\w*/+_])"
)
_PICTURE = re.compile(r".{1,500}\.(?:png|jpe?g|gif|webp|svg|bmp|tiff?|avif)", re.I)
_DAY = re.compile(r"(?:19|20)\d\d-\d\d-\d\d")


def from_org(text: str, name: str) -> Document:
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").expandtabs(8).split("\n")
    return _Reader([line.rstrip() for line in lines]).document(name)


class _Reader:
    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._blocks = Blocks()
        self._said: dict[str, str] = {}
        self._ends: dict[str, list[int]] = {}

    def document(self, name: str) -> Document:
        at = 0
        while at < len(self._lines):
            at = self._next(at)
        title = self._said.get("title") or (self._blocks.first_heading or name)
        day = _DAY.search(self._said.get("date", ""))
        language = self._said.get("language", "")[:2].lower() or None
        return self._blocks.document(clean(title), None, day[0] if day else None, language)

    def _next(self, at: int) -> int:
        """Reads the block at a line; the number of the line after it."""
        line = self._lines[at]
        if begin := _BEGIN.fullmatch(line):
            return self._block(at, begin[1].lower())
        if _DRAWER.fullmatch(line):
            end = self._line_of(at, ":end:")
            return at + 1 if end is None else end + 1
        if not line or _COMMENT.match(line) or line.lower().lstrip().startswith("#+end_"):
            return at + 1
        if key := _KEY.fullmatch(line):
            self._keyword(key[1].lower(), key[2])
        elif heading := _HEADING.fullmatch(line):
            self._blocks.heading(self._inline(_TAGS.sub("", heading[2][:2_000])), len(heading[1]))
        elif _LITERAL.fullmatch(line):
            end = self._end(at, lambda other: _LITERAL.fullmatch(other) is not None)
            self._blocks.code("\n".join(other.lstrip()[2:] for other in self._lines[at:end]))
            return end
        elif line.lstrip().startswith("|"):
            return self._table(at)
        else:
            return self._paragraph(at)
        return at + 1

    def _keyword(self, name: str, value: str) -> None:
        if name == "caption":
            self._blocks.add(self._inline(value))
        elif name in ("title", "date", "language"):
            self._said.setdefault(name, clean(self._inline(value)))

    def _block(self, at: int, kind: str) -> int:
        if kind not in (*_CODE, "comment"):
            return at + 1  # prose, whose frame alone is no text
        end = self._line_of(at, f"#+end_{kind}")
        if kind != "comment":
            inner = self._lines[at + 1 : end]
            self._blocks.code("\n".join(line.removeprefix(",") if line[1:2] in "*#," else line for line in inner))
        return len(self._lines) if end is None else end + 1

    def _line_of(self, at: int, said: str) -> int | None:
        """The next line that says that."""
        if said not in self._ends:
            self._ends[said] = [n for n, line in enumerate(self._lines) if line.strip().lower() == said]
        after = bisect(self._ends[said], at)
        return self._ends[said][after] if after < len(self._ends[said]) else None

    def _table(self, at: int) -> int:
        end = self._end(at, lambda line: line.lstrip().startswith("|"))
        lines = [line.strip() for line in self._lines[at:end]]
        rule = next((n for n, line in enumerate(lines) if _RULE.fullmatch(line)), 0)
        rows = [[self._inline(c) for c in line.strip("|").split("|")] for line in lines if not _RULE.fullmatch(line)]
        header = rows[0] if rule == 1 and rows else []
        self._blocks.table(rows[1:] if header else rows, header)
        return end

    def _paragraph(self, at: int) -> int:
        if item := _ITEM.fullmatch(self._lines[at]):
            end = self._end(at, lambda line: _goes_on(line) and not _ITEM.fullmatch(line))
            text = clean(" ".join([item[1].replace(" :: ", ": "), *self._lines[at + 1 : end]]))
            self._blocks.paragraph(self._inline(text), close=at > 0 and bool(self._lines[at - 1]))
            return end
        end = self._end(at, lambda line: _goes_on(line) and not _ITEM.fullmatch(line))
        self._blocks.paragraph(unwrapped("\n".join(map(self._inline, self._lines[at:end]))))
        return end

    def _end(self, at: int, goes_on: Callable[[str], bool]) -> int:
        end = at + 1
        while end < len(self._lines) and self._lines[end] and goes_on(self._lines[end]):
            end += 1
        return end

    def _inline(self, text: str) -> str:
        return _MARKED.sub(lambda found: found["code"] or found["said"], _LINK.sub(self._linked, text))

    def _linked(self, found: re.Match[str]) -> str:
        target, said = found[1].removeprefix("file:"), found[2]
        if _PICTURE.fullmatch(target):
            self._blocks.picture(target.removeprefix("./"), said or "")
            return said or " "
        self._blocks.link(said or target, target)
        return said or target


def _goes_on(line: str) -> bool:
    begins = (_BEGIN, _DRAWER, _KEY, _HEADING, _LITERAL)
    return not (any(form.fullmatch(line) for form in begins) or _COMMENT.match(line) or line.lstrip().startswith("|"))
