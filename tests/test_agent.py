from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
from PIL import Image

from deepmmsearch.actions.image_search import image_searches
from deepmmsearch.agent import PAPER_LIMITS, Toolbox, episode, play
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.images import digest
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing import FakeTools, ScriptedPolicy
from deepmmsearch.types import (
    Answer,
    Box,
    Cited,
    Completion,
    Grounding,
    Hit,
    ImageSearch,
    Limits,
    Malformed,
    Observation,
    Question,
    TextSearch,
    Trajectory,
)

WHOLE = "<reason>r</reason><img_search><img></img_search>"
REGION = "<reason>r</reason><img_search>the flag</img_search>"
TEXT = "<reason>r</reason><text_search>q</text_search>"
ANSWER = "<reason>r</reason><answer>Veld</answer>"


def picture() -> Image.Image:
    image = Image.new("RGB", (100, 80), "white")
    image.paste((200, 0, 0), (20, 20, 60, 40))
    return image


def start(image: Image.Image | None = None, dialect: str = "deepmmsearch-r1") -> Trajectory:
    return Trajectory(Question("q1", "Whose flag?", (image or picture(),), ("Veld",)), load_prompt(dialect))


def observe(fake: FakeTools, *script: str, tools: Toolbox | None = None, limits: Limits = PAPER_LIMITS) -> Observation:
    """The observation of the last turn of the script, which is then answered."""
    played = asyncio.run(play(start(), ScriptedPolicy(*script, ANSWER), tools or fake.toolbox(), limits))
    found = played.turns[len(script) - 1].observation
    assert found is not None
    return found


async def test_an_episode_yields_every_turn_and_stops_at_the_answer() -> None:
    fake = FakeTools(
        texts={"q": [Hit("t", "u", "Veld is a country.")]}, pictures=[Hit("Flag of Veld", "u", matched=True)]
    )
    seen = [t async for t in episode(start(), ScriptedPolicy(WHOLE, TEXT, ANSWER), fake.toolbox())]
    assert [len(t.turns) for t in seen] == [1, 2, 3]
    assert [t.stop for t in seen] == [None, None, "answer"]
    assert [type(t.action) for t in seen[-1].turns] == [ImageSearch, TextSearch, Answer]
    assert seen[-1].answer == "Veld"
    assert seen[-1].turns[2].observation is None
    assert all(turn.observation is None or turn.observation.seconds > 0 for turn in seen[-1].turns)


async def test_an_episode_that_has_stopped_is_not_played_on() -> None:
    done = replace(start(), stop="answer")
    assert [t async for t in episode(done, ScriptedPolicy(), Toolbox())] == []
    assert await play(done, ScriptedPolicy(), Toolbox()) is done


async def test_errors_of_the_policy_pass_through() -> None:
    with pytest.raises(UserError, match="turn 1 was asked for"):
        await play(start(), ScriptedPolicy(), Toolbox())


def test_a_text_observation_has_one_numbered_line_per_hit_that_says_something() -> None:
    hits = [Hit("a", "u1", "First.\nStill first"), Hit("b", "u2", ""), Hit("c", "u3", "Third. More")]
    found = observe(FakeTools(texts={"q": hits}), TEXT)
    assert found.text == "[1] First. Still first\n[3] Third"
    assert found.hits == tuple(hits)
    assert found.error is None


def test_nothing_found() -> None:
    assert observe(FakeTools(), TEXT).text == "Nothing found."
    assert observe(FakeTools(), WHOLE).text == "Nothing found."
    assert observe(FakeTools(texts={"q": [Hit("t", "u", "")]}), TEXT).text == "Nothing found."
    assert observe(FakeTools(), REGION).text == (
        'No region for "the flag" was found, so the whole image was searched.\nNothing found.'
    )


def test_an_image_observation_tells_matches_from_look_alikes() -> None:
    hits = [
        Hit("Flag of Veld", "u", "The flag of Veld is red. It flies.", matched=True),
        Hit("Flag of Oslo", "u", "Another flag.", matched=False),
        Hit("Flag\nof Bern", "u", "Flag of Bern. And more", matched=True),
        Hit("Flag of Rome", "u", "", matched=True),
    ]
    found = observe(FakeTools(pictures=hits), WHOLE)
    assert found.text == (
        "[1] match: Flag of Veld The flag of Veld is red\n[2] similar: Flag of Oslo\n[3] match: Flag of Bern"
    )
    assert found.hits == tuple(hits)
    assert (found.grounding, found.crop, found.images) == (None, None, ())
    assert observe(FakeTools(pictures=[Hit("", "u")]), WHOLE).text == "[1] similar: untitled"


