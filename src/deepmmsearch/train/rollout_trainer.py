"""TRL's `GRPOTrainer` over our rollouts.

TRL gives the loss, the reference adapter, distribution and checkpoints. Its rollouts are replaced: ours are ordinary
episodes, played concurrently, and what was sampled is trained on token for token. Overridden are `train`,
`_prepare_inputs`, `_compute_loss`, `_get_per_token_logps_and_entropies` and the order of questions; a contract test
holds TRL to them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Protocol

import numpy as np
import torch
from accelerate.utils import gather_object
from peft import PeftModel
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer.utils import use_adapter

from deepmmsearch.errors import UserError
from deepmmsearch.policies.local.checkpoint import Checkpoint
from deepmmsearch.policies.local.vision import Eyes
from deepmmsearch.renderer import Renderer
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.train.advantages import counted, group_advantages, is_flat
from deepmmsearch.train.generation import Generation, vllm_generation
from deepmmsearch.train.order import EachEpoch, untaken
from deepmmsearch.train.parts import check_frozen
from deepmmsearch.train.recipes import GrpoRecipe, VllmRollouts
from deepmmsearch.train.rollouts import Player, Rollout, numbered
from deepmmsearch.train.rows import RolloutRow, make_batch, make_row, picture_inputs
from deepmmsearch.train.shared import groups_of, shared_logps
from deepmmsearch.train.watch import Alarm, check_alarms, figures
from deepmmsearch.types import Policy, Question

# figures of a round that are not means over the processes
SUMS, PEAKS = ("tokens/round", "tool/cost"), ("tokens/sampled_max",)
# losses that TRL takes the mean of over the rows of a batch; the others count tokens of the whole round
MEAN_OF_ROWS = ("grpo", "sapo", "dr_grpo", "luspo")


class NumberedQuestions(Protocol):
    """Questions by number; pictures may be read when they are asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> Question: ...


@dataclass(frozen=True)
class RolloutSetup:
    """Everything rollouts need. `generation` is None where vLLM samples: it is reached over the trainer. `frozen`:
    hashes of the parts that stay as they are."""

    questions: NumberedQuestions
    player: Player
    generation: Generation | None
    checkpoint: Checkpoint
    renderer: Renderer
    eyes: Eyes
    frozen: Mapping[str, str] = field(default_factory=dict)


