"""A page of reStructuredText -> its text without the mark-up, the pictures it shows and its headings.

Read by its indentation, without docutils: a page that names directives which nobody here knows (those of Sphinx and of
its extensions) is read too, nothing is included, and nothing is run.
"""

from __future__ import annotations

import csv
import re
import textwrap
from collections.abc import Sequence
from itertools import groupby

from deepmmsearch.reading.blocks import Blocks
from deepmmsearch.reading.document import Document
from deepmmsearch.reading.wrapping import joined

DEEPEST = 20
_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{2,}")
_DIRECTIVE = re.compile(r"\.\. ++(?:\|[^|\n]{1,200}\| ++)?([\w.:+-]{1,80}?)::(?: ++(.*+))?")
_TARGET = re.compile(r"(?:\.\. +_|__ )")
_NOTE = re.compile(r"\.\. ++\[[^\]\n]{1,80}\] ++(.*+)")
_OPTION = re.compile(r":([\w-]{1,60}):(?: ++(.*+))?")
_ITEM = re.compile(r"([-*+•]|\(?(?:\d{1,3}|[a-zA-Z]|#)[.)])( +)(?=\S)")
_FIELD = re.compile(r":([^:`\n]{1,80}):(?: ++(.*+)|$)")
_GRID = re.compile(r"\+(?:[-=]+\+)+")
_SIMPLE = re.compile(r"=+(?: +=+)+")
_SUBSTITUTION = re.compile(r"^\.\. +\|([^|\n]{1,80})\| +replace:: +(.*)$", re.M)
_INLINE = re.compile(
    r"``(?P<literal>(?:[^`]|`(?!`)){1,500}+)``(?!`)"
    r"|(?::[\w.:+-]{1,60}:)?`(?P<role>[^`]{1,500}+)`(?::[\w.:+-]{1,60}:|__?)?"
    r"|\*\*(?P<strong>[^\s*][^*]{0,500}+)\*\*"
    r"|(?<![\w*])\*(?P<emphasis>[^\s*][^*]{0,500}+)\*(?!\w)"
    r"|(?P<note>[ ]?\[(?:#[\w-]{0,80}|\d{1,3}|\*)\]_)(?!\w)"
    r"|\|(?P<substitution>[^|\s][^|\n]{0,80})\|(?:__?)?"
    r"|(?<![\w.-])(?P<reference>[A-Za-z](?:[\w.-]{0,60}[A-Za-z\d])?)__?(?!\w)"
    r"|\\(?P<escaped>.)",
    re.S,
)
_CODE = frozenset(
    "code code-block sourcecode parsed-literal math doctest testcode testsetup testoutput prompt console ipython "
    "productionlist graphviz literal ipython3 jupyter-execute plot mermaid highlight-block".split()
)
_SILENT = frozenset(
    "raw contents include literalinclude meta highlight default-role role sectionauthor codeauthor tabularcolumns "
    "currentmodule module py:currentmodule py:module index autosummary bibliography default-domain"
    "testcleanup sectnum title".split()
)
_SIGNATURES = frozenset(
    "attribute class classmethod cmdoption confval data decorator describe envvar exception function macro method "
    "object option property staticmethod type".split()
)
_TITLED = frozenset("note warning tip hint important caution danger attention error seealso deprecated todo".split())


def from_rst(text: str, name: str) -> Document:
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").expandtabs(8)
    blocks = Blocks()
    _Reader(blocks, dict(_SUBSTITUTION.findall(text))).read([line.rstrip() for line in text.split("\n")])
    return blocks.document(blocks.first_heading or name)


