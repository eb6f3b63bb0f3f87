"""What a search found, as the lines of an observation: every line that tells of hits names them by their rank.

Passages are untrusted text; a line is one line whatever they hold, and numbers of lines are ours alone, so none can
pass for another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deepmmsearch.escaping import escape_numbers
from deepmmsearch.types import Cited, Hit

NOTHING = "Nothing found."
LONGEST_TITLE = 200


@dataclass(frozen=True)
class Line:
    """One line of an observation, and what it cites where it tells of hits."""

    text: str
    cited: Cited | None = None


def text_lines(summaries: Sequence[str]) -> list[Line]:
    """One line per passage that has something to say, numbered by its rank."""
    return [
        Line(f"[{rank}] {unnumbered(text)}", Cited(text, (rank,))) for rank, text in enumerate(summaries, 1) if text
    ]


def summary_lines(sentences: Sequence[Cited], ranks: Sequence[int]) -> list[Line]:
    """One line per sentence of a summary, its hits at the end. `ranks`: those of the passages that were summarised. A
    sentence without a hit that exists is kept in the record, but not shown."""
    lines = []
    for sentence in sentences:
        hits = tuple(sorted({ranks[n - 1] for n in sentence.hits if 0 < n <= len(ranks)}))
        text, marks = unnumbered(sentence.text), "".join(f"[{rank}]" for rank in hits)
        lines.append(Line(f"{text} {marks}" if hits and text else "", Cited(sentence.text, hits)))
    return lines


def image_lines(
    hits: Mapping[int, Hit], summaries: Mapping[int, str], longest: int, pictures: Mapping[int, int] | None = None
) -> list[Line]:
    """One line per hit, by rank: does it match, its title, and what its summary adds to that. `pictures`: the number of
    the picture that shows it, where pictures are shown."""
    lines = []
    for rank, hit in hits.items():
        title = cut(one_line(hit.title), LONGEST_TITLE) or "untitled"
        summary = summaries.get(rank, "")
        said = title + (f" {summary}" if _adds(summary, title) else "")
        shown = f" (picture {pictures[rank]})" if pictures and rank in pictures else ""
        lines.append(Line(cut(f"[{rank}] {mark(hit)}{shown}: {unnumbered(said)}", longest), Cited(said, (rank,))))
    return lines


def mark(hit: Hit) -> str:
    """The word that tells the policy how far to trust an image hit."""
    if not hit.matched:
        return "similar"
    return "match by rank" if hit.matched_by == "rank" else "match"


def join(lines: Sequence[Line], longest: int) -> tuple[str, tuple[Cited, ...]]:
    """Whole lines as long as they fit in `longest` characters, and what these cite; the tail of the ranking is left
    out."""
    kept: list[Line] = []
    for line in lines:
        if any(k.text for k in kept) and sum(len(k.text) + 1 for k in kept) + len(line.text) > longest:
            break
        kept.append(line)
    text = cut("\n".join(k.text for k in kept if k.text), longest)
    return text or NOTHING, tuple(k.cited for k in kept if k.cited is not None)


def one_line(text: str) -> str:
    return " ".join(text.split())


def unnumbered(text: str) -> str:
    """Text from outside as a part of a line: one line, in which nothing looks like the number of another."""
    return escape_numbers(one_line(text))


def cut(text: str, longest: int) -> str:
    """At most `longest` characters, cut between words where there is one."""
    if len(text) <= longest:
        return text
    head = text[: max(1, longest - 1)]
    return (head.rsplit(" ", 1)[0] or head).rstrip() + "…"


def _adds(summary: str, title: str) -> bool:
    """Does the summary say more than the title? Compared by letters and digits alone."""
    said, known = (re.sub(r"\W+", "", t).casefold() for t in (summary, title))
    return bool(said) and said not in known
