"""The parts of a vision-language model: tower, projector, language model. What is frozen is named by them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

import torch

from deepmmsearch.errors import Failed
from deepmmsearch.train.shards import whole

PARTS = ("vision", "projector", "language")
VISION = re.compile(r"(^|\.)(visual|vision_tower|vision_model)\.")
PROJECTOR = re.compile(r"(^|\.)(merger|deepstack_merger_list|multi_modal_projector|connector)\.")


def part_of(name: str) -> str:
    """Where a parameter belongs: `projector` (between tower and language model), `vision` or `language`."""
    if PROJECTOR.search(name):
        return "projector"
    return "vision" if VISION.search(name) else "language"


def parameter_hash(model: torch.nn.Module, parts: Iterable[str]) -> str:
    """sha256 over names and values of the parameters of these parts, in order of their names; adapters do not count."""
    wanted = set(parts)
    result = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        if "lora_" not in name and part_of(plain) in wanted:
            result.update(plain.encode() + whole(parameter.detach()).float().cpu().numpy().tobytes())
    return result.hexdigest()


def part_hashes(model: torch.nn.Module, parts: Iterable[str]) -> dict[str, str]:
    """`parameter_hash` of each of these parts."""
    return {part: parameter_hash(model, [part]) for part in parts}


def check_frozen(model: torch.nn.Module, before: Mapping[str, str]) -> None:
    """Raises Failed when a part is not what it was. Of a sharded model every process must ask at the same time."""
    moved = [part for part, value in part_hashes(model, before).items() if value != before[part]]
    if moved:
        raise Failed(
            f"Weights that are frozen have changed ({', '.join(moved)}), so neither the adapter nor the reference "
            "belongs to the model any more. Go on from a checkpoint of before, and report this."
        )
