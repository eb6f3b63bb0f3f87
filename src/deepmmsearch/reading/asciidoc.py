"""A page of AsciiDoc -> its text without the mark-up, the pictures it shows and its headings.

Read line by line, without Asciidoctor: nothing is included, and no attribute counts but those of the page itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import takewhile

from deepmmsearch.reading.blocks import Blocks
from deepmmsearch.reading.document import Document, clean
from deepmmsearch.reading.wrapping import unwrapped

_HEADING = re.compile(r"(={1,6}|#{1,6})[ \t]+(\S.*)")
_ATTRIBUTE = re.compile(r":(!?[\w-]{1,60}!?):(?:[ \t](.*))?")
_FENCE = re.compile(r"(-{4,}|\.{4,}|`{3,}|~{4,}|\+{4,}|/{4,})[\w+#.-]{0,40}\s*")
_FRAME = re.compile(r"={4,}|\*{4,}|_{4,}|--|\+")
_UNSEEN = re.compile(r"//(?!/)|(?:ifdef|ifndef|ifeval|endif|include|toc)::|'{3,}\s*$|<<<\s*$")
_ABOVE = re.compile(r"\[[^\]\n]{0,300}\]{1,2}\s*")
_TABLE = re.compile(r"[|!,:]={3,}\s*")
_CELL = re.compile(r"(?:^|(?<=\s))(?:[\d.]{1,8}[+*])?[<^>.\w]{0,4}\|")
_BLOCK_PICTURE = re.compile(r"image::([^\[\n]{1,500})\[([^\]\n]{0,500})\]\s*")
_DEFINITION = re.compile(r"(\S.{0,200}?)(?::{2,4}|;;)(?:[ \t]+(\S.*))?")
_ITEM = re.compile(r"[ \t]*(?:\*{1,6}|\.{1,6}|-|\d{1,3}\.|<[\d.]{1,3}>)[ \t]+(?:\[[ xX*]\][ \t]+)?(\S.*)")
_BLOCK_TITLE = re.compile(r"\.([^\s.].*)")
_INLINE = re.compile(
    r"image:(?P<src>[^\[\s:][^\[\s]{0,500})\[(?P<alt>[^\]\n]{0,300})\]"
    r"|(?:link:|mailto:|xref:|(?P<url>(?:https?|ftp)://))(?P<target>[^\s\[\]]{1,1000})\[(?P<said>[^\]\n]{0,500})\]"
    r"|<<(?P<anchor>[^<>,\n]{1,200})(?:,(?P<called>[^<>\n]{1,300}))?>>"
    r"|(?:footnote|kbd|btn|menu|pass|stem|latexmath|asciimath):\w{0,40}\[(?P<inner>[^\]\n]{0,500})\]"
    r"|\[\[[^\]\n]{1,200}\]\]|\[#[^\]\n]{1,200}\]|\[\.[^\]\n]{1,200}\](?=[#*_`])"
    r"|(?<![\w`])(?P<quote>``?)(?P<code>[^`\n]{1,500})(?P=quote)(?!\w)"
    r"|(?<![\w*_#])(?P<mark>\*\*?|__?|##?)(?P<marked>[^\s*_#](?:[^*_#\n]{0,300}[^\s*_#])?)(?P=mark)(?![\w*_#])"
)
_NAME = re.compile(r"\{([\w-]{1,60})\}")
_DAY = re.compile(r"(?:19|20)\d\d-\d\d-\d\d")
# v1.2, 2024-05-06: what changed
_REVISION = re.compile(r"v?\d[\w.-]{0,20},.{0,40}|(?:19|20)\d\d-\d\d-\d\d(?::.*)?")
_MOST_PUT_IN = 100_000
"""Characters of attributes, in a page: a few bytes that name one may stand for many."""


def from_asciidoc(text: str, name: str) -> Document:
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").expandtabs(4).split("\n")
    return _Reader([line.rstrip() for line in lines]).document(name)


class _Reader:
    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._blocks = Blocks()
        self._said: dict[str, str] = {}
        self._title = ""
        self._put_in = 0

    def document(self, name: str) -> Document:
        at = 0
        while at < len(self._lines):
            at = self._next(at)
        day = _DAY.search(self._said.get("revdate", "") or self._said.get("date", "") or self._said.get("docdate", ""))
        language = self._said.get("lang", "")[:2].lower() or None
        return self._blocks.document(self._title or name, None, day[0] if day else None, language)

    def _next(self, at: int) -> int:
        """Reads the block at a line; the number of the line after it."""
        line = self._lines[at]
        if not line or _UNSEEN.match(line) or _FRAME.fullmatch(line) or _ABOVE.fullmatch(line):
            return at + 1
        if fence := _FENCE.fullmatch(line):
            return self._fenced(at, fence[1])
        if _TABLE.fullmatch(line):
            return self._table(at)
        if attribute := _ATTRIBUTE.fullmatch(line):
            self._said[attribute[1].strip("!")] = clean(attribute[2] or "")
        elif heading := _HEADING.fullmatch(line):
            self._heading(heading, at)
        elif picture := _BLOCK_PICTURE.fullmatch(line):
            self._blocks.picture(self._named(picture[1]), _first(picture[2]))
        elif line[0] == " " and not _ITEM.fullmatch(line):
            return self._indented(at)
        elif title := _BLOCK_TITLE.fullmatch(line):
            self._blocks.add(self._inline(title[1]))
        else:
            return self._paragraph(at)
        return at + 1

    def _heading(self, found: re.Match[str], at: int) -> None:
        said = self._inline(found[2])
        if not self._title:
            self._title = clean(said)
            below = takewhile(bool, self._lines[at + 1 : at + 3])
            revision = next(filter(_REVISION.match, below), "")
            self._said.setdefault("docdate", revision)
        self._blocks.heading(said, len(found[1]))

    def _fenced(self, at: int, fence: str) -> int:
        end = next((n for n in range(at + 1, len(self._lines)) if self._lines[n] == fence), len(self._lines))
        if not fence.startswith("/"):  # a comment
            self._blocks.code("\n".join(self._lines[at + 1 : end]))
        return end + 1

    def _indented(self, at: int) -> int:
        end = self._end(at, lambda line: line[:1] == " ")
        self._blocks.code("\n".join(self._lines[at:end]))
        return end

    def _table(self, at: int) -> int:
        fence = self._lines[at]
        end = next((n for n in range(at + 1, len(self._lines)) if self._lines[n] == fence), len(self._lines))
        inner = self._lines[at + 1 : end]
        rows = [[self._inline(cell) for cell in _CELL.split(line)[1:]] for line in inner if _CELL.match(line)]
        filled = [number for number, line in enumerate(inner) if line]
        if filled and len(filled) > 1 and filled[1] > filled[0] + 1 and rows and len(rows[0]) > 1:
            header, *rows = rows
        else:
            header = []
        cells, width = [cell for row in rows for cell in row], len(header)
        if width and all(len(row) == 1 for row in rows):  # each cell on a line of its own
            rows = [cells[n : n + width] for n in range(0, len(cells), width)]
        self._blocks.table(rows, header)
        return end + 1

    def _paragraph(self, at: int) -> int:
        end = self._end(at, lambda line: not _begins_block(line) and not _item(line))
        lines = list(map(self._inline, self._lines[at:end]))
        if item := _item(self._lines[at]):
            text = clean(" ".join([self._inline(item), *lines[1:]]))
            self._blocks.paragraph(text, close=at > 0 and _item(self._lines[at - 1]) != "")
        else:
            self._blocks.paragraph(unwrapped("\n".join(lines)))
        return end

    def _end(self, at: int, goes_on: Callable[[str], bool]) -> int:
        end = at + 1
        while end < len(self._lines) and self._lines[end] and goes_on(self._lines[end]):
            end += 1
        return end

    def _named(self, text: str) -> str:
        return _NAME.sub(self._value, text[:20_000]) + text[20_000:]

    def _value(self, found: re.Match[str]) -> str:
        value = self._said.get(found[1], found[0])[:200]
        self._put_in += len(value)
        return value if self._put_in <= _MOST_PUT_IN else found[0]

    def _inline(self, text: str) -> str:
        return _INLINE.sub(self._plain, self._named(text))

    def _plain(self, found: re.Match[str]) -> str:
        if found["src"]:
            self._blocks.picture(found["src"], _first(found["alt"]))
            return " "
        if found["target"]:
            target = (found["url"] or "") + found["target"]
            said = _first(found["said"]).rstrip("^") or target
            self._blocks.link(said, target)
            return said
        for name in ("called", "anchor", "inner", "code", "marked"):
            if found[name]:
                return found[name].strip()
        return ""


def _first(attributes: str) -> str:
    """The text of a macro's brackets, without what follows it."""
    said = attributes.strip()
    return said[1:].partition('"')[0] if said.startswith('"') else re.split(r",\s*\w+=|,\s*\d+", said)[0]


def _item(line: str) -> str:
    """What an item of a list or of a glossary says, "" for other lines."""
    if found := _ITEM.fullmatch(line):
        return found[1]
    found = _DEFINITION.fullmatch(line)
    return f"{found[1]}: {found[2] or ''}" if found and "::" not in found[1] else ""


def _begins_block(line: str) -> bool:
    forms = (_ATTRIBUTE, _FENCE, _FRAME, _ABOVE, _TABLE, _HEADING, _BLOCK_PICTURE)
    return any(form.fullmatch(line) for form in forms) or _UNSEEN.match(line) is not None
