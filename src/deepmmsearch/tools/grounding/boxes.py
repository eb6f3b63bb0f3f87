"""Grounding by a vision-language model's own boxes: "Locate the flag on the ship. Output its bounding box in JSON."

Qwen2.5-VL answers in absolute pixels of the picture as it saw it, Qwen3-VL in thousandths of its sides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.agent.protocols import LanguageModel
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.escaping import escape_chat_tokens
from deepmmsearch.prompts import grounding_prompt
from deepmmsearch.thoughts import without_thoughts
from deepmmsearch.types import Box, Completion

BoxDialect = Literal["qwen2.5-vl", "qwen3-vl", "gemini", "fractions"]
"""Pixels of the picture as the model saw it; thousandths of its sides; thousandths, the upper edge first; fractions."""
# by model types and by what endpoints call a model, as their makers document it; the first that fits
_BY_NAME: tuple[tuple[re.Pattern[str], BoxDialect], ...] = (
    (re.compile(r"qwen[-_ ]?2[._]?5[-_ ]?(vl|omni)|mimo[-_]?vl", re.I), "qwen2.5-vl"),
    (re.compile(r"qwen[-_ ]?(2|3|3[._]5)[-_ ]?vl|qwen3[._]5", re.I), "qwen3-vl"),
    (
        re.compile(
            r"intern[-_ ]?vl|glm[-_ ]?4[._]?\d?v|minicpm[-_ ]?v|deepseek[-_ ]?vl|seed[-_ ]?\d?[._]?\d?[-_ ]?vl", re.I
        ),
        "qwen3-vl",
    ),
    (re.compile(r"gemini", re.I), "gemini"),
    (re.compile(r"kimi[-_ ]?vl|ovis", re.I), "fractions"),
)
_NUMBER = r"\s*[\"']?(-?\d{1,9}(?:\.\d+)?)[\"']?\s*"
_PAIR = rf"[\[(]{_NUMBER},{_NUMBER}[\])]"
# [x0, y0, x1, y1], and the two corners (x0, y0), (x1, y1) of Qwen2-VL
_BOX = re.compile(rf"[\[(]{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}[\])]|{_PAIR}(?:\s*,)?\s*{_PAIR}")
_BARE = re.compile(r"(?<![\w.])-?\d{1,9}(?:\.\d+)?(?![\w])")
MOST_BOXES = 32


@runtime_checkable
class Speaker(Protocol):
    """What a policy with a model of its own offers beside `act`: a picture as the model sees it, and the reply to one
    conversation."""

    def view(self, image: Image, /) -> Image: ...
    async def complete(self, conversation: Sequence[dict[str, Any]], pictures: Sequence[Image] = ()) -> Completion: ...


def box_dialect(model: str) -> BoxDialect | None:
    """How a model of this type or name writes boxes; None where that is not known."""
    return next((dialect for pattern, dialect in _BY_NAME if pattern.search(model)), None)


def parse_boxes(text: str, seen: tuple[int, int], dialect: BoxDialect = "qwen2.5-vl") -> list[Box]:
    """The boxes in a model's answer, in pixels of the picture it saw (width, height), in the order it named them.

    A box is four numbers in brackets, two corners, or a text that holds four numbers and no more. Corners may be
    swapped; what lies outside is cut off; boxes without area and repeated ones are left out. No text raises.
    """
    whole = {"qwen2.5-vl": None, "fractions": 1.0}.get(dialect, 1000.0)
    across, down = (1.0, 1.0) if whole is None else (seen[0] / whole, seen[1] / whole)
    boxes: dict[Box, None] = {}
    for x0, y0, x1, y1 in _quadruples(text):
        if dialect == "gemini":
            x0, y0, x1, y1 = y0, x0, y1, x1
        corners = Box(min(x0, x1) * across, min(y0, y1) * down, max(x0, x1) * across, max(y0, y1) * down)
        box = images.clamp(corners, seen)
        if box.area > 0:
            boxes[box] = None
    return list(boxes)[:MOST_BOXES]


def _quadruples(text: str) -> list[list[float]]:
    found = [[float(n) for n in groups if n] for groups in _BOX.findall(text)]
    if found:
        return found
    bare = [float(n) for n in _BARE.findall(text)]
    return [bare] if len(bare) == 4 else []


class OwnModelGrounder:
    """Grounder: asks a vision-language model, the policy's own or another one, which sees `view` of the picture.

    A box's score is the geometric mean probability of all tokens of the answer where the endpoint gives them, else 1:
    the coordinates alone would score low for good boxes, because a model that names pixels spreads its belief over
    neighbouring ones. `ready` is awaited before each question.
    """

    def __init__(
        self,
        speaker: LanguageModel,
        view: Callable[[Image], Image],
        dialect: BoxDialect = "qwen2.5-vl",
        ready: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._speaker, self._view, self._dialect, self._ready = speaker, view, dialect, ready

    async def locate(self, image: Image, phrase: str) -> list[Box]:
        """Raises ToolError when the model cannot be asked, FrameError when its boxes would lie elsewhere."""
        if self._ready is not None:
            await self._ready()
        seen = self._view(image)
        # The phrase is the policy's: it must not end its own turn.
        question = {"type": "text", "text": grounding_prompt(escape_chat_tokens(phrase))}
        conversation = [{"role": "user", "content": [{"type": "image"}, question]}]
        try:
            completion = await self._speaker.complete(conversation, [seen])
        except UserError as error:
            raise ToolError(f"The model could not be asked for the region: {error}") from error
        if completion.finish == "context":
            raise ToolError("The question for the region does not fit into the model's window.")
        if completion.finish in ("filter", "refusal", "cut"):
            raise ToolError("The model did not say where the region is: it refused, or its reply was withheld.")
        score = math.exp(sum(completion.logprobs) / len(completion.logprobs)) if completion.logprobs else 1.0
        found = parse_boxes(without_thoughts(completion.text), seen.size, self._dialect)
        scaled = [images.scale(box, seen.size, image.size) for box in found]
        return [Box(b.left, b.top, b.right, b.bottom, score) for b in scaled]