def test_a_region_is_cropped_with_padding_and_searched() -> None:
    fake = FakeTools(boxes={"the flag": [Box(0, 0, 9, 9, 0.4), Box(20, 20, 60, 40, 0.9)]}, pictures=[Hit("Veld", "u")])
    found = observe(fake, REGION)
    best, other = Box(20, 20, 60, 40, 0.9), Box(0, 0, 9, 9, 0.4)
    assert found.grounding == Grounding("the flag", best, None, "box", (best, other))
    assert found.crop is not None and found.crop.size == (44, 22)
    assert fake.asked[-2][0] == "image" or fake.asked[1][0] == "image"
    searched = next(argument for tool, argument in fake.asked if tool == "image")
    assert isinstance(searched, Image.Image) and digest(searched) == digest(found.crop)
    assert found.text == "[1] similar: Veld"


@pytest.mark.parametrize(
    ("boxes", "outcome", "why"),
    [
        ([], "none", "no box"),
        ([Box(20, 20, 60, 40, 0.29)], "weak", "scores 0.29, below 0.30"),
        ([Box(20, 20, 22, 40)], "tiny", "only 2 x 20 pixels"),
        ([Box(200, 200, 300, 300)], "tiny", "only 0 x 0 pixels"),
        ([Box(60, 40, 20, 20)], "tiny", "only 0 x 0 pixels"),
        ([Box(math.nan, 0, 9, 9)], "none", "no box"),
        ([Box(0, 0, math.inf, 9)], "none", "no box"),
    ],
)
def test_a_doubtful_box_falls_back_to_the_whole_image_and_says_so(boxes: Sequence[Box], outcome: str, why: str) -> None:
    fake = FakeTools(boxes={"the flag": boxes}, pictures=[Hit("Veld", "u", matched=True)])
    found = observe(fake, REGION)
    assert found.text == ('No region for "the flag" was found, so the whole image was searched.\n[1] match: Veld')
    assert found.grounding is not None and found.grounding.box is None
    assert found.grounding.outcome == outcome and why in (found.grounding.fallback or "")
    assert found.crop is None and found.error is None
    searched = next(argument for tool, argument in fake.asked if tool == "image")
    assert isinstance(searched, Image.Image) and searched.size == (100, 80)


def test_a_box_over_the_whole_image_is_told_apart_from_none() -> None:
    found = observe(FakeTools(boxes={"the flag": [Box(0, 0, 100, 80, 0.8)]}, pictures=[Hit("Veld", "u")]), REGION)
    assert found.text == "[1] similar: Veld"
    whole = Box(0, 0, 100, 80, 0.8)
    assert found.grounding == Grounding("the flag", whole, "the box covers the whole image", "whole", (whole,))
    assert found.crop is None


def test_of_several_equally_good_boxes_the_first_is_searched_and_the_policy_told() -> None:
    boxes = [Box(0, 0, 20, 20, 0.8), Box(50, 0, 70, 20, 0.8), Box(0, 50, 20, 70, 0.5)]
    found = observe(FakeTools(boxes={"the flag": boxes}, pictures=[Hit("Veld", "u")]), REGION)
    assert found.text == 'Several regions fit "the flag" equally well, one of them was searched.\n[1] similar: Veld'
    assert found.grounding == Grounding("the flag", boxes[0], None, "several", tuple(boxes))
    assert found.crop is not None and found.crop.size == (21, 21)


def test_a_missing_or_failing_grounder_falls_back() -> None:
    fake = FakeTools(pictures=[Hit("Veld", "u")], failing=frozenset({"grounding"}))
    missing = replace(fake.toolbox(), grounder=None)
    for tools, outcome, why in (
        (fake.toolbox(), "failed", "is down"),
        (missing, "missing", "no grounding tool"),
    ):
        found = observe(fake, REGION, tools=tools)
        assert found.grounding is not None and found.grounding.outcome == outcome
        assert why in (found.grounding.fallback or "")
        assert found.text.startswith("No region for") and found.error is None


