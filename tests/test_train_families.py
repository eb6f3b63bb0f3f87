"""LLaVA, whose pictures are squares, and Idefics3 and SmolVLM, which cut them into tiles, are trained too."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import TypeAdapter
from tests import test_grpo, test_sft
from tests.checkpoints import tiny_checkpoint

from deepmmsearch.errors import UserError
from deepmmsearch.policies.local.adapter import load_adapter
from deepmmsearch.policies.local.checkpoint import Checkpoint, load_checkpoint
from deepmmsearch.policies.local.families import Family, refuse_untrainable
from deepmmsearch.train.grpo import FROZEN, make_trainer, trl_settings
from deepmmsearch.train.lora import prepare_model
from deepmmsearch.train.parts import parameter_hash
from deepmmsearch.train.recipes import OwnRollouts, RolloutSettings
from deepmmsearch.train.start import check_start


@pytest.fixture(scope="module", params=["llava", "idefics3", "smolvlm"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_checkpoint(tmp_path_factory.mktemp("base"), request.param, prompt="atlas", max_new_tokens=8)


@pytest.fixture
def checkpoint(base: Path) -> Checkpoint:
    return load_checkpoint(base, torch.float32)


def test_trajectories_with_and_without_pictures_share_a_batch(checkpoint: Checkpoint) -> None:
    played = test_sft.trajectories()[:3]
    batch, kept = (test_sft.batch_of(checkpoint, played, cached) for cached in (False, True))
    assert "pixel_values" in batch and "pixel_values" not in kept
    with torch.no_grad():
        together = checkpoint.model(**batch).logits
        assert torch.allclose(together, checkpoint.model(**kept).logits, atol=1e-5)
        for i, one in enumerate(played):
            alone = test_sft.batch_of(checkpoint, [one])
            length = int(alone["attention_mask"].sum())
            logits = checkpoint.model(**alone).logits[0, :length]
            assert torch.allclose(logits, together[i, :length], atol=1e-5)


def test_the_model_looks_at_the_picture_it_is_trained_on(checkpoint: Checkpoint) -> None:
    red, blue = (
        test_sft.batch_of(checkpoint, [test_sft.play("red", image=test_sft.picture(colour))])
        for colour in ("red", "blue")
    )
    with torch.no_grad():
        assert not torch.allclose(checkpoint.model(**red).logits, checkpoint.model(**blue).logits, atol=1e-3)


def test_fine_tuning_lowers_the_loss_and_leaves_tower_and_projector_alone(base: Path, tmp_path: Path) -> None:
    result = test_sft.train(base, tmp_path / "run", lora={"r": 16, "alpha": 64}, trl={"max_steps": 20})
    curve = test_sft.losses(tmp_path / "run")
    assert curve[-1] < 0.8 * curve[0]
    before, after = (load_checkpoint(folder, torch.float32) for folder in (base, result.merged))
    for part, same in (("vision", True), ("projector", True), ("language", False)):
        hashes = [parameter_hash(c.model, [part]) for c in (before, after)]
        assert (hashes[0] == hashes[1]) == same
    assert parameter_hash(before.model, ["projector"]) != parameter_hash(before.model, ["vision"])
    batch = test_sft.batch_of(before, test_sft.trajectories())
    adapted: PeftModel = load_adapter(before.model, tmp_path / "run" / "adapter")
    with torch.no_grad():
        assert torch.allclose(adapted.eval()(**batch).logits, after.model.eval()(**batch).logits, atol=1e-4)


@pytest.mark.parametrize("share", [True, False])
def test_the_loss_of_grpo_equals_a_computation_of_its_own(
    base: Path, checkpoint: Checkpoint, tmp_path: Path, share: bool
) -> None:
    untouched = copy.deepcopy(checkpoint.model).eval()
    trl = {"num_iterations": 2, "beta": 0.05, "epsilon": 0.02, "max_steps": 2, "save_steps": 2}
    settings = test_grpo.recipe(base, tmp_path, alarms={"kl": None}, rollouts={"share_prompts": share}, trl=trl)
    model = prepare_model(checkpoint.model, settings.lora, FROZEN, 0)
    clean = copy.deepcopy(model)
    shown = test_grpo.stage(checkpoint, test_grpo.Scripted(test_grpo.Scripts(checkpoint)))
    trainer = make_trainer(settings, trl_settings(settings), shown, model, checkpoint, [], test_grpo.Spy)
    assert isinstance(trainer, test_grpo.Spy)
    trainer.seen = []
    trainer.train()
    assert len(trainer.seen) == 2
    sampler = test_grpo.with_weights(clean, trainer.seen[0][2])
    for batch, loss, weights in trainer.seen:
        assert sum(len(row.views) for row in batch["rows"]) > len(batch["rows"]), "thumbnails are in the rows"
        now = test_grpo.with_weights(clean, weights)
        expected = test_grpo.own_loss(now, sampler, untouched, checkpoint, batch["rows"], 0.05, 0.02)
        assert loss == pytest.approx(expected, abs=1e-6)


def test_grpo_plays_and_trains(base: Path, tmp_path: Path) -> None:
    result = test_grpo.play(base, tmp_path / "run")
    before, after = (load_checkpoint(folder, torch.float32) for folder in (base, result.merged))
    assert parameter_hash(before.model, ["language"]) != parameter_hash(after.model, ["language"])
    parts = [parameter_hash(c.model, ["vision", "projector"]) for c in (before, after)]
    assert parts[0] == parts[1]


@pytest.mark.parametrize(("backend", "said"), [("slots", "slots are known to work"), ("vllm-server", "vLLM lays out")])
def test_a_sampler_that_does_not_fit_is_said_before_anything_starts(base: Path, backend: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_start(str(base), rollouts=TypeAdapter(RolloutSettings).validate_python(backend))
    check_start(str(base), rollouts=OwnRollouts())


def test_a_model_of_another_family_is_not_trained(checkpoint: Checkpoint) -> None:
    unknown = Family(checkpoint.config, checkpoint.tokenizer, checkpoint.image_processor)
    with pytest.raises(UserError, match="can answer here but not be trained"):
        refuse_untrainable(unknown, "somewhere")
    refuse_untrainable(checkpoint.family, "somewhere")
