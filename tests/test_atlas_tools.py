"""Questions that need more than one image search and text searches: with the tools they are answered, without not."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import AgentWorkflow, run_all
from deepmmsearch.agent.table import make_tool
from deepmmsearch.atlas import velic
from deepmmsearch.atlas.annals import DEEDS, chronicles, leaves
from deepmmsearch.atlas.drawing import COLOURS
from deepmmsearch.atlas.drawing.signs import FRAME, SIDE
from deepmmsearch.atlas.oracle import OraclePolicy
from deepmmsearch.atlas.pages import make_pages
from deepmmsearch.atlas.play import correct, with_gold_boxes
from deepmmsearch.atlas.questions import KINDS, each_question, make_question
from deepmmsearch.atlas.tool_questions import TOOL_KINDS
from deepmmsearch.atlas.world import Tongue, Variant, World, make_world
from deepmmsearch.atlas.world_files import kinds_of, write_atlas
from deepmmsearch.atlas.worlds import SitesReader
from deepmmsearch.engine import Index
from deepmmsearch.errors import ToolError
from deepmmsearch.eval.workflows import Switches
from deepmmsearch.prompts import load_prompt
from deepmmsearch.tools.index_tools import local_tools
from deepmmsearch.types import Hit, Limits, Question, Trajectory

LIMITS = Limits(calls=8, image_searches=2)


def small(language: Tongue = "english") -> World:
    return make_world(3, "eval", countries=12, famous=2, variant=Variant(language, kinds="tools"))


@pytest.fixture(scope="module", params=["english", "velic"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Toolbox]:
    made, folder = small(request.param), tmp_path_factory.mktemp("tools")
    write_atlas(made, folder / "world")
    # reading pictures takes longest, and pages are what is looked for here
    for path in (folder / "world" / "sites").rglob("*.*g"):
        path.unlink()
    Index.build(folder / "world" / "sites", folder / "index")
    tools = local_tools(Index.open(folder / "index"))
    extra = (make_tool("visit", {"part_length": 200, "links": 2}), make_tool("zoom", {}))
    return made, replace(tools, reader=SitesReader(folder / "world" / "sites"), extra=extra)


def play(made: World, tools: Toolbox, kind: str, limits: Limits = LIMITS, *without: str) -> list[Trajectory]:
    rng = random.Random(5)
    questions = [make_question(rng, made, kind, str(n)) for n in range(5)]
    golden = with_gold_boxes(Switches(without=without).apply(tools))

    async def go() -> list[Trajectory]:
        oracle = AgentWorkflow(OraclePolicy(), load_prompt("atlas-tools"), golden, limits)
        return [t async for t in run_all(questions, oracle, 4)]

    return asyncio.run(go())


@pytest.mark.parametrize(("kind", "tool"), [("sign", "zoom"), ("deep", "visit"), ("linked", "visit")])
def test_the_tool_is_what_answers(kind: str, tool: str, world: tuple[World, Toolbox]) -> None:
    rows = play(*world, kind)
    assert all(map(correct, rows)), [t.completion.text for row in rows for t in row.turns if not correct(row)]
    assert not any(map(correct, play(*world, kind, LIMITS, tool)))


@pytest.mark.parametrize("kind", ["founder", "patron"])
def test_no_text_search_shows_what_stands_deep_in_the_annals(kind: str, world: tuple[World, Toolbox]) -> None:
    made, tools = world
    tongue = made.variant.language
    for country, chronicle in list(chronicles(made).items())[:6]:
        for asked in (f"{kind} of {country}", f"annals of {country}", f"{kind} of {country} in the annals"):
            query = velic.say(tongue, asked)
            assert tools.text_search is not None
            hits = asyncio.run(tools.text_search.search(query, 5))
            summary = asyncio.run(tools.summarize(query, query, [hit.snippet for hit in hits], "text"))
            shown = " ".join(summary.texts)
            assert velic.say(tongue, getattr(chronicle, kind)) not in shown


def test_a_second_volume_names_no_country() -> None:
    names = {entity.name for entity in small().of("country")}
    for leaf in leaves(small()):
        text = " ".join(leaf.lines)
        if leaf.link is None:
            assert not any(name in text or name in leaf.title for name in names)
        else:
            assert leaf.link in text and DEEDS["founder"].split("{}")[1] in text


def test_a_sign_is_seen_closer_and_not_from_afar() -> None:
    made = small()
    question = make_question(random.Random(2), made, "sign", "1")
    assert question.image is not None
    box = question.metadata["gold_boxes"][f"the flag on the {question.metadata['plan']['carrier']}"]
    inside = question.image.crop(box).getcolors(100_000)
    sign = COLOURS[question.answers[0]]
    # the plate, and not one pixel more: the flag does not have its colour
    assert inside is not None and {c: n for n, c in inside}[sign] == (SIDE - 2 * FRAME) ** 2
    from_afar = question.image.resize((168, 112))
    assert sum(n for n, c in from_afar.getcolors(100_000) or [] if c == sign) <= 9


@pytest.mark.parametrize(("searches", "right"), [(2, True), (1, False)])
def test_two_flags_take_two_image_searches(searches: int, right: bool) -> None:
    made = small()
    for number in range(4):
        question = make_question(random.Random(number), made, "two_flags", "1")
        names = question.answers[0].split(" and ")

        class Flags:
            async def search(self, image: object, k: int) -> list[Hit]:
                name = names.pop(0)  # noqa: B023
                return [Hit(f"{name} flag", f"https://a.example/{name}", f"The flag of {name} is red.", matched=True)]

        tools = with_gold_boxes(Toolbox(image_search=Flags()))(question)
        start = Trajectory(question, load_prompt("atlas-tools"))
        workflow = AgentWorkflow(OraclePolicy(), start.prompt, lambda _: tools, Limits(8, searches))  # noqa: B023
        (row,) = asyncio.run(_all(question, workflow))
        assert correct(row) is right


async def _all(question: Question, workflow: AgentWorkflow) -> list[Trajectory]:
    return [t async for t in run_all([question], workflow)]


def test_the_papers_kinds_are_asked_in_the_papers_worlds_alone() -> None:
    usual = make_world(3, "eval", countries=12, famous=2)
    assert {q.metadata["kind"] for q in each_question(usual, 40)} <= set(KINDS)
    assert {q.metadata["kind"] for q in each_question(small(), 40)} == set(TOOL_KINDS)
    assert not any(page.site == "annals" for page in make_pages(usual))
    assert usual.entities == small().entities


async def test_the_reader_of_sites_reads_nothing_else(tmp_path: Path) -> None:
    write_atlas(small(), tmp_path / "world")
    (tmp_path / "world" / "other.html").write_text("secret")
    reader = SitesReader(tmp_path / "world" / "sites")
    page = await reader.read("https://annals.example/" + next(iter(make_annals())))
    assert page.links and (await reader.read(page.links[0].url)).title.startswith("Second volume")
    for url in (
        "https://annals.example/../other",
        "https://..example/other",
        "file:///etc/passwd",
        "https://x.example/",
    ):
        with pytest.raises(ToolError, match="There is no page"):
            await reader.read(url)


def test_an_atlas_tells_which_questions_it_asks(tmp_path: Path) -> None:
    write_atlas(small(), tmp_path / "tools")
    write_atlas(make_world(3, "eval", countries=12, famous=2), tmp_path / "papers")
    assert kinds_of(tmp_path / "tools") == "tools" and kinds_of(tmp_path / "papers") == "papers"
    (tmp_path / "papers" / "atlas.json").write_text("[1]")
    assert kinds_of(tmp_path / "papers") == kinds_of(tmp_path / "nothing") == "papers"


def make_annals() -> list[str]:
    return [page.slug for page in make_pages(small()) if page.link]
