"""`eval`, `report`, `judge` and `reproduce eval` from the command line."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from deepmmsearch import cli
from deepmmsearch.cli import group
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.evaluation import Evaluation, rag_prompts
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.engine import Index
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.reproduce.six_claims import make_recipe, read_models, roles
from deepmmsearch.store import TrajectoryStore
from endpoints import endpoint, error, said

pytest.importorskip("tantivy")


def run(*words: str) -> str:
    result = CliRunner().invoke(group, words, catch_exceptions=False, standalone_mode=False)
    assert result.exit_code == 0, result.output
    return result.output


def recipe(folder: Path, **more: Any) -> Path:
    """The oracle, one ablation and one fault, on a few questions: no model is loaded."""
    path = folder / "recipe.yaml"
    rows = {
        "output": str(folder / "run"),
        "benchmarks": [{"name": "atlas", "seed": 5, "sample": 6}],
        "workflows": {
            "oracle": {"kind": "oracle"},
            "blind": {"kind": "oracle", "image_search": False, "ablates": "oracle"},
            "failing": {"kind": "oracle", "fault": "failing", "ablates": "oracle"},
        },
        "judges": {"reward": {"rule": "reward"}, "exact": {"rule": "exact"}},
        "pictures": 2,
        **more,
    }
    path.write_text(json.dumps(rows))  # JSON is YAML
    return path


def test_eval_plays_judges_and_reports_and_goes_on(tmp_path: Path, worlds: Path) -> None:
    file = recipe(tmp_path, worlds=str(worlds))
    first = run("eval", str(file), "--only", "oracle")
    assert "oracle: 6 played, 100% right" in first and "report.html" in first
    second = run("eval", str(file))
    assert "oracle: nothing left to play" in second and "blind: 6 played" in second
    assert len(TrajectoryStore(tmp_path / "run" / "trajectories")) == 18
    figures = json.loads((tmp_path / "run" / "report.json").read_text())["workflows"]
    assert figures["oracle"]["average"]["mean"] == 1.0
    assert figures["failing"]["average"]["mean"] < 1.0 and figures["failing"]["effort"]["tool_success"] == 0.0
    assert figures["blind"]["change"] == "no image search"
    out = run("report", str(tmp_path / "run"), "--out", str(tmp_path / "page"), "--judge", "exact")
    assert "exact" in (tmp_path / "page" / "report.md").read_text() and "report.md" in out
    with pytest.raises(UnknownName, match="judge in the runs"):
        run("report", str(tmp_path / "run"), "--judge", "llm")


def test_questions_of_ones_own_by_their_path(tmp_path: Path) -> None:
    rows = ["Country;Question ;ANSWER;Id", *(f"x;What is {n}, or not?;x;{n % 4}" for n in range(6)), "x;No answer?;;9"]
    (tmp_path / "mine.csv").write_text("\n".join(rows), encoding="utf-16")
    with endpoint(lambda request: said("<reason>I know.</reason><answer>x</answer>")) as model:
        policies = {"m": {"kind": "chat", "base_url": model.url, "model": "vlm"}}
        own = [{"name": str(tmp_path / "mine.csv")}]
        file = recipe(tmp_path, benchmarks=own, workflows={"direct": {"kind": "direct"}}, policies=policies)
        output = run("eval", str(file), "--limit", "5")
        assert "mine: 1 x id of another row, numbered (row 5: 0 became 0-row5)" in output
        assert output.index("numbered (row 5") < output.index("direct: 5 played, 100% right")
        stored = TrajectoryStore(tmp_path / "run" / "trajectories").ids()
        assert set(stored) == {f"mine/direct/{name}" for name in ("0", "1", "2", "3", "0-row5")}
        sampled = run("eval", str(file), f"output={tmp_path / 'sampled'}", "--sample", "3", "--seed", "2")
        assert "direct: 3 played" in sampled and "Wrote" in sampled
        said_no = run("eval", str(file), f"output={tmp_path / 'all'}")
        assert "mine: 1 of 7 rows left out: 1 x no answer (9)" in said_no


def test_a_file_without_questions_is_refused_before_anything_is_played(tmp_path: Path) -> None:
    file = recipe(
        tmp_path,
        benchmarks=[{"name": str(tmp_path / "mine.csv")}],
        workflows={"direct": {"kind": "direct"}},
        policies={"m": {"kind": "chat", "base_url": "http://127.0.0.1:1/v1", "model": "vlm"}},
    )
    for rows, told in (("question,answers\n", "it holds no rows"), ("question,answers\nWho?,\n", "1 x no answer")):
        (tmp_path / "mine.csv").write_text(rows)
        with pytest.raises(UserError, match=told):
            run("eval", str(file))


def test_a_recipe_allows_several_image_searches_and_more_tools(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    turns = (
        '<zoom>{"box": [0, 0, 500, 500]}</zoom>',
        "<img_search><img></img_search>",
        "<img_search><img 2></img_search>",
        "<visit>[1]</visit>",
        "<answer>x</answer>",
    )

    def reply(request: Any) -> Any:
        made = sum(message["role"] == "assistant" for message in request["messages"])
        return said(f"<reason>I look.</reason>{turns[made]}")

    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "veld.md").write_text("# Veld\n\nThe flag of Veld.\n\n![Flag of Veld](flag.png)\n")
    Image.effect_noise((160, 120), 80).convert("RGB").save(pages / "flag.png")
    Index.build(pages, tmp_path / "index")
    asked = {"question": "Whose flag?", "answers": ["x"], "image": str(pages / "flag.png")}
    (pages / "asked.jsonl").write_text(json.dumps(asked))
    with endpoint(reply) as model:
        policies = {"m": {"kind": "chat", "base_url": model.url, "model": "vlm"}}
        workflows = {
            name: {"kind": "agent", "prompt": "deepmmsearch-r1", "limits": {"image_searches": most}}
            for name, most in (("once", 1), ("twice", 2))
        }
        settings = {"kind": "local", "index": str(tmp_path / "index"), "extra": ["visit", "zoom"]}
        own = [{"name": str(pages / "asked.jsonl"), "label": "own"}]
        run("eval", str(recipe(tmp_path, policies=policies, benchmarks=own, workflows=workflows, tools=settings)))
    store = TrajectoryStore(tmp_path / "run" / "trajectories")
    failed = {
        name.split("/")[1]: [seen.error for turn in store.get(name).turns if (seen := turn.observation) and seen.error]
        for name in store.ids()
    }
    assert failed == {"once": ["The image was already searched, use text_search or answer."], "twice": []}


def test_the_first_questions_of_an_atlas(tmp_path: Path, worlds: Path) -> None:
    assert "oracle: 2 played" in run(
        "eval", str(recipe(tmp_path, worlds=str(worlds))), "--limit", "2", "--only", "oracle"
    )


def through_main(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["deepmmsearch", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(str(stopped.value.code))


def asked_directly(folder: Path, url: str, count: int, concurrency: int) -> str:
    """The recipe of so many questions for a model behind an endpoint."""
    asked = folder / "asked.jsonl"
    asked.write_text("".join(f'{{"question": "What is {n}?", "answers": ["x"]}}\n' for n in range(count)))
    policies = {"m": {"kind": "chat", "base_url": url, "model": "vlm"}}
    own = [{"name": str(asked), "label": "own"}]
    workflows = {"direct": {"kind": "direct"}}
    return str(recipe(folder, policies=policies, benchmarks=own, workflows=workflows, concurrency=concurrency))


def test_an_endpoint_that_refuses_is_said_once_and_the_exit_code_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with endpoint(lambda _: error("no", 401)) as server:
        assert through_main(monkeypatch, "eval", asked_directly(tmp_path, server.url, 20, 1)) == 1
    told = capsys.readouterr()
    assert told.err.count("there is none in OPENAI_API_KEY") == 1 and "8 questions in a row" in told.err
    assert "OPENAI_API_KEY" not in told.out
    assert len(TrajectoryStore(tmp_path / "run" / "trajectories")) == 8


def test_a_direct_answer_is_one_turn(tmp_path: Path) -> None:
    with endpoint(lambda _: said("<answer>x")) as server:
        run("eval", asked_directly(tmp_path, server.url, 3, 1))
        assert len(server.asked) == 3
    for _, trajectory in TrajectoryStore(tmp_path / "run" / "trajectories").items():
        assert len(trajectory.turns) == 1 and trajectory.answer is None


def test_an_endpoint_that_is_down_for_a_few_questions_is_said_once_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with endpoint(lambda _: said("x")) as server:
        gone = server.url
    assert through_main(monkeypatch, "eval", asked_directly(tmp_path, gone, 6, 6)) == 1
    told = capsys.readouterr()
    assert told.err.count(f"Nothing answers at {gone}") == 1 and f"Nothing answers at {gone}" not in told.out
    assert "All 6 questions failed, the last with: Nothing answers at" in told.err


def test_what_all_failed_fails_again_when_nothing_is_left_to_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with endpoint(lambda _: said("x")) as server:
        gone = server.url
    asked = asked_directly(tmp_path, gone, 3, 3)
    for _ in range(2):
        assert through_main(monkeypatch, "eval", asked) == 1
        assert "All 3 questions failed, the last with: Nothing answers at" in capsys.readouterr().err
    assert not (tmp_path / "run" / "report.json").exists()


def test_a_judge_that_never_gave_a_verdict_makes_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with endpoint(lambda _: said("x")) as server:
        gone = server.url
    judges = {"l": {"kind": "llm", "base_url": gone, "model": "j"}}
    replies = iter(["<reason>r</reason><answer>I do not know</answer>"])
    with endpoint(lambda _: said(next(replies, "<reason>r</reason><answer>x</answer>"))) as server:
        asked = asked_directly(tmp_path, server.url, 4, 1)
        for _ in range(2):
            assert through_main(monkeypatch, "eval", asked, "judges=" + json.dumps(judges)) == 1
            told = capsys.readouterr()
            assert "All 3 verdicts of the judge l failed, the last with: Nothing answers at" in told.err
            assert len(server.asked) == 4
    assert not (tmp_path / "run" / "report.json").exists()


def test_what_cannot_be_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="deepmmsearch eval RECIPE"):
        run("report", str(tmp_path))
    with pytest.raises(UnknownName, match="workflow in the recipe"):
        run("eval", str(recipe(tmp_path)), "--only", "orakle")
    with pytest.raises(UnknownName, match="benchmark in the recipe"):
        run("eval", str(recipe(tmp_path)), "--benchmark", "okvqa")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"workflows": {"a": {"kind": "magic"}}}, "workflows.a: Unknown workflow 'magic'"),
        ({"workflows": {"a/b": {}}}, "has a /"),
        ({"workflows": {"a": {"ablates": "b"}}}, "no workflow 'b'"),
        ({"workflows": {"a": {"replicates": "b"}}}, "no workflow 'b' that it could replicate"),
        ({"workflows": {"a": {"replicates": "a"}}}, "a: a replicates another workflow"),
        ({"workflows": {"a": {"fault": "sad"}}}, "expected one of empty"),
        ({"workflows": {"a": {"policy": "p"}}}, "no policy 'p'"),
        ({"policies": {"p": {}, "q": {}}, "workflows": {"a": {}}}, "say which policy"),
        ({"policies": {"p": {}, "q": {}}, "workflows": {"a": {"policy": "p"}}}, "policies.q is played by no workflow"),
        ({"judges": {"j": {"rule": "none"}}}, "judges.j.rule: Unknown judge 'none'"),
        ({"benchmarks": [{"name": "atlas"}, {"name": "atlas"}]}, "same name"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(tmp_path: Path, changed: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=re.escape(why)):
        load_recipe(recipe(tmp_path, **changed), EvalRecipe)


def test_a_benchmark_without_tools_says_so(tmp_path: Path) -> None:
    questions = tmp_path / "mine.jsonl"
    questions.write_text(json.dumps({"question": "What?", "answers": ["x"]}) + "\n")
    benchmarks = [{"name": str(questions), "label": "mine"}, {"name": "atlas"}]
    loaded = load_recipe(recipe(tmp_path, benchmarks=benchmarks), EvalRecipe)
    evaluation = Evaluation(loaded)
    task = evaluation.task(loaded.benchmarks[0])
    assert [q.text for q in task.questions] == ["What?"] and task.tools is None
    with pytest.raises(UserError, match="atlas only"):
        evaluation.workflow("oracle", task)


def test_rag_speaks_the_language_of_the_policy() -> None:
    assert [p.name for p in rag_prompts("atlas", None)] == ["atlas", "atlas-direct"]
    assert [p.name for p in rag_prompts(None, None)] == ["rag-query", "rag"]


# -- judge


def test_a_model_is_calibrated_and_asked_once(tmp_path: Path) -> None:
    rows = [
        {"question": "Which city?", "answers": ["Paris"], "answer": answer, "correct": answer == "Paris"}
        for answer in ("Paris", "Rome", "Oslo")
    ]
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def reply(body: dict[str, Any]) -> Any:
        text = body["messages"][0]["content"]
        return said("correct" if re.search(r'Candidate answer.*: "Paris"', text) else "incorrect")

    with endpoint(reply) as server:
        words = ("judge", "calibrate", str(labelled), "--base-url", server.url, "--json")
        found = json.loads(run(*words, "--cassette", str(tmp_path / "verdicts.sqlite")))
        assert found["accuracy"] == 1.0 and found["kappa"] == 1.0 and len(server.asked) == 3
        again = json.loads(run(*words, "--cassette", str(tmp_path / "verdicts.sqlite")))
        assert again == found and len(server.asked) == 3


def test_the_golden_pairs_are_the_default() -> None:
    assert "607 pairs: accuracy 100.0% [99.4%, 100.0%], Cohen's kappa" in run("judge", "calibrate", "--show", "0")


def test_pairs_written_after_the_rules_are_judged_well() -> None:
    found = json.loads(run("judge", "calibrate", str(Path(__file__).parent / "judge_unseen.jsonl"), "--json"))
    assert found["count"] == 183 and found["accuracy"] >= 0.97 and found["wrong_called_right"] == 0


# -- reproduce


def test_reproduce_gives_every_model_its_part(tmp_path: Path) -> None:
    for name in ("base", "sft", "rl"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    folders = read_models([f"{name}={tmp_path / name}" for name in ("base", "sft", "rl")])
    made = make_recipe(folders, 50, 7, True, tmp_path / "out", 8)
    found = roles(list(folders))
    assert found.trained == "rl agent" and found.prompted == "base agent" and found.before == "sft agent"
    named = [v for v in vars(found).values() if isinstance(v, str)]
    assert named and set(named) <= set(made.workflows)
    assert made.workflows["rl adversarial"].ablates == "rl agent" and made.benchmarks[0].sample == 50
    assert roles(["mix0", "mix50", "bundled"]).mixes == {0: "mix0 agent", 50: "mix50 agent"}


def test_models_that_differ_in_their_data_play_as_agents_alone(tmp_path: Path) -> None:
    names = ["rl", "mix0", "mix50", "random"]
    made = make_recipe(dict.fromkeys(names, tmp_path), 50, 7, False, tmp_path / "out", 8)
    found = roles(names)
    assert "rl rag" in made.workflows and "mix50 rag" not in made.workflows
    assert {*found.mixes.values(), found.random, found.uniform} <= set(made.workflows)
    assert found.uniform == "mix50 agent" and roles([*names, "uniform"]).uniform == "uniform agent"
    assert "mix0 rag" in make_recipe({"mix0": tmp_path}, 50, 7, False, tmp_path / "out", 8).workflows


def test_training_runs_of_one_model_are_one_part(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    folders = read_models([f"base={tmp_path / 'a'}", f"rl@0={tmp_path / 'b'}", f"rl@7={tmp_path / 'c'}"])
    made = make_recipe(folders, 50, 7, False, tmp_path / "out", 8)
    assert made.workflows["rl@7 rag"].replicates == "rl@0 rag" and made.workflows["rl@0 rag"].replicates is None
    assert made.workflows["rl@0 no crop"].ablates == "rl@0 agent"
    again = made.workflows["rl@7 no crop"]
    assert (again.ablates, again.replicates) == ("rl@7 agent", "rl@0 no crop")
    found = roles(list(folders))
    assert (found.trained, found.prompted, found.after) == ("rl@0 agent", "base agent", "rl@0 agent")
    assert roles(["mix50@1", "mix50@2", "sft"]).mixes == {50: "mix50@1 agent"}


@pytest.mark.parametrize("given", ["base", "base@x=y", "=x", "a b=x", "base=nowhere"])
def test_a_model_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(UserError):
        read_models([given])


def test_reproduce_is_listed_with_its_commands() -> None:
    assert "six claims" in run("reproduce", "--help")
    assert "--model" in run("reproduce", "eval", "--help")
