"""GRPO: rows and masks, the loss against a computation of its own, resuming, several processes, what we need of TRL."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import inspect
import json
import math
import os
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from PIL import Image
from pydantic import ValidationError
from tests.checkpoints import tiny_checkpoint
from tests.fake_vllm import Engine, FakeLLM
from tests.fake_vllm import server as fake_server
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from deepmmsearch.agent import Toolbox
from deepmmsearch.errors import Failed, ToolError, UserError
from deepmmsearch.policies.local.checkpoint import Checkpoint, load_checkpoint
from deepmmsearch.policies.local.vision import Eyes
from deepmmsearch.policies.vllm import Sampling, VllmServerPolicy
from deepmmsearch.rewards import Score
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.train.advantages import counted, group_advantages, is_flat
from deepmmsearch.train.generation import (
    ColocatedGeneration,
    FolderGeneration,
    LocalGeneration,
    NcclGeneration,
    SamplerSettings,
    Twin,
    sampler_weights,
)
from deepmmsearch.train.grpo import FROZEN, make_trainer, train, trl_settings
from deepmmsearch.train.lora import prepare_model
from deepmmsearch.train.order import untaken
from deepmmsearch.train.parts import PARTS, check_frozen, parameter_hash, part_hashes
from deepmmsearch.train.plots import read_metrics
from deepmmsearch.train.recipes import GrpoRecipe
from deepmmsearch.train.rollout_trainer import RolloutSetup, RolloutTrainer, deal
from deepmmsearch.train.rollouts import Player, Rollout, numbered
from deepmmsearch.train.rows import RolloutRow, make_batch, make_row
from deepmmsearch.train.watch import Alarm, Alarms, check_alarms, figures
from deepmmsearch.types import Completion, Hit, Limits, Prompt, Question, Trajectory

PROMPT = Prompt("test", "deepmmsearch-r1", "Look.", "{question}", {"image": "Go on.", "malformed": "Again."})
SEARCH = "<reason>I search.</reason><img_search><img></img_search>"
TEXT = "<reason>I read.</reason><text_search>flag</text_search>"
ANSWER = "<reason>I see.</reason><answer>red</answer>"
WRONG = "<reason>I guess.</reason><answer>blue sea</answer>"
SCRIPTS = ((SEARCH, ANSWER), (ANSWER,), (WRONG,), (TEXT, SEARCH, WRONG))


def picture(colour: str, size: tuple[int, int] = (60, 60)) -> Image.Image:
    return Image.new("RGB", size, colour)


class Shelf:
    """Text and image search with thumbnails of two sizes; fails for pictures that are black."""

    async def search(self, query: Any, k: int) -> list[Hit]:
        if isinstance(query, Image.Image) and query.getpixel((0, 0)) == (0, 0, 0):
            raise ToolError("The shelf is down.")
        shown = (picture("green", (28, 90)), picture("red", (40, 40)))
        return [Hit(f"flag {i}", f"http://x/{i}", "a flag", image=im, matched=True) for i, im in enumerate(shown)]


TOOLS = Toolbox(Shelf(), Shelf(), thumbnails=True)


@dataclass
class Scripts:
    """A policy that says what the rollout's number in its group tells it to, in tokens, as if it had sampled them."""

    checkpoint: Checkpoint

    async def act(self, trajectory: Trajectory) -> Completion:
        member = int(str(trajectory.question.metadata["rollout"]).split(".")[1])
        said = SCRIPTS[member % len(SCRIPTS)][len(trajectory.turns)]
        renderer = self.checkpoint.renderer()
        ids = (*self.checkpoint.tokenizer.encode(said, add_special_tokens=False), renderer.end_id)
        return Completion(said, ids, tuple(-1.0 for _ in ids))


@dataclass
class Scripted:
    """Generation without a model."""

    policy: Scripts

    @contextmanager
    def round(self, model: Any) -> Iterator[Scripts]:
        yield self.policy


async def reward(trajectory: Trajectory) -> Score:
    """What a random model says is never right, so its tokens count too."""
    right = float(trajectory.answer == "red")
    chance = sum(i for turn in trajectory.turns for i in turn.completion.ids or ()) % 10 / 10
    return Score(right + chance, {"correct": right})


