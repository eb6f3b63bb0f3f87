"""What people write in Markdown beyond CommonMark, as rules of its parser: wiki links and pictures, notes, admonitions,
short codes, components, and tags that are none."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.html_block import html_block
from markdown_it.rules_inline import StateInline
from mdit_py_plugins.admon import admon_plugin
from mdit_py_plugins.deflist import deflist_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

_TAGS_TEXT = """
a abbr acronym address applet area article aside audio b base basefont bdi bdo bgsound big blink blockquote body br
button canvas caption center cite code col colgroup data datalist dd del details dfn dialog dir div dl dt em embed
fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe image
img input ins isindex kbd keygen label legend li link main map mark marquee math menu menuitem meta meter nav nobr
noembed noframes noscript object ol optgroup option output p param picture plaintext portal pre progress q rb rbc rp rt
rtc ruby s samp script search section select slot small source spacer span strike strong style sub summary sup svg table
tbody td template textarea tfoot th thead time title tr track tt u ul var video wbr xmp
"""
TAGS = frozenset(_TAGS_TEXT.split())
# beyond CommonMark's twenty, where it drops what is nested deeper
MAX_NESTING = 60

_TAG = re.compile(r"</?([A-Za-z][\w.:-]{0,80})")
_WIKI = re.compile(r"(!?)\[\[(?!\s)([^\[\]\n|]{1,400})(?:\\?\|([^\[\]\n]{0,400}))?\]\](?![(\[])")
_NUMBERS = re.compile(r"[\d\s,.:+\-]*")
_LOOSE_PICTURE = re.compile(
    r"!\[([^\]\n]{0,500})\]\(\s*([^\n<>\"]{1,500}?\.(?:png|jpe?g|webp|gif|bmp|tiff?|svg|avif|heic))\s*\)", re.I
)
_NOTE = re.compile(r"\[\^([^\]\s]{1,80})\](:[ \t]*)?")
_SHORT_CODE = re.compile(r"\{\{[<%](?!/\*)([^\n]{0,500}?)[>%]\}\}|\{%([^\n]{0,500}?)%\}|\{/\*[^\n]{0,2000}?\*/\}")
_SAID = re.compile(r"\b(?:text|title|caption|alt|label|name|heading)=\"([^\"]*)\"")
_CONTAINER = re.compile(r":{3,}+[ \t]*+(?:\{[^}]{0,200}\}|[\w-]{0,40}+)(?:\{[^}]{0,200}\})?[ \t]*+(.*+)")
_MODULE = re.compile(
    r"(?:import[ \t]++(?:[\w*${][^'\"\n]{0,400}[ \t}]from[ \t]*+)?['\"][^'\"\n]{1,400}['\"]"
    r"|export[ \t]++(?:const|let|default|function|\{|\*)[^\n]*+);?[ \t]*+"
)
_DUNDER = re.compile(r"__([a-z][a-z\d_]{0,40}?)__(?!\w)(?=(\.\w|\()?)")
_SPECIAL_NAMES = frozenset(
    name.strip("_") for kind in (type, int, dict, list, str, object) for name in dir(kind) if name.startswith("__")
) | frozenset(
    "all aenter aexit aiter anext await annotations call debug del delete enter exit file fspath func future get init "
    "initial iter main missing name next package path post_init prepare pycache set set_name slots spec version "
    "version_info wrapped array array_interface array_function array_ufunc author license".split()
)


def parser() -> MarkdownIt:
    """CommonMark with tables, definitions, mathematics and the rest; addresses of links stay as they are written."""
    made = MarkdownIt("commonmark", {"html": True, "maxNesting": MAX_NESTING})
    made.enable(["table", "strikethrough"])
    made.use(deflist_plugin).use(dollarmath_plugin, double_inline=True).use(admon_plugin)
    made.normalizeLink = _as_written  # type: ignore[method-assign]
    made.validateLink = lambda url: True  # type: ignore[method-assign]
    made.block.ruler.at("html_block", _html_block, {"alt": ["paragraph", "reference", "blockquote"]})
    made.block.ruler.before("reference", "note", _note_text, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    made.block.ruler.before(
        "reference", "container_mark", _container_mark, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    made.block.ruler.before("reference", "module", _module)
    made.inline.ruler.before("link", "wiki", _wiki)
    made.inline.ruler.before("link", "note_mark", _note_mark)
    made.inline.ruler.after("image", "loose_picture", _loose_picture)
    made.inline.ruler.before("emphasis", "special_name", _special_name)
    made.inline.ruler.before("html_inline", "short_code", _short_code)
    return made


def _as_written(url: str) -> str:
    return url


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]


def _html_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Only of elements that HTML has: a line that begins with <T> is text."""
    tag = _TAG.match(_line(state, start))
    return (tag is None or tag[1].lower() in TAGS) and html_block(state, start, end, silent)


