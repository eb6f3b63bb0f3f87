"""Image search with a whole picture or a crop of it (DeepMMSearch-R1, section 3.1): ground what the region names, check
the box, crop, search, check that the hits match, summarise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.agent.lines import NOTHING, Line, image_lines, join, summary_lines
from deepmmsearch.agent.looking import ground
from deepmmsearch.agent.metering import using
from deepmmsearch.agent.regions import named_region, told
from deepmmsearch.agent.table import IMAGE_SEARCH, Shown
from deepmmsearch.agent.toolbox import Toolbox, refused
from deepmmsearch.errors import ToolError
from deepmmsearch.types import Grounding, Hit, ImageSearch, Limits, Observation, Trajectory

# `<img>` alone is the question's picture, `<img 2>` the second picture of the episode
_PICTURE = re.compile(r"(?:<img(?:\s+(\d{1,3}))?\b[^<>]*>\s*(?:</img\s*>)?|img\Z)\s*", re.IGNORECASE)
_IMG = re.compile(r"</?img\b", re.IGNORECASE)


@dataclass(frozen=True)
class SearchImage:
    """Searches with a picture, or a part of it."""

    name: str = IMAGE_SEARCH
    tag: str = "img_search"
    state: str = "image"
    about: str = ""

    @property
    def parameters(self) -> Mapping[str, Any]:
        region = {"type": "string", "description": "the part to search with, by what can be seen; left out: all of it"}
        picture = {"type": "integer", "minimum": 1, "description": "the number of the picture; left out: the first"}
        return {"type": "object", "properties": {"region": region, "picture": picture}}

    def accept(self, arguments: Mapping[str, Any]) -> ImageSearch:
        region, picture = arguments.get("region"), arguments.get("picture", 1)
        if not {"region", "picture"} >= arguments.keys() or not isinstance(region, str | None):
            raise ValueError("takes region, a text, and picture, a number; both may be left out.")
        if isinstance(picture, bool) or not isinstance(picture, int) or picture < 1:
            raise ValueError("takes the number of a picture, counted from 1.")
        return ImageSearch(" ".join((region or "").split()) or None, picture=picture)

    def arguments_of(self, action: ImageSearch) -> Mapping[str, Any]:
        if action.box is not None:
            raise ValueError("A box cannot be said in words.")
        region = {"region": action.region} if action.region is not None else {}
        return region | ({"picture": action.picture} if action.picture != 1 else {})

    def read(self, content: str) -> ImageSearch:
        content = " ".join(content.split())
        named = _PICTURE.match(content)
        picture, region = (int(named[1] or 1), content[named.end() :]) if named else (1, content)
        if picture < 1 or _IMG.search(region) or (named and region and named[1] is None):
            raise ValueError("takes either the img tag alone or a referring expression, not both.")
        return ImageSearch(region or None, picture=picture)

    def write(self, action: ImageSearch) -> str:
        if action.box is not None:
            raise ValueError("A box cannot be said in words.")
        if action.picture == 1:
            return action.region or "<img>"
        return f"<img {action.picture}> {action.region or ''}".strip()

    def figure(self, action: ImageSearch) -> str:
        return "crop" if action.region or action.box else "image"

    def shown(self, action: ImageSearch) -> Shown:
        fields: dict[str, object] = {"action": self.name, "region": action.region}
        detail, which = action.region or "the whole image", "the picture"
        if action.box is not None:
            b = action.box
            detail = f"box {b.left:.0f}, {b.top:.0f}, {b.right:.0f}, {b.bottom:.0f}"
            fields["box"] = [b.left, b.top, b.right, b.bottom]
        if action.picture != 1:
            fields["picture"], which = action.picture, f"picture {action.picture}"
            detail += f" (picture {action.picture})"
        if action.region is None and action.box is None:
            whole = "the whole picture" if action.picture == 1 else f"the whole of {which}"
            return Shown(f"searches with {whole}", "image search", detail, fields)
        part = action.region or detail
        return Shown(f"searches with a part of {which}: {part}", "image search", detail, fields)

    async def run(self, action: ImageSearch, trajectory: Trajectory, tools: Toolbox, limits: Limits) -> Observation:
        pictures = trajectory.pictures
        if not pictures:
            return refused("The question has no image, use text_search or answer.")
        if tools.image_search is None:
            return refused("Image search is not available, use text_search or answer.", unavailable=True)
        if image_searches(trajectory) >= limits.image_searches:
            return refused(_limit_reached(limits.image_searches))
        if action.picture > len(pictures):
            return refused(f"There is no picture {action.picture}, the last one is picture {len(pictures)}.")
        image = pictures[action.picture - 1]
        grounding = await _grounded(action, image, tools)
        cut_out, padding = None, tools.crop_padding if action.box is None else 0.0
        if grounding is not None and grounding.box is not None and not grounding.fallback:
            cut_out = images.crop(image, grounding.box, padding)
        searched = cut_out or image
        with using("image_search", tools.image_search):
            hits = (await tools.image_search.search(searched, tools.image_hits))[: tools.image_hits]
        hits = await matched_hits(searched, hits, tools)
        lines, error = await lines_of_hits(hits, action.region or "", trajectory.question.text, tools)
        text, sentences = join([*map(Line, told(grounding)), *(lines or [Line(NOTHING)])], tools.max_text)
        thumbnails = tuple(h.image for h in hits[: tools.image_lines] if h.image) if tools.thumbnails else ()
        return Observation(
            text,
            thumbnails,
            tuple(hits),
            grounding=grounding,
            crop=cut_out,
            sentences=sentences,
            summary_error=error,
        )


def image_searches(trajectory: Trajectory) -> int:
    """How often the image was searched already; one that failed or was refused showed nothing and does not count."""
    return sum(
        isinstance(t.action, ImageSearch) and t.observation is not None and t.observation.error is None
        for t in trajectory.turns
    )


def _limit_reached(limit: int) -> str:
    if limit == 0:
        return "The image cannot be searched, use text_search or answer."
    times = "" if limit == 1 else f" {limit} times"
    return f"The image was already searched{times}, use text_search or answer."


async def _grounded(action: ImageSearch, image: Image, tools: Toolbox) -> Grounding | None:
    """The box to crop, or why there is none; the whole image is then searched and the policy is told."""
    if action.box is not None:
        return named_region(action.box, image.size, tools.min_box_side)
    return await ground(action.region, image, tools) if action.region else None


async def matched_hits(image: Image, hits: list[Hit], tools: Toolbox) -> list[Hit]:
    if tools.matcher is None or all(hit.matched is not None for hit in hits):
        return hits
    try:
        with using("matcher", tools.matcher):
            return await tools.matcher.match(image, hits)
    # what is unknown stays unknown, and is then shown as merely similar
    except ToolError:
        return hits


async def lines_of_hits(
    hits: Sequence[Hit], phrase: str, question: str, tools: Toolbox
) -> tuple[list[Line], str | None]:
    """What is said of the hits, and why the summariser did not speak. Only what matches is summarised."""
    ranked = dict(enumerate(hits, 1))
    seen = dict(list(ranked.items())[: tools.image_lines])
    if tools.thumbnails:
        pictured = [rank for rank, hit in seen.items() if hit.image]
        return image_lines(seen, {}, tools.max_line, {rank: n for n, rank in enumerate(pictured, 1)}), None
    matched = [rank for rank, hit in (ranked if tools.condenser else seen).items() if hit.matched]
    passages = [ranked[rank].snippet for rank in matched]
    if tools.condenser is not None:
        passages = [f"{ranked[rank].title}. {ranked[rank].snippet}" for rank in matched]
    summary = await tools.summarize(question, phrase, passages, "image")
    if not summary.condensed:
        texts = dict(zip(matched, summary.texts, strict=True))
        return [*summary.remarks, *image_lines(seen, texts, tools.max_line)], summary.error
    lines = summary_lines(summary.sentences, matched)
    told_of = matched if any(line.text for line in lines) else []
    rest = {rank: hit for rank, hit in seen.items() if rank not in told_of}
    return [*lines, *image_lines(rest, {}, tools.max_line)], None
