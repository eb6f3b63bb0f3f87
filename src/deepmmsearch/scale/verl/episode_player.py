"""What one process of verl plays episodes with: tools, judge and reward of a recipe, and the model's way of reading.

Every node has an index, providers and a recorder of its own; no file is written by two nodes.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL.Image import Image
from transformers import GenerationConfig

from deepmmsearch.compose.agent_loop_recipe import AgentLoopRecipe
from deepmmsearch.compose.cassettes import with_cassettes
from deepmmsearch.compose.judges import build_judge
from deepmmsearch.compose.policies import choose_prompt
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.errors import UserError
from deepmmsearch.policies.human import HumanPolicy
from deepmmsearch.policies.local.checkpoint import CheckpointParts, read_parts
from deepmmsearch.policies.local.families import find_family
from deepmmsearch.policies.local.sampleable import banned_ids, end_ids, window
from deepmmsearch.policies.vllm.sampling import Sampling
from deepmmsearch.rewards import build_reward
from deepmmsearch.scale.verl.client_policy import ClientPolicy, SamplingClient, TokenRoom
from deepmmsearch.scale.verl.token_row import TokenRow, token_row
from deepmmsearch.train.advantages import counted
from deepmmsearch.train.rollouts import Player, Rollout
from deepmmsearch.types import Question


@dataclass(frozen=True)
class PlayedRow:
    """An episode that was played, and what verl is told of it. `versions`: as of `ClientPolicy`."""

    rollout: Rollout
    row: TokenRow
    reward: float
    parts: Mapping[str, float]
    versions: tuple[int | None, int | None]


class EpisodePlayer:
    """Plays one question at a time, as many at once as it is asked for. `source`: the checkpoint that verl trains, for
    its tokenizer and its image processor; no weights are read."""

    def __init__(self, recipe: AgentLoopRecipe, source: str) -> None:
        self._recipe = recipe = of_this_node(recipe)
        parts = read_parts(source)
        if not parts.family.grids:
            raise UserError(
                f"{source!r} is a {parts.config.model_type} model, but verl's loop plays those whose pictures are "
                "grids of patches. Give a Qwen2-VL, Qwen2.5-VL or Qwen3-VL, or train with: deepmmsearch grpo RECIPE"
            )
        self._parts = parts = _seen_within(parts, recipe.episodes.max_pixels)
        self._renderer = parts.renderer()
        without_weights = _WithoutWeights(parts.config, _generation(source))
        self.window = window(without_weights, parts.tokenizer)
        ends = end_ids(without_weights, self._renderer.end_id)
        self._sampling = Sampling(
            context=0,
            max_new_tokens=recipe.episodes.max_new_tokens,
            banned=tuple(banned_ids(without_weights, parts.family, ends, self._renderer.image_id)),
            ends=tuple(sorted(ends)),
        )
        tools = build_toolbox(recipe.tools, HumanPolicy())
        prompt = choose_prompt(self._policy(_Nobody(), TokenRoom(0, 0, 0), {}), tools, recipe.prompt)
        reward = build_reward(recipe.reward, build_judge(recipe.judge))
        self._player = Player(
            lambda question: tools,
            prompt,
            reward,
            recipe.limits.limits(),
            timeout=recipe.episodes.tool_timeout,
            label=source,
        )

    async def play(
        self, question: Question, client: SamplingClient, room: TokenRoom, given: Mapping[str, Any]
    ) -> PlayedRow:
        """Raises UserError where verl's servers cannot sample, or the question cannot be rendered; whatever else fails
        is an episode that nothing is learned from."""
        settings, policy = self._recipe.episodes, self._policy(client, room, given)
        [rollout] = await self._player.play([question], policy)
        reward = counted(rollout, settings.failed == "mask", settings.truncated == "mask")
        row = token_row(rollout.trajectory, self._renderer, self.image_tokens, learn=reward is not None)
        assert len(row.opening) <= max(1, room.opening), f"{len(row.opening)} tokens before the first that was sampled"
        assert len(row.response) <= room.response, f"a response of {len(row.response)} tokens, not {room.response}"
        return PlayedRow(rollout, row, reward or 0.0, self._told(rollout), policy.versions)

    def image_tokens(self, view: Image) -> int:
        """How many the model makes of a view of a picture."""
        return self._parts.family.features(view.size)

    def refuse_other_readings(self, config: Any, processor: Any) -> None:
        """Raises UserError where verl or its servers would read a conversation otherwise than it is rendered here."""
        if config.actor_rollout_ref.rollout.name != "vllm":
            raise UserError(
                f"rollout.name is {config.actor_rollout_ref.rollout.name}, but episodes are sampled with vLLM: what "
                "they ask for is in its words. Set rollout.name=vllm."
            )
        if config.data.get("mm_processor_kwargs"):
            raise UserError(
                "data.mm_processor_kwargs changes how pictures are read. Set episodes.max_pixels in the recipe."
            )
        bounds, size = self._parts.family.bounds, processor.image_processor.size
        least, most = int(size["shortest_edge"]), int(size["longest_edge"])
        if bounds[0] < least or bounds[1] > most:
            raise UserError(
                f"Pictures have {bounds[0]} to {bounds[1]} pixels, but verl's image processor makes {least} to {most} "
                "of them. Set min_pixels and max_pixels in the model's preprocessor_config.json to the same."
            )

    def _policy(self, client: SamplingClient, room: TokenRoom, given: Mapping[str, Any]) -> ClientPolicy:
        return ClientPolicy(client, self._renderer, self._sampling, self.image_tokens, room, given, self._parts.card)

    def _told(self, rollout: Rollout) -> dict[str, float]:
        """The same names for every episode: verl takes those of the first for all."""
        known = rollout.score.parts if rollout.score is not None else {}
        return {
            "acc": float(known.get("correct", 0.0)),
            **{name: float(known.get(name, 0.0)) for name in self._recipe.episodes.parts},
            "searches": float(len(rollout.trajectory.searches)),
            "failed": float(rollout.failed),
            "truncated": float(rollout.truncated),
        }


def of_this_node(recipe: AgentLoopRecipe) -> AgentLoopRecipe:
    """The recipe with the node's name in the names of the cassettes that it writes: SQLite files are not shared between
    machines. They are put together with `deepmmsearch cache merge`."""
    node = re.sub(r"[^\w.-]", "_", platform.node()) or "node"
    return with_cassettes(recipe, lambda cassette: cassette.with_name(f"{cassette.stem}.{node}{cassette.suffix}"))


def _seen_within(parts: CheckpointParts, most: int | None) -> CheckpointParts:
    """The checkpoint, with pictures of at most so many pixels."""
    if most is None:
        return parts
    least = parts.family.bounds[0]
    if most < least:
        raise UserError(f"episodes.max_pixels is {most}, but the model takes pictures of at least {least}. Raise it.")
    card = replace(parts.card, max_pixels=most)
    return replace(parts, card=card, family=find_family(parts.config, parts.tokenizer, parts.image_processor, card))


@dataclass(frozen=True)
class _WithoutWeights:
    """What a checkpoint says of its model, without the weights."""

    config: Any
    generation_config: Any


def _generation(source: str) -> GenerationConfig | None:
    try:
        return GenerationConfig.from_pretrained(source)
    except OSError:
        return None


class _Nobody:
    """Stands for verl's client where nothing is sampled."""

    async def generate(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("nothing is sampled before the first question")
