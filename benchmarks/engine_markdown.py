"""How many of the documentation files in a folder are damaged by reading: words or lines of code that a renderer of
Markdown shows and that are not in the text.

The judge is markdown-it's own HTML, whose text is taken by lxml; reStructuredText is judged by docutils, where it is
installed. A file is damaged when more than one word in a hundred, or one line of code, is missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from lxml import html
from markdown_it import MarkdownIt

from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.file_kinds import extract
from deepmmsearch.reading.front_matter import split_front_matter

MOST_MISSING = 0.01
# what its renderer does not know: links and pictures of notes, names of headings, footnotes, short codes, containers
_BEYOND = (
    (re.compile(r"!\[\[[^\[\]]*\.\w{2,5}(?:\\?\|[^\[\]]*)?\]\]"), " "),
    (re.compile(r":[\w:.+-]+:(?=`)|<[^<>\n]*>(?=`)"), " "),
    (re.compile(r"\[\[[^\[\]|]*\|([^\[\]]*)\]\]"), r" \1 "),
    (
        re.compile(
            r"\[\^[^\]\s]+\]:?|\{#[^{}]*\}|\{\{[<%][^\n]*?[>%]\}\}|\{%[^\n]*?%\}|^:::+[ \t]*\w*|^!\[[^\]]*\]\([^)]*\)",
            re.M,
        ),
        " ",
    ),
)


def rendered(text: str) -> str:
    """Markdown as HTML, by the parser's own renderer."""
    _, body = split_front_matter(text)
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body)


def rendered_rst(text: str) -> str:
    from docutils.core import publish_parts

    settings = {
        "report_level": 5,
        "halt_level": 6,
        "file_insertion_enabled": False,
        "raw_enabled": False,
        "math_output": "LaTeX",
        "syntax_highlight": "none",
    }
    return str(publish_parts(text, writer="html5", settings_overrides=settings)["html_body"])


def damage(shown: str, text: str) -> tuple[float, list[str]]:
    """The share of words, and the lines of code, that are missing in the text."""
    page = html.fragment_fromstring(shown, create_parent="div")
    for element in page.xpath(
        ".//script | .//style | .//*[@class='system-message'] | .//*[contains(@class, 'contents')] | .//comment()"
    ):
        element.drop_tree()
    lines = {line.rstrip() for line in text.split("\n")}
    code = [line.rstrip() for pre in page.iter("pre") for line in pre.text_content().split("\n")]
    told = page.text_content()
    for pattern, stands_for in _BEYOND:
        told = pattern.sub(stands_for, told)
    words = Counter(re.findall(r"\w+", told.lower()))
    missing = words - Counter(re.findall(r"\w+", text.lower()))
    return missing.total() / max(1, words.total()), [line for line in code if line.strip() and line not in lines]


def judges() -> dict[str, Callable[[str], str]]:
    known: dict[str, Callable[[str], str]] = dict.fromkeys((".md", ".markdown", ".mdx"), rendered)
    try:
        import docutils  # noqa: F401
    except ImportError:
        return known
    return {**known, ".rst": rendered_rst}


def measure(folder: Path, tell: Callable[[str], object] | None = None) -> tuple[int, int]:
    """Files that were compared, and how many of them are damaged."""
    compared = damaged = 0
    by_suffix = judges()
    for path in sorted(folder.rglob("*")):
        judge = by_suffix.get(path.suffix.lower())
        if judge is None or not path.is_file():
            continue
        content = path.read_bytes()
        try:
            text = extract(path.name, content).text
            share, code = damage(judge(content.decode("utf-8")), text)
        except (Unreadable, UnicodeDecodeError):
            continue
        compared += 1
        if share > MOST_MISSING or code:
            damaged += 1
            if tell is not None:
                tell(f"{path.relative_to(folder)}: {share:.1%} of the words, {len(code)} lines of code {code[:2]}")
    return compared, damaged
