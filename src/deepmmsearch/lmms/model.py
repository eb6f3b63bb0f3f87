"""The class that lmms-eval makes: `generate_until` of its simple models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms

from deepmmsearch.lmms.answering import Answering, as_question


class DeepMMSearch(lmms):  # type: ignore[misc, unused-ignore]  # untyped where lmms-eval is not installed
    """`recipe`: the agent's YAML file (`lmms.answering.HarnessRecipe`); without one the bundled model answers directly.
    The harness's generation settings do not apply: an episode has budgets of its own."""

    is_simple = True

    def __init__(self, recipe: str | None = None, batch_size: int | str = 1, device: str | None = None) -> None:
        super().__init__()
        overrides = [f"policy.device={device}"] if device else []
        self._answering = Answering.from_recipe(Path(recipe) if recipe else None, overrides if recipe else ())

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answers, in the order of the requests."""
        questions = []
        for number, request in enumerate(requests):
            context, _, doc_to_visual, doc_id, task, split = request.args
            visuals = doc_to_visual(self.task_dict[task][split][doc_id]) or []
            questions.append(as_question(f"{task}-{split}-{doc_id}-{number}", context, visuals, task))
        return self._answering.answers(questions)

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise NotImplementedError("Tasks of several rounds are not played: an episode has its own turns.")

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError("Likelihoods are not known of an agent's answer. Choose tasks that generate.")