class RolloutTrainer(GRPOTrainer):
    """TRL's trainer over our rollouts. The generation batch of each process holds whole groups, so that advantages are
    local."""

    def __init__(self, *args: Any, recipe: GrpoRecipe, setup: RolloutSetup, **kwargs: Any) -> None:
        super().__init__(*args, reward_funcs=_never_called, **kwargs)
        self._recipe, self._setup = recipe, setup
        # TRL corrects for another sampler where it has a connection to it
        self.use_vllm = isinstance(recipe.rollouts, VllmRollouts)
        self._buffered: list[dict[str, Any]] | None = None
        self._scored: list[RolloutRow] = []
        self._logps: Tensor | None = None
        self._clock = {"rollouts": 0.0, "update": 0.0}
        self._rounds = 0
        self._runner = asyncio.Runner()
        local = self.args.per_device_train_batch_size * self.args.steps_per_generation
        if local % self.num_generations:
            raise UserError(
                f"A process plays {local} rollouts a time (per_device_train_batch_size x steps_per_generation), "
                f"which is not a multiple of the groups of {self.num_generations} (trl.num_generations)."
            )
        every = self.args.steps_per_generation * self.num_iterations
        if self.args.save_strategy == "steps" and self.args.save_steps * self.args.gradient_accumulation_steps % every:
            raise UserError(
                f"trl.save_steps = {self.args.save_steps} falls between two rounds of rollouts, and a run could not go "
                f"on exactly: save_steps x gradient_accumulation_steps must be a multiple of {every}."
            )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's, in one event loop for all rounds: connections of tools, judges and samplers are kept from round to
        round."""
        # an engine that starts draws numbers, so it does before those of a checkpoint are taken up
        if self.use_vllm:
            self._generation()
        try:
            return super().train(*args, **kwargs)
        finally:
            self._runner.close()
            self._runner = asyncio.Runner()

    def _get_train_sampler(self, dataset: Any = None) -> EachEpoch:
        sampler = super()._get_train_sampler(dataset)
        return EachEpoch(sampler, self.args.seed, lambda: int(self.state.epoch or 0))

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """The next batch; a new round of rollouts when the last one is used up."""
        per_round = self.args.steps_per_generation
        if self._step % (per_round * self.num_iterations) == 0 or self._buffered is None:
            began = time.perf_counter()
            numbers = [row["row"] for row in generation_batch]
            groups = [numbers[i] for i in range(0, len(numbers), self.num_generations)]
            for start, number in enumerate(groups):
                own = numbers[start * self.num_generations : (start + 1) * self.num_generations]
                assert set(own) == {number}, f"a group holds the questions {sorted(set(own))}"
            self._buffered = self._round(groups)
            self._clock["rollouts"] += time.perf_counter() - began
        return self._buffered[self._step % per_round]

    def _round(self, questions: list[int]) -> list[dict[str, Any]]:
        """Plays the questions' groups and makes the round's batches of them."""
        model = self.accelerator.unwrap_model(self.model)
        was_training = self.model.training
        self.model.eval()
        # what another process plays in this round is not drawn again either
        played_now = set(gather_object(questions)) if self._recipe.rollouts.resample else set()
        try:
            with self._generation().round(model) as policy:
                groups = self._runner.run(self._play(questions, policy, played_now))
        finally:
            self.model.train(was_training)
        self._rounds += 1
        if (every := self._recipe.check_frozen_every) and self._rounds % every == 0:
            check_frozen(model, self._setup.frozen)
        played = [rollout for group in groups for rollout in group]
        self._log_round(played)
        rewards = [[self._reward_of(r) for r in group] for group in groups]
        advantages = group_advantages(rewards, self.scale_rewards)
        self._keep_samples(groups)
        sampled = sum(r.trajectory.sampled_tokens for r in played if self._reward_of(r) is not None)
        return self._batches([self._rows(*group) for group in zip(groups, rewards, advantages, strict=True)], sampled)

    def _rows(self, group: list[Rollout], rewards: list[float | None], advantages: list[float]) -> list[RolloutRow]:
        """The group's rows; none where it teaches nothing and is dropped."""
        # bnpo divides by the tokens of a batch, so what is left out of one would change its loss
        if self._recipe.rollouts.flat == "drop" and self.loss_type != "bnpo" and is_flat(rewards):
            return []
        return [
            make_row(rollout, self._setup.renderer, self._setup.eyes, None if reward is None else advantage)
            for rollout, reward, advantage in zip(group, rewards, advantages, strict=True)
        ]

    def _generation(self) -> Generation:
        """The setup's, or vLLM's, which is reached when training begins."""
        if self._setup.generation is not None:
            return self._setup.generation
        made = vllm_generation(self, self._recipe, self._setup.checkpoint, lambda work: self._runner.run(work))
        self._setup = replace(self._setup, generation=made)
        return made

    async def _play(self, questions: list[int], policy: Policy, taken: set[int]) -> list[list[Rollout]]:
        """The groups; those without spread are replaced by other questions, none of them `taken` in this round, as
        often as the recipe says."""
        step, player = self.state.global_step, self._setup.player
        count, groups = self.num_generations, await self._groups(questions, step, player, policy)
        # each process draws its own
        rng = random.Random(f"{self.args.seed} {step} {self.accelerator.process_index}")
        flat = [i for i, group in enumerate(groups) if is_flat([self._reward_of(r) for r in group])]
        self._metric("groups/flat", len(flat) / max(1, len(groups)))
        for _ in range(self._recipe.rollouts.resample):
            if not flat:
                break
            mine, share = self.accelerator.process_index, self.accelerator.num_processes
            others = untaken(rng, range(mine, len(self._setup.questions), share), len(flat), taken)
            for i, group in zip(flat, await self._groups(others, step, player, policy), strict=False):
                groups[i] = group
            flat = [i for i in flat if is_flat([self._reward_of(r) for r in groups[i]])]
        if self._recipe.rollouts.resample:
            self._metric("groups/flat_left", len(flat) / max(1, len(groups)))
        assert all(len(group) == count for group in groups), f"groups of {count} rollouts were expected"
        return groups

    async def _groups(self, questions: list[int], step: int, player: Player, policy: Policy) -> list[list[Rollout]]:
        asked = [self._setup.questions[number] for number in questions]
        size = self.num_generations
        played = await player.play([numbered(q, step, member) for q in asked for member in range(size)], policy)
        return [played[i : i + size] for i in range(0, len(played), size)]

    def _reward_of(self, rollout: Rollout) -> float | None:
        settings = self._recipe.rollouts
        return counted(rollout, settings.failed == "mask", settings.truncated == "mask")

    def _batches(self, groups: list[list[RolloutRow]], sampled: int) -> list[dict[str, Any]]:
        """The groups dealt to the round's batches, with what the reference and the sampling policy say of them.

        `sampled`: tokens of all rollouts that count, dropped groups included. `share`: how many rows a batch has of
        those it would have without dropped groups; its loss counts for that much.
        """
        dealt = deal(groups, self.args.steps_per_generation, self.args.per_device_train_batch_size)
        device, size = self.accelerator.device, self.args.per_device_train_batch_size
        batches = []
        for rows in dealt:
            batch = make_batch(rows or [_nothing(self._setup.renderer)], self._tokenizer.pad_token_id, device)
            batches.append(batch | {"share": len(rows) / size})
        total = self.accelerator.gather(torch.tensor(float(sampled), device=device)).sum()
        stale = self.args.gradient_accumulation_steps % (self.args.steps_per_generation * self.num_iterations) != 0
        with torch.no_grad():
            for batch in batches:
                batch["num_items_in_batch"] = total
                if stale or self.use_vllm:
                    batch["old_per_token_logps"] = self._score(self.model, batch)
                if self.use_vllm and self.vllm_importance_sampling_correction:
                    apart = batch["old_per_token_logps"] - batch["sampling_per_token_logps"]
                    ratio = (apart * batch["tool_mask"]).exp()
                    batch["importance_sampling_ratio"] = ratio.clamp(
                        self.vllm_importance_sampling_clip_min, self.vllm_importance_sampling_clip_max
                    )
                if self.beta:
                    batch["ref_per_token_logps"] = self._score_reference(batch)
        return batches

    def _score(self, model: Any, batch: Mapping[str, Any]) -> Tensor:
        self._scored = batch["rows"]
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        logps, _, _ = self._get_per_token_logps_and_entropies(model, ids, attention, batch["completion_ids"].shape[1])
        return logps

    def _score_reference(self, batch: Mapping[str, Any]) -> Tensor:
        if self.ref_model is not None:
            return self._score(self.ref_model, batch)
        model = self.accelerator.unwrap_model(self.model)
        with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
            return self._score(self.model, batch)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **inputs: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """[rows, logits_to_keep] each; 0 where nothing was sampled. Pictures come from the rows, encoded once."""
        rows = self._scored
        assert len(rows) == len(input_ids), f"{len(rows)} rows for a batch of {len(input_ids)}"
        if self._shares_prompts(model):
            return self._shared(model, logits_to_keep, compute_entropy)
        sampled = torch.zeros_like(input_ids, dtype=torch.bool)
        for i, row in enumerate(rows):
            end = input_ids.shape[1] - logits_to_keep
            sampled[i, end : end + len(row.ids) - row.start] = torch.from_numpy(row.mask[row.start :])
        with self.accelerator.autocast():
            out = model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                labels=input_ids.masked_fill(~sampled, -100),
                fused_lm_head=True,
                **self._setup.eyes.family.token_types(input_ids),
                **picture_inputs(rows, self._setup.eyes),
            )
        logps = out.log_probs[:, -logits_to_keep:]
        self._logps = logps.detach()
        return logps, out.entropy[:, -logits_to_keep:] if compute_entropy else None, None

    def _shares_prompts(self, model: Any) -> bool:
        """Prompts are shared where the setting says so and the model is at hand: neither sharded nor wrapped (wrappers
        gather gradients in their own forward), and without gradient checkpointing, which keeps no keys and values."""
        plain = model is self.accelerator.unwrap_model(model) and not self.args.activation_checkpointing
        return self._recipe.rollouts.share_prompts and plain and not self.is_fsdp_enabled

    def _shared(self, model: Any, width: int, compute_entropy: bool) -> tuple[Tensor, Tensor | None, None]:
        causal = model.get_base_model() if isinstance(model, PeftModel) else model
        with self.accelerator.autocast():
            found = [
                shared_logps(causal, own, width, self._setup.eyes, self.temperature) for own in groups_of(self._scored)
            ]
        logps = torch.cat([one for one, _ in found])
        self._logps = logps.detach()
        return logps, torch.cat([other for _, other in found]) if compute_entropy else None, None

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        began, before = time.perf_counter(), self._clock["rollouts"]
        loss: Tensor = super().training_step(*args, **kwargs)
        self._clock["update"] += time.perf_counter() - began - (self._clock["rollouts"] - before)
        return loss

    def _compute_loss(self, model: Any, inputs: Mapping[str, Any]) -> Tensor:
        self._scored = inputs["rows"]
        loss: Tensor = super()._compute_loss(model, inputs)
        if self.loss_type in MEAN_OF_ROWS:
            loss = loss * inputs["share"]
        if self._step % (self.args.steps_per_generation * self.num_iterations) == 0 and self._logps is not None:
            self._log_sampler(inputs, self._logps)
        check_alarms(self._recipe.alarms, self.state.global_step, {"loss": loss.item()})
        return loss

    def _log_sampler(self, inputs: Mapping[str, Any], logps: Tensor) -> None:
        """How far the sampler's log probabilities are from the trainer's, before any update."""
        mask = inputs["tool_mask"].bool()
        if mask.any():
            apart = (logps - inputs["sampling_per_token_logps"]).abs()[mask]
            self._metric("sampler/difference", apart.mean().item())
            self._metric("sampler/difference_max", apart.max().item())

    def _log_round(self, played: list[Rollout]) -> None:
        """The figures of the rollouts of all processes; TRL logs those of the first one alone."""
        tokens = float(sum(r.trajectory.sampled_tokens for r in played))
        everywhere = gather_object([figures(played) | {"tokens/round": tokens}])
        for name in dict.fromkeys(name for found in everywhere for name in found):
            values = [found[name] for found in everywhere if name in found]
            self._metric(name, sum(values) if name in SUMS else max(values) if name in PEAKS else fmean(values))
        if all(found["episodes/failed"] == 1 for found in everywhere):
            raise Alarm(_all_failed(played))

    def _metric(self, name: str, value: float) -> None:
        self._metrics["train"][name].append(value)

    def _keep_samples(self, groups: list[list[Rollout]]) -> None:
        """The first group of every so many steps, readable with `deepmmsearch show`."""
        every, step = self._recipe.sample_every, self.state.global_step
        if not every or step % every or not self.accelerator.is_main_process:
            return
        store = TrajectoryStore(self._recipe.output / "samples" / f"step-{step:05d}")
        if len(store):
            return
        for member, rollout in enumerate(groups[0]):
            question = rollout.trajectory.question
            score = {"value": rollout.score.value, **rollout.score.parts} if rollout.score else {}
            told = {"reward": score} if rollout.unjudged is None else {"reward": score, "unjudged": rollout.unjudged}
            marked = replace(question, metadata={**question.metadata, **told})
            store.append(replace(rollout.trajectory, question=marked), f"{question.id}-{member}")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        total = sum(self._clock.values())
        if total and "loss" in logs:
            waits = {n: sum(self._metrics["train"].get(f"seconds/{n}", [0.0])) for n in ("thinking", "tools")}
            tools = waits["tools"] / max(1e-9, sum(waits.values()))
            rollouts = self._clock["rollouts"] / total
            logs |= {"share/generation": rollouts * (1 - tools), "share/tools": rollouts * tools}
            logs["share/update"] = self._clock["update"] / total
            sampled = sum(self._metrics["train"].get("tokens/round", []))
            logs["tokens/second"] = sampled / max(1e-9, self._clock["rollouts"])
            self._clock = dict.fromkeys(self._clock, 0.0)
        super().log(logs, start_time)
        check_alarms(self._recipe.alarms, self.state.global_step, logs)

    def _send_telemetry(self) -> None:
        return None


