"""Conversations to keep or to send: as Markdown, JSON, or one HTML file with everything in it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from deepmmsearch.escaping import one_line, plain, readable_address
from deepmmsearch.serve.history import HistoryEntry
from deepmmsearch.serve.steps import CitedAnswer, cited, told
from deepmmsearch.show.citations import Source
from deepmmsearch.show.gallery import Card
from deepmmsearch.show.page import is_web_address, render_page
from deepmmsearch.show.terminal import as_json
from deepmmsearch.types import Trajectory

MEDIA = {"md": "text/markdown", "json": "application/json", "html": "text/html"}


class Kept(NamedTuple):
    """A question of the history with its episode."""

    entry: HistoryEntry
    trajectory: Trajectory


class Answered(NamedTuple):
    """What the HTML file shows of one question."""

    question: str
    answer: CitedAnswer
    card: Card


def export(kept: Sequence[Kept], kind: str) -> str:
    """A conversation, oldest question first, as one of MEDIA."""
    match kind:
        case "json":
            rows = [{**as_json(k.trajectory), "date": k.entry.date, "model": k.entry.model} for k in kept]
            return json.dumps({"title": kept[0].entry.title, "questions": rows}, indent=1, ensure_ascii=False) + "\n"
        case "html":
            return _html(kept)
    return _markdown(kept)


def file_name(title: str, kind: str) -> str:
    """Of letters that no file system minds."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", title)[:50].strip("-").lower()
    return f"{words or 'answer'}.{kind}"


def _html(kept: Sequence[Kept]) -> str:
    shown = [
        Answered(k.entry.question, cited(k.trajectory), Card(k.trajectory, None, k.entry.model, len(kept) == 1))
        for k in kept
    ]
    return render_page("conversation.html", kept[0].entry.title, f"Asked on {kept[0].entry.date[:10]}.", answered=shown)


def _markdown(kept: Sequence[Kept]) -> str:
    lines = [f"# {_text(kept[0].entry.title)}", ""]
    for entry, trajectory in kept:
        answer = cited(trajectory)
        lines += [f"## {_text(entry.question)}", "", f"*{_text(entry.date)}, {_text(entry.model)}*", ""]
        lines += [_text(line) for line in plain(answer.text).split("\n")] + [""]
        lines += [f"{number}. {_source(source)}" for number, source in enumerate(answer.sources, 1)]
        if answer.read:
            lines += ["", "Read besides:", "", *(f"- {_source(source)}" for source in answer.read)]
        steps = "".join(told(turn, trajectory.prompt.dialect) for turn in trajectory.turns)
        lines += ["", "### Steps", "", *(f"    {line}" for line in plain(steps).splitlines()), ""]
    return "\n".join(lines)


def _source(source: Source) -> str:
    # an address that would end the link within itself is shown as text
    linked = is_web_address(source.url) and not re.search(r"[\s<>()]", source.url)
    title = _text(source.title or readable_address(source.url))
    named = f"[{title}](<{source.url}>)" if linked else f"{title} {_text(readable_address(source.url))}".rstrip()
    return f"{named}: {_text(source.sentence)}" if source.sentence else named


def _text(text: str) -> str:
    """Without anything that Markdown, or HTML in it, would obey."""
    line = re.sub(r"([\\`*_{}\[\]<>#|~!&])", r"\\\1", one_line(text))
    return re.sub(r"^(\s*)([-+=]|\d+[.)])", r"\1\\\2", line)