def questions(count: int = 4) -> list[Question]:
    colours = ("red", "yellow", "white", "orange")
    return [Question(f"q{i}", f"Which flag is {i}?", (picture(colours[i % 4]),), ("red",)) for i in range(count)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_checkpoint(tmp_path_factory.mktemp("base"), prompt="atlas", max_new_tokens=8)


def recipe(base: Path, output: Path, **changes: Any) -> GrpoRecipe:
    trl: dict[str, Any] = {
        "max_steps": 2,
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "learning_rate": 0.01,
        "lr_scheduler_type": "constant",
        "save_steps": 1,
        "use_cpu": True,
    }
    settings: dict[str, Any] = {"model": str(base), "output": output, "save_dtype": "float32", "sample_every": 1}
    # a random model does not know when to stop
    rollouts = {"truncated": "keep"} | changes.pop("rollouts", {})
    return GrpoRecipe(**settings | {"trl": trl | changes.pop("trl", {}), "rollouts": rollouts} | changes)


def player(**changes: Any) -> Player:
    return Player(lambda question: TOOLS, PROMPT, reward, Limits(calls=4), **changes)


def play(base: Path, output: Path, asked: Sequence[Question] | None = None, **changes: Any) -> Any:
    settings = recipe(base, output, **changes)
    checkpoint = load_checkpoint(str(base), torch.float32)
    return train(settings, asked or questions(), checkpoint, lambda start: player(), report=lambda line: None)


def stage(checkpoint: Checkpoint, generation: Any, asked: Sequence[Question] | None = None) -> RolloutSetup:
    eyes = Eyes(checkpoint.model, checkpoint.family)
    return RolloutSetup(asked or questions(), player(), generation, checkpoint, checkpoint.renderer(), eyes)


# The loss


class Spy(RolloutTrainer):
    """Keeps each loss with the batch and the weights it was computed from."""

    seen: list[tuple[dict[str, Any], float, dict[str, Tensor]]]

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        weights = {name: p.detach().clone() for name, p in self.model.named_parameters() if "lora" in name}
        loss = super()._compute_loss(model, inputs)
        self.seen.append((inputs, loss.item(), weights))
        return loss


def own_logps(model: Any, checkpoint: Checkpoint, row: RolloutRow) -> Tensor:
    """Log probabilities of a row's tokens after the first: alone, unpadded, pictures through the vision tower."""
    ids = torch.from_numpy(row.ids)[None].long()
    inputs: dict[str, Any] = dict(checkpoint.family.token_types(ids))
    if row.views:
        inputs |= checkpoint.family.inputs(row.views)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).logits.double()
    return logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]


def own_loss(
    now: Any, sampler: Any, reference: Any, checkpoint: Checkpoint, rows: Sequence[RolloutRow], beta: float, clip: float
) -> float:
    """GRPO as DeepMMSearch-R1 prints it: the clipped ratio times the advantage, the k3 estimator of the KL, the mean
    over each rollout's sampled tokens, the mean over rollouts."""
    losses = []
    for row in rows:
        new, old, ref = (own_logps(model, checkpoint, row) for model in (now, sampler, reference))
        mask = torch.from_numpy(row.mask)[1:]
        ratio = (new - old).exp()
        gain = torch.minimum(ratio * row.advantage, ratio.clamp(1 - clip, 1 + clip) * row.advantage)
        kl = (ref - new).exp() - (ref - new) - 1
        losses.append(((-gain + beta * kl)[mask]).mean().item() if mask.any() else 0.0)
    return sum(losses) / len(losses)