class _Reader:
    def __init__(self, blocks: Blocks, substitutions: dict[str, str]) -> None:
        self._blocks = blocks
        self._substitutions = substitutions
        self._adornments: list[str] = []  # in their order, which tells their levels; twice for one that is above, too

    def read(self, lines: Sequence[str], depth: int = 0, mark: str = "", close: bool = False) -> None:
        """`mark` stands before the first paragraph, which is `close` to the block before."""
        if depth > DEEPEST:
            self._blocks.code("\n".join(lines))
            return
        at = 0
        literal = False
        while at < len(lines):
            if not lines[at]:
                at += 1
                continue
            line = lines[at]
            if _indent(line):
                after = _body_end(lines, at)
                body = _dedented(lines[at:after])
                if literal:
                    self._blocks.code("\n".join(body))
                else:
                    self.read(body, depth + 1)
                at, literal = after, False
                continue
            literal = False
            if after := self._heading(lines, at):
                at = after
            elif line.startswith(("..", "__ ")) and (line == ".." or line[2] in " _"):
                after = _body_end(lines, at + 1)
                self._explicit(line, lines[at + 1 : after], depth)
                at = after
            elif item := _ITEM.match(line):
                after = _body_end(lines, at + 1)
                body = [line[item.end() :], *_item_body(lines[at + 1 : after], item.end())]
                self.read(
                    body, depth + 1, "" if len(item[1]) == 1 else f"{item[1]} ", close=at > 0 and bool(lines[at - 1])
                )
                at = after
            elif after := self._table(lines, at):
                at = after
            else:
                at, literal = self._paragraph(lines, at, depth, mark, close)
            mark, close = "", False

    def _heading(self, lines: Sequence[str], at: int) -> int:
        """Number of the line after it, 0 where there is none."""
        following = [*lines[at + 1 : at + 3], "", ""]
        if _ADORNMENT.fullmatch(lines[at]):
            if following[0] and following[1] and _ADORNMENT.fullmatch(following[1]) and following[1][0] == lines[at][0]:
                self._blocks.heading(self._said(following[0]), self._level(lines[at][0] * 2))
                return at + 3
            return at + 1 if not following[0] and (at == 0 or not lines[at - 1]) else 0
        if (
            _ADORNMENT.fullmatch(following[0])
            and len(following[0]) >= min(len(lines[at]), 4)
            and not _GRID.match(lines[at])
        ):
            self._blocks.heading(self._said(lines[at]), self._level(following[0][0]))
            return at + 2
        return 0

    def _level(self, adornment: str) -> int:
        if adornment not in self._adornments:
            self._adornments.append(adornment)
        return self._adornments.index(adornment) + 1

    def _explicit(self, line: str, body: Sequence[str], depth: int) -> None:
        """A directive, a target, a note, or a comment."""
        body = _dedented(body)
        if directive := _DIRECTIVE.fullmatch(line):
            options, body = _options(body)
            self._directive(directive[1].lower(), directive[2] or "", options, body, depth)
        elif note := _NOTE.fullmatch(line):
            self.read([note[1], *body], depth + 1)
        # targets and comments are not shown

    def _directive(self, name: str, argument: str, options: dict[str, str], body: list[str], depth: int) -> None:
        if name in _SILENT or name in ("replace", "unicode"):
            return
        if name in ("image", "figure") or name.endswith((":image", ":figure")):
            self._blocks.picture(argument, self._said(options.get("alt", "")))
            self.read(body, depth + 1)
        elif name in _CODE:
            self._blocks.paragraph(self._said(options.get("caption", "")))
            self._blocks.code("\n".join([argument, *body] if name == "math" and argument else body))
        elif name == "toctree":
            self._blocks.paragraph("\n".join(_titled(line) for line in body))
        elif name in ("csv-table", "list-table"):
            self._blocks.paragraph(self._said(argument))
            rows = _csv(body, options) if name == "csv-table" else self._listed(body)
            heads = "header-rows" in options or "header" in options
            self._blocks.table(rows[1:] if heads else rows, rows[0] if heads and rows else ())
        elif name in _TITLED:
            self.read([*([argument] if argument else []), *body], depth + 1, f"{name.capitalize()}: ")
        elif (
            name in _SIGNATURES or ":" in name or name.startswith("auto")
        ):  # a signature: its stars and underscores are no mark-up
            self._blocks.add(argument)
            self.read(body, depth + 1)
        else:
            self._blocks.paragraph(self._said(argument))
            self.read(body, depth + 1)

    def _listed(self, lines: Sequence[str]) -> list[list[str]]:
        """The rows of a list of lists."""
        rows: list[list[str]] = []
        for line in lines:
            if cell := re.match(r"(\* *)?- ?(.*)", line.strip()):
                if cell[1] or not rows:
                    rows.append([])
                rows[-1].append(cell[2])
            elif rows and rows[-1] and line.strip():
                rows[-1][-1] += " " + line.strip()
        return [[self._said(cell) for cell in row] for row in rows]

    def _table(self, lines: Sequence[str], at: int) -> int:
        after = at
        if _GRID.fullmatch(lines[at]):
            while after < len(lines) and lines[after].startswith(("+", "|")):
                after += 1
            rows, header = _grid_rows(lines[at:after])
        elif _SIMPLE.fullmatch(lines[at]):
            borders = [n for n in range(at, min(len(lines), at + 500)) if _SIMPLE.fullmatch(lines[n])]
            closing = [n for n in borders[1:] if n + 1 == len(lines) or not lines[n + 1]]
            if not closing:
                return 0
            after = closing[0] + 1
            rows, header = _simple_rows(lines[at:after])
        else:
            return 0
        said = [[self._said(cell) for cell in row] for row in rows]
        self._blocks.table(said, [self._said(cell) for cell in header])
        return after

    def _paragraph(self, lines: Sequence[str], at: int, depth: int, mark: str, close: bool) -> tuple[int, bool]:
        """Number of the line after it, and whether what is indented below it is literal."""
        after = at + 1
        while after < len(lines) and lines[after] and not _indent(lines[after]):
            if lines[at].startswith(":") and _FIELD.match(lines[after]):
                break
            after += 1
        if lines[at].startswith(">>> "):
            after = next((n for n in range(at, len(lines)) if not lines[n]), len(lines))
            self._blocks.code("\n".join(lines[at:after]))
            return after, False
        if lines[at].startswith("| "):
            self._blocks.paragraph("\n".join(self._said(line.removeprefix("|")) for line in lines[at:after]))
            return after, False
        if field := _FIELD.match(lines[at]):
            end = _body_end(lines, after)
            said = [field[2] or "", *_dedented(lines[at + 1 : after]), *_dedented(lines[after:end])]
            self.read(
                said if said[0] else [" ", *said],
                depth + 1,
                f"{self._said(field[1])}: ",
                close=at > 0 and bool(lines[at - 1]),
            )
            return end, False
        if after == at + 1 and after < len(lines) and _indent(lines[after]) and not lines[at].endswith("::"):
            end = _body_end(lines, after)
            self.read(_dedented(lines[after:end]), depth + 1, f"{mark}{self._said(lines[at])}: ", close)
            return end, False
        text = ""
        for line in lines[at:after]:
            text = joined(text, line) + line
        literal = text.endswith("::")
        if literal:
            text = text[:-2].rstrip() + ("" if text[:-2].endswith(" ") or text == "::" else ":")
        self._blocks.paragraph(mark + self._said(text) if text else "", close)
        return after, literal

    def _said(self, text: str) -> str:
        return _INLINE.sub(self._shown, text)

    def _shown(self, found: re.Match[str]) -> str:
        kind = found.lastgroup
        said = found[kind] if kind else ""
        match kind:
            case "note":
                return ""
            case "escaped":
                return "" if said.isspace() else said
            case "substitution":
                return self._substitutions.get(said, said)
            case "role":
                return _titled(said) or said.lstrip("~!")
            case _:
                return said


