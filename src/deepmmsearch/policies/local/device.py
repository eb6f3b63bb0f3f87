"""Where a model computes, and with which numbers."""

from __future__ import annotations

import torch

from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.policies.local.checkpoint import first_line


def find_device(name: str) -> torch.device:
    if name != "auto":
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise UserError(f"The device {name!r} cannot be used ({first_line(error)}). Use auto or cpu.") from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_dtype(name: str, device: torch.device) -> torch.dtype | str:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if name not in known:
        raise UnknownName("dtype", name, [*known, "auto"])
    return known[name]