def test_the_image_is_searched_once() -> None:
    fake = FakeTools(pictures=[Hit("Veld", "u")])
    found = observe(fake, WHOLE, REGION)
    assert found.error == "The image was already searched, use text_search or answer."
    assert found.text == f"Error: {found.error}"
    assert sum(tool == "image" for tool, _ in fake.asked) == 1


def test_the_limit_of_image_searches_is_a_setting() -> None:
    fake = FakeTools(pictures=[Hit("Veld", "u")])
    assert observe(fake, WHOLE, WHOLE, limits=Limits(image_searches=2)).error is None
    found = observe(fake, WHOLE, WHOLE, WHOLE, limits=Limits(image_searches=2))
    assert found.error == "The image was already searched 2 times, use text_search or answer."
    assert observe(fake, WHOLE, limits=Limits(image_searches=0)).error == (
        "The image cannot be searched, use text_search or answer."
    )


async def test_an_image_search_that_failed_does_not_use_up_the_limit() -> None:
    fake = FakeTools(pictures=[Hit("Veld", "u")], failing=frozenset({"image"}))
    played = await play(start(), ScriptedPolicy(WHOLE, WHOLE, ANSWER), fake.toolbox())
    assert [t.observation.error for t in played.turns[:2] if t.observation] == ["The image tool is down."] * 2
    assert image_searches(played) == 0 and len(played.searches) == 2


async def test_ten_calls_then_only_an_answer_is_left() -> None:
    fake = FakeTools()
    played = await play(start(), ScriptedPolicy(*[TEXT] * 20), fake.toolbox())
    assert played.stop == "turns" and len(played.turns) == 11 and played.answer is None
    assert sum(tool == "text" for tool, _ in fake.asked) == 10
    last = played.turns[-1].observation
    assert last is not None and last.error == "All 10 calls are used, only an answer is left."
    assert (await play(start(), ScriptedPolicy(*[TEXT] * 10, ANSWER), fake.toolbox())).stop == "answer"


def test_a_malformed_turn_is_told_what_is_wrong() -> None:
    found = observe(FakeTools(), "no tags")
    assert found.error is not None and "reason is missing" in found.error
    assert found.text == f"Error: {found.error}"


@pytest.mark.parametrize("missing", ["text_search", "image_search"])
def test_a_missing_tool_is_an_error_that_the_policy_reads(missing: str) -> None:
    tools = replace(FakeTools().toolbox(), **{missing: None})
    found = observe(FakeTools(), TEXT if missing == "text_search" else REGION, tools=tools)
    assert found.error is not None and "not available" in found.error


async def test_a_question_without_an_image() -> None:
    no_image = replace(start(), question=Question("q", "Who?"))
    played = await play(no_image, ScriptedPolicy(WHOLE, ANSWER), FakeTools().toolbox())
    assert played.turns[0].observation is not None
    assert played.turns[0].observation.error == "The question has no image, use text_search or answer."


@pytest.mark.parametrize("tool", ["text", "image", "summary"])
def test_a_failing_tool_is_an_error_that_the_policy_reads(tool: str) -> None:
    fake = FakeTools(
        texts={"q": [Hit("t", "u", "Text.")]},
        pictures=[Hit("t", "u", "Text.", matched=True)],
        failing=frozenset({tool}),
    )
    found = observe(fake, WHOLE if tool == "image" else TEXT)
    assert found.error == f"The {tool} tool is down."
    assert found.text == f"Error: The {tool} tool is down."


class Broken:
    async def search(self, query: object, k: int) -> list[Hit]:
        raise KeyError("results")

    async def summarize(self, question: str, query: str, passages: Sequence[str]) -> list[str]:
        return ["only one"]


def test_an_unexpected_exception_of_a_provider_becomes_data() -> None:
    found = observe(FakeTools(), TEXT, tools=Toolbox(text_search=Broken()))
    assert found.error == "The tool failed (KeyError). Try another query or answer."
    fake = FakeTools(texts={"q": [Hit("a", "u", "A."), Hit("b", "u", "B.")]})
    found = observe(fake, TEXT, tools=replace(fake.toolbox(), summarizer=Broken()))
    assert found.error == "The summariser gave 1 texts for 2 passages."


