"""What we ask of everybody's parts holds for ours, and is not true of just anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.actions.image_search import SearchImage
from deepmmsearch.actions.python import RunPython
from deepmmsearch.actions.read_text import ReadText
from deepmmsearch.actions.search_regions import SearchRegions
from deepmmsearch.actions.text_search import SearchText
from deepmmsearch.actions.visit import Visit
from deepmmsearch.actions.zoom import Zoom
from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.dialect import DIALECTS, find_dialect
from deepmmsearch.agent.table import PAPER_TOOLS, TOOLS, find_tool
from deepmmsearch.dialects.tags import TagDialect
from deepmmsearch.images import model_view
from deepmmsearch.judge import JUDGES, RuleJudge, Verdict
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing import FakeTools, ScriptedPolicy, contract
from deepmmsearch.tools.grounding import OwnModelGrounder
from deepmmsearch.tools.llm_summarizer import LlmSummarizer
from deepmmsearch.tools.summarizer import ExtractiveSummarizer
from deepmmsearch.types import (
    Action,
    Answer,
    Box,
    Completion,
    Hit,
    ImageSearch,
    Malformed,
    Observation,
    Question,
    TextSearch,
    Trajectory,
    Use,
)


def named(check: Callable[..., None]) -> str:
    return check.__name__


def fails(checks: Sequence[Callable[[Any], None]], case: Any) -> set[str]:
    """The checks that it does not pass."""
    failed = set()
    for check in checks:
        try:
            check(case)
        except Exception:
            failed.add(check.__name__)
    return failed


@pytest.mark.parametrize("name", [n for n in DIALECTS.names() if DIALECTS.origin(n) == "deepmmsearch"])
@pytest.mark.parametrize("check", contract.DIALECT, ids=named)
def test_our_dialects(name: str, check: contract.Check[Any]) -> None:
    check(find_dialect(name))


def searches() -> Toolbox:
    hits = [Hit("Veld", "u1", "The capital of Veld is Oru. " * 20, image=Image.new("RGB", (20, 20)), matched=True)]
    return FakeTools({"capital of Veld": hits}, hits, {"the flag": [Box(2, 2, 30, 30, 0.9)]}).toolbox()


def wide() -> Toolbox:
    """With all that the other tools need."""
    return replace(
        searches(),
        ocr=Sign(),
        interpreter=Sum(),
        reader=FakeTools(pages={"u1": "The capital of Veld is Oru."}).toolbox().reader,
    )


class Sum:
    async def run(self, program: str, seconds: int) -> str:
        return "42"


class Sign:
    async def transcribe(self, image: Image.Image) -> str:
        return "Oru"


FOUND = Observation("[1] Veld", hits=(Hit("Veld", "u1"),))
BEGUN = Trajectory(
    Question("q", "Whose flag?", (Image.new("RGB", (64, 48)),)), load_prompt("deepmmsearch-r1"), (FOUND,)
)
OURS = {
    "visit": contract.ToolCase(
        Visit(), (Use("visit", {"hit": 1, "goal": "the capital"}), Use("visit", {"url": "u1"})), wide, BEGUN
    ),
    "zoom": contract.ToolCase(Zoom(), (Use("zoom", {"region": "the flag", "rotate": 90}, search=False),), wide, BEGUN),
    "read_text": contract.ToolCase(ReadText(), (Use("read_text", {"picture": 1}, search=False),), wide, BEGUN),
    "python": contract.ToolCase(RunPython(), (Use("python", {"code": "6 * 7"}, search=False),), wide, BEGUN),
    "search_regions": contract.ToolCase(
        SearchRegions(), (Use("search_regions", {"boxes": [[0, 0, 500, 500], [500, 500, 1000, 1000]]}),), wide, BEGUN
    ),
    "text_search": contract.ToolCase(SearchText(), (TextSearch("capital of Veld"),), searches),
    "image_search": contract.ToolCase(SearchImage(), (ImageSearch(), ImageSearch("the flag")), searches),
}


def test_every_tool_of_ours_is_tried() -> None:
    assert {n for n in TOOLS.names() if TOOLS.origin(n) == "deepmmsearch"} == set(OURS) > set(PAPER_TOOLS)
    assert all(type(find_tool(name)) is type(case.tool) for name, case in OURS.items())


@pytest.mark.parametrize("case", OURS.values(), ids=OURS)
@pytest.mark.parametrize("check", contract.TOOL, ids=named)
def test_our_tools(case: contract.ToolCase, check: contract.Check[contract.ToolCase]) -> None:
    check(case)


CHOICE = Question("q", "Which?", answers=("Oru",), metadata={"choices": ["Ostra", "Oru"], "answer_type": "choice"})


@pytest.mark.parametrize("name", [n for n in JUDGES.names() if JUDGES.origin(n) == "deepmmsearch"])
@pytest.mark.parametrize("check", contract.JUDGE, ids=named)
def test_our_judges(name: str, check: contract.Check[contract.JudgeCase]) -> None:
    case = contract.JudgeCase(RuleJudge(name))
    check(replace(case, question=CHOICE) if name == "choice" else case)


class Sentences:
    """A language model that summarizes every passage in the same words."""

    async def complete(self, conversation: Any, pictures: Sequence[Image.Image] = ()) -> Completion:
        return Completion("The capital of Veld is Oru. [1]")


@pytest.mark.parametrize(
    "summarizer", [ExtractiveSummarizer(), LlmSummarizer(Sentences()), FakeTools().toolbox().summarizer]
)
@pytest.mark.parametrize("check", contract.SUMMARIZER, ids=named)
def test_our_summarizers(summarizer: Any, check: contract.Check[Any]) -> None:
    check(summarizer)


class Pointing:
    """A model that names boxes, one of them partly outside."""

    async def complete(self, conversation: Any, pictures: Sequence[Image.Image] = ()) -> Completion:
        return Completion('[{"bbox_2d": [2, 2, 20, 20]}, {"bbox_2d": [10, 10, 9000, 9000]}, {"bbox_2d": [5, 5, 5, 9]}]')


@pytest.mark.parametrize(
    "grounder",
    [
        OwnModelGrounder(Pointing(), partial(model_view, min_pixels=3136, max_pixels=18816)),
        FakeTools(boxes={"the flag on the ship": [Box(1, 1, 9, 9, 0.9)]}).toolbox().grounder,
    ],
)
@pytest.mark.parametrize("check", contract.GROUNDER, ids=named)
def test_our_grounders(grounder: Any, check: contract.Check[Any]) -> None:
    check(grounder)


@pytest.mark.parametrize("check", contract.POLICY, ids=named)
def test_a_scripted_policy(check: contract.Check[contract.PolicyCase]) -> None:
    policy = ScriptedPolicy(*["<reason>r</reason><answer>Oru</answer>"] * 2)
    check(contract.PolicyCase(policy, Trajectory(Question("q", "Whose flag?"), load_prompt("deepmmsearch-r1"))))


# -- a check that cannot fail is none


class Lenient:
    async def judge(self, question: Question, answer: str | None) -> Verdict:
        return Verdict(2.0)


class Guessing(TagDialect):
    def parse(self, text: str, tools: Any, ended: bool) -> Action:
        if not text:
            raise IndexError
        found = super().parse(text, tools, True)
        return Answer(text.strip() or "x") if isinstance(found, Malformed) else found

    def numbering(self, pictures: int) -> str:
        return "1."


class Mute(SearchText):
    def shown(self, action: Any) -> Any:
        return replace(super().shown(action), line="two\nlines", fields={"query": {1}})

    def read(self, content: str) -> TextSearch:
        if content == "x":
            raise KeyError
        return TextSearch(content.upper())


class Short:
    async def summarize(self, question: str, query: str, passages: Sequence[str]) -> list[str]:
        return [passage.split()[0] for passage in passages][:2]


class Beyond:
    async def locate(self, image: Image.Image, phrase: str) -> list[Box]:
        image.putpixel((0, 0), (1, 2, 3))
        return [Box(0, 0, 9, 9, 0.1), Box(0, 0, 9000, 9, 0.9)] if phrase.strip() else 1 / 0  # type: ignore[return-value]


class Mixing:
    """Counts its calls into what it writes, and forgets some of its ids."""

    def __init__(self) -> None:
        self.asked = 0

    async def act(self, trajectory: Trajectory) -> Completion:
        self.asked += 1
        if trajectory.turns:
            raise ValueError
        await asyncio.sleep(0)
        return Completion(f"turn {self.asked}", (1, 2), (-0.5,))


@pytest.mark.parametrize(
    ("checks", "case", "passed"),
    [
        (contract.JUDGE, contract.JudgeCase(Lenient()), {"many_at_once_are_judged_as_one_by_one"}),
        (
            contract.DIALECT,
            Guessing("guessing"),
            {"what_is_written_is_read_back", "the_reason_comes_back", "long_texts_take_linear_time"},
        ),
        (
            contract.TOOL,
            contract.ToolCase(Mute(), (TextSearch("capital of Veld"),)),
            {"its_names_are_words", "without_what_it_needs_it_says_so"},
        ),
        (contract.SUMMARIZER, Short(), set()),
        (contract.GROUNDER, Beyond(), set()),
        (
            contract.POLICY,
            contract.PolicyCase(Mixing(), Trajectory(Question("q", "?"), load_prompt("direct"))),
            {"the_episode_is_left_alone"},
        ),
    ],
    ids=["judge", "dialect", "tool", "summarizer", "grounder", "policy"],
)
def test_what_breaks_a_contract_fails_it(checks: Sequence[Callable[[Any], None]], case: Any, passed: set[str]) -> None:
    assert fails(checks, case) == {check.__name__ for check in checks} - passed
