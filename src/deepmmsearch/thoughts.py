"""What a model thought, parted from what it said: the one place that knows how thoughts are marked.

Models write them between `<think>` and `</think>` or marks of the same kind; chat templates that write the first mark
themselves leave only the last one in the reply; a reply that was cut leaves only the first. Servers that part them give
them in a field of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAMES = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|cot_budget_reflect)"
_OPENS = rf"<\s*{_NAMES}\s*>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>\s*analysis\s*<\|message\|>"
_CLOSES = (
    rf"<\s*/\s*{_NAMES}\s*>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>"
    r"|(?:<\|end\|>\s*)?(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s*final\s*<\|message\|>"
)
_MARK = re.compile(rf"(?P<opens>{_OPENS})|(?P<closes>{_CLOSES})", re.IGNORECASE)


@dataclass(frozen=True)
class PartedReply:
    """`thoughts` is empty where there were none; neither part has space around it."""

    said: str
    thoughts: str = ""


def part_thoughts(text: str, reasoning: str | None = None) -> PartedReply:
    """A model's reply in two. `reasoning`: what the server gave apart (`reasoning_content`, `reasoning`).

    A lone closing mark ends thoughts that began with the reply; a lone opening one is thought to the end.
    """
    thoughts, said = [reasoning or ""], list[str]()
    at, thinking = 0, False
    for mark in _MARK.finditer(text):
        piece = text[at : mark.start()]
        at = mark.end()
        if mark["opens"]:
            (thoughts if thinking else said).append(piece)
            thinking = True
        elif thinking:
            thoughts.append(piece)
            thinking = False
        else:
            thoughts += [*said, piece]
            said.clear()
    (thoughts if thinking else said).append(text[at:])
    return PartedReply(_joined(said), _joined(thoughts))


def without_thoughts(text: str) -> str:
    """What the reply says, without what was thought."""
    return part_thoughts(text).said


def _joined(pieces: list[str]) -> str:
    return "\n".join(piece for raw in pieces if (piece := raw.strip()))
