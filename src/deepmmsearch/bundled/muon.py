"""An optimizer for matrices on CPUs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Muon (Jordan 2024) in float32 for matrices, batched over equal shapes; torch's own runs in bf16, which is
    slow on CPUs."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.01, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"])
                shapes.setdefault(tuple(sorted(p.shape)), []).append(
                    (p, update if p.shape[0] <= p.shape[1] else update.T)
                )
            for shape, rows in shapes.items():
                x = torch.stack([update for _, update in rows])
                x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
                for _ in range(5):
                    a = x @ x.mT
                    x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.775, alpha=2.0315), x, beta=3.4445)
                scale = 0.2 * max(shape) ** 0.5 * group["lr"]
                for (p, _), u in zip(rows, x, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(
                        u if p.shape[0] <= p.shape[1] else u.T, alpha=-scale
                    )
