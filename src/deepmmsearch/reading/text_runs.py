"""The text of an HTML tree in runs, each without a block between."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from deepmmsearch.reading.page_text import BLOCKS

GRAM = 4
_OWN_WORDS = re.compile("([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
_WORD = re.compile(r"[^\W_]+")


@dataclass
class TextRun:
    """Text without a block between: the block that it stands in; its words; its text and the pieces of it; its
    characters, and how many are in links; whether trafilatura has it too; where it stands: behind an element (True) or
    at its beginning."""

    block: Any
    words: list[str] = field(default_factory=list)
    text: str = ""
    pieces: list[str] = field(default_factory=list)
    size: int = 0
    linked: int = 0
    told: bool = False
    places: list[tuple[Any, bool]] = field(default_factory=list)


def words_of(text: str) -> list[str]:
    return _WORD.findall(_OWN_WORDS.sub(r" \1 ", text).lower())


def grams_of(words: list[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[n : n + GRAM]) for n in range(max(1, len(words) - GRAM + 1)))


def runs_of(body: Any) -> Iterator[TextRun]:
    from lxml import etree

    blocks, links = [body], 0
    run = TextRun(body)
    for event, element in etree.iterwalk(body, events=("start", "end")):
        tag, start = element.tag, event == "start"
        if tag in BLOCKS or tag == "br":
            if _finished(run):
                yield run
            if tag != "br" and element is not body:
                blocks.append(element) if start else blocks.pop()
            run = TextRun(blocks[-1])
        links += (tag == "a") * (1 if start else -1)
        text = element.text if start else element.tail if element is not body else None
        if text:
            run.pieces.append(text)
            if size := len(text.strip()):
                run.places.append((element, not start))
                run.size += size
                run.linked += size * (links > 0)
    if _finished(run):
        yield run


def _finished(run: TextRun) -> bool:
    run.text = "".join(run.pieces).strip()
    run.words = words_of(run.text)
    return bool(run.words)