async def test_cancellation_is_not_swallowed() -> None:
    class Slow:
        async def search(self, query: str, k: int) -> list[Hit]:
            await asyncio.sleep(60)
            return []

    task = asyncio.create_task(play(start(), ScriptedPolicy(TEXT, ANSWER), Toolbox(text_search=Slow())))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_short_hits_are_read_and_long_ones_are_not() -> None:
    long = "A long passage " * 40
    hits = [Hit("a", "u1", "short"), Hit("b", "u2", long), Hit("c", "", "no address"), Hit("d", "dead", "kept")]
    fake = FakeTools(texts={"q": hits}, pages={"u1": "The whole page. And more"})
    found = observe(fake, TEXT)
    assert [argument for tool, argument in fake.asked if tool == "reader"] == ["u1", "dead"]
    assert found.text.startswith("[1] The whole page\n[2] A long passage A long")
    assert found.text.endswith("[3] no address\n[4] kept")
    unread = observe(FakeTools(texts={"q": hits}), TEXT, tools=replace(fake.toolbox(), reader=None))
    assert unread.text.startswith("[1] short")


def test_the_summariser_gets_question_query_and_passages() -> None:
    fake = FakeTools(texts={"q": [Hit("a", "u", "One. Two")]}, summaries={"One. Two": "Just two"})
    assert observe(fake, TEXT).text == "[1] Just two"
    assert ("summary", ("Whose flag?", "q", ("One. Two",))) in fake.asked


def test_without_a_summariser_the_passages_are_cut() -> None:
    fake = FakeTools(texts={"q": [Hit("a", "u", "word " * 1000)]})
    text = observe(fake, TEXT, tools=replace(fake.toolbox(), summarizer=None, reader=None)).text
    assert len(text) <= 410 and text.endswith("word…")


def test_observations_are_bounded_and_end_with_whole_lines() -> None:
    hits = [Hit("t", f"u{n}", f"{n} " + "word " * 400) for n in range(5)]
    fake = FakeTools(texts={"q": hits})
    tools = replace(fake.toolbox(), reader=None, max_line=200, max_text=450)
    lines = observe(fake, TEXT, tools=tools).text.split("\n")
    assert len(lines) == 2 and all(len(line) <= 205 for line in lines)
    tools = replace(tools, max_line=10_000, max_text=450)
    assert len(observe(fake, TEXT, tools=tools).text) <= 450
    fake = FakeTools(pictures=[Hit("long " * 5000, "u", matched=True)])
    assert len(observe(fake, WHOLE).text) < 250


def test_a_hit_cannot_forge_the_line_of_another() -> None:
    fake = FakeTools(pictures=[Hit("a\n[2] match: Oslo", "u")], texts={"q": [Hit("t", "u", "x\n[2] y")]})
    assert observe(fake, WHOLE).text == "[1] similar: a ⁅2] match: Oslo"
    assert observe(fake, TEXT).text == "[1] x ⁅2] y"


def test_tools_that_give_more_than_asked_for_are_cut() -> None:
    class Generous:
        async def search(self, query: str, k: int) -> list[Hit]:
            return [Hit("t", "u", f"fact {n}") for n in range(50)]

    found = observe(FakeTools(), TEXT, tools=Toolbox(text_search=Generous()))
    assert len(found.hits) == 5 and found.text.count("\n") == 4


def test_thumbnails_are_shown_when_asked_for_and_missing_ones_do_not_break() -> None:
    thumbnail = Image.new("RGB", (8, 8), "blue")
    hits = [
        Hit("a", "u", image=thumbnail),
        Hit("b", "u"),
        Hit("c", "u", image=thumbnail),
        Hit("d", "u", image=thumbnail),
    ]
    fake = FakeTools(pictures=hits)
    assert observe(fake, WHOLE).images == ()
    assert observe(fake, WHOLE, tools=replace(fake.toolbox(), thumbnails=True)).images == (thumbnail, thumbnail)


