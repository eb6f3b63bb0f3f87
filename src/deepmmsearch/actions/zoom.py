"""A part of a picture by itself, larger and turned if wanted: the next picture of the episode, without a search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import Field, FiniteFloat

from deepmmsearch.agent.looking import FRAMES, Frame, LookingTool, check_named, look
from deepmmsearch.agent.toolbox import Toolbox
from deepmmsearch.types import Observation, Trajectory, Use

_LARGEST_FACTOR = 8
_TURNED = {
    90: Image.Transpose.ROTATE_270,  # Pillow turns to the left
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Closeup:
    """`rotate`: degrees clockwise; `enlarge`: how many times as wide and as high. `frame`: of the box, where it is not
    the tool's."""

    picture: Annotated[int, Field(ge=1, le=999)] = 1
    region: str | None = None
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None
    rotate: Literal[0, 90, 180, 270] = 0
    enlarge: Annotated[float, Field(ge=1, le=_LARGEST_FACTOR)] = 1.0
    frame: Frame | None = None


class Zoom(LookingTool[Closeup]):
    """Shows a part of a picture, which is no search.

    `limit`: how often in an episode; `max_pixels`: up to where a part is enlarged; `frame`: of the boxes it takes.
    """

    name = "zoom"
    arguments = Closeup
    search = False

    def __init__(
        self,
        limit: Annotated[int, Field(ge=1)] | None = 4,
        max_pixels: Annotated[int, Field(ge=784)] = 1_003_520,
        frame: Frame = "thousandths",
    ) -> None:
        self.limit, self.max_pixels, self.frame = limit, max_pixels, frame
        self.about = (
            "shows a part of a picture by itself, as a picture with the next number, without a search: "
            f'{{"picture": 1, "region": "the left flag"}}; instead of "region", "box": [left, top, right, bottom] '
            f'{FRAMES[frame]}; if needed, "rotate": 90, 180 or 270 (clockwise) and "enlarge": 1 to {_LARGEST_FACTOR}.'
        )

    def accept(self, arguments: Mapping[str, Any]) -> Use:
        asked = self._checked(arguments)
        check_named(asked.region, asked.box)
        if asked == Closeup(asked.picture, frame=asked.frame):
            raise ValueError("takes what to show: a region, a box, rotate or enlarge.")
        return super().accept(arguments)

    async def use(self, arguments: Closeup, trajectory: Trajectory, tools: Toolbox) -> Observation:
        a = arguments
        part = await look(trajectory, tools, a.picture, a.region, a.box, a.frame or self.frame)
        shown = part.image.transpose(_TURNED[a.rotate]) if a.rotate else part.image
        factor = min(a.enlarge, max(1.0, math.sqrt(self.max_pixels / (shown.width * shown.height))))
        size = (max(1, int(shown.width * factor)), max(1, int(shown.height * factor)))
        if size != shown.size:
            shown = shown.resize(size, Image.Resampling.BICUBIC)
        turned = f", turned by {a.rotate} degrees" if a.rotate else ""
        number, sides = len(trajectory.pictures) + 1, f"{shown.width} x {shown.height} pixels"
        return Observation(f"Picture {number}: {part.said}{turned}, {sides}.", (shown,), grounding=part.grounding)
