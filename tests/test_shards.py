"""What is refused before a model is spread over processes; how sharded training goes: test_grpo_processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.checkpoints import tiny_checkpoint
from torch import nn

from deepmmsearch.errors import UserError
from deepmmsearch.train import shards

PLAIN: Any = SimpleNamespace(fsdp=None, device=torch.device("cpu"))


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As `accelerate launch` tells the processes of a sharded run."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    return monkeypatch


def test_what_computes_beside_the_training_has_weights_of_its_own_only_where_it_must(
    launched: pytest.MonkeyPatch,
) -> None:
    model: Any = nn.Linear(2, 2)
    copy = shards.apart(model, PLAIN)
    assert copy is not model and copy.weight is not model.weight and torch.equal(copy.weight, model.weight)
    assert model.weight.requires_grad and not copy.weight.requires_grad
    launched.delenv("ACCELERATE_USE_FSDP")
    assert shards.apart(model, PLAIN) is model
    by_recipe: Any = SimpleNamespace(fsdp=True, device=torch.device("cpu"))
    assert shards.apart(model, by_recipe) is not model


def test_weights_that_one_process_alone_has_are_refused(launched: pytest.MonkeyPatch) -> None:
    launched.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    with pytest.raises(UserError, match=r"fsdp_cpu_ram_efficient_loading .* Set it to false"):
        shards.apart(nn.Linear(2, 2), PLAIN)  # type: ignore[arg-type]


def test_zero_3_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(UserError, match=r"ZeRO-3 is not supported\. Use FSDP2"):
        shards.apart(nn.Linear(2, 2), PLAIN)  # type: ignore[arg-type]


def trainer(version: int = 2, named: list[str] | None = None, sharded: bool = True) -> Any:
    plugin = SimpleNamespace(fsdp_version=version, transformer_cls_names_to_wrap=named)
    state = SimpleNamespace(fsdp_plugin=plugin)
    return SimpleNamespace(is_fsdp_enabled=sharded, accelerator=SimpleNamespace(state=state))


def test_the_language_models_layers_are_the_units(tmp_path_factory: pytest.TempPathFactory) -> None:
    from deepmmsearch.policies.local.checkpoint import load_checkpoint
    from deepmmsearch.train.lora import Lora, prepare_model

    base = tiny_checkpoint(tmp_path_factory.mktemp("base"), prompt="atlas")
    model = load_checkpoint(str(base), torch.float32).model
    with pytest.raises(UserError, match=r"cannot train all weights here\. Train a LoRA"):
        shards.shard_layers(trainer(), model)
    prepare_model(model, Lora(), ("vision", "projector"), 0)
    with pytest.raises(UserError, match=r"FSDP 1 is not supported\. Set fsdp_version: 2"):
        shards.shard_layers(trainer(version=1), model)
    for asked, named, expected in (
        (True, None, ["Qwen2_5_VLDecoderLayer"]),
        (True, ["Mine"], ["Mine"]),
        (False, None, None),
    ):
        made = trainer(named=named, sharded=asked)
        shards.shard_layers(made, model)
        assert made.accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap == expected