def with_weights(model: PeftModel, weights: dict[str, Tensor]) -> Any:
    twin = copy.deepcopy(model)
    twin.load_state_dict(weights, strict=False)
    return twin.merge_and_unload().eval()


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("scale", ["none", "group"])
def test_the_loss_equals_a_computation_of_its_own(base: Path, tmp_path: Path, scale: str, share: bool) -> None:
    """With thumbnails, masked tool tokens, clipping (two passes over each round) and a KL to the start."""
    checkpoint = load_checkpoint(str(base), torch.float32)
    untouched = copy.deepcopy(checkpoint.model).eval()
    trl = {"num_iterations": 2, "beta": 0.05, "epsilon": 0.02, "learning_rate": 0.01, "max_steps": 4}
    settings = recipe(
        base,
        tmp_path,
        alarms={"kl": None},
        rollouts={"share_prompts": share},
        trl=trl | {"save_steps": 2, "scale_rewards": scale},
    )
    model = prepare_model(checkpoint.model, settings.lora, FROZEN, 0)
    clean = copy.deepcopy(model)
    shown = stage(checkpoint, Scripted(Scripts(checkpoint)))
    trainer = make_trainer(settings, trl_settings(settings), shown, model, checkpoint, [], Spy)
    assert isinstance(trainer, Spy)
    trainer.seen = []
    trainer.train()
    assert len(trainer.seen) == 4
    clipped = 0
    for number, (batch, loss, weights) in enumerate(trainer.seen):
        assert sum(len(row.views) for row in batch["rows"]) > len(batch["rows"]), "thumbnails are in the rows"
        sampler = with_weights(clean, trainer.seen[number // 2 * 2][2])
        now = with_weights(clean, weights)
        expected = own_loss(now, sampler, untouched, checkpoint, batch["rows"], 0.05, 0.02)
        assert loss == pytest.approx(expected, abs=1e-6)
        ratios = [(own_logps(now, checkpoint, r) - own_logps(sampler, checkpoint, r)).exp() for r in batch["rows"]]
        clipped += sum(int(((ratio - 1).abs() > 0.02).sum()) for ratio in ratios)
    assert clipped > 0, "clipping was never active, so it was not tested"


def test_dropping_groups_without_spread_leaves_the_loss(base: Path, tmp_path: Path) -> None:
    losses = {}
    for flat in ("keep", "drop"):
        checkpoint = load_checkpoint(str(base), torch.float32)
        settings = recipe(base, tmp_path / flat, rollouts={"flat": flat}, trl={"beta": 0.0, "max_steps": 1})
        model = prepare_model(checkpoint.model, settings.lora, FROZEN, 0)
        shown = stage(checkpoint, Scripted(Scripts(checkpoint)), questions(2))

        async def uneven(trajectory: Trajectory) -> Score:
            return await reward(trajectory) if trajectory.question.id == "q0" else Score(0.5, {})

        shown = RolloutSetup(shown.questions, Player(lambda q: TOOLS, PROMPT, uneven), *list(vars(shown).values())[2:])
        trainer = make_trainer(settings, trl_settings(settings), shown, model, checkpoint, [], Spy)
        trainer.seen = []
        trainer.train()
        losses[flat] = trainer.seen[0][1]
        assert len(trainer.seen[0][0]["rows"]) == {"keep": 8, "drop": 4}[flat]
    assert losses["drop"] == pytest.approx(losses["keep"], abs=1e-7)
    assert losses["keep"] != 0


def test_a_shared_prompt_gives_the_same_gradients(base: Path, tmp_path: Path) -> None:
    gradients = []
    for share in (True, False):
        checkpoint = load_checkpoint(str(base), torch.float32)
        settings = recipe(base, tmp_path / str(share), rollouts={"share_prompts": share}, trl={"learning_rate": 1e-9})
        model = prepare_model(checkpoint.model, settings.lora, FROZEN, 0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
        shown = stage(checkpoint, Scripted(Scripts(checkpoint)))
        trainer = make_trainer(settings, trl_settings(settings), shown, model, checkpoint, [])
        batch = trainer._prepare_inputs([{"row": n} for n in (0, 0, 0, 0, 1, 1, 1, 1)])
        trainer.current_gradient_accumulation_steps = 1
        trainer._compute_loss(model, batch).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    one, other = gradients
    assert one.keys() == other.keys() and len(one) > 10
    scale = max(g.abs().max() for g in other.values())
    assert all(torch.allclose(one[n], other[n], atol=1e-5 * float(scale)) for n in one)


# Rows


async def rollouts_of(base: Path, asked: Sequence[Question] | None = None) -> tuple[Checkpoint, list[Rollout]]:
    from deepmmsearch.train.rollouts import numbered

    checkpoint = load_checkpoint(str(base), torch.float32)
    numbered_ = [numbered(q, 0, member) for q in asked or questions(2) for member in range(4)]
    return checkpoint, await player().play(numbered_, Scripts(checkpoint))


async def test_only_sampled_tokens_are_trained_on(base: Path) -> None:
    checkpoint, played = await rollouts_of(base)
    eyes = Eyes(checkpoint.model, checkpoint.family)
    for rollout in played:
        row = make_row(rollout, checkpoint.renderer(), eyes, 1.0)
        sampled = [i for turn in rollout.trajectory.turns for i in turn.completion.ids or ()]
        assert row.ids[row.mask].tolist() == sampled
        assert row.start == row.mask.argmax()
        assert set(row.logprobs[row.mask].tolist()) == {-1.0} and not row.logprobs[~row.mask].any()
        counts = [eyes.features(view).count for view in row.views]
        assert int((row.ids == checkpoint.family.image_id).sum()) == sum(counts)


async def test_a_batch_is_padded_on_both_sides(base: Path) -> None:
    checkpoint, played = await rollouts_of(base)
    eyes = Eyes(checkpoint.model, checkpoint.family)
    rows = [make_row(r, checkpoint.renderer(), eyes, 0.5 if i % 2 else None) for i, r in enumerate(played)]
    batch = make_batch(rows, 0, torch.device("cpu"))
    for i, row in enumerate(rows):
        ids = torch.cat([batch["prompt_ids"][i], batch["completion_ids"][i]])
        seen = torch.cat([batch["prompt_mask"][i], batch["completion_mask"][i]]).bool()
        assert ids[seen].tolist() == row.ids.tolist()
        assert batch["tool_mask"][i].sum() == row.mask.sum()
        assert bool(batch["tool_mask"][i].any()) == bool(i % 2), "a rollout that is left out has nothing to learn from"


# Advantages


@given(st.lists(st.lists(st.one_of(st.none(), st.floats(-2, 2)), min_size=1, max_size=8), min_size=1, max_size=6))
def test_advantages_sum_to_zero_in_each_group(rewards: list[list[float | None]]) -> None:
    for group, own in zip(rewards, group_advantages(rewards), strict=True):
        assert math.isclose(sum(own), 0, abs_tol=1e-9)
        assert all(a == 0 for a, r in zip(own, group, strict=True) if r is None)


def test_advantages_by_hand() -> None:
    assert group_advantages([[1.0, 0.0, None]]) == [[0.5, -0.5, 0.0]]
    (scaled,) = group_advantages([[1.0, 0.0]], "group")
    assert scaled == pytest.approx([0.5 / (math.sqrt(0.5) + 1e-4), -0.5 / (math.sqrt(0.5) + 1e-4)])
    (first, second) = group_advantages([[1.0, 0.0], [0.5, 0.5]], "batch")
    assert second == [0.0, 0.0] and first[0] == -first[1] > 0
    assert is_flat([0.3, 0.3, None]) and is_flat([1.0, None]) and not is_flat([0.3, 0.4])


@given(st.lists(st.integers(0, 4), max_size=9), st.integers(1, 5), st.integers(1, 40))
def test_dealing_keeps_every_row_once(sizes: list[int], batches: int, size: int) -> None:
    import numpy as np

    empty = np.zeros(0, dtype=np.int32)
    blank = (empty, empty.astype(np.bool_), empty.astype(np.float32))
    groups = [[RolloutRow(*blank, start=g, views=(), advantage=i) for i in range(n)] for g, n in enumerate(sizes)]
    rows = [row for group in groups for row in group]
    dealt = deal(groups, batches, size)
    assert len(dealt) == batches
    if len(rows) <= batches * size:
        assert [row for batch in dealt for row in batch] == rows[: sum(map(len, dealt))]
    assert all(len(batch) <= size for batch in dealt)


async def test_failed_and_truncated_rollouts_are_told_apart(base: Path) -> None:
    black = Question("black", "Which?", (picture("black"),), ("red",))
    _, played = await rollouts_of(base, [black])
    searched, plain = played[0], played[1]
    assert searched.failed and not plain.failed
    assert counted(searched, True, False) is None
    assert counted(searched, False, False) == searched.score.value  # type: ignore[union-attr]
    cut = Rollout(plain.trajectory.__class__(**{**vars(plain.trajectory), "stop": "length"}), plain.score)
    assert cut.truncated and counted(cut, True, True) is None and counted(cut, True, False) is not None


async def test_a_judge_that_is_down_keeps_the_episode_and_leaves_it_out(base: Path) -> None:
    async def moody(trajectory: Trajectory) -> Score:
        if str(trajectory.question.metadata["rollout"]).endswith(".1"):
            raise ConnectionError("The judge is down.")
        return await reward(trajectory)

    checkpoint = load_checkpoint(str(base), torch.float32)
    judged = Player(lambda question: TOOLS, PROMPT, moody, Limits(calls=4))
    played = await judged.play([numbered(questions(1)[0], 0, n) for n in range(4)], Scripts(checkpoint))
    lost = played[1]
    assert lost.score is None and lost.unjudged == "ConnectionError: The judge is down."
    assert lost.trajectory.error is None and lost.trajectory.answer is not None
    for mask in (True, False):
        rewards = [counted(rollout, mask, mask) for rollout in played]
        assert [reward is None for reward in rewards] == [False, True, False, False]
        (advantages,) = group_advantages([rewards], "group")
        assert advantages[1] == 0.0 and all(map(math.isfinite, advantages))
    assert is_flat([None]) and group_advantages([[None], [1.0]], "group") == [[0.0], [0.0]]
    assert figures(played)["episodes/unjudged"] == figures(played)["episodes/failed"] == 0.25


async def test_turns_before_a_failure_of_the_sampler_are_kept(base: Path) -> None:
    class Dying:
        async def act(self, trajectory: Trajectory) -> Completion:
            if trajectory.turns:
                raise Failed("No server answers.")
            return Completion("<reason>r</reason><text_search>x</text_search>", (1,), (-1.0,))

    (rollout,) = await player().play([numbered(questions(1)[0], 0, 0)], Dying())
    assert rollout.failed and rollout.score is None and rollout.unjudged is None
    assert len(rollout.trajectory.turns) == 1 and rollout.trajectory.error == "No server answers."


async def test_figures_of_rollouts(base: Path) -> None:
    _, played = await rollouts_of(base)
    found = figures(played)
    assert found["search/ratio"] == 0.5 and found["search/image_whole"] == 0.5 and found["search/text"] == 0.25
    assert found["turns/each"] == (2 + 1 + 1 + 3) / 4 and found["turns/malformed"] == 0
    assert found["tool/success"] == 1 and found["reward/correct"] == 0.5
    assert figures([])["search/ratio"] == 0


# Runs


def test_a_run_learns_what_is_rewarded_and_leaves_the_vision_tower_alone(base: Path, tmp_path: Path) -> None:
    before = parameter_hash(load_checkpoint(str(base), torch.float32).model, FROZEN)
    result = play(base, tmp_path)
    merged = load_checkpoint(str(result.merged), torch.float32).model
    assert parameter_hash(merged, FROZEN) == before
    rows = read_metrics(tmp_path / "metrics.jsonl")
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == [1, 2]
    names = "reward/mean search/each kl entropy sampler/difference groups/flat tokens/second share/update"
    wanted = [*names.split(), "share/generation", "share/tools"]
    assert all(name in steps[-1] for name in wanted), steps[-1]
    # the sampler rules placeholders out, to which a random model gives a few percent
    assert steps[0]["sampler/difference_max"] < 0.1, "sampler and trainer see the same tokens and pictures"
    samples = TrajectoryStore(tmp_path / "samples" / "step-00000")
    assert len(samples) == 4 and all("reward" in t.question.metadata for t in samples)
    assert (tmp_path / "adapter" / "adapter_config.json").is_file() and (tmp_path / "curves.png").stat().st_size > 5000


def test_a_run_repeats_exactly(base: Path, tmp_path: Path) -> None:
    one, two = play(base, tmp_path / "1"), play(base, tmp_path / "2")
    assert weights_of(one.merged) == weights_of(two.merged)
    other = play(base, tmp_path / "3", seed=5)
    assert weights_of(one.merged) != weights_of(other.merged)


def weights_of(folder: Path) -> str:
    return parameter_hash(load_checkpoint(str(folder), torch.float32).model, ("language",))


class Stopped(RuntimeError):
    pass


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_finished_run_is_finished_and_another_is_refused(base: Path, tmp_path: Path) -> None:
    first = play(base, tmp_path / "run", trl={"max_steps": 1})
    before = contents(tmp_path / "run")
    again = play(base, tmp_path / "run", trl={"max_steps": 1}, sample_every=3, alarms={"kl": 9.0})
    assert again == first and contents(tmp_path / "run") == before
    other = replace(questions()[0], answers=("Veld",))
    for named, asked, changes in (
        ("trl.max_steps: 1 -> 2", None, {"trl": {"max_steps": 2}}),
        ("limits.calls: 10 -> 3", None, {"trl": {"max_steps": 1}, "limits": {"calls": 3}}),
        ("rollouts.temperature: 1.0 -> 0.5", None, {"trl": {"max_steps": 1}, "rollouts": {"temperature": 0.5}}),
        ("questions: 4 questions with another content", [other, *questions()[1:]], {"trl": {"max_steps": 1}}),
    ):
        with pytest.raises(UserError, match=named):
            play(base, tmp_path / "run", asked, **changes)
    assert contents(tmp_path / "run") == before


def test_a_run_that_ended_before_its_result_was_written_makes_no_step_more(base: Path, tmp_path: Path) -> None:
    play(base, tmp_path / "run", trl={"max_steps": 1})
    result = (tmp_path / "run" / "merged" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run" / "merged")
    play(base, tmp_path / "run", trl={"max_steps": 1})
    assert (tmp_path / "run" / "merged" / "model.safetensors").read_bytes() == result
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in row] == [1]


def test_an_interrupted_run_goes_on_to_the_same_weights(base: Path, tmp_path: Path) -> None:
    whole = play(base, tmp_path / "whole", evaluate_every=2, trl={"max_steps": 3})

    def stop(policy: Any, step: int) -> dict[str, float]:
        raise Stopped

    settings = recipe(base, tmp_path / "cut", evaluate_every=2, trl={"max_steps": 3})
    checkpoint = load_checkpoint(str(base), torch.float32)
    with pytest.raises(Stopped):
        train(settings, questions(), checkpoint, lambda start: player(), stop, lambda line: None)
    again = play(base, tmp_path / "cut", evaluate_every=2, trl={"max_steps": 3})
    assert weights_of(again.merged) == weights_of(whole.merged)
    rows = [row["step"] for row in read_metrics(tmp_path / "cut" / "metrics.jsonl") if "loss" in row]
    assert rows == [1, 2, 3]


def test_training_goes_on_from_an_adapter_with_a_kl_to_it(base: Path, tmp_path: Path) -> None:
    first = play(base, tmp_path / "sft")
    second = play(base, tmp_path / "rl", adapter=first.adapter, trl={"beta": 0.1})
    steps = [row for row in read_metrics(tmp_path / "rl" / "metrics.jsonl") if "loss" in row]
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-6), "the reference is the adapter, not the model below it"
    assert weights_of(second.merged) != weights_of(first.merged)


def test_a_twin_has_the_merged_weights_and_shares_the_rest(base: Path) -> None:
    checkpoint = load_checkpoint(str(base), torch.float32)
    twin = Twin(checkpoint.model)
    model = prepare_model(checkpoint.model, recipe(base, base).lora, FROZEN, 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    twin.sync(model)
    merged = copy.deepcopy(model).merge_and_unload()
    for (name, one), (_, other) in zip(twin.model.named_parameters(), merged.named_parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6), name
    assert twin.model.get_input_embeddings().weight is checkpoint.model.get_input_embeddings().weight
    generation = LocalGeneration(checkpoint, SamplerSettings(temperature=1.0, max_new_tokens=4))
    assert generation.policy.temperature == 1.0 and generation.greedy.temperature == 0.0


class Arrived:
    """TRL's connection to a vLLM server, and vLLM in this process, as far as weights go: what comes is kept."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}
        self.done: list[str] = []
        said = self.done.append
        self.llm = FakeLLM(Engine(), take=self.take, said=said)
        self.vllm_client = SimpleNamespace(
            update_named_params=self.update, reset_prefix_cache=lambda: said("forget prompts")
        )
        self.accelerator = SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: said("wait"))

    def update(self, told: list[tuple[str, str, list[int]]], weights: Iterator[tuple[str, Tensor]]) -> None:
        self.take(weights)
        assert told == [(n, str(w.dtype).removeprefix("torch."), list(w.shape)) for n, w in self.weights.items()]

    def take(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        self.weights = {name: weight.clone() for name, weight in weights}
        self.done.append("weights")

    def generation(self, mode: str, sleeps: bool = False) -> Any:
        own: Any = SimpleNamespace(llm=self.llm)
        return NcclGeneration(self, own) if mode == "server" else ColocatedGeneration(own, sleeps)


@pytest.mark.parametrize("mode", ["server", "colocate"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_reach_vllm_and_the_model_stays_as_it_is(base: Path, mode: str, dtype: torch.dtype) -> None:
    plain = {name: p.clone() for name, p in load_checkpoint(str(base), dtype).model.named_parameters()}
    model = prepare_model(load_checkpoint(str(base), dtype).model, recipe(base, base).lora, FROZEN, 0)
    before, vllm = part_hashes(model, PARTS), Arrived()
    generation = vllm.generation(mode)
    for _ in range(20):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.add_(torch.randn_like(parameter), alpha=0.02)
        with generation.round(model):
            pass
    check_frozen(model, before)
    assert list(vllm.weights) == list(plain), "named and ordered as in the model without an adapter"
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            made = (plain[f"{name}.weight"].float() + module.get_delta_weight("default").float()).to(dtype)
            assert torch.equal(vllm.weights.pop(f"{name}.weight"), made) and not torch.equal(
                made, plain[f"{name}.weight"]
            )
    assert all(torch.equal(weight, plain[name]) for name, weight in vllm.weights.items())


def test_a_server_takes_the_weights_from_a_folder(base: Path, tmp_path: Path) -> None:
    """Nothing of vLLM is needed in the process that trains."""
    served, model = (load_checkpoint(str(base), torch.float32) for _ in range(2))
    adapted = prepare_model(model.model, recipe(base, base).lora, FROZEN, 0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    alone: Any = SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: None)
    with fake_server(Engine(served.tokenizer, served.model)) as vllm, asyncio.Runner() as runner:
        policy = VllmServerPolicy(served.renderer(), vllm.url, Sampling(64))
        with FolderGeneration(policy, tmp_path, alone, 0, runner.run).round(adapted) as sampler:
            assert sampler is policy and not list(tmp_path.iterdir())
    there = dict(served.model.named_parameters())
    assert all(torch.equal(there[name], weight) for name, weight in sampler_weights(adapted))


def test_a_run_over_a_server_and_a_folder(base: Path, tmp_path: Path) -> None:
    served = load_checkpoint(str(base), torch.float32)
    with fake_server(Engine(served.tokenizer, served.model)) as vllm:
        trl = {"vllm_server_base_url": vllm.url}
        play(base, tmp_path / "run", rollouts={"backend": "vllm-server", "sync": "folder"}, trl=trl)
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "sampler/difference" in row]
    assert [row["step"] for row in rows] == [1, 2]
    assert vllm.misplaced == 0 and len(vllm.paths("/collective_rpc")) == 2
    assert {body["sampling_params"]["max_tokens"] for body in vllm.paths("/generate")} == {8}, "as the card says"


def test_an_engine_that_sleeps_is_woken_and_given_the_weights(base: Path) -> None:
    model, vllm = load_checkpoint(str(base), torch.float32).model, Arrived()
    with pytest.raises(RuntimeError), vllm.generation("colocate", sleeps=True).round(model):
        raise RuntimeError("a rollout failed")
    forgotten = ["forget pictures", "forget features", "forget prompts"]
    assert vllm.done == ["wake weights", "weights", *forgotten, "wake kv_cache", "sleep 2"]


def test_a_run_with_an_engine_in_this_process(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes in the precision of the trainer, and its window bounds a turn."""
    served, started, before = load_checkpoint(str(base), torch.float32), [], dict(os.environ)

    def start(**settings: Any) -> FakeLLM:
        torch.rand(1)
        started.append({**settings, "place": [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")]})
        return FakeLLM(Engine(served.tokenizer, served.model), window=settings["max_model_len"])

    module = SimpleNamespace(LLM=start, SamplingParams=dict)
    monkeypatch.setitem(sys.modules, "vllm", module)
    settings = {"rollouts": {"backend": "vllm-colocate"}, "lora": {"r": 4, "dropout": 0.5}}
    settings["trl"] = {"vllm_max_model_length": 90, "max_steps": 2}
    whole = weights_of(play(base, tmp_path / "run", **settings).merged)
    (asked,) = started
    assert asked["model"] == str(base) and asked["dtype"] == "float32" and asked["max_model_len"] == 90
    assert asked["logprobs_mode"] == "processed_logprobs" and asked["place"] == ["0", "0", "1"]
    assert dict(os.environ) == before
    shutil.rmtree(tmp_path / "run" / "merged")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-2")
    assert weights_of(play(base, tmp_path / "run", **settings).merged) == whole, "what it draws changes no step"
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "sampler/difference" in row] == [1, 2]

    def full(**settings: Any) -> FakeLLM:
        raise ValueError("To serve at least one request, 9 GiB of KV cache are needed.")

    module.LLM = full
    with pytest.raises(Failed, match=r"9 GiB of KV cache are needed\. Lower trl\.vllm_max_model_length"):
        play(base, tmp_path / "full", rollouts={"backend": "vllm-colocate"})


# What stops a run


@pytest.mark.parametrize("every", [1, 0], ids=["each round", "at the end"])
def test_a_model_whose_frozen_weights_move_stops_the_run(base: Path, tmp_path: Path, every: int) -> None:
    checkpoint = load_checkpoint(str(base), torch.float32)

    async def careless(trajectory: Trajectory) -> Score:
        with torch.no_grad():
            next(p for n, p in checkpoint.model.named_parameters() if "base_layer" in n).add_(1e-4)
        return Score(0.5, {"correct": 0.5})

    settings = recipe(base, tmp_path / "run", check_frozen_every=every)
    with pytest.raises(Failed, match=r"frozen have changed \(language\)"):
        train(settings, questions(), checkpoint, lambda start: replace(player(), reward=careless))
    assert not (tmp_path / "run" / "merged").exists()
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-1").exists() == (every == 0)


def test_alarms() -> None:
    check_alarms(Alarms(), 1, {"loss": 0.5, "kl": 0.1})
    with pytest.raises(Alarm, match="loss is nan"):
        check_alarms(Alarms(), 3, {"loss": math.nan})
    with pytest.raises(Alarm, match=r"over alarms\.kl"):
        check_alarms(Alarms(kl=0.5), 3, {"kl": 0.7})
    with pytest.raises(Alarm, match=r"over alarms\.tokens"):
        check_alarms(Alarms(tokens=10), 3, {"tokens/sampled": 11.0})
    with pytest.raises(Alarm, match=r"below alarms\.reward"):
        check_alarms(Alarms(reward=0.5), 30, {"reward/mean": 0.1})
    check_alarms(Alarms(reward=0.5), 10, {"reward/mean": 0.1})


def test_an_alarm_keeps_the_last_checkpoint(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Alarm, match="KL"):
        play(base, tmp_path, alarms={"kl": 1e-9}, trl={"max_steps": 5, "learning_rate": 0.05})
    assert list((tmp_path / "checkpoints").glob("checkpoint-*/adapter_model.safetensors"))


def test_a_round_in_which_everything_failed_stops_the_run(base: Path, tmp_path: Path) -> None:
    async def broken(trajectory: Trajectory) -> Score:
        raise ToolError("The judge is down.")

    checkpoint = load_checkpoint(str(base), torch.float32)
    failing = Player(lambda question: TOOLS, PROMPT, broken)
    with pytest.raises(Alarm, match=r"All 8 rollouts of a round failed\. The first: The judge is down"):
        train(recipe(base, tmp_path), questions(), checkpoint, lambda start: failing, report=lambda line: None)


@pytest.mark.parametrize("loss", ["grpo", "dapo"])
def test_a_round_in_which_nothing_counts_is_no_number_less(base: Path, tmp_path: Path, loss: str) -> None:
    """One rollout is judged, but was cut off; the judge is down for all others."""

    async def moody(trajectory: Trajectory) -> Score:
        if str(trajectory.question.metadata["rollout"]).endswith(".0") and trajectory.question.id == "q0":
            return await reward(trajectory)
        raise ToolError("The judge is down.")

    class Cut(Scripts):
        async def act(self, trajectory: Trajectory) -> Completion:
            return dataclasses.replace(await super().act(trajectory), finish="length")

    checkpoint = load_checkpoint(str(base), torch.float32)
    settings = recipe(
        base,
        tmp_path,
        sample_every=1,
        rollouts={"truncated": "mask", "flat": "keep"},
        trl={"loss_type": loss, "max_steps": 1},
    )
    model = prepare_model(checkpoint.model, settings.lora, FROZEN, 0)
    shown = stage(checkpoint, Scripted(Cut(checkpoint)), questions(2))
    shown = dataclasses.replace(shown, player=Player(lambda question: TOOLS, PROMPT, moody, Limits(calls=4)))
    trainer = make_trainer(settings, trl_settings(settings), shown, model, checkpoint, [], Spy)
    trainer.seen = []
    trainer.train()
    assert [math.isfinite(value) for _, value, _ in trainer.seen] == [True]
    kept = list(TrajectoryStore(tmp_path / "samples" / "step-00000"))
    assert len(kept) == 4
    assert [t.question.metadata.get("unjudged") for t in kept[1:]] == ["The judge is down."] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trl": {"per_device_train_batch_size": 6}}, "divisible|multiple"),
        ({"trl": {"use_vllm": True}}, "Remove it"),
        ({"trl": {"learning_rat": 1}}, "learning_rate"),
        ({"trl": {"num_iterations": 2}}, "save_steps"),
        ({"adapter": Path("nowhere")}, "no adapter"),
    ],
)
def test_a_recipe_that_cannot_be_is_a_user_error(base: Path, tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        play(base, tmp_path, **changes)


@pytest.mark.parametrize("name", ["top_p", "repetition_penalty", "max_completion_length", "generation_kwargs"])
def test_settings_that_our_rollouts_do_not_read_are_refused(tmp_path: Path, name: str) -> None:
    assert name in {f.name for f in dataclasses.fields(GRPOConfig)}
    recipe = GrpoRecipe(model="m", output=tmp_path / "run", trl={name: 1})
    with pytest.raises(UserError, match=f"trl.{name} changes nothing here: .* Remove it"):
        trl_settings(recipe)


@pytest.mark.parametrize(
    ("name", "backend", "readers"),
    [
        ("vllm_enable_sleep_mode", "vllm-server", "vllm-colocate"),
        ("vllm_server_port", "vllm-colocate", "vllm-server"),
        ("vllm_importance_sampling_correction", "slots", "vllm-server and vllm-colocate"),
    ],
)
def test_settings_of_another_way_to_sample_are_refused(tmp_path: Path, name: str, backend: str, readers: str) -> None:
    made = GrpoRecipe(model="m", output=tmp_path / "run", trl={name: 1}, rollouts={"backend": backend})
    with pytest.raises(UserError, match=f"trl.{name} belongs to rollouts.backend {readers}, but it is {backend}"):
        trl_settings(made)


@given(st.integers(0, 40), st.integers(0, 12), st.sets(st.integers(0, 40)), st.integers(1, 3))
def test_no_question_of_a_round_is_drawn_again(count: int, wanted: int, taken: set[int], processes: int) -> None:
    before, drawn = set(taken), list[int]()
    for mine in range(processes):
        numbers = range(mine, count, processes)
        own = untaken(random.Random(1), numbers, wanted, taken)
        assert len(own) == min(wanted, len(set(numbers) - before)) and set(own) <= set(numbers)
        drawn += own
    assert len(set(drawn)) == len(drawn) and not set(drawn) & before


def test_all_rounds_of_a_run_are_played_in_one_event_loop(base: Path, tmp_path: Path, monkeypatch: Any) -> None:
    loops = set()
    played = Player.play

    async def noted(self: Player, *given: Any) -> Any:
        loops.add(asyncio.get_running_loop())
        return await played(self, *given)

    monkeypatch.setattr(Player, "play", noted)
    play(base, tmp_path)
    assert len(loops) == 1


def test_unknown_settings_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        recipe(base, tmp_path, rollouts={"temperatur": 1})


def test_no_questions_is_a_user_error(base: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(base), torch.float32)
    with pytest.raises(UserError, match="no questions"):
        train(recipe(base, tmp_path), [], checkpoint, lambda start: player())


def test_an_adapter_of_another_model_is_a_user_error(base: Path, tmp_path: Path) -> None:
    made = play(base, tmp_path / "one")
    path = made.adapter / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"r": config["r"] * 2}))
    with pytest.raises(UserError, match="does not fit the model"):
        play(base, tmp_path / "two", adapter=made.adapter)


def test_trl_contract() -> None:
    """The private surface this file stands on; another TRL may move it."""
    loss = inspect.signature(GRPOTrainer._compute_loss).parameters
    assert list(loss) == ["self", "model", "inputs"]
    assert list(inspect.signature(GRPOTrainer._prepare_inputs).parameters) == ["self", "generation_batch"]
    scored = list(inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters)
    assert scored[:5] == ["self", "model", "input_ids", "attention_mask", "logits_to_keep"]
    source = inspect.getsource(GRPOTrainer)
    read = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "tool_mask", "ref_per_token_logps")
    assert all(f'"{name}"' in inspect.getsource(GRPOTrainer._compute_loss) for name in read)
    assert "self._step += 1" in source and 'self._metrics = {"train"' in source
    assert "current_gradient_accumulation_steps" in inspect.getsource(GRPOTrainer._compute_loss)
    known = {f.name for f in __import__("dataclasses").fields(GRPOConfig)}
    assert {"steps_per_generation", "num_iterations", "scale_rewards", "beta", "epsilon"} <= known
