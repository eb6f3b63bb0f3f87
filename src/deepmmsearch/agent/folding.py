"""Long episodes in a short window: what older observations said is folded to the lines that tell of hits, and their
pictures are named instead of shown.

The trajectory itself stays whole; only what the policy reads is folded. So the tokens of a turn are no prefix of the
next one's, and rollouts for training cannot be played this way.
"""

from __future__ import annotations

import re
from dataclasses import replace

from deepmmsearch.agent.lines import cut
from deepmmsearch.types import Observation, Trajectory, Turn

LONGEST_LINE, LONGEST_TEXT = 240, 400
# one token of text for so many bytes, and one of a picture for so many pixels (Qwen2.5-VL: 28 x 28)
_BYTES, _PIXELS = 4, 28 * 28
# how a line that tells of hits begins or ends (`agent.lines`)
_TELLS = re.compile(r"^\[\d{1,3}\] |\[\d{1,3}\]$")


def folded(trajectory: Trajectory, tokens: int, max_pixels: int) -> Trajectory:
    """What a policy with room for about `tokens` reads: from the oldest on, so many observations are folded as it
    takes, never the last one. `max_pixels`: the largest picture as the model sees it.

    The estimate rests on the trajectory alone, so what was folded stays folded.
    """
    prompt, question, turns = trajectory.prompt, trajectory.question, list(trajectory.turns)
    said = [prompt.system, prompt.user, question.text, *(t for e in question.history for t in (e.question, e.answer))]
    size = sum(map(_text, said)) + sum(_picture(p.size, max_pixels) for p in question.images)
    size += sum(_observation(o, max_pixels) for o in trajectory.context)
    size += sum(_turn(turn, max_pixels) for turn in turns)
    number = len(replace(trajectory, turns=()).pictures)
    for place, turn in enumerate(turns[:-1]):
        if size <= tokens:
            break
        if (seen := turn.observation) is None:
            continue
        first = number + (seen.crop is not None) + 1
        number += (seen.crop is not None) + len(seen.images)
        short = replace(seen, text=_folded(seen, first), images=())
        turns[place] = replace(turn, observation=short)
        size += _observation(short, max_pixels) - _observation(seen, max_pixels)
    return replace(trajectory, turns=tuple(turns))


def _folded(seen: Observation, first: int) -> str:
    told = [cut(line, LONGEST_LINE) for line in seen.text.splitlines() if _TELLS.search(line)]
    text = "\n".join(told) if told else cut(seen.text, LONGEST_TEXT)
    last = first + len(seen.images) - 1
    if last > first:
        return f"{text}\n(Pictures {first} to {last} were shown here.)"
    return f"{text}\n(Picture {first} was shown here.)" if last == first else text


def _text(text: str) -> float:
    return len(text.encode("utf-8", "replace")) / _BYTES


def _picture(size: tuple[int, int], most: int) -> float:
    return min(size[0] * size[1], most) / _PIXELS


def _observation(seen: Observation, most: int) -> float:
    return _text(seen.text) + sum(_picture(p.size, most) for p in seen.images)


def _turn(turn: Turn, most: int) -> float:
    written = turn.completion.sampled or _text(turn.completion.text)
    return written + (_observation(turn.observation, most) if turn.observation is not None else 0)
