"""Qwen2.5-VL-7B on one GPU: steps of SFT and GRPO, and sampling in the trainer's process.

    python benchmarks/gpu.py                    writes docs/results/gpu.md; needs a GPU of 80 GB
    python benchmarks/gpu.py --tiny --out x.md  the same on a tiny model, on CPU: does it run?

The model is built on the GPU from its public configuration with random weights, so nothing is downloaded; how long a
step takes does not depend on what the weights are. What does not fit into memory is said in the table.

FLOPs are those the mathematics needs; what checkpointing computes again is not counted. With N weights in linear layers
of the language model (the head among them), L layers of width d (heads x size of a head), for T tokens of one row:
  forward          2 N T + 2 L d T^2                 (products of queries, keys and values, the causal half)
  forward+backward 4 N T + 6 L d T^2 + 6 N_lora T    (frozen weights have no gradient: 4, not 6)
  behind a prompt of P tokens, C tokens more cost the attention 2 L d (2 C P + C^2) forward
  vision tower     2 N_v patches + its attention     (forward only: it is frozen)
MFU = FLOPs / seconds / peak. Peaks: dense bf16, of NVIDIA's data sheets.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    TrainerCallback,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from deepmmsearch.policies.agent_card import AgentCard
from deepmmsearch.policies.local import LocalPolicy
from deepmmsearch.policies.local.checkpoint import Checkpoint
from deepmmsearch.policies.local.families import find_family
from deepmmsearch.policies.local.vision import Eyes
from deepmmsearch.testing import tiny_tokenizer
from deepmmsearch.train.collate import Collator, Example, PictureSet
from deepmmsearch.train.generation import SamplerSettings, Twin, policy_of
from deepmmsearch.train.grpo import FROZEN, make_trainer, trl_settings
from deepmmsearch.train.lora import Lora, prepare_model
from deepmmsearch.train.parts import part_of
from deepmmsearch.train.recipes import GrpoRecipe
from deepmmsearch.train.rollout_trainer import RolloutSetup, RolloutTrainer
from deepmmsearch.train.rows import RolloutRow
from deepmmsearch.train.sft import SftRecipe, TrajectoryTrainer
from deepmmsearch.train.sft import trl_settings as sft_settings
from deepmmsearch.types import Observation, Prompt, Question, TextSearch, Trajectory, Turn

# TFLOP/s, dense bf16; the first name that the device's own contains
PEAKS = {"H200": 989.0, "H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "A100": 312.0}
PROMPT = Prompt("bench", "deepmmsearch-r1", "Look at the picture.", "{question}")


@dataclass(frozen=True)
class Scale:
    """`cells`: width and height of the picture in features; lengths in tokens. `words`: of what a tool answers."""

    text: dict[str, Any]
    vision: dict[str, Any]
    cells: tuple[int, int]
    sft_tokens: int
    rollout_tokens: tuple[int, int]
    rollouts: int
    episodes: int
    new_tokens: int
    turns: int
    words: int
    steps: int


# Qwen/Qwen2.5-VL-7B-Instruct, config.json; a picture of 40 x 32 cells has 1280 features
FULL = Scale(
    text={
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    vision={
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
    cells=(40, 32),
    sft_tokens=4096,
    rollout_tokens=(2048, 4096),
    rollouts=8,
    episodes=64,
    new_tokens=128,
    turns=3,
    words=300,
    steps=5,
)
TINY = Scale(
    text={
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    },
    vision={
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 64,
        "window_size": 112,
        "fullatt_block_indexes": [1],
    },
    cells=(3, 2),
    sft_tokens=64,
    rollout_tokens=(48, 64),
    rollouts=4,
    episodes=4,
    new_tokens=4,
    turns=2,
    words=5,
    steps=1,
)


@dataclass(frozen=True)
class Measured:
    """`flops` of one step; `seconds` and `flops` None where a step did not fit into memory."""

    name: str
    tokens: int
    seconds: float | None
    flops: float | None
    peak_gb: float | None
    note: str = ""


def build(scale: Scale, folder: Path, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """The model on the device, and beside it in `folder` a tokenizer and an image processor."""
    tokenizer = tiny_tokenizer()
    ids = tokenizer.convert_tokens_to_ids
    special = {"eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>"), "bos_token_id": None}
    config = Qwen2_5_VLConfig(
        text_config={"vocab_size": len(tokenizer), **scale.text, **special},
        vision_config={"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, **scale.vision},
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model: PreTrainedModel = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=dtype)
    most = 28 * 28 * scale.cells[0] * scale.cells[1]
    processor = Qwen2VLImageProcessorPil(patch_size=14, size={"shortest_edge": 784, "longest_edge": most})
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    family = find_family(config, tokenizer, processor)
    return Checkpoint(str(folder), config, tokenizer, processor, AgentCard(), family, model.to(device))


def picture(scale: Scale, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    width, height = scale.cells
    return Image.fromarray(rng.integers(0, 255, (28 * height, 28 * width, 3), dtype=np.uint8))


def row(scale: Scale, checkpoint: Checkpoint, length: int, number: int, view: Image.Image) -> RolloutRow:
    """A rollout of `length` tokens with one picture in its prompt; two thirds of the rest count as sampled."""
    # the same prompt for all, then something else for each
    rng = np.random.default_rng(number)
    ids = checkpoint.tokenizer.convert_tokens_to_ids
    cells = [checkpoint.family.image_id] * (scale.cells[0] * scale.cells[1])
    words = [20 + i % 10 for i in range(64 if scale is FULL else 4)]
    prompt = [ids("<|im_start|>"), ids("<|vision_start|>"), *cells, ids("<|vision_end|>"), *words]
    rest = rng.integers(20, len(checkpoint.tokenizer) - 1, length - len(prompt)).astype(np.int32)
    rest[rest == checkpoint.family.image_id] = 21
    everything = np.concatenate([np.array(prompt, np.int32), rest])
    mask = (np.arange(length) >= len(prompt)) & (np.arange(length) % 3 != 0)
    return RolloutRow(
        everything, mask, np.full(length, -5.0, np.float32), len(prompt), (view,), float(number % 2) - 0.5
    )


# FLOPs


def linear_weights(model: torch.nn.Module, part: str) -> int:
    """Weights that every token is multiplied with; an embedding is looked up."""
    return sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv3d)
        and "lora_" not in name
        and part_of(name.removeprefix("base_model.model.") + ".weight") == part
    )


def adapter_weights(model: torch.nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)


def attention(model: Any, tokens: int, before: int = 0) -> float:
    """FLOPs of a forward pass of the language model's attention over `tokens` behind `before`."""
    config = model.config.get_text_config()
    width = config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    return float(2 * config.num_hidden_layers * width * (2 * tokens * before + tokens**2))


