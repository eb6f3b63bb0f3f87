"""Answers questions of somebody else's harness: pictures and text in, the agent's answer out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from deepmmsearch.agent.runner import AgentWorkflow, Streak, Workflow, run_all
from deepmmsearch.compose.harness_recipe import HarnessRecipe
from deepmmsearch.compose.policies import build_policy, choose_prompt
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.errors import Failed
from deepmmsearch.sealing import MARK
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Question, Trajectory

_DECRYPTED = ("mmsearch_plus",)


class Answering:
    """Plays questions and gives their answers in order; an episode that failed answers nothing."""

    def __init__(
        self,
        workflow: Workflow,
        *,
        concurrency: int = 16,
        timeout: float | None = None,
        store: TrajectoryStore | None = None,
        stop_after_errors: int | None = 8,
    ) -> None:
        self.workflow, self.concurrency, self.timeout, self.store = workflow, concurrency, timeout, store
        self.stop_after_errors = stop_after_errors

    @classmethod
    def from_recipe(cls, path: Path | None, overrides: Sequence[str] = ()) -> Answering:
        """Raises UserError for a recipe that cannot be used."""
        recipe = load_recipe(path, HarnessRecipe, overrides) if path is not None else HarnessRecipe()
        policy = build_policy(recipe.policy)
        tools = build_toolbox(recipe.tools, policy)
        prompt = choose_prompt(policy, tools, recipe.prompt)
        workflow = AgentWorkflow(policy, prompt, lambda _: tools, recipe.limits.limits(), "lmms-eval")
        store = TrajectoryStore(recipe.trajectories) if recipe.trajectories else None
        return cls(
            workflow,
            concurrency=recipe.concurrency,
            timeout=recipe.timeout,
            store=store,
            stop_after_errors=recipe.stop_after_errors,
        )

    def answers(self, questions: Sequence[Question]) -> list[str]:
        """Raises Failed where too many questions in a row failed, or all of them did."""
        played = asyncio.run(self._play(questions))
        if self.stop_after_errors is not None and played and all(t.error for t in played):
            raise Failed(f"All {len(played)} questions failed, the last with: {played[-1].error}")
        found = {t.question.id: t for t in played}
        return [found[q.id].answer or "" for q in questions]

    async def _play(self, questions: Iterable[Question]) -> list[Trajectory]:
        played = []
        streak = Streak(self.stop_after_errors, "questions", "Correct it and run again.")
        rows = run_all(questions, self.workflow, self.concurrency, self.timeout, streak)
        async for trajectory in rows:
            if self.store is not None:
                await asyncio.to_thread(self.store.append, trajectory)
            played.append(trajectory)
        return played


def as_question(id: str, text: str, visuals: Sequence[Any], task: str = "") -> Question:
    """The pictures in their order. The harness's `<image>` marks are taken out. What a `task` decrypts is marked, so
    that it is not stored in the clear."""
    pictures = [v for v in visuals if isinstance(v, Image)]
    metadata = {MARK: task} if task.startswith(_DECRYPTED) else {}
    return Question(id, text.replace("<image>", " ").strip(), tuple(pictures), metadata=metadata)
