"""Workflows, faults, statistics, runs that go on where they were, and the page about them."""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import virtual_time
from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.metering import Budget, Ledger, Purse, calling
from deepmmsearch.agent.runner import AgentWorkflow, play_safely, run_all
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.eval.charts import Bar, BarChart, Dot, Forest
from deepmmsearch.eval.claims import Claim, Finding, Roles, claim_section, claims, planned
from deepmmsearch.eval.faults import BAIT, FAULTS, followed, with_fault
from deepmmsearch.eval.figures import Played, Results, effort, load_results, measure
from deepmmsearch.eval.report import render_html, render_markdown, summary, write_reports
from deepmmsearch.eval.run import BenchmarkInfo, Described, EvalRun, evaluate
from deepmmsearch.eval.sections import Section, sections
from deepmmsearch.eval.statistics import (
    bootstrap,
    bootstrap_runs,
    compare,
    compare_runs,
    correlation,
    holm,
    mcnemar,
)
from deepmmsearch.eval.workflows import Rag, Switches, retrievals
from deepmmsearch.judge import Judge, JudgeError, RuleJudge, Verdict
from deepmmsearch.prompts import load_prompt
from deepmmsearch.show.tabulate import Table
from deepmmsearch.testing import FakeTools, ScriptedPolicy
from deepmmsearch.types import Box, Completion, Hit, Question, TextSearch, Trajectory
from html_pages import HOSTILE, Page

LOOK = "<reason>I look.</reason><img_search>the flag on the ship</img_search>"
WHOLE = "<reason>I look.</reason><img_search><img></img_search>"
READ = "<reason>I read.</reason><text_search>capital of Veld</text_search>"
AGAIN = "<reason>Once more.</reason><text_search>mayor of Balor</text_search>"
SAY = "<reason>I know.</reason><answer>Balor</answer>"
VELD = Hit("The flag of Veld", "https://example.org/veld", "The capital of Veld is Balor.", 1.0, matched=True)


def question(number: int = 0, text: str = "What is the capital?", **metadata: Any) -> Question:
    image = Image.new("RGB", (64, 48), (number % 256, 90, 120))
    return Question(
        f"q{number}", text, (image,) if image is not None else (), ("Balor",), {"kind": "image_text", **metadata}
    )


def fake() -> FakeTools:
    texts = {q: [VELD] for q in ("capital of Veld", "mayor of Balor", "What is the capital?")}
    return FakeTools(texts=texts, pictures=[VELD], boxes={"the flag on the ship": [Box(4, 4, 40, 40, 0.9)]})


def agent(*script: str, tools: Toolbox | None = None, switches: Switches | None = None) -> AgentWorkflow:
    given = tools or fake().toolbox()
    applied = switches or Switches()
    return AgentWorkflow(
        ScriptedPolicy(*script), load_prompt("deepmmsearch-r1"), lambda _: applied.apply(given), label="me"
    )


async def last(source: AsyncIterator[Trajectory]) -> Trajectory:
    found = [t async for t in source]
    return found[-1]


# -- play


async def test_turns_that_were_played_survive_an_error_of_the_policy() -> None:
    policy = ScriptedPolicy(READ)  # the second turn is not in the script
    workflow = AgentWorkflow(policy, load_prompt("deepmmsearch-r1"), lambda _: fake().toolbox())
    (trajectory,) = [t async for t in run_all([question()], workflow)]
    assert trajectory.stop == "error" and "turn 2 was asked for" in (trajectory.error or "")
    assert [t.action for t in trajectory.turns] == [TextSearch("capital of Veld")]


class Sleeper:
    async def act(self, trajectory: Trajectory) -> Completion:
        if trajectory.turns:
            await asyncio.sleep(60)
        return Completion(READ)


def test_a_question_that_takes_too_long_has_failed_with_what_it_did() -> None:
    workflow = AgentWorkflow(Sleeper(), load_prompt("deepmmsearch-r1"), lambda _: fake().toolbox())
    found = virtual_time.run(play_safely(workflow, question(), timeout=0.2))
    assert found.error == "No answer within 0.2 s." and len(found.turns) == 1


async def test_no_more_than_so_many_are_in_play() -> None:
    playing = most = 0

    class Counting:
        async def act(self, trajectory: Trajectory) -> Completion:
            nonlocal playing, most
            playing += 1
            most = max(most, playing)
            await asyncio.sleep(0.001)
            playing -= 1
            return Completion(SAY)

    rows = run_all(map(question, range(20)), AgentWorkflow(Counting(), load_prompt("direct"), lambda _: Toolbox()), 4)
    assert len([t async for t in rows]) == 20 and most == 4


# -- workflows


