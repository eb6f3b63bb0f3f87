"""What is in `recipes` beyond that it loads: TRL takes the settings, the rounds come out as the papers have them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("trl")

from accelerate.commands.config.config_args import load_config_from_file

from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.compose.training_recipes import AnyExperiment, FineTuning
from deepmmsearch.train import grpo, sft

RECIPES = Path(__file__).parent.parent / "recipes"
ON_CPU = ("trl.use_cpu=true", "trl.bf16=false")


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("sft*.yaml")), ids=lambda p: p.stem)
def test_trl_takes_the_settings_of_fine_tuning(path: Path) -> None:
    settings = sft.trl_settings(load_recipe(path, FineTuning, ON_CPU))
    assert settings.learning_rate > 0 and settings.packing is False


# rollouts a round over all processes, groups of, questions a round
ROUNDS = {
    "grpo": (1, 64, 8),
    # DeepMMSearch-R1: batch 512, 8 rollouts a question, 32 GPUs
    "grpo_qwen2.5-vl-7b": (32, 512, 8),
    # MMSearch-R1: batch 512, 8 rollouts, here on 8 GPUs
    "grpo_mmsearch_r1": (8, 512, 8),
    "grpo_qwen2.5-vl-3b_1gpu": (1, 64, 8),
}


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("grpo*.yaml")), ids=lambda p: p.stem)
def test_rounds_of_rollouts_are_those_that_the_recipe_means(path: Path) -> None:
    settings = grpo.trl_settings(load_recipe(path, AnyExperiment, ON_CPU))
    processes, rollouts, group = ROUNDS[path.stem]
    own = settings.per_device_train_batch_size * settings.steps_per_generation
    assert own * processes == rollouts and settings.num_generations == group
    assert own % group == 0, "a process plays whole groups"
    every = settings.steps_per_generation * settings.num_iterations
    assert settings.save_steps * settings.gradient_accumulation_steps % every == 0, "checkpoints fall between rounds"


def test_mmsearch_r1_updates_four_times_a_round() -> None:
    """Batch 512, mini-batch 128."""
    settings = grpo.trl_settings(load_recipe(RECIPES / "paper" / "grpo_mmsearch_r1.yaml", AnyExperiment, ON_CPU))
    assert settings.steps_per_generation == 4 * settings.gradient_accumulation_steps
    assert settings.per_device_train_batch_size * settings.gradient_accumulation_steps * 8 == 128


@pytest.mark.parametrize(("name", "processes"), [("fsdp2_8", 8), ("fsdp2_4x8", 32)])
def test_accelerate_takes_its_configurations(name: str, processes: int) -> None:
    loaded = load_config_from_file(str(RECIPES / "accelerate" / f"{name}.yaml"))
    assert loaded.num_processes == processes and loaded.mixed_precision == "bf16"
    assert loaded.fsdp_config["fsdp_version"] == 2 and not loaded.fsdp_config["fsdp_cpu_ram_efficient_loading"]
    used = [path for path in RECIPES.rglob("*.yaml") if f"accelerate/{name}.yaml" in path.read_text(encoding="utf-8")]
    assert used, "no recipe says how it is used"