def deal(groups: Sequence[Sequence[RolloutRow]], batches: int, size: int) -> list[list[RolloutRow]]:
    """The groups' rows in as many batches of at most `size`; groups stay together where `size` holds whole groups, and
    batches are about equally long."""
    rows = [row for group in groups for row in group]
    whole = max((len(group) for group in groups), default=1) or 1
    each = -(-len(rows) // batches)
    each = min(size, -(-each // whole) * whole)
    return [rows[i * each : (i + 1) * each] for i in range(batches)]


def _nothing(renderer: Renderer) -> RolloutRow:
    """A row without anything to learn, for a batch whose groups were all dropped."""
    ids = np.array([renderer.end_id, renderer.end_id], dtype=np.int32)
    return RolloutRow(ids, np.zeros(2, dtype=np.bool_), np.zeros(2, dtype=np.float32), 1, ())


def _all_failed(played: Sequence[Rollout]) -> str:
    """A round without one rollout that worked would teach nothing, and so would the next."""
    first = played[0].trajectory
    said = [turn.observation.error for turn in first.turns if turn.observation and turn.observation.error]
    reason = first.error or played[0].unjudged or said[0]
    return f"All {len(played)} rollouts of a round failed. The first: {reason}"


def _never_called(*args: Any, **kwargs: Any) -> list[float]:
    raise AssertionError("rewards are given to rollouts, not to completions")
