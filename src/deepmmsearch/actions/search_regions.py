"""Image search with several parts of a picture in one call, as some of the field's models are taught it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Annotated

from PIL.Image import Image
from pydantic import Field, FiniteFloat

from deepmmsearch import images
from deepmmsearch.actions.image_search import lines_of_hits, matched_hits
from deepmmsearch.agent.lines import NOTHING, Line, join
from deepmmsearch.agent.looking import FRAMES, Frame, in_pixels
from deepmmsearch.agent.metering import using
from deepmmsearch.agent.regions import named_region
from deepmmsearch.agent.toolbox import Toolbox, merged
from deepmmsearch.agent.use import ArgumentTool
from deepmmsearch.errors import ToolError, ToolMissing
from deepmmsearch.types import Hit, Observation, Trajectory, Use

_Box = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


@dataclass(frozen=True)
class Regions:
    boxes: Annotated[tuple[_Box, ...], Field(min_length=1, max_length=5)]
    picture: Annotated[int, Field(ge=1, le=999)] = 1


class SearchRegions(ArgumentTool[Regions]):
    """Searches with each of several boxes. `limit`: how often in an episode; `frame`: of the boxes it takes."""

    name = "search_regions"
    arguments = Regions

    def __init__(self, limit: Annotated[int, Field(ge=1)] | None = None, frame: Frame = "thousandths") -> None:
        self.limit, self.frame = limit, frame
        self.about = (
            "searches the web with several parts of a picture at once: "
            f'{{"picture": 1, "boxes": [[left, top, right, bottom], ...]}} {FRAMES[frame]}.'
        )

    def figure(self, action: Use) -> str:
        return "crop"

    async def use(self, arguments: Regions, trajectory: Trajectory, tools: Toolbox) -> Observation:
        pictures = trajectory.pictures
        if tools.image_search is None:
            raise ToolMissing("Image search is not available, use another tool or answer.")
        if not 0 < arguments.picture <= len(pictures):
            raise ToolError(f"There is no picture {arguments.picture}, the episode has {len(pictures)}.")
        whole = pictures[arguments.picture - 1]
        named = [
            named_region(in_pixels(b, whole.size, self.frame), whole.size, tools.min_box_side) for b in arguments.boxes
        ]
        each = await asyncio.gather(*(_hits(images.crop(whole, found.box, 0.0), tools) for found in named if found.box))
        hits = merged(each)
        shown = replace(tools, image_lines=tools.image_lines * len(each))
        lines, error = await lines_of_hits(hits, "", trajectory.question.text, shown)
        text, sentences = join(lines or [Line(NOTHING)], tools.max_text)
        thumbnails = tuple(h.image for h in hits[: shown.image_lines] if h.image) if tools.thumbnails else ()
        return Observation(text, thumbnails, tuple(hits), grounding=named[0], sentences=sentences, summary_error=error)


async def _hits(part: Image, tools: Toolbox) -> list[Hit]:
    assert tools.image_search is not None
    with using("image_search", tools.image_search):
        hits = (await tools.image_search.search(part, tools.image_hits))[: tools.image_hits]
    return await matched_hits(part, hits, tools)