async def test_rag_retrieves_exactly_twice_and_answers_in_one_turn() -> None:
    tools = fake()
    policy = ScriptedPolicy(READ)

    class Writer:
        asked: list[Trajectory] = []  # noqa: RUF012

        async def act(self, trajectory: Trajectory) -> Completion:
            self.asked.append(trajectory)
            return await policy.act(trajectory) if len(trajectory.context) < 2 else Completion(SAY)

    writer = Writer()
    rag = Rag(writer, load_prompt("rag-query"), load_prompt("rag"), lambda _: tools.toolbox())
    found = await last(rag.play(question()))
    assert found.answer == "Balor" and found.stop == "answer" and len(found.turns) == 1
    assert [name for name, _ in retrievals(found)] == ["image", "text"]
    assert [tool for tool, _ in tools.asked if tool in ("image", "text")] == ["image", "text"]
    assert ("text", "capital of Veld") in tools.asked and found.question.metadata["rag_query"] == "capital of Veld"
    # The query is written with the picture's result before it, the answer with both.
    assert [len(t.context) for t in writer.asked] == [1, 2]
    assert "Balor" in found.context[1].text


async def test_all_that_rag_does_counts() -> None:
    class Sold:
        name = "serper"

        async def search(self, wanted: Any, k: int) -> list[Hit]:
            with calling("search", self.name, 0.25):
                return [VELD]

    class Writer:
        async def act(self, trajectory: Trajectory) -> Completion:
            asked = len(trajectory.context) < 2
            return Completion(READ if asked else SAY, prompt_tokens=100, tokens=10 if asked else 5)

    tools = Toolbox(text_search=Sold(), image_search=Sold())
    rag = Rag(Writer(), load_prompt("rag-query"), load_prompt("rag"), lambda _: tools)
    found = await last(rag.play(question()))
    assert found.query is not None and found.query.text == READ and found.query.seconds > 0
    assert found.cost == 0.5 and [call.cost for call in found.calls] == [0.25, 0.25]
    row = measure(found, {})
    assert (row.sampled, row.read, row.cost) == (15, 200, 0.5)
    everything = [found.query.seconds, found.turns[0].seconds, *(seen.seconds for seen in found.context)]
    assert row.seconds == pytest.approx(sum(everything)) and all(seconds > 0 for seconds in everything)


async def test_rag_begins_no_question_when_the_runs_budget_is_used_up() -> None:
    tools = replace(fake().toolbox(), ledger=Ledger(run=Purse(Budget(calls=5), "run")))
    rag = Rag(ScriptedPolicy(READ), load_prompt("rag-query"), load_prompt("rag"), lambda _: tools)
    played = []
    with pytest.raises(Failed, match="budget of this run is used up"):
        async for trajectory in run_all(map(question, range(20)), rag, concurrency=1):
            played.append(trajectory)
    assert 0 < len(played) < 5 and all(len(trajectory.context) == 2 for trajectory in played)


@pytest.mark.parametrize("written", [0, 1])
async def test_what_rag_retrieved_is_kept_when_the_model_fails(written: int) -> None:
    class Dying:
        left = written

        async def act(self, trajectory: Trajectory) -> Completion:
            self.left -= 1
            if self.left < 0:
                raise ConnectionError("gone")
            return Completion(READ)

    rag = Rag(Dying(), load_prompt("rag-query"), load_prompt("rag"), lambda _: fake().toolbox())
    found = await play_safely(rag, question())
    assert found.error == "ConnectionError: gone" and found.prompt.name == "rag"
    assert (len(found.context), found.query is not None) == (1 + written, bool(written))


@pytest.mark.parametrize("written", [SAY, "no action at all", WHOLE])
async def test_rag_searches_with_the_question_where_the_model_writes_no_query(written: str) -> None:
    tools = fake()
    rag = Rag(ScriptedPolicy(written), load_prompt("rag-query"), load_prompt("rag"), lambda _: tools.toolbox())
    found = await last(rag.play(question()))
    assert ("text", "What is the capital?") in tools.asked
    assert len(found.turns) == 1 and found.stop in ("answer", "turns")
    # A search that it asks for instead of an answer is refused, and is none.
    assert len(retrievals(found)) == 2


async def test_switches_take_tools_away() -> None:
    whole = await last(agent(LOOK, SAY).play(question()))
    assert whole.turns[0].observation is not None and whole.turns[0].observation.crop is not None
    uncropped = await last(agent(LOOK, SAY, switches=Switches(crop=False)).play(question()))
    assert uncropped.turns[0].observation is not None and uncropped.turns[0].observation.crop is None
    blind = await last(agent(WHOLE, SAY, switches=Switches(image_search=False)).play(question()))
    assert blind.turns[0].observation is not None and blind.turns[0].observation.error is not None


