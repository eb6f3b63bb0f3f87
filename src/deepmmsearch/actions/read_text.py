"""What is written in a picture of the episode, or in a part of it: signs, labels, scanned pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat

from deepmmsearch.agent.lines import Line, join, unnumbered
from deepmmsearch.agent.looking import FRAMES, Frame, LookingTool, check_named, look
from deepmmsearch.agent.metering import using
from deepmmsearch.agent.toolbox import Toolbox
from deepmmsearch.errors import ToolMissing
from deepmmsearch.types import Observation, Trajectory, Use


@dataclass(frozen=True)
class Inscription:
    picture: Annotated[int, Field(ge=1, le=999)] = 1
    region: str | None = None
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None


class ReadText(LookingTool[Inscription]):
    """Reads what a picture says, which is no search. `limit`: how often in an episode; `frame`: of the boxes it takes;
    `reader`: who reads, RapidOCR (ocr) or the policy's own model (own)."""

    name = "read_text"
    arguments = Inscription
    search = False

    def __init__(
        self,
        limit: Annotated[int, Field(ge=1)] | None = None,
        frame: Frame = "thousandths",
        reader: Literal["ocr", "own"] = "ocr",
    ) -> None:
        self.limit, self.frame, self.reader = limit, frame, reader
        self.about = (
            'tells what is written in a picture: {"picture": 1}, or in a part of it with '
            f'"region": "the sign" or "box": [left, top, right, bottom] {FRAMES[frame]}.'
        )

    def accept(self, arguments: Mapping[str, Any]) -> Use:
        asked = self._checked(arguments)
        check_named(asked.region, asked.box)
        return super().accept(arguments)

    async def use(self, arguments: Inscription, trajectory: Trajectory, tools: Toolbox) -> Observation:
        if tools.ocr is None:
            raise ToolMissing("Text in pictures cannot be read here. Use another tool or answer.")
        part = await look(trajectory, tools, arguments.picture, arguments.region, arguments.box, self.frame)
        with using("ocr", tools.ocr):
            written = await tools.ocr.transcribe(part.image)
        # each line of it begins with words of ours: a sign may say "Error:", or what passes for a hit
        lines = [Line(f"It says: {unnumbered(line)}") for line in written.splitlines() if line.strip()]
        if not lines:
            return Observation(f"No text was found in {part.said}.", grounding=part.grounding)
        text, _ = join([Line(f"Text in {part.said}:"), *lines], tools.max_text)
        return Observation(text, grounding=part.grounding)