def _paragraph(state: StateBlock, start: int, after: int, content: str) -> bool:
    state.line = after
    state.push("paragraph_open", "p", 1).map = [start, after]
    inline = state.push("inline", "", 0)
    inline.content, inline.map, inline.children = content.strip(), [start, after], []
    state.push("paragraph_close", "p", -1)
    return True


def _note_text(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """`[^1]: what it says` is a paragraph where it stands, whether anything refers to it or not."""
    line = _line(state, start)
    if not line.startswith("[^") or state.is_code_block(start):
        return False
    note = _NOTE.match(line)
    if note is None or not note[2]:
        return False
    if silent:
        return True
    lines = [line[note.end() :]]
    after = start + 1
    while after < end and not state.isEmpty(after) and not _line(state, after).startswith("[^"):
        lines.append(_line(state, after))
        after += 1
    return _paragraph(state, start, after, "\n".join(lines))


def _container_mark(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """`:::tip A title` and `:::`; what stands between the two are blocks like others."""
    line = _line(state, start)
    if not line.startswith(":::") or state.is_code_block(start):
        return False
    mark = _CONTAINER.fullmatch(line)
    return mark is not None and (silent or _paragraph(state, start, start + 1, mark[1]))


def _module(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """The imports and exports of MDX."""
    if silent or state.level > 0 or not _line(state, start).startswith(("import", "export")):
        return False
    after = start
    while after < end and _MODULE.fullmatch(_line(state, after)):
        after += 1
    if after == start or not (after == end or state.isEmpty(after)):
        return False
    state.line = after
    return True


def _push(state: StateInline, length: int, silent: bool, kind: str, content: str, target: str = "") -> bool:
    if not silent:
        token = state.push(kind, "", 0)
        token.content = content
        if target:
            token.attrSet("src", target)
    state.pos += length
    return True


def _at(state: StateInline, pattern: re.Pattern[str], first: str) -> re.Match[str] | None:
    return pattern.match(state.src, state.pos, state.posMax) if state.src[state.pos] in first else None


def _wiki(state: StateInline, silent: bool) -> bool:
    found = _at(state, _WIKI, "![")
    if found is None or _NUMBERS.fullmatch(found[2]) or _within_word(state):
        return False
    # in a table the | is written \|
    target, said = found[2].rstrip("\\").strip(), (found[3] or "").strip()
    if found[1] and re.search(r"\.\w{2,5}$", target):
        alt = "" if _NUMBERS.fullmatch(said.replace("x", "")) else said
        return _push(state, len(found[0]), silent, "picture", alt, target)
    shown = said or target.lstrip("#^").replace("#", " > ")
    return _push(state, len(found[0]), silent, "wiki_link", shown, target)


def _within_word(state: StateInline) -> bool:
    return state.pos > 0 and (state.src[state.pos - 1].isalnum() or state.src[state.pos - 1] in "_])")


def _note_mark(state: StateInline, silent: bool) -> bool:
    """Gone where a note has that name; [^a-z] stays."""
    found = _at(state, _NOTE, "[")
    named = found is not None and not found[2] and found[1] in state.env.get("notes", ())
    return named and _push(state, len(found[0]), silent, "text", "")  # type: ignore[index]


def _loose_picture(state: StateInline, silent: bool) -> bool:
    """With blanks in its address, which CommonMark wants within <>."""
    found = _at(state, _LOOSE_PICTURE, "!")
    return found is not None and _push(state, len(found[0]), silent, "picture", found[1], found[2])


def _special_name(state: StateInline, silent: bool) -> bool:
    """Python's __init__ is not a word in bold type."""
    found = _at(state, _DUNDER, "_")
    if found is None or _within_word(state) or not (found[2] or found[1] in _SPECIAL_NAMES):
        return False
    return _push(state, len(found[0]), silent, "text", found[0])


def _short_code(state: StateInline, silent: bool) -> bool:
    """Those of Hugo and Jekyll, with what they are told to say."""
    found = _at(state, _SHORT_CODE, "{")
    return found is not None and _push(
        state, len(found[0]), silent, "text", " ".join(_SAID.findall(found[1] or found[2] or ""))
    )
