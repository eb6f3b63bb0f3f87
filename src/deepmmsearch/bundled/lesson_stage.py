"""Stages that teach lessons: the text alone, then pictures and text."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Literal

import torch
import torch.distributed as dist
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from deepmmsearch.atlas.names import Split
from deepmmsearch.bundled import small
from deepmmsearch.bundled.fast_vision import speed_up_vision
from deepmmsearch.bundled.induction import start_with_induction
from deepmmsearch.bundled.lesson_batches import Encoder, batches, collate
from deepmmsearch.bundled.lessons import LESSONS
from deepmmsearch.bundled.pretrain_recipe import LessonStageSettings, PretrainRecipe
from deepmmsearch.bundled.small_tokenizer import build_tokenizer
from deepmmsearch.bundled.stage_run import StageRun, optimizers, save_weights, schedule, update

BEFORE = {"keys": "aligned", "scenes": "keys", "boxes": "scenes", "joint": "boxes"}
"""Which stage's result a stage starts from."""


@torch.no_grad()
def evaluate(
    model: Qwen2_5_VLForConditionalGeneration,
    encode: Encoder,
    lessons: dict[str, float],
    count: int = 192,
    split: Split = "eval",
) -> dict[str, float]:
    """Share of turns whose every token is predicted, by kind of turn; names, flags and scenes held out."""
    rng = random.Random("held out")
    names = rng.choices(list(lessons), list(lessons.values()), k=count)
    rows = sorted((encode(LESSONS[name](rng, split)) for name in names), key=lambda row: (row[3] is None, len(row[0])))
    right: dict[str, list[bool]] = defaultdict(list)
    model.eval()
    for i in range(0, len(rows), 16):
        batch = collate(rows[i : i + 16], encode.pad, int(encode.image))
        labels = batch.pop("labels")
        predicted = model(**batch).logits.argmax(-1)
        for b, (_, _, spans, _) in enumerate(rows[i : i + 16]):
            for kind, begin, end in spans:
                right[kind].append(bool((predicted[b, begin - 1 : end - 1] == labels[b, begin:end]).all()))
    model.train()
    return {kind: round(sum(r) / len(r), 3) for kind, r in sorted(right.items())}


def teach(
    rank: int, recipe: PretrainRecipe, name: Literal["text", "keys", "scenes", "boxes", "joint"], port: int
) -> None:
    stage: LessonStageSettings = getattr(recipe, name)
    torch.set_num_threads(1)
    if stage.workers > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=stage.workers)
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer()
    encode = Encoder(tokenizer)
    model = start(recipe, tokenizer) if name == "text" else load(recipe, tokenizer, BEFORE[name])
    speed_up_vision(model)
    if name != "text":
        model.model.visual.requires_grad_(False)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad and not (name == "text" and "visual" in n)]
    optims, run = optimizers(named, stage), StageRun(recipe.output, name, rank, stage)
    begin = run.resume(model, optims)
    for step, rows in enumerate(batches(stage, encode, f"{recipe.seed} {name} {rank}", begin), begin):
        if step >= stage.steps:
            break
        loss = model(**collate(rows, encode.pad, int(encode.image))).loss
        loss.backward()
        update(named, optims, schedule(step, stage), stage.workers)
        run.loss(step, loss.item())
        if rank == 0 and (step + 1) % recipe.evaluate_every == 0:
            run.log(step + 1, **evaluate(model, encode, stage.lessons))
        if (step + 1) % recipe.save_every == 0:
            run.save(step + 1, model, optims)
    if rank == 0:
        run.log(stage.steps, final=True, **evaluate(model, encode, stage.lessons, 640))
        save_weights(model.state_dict(), recipe.output / f"{name}.pt")
        run.finish()


def start(recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    model = small.build_model(tokenizer, recipe.hidden, recipe.layers, recipe.inner)
    numbers = {n: int(tokenizer.convert_tokens_to_ids(str(n))) for n in range(small.VIEW[0] + 1)}
    start_with_induction(model, numbers)
    return model


def load(recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast, name: str) -> Qwen2_5_VLForConditionalGeneration:
    model = small.build_model(tokenizer, recipe.hidden, recipe.layers, recipe.inner)
    model.load_state_dict(torch.load(recipe.output / f"{name}.pt", weights_only=True))
    return model
