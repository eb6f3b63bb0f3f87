"""Our episode as an agent loop of verl 0.9: `agent_loop.yaml` of the recipes names it, `data.episodes` of verl's
configuration names the recipe that it plays by."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput

from deepmmsearch.compose.agent_loop_recipe import AgentLoopRecipe
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.errors import UserError
from deepmmsearch.scale.verl.client_policy import TokenRoom
from deepmmsearch.scale.verl.dataset_row import asked
from deepmmsearch.scale.verl.episode_player import EpisodePlayer


class EpisodeLoop(AgentLoopBase):
    """One rollout. verl makes one for each; what they share is made once in a process."""

    def __init__(self, trainer_config: Any, server_manager: Any, tokenizer: Any, processor: Any, **others: Any) -> None:
        # not the base class's own: it makes verl's renderer, which is not used, and refuses tokenizers unlike Qwen's
        config = trainer_config.config
        self.rollout_config, self.server_manager = config.actor_rollout_ref.rollout, server_manager
        self._player = _player(str(config.data.get("episodes") or ""), str(config.actor_rollout_ref.model.path))
        self._player.refuse_other_readings(config, processor)

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        """The episode. Raises UserError for a row that holds no question, and where verl's servers cannot sample."""
        settings = self.rollout_config
        whole = int(settings.max_model_len or self._player.window)
        room = TokenRoom(int(settings.prompt_length), int(settings.response_length), whole)
        played = await self._player.play(asked(row), self.server_manager, room, sampling_params)
        trajectory, least_most = played.rollout.trajectory, dict(zip(("min", "max"), played.versions, strict=True))
        return AgentLoopOutput(
            prompt_ids=list(played.row.opening),
            response_ids=list(played.row.response),
            response_mask=list(played.row.mask),
            response_logprobs=list(played.row.logprobs) if settings.calculate_log_probs else None,
            multi_modal_data={"images": list(played.row.pictures)} if played.row.pictures else {},
            # a reward that is there already is taken as it is
            reward_score=played.reward,
            num_turns=2 * max(1, len(trajectory.turns)),
            metrics=AgentLoopMetrics(generate_sequences=played.rollout.thinking, tool_calls=played.rollout.tools),
            extra_fields={
                "reward_extra_info": dict(played.parts),
                "turn_scores": [],
                "tool_rewards": [],
                "stop": trajectory.stop,
                "error": trajectory.error or played.rollout.unjudged,
                **{f"{name}_global_steps": version for name, version in least_most.items()},
            },
        )


@cache
def _player(recipe: str, source: str) -> EpisodePlayer:
    if not recipe:
        raise UserError(
            "verl's configuration does not say how episodes are played. Set data.episodes to a recipe, such as "
            "verl/episodes or a file that lies on every node."
        )
    return EpisodePlayer(load_recipe(Path(recipe), AgentLoopRecipe), source)