async def test_text_searches_are_counted_for_each_episode() -> None:
    few = agent(READ, AGAIN, SAY, switches=Switches(text_searches=1))
    for _ in range(2):
        found = await last(few.play(question()))
        errors = [t.observation.error for t in found.turns if t.observation]
        assert errors == [None, "Text can be searched once only, answer."] and found.answer == "Balor"


async def test_broken_tools() -> None:
    asked = [question(0), question(1, "Another question"), question(2, "A third")]
    said = {}
    for fault in FAULTS:
        tools = fake()
        broken = with_fault(tools.toolbox(), fault, asked[0], asked)
        found = await last(agent(WHOLE, READ, SAY, tools=broken).play(asked[0]))
        seen = [t.observation for t in found.turns if t.observation]
        said[fault] = [(o.text, o.error) for o in seen]
        assert len(seen) == 2 and found.answer == "Balor"
        if fault == "irrelevant":
            texts = [argument for tool, argument in tools.asked if tool == "text"]
            assert texts and set(texts) <= {"Another question", "A third"}
    assert [error for _, error in said["empty"]] == [None, None] and said["empty"][1][0] == "Nothing found."
    assert all(error for _, error in said["failing"])
    assert BAIT in said["adversarial"][0][0] and BAIT in said["adversarial"][1][0]
    assert followed(f"the {BAIT.lower()}!") and not followed("Balor") and not followed(None)


# -- statistics


def test_bootstrap_covers_the_mean_and_weighs_groups_equally() -> None:
    found = bootstrap([[1.0] * 10, [0.0] * 1000])
    assert found.mean == 0.5 and found.low == found.high == 0.5 and found.count == 1010
    rng = np.random.default_rng(1)
    inside = 0
    for seed in range(60):
        sample = (rng.random(80) < 0.4).astype(float).tolist()
        interval = bootstrap([sample], seed)
        inside += interval.low <= 0.4 <= interval.high
    assert inside >= 52  # 95 % of 60 is 57
    assert math.isnan(bootstrap([]).mean)


def test_paired_tests() -> None:
    assert mcnemar(0, 0) == 1.0 and mcnemar(5, 5) == 1.0
    assert mcnemar(10, 0) == pytest.approx(2 / 2**10)
    better = compare([1.0] * 30 + [0.0] * 10, [0.0] * 20 + [1.0] * 10 + [0.0] * 10)
    assert better.mean == 0.5 and better.low > 0 and better.p < 1e-4
    graded = compare([0.6, 0.9, 1.0, 0.3] * 10, [0.3, 0.6, 0.9, 0.0] * 10)
    assert graded.p < 0.01 and graded.low > 0
    same = compare([0.3, 0.6] * 10, [0.6, 0.3] * 10)
    assert same.p > 0.5 and same.low < 0 < same.high
    with pytest.raises(ValueError, match="pairs"):
        compare([1.0], [])
    assert math.isnan(correlation([1, 1, 1], [0, 1, 0])) and correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)


def test_holm_corrects_within_a_family() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0]) and holm([]) == [] and holm([0.02]) == [0.02]
    first, second, third = holm([0.02, math.nan, 0.01])
    assert first == pytest.approx(0.02) and math.isnan(second) and third == pytest.approx(0.02)


def test_training_runs_are_a_random_effect() -> None:
    rng = np.random.default_rng(3)
    questions = (rng.random(400) < 0.5).astype(float)
    low, high = (np.where(rng.random(400) < share, 1 - questions, questions) for share in (0.02, 0.4))
    # one run is as before; runs that agree add nothing, runs that differ widen the interval
    alone = compare(high.tolist(), questions.tolist())
    assert compare_runs([high.tolist()], [questions.tolist()]).mean == pytest.approx(alone.mean)
    agreeing = compare_runs([high.tolist()] * 3, [questions.tolist()])
    assert agreeing.seeds == 3 and agreeing.high - agreeing.low == pytest.approx(alone.high - alone.low, rel=0.15)
    good, bad = np.clip(questions + (rng.random(400) < 0.6), 0, 1), questions
    runs = [good.tolist(), bad.tolist(), good.tolist()]
    apart = compare_runs(runs, [questions.tolist()])
    pooled = compare(np.mean(runs, axis=0).tolist(), questions.tolist())
    assert apart.mean == pytest.approx(pooled.mean) and apart.count == 400
    assert apart.high - apart.low > 3 * (pooled.high - pooled.low) and apart.low < 0 < pooled.low and apart.p > 0.05
    over = bootstrap_runs([[good.tolist(), low.tolist()], [[1.0, 1.0], [1.0, 1.0]]])
    assert over.count == 402 and over.mean == pytest.approx((np.mean([good, low]) + 1) / 2) and over.low < over.high
    # two runs vary as two runs do: half their distance times the square root of two for the sample's deviation
    wide = bootstrap_runs([[[1.0] * 50, [0.0] * 50]])
    assert wide.low < 0 and wide.high > 1
    assert math.isnan(bootstrap_runs([]).mean)
    with pytest.raises(ValueError, match="pairs"):
        compare_runs([[1.0]], [[1.0, 0.0]])


