"""What a tool looks at: a picture of the episode by its number, or the part of it that a policy names in words or by a
box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.agent.lines import one_line, unnumbered
from deepmmsearch.agent.metering import using
from deepmmsearch.agent.regions import choose_region, named_region, no_region
from deepmmsearch.agent.toolbox import Toolbox
from deepmmsearch.agent.use import A, ArgumentTool
from deepmmsearch.errors import ToolError
from deepmmsearch.types import Box, Grounding, Trajectory, Use

Frame = Literal["thousandths", "fractions", "pixels"]
"""In what a policy gives the sides of a box: of the picture's width and height, or pixels of the picture itself."""
FRAMES = {
    "thousandths": "in thousandths of its width and height",
    "fractions": "in fractions of its width and height",
    "pixels": "in pixels",
}


@dataclass(frozen=True)
class Part:
    """`whole`: the picture it was cut from; `said`: what it is, for the policy; `grounding`: how its box was found."""

    image: Image
    whole: Image
    said: str
    grounding: Grounding | None = None


class LookingTool(ArgumentTool[A]):
    """A tool that takes `picture`, `region` or `box` among its arguments."""

    def read(self, content: str) -> Use:
        # words alone name a region of the first picture
        if content.strip() and not content.lstrip().startswith(("{", "[", '"')):
            return self.accept({"region": " ".join(content.split())})
        return super().read(content)

    def write(self, action: Use) -> str:
        region = str(action.arguments.get("region", ""))
        # as it would be read again
        alone = action.arguments.keys() == {"region"} and region == " ".join(region.split())
        return region if alone and not region.startswith(("{", "[", '"')) else super().write(action)


async def look(
    trajectory: Trajectory,
    tools: Toolbox,
    picture: int,
    region: str | None,
    box: Sequence[float] | None,
    frame: Frame = "thousandths",
) -> Part:
    """Picture number `picture`, or the part of it that `region` names or `box` (left, top, right, bottom) encloses.

    Raises ToolError where there is no such picture or part, which the policy reads.
    """
    pictures = trajectory.pictures
    if not pictures:
        raise ToolError("The episode has no picture. Use another tool or answer.")
    if not 0 < picture <= len(pictures):
        raise ToolError(f"There is no picture {picture}, the last one is picture {len(pictures)}.")
    whole = pictures[picture - 1]
    if box is not None:
        found = named_region(in_pixels(box, whole.size, frame), whole.size, tools.min_box_side)
        assert found.box is not None, "named_region raises for a box that holds nothing"
        return Part(images.crop(whole, found.box, 0.0), whole, f"a part of picture {picture}", found)
    if not region:
        return Part(whole, whole, f"picture {picture}")
    found, named = await ground(region, whole, tools), f'"{unnumbered(region)}" in picture {picture}'
    if found.box is None:
        raise ToolError(f"There is no {named} to be shown: {found.fallback}. Name it in other words, or give a box.")
    if found.outcome == "several":
        named += " (one of several regions that fit equally well)"
    # a box over all of it has nothing to crop, and nobody searches here
    cut_out = images.crop(whole, found.box, tools.crop_padding)
    return Part(cut_out, whole, named, replace(found, fallback=None))


async def ground(region: str, image: Image, tools: Toolbox) -> Grounding:
    """The box of what is named, or why there is none."""
    if tools.grounder is None:
        return no_region(region, "missing", "there is no grounding tool")
    try:
        with using("grounder", tools.grounder):
            boxes = await tools.grounder.locate(image, region)
    except ToolError as error:
        return no_region(region, "failed", f"grounding failed: {one_line(str(error))}")
    return choose_region(region, boxes, image.size, tools.box_threshold, tools.min_box_side)


def check_named(region: str | None, box: Sequence[float] | None) -> None:
    """Raises ValueError, as `Tool.accept` does."""
    if region is not None and box is not None:
        raise ValueError("takes a region or a box, not both.")
    if region is not None and (not region.strip() or "<img" in region.lower()):
        raise ValueError('takes the region in plain words, and the number of the picture as "picture".')


def in_pixels(box: Sequence[float], size: tuple[int, int], frame: Frame) -> Box:
    """Of a picture of `size` (width, height)."""
    unit = {"thousandths": 1000.0, "fractions": 1.0, "pixels": 0.0}[frame]
    x, y = (size[0] / unit, size[1] / unit) if unit else (1.0, 1.0)
    left, top, right, bottom = box
    return Box(left * x, top * y, right * x, bottom * y)
