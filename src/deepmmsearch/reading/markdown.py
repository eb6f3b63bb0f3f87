"""A Markdown page -> its text without the mark-up, the pictures it shows and what it says of itself.

Parsed by markdown-it-py, so that code is told from text first; what is neither mark-up nor an element of HTML stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from deepmmsearch.errors import MissingExtra
from deepmmsearch.reading.blocks import Blocks, is_web_address
from deepmmsearch.reading.declared import language_code
from deepmmsearch.reading.document import Document, clean
from deepmmsearch.reading.front_matter import split_front_matter
from deepmmsearch.reading.page_text import HEADINGS, lines_of
from deepmmsearch.reading.seen import keep_seen
from deepmmsearch.reading.wrapping import joined

if TYPE_CHECKING:
    from markdown_it.token import Token

LONGEST_PARAGRAPH = 20_000
"""Characters; a longer one is taken as it stands, because a parser may take the square of its length."""
_NOTES = re.compile(r"^[ \t>]{0,12}\[\^([^\]\s]{1,80})\]:", re.M)
_HEADING_NAME = re.compile(r"\{[#.:][^{}\n]{0,200}\}$")
_CALLOUT = re.compile(r"\[!([A-Za-z][\w-]{1,30})\][+-]?[ \t]*(.*)")
_ATTRIBUTE = re.compile(
    r"(?<![\w-])([\w-]{1,60}+)\s{0,9}+=\s{0,9}+(?:\"([^\"]{0,2000})\"|'([^']{0,2000})'|([^\s\"'>]{1,2000}+))"
)
_ATTRIBUTES = re.compile(r"^\{[^{}\n]*\}")
_SIZE = re.compile(r"\|\d+(x\d+)?$")
_INLINE_TAG = re.compile(r"<(/?)([A-Za-z][\w.:-]*+)([^>]*+)>")
_NOT_A_TAG = re.compile(r"<(?![/!?A-Za-z])|<(?=/?([A-Za-z][\w.:-]*))")
_CLOSING_TAG = re.compile(r"</([A-Za-z][\w.:-]*)")
_EMPTY = frozenset("area base br col embed hr img input link meta param source track wbr".split())
_ALONE = frozenset("br hr wbr p li dt dd tr td th thead tbody tfoot option rp rt".split())
_FLAGS = frozenset("autoplay checked controls disabled hidden loop muted open readonly required selected".split())
_HIDDEN = ("script", "style")


def from_markdown(text: str, name: str) -> Document:
    """What its front matter says is told of it, where there is any. Raises MissingExtra."""
    told, text = split_front_matter(text.removeprefix("\ufeff").replace("\r\n", "\n"))
    blocks = Blocks()
    _Walk(blocks, text).through(_parsed(text))
    for line in told.words:
        blocks.paragraph(line, close=line is not told.words[0])
    title = told.title or blocks.first_heading or name
    url = told.url if is_web_address(told.url) else None
    return blocks.document(title, url, told.date, language_code(told.language))


def _parsed(text: str) -> Sequence[Token]:
    try:
        from deepmmsearch.reading.markdown_rules import parser
    except ImportError:
        raise MissingExtra("Reading Markdown", "engine") from None
    made = parser()
    made.core.ruler.before("inline", "long_paragraphs", _set_apart)
    return made.parse(text, {"notes": frozenset(_NOTES.findall(text))})


def _set_apart(state: Any) -> None:
    for token in state.tokens:
        if token.type == "inline" and len(token.content) > LONGEST_PARAGRAPH:
            token.type = "long"


class _Walk:
    """Through the parser's tokens: each is an opening, a closing, or a block of its own."""

    def __init__(self, blocks: Blocks, written: str) -> None:
        self._blocks = blocks
        self._inlines = _Inline(blocks, frozenset(_CLOSING_TAG.findall(written)))
        self._within: list[str] = []
        self._numbers: list[int | None] = []  # of the items of the lists that are open
        self._mark = ""
        self._close = False
        self._term = ""
        self._level = 1  # of the heading that is open
        self._rows: list[list[str]] = []
        self._header: list[str] = []

    def through(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            match token.type:
                case "inline":
                    self._inline(self._inlines.text(token.children or []))
                case "long":
                    self._inline(token.content)
                case "fence" | "code_block" | "math_block" | "math_block_label":
                    self._blocks.code(token.content)
                case "html_block":
                    self._html(token.content)
                case "paragraph_open":
                    self._close = token.hidden and self._close
                case "ordered_list_open" | "bullet_list_open":
                    start = token.attrGet("start")
                    self._close = bool(self._numbers)
                    self._numbers.append(int(1 if start is None else start) if token.type[0] == "o" else None)
                case "ordered_list_close" | "bullet_list_close":
                    self._numbers.pop()
                    self._close = bool(self._numbers)
                case "list_item_open":
                    self._item()
                case "tr_open":
                    self._rows.append([])
                case "thead_close":
                    self._header = self._rows.pop()
                case "table_close":
                    self._blocks.table(self._rows, self._header)
                    self._rows, self._header = [], []
                case kind if kind.endswith("_open"):
                    self._within.append(kind)
                    if kind == "heading_open":
                        self._level = int(token.tag[1:])
                case kind if kind.endswith("_close") and self._within and kind != "paragraph_close":
                    self._within.pop()

    def _item(self) -> None:
        number = self._numbers[-1] if self._numbers else None
        if number is not None:
            self._mark = f"{number}. "
            self._numbers[-1] = number + 1

    def _inline(self, text: str) -> None:
        within = self._within[-1] if self._within else ""
        if within in ("td_open", "th_open"):
            self._rows[-1].append(text)
            return
        if within == "heading_open":
            self._blocks.heading(_HEADING_NAME.sub("", text.rstrip()), self._level)
        elif within == "dt_open":
            self._blocks.paragraph(self._term)
            self._term = text
            return
        else:
            if self._term:
                text, self._term = f"{clean(self._term)}: {text}", ""
            if callout := _CALLOUT.match(text):
                text = f"{callout[1].capitalize()}: {callout[2]}{text[callout.end() :]}"
            self._blocks.paragraph(self._mark + text, self._close)
        self._mark = ""
        self._close = bool(self._numbers) or within == "dd_open"

    def _html(self, written: str) -> None:
        """Read as a page of HTML is."""
        from lxml import etree, html

        escaped = _NOT_A_TAG.sub(lambda m: "<" if _is_known(m[1]) else "&lt;", written)
        try:
            element = html.fragment_fromstring(escaped, create_parent="div")
            keep_seen(element)
            text = "\n".join(lines_of(element))
        except (etree.ParserError, ValueError, AssertionError, RecursionError):
            return
        for image in element.iter("img"):
            self._blocks.picture(image.get("src") or image.get("data-src") or "", image.get("alt") or "")
        self._blocks.add(text)
        for heading in element.iter(*HEADINGS):
            self._blocks.heads(clean(heading.text_content()), HEADINGS.index(heading.tag) + 1)


def _is_known(tag: str | None) -> bool:
    from deepmmsearch.reading.markdown_rules import TAGS

    return tag is not None and tag.lower() in TAGS


class _Inline:
    """The text of a paragraph; its pictures are shown by the block that it becomes. `closed`: names of elements that
    are closed somewhere in the page."""

    def __init__(self, blocks: Blocks, closed: frozenset[str]) -> None:
        self._blocks = blocks
        self._closed = closed

    def text(self, tokens: Sequence[Token]) -> str:
        lines: list[str] = []
        line = ""
        hidden = ""
        after_picture = False
        opened: list[tuple[str, int, int]] = []  # links: where they lead, the number of the line and where they begin
        closings = [m[1].lower() for t in tokens if t.type == "html_inline" and (m := _CLOSING_TAG.match(t.content))]
        for n, token in enumerate(tokens):
            if hidden:
                hidden = "" if token.content.lower().startswith(f"</{hidden}") else hidden
                continue
            match token.type:
                case "softbreak":
                    line = joined(line, next((t.content[:1] for t in tokens[n + 1 : n + 5] if t.content), "a"))
                case "hardbreak":
                    lines.append(line)
                    line = ""
                case "image":
                    self._blocks.picture(str(token.attrGet("src") or ""), _alt(token))
                case "picture":
                    self._blocks.picture(str(token.attrGet("src") or ""), token.content)
                case "html_inline":
                    said, hidden = self._tag(token.content, line[-1:], closings)
                    line += said
                case "link_open":
                    opened.append((str(token.attrGet("href") or ""), len(lines), len(line)))
                case "link_close" if opened:
                    target, number, start = opened.pop()
                    self._blocks.link(" ".join([*lines[number:], line])[start:], target)
                case "wiki_link":
                    line += token.content
                    self._blocks.link(token.content, str(token.attrGet("src") or ""))
                case "math_inline" | "math_inline_double":
                    line += f"{token.markup}{token.content}{token.markup}"
                case _:
                    # ![](a.png){width=50%}
                    line += _ATTRIBUTES.sub("", token.content) if after_picture else token.content
            after_picture = token.type in ("image", "picture")
        return "\n".join([*lines, line])

    def _tag(self, written: str, before: str, closings: Sequence[str]) -> tuple[str, str]:
        """What a tag stands for in the text, and the element that is not shown, if it begins one."""
        tag = _INLINE_TAG.fullmatch(written)
        if tag is None:  # a comment, a declaration
            return "", ""
        closing, name, attributes = bool(tag[1]), tag[2].lower(), tag[3].strip()
        if not _is_known(name):
            return ("" if self._is_component(tag, before) else written), ""
        if name == "img" and attributes:
            given = {m[1].lower(): m[2] or m[3] or m[4] or "" for m in _ATTRIBUTE.finditer(attributes)}
            self._blocks.picture(given.get("src") or given.get("data-src") or "", given.get("alt") or "")
        if name == "br":
            return "\n", ""
        marks_up = "=" in attributes or attributes.endswith("/") or bool(_FLAGS & set(attributes.lower().split()))
        # <source> in a line of text names something, a<b and c>d compares
        if not (closing or name in _ALONE or marks_up or (name in closings and name not in _EMPTY)):
            return written, ""
        return "", name if name in _HIDDEN and name in closings and not closing else ""

    def _is_component(self, tag: re.Match[str], before: str) -> bool:
        """<Tabs>, <my-element>: of a page's own kinds of elements, but not Vec<T>."""
        name, attributes = tag[2], tag[3].strip()
        own = (name[0].isupper() or "-" in name) and not before.isalnum()
        return own and bool("=" in attributes or attributes.endswith("/") or tag[1] or name in self._closed)


def _alt(token: Token) -> str:
    alt = "".join(t.content or " " * (t.type == "softbreak") for t in token.children or [])
    return _SIZE.sub("", alt) or str(token.attrGet("title") or "")
