"""Tokens a second and peak memory of our SFT and GRPO steps against stock TRL, on the same batch in one run.

    python benchmarks/train_step.py            about 3 minutes on two CPU cores
    python benchmarks/train_step.py --quick    a minute

The paper's shape (1.3 k image tokens, 8 rollouts of 2 to 4 k tokens) scaled by a quarter in length: a Qwen2.5-VL of
random weights, LoRA on the language model, vision tower frozen. Stock TRL runs the vision tower for every rollout and
the prompt eight times; ours encodes a picture once and computes the prompt of a group once. Every variant runs in a
process of its own, and the losses are compared.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deepmmsearch.environment import environment

ROUNDS = 3


def model_folder(folder: Path, hidden: int) -> Path:
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from deepmmsearch.testing import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    ids = tokenizer.convert_tokens_to_ids
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden,
            "intermediate_size": 3 * hidden,
            "num_hidden_layers": 6,
            "num_attention_heads": hidden // 64,
            "num_key_value_heads": hidden // 128,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
            "eos_token_id": ids("<|im_end|>"),
            "pad_token_id": ids("<|endoftext|>"),
        },
        # about a tenth of the language model, as in Qwen2.5-VL-7B
        vision_config={
            "depth": 6,
            "hidden_size": hidden * 5 // 16,
            "intermediate_size": hidden * 15 // 16,
            "num_heads": 4,
            "out_hidden_size": hidden,
            "patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [2, 5],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = Qwen2VLImageProcessorPil(patch_size=14, size={"shortest_edge": 784, "longest_edge": 28 * 28 * 2000})
    processor.save_pretrained(folder)
    return folder


def rows_of(checkpoint: Any, count: int, shortest: int, longest: int) -> list[Any]:
    """`count` rollouts of one question with a picture of 320 tokens; what they sampled is random."""
    import numpy as np
    from PIL import Image

    from deepmmsearch.train.rows import RolloutRow

    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (16 * 28, 20 * 28, 3), dtype=np.uint8))
    ids = checkpoint.tokenizer.convert_tokens_to_ids
    words = rng.integers(20, len(checkpoint.tokenizer) - 1, 64)
    prompt = [
        ids("<|im_start|>"),
        ids("<|vision_start|>"),
        *[checkpoint.family.image_id] * 320,
        ids("<|vision_end|>"),
        *words,
    ]
    rows = []
    for number in range(count):
        length = shortest + (longest - shortest) * number // max(1, count - 1) - len(prompt)
        said = rng.integers(20, len(checkpoint.tokenizer) - 1, length)
        mask = np.concatenate([np.zeros(len(prompt), bool), np.arange(length) % 3 != 0])
        everything = np.concatenate([prompt, said]).astype(np.int32)
        everything[(everything == checkpoint.family.image_id) & (np.arange(len(everything)) >= len(prompt))] = 21
        rows.append(
            RolloutRow(everything, mask, np.zeros(len(everything), np.float32), len(prompt), (picture,), number - 2.0)
        )
    return rows


def grpo(folder: Path, kind: str, small: bool, out: Path) -> dict[str, Any]:
    import torch
    from trl import GRPOTrainer

    from deepmmsearch.policies.local.checkpoint import load_checkpoint
    from deepmmsearch.policies.local.vision import Eyes
    from deepmmsearch.train.grpo import FROZEN, make_trainer, trl_settings
    from deepmmsearch.train.lora import prepare_model
    from deepmmsearch.train.recipes import GrpoRecipe
    from deepmmsearch.train.rollout_trainer import RolloutSetup
    from deepmmsearch.train.rows import make_batch

    checkpoint = load_checkpoint(str(folder), torch.float32)
    rows = rows_of(checkpoint, 8, *((450, 550) if small else (500, 1000)))
    trl = {"per_device_train_batch_size": 8, "max_steps": 1, "use_cpu": True, "beta": 0.0, "save_steps": 1}
    recipe = GrpoRecipe(model=str(folder), output=out, trl=trl, rollouts={"share_prompts": kind != "features"})
    model = prepare_model(checkpoint.model, recipe.lora, FROZEN, 0)
    eyes = Eyes(checkpoint.model, checkpoint.family)
    stage = RolloutSetup([object()], None, None, checkpoint, checkpoint.renderer(), eyes)  # type: ignore[arg-type, list-item]
    trainer = make_trainer(recipe, trl_settings(recipe), stage, model, checkpoint, [])
    trainer.current_gradient_accumulation_steps = 1
    batch = make_batch(rows, checkpoint.tokenizer.pad_token_id, torch.device("cpu")) | {"share": 1.0}
    batch["num_items_in_batch"] = torch.tensor(1.0)
    # the sampling policy was another, so that the ratio of the two and its clipping are at work
    batch["old_per_token_logps"] = torch.full_like(batch["sampling_per_token_logps"], -5.6)
    if kind == "stock":
        pixels = checkpoint.image_processor(images=[r.views[0] for r in rows], do_resize=False, return_tensors="pt")
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        batch |= {"pixel_values": pixels["pixel_values"], "image_grid_thw": pixels["image_grid_thw"]}
        batch |= {"num_images": [1] * len(rows), "mm_token_type_ids": (ids == checkpoint.family.image_id).int()}
        trainer._get_per_token_logps_and_entropies = (  # type: ignore[method-assign]
            lambda *a, **k: GRPOTrainer._get_per_token_logps_and_entropies(trainer, *a, **k)
        )

    def step() -> float:
        loss = (
            GRPOTrainer._compute_loss(trainer, model, batch) if kind == "stock" else trainer._compute_loss(model, batch)
        )
        loss.backward()
        return float(loss)

    return timed(step, sum(len(row.ids) for row in rows))


def sft(folder: Path, kind: str, small: bool, out: Path) -> dict[str, Any]:
    import torch
    from peft import PeftModel

    from deepmmsearch.policies.local.checkpoint import load_checkpoint
    from deepmmsearch.train.collate import Collator, Example, PictureSet, encode_pictures
    from deepmmsearch.train.grpo import FROZEN
    from deepmmsearch.train.lora import Lora, prepare_model

    checkpoint = load_checkpoint(str(folder), torch.float32)
    rows = rows_of(checkpoint, 4, *((450, 550) if small else (500, 1000)))
    pictures = PictureSet(checkpoint.family)
    examples = [Example(row.ids, row.mask, tuple(pictures.add(view) for view in row.views)) for row in rows]
    features = None if kind == "stock" else encode_pictures(checkpoint.model, pictures)
    model = prepare_model(checkpoint.model, Lora(), FROZEN, 0)
    assert isinstance(model, PeftModel)
    collator = Collator(examples, pictures, checkpoint.tokenizer.pad_token_id, features)

    def step() -> float:
        loss = model(**collator([{"row": i} for i in range(len(examples))])).loss
        loss.backward()
        return float(loss)

    return timed(step, sum(len(example.ids) for example in examples))


def timed(step: Any, tokens: int) -> dict[str, Any]:
    loss = step()
    seconds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        step()
        seconds.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"loss": loss, "seconds": statistics.median(seconds), "tokens": tokens, "peak_mb": peak}


VARIANTS = {"GRPO": (grpo, ("stock", "features", "ours")), "SFT": (sft, ("stock", "ours"))}


def run(folder: Path, step: str, kind: str, small: bool) -> dict[str, Any]:
    flags = ["--quick"] if small else []
    command = [sys.executable, __file__, "--one", f"{step}:{kind}", "--folder", str(folder), *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    if done.returncode:
        raise SystemExit(f"{step} {kind} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.one:
        import torch

        torch.set_num_threads(1)
        step, kind = given.one.split(":")
        with tempfile.TemporaryDirectory() as out:
            print(json.dumps(VARIANTS[step][0](given.folder, kind, given.quick, Path(out))))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = model_folder(Path(place), 256 if given.quick else 512)
        print("processor seconds, one thread")
        print(f"{'step':6}{'variant':12}{'tokens/s':>10}{'ratio':>8}{'peak MB':>10}{'loss':>14}")
        for step, (_, kinds) in VARIANTS.items():
            rows: dict[str, dict[str, Any]] = {}
            for kind in kinds:
                row = rows[kind] = run(folder, step, kind, given.quick)
                ratio = rows["stock"]["seconds"] / row["seconds"]
                speed = row["tokens"] / row["seconds"]
                print(
                    f"{step:6}{kind:12}{speed:10.0f}{ratio:7.2f}x{row['peak_mb']:10.0f}{row['loss']:14.8f}", flush=True
                )
                apart = abs(row["loss"] - rows["stock"]["loss"])
                assert apart < 1e-5, f"{step} {kind}: the loss differs from stock TRL's by {apart}"
    print("stock: TRL's own forward; features: pictures encoded once; ours: prompts of a group computed once, too")


if __name__ == "__main__":
    main()
