"""The loop: `episode` plays one question turn by turn, `Toolbox` carries out what the policy asks for.

There is no second loop: inference, teacher data, evaluation and rollouts all run this one.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.errors import ToolError
from deepmmsearch.protocol import parse_action
from deepmmsearch.tools.base import Grounder, ImageSearchTool, PageReader, Summarizer, TextSearchTool
from deepmmsearch.tools.metering import Ledger, using
from deepmmsearch.types import (
    Action,
    Answer,
    Grounding,
    Hit,
    ImageSearch,
    Limits,
    Malformed,
    Observation,
    Policy,
    TextSearch,
    Trajectory,
    Turn,
)

NOTHING = "Nothing found."
PAPER_LIMITS = Limits()


async def episode(
    start: Trajectory, policy: Policy, tools: Toolbox, limits: Limits = PAPER_LIMITS
) -> AsyncIterator[Trajectory]:
    """The trajectory after each turn, until it stops. Errors of the policy pass through; those of tools do not."""
    trajectory = start
    while trajectory.stop is None:
        began = time.perf_counter()
        completion = await policy.act(trajectory)
        action = parse_action(completion.text, trajectory.prompt.dialect, ended=completion.finish == "stop")
        done = isinstance(action, Answer) or completion.finish != "stop"
        observation = None if done else await tools.execute(action, trajectory, limits)
        cost = observation.cost if observation is not None else 0.0
        turn = Turn(completion, action, observation, seconds=time.perf_counter() - began, cost=cost)
        trajectory = trajectory.then(turn, limits)
        yield trajectory


async def play(start: Trajectory, policy: Policy, tools: Toolbox, limits: Limits = PAPER_LIMITS) -> Trajectory:
    """The whole episode, for callers who do not watch the turns."""
    last = start
    async for trajectory in episode(start, policy, tools, limits):
        last = trajectory
    return last


@dataclass(frozen=True)
class Toolbox:
    """The five tools, any of which may be missing, and how they are put together.

    `text_hits`, `image_hits`: how many are asked for (paper, section 3: 5). `image_lines`: how many image hits the
    policy reads. `box_threshold`: below this score of the grounder the whole image is searched. `crop_padding`: share
    of the box's sides. `min_box_side`: boxes thinner than this many pixels show nothing. `min_passage`: hits whose
    text is shorter (in characters) are read with the reader, where there is one. `max_line`, `max_text`: longest
    line and longest observation in characters. `thumbnails`: show the pictures of the hits too (MMSearch-R1). `ledger`:
    prices and budgets, the same for all episodes of a run.
    """

    text_search: TextSearchTool | None = None
    image_search: ImageSearchTool | None = None
    grounder: Grounder | None = None
    reader: PageReader | None = None
    summarizer: Summarizer | None = None
    text_hits: int = 5
    image_hits: int = 5
    image_lines: int = 3
    box_threshold: float = 0.3
    crop_padding: float = 0.05
    min_box_side: float = 4.0
    min_passage: int = 400
    max_line: int = 1200
    max_text: int = 6000
    thumbnails: bool = False
    ledger: Ledger = field(default_factory=Ledger, compare=False)

    async def execute(self, action: Action, trajectory: Trajectory, limits: Limits = PAPER_LIMITS) -> Observation:
        """What comes back for `action`, the next one after the turns of `trajectory`, with the calls it took. Only
        cancellation escapes."""
        meter = self.ledger.meter(trajectory)
        with meter.open():
            observation = await self._carry_out(action, trajectory, limits)
        return replace(observation, calls=meter.calls)

    async def _carry_out(self, action: Action, trajectory: Trajectory, limits: Limits) -> Observation:
        if isinstance(action, Malformed):
            return _error(action.problem)
        if len(trajectory.turns) + 1 >= limits.turns:
            return _error(f"All {limits.calls} calls are used, only an answer is left.")
        try:
            match action:
                case TextSearch(query):
                    return await self._search_text(query, trajectory)
                case ImageSearch(region):
                    return await self._search_image(region, trajectory, limits)
                case Answer():
                    return _error("An answer has no observation.")
        except ToolError as error:
            return _error(_one_line(str(error)) or "The tool failed.")
        # The one border where an unknown exception of a provider becomes data: an episode outlives its tools.
        except Exception as error:
            return _error(f"The tool failed ({type(error).__name__}). Try another query or answer.")

    async def _search_text(self, query: str, trajectory: Trajectory) -> Observation:
        if self.text_search is None:
            return _error("Text search is not available, search the image or answer.")
        with using("text_search", self.text_search):
            hits = (await self.text_search.search(query, self.text_hits))[: self.text_hits]
        passages = await asyncio.gather(*(self._passage(hit) for hit in hits))
        summaries = await self._summaries(trajectory.question.text, query, passages)
        lines = [f"[{rank}] {summary}" for rank, summary in enumerate(summaries, 1) if summary]
        return Observation(self._join(lines), hits=tuple(hits))

    async def _search_image(self, region: str | None, trajectory: Trajectory, limits: Limits) -> Observation:
        image = trajectory.question.image
        if image is None:
            return _error("The question has no image, use text_search or answer.")
        if self.image_search is None:
            return _error("Image search is not available, use text_search or answer.")
        if image_searches(trajectory) >= limits.image_searches:
            return _error(_image_limit(limits.image_searches))
        grounding = await self._locate(image, region) if region else None
        cut = (
            images.crop(image, grounding.box, self.crop_padding)
            if grounding and grounding.box and not grounding.fallback
            else None
        )
        with using("image_search", self.image_search):
            hits = (await self.image_search.search(cut or image, self.image_hits))[: self.image_hits]
        shown = hits[: self.image_lines]
        lines = await self._image_lines(shown, region or "", trajectory.question.text)
        if grounding and grounding.box is None:
            lines = [_not_found(grounding.phrase), *(lines or [NOTHING])]
        thumbnails = tuple(hit.image for hit in shown if hit.image is not None) if self.thumbnails else ()
        return Observation(self._join(lines), thumbnails, tuple(hits), grounding=grounding, crop=cut)

    async def _image_lines(self, hits: Sequence[Hit], phrase: str, question: str) -> list[str]:
        matched = [hit for hit in hits if hit.matched]
        texts = await self._summaries(question, phrase, [hit.snippet for hit in matched])
        summaries = {id(hit): text for hit, text in zip(matched, texts, strict=True)}
        lines = []
        for rank, hit in enumerate(hits, 1):
            title = _cut(_one_line(hit.title), 200) or "untitled"
            summary = summaries.get(id(hit), "")
            tail = f" {summary}" if _adds(summary, title) else ""
            lines.append(_cut(f"[{rank}] {'match' if hit.matched else 'similar'}: {title}{tail}", self.max_line))
        return lines

    async def _locate(self, image: Image, phrase: str) -> Grounding:
        """The box to crop, or why there is none (paper, section 3.1, says nothing of the doubtful cases).

        Without a box the whole image is searched and the policy is told; a box over the whole image is kept in the
        record, but there is nothing to crop and nothing to tell.
        """
        if self.grounder is None:
            return Grounding(phrase, None, "there is no grounding tool")
        try:
            with using("grounder", self.grounder):
                boxes = await self.grounder.locate(image, phrase)
        except ToolError as error:
            return Grounding(phrase, None, f"grounding failed: {_one_line(str(error))}")
        finite = [b for b in boxes if all(map(math.isfinite, (b.left, b.top, b.right, b.bottom, b.score)))]
        if not finite:
            return Grounding(phrase, None, "no box was found")
        box = images.clamp(max(finite, key=lambda b: b.score), image.size)
        if box.score < self.box_threshold:
            return Grounding(phrase, None, f"the best box scores {box.score:.2f}, below {self.box_threshold:.2f}")
        width, height = box.right - box.left, box.bottom - box.top
        if min(width, height) < self.min_box_side:
            return Grounding(phrase, None, f"the best box is only {width:.0f} x {height:.0f} pixels")
        whole = box.area >= 0.98 * image.width * image.height
        return Grounding(phrase, box, "the box covers the whole image" if whole else None)

    async def _passage(self, hit: Hit) -> str:
        """The text to summarise: the hit's own where that is long enough, else its page's, else what there is."""
        if self.reader is None or not hit.url or len(hit.snippet) >= self.min_passage:
            return hit.snippet
        try:
            with using("reader", self.reader):
                return (await self.reader.read(hit.url)).text or hit.snippet
        except ToolError:
            return hit.snippet

    async def _summaries(self, question: str, query: str, passages: Sequence[str]) -> list[str]:
        """One line per passage, "" where there is nothing to say."""
        if not passages:
            return []
        texts = list(passages)
        if self.summarizer is not None:
            with using("summarizer", self.summarizer):
                texts = await self.summarizer.summarize(question, query, passages)
            if len(texts) != len(passages):
                raise ToolError(f"The summariser gave {len(texts)} texts for {len(passages)} passages.")
        longest = self.max_line if self.summarizer is not None else min(self.max_line, self.min_passage)
        return [_cut(_one_line(text), longest) for text in texts]

    def _join(self, lines: Sequence[str]) -> str:
        """Whole lines as long as they fit; what is left out is the tail of the ranking."""
        kept: list[str] = []
        for line in lines:
            if kept and sum(len(k) + 1 for k in kept) + len(line) > self.max_text:
                break
            kept.append(line)
        return _cut("\n".join(kept), self.max_text) or NOTHING


def image_searches(trajectory: Trajectory) -> int:
    """How often the image was searched already; one that failed or was refused showed nothing and does not count."""
    return sum(
        isinstance(t.action, ImageSearch) and t.observation is not None and t.observation.error is None
        for t in trajectory.turns
    )


def _error(sentence: str) -> Observation:
    return Observation(f"Error: {sentence}", error=sentence)


def _image_limit(limit: int) -> str:
    if limit == 0:
        return "The image cannot be searched, use text_search or answer."
    times = "" if limit == 1 else f" {limit} times"
    return f"The image was already searched{times}, use text_search or answer."


def _not_found(phrase: str) -> str:
    return f'No region for "{phrase}" was found, so the whole image was searched.'


def _adds(summary: str, title: str) -> bool:
    """Does the summary say more than the title? Compared by letters and digits alone."""
    said, known = (re.sub(r"\W+", "", t).casefold() for t in (summary, title))
    return bool(said) and said not in known


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str, longest: int) -> str:
    """At most `longest` characters, cut between words where there is one."""
    if len(text) <= longest:
        return text
    head = text[: max(1, longest - 1)]
    return (head.rsplit(" ", 1)[0] or head).rstrip() + "…"
