"""Grounding by a vision-language model's own boxes: "Locate the flag on the ship. Output its bounding box in JSON."

Qwen2.5-VL answers in absolute pixels of the picture as it saw it, Qwen3-VL in thousandths of its sides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.errors import ToolError
from deepmmsearch.prompts import grounding_prompt
from deepmmsearch.types import Box, Completion

BoxDialect = Literal["qwen2.5-vl", "qwen3-vl"]
_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_FOUR = re.compile(rf"[\[(]{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}[\])]")


class Speaker(Protocol):
    """What a policy offers beside `act`: the reply to one conversation, and the picture as it sees it."""

    async def complete(self, conversation: Sequence[dict[str, Any]], pictures: Sequence[Image] = ()) -> Completion: ...


def parse_boxes(text: str, seen: tuple[int, int], dialect: BoxDialect = "qwen2.5-vl") -> list[Box]:
    """The boxes in a model's answer, in pixels of the picture it saw (width, height), in the order it named them.

    Four numbers in brackets are a box wherever they stand; corners may be swapped; what lies outside is cut off; boxes
    without area are left out. No text raises.
    """
    across, down = (1.0, 1.0) if dialect == "qwen2.5-vl" else (seen[0] / 1000, seen[1] / 1000)
    boxes = []
    for found in _FOUR.findall(text):
        x0, y0, x1, y1 = (float(n) for n in found)
        if not all(math.isfinite(n) for n in (x0, y0, x1, y1)):
            continue
        corners = Box(min(x0, x1) * across, min(y0, y1) * down, max(x0, x1) * across, max(y0, y1) * down)
        box = images.clamp(corners, seen)
        if box.area > 0:
            boxes.append(box)
    return boxes


class OwnModelGrounder:
    """Grounder: asks the policy's own model. A box's score is the geometric mean probability of the answer's tokens
    where the endpoint gives them, else 1."""

    def __init__(self, speaker: Speaker, view: Callable[[Image], Image], dialect: BoxDialect = "qwen2.5-vl") -> None:
        self._speaker, self._view, self._dialect = speaker, view, dialect

    async def locate(self, image: Image, phrase: str) -> list[Box]:
        seen = self._view(image)
        question = {"type": "text", "text": grounding_prompt(phrase)}
        conversation = [{"role": "user", "content": [{"type": "image"}, question]}]
        completion = await self._speaker.complete(conversation, [seen])
        if completion.finish == "context":
            raise ToolError("The question for the region does not fit into the model's window.")
        score = math.exp(sum(completion.logprobs) / len(completion.logprobs)) if completion.logprobs else 1.0
        found = parse_boxes(completion.text, seen.size, self._dialect)
        scaled = [images.scale(box, seen.size, image.size) for box in found]
        return [Box(b.left, b.top, b.right, b.bottom, score) for b in scaled]