# -- runs


class Picky:
    """A judge that is down for some answers; `asked` counts."""

    def __init__(self, down: bool = True) -> None:
        self.down, self.asked = down, 0

    async def judge(self, question: Question, answer: str | None) -> Verdict:
        self.asked += 1
        if self.down and question.id == "q1":
            raise JudgeError("The judge is down.")
        return Verdict(0.7, "rather")


def described(*names: str, **more: Any) -> list[Described]:
    return [Described(name, "agent", "me", **more) for name in names]


async def run_once(
    folder: Path, workflow: AgentWorkflow, questions: Sequence[Question], judges: dict[str, Judge], **more: Any
) -> int:
    run = EvalRun(folder)
    run.describe(described("agent"), [BenchmarkInfo("own")], list(judges))
    return await evaluate(run, "own", questions, "agent", workflow, judges, concurrency=4, **more)


async def test_a_run_goes_on_by_question(tmp_path: Path) -> None:
    asked = [question(n) for n in range(6)]
    judges: dict[str, Judge] = {"reward": RuleJudge("reward")}
    assert await run_once(tmp_path / "run", agent(READ, SAY), asked[:4], judges, pictures=2) == 4
    assert await run_once(tmp_path / "run", agent(READ, SAY), asked, judges, pictures=2) == 2
    run = EvalRun(tmp_path / "run")
    assert sorted(run.store.ids()) == [f"own/agent/q{n}" for n in range(6)]
    assert len(run.judged()) == 6 and all(v.score == 1 for v in run.judged().values())
    # pictures of the first two alone
    assert [t.question.image is not None for _, t in sorted(run.store.items())] == [True, True, *[False] * 4]


async def test_a_new_judge_and_one_that_was_down_judge_what_was_played(tmp_path: Path) -> None:
    asked = [question(n) for n in range(3)]
    picky = Picky()
    await run_once(tmp_path / "run", agent(SAY), asked, {"picky": picky})
    first = EvalRun(tmp_path / "run").judged()
    assert first["own/agent/q1", "picky"].error == "The judge is down."
    again: dict[str, Judge] = {"picky": (up := Picky(down=False)), "exact": RuleJudge("exact")}
    assert await run_once(tmp_path / "run", agent(), asked, again) == 0
    found = EvalRun(tmp_path / "run").judged()
    assert up.asked == 1 and found["own/agent/q1", "picky"].score == 0.7
    assert found["own/agent/q2", "exact"].score == 1.0


async def test_an_error_counts_as_wrong_and_can_be_played_again(tmp_path: Path) -> None:
    asked = [question(n) for n in range(2)]
    judges: dict[str, Judge] = {"reward": RuleJudge("reward")}
    await run_once(tmp_path / "run", agent(READ), asked, judges)
    results = load_results([EvalRun(tmp_path / "run")])
    assert results.accuracy("agent").mean == 0.0 and effort(results.select("agent"), 10).errors == 2
    assert effort(results.select("agent"), 10).gave_up == 0.0
    assert await run_once(tmp_path / "run", agent(READ, SAY), asked, judges) == 0
    assert await run_once(tmp_path / "run", agent(READ, SAY), asked, judges, retry_errors=True) == 2
    results = load_results([EvalRun(tmp_path / "run")])
    assert results.accuracy("agent").mean == 1.0 and effort(results.select("agent"), 10).errors == 0


async def test_a_model_that_is_down_ends_the_run_and_all_that_was_played_is_kept(tmp_path: Path) -> None:
    asked = [question(n) for n in range(40)]
    judges: dict[str, Judge] = {"reward": RuleJudge("reward")}
    with pytest.raises(Failed, match=r"8 questions in a row ended in an error, .* --retry-errors"):
        await run_once(tmp_path / "run", agent(READ), asked, judges, stop_after_errors=8)
    store = EvalRun(tmp_path / "run").store
    assert 8 <= len(store) < 16 and all(len(t.turns) == 1 for t in store)
    assert await run_once(tmp_path / "run", agent(READ, SAY), asked, judges, retry_errors=True) == 40