def vision_flops(model: Any, scale: Scale) -> float:
    """Forward; the projector reads a quarter as many tokens, four times as wide."""
    config = model.config.vision_config
    patches = 4 * scale.cells[0] * scale.cells[1]
    full = len(config.fullatt_block_indexes)
    in_window = (config.window_size // config.patch_size) ** 2
    reach = full * patches + (config.depth - full) * min(in_window, patches)
    products = 4 * config.hidden_size * patches * reach
    tower, projector = (linear_weights(model, part) for part in ("vision", "projector"))
    return float(2 * tower * patches + 2 * projector * patches / 4 + products)


def sft_flops(model: Any, scale: Scale) -> float:
    tokens = scale.sft_tokens
    language = 4 * linear_weights(model, "language") * tokens + 3 * attention(model, tokens)
    return language + 6 * adapter_weights(model) * tokens + vision_flops(model, scale)


def grpo_flops(model: Any, rows: Sequence[RolloutRow], shared: bool) -> float:
    """The update and the reference's forward pass; pictures are encoded once in a run, before."""
    start = rows[0].start
    prompts = 1 if shared else len(rows)
    tokens = prompts * start + sum(len(r.ids) - start for r in rows)
    products = prompts * attention(model, start) + sum(attention(model, len(r.ids) - start, start) for r in rows)
    weights, own = linear_weights(model, "language"), adapter_weights(model)
    return (4 + 2) * weights * tokens + (3 + 1) * products + 6 * own * tokens


# Steps


class Clock(TrainerCallback):
    """Seconds of each optimizer step; the first one warms up."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _wait()
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _wait()
        self.steps.append(time.perf_counter() - self._began)

    @property
    def seconds(self) -> float:
        return statistics.median(self.steps[1:])


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextlib.contextmanager
def _memory() -> Iterator[list[float]]:
    """The peak in GB of what runs within, as the list's only element afterwards; empty on CPU."""
    gc.collect()
    peak: list[float] = []
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield peak
    if torch.cuda.is_available():
        peak.append(torch.cuda.max_memory_allocated() / 1e9)


def trl(scale: Scale, tiny: bool, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"max_steps": 1 + scale.steps, "save_strategy": "no", "learning_rate": 1e-6}
    return settings | {"logging_steps": 1, "use_cpu": tiny, "bf16": not tiny} | changes


def sft(scale: Scale, place: Path, tiny: bool, checkpoint: Checkpoint) -> Measured:
    made = [row(scale, checkpoint, scale.sft_tokens, n, picture(scale, n)) for n in range(1 + scale.steps)]
    pictures = PictureSet(checkpoint.family)
    examples = [Example(r.ids, r.mask, tuple(pictures.add(view) for view in r.views)) for r in made]
    settings = trl(scale, tiny, per_device_train_batch_size=1, activation_checkpointing=True)
    recipe = SftRecipe(model=checkpoint.source, data=[place], output=place / "sft", trl=settings)
    model, clock = prepare_model(checkpoint.model, Lora(r=8), FROZEN, 0), Clock()
    trainer = TrajectoryTrainer(
        model=model,
        args=sft_settings(recipe),
        data_collator=Collator(examples, pictures, checkpoint.tokenizer.pad_token_id),
        train_dataset=Dataset.from_dict({"row": list(range(len(made))), "length": [scale.sft_tokens] * len(made)}),
        processing_class=checkpoint.tokenizer,
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    with _memory() as peak:
        trainer.train()
    name = f"SFT, LoRA r = 8, {scale.sft_tokens} tokens, checkpointing"
    return Measured(name, scale.sft_tokens, clock.seconds, sft_flops(model, scale), peak[0] if peak else None)


class Updates(RolloutTrainer):
    """Updates on the same rollouts again and again."""

    rows: list[RolloutRow]

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        (batch,) = self._batches([self.rows], sum(int(r.mask.sum()) for r in self.rows))
        return batch


def grpo(scale: Scale, place: Path, tiny: bool, checkpoint: Checkpoint, share: bool) -> Measured:
    """One update on a group, with the reference's pass; pictures were encoded before, as in a run."""
    shortest, longest = scale.rollout_tokens
    lengths = [shortest + (longest - shortest) * n // max(1, scale.rollouts - 1) for n in range(scale.rollouts)]
    view = picture(scale, 0)
    rows = [row(scale, checkpoint, length, n, view) for n, length in enumerate(lengths)]
    settings = trl(scale, tiny, per_device_train_batch_size=scale.rollouts, num_generations=scale.rollouts)
    settings |= {"activation_checkpointing": not share, "beta": 0.001}
    recipe = GrpoRecipe(
        model=checkpoint.source,
        output=place / f"grpo-{share}",
        trl=settings,
        rollouts={"share_prompts": share},
        alarms={"kl": None},
    )
    eyes = Eyes(checkpoint.model, checkpoint.family)
    model, clock = prepare_model(checkpoint.model, Lora(r=8), FROZEN, 0), Clock()
    # one question, never asked: the rollouts are there
    stage = RolloutSetup([Question("q", "Which?")], None, None, checkpoint, checkpoint.renderer(), eyes)  # type: ignore[arg-type]
    trainer = make_trainer(recipe, trl_settings(recipe), stage, model, checkpoint, [clock], Updates)
    assert isinstance(trainer, Updates)
    trainer.rows = rows
    with _memory() as peak:
        trainer.train()
    way = "prompt computed once" if share else "checkpointing"
    name = f"GRPO update, {scale.rollouts} rollouts of {shortest} to {longest} tokens, {way}"
    return Measured(name, sum(lengths), clock.seconds, grpo_flops(model, rows, share), peak[0] if peak else None)


def generation(scale: Scale, place: Path, tiny: bool, checkpoint: Checkpoint, slots: bool) -> Measured:
    """Episodes side by side; between their turns a tool answers at once."""
    settings = SamplerSettings(1.0, 0, scale.new_tokens, scale.episodes, scale.episodes if slots else None)
    policy = policy_of(Twin(checkpoint.model), checkpoint, settings)
    with _memory() as peak:
        began = time.perf_counter()
        asyncio.run(_played(policy, 1, scale, "warm"))
        _wait()
        began = time.perf_counter()
        sampled = asyncio.run(_played(policy, scale.episodes, scale, "timed"))
        _wait()
        seconds = time.perf_counter() - began
    way = "kept caches (slots)" if slots else "prompts read anew (local)"
    name = f"sampling, {scale.episodes} episodes of {scale.turns} turns, {way}"
    return Measured(name, sampled, seconds, None, peak[0] if peak else None)


async def _played(policy: LocalPolicy, count: int, scale: Scale, name: str) -> int:
    async def episode(number: int) -> int:
        trajectory = Trajectory(Question(f"{name}-{number}", "Which?", (picture(scale, number // 8),)), PROMPT)
        sampled = 0
        for _ in range(scale.turns):
            completion = await policy.act(trajectory)
            sampled += len(completion.ids or ())
            found = Observation("A passage. " * (scale.words // 2))
            turn = Turn(completion, TextSearch("anything"), found)
            trajectory = Trajectory(trajectory.question, PROMPT, turns=(*trajectory.turns, turn))
        return sampled

    return sum(await asyncio.gather(*(episode(n) for n in range(count))))


# Report


STEPS = {
    "sft": lambda *given: sft(*given),
    "grpo": lambda *given: grpo(*given, False),
    "grpo-shared": lambda *given: grpo(*given, True),
    "local": lambda *given: generation(*given, False),
    "slots": lambda *given: generation(*given, True),
}


def measure(name: str, scale: Scale, tiny: bool) -> Measured:
    """One of the steps on a model of its own."""
    device = torch.device("cpu" if tiny else "cuda")
    with tempfile.TemporaryDirectory() as place:
        checkpoint = build(scale, Path(place), device, torch.float32 if tiny else torch.bfloat16)
        try:
            return STEPS[name](scale, Path(place), tiny, checkpoint)
        except torch.OutOfMemoryError:
            return Measured(name, 0, None, None, None, "does not fit")


def peak_of(device: str, given: float | None) -> float | None:
    return given or next((peak for name, peak in PEAKS.items() if name in device), None)


def table(measured: Sequence[Measured], device: str, peak: float | None) -> str:
    """`peak` in TFLOP/s."""
    lines = ["| step | tokens/s | seconds | TFLOP/s | MFU | peak memory |", "|---|---:|---:|---:|---:|---:|"]
    for m in measured:
        if m.seconds is None:
            lines.append(f"| {m.name} | {m.note} | | | | |")
            continue
        speed = m.flops / m.seconds / 1e12 if m.flops else None
        mfu = f"{100 * speed / peak:.0f} %" if speed and peak else "–"
        memory = f"{m.peak_gb:.1f} GB" if m.peak_gb is not None else "–"
        shown = f"{speed:.3g}" if speed else "–"
        lines.append(f"| {m.name} | {m.tokens / m.seconds:,.0f} | {m.seconds:.3g} | {shown} | {mfu} | {memory} |")
    of = f"{peak:g} TFLOP/s (dense bf16)" if peak else "not known; give --peak"
    return "\n".join([f"Device: {device}; torch {torch.__version__}. Peak: {of}.", "", *lines, ""])


HEAD = """# Qwen2.5-VL-7B on one GPU

```
python benchmarks/gpu.py
```

Random weights of the public configuration, bf16, built on the GPU. A picture has 1,280 features. Tokens a second count
whole rollouts, prompts included, and for sampling what was sampled. How FLOPs are counted is said in the script.

"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a tiny model on CPU")
    parser.add_argument("--out", type=Path, default=Path("docs/results/gpu.md"))
    parser.add_argument("--peak", type=float, help="peak TFLOP/s of a device that is not in the table")
    parser.add_argument("--only", nargs="+", choices=tuple(STEPS), default=list(STEPS))
    given = parser.parse_args(arguments)
    if not given.tiny and not torch.cuda.is_available():
        parser.error("there is no GPU; see whether the script runs with --tiny --out FILE")
    device = "CPU, a tiny model" if given.tiny else torch.cuda.get_device_name()
    measured = [measure(name, TINY if given.tiny else FULL, given.tiny) for name in given.only]
    text = HEAD + table(measured, device, peak_of(device, given.peak))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