@pytest.mark.parametrize("finish", ["length", "context"])
async def test_a_turn_that_was_cut_off_ends_the_episode_without_a_call(finish: str) -> None:
    fake = FakeTools()
    cut = Completion("<reason>r</reason><text_search>q", finish=finish)  # type: ignore[arg-type]
    played = await play(start(), ScriptedPolicy(cut), fake.toolbox())
    assert played.stop == finish and fake.asked == [] and played.turns[0].observation is None
    half = Completion("<reason>r</reason><answer>Vel", finish=finish)  # type: ignore[arg-type]
    played = await play(start(), ScriptedPolicy(half), fake.toolbox())
    assert played.stop == finish and played.answer is None
    assert isinstance(played.turns[0].action, Malformed)


async def test_the_dialect_of_the_prompt_is_spoken() -> None:
    fake = FakeTools(pictures=[Hit("Veld", "u")])
    script = ScriptedPolicy("<reason>r</reason><search><img></search>", ANSWER)
    played = await play(start(dialect="mmsearch-r1"), script, fake.toolbox())
    assert played.turns[0].action == ImageSearch(None)


async def test_many_episodes_at_once_share_a_policy_and_tools() -> None:
    fake = FakeTools(texts={"q": [Hit("t", "u", "Veld.")]}, pictures=[Hit("Veld", "u")])
    policy, tools = ScriptedPolicy(REGION, TEXT, ANSWER), fake.toolbox()
    played = await asyncio.gather(*(play(start(), policy, tools) for _ in range(50)))
    assert {(t.stop, len(t.turns)) for t in played} == {("answer", 3)}


# The defects of the public code (docs/protocol.md, last section).


async def test_text_text_answer_is_a_well_formed_episode() -> None:
    played = await play(start(), ScriptedPolicy(TEXT, TEXT, ANSWER), FakeTools().toolbox())
    assert not any(isinstance(t.action, Malformed) for t in played.turns) and played.answer == "Veld"


async def test_the_titles_that_are_shown_are_those_that_were_found() -> None:
    fake = FakeTools(pictures=[Hit(f"Real title {n}", "u") for n in range(3)])
    played = await play(start(), ScriptedPolicy(WHOLE, ANSWER), fake.toolbox())
    assert played.turns[0].observation is not None
    for number, hit in enumerate(played.turns[0].observation.hits):
        assert played.turns[0].observation.text.split("\n")[number].endswith(hit.title)


class Condenser:
    """Says what it is told to; keeps what it was asked."""

    def __init__(self, *sentences: Cited, down: bool = False) -> None:
        self.sentences, self.down, self.asked = sentences, down, list[tuple[object, ...]]()

    async def condense(
        self, question: str, query: str, passages: Sequence[str], about: Literal["text", "image"]
    ) -> list[Cited]:
        self.asked.append((question, query, tuple(passages), about))
        if self.down:
            raise ToolError("The endpoint is down.")
        return list(self.sentences)


def test_one_summary_of_a_text_search_cites_its_hits() -> None:
    hits = [Hit("Veld", "u1", "Long text."), Hit("Orun", "u2", "Other."), Hit("Tamm", "u3", "")]
    fake = FakeTools(texts={"q": hits})
    condenser = Condenser(
        Cited("The capital of Veld\nis Orun.", (2, 1)), Cited("I made this up.", (9,)), Cited("And this.")
    )
    found = observe(fake, TEXT, tools=replace(fake.toolbox(), condenser=condenser, reader=None))
    assert found.text == "The capital of Veld is Orun. [1][2]"
    assert found.sentences == (
        Cited("The capital of Veld\nis Orun.", (1, 2)),
        Cited("I made this up."),
        Cited("And this."),
    )
    assert condenser.asked == [("Whose flag?", "q", ("Veld. Long text.", "Orun. Other.", "Tamm. "), "text")]


def test_one_summary_of_an_image_search_never_mixes_matches_with_look_alikes() -> None:
    hits = [Hit(f"t{n}", "u", f"s{n}", matched=n in (2, 4)) for n in range(1, 6)]
    condenser = Condenser(Cited("It is a flag.", (1, 2)), Cited("It is red.", (2,)), Cited("No source.", (3,)))
    fake = FakeTools(pictures=hits)
    found = observe(fake, WHOLE, tools=replace(fake.toolbox(), condenser=condenser))
    assert found.text == "It is a flag. [2][4]\nIt is red. [4]\n[1] similar: t1\n[3] similar: t3"
    assert condenser.asked == [("Whose flag?", "", ("t2. s2", "t4. s4"), "image")]
    assert found.sentences[:3] == (Cited("It is a flag.", (2, 4)), Cited("It is red.", (4,)), Cited("No source.", ()))
    silent = replace(fake.toolbox(), condenser=Condenser())
    assert observe(fake, WHOLE, tools=silent).text == "[1] similar: t1\n[2] match: t2\n[3] similar: t3"


