"""What a researcher watches: figures of a batch of rollouts, and alarms that stop a run before it is lost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

from deepmmsearch.agent.table import figure
from deepmmsearch.errors import Failed
from deepmmsearch.train.recipes import Alarms
from deepmmsearch.train.rollouts import Rollout, tool_failed
from deepmmsearch.types import Answer, Malformed


class Alarm(Failed):
    """A run was stopped; its last checkpoint is from before."""


def check_alarms(alarms: Alarms, step: int, logs: Mapping[str, float]) -> None:
    """Raises Alarm when a figure is not a number or out of bounds."""
    for name in ("loss", "grad_norm", "kl"):
        value = logs.get(name)
        if value is not None and not math.isfinite(value):
            raise Alarm(f"Stopped at step {step}: {name} is {value}. Lower trl.learning_rate, then go on.")
    if alarms.kl is not None and logs.get("kl", 0.0) > alarms.kl:
        raise Alarm(
            f"Stopped at step {step}: the KL to the reference is {logs['kl']:.3g} nats a token, over alarms.kl = "
            f"{alarms.kl:g}. Lower trl.learning_rate or raise trl.beta."
        )
    if alarms.tokens is not None and logs.get("tokens/sampled", 0.0) > alarms.tokens:
        raise Alarm(
            f"Stopped at step {step}: an episode samples {logs['tokens/sampled']:.0f} tokens on average, over "
            f"alarms.tokens = {alarms.tokens:g}. Lower limits.tokens, or mask truncated episodes."
        )
    if alarms.reward is not None and step > alarms.patience and logs.get("reward/mean", math.inf) < alarms.reward:
        raise Alarm(
            f"Stopped at step {step}: the mean reward is {logs['reward/mean']:.3f}, below alarms.reward = "
            f"{alarms.reward:g}."
        )


def figures(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Figures of one batch of rollouts, by the names under which they are logged.

    Rates are per episode, `seconds/…` are mean seconds an episode waited, `tool/…_p50` and `_p95` seconds of a call.
    """
    count = max(1, len(rollouts))
    turns = [turn for r in rollouts for turn in r.trajectory.turns]
    used = Counter(figure(turn.action) for turn in turns)
    texts, whole, crops = used.pop("text", 0), used.pop("image", 0), used.pop("crop", 0)
    malformed, _ = used.pop("malformed", 0), used.pop("answer", 0)
    searched = [r for r in rollouts if r.trajectory.searches]
    many = [r for r in rollouts if [figure(s) for s in r.trajectory.searches].count("text") > 1]
    sampled = [r.trajectory.sampled_tokens for r in rollouts]
    found = {
        "search/ratio": len(searched) / count,
        "search/each": sum(len(r.trajectory.searches) for r in rollouts) / count,
        "search/text": texts / count,
        "search/image_whole": whole / count,
        "search/image_crop": crops / count,
        "search/crop_share": crops / max(1, crops + whole),
        "search/several_texts": len(many) / count,
        **{f"search/{name}": times / count for name, times in sorted(used.items())},
        "turns/each": len(turns) / count,
        "turns/malformed": malformed / max(1, len(turns)),
        "episodes/failed": sum(r.failed for r in rollouts) / count,
        "episodes/unjudged": sum(r.unjudged is not None for r in rollouts) / count,
        "episodes/truncated": sum(r.truncated for r in rollouts) / count,
        "episodes/answered": sum(r.trajectory.answer is not None for r in rollouts) / count,
        "tokens/sampled": fmean(sampled) if sampled else 0.0,
        "tokens/sampled_max": float(max(sampled, default=0)),
        "seconds/thinking": sum(r.thinking for r in rollouts) / count,
        "seconds/tools": sum(r.tools for r in rollouts) / count,
    }
    return found | _tool_figures(rollouts) | _reward_figures(rollouts)


def _tool_figures(rollouts: Sequence[Rollout]) -> dict[str, float]:
    turns = [t for r in rollouts for t in r.trajectory.turns if not isinstance(t.action, Answer | Malformed)]
    calls = [c for t in turns for c in (t.observation.calls if t.observation else ())]
    found = {"tool/cost": sum(call.cost for call in calls)}
    if turns:
        found["tool/success"] = 1 - sum(tool_failed(t.action, t.observation) for t in turns) / len(turns)
    if calls:
        seconds = sorted(call.seconds for call in calls)
        found["tool/seconds_p50"] = seconds[len(seconds) // 2]
        found["tool/seconds_p95"] = seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
        found["tool/cached"] = sum(call.cached for call in calls) / len(calls)
    return found


def _reward_figures(rollouts: Sequence[Rollout]) -> dict[str, float]:
    scores = [r.score for r in rollouts if r.score is not None]
    if not scores:
        return {}
    mean = fmean(score.value for score in scores)
    found = {
        "reward/mean": mean,
        "reward/deviation": math.sqrt(fmean((score.value - mean) ** 2 for score in scores)),
    }
    for name in dict.fromkeys(name for score in scores for name in score.parts):
        values = [score.parts[name] for score in scores if name in score.parts]
        found[f"reward/{name}"] = fmean(values)
    return found
