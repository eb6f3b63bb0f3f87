"""`deepmmsearch merge`, `grpo` and `sft` as a user runs them, on a tiny checkpoint."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from tests import test_sft
from tests.checkpoints import tiny_checkpoint

from commands import done, run
from deepmmsearch.engine import Index
from deepmmsearch.errors import UserError
from deepmmsearch.policies.local.adapter import load_adapter
from deepmmsearch.policies.local.checkpoint import Checkpoint, load_checkpoint
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.train.grpo import FROZEN
from deepmmsearch.train.lora import Lora, prepare_model
from deepmmsearch.train.plots import read_metrics


def said(*arguments: str | Path) -> str:
    """What the user is told when something is wrong: one sentence or two, in one line."""
    error = run(*arguments).exception
    assert isinstance(error, UserError), repr(error)
    assert "\n" not in str(error) and len(str(error)) < 600
    return str(error)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_checkpoint(tmp_path_factory.mktemp("base"), prompt="atlas", max_new_tokens=8)


# merge


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    model = prepare_model(load_checkpoint(str(base), torch.float32).model, Lora(r=4), FROZEN, 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    model.save_pretrained(folder)
    return folder


def logits(checkpoint: Checkpoint, model: Any) -> torch.Tensor:
    batch = test_sft.batch_of(checkpoint, test_sft.trajectories())
    with torch.no_grad():
        found: torch.Tensor = model.eval()(**batch).logits
    return found


def test_merged_logits_are_those_of_base_and_adapter(base: Path, adapter: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "out") in done("merge", base, adapter, tmp_path / "out", "--dtype", "float32")
    checkpoint, merged = (load_checkpoint(str(f), torch.float32) for f in (base, tmp_path / "out"))
    plain = logits(checkpoint, checkpoint.model)
    expected = logits(checkpoint, load_adapter(checkpoint.model, adapter))
    assert torch.allclose(logits(merged, merged.model), expected, atol=1e-4)
    assert (expected - plain).abs().max() > 0.1, "the adapter changes nothing, so this shows nothing"
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in base.iterdir()}


def test_a_merge_that_cannot_be_says_why_and_leaves_nothing(base: Path, adapter: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "Unknown model folder" in said("merge", tmp_path / "nowhere", adapter, out)
    assert "there is no adapter_config.json" in said("merge", base, base, out)
    other = tmp_path / "other"
    other.mkdir()
    for path in adapter.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    assert "does not fit the model" in said("merge", base, other, out)
    (other / "adapter_config.json").write_text(json.dumps(config | {"target_modules": "nothing_like_it"}))
    assert "does not fit the model" in said("merge", base, other, out)
    (other / "adapter_config.json").write_text(json.dumps(config))
    (other / "adapter_model.safetensors").write_bytes(b"cut off")
    assert "missing or damaged" in said("merge", base, other, out)
    (other / "adapter_model.safetensors").unlink()
    assert "there is no adapter_model.safetensors" in said("merge", base, other, out)
    assert not out.exists() and not list(tmp_path.glob("*.part"))
    out.mkdir()
    (out / "letter.txt").write_text("mine")
    assert "is not empty" in said("merge", base, adapter, out)
    assert (out / "letter.txt").read_text() == "mine"


# grpo


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions with a picture in FOLDER/questions.jsonl, an index to search in FOLDER/index."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "site").mkdir()
    (folder / "site" / "veld.md").write_text("# Veld\n\nThe capital of Veld is Moru. Its flag is red.\n")
    Image.effect_noise((120, 90), 60).convert("RGB").save(folder / "flag.png")
    rows = [{"id": f"q{i}", "question": f"Which flag is {i}?", "answer": "Veld", "image": "flag.png"} for i in range(2)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Index.build(folder / "site", folder / "index")
    return folder


def grpo_recipe(base: Path, shelf: Path, place: Path, **changes: Any) -> Path:
    row = {
        "model": str(base),
        "output": str(place / "run"),
        "data": [str(shelf / "questions.jsonl")],
        "tools": {"kind": "local", "index": str(shelf / "index")},
        "limits": {"calls": 2, "tokens": 64},
        "rollouts": {"max_new_tokens": 8, "truncated": "keep"},
        "sample_every": 1,
        "save_dtype": "float32",
        "trl": {
            "max_steps": 1,
            "num_generations": 2,
            "per_device_train_batch_size": 4,
            "save_steps": 1,
            "use_cpu": True,
        },
    }
    path = place / "grpo.yaml"
    path.write_text(yaml.safe_dump(row | changes))
    return path


def test_grpo_on_own_questions_with_an_index_of_ones_own(base: Path, shelf: Path, tmp_path: Path) -> None:
    output = done("grpo", grpo_recipe(base, shelf, tmp_path))
    assert f"The checkpoint is in {tmp_path / 'run' / 'merged'}" in output
    samples = list(TrajectoryStore(tmp_path / "run" / "samples" / "step-00000"))
    assert len(samples) == 2 and all(t.question.answers == ("Veld",) and t.question.image for t in samples)
    # a random model is never right, so all groups are without spread, and dropped
    (row,) = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    assert row["groups/flat"] == 1 and row["loss"] == 0
    assert load_checkpoint(str(tmp_path / "run" / "merged"), torch.float32)


def test_what_is_wrong_with_a_grpo_recipe_is_said_before_the_model_is_loaded(
    base: Path, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepmmsearch.train.grpo.load_checkpoint", None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        down = grpo_recipe(base, shelf, tmp_path, tools={"text": [{"name": "retrieve", "url": url}]})
        assert "The text search does not work" in said("grpo", down)
    unknown = grpo_recipe(base, shelf, tmp_path, tools={"text": ["retriev"]})
    assert "Did you mean 'retrieve'" in said("grpo", unknown)
    unlabelled = tmp_path / "unlabelled.jsonl"
    unlabelled.write_text('{"id": "a", "question": "Which?"}\n{"id": "b", "question": "Who?", "image": "gone.png"}\n')
    path = grpo_recipe(base, shelf, tmp_path, data=[str(unlabelled)])
    assert "There are no questions with answers" in said("grpo", path)
    assert "2 of 2 rows left out: no answer (the first: a)" in run("grpo", path).output
    assert "tools: expected settings" in said("grpo", grpo_recipe(base, shelf, tmp_path, tools=None))
    assert "at least 1 item" in said("grpo", grpo_recipe(base, shelf, tmp_path, data=[]))
    both = grpo_recipe(base, shelf, tmp_path, atlas={"folder": "worlds"})
    assert "either atlas or data" in said("grpo", both)
    nowhere = grpo_recipe(tmp_path / "nowhere", shelf, tmp_path)
    assert "Unknown model folder" in said("grpo", nowhere)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "nearest"),
    [("rollouts.temperatur=1", "rollouts.temperature"), ("reward.knd=x", "kind"), ("limitz=1", "limits")],
)
def test_an_unknown_setting_is_answered_with_the_nearest(
    base: Path, shelf: Path, tmp_path: Path, override: str, nearest: str
) -> None:
    result = run("grpo", grpo_recipe(base, shelf, tmp_path), override)
    assert isinstance(result.exception, UserError), repr(result.exception)
    assert f"Did you mean {nearest!r}" in str(result.exception)


# sft


def test_sft_is_measured_on_an_unseen_world_while_it_trains(base: Path, tmp_path: Path, worlds: Path) -> None:
    store = TrajectoryStore(tmp_path / "played")
    for number, played in enumerate(test_sft.trajectories()):
        store.append(played, str(number))
    settings = test_sft.recipe(base, tmp_path / "run", evaluate_every=2, data=[tmp_path / "played"])
    row = settings.model_dump(mode="json")
    limits = {"calls": 2, "tokens": 64}
    row["evaluate_on"] = {"folder": str(worlds), "seed": 5, "questions": 6, "limits": limits, "max_new_tokens": 8}
    path = tmp_path / "sft.yaml"
    path.write_text(yaml.safe_dump(row))
    done("sft", path, "trl.max_steps=4", "trl.logging_steps=1")
    rows = [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "eval/accuracy" in r]
    assert [r["step"] for r in rows] == [2, 4]
    assert all({"eval/searches", "eval/accuracy_search_required", "eval/accuracy_search_free"} <= set(r) for r in rows)
    # measuring changes nothing: the same weights without it
    done("sft", path, "trl.max_steps=4", "evaluate_every=0", f"output={tmp_path / 'plain'}", "trl.logging_steps=1")
    one, other = (load_checkpoint(str(tmp_path / name / "merged"), torch.float32).model for name in ("run", "plain"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert "Did you mean 'evaluate_on.questions'" in said("sft", path, "evaluate_on.question=3")