async def test_a_judge_that_is_down_ends_the_run_and_judges_at_the_next_start(tmp_path: Path) -> None:
    class Down:
        def __init__(self) -> None:
            self.up, self.asked = False, 0

        async def judge(self, question: Question, answer: str | None) -> Verdict:
            self.asked += 1
            if not self.up:
                raise ConnectionError("no route")
            return Verdict(1.0)

    asked, down = [question(n) for n in range(40)], Down()
    judges: dict[str, Judge] = {"down": down}
    with pytest.raises(Failed, match=r"8 verdicts of the judge down in a row .*ConnectionError: no route"):
        await run_once(tmp_path / "run", agent(SAY), asked, judges, stop_after_errors=8)
    played = len(EvalRun(tmp_path / "run").store)
    assert 8 <= played < 40 and all(t.answer == "Balor" for t in EvalRun(tmp_path / "run").store)
    # the next start asks before it plays on
    with pytest.raises(Failed):
        await run_once(tmp_path / "run", agent(SAY), asked, judges, stop_after_errors=8)
    assert len(EvalRun(tmp_path / "run").store) == played
    down.up = True
    assert await run_once(tmp_path / "run", agent(SAY), asked, judges, stop_after_errors=8) == 40 - played
    assert len(EvalRun(tmp_path / "run").store) == 40
    assert all(v.score == 1.0 and v.error is None for v in EvalRun(tmp_path / "run").judged().values())


async def test_what_a_judge_leaves_out_is_told_with_its_verdict(tmp_path: Path) -> None:
    hard = {"benchmark": "aokvqa", "direct_answers": ["Balor"] * 10, "difficult_direct_answer": True}
    asked = [question(0, **hard), question(1, **{**hard, "difficult_direct_answer": False})]
    judges: dict[str, Judge] = {"official": RuleJudge("official"), "reward": RuleJudge("reward")}
    await run_once(tmp_path / "run", agent(SAY), asked, judges)
    run = EvalRun(tmp_path / "run")
    assert {key: row.counts for key, row in run.judged().items()} == {
        ("own/agent/q0", "official"): False, ("own/agent/q0", "reward"): True,
        ("own/agent/q1", "official"): True, ("own/agent/q1", "reward"): True,
    }  # fmt: skip
    assert load_results([run]).accuracy("agent").count == 1
    assert load_results([run], "reward").accuracy("agent").count == 2
    # lines and folders of earlier versions do not say it
    path = tmp_path / "run" / "verdicts.jsonl"
    path.write_text("".join(line.replace(', "counts": false', "") + "\n" for line in path.read_text().splitlines()))
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    del info["workflows"]["agent"]["replicates"], info["planned"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(info))
    old = load_results([EvalRun(tmp_path / "run")])
    assert old.accuracy("agent").count == 2 and old.planned == ()


async def test_pairs_that_are_planned_are_kept_with_the_run(tmp_path: Path) -> None:
    await results_of(tmp_path / "run")
    EvalRun(tmp_path / "run").plan([("trained", "base")])
    assert load_results([EvalRun(tmp_path / "run")]).planned == (("trained", "base"),)


async def test_half_written_lines_are_no_verdicts(tmp_path: Path) -> None:
    asked = [question(n) for n in range(2)]
    judges: dict[str, Judge] = {"reward": RuleJudge("reward")}
    await run_once(tmp_path / "run", agent(SAY), asked, judges)
    file = tmp_path / "run" / "verdicts.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2 + 9])
    assert len(EvalRun(tmp_path / "run").judged()) == 1
    assert await run_once(tmp_path / "run", agent(), asked, judges) == 0
    assert len(EvalRun(tmp_path / "run").judged()) == 2


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"did not make it \(notes\.txt is in it\)"):
        EvalRun(tmp_path).describe(described("agent"), [], [])
    run = EvalRun(tmp_path / "run")
    run.describe(described("agent"), [BenchmarkInfo("own")], ["reward"])
    with pytest.raises(UserError, match=r"workflows\.agent\.policy: me -> other"):
        EvalRun(tmp_path / "run").describe([Described("agent", "agent", "other")], [], [])


# -- figures and pages