def _titled(said: str) -> str:
    """The title of `title <target>`, "" where there is none."""
    return said[: said.rfind("<")].rstrip() if said.endswith(">") and "<" in said else ""


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_close(lines: Sequence[str], at: int) -> bool:
    return at > 0 and bool(lines[at - 1])


def _body_end(lines: Sequence[str], at: int) -> int:
    """Of the lines from `at` on that are empty or indented."""
    while at < len(lines) and (not lines[at] or _indent(lines[at])):
        at += 1
    return at


def _dedented(lines: Sequence[str]) -> list[str]:
    return textwrap.dedent("\n".join(lines)).split("\n") if lines else []


def _item_body(lines: Sequence[str], indent: int) -> list[str]:
    """Without the indentation of the item, which is that of its second line; what is deeper is literal."""
    indent = _indent(lines[0]) if lines and lines[0] else indent
    return [line[min(indent, _indent(line)) :] for line in lines]


def _options(body: list[str]) -> tuple[dict[str, str], list[str]]:
    """And the body below them."""
    options: dict[str, str] = {}
    at = 0
    while at < len(body) and (option := _OPTION.fullmatch(body[at])):
        options[option[1]] = option[2] or ""
        at += 1
    return options, body[at:]


def _csv(body: Sequence[str], options: dict[str, str]) -> list[list[str]]:
    header = [options["header"]] if "header" in options else []
    try:
        return [row for row in csv.reader([*header, *filter(None, body)], skipinitialspace=True) if row]
    except csv.Error:
        return [[line] for line in body]


def _grid_rows(lines: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """The rows of a table drawn with + and |, and its header."""
    rows: list[list[str]] = []
    header: list[str] = []
    for border, group in groupby(lines, key=lambda line: line.startswith("+")):
        held = list(group)
        if border:
            if "=" in held[-1] and rows and not header:
                header = rows.pop()
            continue
        cells = [line.strip("|").split("|") for line in held]
        columns = max(map(len, cells))
        rows.append([" ".join(row[n].strip() for row in cells if n < len(row)).strip() for n in range(columns)])
    return rows, header


def _simple_rows(lines: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """The rows of a table whose columns stand below lines of =, and its header."""
    starts = [match.start() for match in re.finditer(r"=+", lines[0])]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    rows: list[list[str]] = []
    header: list[str] = []
    for line in lines[1:-1]:
        if _SIMPLE.fullmatch(line):
            header, rows = [" ".join(filter(None, cells)) for cells in zip(*rows, strict=True)], []
        elif line and not re.fullmatch(r"[- ]+", line):
            cells = [line[start:end].strip() for start, end in spans]
            if cells[0] or not rows:
                rows.append(cells)
            else:  # a row goes on where its first cell is empty
                rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
    return rows, header
