"""What a run tells: its trackers get the metrics, and a console no warning of a library."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from tests import test_grpo, test_sft
from tests.checkpoints import tiny_checkpoint

from commands import run
from deepmmsearch.errors import MissingExtra, UnknownName
from deepmmsearch.policies.local.checkpoint import load_checkpoint
from deepmmsearch.store import FILE
from deepmmsearch.train import trl_settings
from deepmmsearch.train.output import last_checkpoint
from deepmmsearch.train.plots import read_metrics
from deepmmsearch.train.sft import fine_tune


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_checkpoint(tmp_path_factory.mktemp("base"), prompt="atlas", max_new_tokens=8)


@contextmanager
def no_warning_of_a_library() -> Iterator[None]:
    gc.collect()  # what other tests left open is not of this run
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
    libraries = ("transformers", "trl", "peft", "accelerate")
    assert [str(w.message) for w in seen if any(f"/{name}/" in w.filename for name in libraries)] == []


def shown(run: Path, name: str) -> dict[int, float]:
    """Values by step, as tensorboard reads them."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (folder,) = (run / "checkpoints" / "runs").iterdir()
    told = events.EventAccumulator(str(folder))
    told.Reload()
    return {event.step: event.value for event in told.Scalars(name)}


def written(run: Path, name: str) -> dict[int, float]:
    return {row["step"]: row[name] for row in read_metrics(run / "metrics.jsonl") if name in row}


def test_what_sft_measures_reaches_tensorboard_without_a_warning(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    trl = {"report_to": ["tensorboard"], "max_steps": 4, "logging_steps": 1, "activation_checkpointing": True}
    settings = test_sft.recipe(base, tmp_path, evaluate_every=2, trl=trl)
    with no_warning_of_a_library():
        checkpoint = load_checkpoint(base, torch.float32)
        fine_tune(settings, test_sft.trajectories(), checkpoint, lambda model, step: {"answers": step / 8}, print)
    assert shown(tmp_path, "eval/answers") == written(tmp_path, "eval/answers") == {2: 0.25, 4: 0.5}
    losses = written(tmp_path, "loss")
    assert list(losses) == [1, 2, 3, 4] and shown(tmp_path, "train/loss") == pytest.approx(losses)


def test_what_grpo_measures_reaches_tensorboard_without_a_warning(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    trl = {"report_to": "tensorboard", "beta": 0.01}
    with no_warning_of_a_library():
        test_grpo.play(base, tmp_path, trl=trl)
    for name in ("reward/mean", "kl", "search/each"):
        assert shown(tmp_path, f"train/{name}") == pytest.approx(written(tmp_path, name))


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_a_tracker_that_is_not_installed_is_said_before_anything_starts(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trl_settings, "get_available_reporting_integrations", lambda: ["tensorboard"])
    out = tmp_path / "run"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / FILE).write_text("{}\n")
    source = {"data": [str(tmp_path / "data")]} if kind == "sft" else {"atlas": {"folder": str(out)}}
    recipe = tmp_path / "recipe.yaml"
    model = tiny_checkpoint(tmp_path / "model")
    recipe.write_text(yaml.safe_dump({"model": str(model), "output": str(out)} | source))
    for asked in ("wandb", "[tensorboard, trackio]"):
        error = run(kind, recipe, f"trl.report_to={asked}").exception
        assert isinstance(error, MissingExtra), repr(error)
        name = asked.strip("[]").split()[-1]
        assert f"pip install 'deepmmsearch[{name}]'" in str(error)
    error = run(kind, recipe, "trl.report_to=tensorbord").exception
    assert isinstance(error, UnknownName) and "Did you mean 'tensorboard'" in str(error)
    assert not out.exists()


def test_the_name_that_transformers_gave_up_is_understood(tmp_path: Path) -> None:
    from trl import SFTConfig

    def made(**given: object) -> SFTConfig:
        return trl_settings.trl_config(SFTConfig, given, defaults={}, fixed={}, output=tmp_path, seed=0)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert made().activation_checkpointing is True
        assert made(gradient_checkpointing=False).activation_checkpointing is False
        assert made(activation_checkpointing=False).gradient_checkpointing is False


def test_a_folder_of_the_user_among_the_checkpoints_is_no_obstacle(tmp_path: Path) -> None:
    for name in ("checkpoint-best", "checkpoint-3", "checkpoint-20", "checkpoint-", "checkpoint-100"):
        (tmp_path / name).mkdir()
        if name != "checkpoint-100":
            (tmp_path / name / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-20"


def test_asking_warns_of_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), "red").save(tmp_path / "p.png")
    with no_warning_of_a_library():
        result = run("ask", tmp_path / "p.png", "Which colour?", "--tools", "none", "--json")
    assert json.loads(result.stdout)["turns"]