async def results_of(folder: Path, text: str = "What is the capital?") -> Results:
    """Two agents, an ablation, a fault, and hostile texts wherever somebody else writes."""
    hit = replace(VELD, title=text, snippet=f"{text} The capital of Veld is Balor.", image=Image.new("RGB", (30, 20)))
    tools = FakeTools(
        texts={"capital of Veld": [hit]}, pictures=[hit], boxes={"the flag on the ship": [Box(4, 4, 40, 40, 0.9)]}
    )
    asked = [
        question(n, f"{text} {n}", gold_box=[4, 4, 40, 40], search_required=bool(n % 2), kind=text) for n in range(8)
    ]
    run = EvalRun(folder)
    plans = {
        "trained": (Described("trained", "agent", "me", calls=10), agent(LOOK, READ, READ, SAY, tools=tools.toolbox())),
        "base": (Described("base", "agent", "you", calls=10), agent(f"<reason>x</reason><answer>{text}</answer>")),
        "one": (
            Described("one", "agent", "me", calls=10, ablates="trained", change="single text search"),
            agent(LOOK, READ, SAY, tools=tools.toolbox()),
        ),
        "empty": (
            Described("empty", "agent", "me", calls=10, ablates="trained", fault="empty"),
            agent("<reason>No.</reason><answer>Unable to answer due to lack of relevant information</answer>"),
        ),
        "broken": (Described("broken", "direct", "me"), agent(READ)),
    }
    run.describe(
        [d for d, _ in plans.values()],
        [BenchmarkInfo("own", "Own"), BenchmarkInfo("far", "Far", out_of_domain=True)],
        ["reward", "exact"],
    )
    judges: dict[str, Judge] = {"reward": RuleJudge("reward"), "exact": RuleJudge("exact")}
    for name, (_, workflow) in plans.items():
        for benchmark in ("own", "far"):
            await evaluate(run, benchmark, asked, name, workflow, judges, pictures=2)
    return load_results([run])


async def test_the_figures_are_right(tmp_path: Path) -> None:
    results = await results_of(tmp_path / "run")
    whole = effort(results.select("trained"), 10)
    assert (whole.asked, whole.tools, whole.calls) == (1.0, {"text": 2.0, "crop": 1.0}, 3.0)
    assert whole.allowance == pytest.approx(0.3) and whole.tool_success == 1.0 and whole.several_texts == 1.0
    assert effort(results.select("empty"), 10).gave_up == 1.0
    assert results.accuracy("trained").mean == 1.0 and results.accuracy("base").mean == 0.0
    assert results.compare("trained", "base").mean == 1.0
    assert all(r.crop_quality == 1.0 and r.gold_box for r in results.select("trained"))
    found = {s.title for s in sections(results)}
    assert {
        "Accuracy", "Searches, time and money", "Are the differences real?", "Ablations", "Which tools are used",
        "Knowing when to search", "Do better boxes make better answers?", "One text search or several?",
        "Unlike the training questions", "When the tools fail", "Judges compared", "What failed",
    } <= found  # fmt: skip
    figures = json.loads(json.dumps(summary(results), allow_nan=False))
    assert figures["workflows"]["trained"]["average"]["mean"] == 1.0


async def test_the_order_in_which_questions_finish_changes_nothing(tmp_path: Path) -> None:
    results = await results_of(tmp_path / "run")
    for number, row in enumerate(sorted(results.rows, key=lambda r: (r.benchmark, r.workflow, r.question))):
        results.rows[results.rows.index(row)].scores["reward"] = float(number % 3 == 0)  # type: ignore[index]
    shuffled = replace(results, rows=random.Random(4).sample(list(results.rows), len(results.rows)))
    assert shuffled.rows != results.rows and summary(shuffled) == summary(results)
    assert [s.tables for s in sections(shuffled) if s.title != "What failed"] == [
        s.tables for s in sections(results) if s.title != "What failed"
    ]
    # the same questions in two benchmarks do not change places either
    twice = replace(results, benchmarks=dict(reversed(results.benchmarks.items())))
    assert twice.accuracy("trained") == results.accuracy("trained")


async def test_ablations_stand_in_all_tables(tmp_path: Path) -> None:
    shown = {section.title: section.tables for section in sections(await results_of(tmp_path / "run"))}
    for title in ("Accuracy", "Searches, time and money", "Knowing when to search", "Which tools are used",
                  "Unlike the training questions", "Judges compared"):  # fmt: skip
        assert "one" in {row[0] for row in shown[title][0].rows}, title


async def test_pairs_that_were_not_planned_are_folded_and_have_no_stars(tmp_path: Path) -> None:
    results = replace(await results_of(tmp_path / "run"), planned=[("trained", "base")])
    planned, others = next(s.tables for s in sections(results) if s.title == "Are the differences real?")
    assert [row[0] for row in planned.rows] == ["trained - base", "trained - one"] and not planned.folded
    assert planned.columns[-1] == "p (Holm)" and planned.rows[0][-1] == "< 0.001*" and planned.rows[1][-1] == "1.000"
    names = {row[0] for row in others.rows}
    assert "base - one" in names and not names & {"trained - base", "base - trained", "trained - one"}
    assert others.folded and "p (Holm)" not in others.columns and "*" not in str(others.rows)
    found = {(d["first"], d["second"]): d for d in summary(results)["differences"]}
    assert found["trained", "base"]["planned"] and found["trained", "base"]["p_holm"] < 0.001
    assert not found["base", "one"]["planned"] and found["base", "one"]["p_holm"] is None
    html, text = render_html(results, sections(results)), render_markdown(results, sections(results))
    assert '<details class="folded"><summary>Other pairs: ' in html and "<summary>Other pairs: " in text


