"""GRPO's advantages for verl, without the rollouts that are left out. verl's own count these as rollouts worth 0, which
moves the mean of their group.

verl finds it as `algorithm.adv_estimator: grpo_masked` in processes whose VERL_USE_EXTERNAL_MODULES names this module.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import register_adv_est

from deepmmsearch.train.advantages import group_advantages

NAME = "grpo_masked"


def masked_advantages(
    token_level_rewards: Tensor, response_mask: Tensor, index: Sequence[Any], config: Any = None, **others: Any
) -> tuple[Tensor, Tensor]:
    """Advantages and returns, both [rows, tokens]; `index` names each row's group. A row whose mask is all 0 was left
    out: it has no advantage, and no part in the mean of its group."""
    rewards = token_level_rewards.sum(dim=-1).tolist()
    counts = response_mask.sum(dim=-1).gt(0).tolist()
    rows: dict[Any, list[int]] = defaultdict(list)
    for row, group in enumerate(index):
        rows[group].append(row)
    divided = config is None or config.get("norm_adv_by_std_in_grpo", True)
    worth = [[rewards[r] if counts[r] else None for r in group] for group in rows.values()]
    found = group_advantages(worth, "group" if divided else "none")
    advantages = torch.zeros(len(rewards), dtype=token_level_rewards.dtype, device=token_level_rewards.device)
    for group, values in zip(rows.values(), found, strict=True):
        advantages[group] = torch.tensor(values, dtype=advantages.dtype, device=advantages.device)
    spread = advantages[:, None] * response_mask
    return spread, spread


register_adv_est(NAME)(masked_advantages)
