"""What tools and languages bring: what is played, and how it is told."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from deepmmsearch.atlas.closeups import closeup_questions, each_closeup
from deepmmsearch.atlas.drawing.flags import COLOURS
from deepmmsearch.atlas.tool_questions import TOOL_KINDS
from deepmmsearch.compose.evaluation import change
from deepmmsearch.eval.figures import EXACT, Results
from deepmmsearch.eval.played import Played
from deepmmsearch.eval.run import Described
from deepmmsearch.reproduce.tool_study import LANGUAGES, TAKEN, ToolTraining, language_table, recipes, tool_table


def played(benchmark: str, workflow: str, number: int, kind: str, right: bool) -> Played:
    fields = {"unjudged": None, "error": None, "gave_up": False, "followed": False, "malformed": 0, "failed": 0}
    measured = {"seconds": 0.0, "sampled": None, "read": None, "cost": 0.0, "crop_quality": None, "gold_box": False}
    told = {"search_required": True, "kind": kind, "category": "", "searches": {"text": 2}}
    return Played(benchmark, workflow, str(number), {EXACT: float(right)}, **fields, **measured, **told)  # type: ignore[arg-type]


def described(name: str, ablates: str | None = None) -> Described:
    return Described(name, "oracle", "oracle", "", 8, ablates, None, None, None)


def results(rows: list[Played]) -> Results:
    names = ["oracle", *(f"oracle without {what}" for what in TAKEN)]
    workflows = {name: described(name, None if name == "oracle" else "oracle") for name in names}
    return Results("", EXACT, (EXACT,), workflows, {}, rows, [], {})


def test_each_kind_of_question_has_a_tool_that_is_taken_away() -> None:
    assert sorted(kind for _, kinds in TAKEN.values() for kind in kinds) == sorted(TOOL_KINDS)


def test_everything_is_played_with_and_without_by_each_player(tmp_path: Path) -> None:
    tools, languages = recipes({"tuned": tmp_path}, 20, 7, tmp_path, 4)
    assert len(tools.workflows) == 2 * (1 + len(TAKEN)) and list(languages.workflows) == ["oracle", "tuned"]
    changes = {change(workflow) for workflow in tools.workflows.values()}
    assert {"no zoom", "no visit"} <= changes
    second = tools.workflows["tuned without second image search"]
    assert second.limits.image_searches == 1 and tools.workflows["tuned"].limits.image_searches == 2  # type: ignore[union-attr]
    assert [b.title for b in languages.benchmarks] == list(LANGUAGES)
    # one world, whose questions can be compared one by one
    assert len({(b.seed, b.sample) for b in (*tools.benchmarks, *languages.benchmarks)}) == 1


def test_a_tool_is_told_by_the_questions_that_need_it() -> None:
    rows = [played("tools", "oracle", n, "sign" if n < 10 else "deep", True) for n in range(20)]
    for what, (_, kinds) in TAKEN.items():
        rows += [
            played("tools", f"oracle without {what}", int(r.question), r.kind, r.kind not in kinds) for r in rows[:20]
        ]
    table = {row[0]: row[1:] for row in tool_table(results(rows)).rows}
    assert table["zoom: sign"][1:] == ("100 % [100, 100]", "0 % [0, 0]", "+100 [+100, +100]", "10")
    assert table["zoom: other questions"][3:] == ("+0 [+0, +0]", "10")
    assert table["second image search: two_flags"][1] == "-"


def test_languages_are_compared_question_by_question() -> None:
    rows = [
        played(label, "oracle", n, "text", label == "english" or n % 2 == 0) for label in LANGUAGES for n in range(10)
    ]
    table = {row[0]: row[2:] for row in language_table(results(rows)).rows}
    assert table["english"] == ("100 % [100, 100]", "", "2.00")
    assert table["velic"][0].startswith("50 %") and table["velic"][1].startswith("-50 [")


def test_training_worlds_share_no_seed_and_the_data_are_what_the_recipe_says(tmp_path: Path) -> None:
    *lessons, tuned = ToolTraining(Path("recipes/atlas/sft_tools.yaml"), tmp_path).jobs()
    given = [dict(zip(job.command[2::2], job.command[3::2], strict=True)) for job in lessons]
    assert [g.get("--closeups") for g in given] == [None, "120"]
    seeds = [range(int(g["--seed"]), int(g["--seed"]) + int(g["--worlds"])) for g in given]
    assert len({seed for each in seeds for seed in each}) == sum(map(len, seeds))
    recipe = (Path(__file__).parent.parent / "recipes/atlas/sft_tools.yaml").read_text(encoding="utf-8")
    assert all(f"runs/tools/{name}" in recipe for name in tuned.after)


def test_what_training_takes_and_makes_is_told_before(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from deepmmsearch.bundled.sign_stage import SIGNS
    from deepmmsearch.cli.atlas import teach
    from deepmmsearch.reproduce.study_check import SIGN_PICTURES, TAUGHT_QUESTIONS, check_tool_training

    assert next(option for option in teach.params if option.name == "questions").default == TAUGHT_QUESTIONS
    assert SIGNS.steps * SIGNS.batch == SIGN_PICTURES
    recipe = Path(__file__).parent.parent / "recipes/atlas/sft_tools.yaml"
    training = ToolTraining(recipe, tmp_path / "out")
    plan = check_tool_training(training)
    assert not plan.missing
    works = {work.name: work for work in plan.work}
    assert list(works) == ["signs", "usual", "tools", "sft: training"]
    assert 150 < works["signs"].seconds < 300 and works["sft: training"].questions == 320 * 16
    assert {training.words, training.start} <= set(plan.makes)
    shorter = ToolTraining(recipe, tmp_path / "out", overrides=("trl.max_steps=32",))
    tenth = check_tool_training(shorter).work[-1]
    assert tenth.seconds == pytest.approx(works["sft: training"].seconds / 10)
    training.start.mkdir(parents=True)
    assert [work.name for work in check_tool_training(training).work] == ["usual", "tools", "sft: training"]


def test_more_words_leave_those_that_were_there(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from deepmmsearch.atlas import velic
    from deepmmsearch.bundled import BUNDLED
    from deepmmsearch.bundled.more_words import extend

    extend(tmp_path / "start")
    old, new = (transformers.AutoTokenizer.from_pretrained(folder) for folder in (BUNDLED, tmp_path / "start"))
    usual = "<reason>The river of Senzel is Tanmir.</reason><text_search>capital of Tanmir</text_search>"
    assert new.encode(usual) == old.encode(usual)
    for text in ("<zoom>the flag on the ship</zoom>", velic.write("The river of Senzel is Tonlel."), "Read on."):
        ids = new.encode(text)
        assert new.unk_token_id not in ids and len(ids) <= 2 * len(text.split()) + 2
        assert "".join(new.decode(ids).split()) == "".join(text.split())


def test_a_closeup_tells_where_its_sign_is() -> None:
    for close in islice(each_closeup(random.Random(3), "eval"), 12):
        at = tuple(int(share * side) for share, side in zip(close.centre, close.image.size, strict=True))
        assert close.image.getpixel(at) == COLOURS[close.colour]
        assert close.scene.size == close.bare.size and close.scene != close.bare
    first, second = (list(closeup_questions(7, "train", 4)) for _ in range(2))
    assert first == second and [colour in COLOURS for _, _, colour in first] == [True] * 4


def test_a_tower_learns_signs_and_the_rest_of_the_model_stays(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from deepmmsearch.bundled import BUNDLED
    from deepmmsearch.bundled.pretrain_recipe import StageSettings
    from deepmmsearch.bundled.sign_stage import labels, teach_signs
    from deepmmsearch.policies.local.checkpoint import load_checkpoint

    close = list(islice(each_closeup(random.Random(3), "eval"), 3))
    alike = [each._replace(image=Image.new("RGB", (84, 56))) for each in close]
    told = labels(alike, 28).view(3, 6)
    assert ((told > 0).sum(dim=1) == 1).all()
    assert [int(row.max()) for row in told] == [1 + list(COLOURS).index(each.colour) for each in close]
    teach_signs(BUNDLED, tmp_path / "start", tmp_path / "log", StageSettings(steps=2, batch=4, warmup=1))
    said = [json.loads(line) for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    assert 0 <= said[-1]["right"] <= 1 and said[-1]["scenes moved"] > 0
    old, new = (load_checkpoint(folder, torch.float32).model.state_dict() for folder in (BUNDLED, tmp_path / "start"))
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert moved and all("visual" in name for name in moved)
