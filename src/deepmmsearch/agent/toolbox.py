"""The toolbox: what carries out the actions of an episode with the tools there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.agent.lines import NOTHING, Line, cut, image_lines, join, one_line, summary_lines, text_lines
from deepmmsearch.agent.metering import Ledger, using
from deepmmsearch.agent.passages import read_passages
from deepmmsearch.agent.protocols import (
    Grounder,
    ImageSearchTool,
    Matcher,
    ObservationSummarizer,
    PageReader,
    Summarizer,
    TextSearchTool,
)
from deepmmsearch.agent.regions import choose_region, no_region, told
from deepmmsearch.errors import ToolError
from deepmmsearch.types import (
    PAPER_LIMITS,
    Action,
    Answer,
    Cited,
    Grounding,
    Hit,
    ImageSearch,
    Limits,
    Malformed,
    Observation,
    TextSearch,
    Trajectory,
)

QUOTED = "The summariser failed, so these are quotations."


@dataclass(frozen=True)
class Toolbox:
    """The five tools, any of which may be missing, and how they are put together.

    `text_hits`, `image_hits`: how many are asked for (paper, section 3: 5). `image_lines`: how many image hits the
    policy reads. `box_threshold`: below this score of the grounder the whole image is searched. `crop_padding`: share
    of the box's sides. `min_box_side`: boxes thinner than this many pixels show nothing. `min_passage`: hits whose
    text is shorter (in characters) are read with the reader, where there is one. `pages`: how many hits an observation
    tells of; those after them stand in where pages cannot be read (None: all hits, read or not). `max_line`,
    `max_text`: longest line and longest observation in characters. `thumbnails`: image hits are shown as pictures with
    titles (MMSearch-R1) instead of a summary (DeepMMSearch-R1). `matcher` tells which image hits show what was searched
    for, where the search itself does not. `condenser` makes one summary of all hits instead of a line for each; where
    it or the summariser fails, `stand_in` speaks. `ledger`: prices and budgets, the same for all episodes of a run.
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
    pages: int | None = None
    max_line: int = 1200
    max_text: int = 6000
    thumbnails: bool = False
    matcher: Matcher | None = None
    condenser: ObservationSummarizer | None = None
    stand_in: Summarizer | None = None
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
            return _error(one_line(str(error)) or "The tool failed.")
        # The one border where an unknown exception of a provider becomes data: an episode outlives its tools.
        except Exception as error:
            return _error(f"The tool failed ({type(error).__name__}). Try another query or answer.")

    async def _search_text(self, query: str, trajectory: Trajectory) -> Observation:
        if self.text_search is None:
            return _error("Text search is not available, search the image or answer.")
        with using("text_search", self.text_search):
            hits = (await self.text_search.search(query, self.text_hits))[: self.text_hits]
        found = await read_passages(hits, self.reader, self.pages or len(hits), self.min_passage)
        hits, passages = [p.hit for p in found], [p.text for p in found]
        if self.condenser is not None:
            passages = [f"{hit.title}. {passage}" for hit, passage in zip(hits, passages, strict=True)]
        summary = await self._summarize(trajectory.question.text, query, passages, "text")
        ranks = range(1, len(hits) + 1)
        lines = summary_lines(summary.sentences, ranks) if summary.condensed else text_lines(summary.texts)
        text, sentences = join([*summary.remarks, *lines], self.max_text)
        return Observation(text, hits=tuple(hits), sentences=sentences, summary_error=summary.error)

    async def _search_image(self, region: str | None, trajectory: Trajectory, limits: Limits) -> Observation:
        image = trajectory.question.image
        if image is None:
            return _error("The question has no image, use text_search or answer.")
        if self.image_search is None:
            return _error("Image search is not available, use text_search or answer.")
        if image_searches(trajectory) >= limits.image_searches:
            return _error(_image_limit(limits.image_searches))
        grounding = await self._locate(image, region) if region else None
        cut_out = (
            images.crop(image, grounding.box, self.crop_padding)
            if grounding and grounding.box and not grounding.fallback
            else None
        )
        with using("image_search", self.image_search):
            hits = (await self.image_search.search(cut_out or image, self.image_hits))[: self.image_hits]
        hits = await self._matched(cut_out or image, hits)
        lines, error = await self._image_lines(hits, region or "", trajectory.question.text)
        text, sentences = join([*map(Line, told(grounding)), *(lines or [Line(NOTHING)])], self.max_text)
        pictures = tuple(h.image for h in hits[: self.image_lines] if h.image) if self.thumbnails else ()
        return Observation(
            text,
            pictures,
            tuple(hits),
            grounding=grounding,
            crop=cut_out,
            sentences=sentences,
            summary_error=error,
        )

    async def _matched(self, image: Image, hits: list[Hit]) -> list[Hit]:
        if self.matcher is None or all(hit.matched is not None for hit in hits):
            return hits
        try:
            with using("matcher", self.matcher):
                return await self.matcher.match(image, hits)
        # what is unknown stays unknown, and is then shown as merely similar
        except ToolError:
            return hits

    async def _image_lines(self, hits: Sequence[Hit], phrase: str, question: str) -> tuple[list[Line], str | None]:
        """What is said of the hits, and why the summariser did not speak. Only what matches is summarised."""
        ranked = dict(enumerate(hits, 1))
        shown = dict(list(ranked.items())[: self.image_lines])
        if self.thumbnails:
            pictured = [rank for rank, hit in shown.items() if hit.image]
            return image_lines(shown, {}, self.max_line, {rank: n for n, rank in enumerate(pictured, 1)}), None
        matched = [rank for rank, hit in (ranked if self.condenser else shown).items() if hit.matched]
        passages = [ranked[rank].snippet for rank in matched]
        if self.condenser is not None:
            passages = [f"{ranked[rank].title}. {ranked[rank].snippet}" for rank in matched]
        summary = await self._summarize(question, phrase, passages, "image")
        if not summary.condensed:
            texts = dict(zip(matched, summary.texts, strict=True))
            return [*summary.remarks, *image_lines(shown, texts, self.max_line)], summary.error
        lines = summary_lines(summary.sentences, matched)
        told_of = matched if any(line.text for line in lines) else []
        rest = {rank: hit for rank, hit in shown.items() if rank not in told_of}
        return [*lines, *image_lines(rest, {}, self.max_line)], None

    async def _locate(self, image: Image, phrase: str) -> Grounding:
        """The box to crop, or why there is none; the whole image is then searched and the policy is told."""
        if self.grounder is None:
            return no_region(phrase, "missing", "there is no grounding tool")
        try:
            with using("grounder", self.grounder):
                boxes = await self.grounder.locate(image, phrase)
        except ToolError as error:
            return no_region(phrase, "failed", f"grounding failed: {one_line(str(error))}")
        return choose_region(phrase, boxes, image.size, self.box_threshold, self.min_box_side)

    async def _summarize(
        self, question: str, query: str, passages: Sequence[str], about: Literal["text", "image"]
    ) -> _Summary:
        if not passages:
            return _Summary()
        try:
            if self.condenser is not None:
                with using("summarizer", self.condenser):
                    sentences = await self.condenser.condense(question, query, passages, about)
                return _Summary(sentences=tuple(sentences), condensed=True)
            return _Summary(await self._texts(self.summarizer, question, query, passages))
        except ToolError as error:
            if self.stand_in is None:
                raise
            texts = await self._texts(self.stand_in, question, query, passages)
            return _Summary(texts, error=one_line(str(error)))

    async def _texts(
        self, summarizer: Summarizer | None, question: str, query: str, passages: Sequence[str]
    ) -> list[str]:
        """One line per passage, "" where there is nothing to say."""
        texts = list(passages)
        if summarizer is not None:
            with using("summarizer", summarizer):
                texts = await summarizer.summarize(question, query, passages)
            if len(texts) != len(passages):
                raise ToolError(f"The summariser gave {len(texts)} texts for {len(passages)} passages.")
        longest = self.max_line if summarizer is not None else min(self.max_line, self.min_passage)
        return [cut(one_line(text), longest) for text in texts]


@dataclass(frozen=True)
class _Summary:
    """One text per passage, or the sentences of one summary of all of them; `error`: why a stand-in wrote it."""

    texts: Sequence[str] = ()
    sentences: tuple[Cited, ...] = ()
    condensed: bool = False
    error: str | None = None

    @property
    def remarks(self) -> list[Line]:
        return [Line(QUOTED)] if self.error else []


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