def test_without_a_match_nothing_is_summarised() -> None:
    condenser = Condenser(Cited("x", (1,)))
    fake = FakeTools(pictures=[Hit("a", "u", "s", matched=False), Hit("b", "u", "s")])
    found = observe(fake, WHOLE, tools=replace(fake.toolbox(), condenser=condenser))
    assert found.text == "[1] similar: a\n[2] similar: b" and condenser.asked == []


def test_where_the_summariser_fails_its_stand_in_speaks_and_it_is_said() -> None:
    hits = [Hit("Veld", "u1", "Capital: Orun. More.", matched=True)]
    fake = FakeTools(texts={"q": hits}, pictures=hits)
    own = fake.toolbox()
    tools = replace(own, condenser=Condenser(down=True), stand_in=own.summarizer, reader=None)
    for script, last in ((TEXT, "[1] Veld"), (WHOLE, "[1] match: Veld")):
        found = observe(fake, script, tools=tools)
        assert found.text == f"The summariser failed, so these are quotations.\n{last}"
        assert found.summary_error == "The endpoint is down." and found.error is None
    assert observe(fake, TEXT, tools=replace(tools, stand_in=None)).error == "The endpoint is down."
    failing = FakeTools(texts={"q": hits}, failing=frozenset({"summary"})).toolbox()
    found = observe(fake, TEXT, tools=replace(failing, stand_in=own.summarizer, reader=None))
    assert found.text.endswith("[1] Capital: Orun") and found.summary_error == "The summary tool is down."


class Ranks:
    async def match(self, image: Image.Image, hits: Sequence[Hit]) -> list[Hit]:
        return [replace(h, matched=n == 0, matched_by="rank") for n, h in enumerate(hits)]


class NoMatcher:
    async def match(self, image: Image.Image, hits: Sequence[Hit]) -> list[Hit]:
        raise ToolError("no encoder")


def test_hits_that_the_search_left_open_are_matched_against_the_crop() -> None:
    fake = FakeTools(pictures=[Hit("a", "u", "About a."), Hit("b", "u", "About b.")])
    found = observe(fake, WHOLE, tools=replace(fake.toolbox(), matcher=Ranks()))
    assert found.text == "[1] match by rank: a About a.\n[2] similar: b"
    assert [h.matched for h in found.hits] == [True, False]
    found = observe(fake, WHOLE, tools=replace(fake.toolbox(), matcher=NoMatcher()))
    assert found.text == "[1] similar: a\n[2] similar: b" and found.error is None
    own = FakeTools(pictures=[Hit("a", "u", matched=False)])
    assert observe(own, WHOLE, tools=replace(own.toolbox(), matcher=Ranks())).text == "[1] similar: a"


def test_every_line_that_tells_of_hits_is_kept_with_its_hits() -> None:
    hits = [Hit("a", "u1", "First."), Hit("b", "u2", ""), Hit("c", "u3", "Third. More")]
    assert observe(FakeTools(texts={"q": hits}), TEXT).sentences == (Cited("First.", (1,)), Cited("Third", (3,)))
    fake = FakeTools(pictures=[Hit("Flag", "u", "It is red.", matched=True), Hit("Ship", "u")])
    assert observe(fake, REGION).sentences == (Cited("Flag It is red.", (1,)), Cited("Ship", (2,)))


def test_thumbnails_stand_with_titles_and_are_numbered() -> None:
    seen = Image.new("RGB", (8, 8), "blue")
    hits = [Hit("a", "u", "s.", image=seen, matched=True), Hit("b", "u", "s."), Hit("c", "u", "s.", image=seen)]
    fake = FakeTools(pictures=hits)
    found = observe(fake, WHOLE, tools=replace(fake.toolbox(), thumbnails=True))
    assert found.text == "[1] match (picture 1): a\n[2] similar: b\n[3] similar (picture 2): c"
    assert len(found.images) == 2 and not any(tool == "summary" for tool, _ in fake.asked)