async def test_models_that_differ_in_their_seed_are_one_in_comparisons(tmp_path: Path) -> None:
    results = await results_of(tmp_path / "run")
    workflows = {**results.workflows, "broken": replace(results.workflows["broken"], replicates="trained", policy="he")}
    several = replace(results, workflows=workflows, planned=[("trained", "base")])
    found = several.compare("trained", "base")
    assert found.seeds == 2 and found.mean == 0.5 and found.low <= 0 and results.compare("trained", "base").low == 1
    shown = {section.title: section.tables for section in sections(several)}
    rows = {row[0]: row for row in shown["Accuracy"][0].rows}
    assert rows["trained, over 2 seeds"][1].startswith("50.0 [")
    told = summary(several)["workflows"]
    assert told["trained"]["over_seeds"]["seeds"] == 2 and told["trained"]["over_seeds"]["mean"] == 0.5
    assert told["base"]["over_seeds"] is None
    planned, others = shown["Are the differences real?"]
    assert planned.rows[0][planned.columns.index("seeds")] == "2"
    assert not any("broken" in row[0] for row in others.rows)
    finding = claims(several, Roles("trained", prompted="base"))[0].findings[0]
    assert finding.shown is False and finding.figure.endswith("16 questions, 2 seeds")


async def test_runs_of_one_policy_are_paired(tmp_path: Path) -> None:
    results = await results_of(tmp_path / "run")
    again = {"broken": "trained", "empty": "one"}
    workflows = {
        name: replace(w, replicates=again.get(name), policy="other" if name in again else w.policy, fault=None)
        for name, w in results.workflows.items()
    }
    # "one" is of the first model alone: it is compared with that, not with the mean of both
    alone = replace(results, workflows={**workflows, "empty": replace(workflows["empty"], replicates=None)})
    assert alone.compare("trained", "one") == results.compare("trained", "one")
    # each run against its own ablation: both pairs are equal, though the runs are not
    several = replace(results, workflows=workflows)
    found = several.compare("trained", "one")
    assert found.seeds == 2 and found.mean == found.low == found.high == 0
    table = next(s.tables[0] for s in sections(several) if s.title == "Ablations")
    assert [row[0] for row in table.rows] == ["one"]


async def test_rotations_are_one_question_and_what_a_judge_leaves_out_does_not_count(tmp_path: Path) -> None:
    results = await results_of(tmp_path / "run")

    def changed(row: Played) -> Played:
        number = int(row.question[1:])
        right = {"reward": float(number != 3)}
        return replace(
            row, circular=f"q{number % 4}", scores=right, left_out=frozenset({"reward"} if number == 0 else ())
        )

    rotated = replace(results, rows=list(map(changed, results.rows)))
    found = rotated.accuracy("trained", ["own"])
    # q3 is wrong, so q3 and q7 are; q0 is left out, and q4 stands for its question
    assert found.count == 4 and found.mean == 0.75
    assert rotated.mean(rotated.select("trained", "own")) == 0.75
    assert rotated.compare("trained", "base").mean == 0


def renamed(results: Results, text: str) -> Results:
    """With `text` in every name that a recipe, a data set or a judge gives."""

    def name(given: str) -> str:
        return f"{given} {text}"

    def row(played: Played) -> Played:
        scores = {name(judge): score for judge, score in played.scores.items()}
        names = {"workflow": name(played.workflow), "benchmark": name(played.benchmark), "category": text}
        return replace(played, scores=scores, unjudged=played.unjudged and text, error=played.error and text, **names)

    def described(workflow: Described) -> Described:
        ablates = name(workflow.ablates) if workflow.ablates else None
        return replace(workflow, name=name(workflow.name), policy=text, prompt=text, ablates=ablates)

    return replace(
        results,
        title=text,
        judge=name(results.judge),
        judges=tuple(map(name, results.judges)),
        workflows={name(key): described(workflow) for key, workflow in results.workflows.items()},
        benchmarks={
            name(key): replace(b, name=name(key), title=text, notes={"dropped": {text: 1}})
            for key, b in results.benchmarks.items()
        },
        rows=list(map(row, results.rows)),
        gallery=[
            replace(e, played=row(e.played), verdict=e.verdict and replace(e.verdict, reason=text))
            for e in results.gallery
        ],
        facts={"revision": text},
    )


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_no_text_becomes_an_element_or_an_attribute(tmp_path: Path, hostile: str) -> None:
    def page(results: Results, text: str) -> Page:
        given = renamed(results, text)
        more = Section(
            text, text, (Table([text, text], [[text, text]], text),), (BarChart([Bar(text, [(text, 0.5)])]),)
        )
        return Page(render_html(given, [more, *sections(given)], text))

    found = page(await results_of(tmp_path / "hostile", hostile), hostile)
    assert found.elements == page(await results_of(tmp_path / "plain", "plain"), "plain").elements
    assert re.sub(r"\s|\0|\u202e", "", hostile) in re.sub(r"\s|\0", "", found.text)


async def test_the_page_is_whole(tmp_path: Path) -> None:
    results = await results_of(tmp_path / "run")
    html = render_html(results, sections(results))
    found = Page(html)
    tags = [tag for tag, _ in found.elements]
    assert tags.count("details") >= 16 and "trained" in found.text and "svg" in tags
    # what the filters of the gallery hide by is there
    hidden = set(re.findall(r"\.gallery:has\(#(\w+):checked\) \.card:not\(\.\1\)", html))
    assert hidden and hidden <= set(found.values("id"))
    assert {"v1", "v2", "t4", "w1"} <= {c for value in found.values("class") for c in value.split()} & hidden
    assert "<script" not in render_markdown(results, sections(results))


async def test_searches_with_other_tools_are_shown(tmp_path: Path) -> None:
    results = await results_of(tmp_path / "run")
    looked = [replace(row, searches={**row.searches, "lookup": 2}) for row in results.rows]
    results = replace(results, rows=looked)
    shown = {section.title: section.tables[0] for section in sections(results)}
    used, took = shown["Which tools are used"], shown["Searches, time and money"]
    assert used.rows[0][used.columns.index("lookup")] == "100 %"
    assert took.rows[0][took.columns.index("lookup")] == "2.00"
    assert effort(results.select("trained"), 10).calls == 5.0
    assert ">lookup</label>" in render_html(results, [])


def test_a_chart_draws_to_scale() -> None:
    chart = Forest([Dot("a", 0.5, 0.25, 1.0), Dot("b", 0.1, 0.0, 0.2)], "both")
    assert (chart.x(0), chart.x(0.5), chart.x(1)) == (230, 460, 690) and chart.height == 94
    assert [chart.said(tick, 0) for tick in chart.ticks] == [str(n) for n in range(0, 101, 10)]
    signed = Forest([Dot("a", -0.1, -0.2, 0.05)], "signed", signed=True)
    assert signed.said(-0.1, 1) == "-10.0" and signed.x(-0.2) == 230 and signed.x(0.05) == 690
    bars = BarChart([Bar("a", [("x", 0.5), ("y", 1.0)]), Bar("b", [("x", 0.0)])])
    assert [bars.top(0), bars.top(1)] == [8, 48] and bars.height == 76 and bars.length(0.5) == 180


async def test_reports_are_written(tmp_path: Path) -> None:
    results = await results_of(tmp_path / "run")
    paths = write_reports(results, tmp_path / "out")
    assert [p.name for p in paths] == ["report.html", "report.md", "report.json"]
    assert "## Accuracy" in paths[1].read_text() and json.loads(paths[2].read_text())["judge"] == "reward"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", "report.json", "report.md"]


# -- claims


async def test_claims_are_marked_by_their_figures(tmp_path: Path) -> None:
    results = await results_of(tmp_path / "run")
    found = claims(results, Roles("trained", prompted="base", single_text="one"))
    assert [c.number for c in found] == [1, 2, 3, 4, 5, 6]
    first = found[0].findings[0]
    assert first.shown is True and first.figure.startswith("+100.0 [+100.0, +100.0]")
    assert found[0].mark == "not shown (measured in part)"
    # as good with one search as with several: not shown
    assert found[2].mark == "not shown" and found[2].findings[0].figure.startswith("+0.0")
    assert found[3].mark == "not shown (not measured)" and "--model" in found[3].findings[0].figure
    table = claim_section(found).tables[0]
    text = str(table.rows)
    assert "not measured" in text and "shown" in text
    assert table.columns == ["claim", "difference", "95 % interval", "questions", "seeds", "p (Holm)", ""]
    assert table.rows[1] == [
        "· trained agent - prompt agent", "+100.0", "[+100.0, +100.0]", "16", "1", "< 0.001*", "shown",
    ]  # fmt: skip
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert planned(Roles("trained", prompted="base", single_text="one")) == (("trained", "base"), ("trained", "one"))


def test_a_claim_is_shown_when_all_its_findings_are() -> None:
    findings = (Finding("a", "", True), Finding("b", "", True))
    assert Claim(1, "", findings).mark == "shown"
    assert Claim(1, "", (*findings, Finding("c", "", False))).mark == "not shown"


async def test_selective_tool_use_is_compared_on_the_same_questions(tmp_path: Path) -> None:
    results = await results_of(tmp_path / "run")
    crops, texts, free = claims(results, Roles("trained", before="trained", after="base"))[4].findings
    assert crops.shown is True and texts.shown is False and free.shown is True
