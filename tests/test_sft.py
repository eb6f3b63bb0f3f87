"""Supervised fine-tuning: labels, features, training, resuming, merging, and what we rely on in TRL."""

from __future__ import annotations

import dataclasses
import inspect
import json
import random
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from trl import SFTConfig, SFTTrainer

from deepmmsearch.cli.sft import command
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.policies.local.checkpoint import Checkpoint, load_checkpoint
from deepmmsearch.progress import Step
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.testing import SPECIAL_TOKENS, tiny_tokenizer
from deepmmsearch.train import sft
from deepmmsearch.train.collate import (
    IGNORED,
    Collator,
    PictureSet,
    encode_pictures,
    make_example,
    make_examples,
)
from deepmmsearch.train.lora import prepare_model
from deepmmsearch.train.order import LengthGrouped
from deepmmsearch.train.parts import parameter_hash
from deepmmsearch.train.plots import COLOURS as CURVES
from deepmmsearch.train.plots import plot_curves, read_metrics
from deepmmsearch.train.sft import FIXED, SftRecipe, SftResult, TrajectoryTrainer, fine_tune, trl_settings
from deepmmsearch.train.sft import train as train_recipe
from deepmmsearch.types import Answer, Completion, ImageSearch, Observation, Prompt, Question, Trajectory, Turn

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}
PROMPT = Prompt("test", "deepmmsearch-r1", "Look.", "{question}", {"image": "Go on."})


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    torch.manual_seed(0)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():
        # LoRA leaves the tied embeddings as they are; at their initial scale no logit could stand out
        model.get_input_embeddings().weight.mul_(20)
    return model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("base")
    tokenizer = tiny_tokenizer()
    make_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, temporal_patch_size=2).save_pretrained(folder)
    (folder / "agent.json").write_text(json.dumps({"prompt": "atlas", "min_pixels": 3136, "max_pixels": 6272}))
    return folder


@pytest.fixture
def checkpoint(base: Path) -> Checkpoint:
    return load_checkpoint(str(base), torch.float32)


def picture(colour: str, size: tuple[int, int] = (60, 60)) -> Image.Image:
    return Image.new("RGB", size, COLOURS[colour])


def answer(text: str) -> Turn:
    return Turn(Completion(f"<reason>I see.</reason><answer>{text}</answer>"), Answer(text))


def search(*thumbnails: Image.Image) -> Turn:
    text = "<reason>I search.</reason><img_search><img></img_search>"
    return Turn(Completion(text), ImageSearch(), Observation("[1] match: a flag", images=thumbnails))


def play(colour: str, *turns: Turn, image: Image.Image | None = None, stop: Any = "answer") -> Trajectory:
    question = Question(colour, "Which colour?", (image,) if image is not None else ())
    return Trajectory(question, PROMPT, turns=(*turns, answer(colour)), stop=stop)


def trajectories() -> list[Trajectory]:
    """Without a picture, with one, and with three of two sizes; each colour in each form."""
    played = []
    for colour in COLOURS:
        played.append(play(colour))
        played.append(play(colour, image=picture(colour)))
        thumbnails = (picture(colour, (28, 90)), picture("red", (40, 40)))
        played.append(play(colour, search(*thumbnails), image=picture(colour)))
    return played


def recipe(base: Path, output: Path, **changes: Any) -> SftRecipe:
    trl: dict[str, Any] = {
        "max_steps": 12,
        "per_device_train_batch_size": 3,
        "learning_rate": 0.02,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "logging_steps": 2,
        "save_steps": 4,
        "activation_checkpointing": False,
        "use_cpu": True,
    }
    settings: dict[str, Any] = {"model": str(base), "data": [output], "output": output, "save_dtype": "float32"}
    return SftRecipe(**settings | {"trl": trl | changes.pop("trl", {})} | changes)


def train(base: Path, output: Path, **changes: Any) -> SftResult:
    settings = recipe(base, output, **changes)
    return fine_tune(settings, trajectories(), load_checkpoint(str(base), torch.float32), report=lambda line: None)


def batch_of(checkpoint: Checkpoint, played: Sequence[Trajectory], cached: bool = False) -> dict[str, Any]:
    pictures = PictureSet(checkpoint.family)
    examples, _ = make_examples(played, checkpoint.renderer(), pictures, 500)
    features = encode_pictures(checkpoint.model, pictures) if cached else None
    collator = Collator(examples, pictures, checkpoint.tokenizer.pad_token_id, features)
    return collator([{"row": i} for i in range(len(examples))])


def losses(output: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(output / "metrics.jsonl") if "loss" in row]


# data


def test_labels_are_the_policys_tokens_and_nothing_else(checkpoint: Checkpoint) -> None:
    played = play("red", search(picture("blue")), image=picture("red"))
    batch = batch_of(checkpoint, [played])
    labels = batch["labels"][0]
    learnt = checkpoint.tokenizer.decode(labels[labels != IGNORED])
    assert learnt == "".join(f"{turn.completion.text}<|im_end|>" for turn in played.turns)
    assert torch.equal(labels[labels != IGNORED], batch["input_ids"][0][labels != IGNORED])


def test_labels_equal_the_renderers_mask(checkpoint: Checkpoint) -> None:
    for played in trajectories():
        sequence = checkpoint.renderer().sequence(played, teacher=True)
        example = make_example(played, checkpoint.renderer(), PictureSet(checkpoint.family))
        assert example.mask.sum() == sum(sequence.mask)
        assert (example.labels[example.mask] == example.ids[example.mask]).all()
        assert (example.labels[~example.mask] == IGNORED).all()


def test_ids_sampled_by_another_model_are_not_taught(checkpoint: Checkpoint) -> None:
    written = play("red")
    foreign = dataclasses.replace(written.turns[0], completion=Completion(written.turns[0].completion.text, ids=(7, 8)))
    played = dataclasses.replace(written, turns=(foreign,))
    assert torch.equal(batch_of(checkpoint, [played])["labels"], batch_of(checkpoint, [written])["labels"])


def test_trajectories_with_and_without_pictures_share_a_batch(checkpoint: Checkpoint) -> None:
    played = trajectories()[:3]
    batch = batch_of(checkpoint, played)
    per_row = (batch["input_ids"] == checkpoint.family.image_id).sum(-1).tolist()
    # a view of 56 x 56 has 4 features; the thumbnail of 28 x 90 is seen at 56 x 112, the one of 40 x 40 at 56 x 56
    assert per_row == [0, 4, 4 + 8 + 4]
    assert int(batch["image_grid_thw"].prod(-1).sum()) == 4 * sum(per_row) == len(batch["pixel_values"])
    with torch.no_grad():
        together = checkpoint.model(**batch).logits
        for i, one in enumerate(played):
            alone = batch_of(checkpoint, [one])
            length = int(alone["attention_mask"].sum())
            logits = checkpoint.model(**alone).logits[0, :length]
            assert torch.allclose(logits, together[i, :length], atol=1e-5)


def test_kept_features_give_the_same_outputs_as_pixels(checkpoint: Checkpoint) -> None:
    pixels, kept = (batch_of(checkpoint, trajectories(), cached) for cached in (False, True))
    assert "pixel_values" not in kept
    with torch.no_grad():
        assert torch.allclose(checkpoint.model(**pixels).logits, checkpoint.model(**kept).logits, atol=1e-5)


def test_a_missing_feature_is_never_trained_over(checkpoint: Checkpoint) -> None:
    pictures = PictureSet(checkpoint.family)
    examples, _ = make_examples([play("red", image=picture("red"))], checkpoint.renderer(), pictures, 500)
    damaged = [dataclasses.replace(examples[0], ids=examples[0].ids[examples[0].ids != checkpoint.family.image_id])]
    damaged[0] = dataclasses.replace(damaged[0], mask=examples[0].mask[: len(damaged[0].ids)])
    with pytest.raises(AssertionError, match="0 placeholders for 4 image features"):
        Collator(damaged, pictures, 0)([{"row": 0}])


def test_equal_pictures_are_kept_once(checkpoint: Checkpoint) -> None:
    pictures = PictureSet(checkpoint.family)
    make_examples(trajectories(), checkpoint.renderer(), pictures, 500)
    # 3 questions' pictures, 3 tall thumbnails; the small red one equals the question's red picture in the model's view
    assert len(pictures) == 6


def test_broken_off_and_too_long_trajectories_are_left_out(checkpoint: Checkpoint) -> None:
    long = play("red", *[search()] * 40)
    played = [play("red"), play("red", stop="error"), play("red", stop="length"), long]
    examples, left_out = make_examples(played, checkpoint.renderer(), PictureSet(checkpoint.family), 200)
    assert (len(examples), left_out) == (1, 3)
    with pytest.raises(UserError, match=r"found 3 trajectories.*over 200 tokens"):
        make_examples(played[1:], checkpoint.renderer(), PictureSet(checkpoint.family), 200)
    with pytest.raises(UserError, match="found none"):
        make_examples([], checkpoint.renderer(), PictureSet(checkpoint.family), 200)


@given(st.lists(st.integers(1, 99), min_size=1, max_size=300), st.integers(1, 7), st.integers(0, 3))
def test_length_grouping_takes_each_example_once_and_repeats_itself(lengths: list[int], batch: int, epoch: int) -> None:
    sampler = LengthGrouped(lengths, batch, seed=1, epoch=lambda: epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(lengths))) and order == list(sampler)


def test_length_grouping_makes_batches_of_similar_length_in_another_order_each_epoch() -> None:
    lengths = [(i * 37) % 100 for i in range(100)]
    first, second = (list(LengthGrouped(lengths, 10, seed=1, epoch=lambda e=e: e)) for e in (0, 1))
    for i in range(0, 100, 10):
        batch = [lengths[number] for number in first[i : i + 10]]
        assert max(batch) - min(batch) < 10
    assert first != second and first != sorted(first, key=lengths.__getitem__)


# training


def token_mean(base: Path, settings: SftRecipe) -> dict[str, torch.Tensor]:
    """Gradients of the adapter for the mean over all tokens that are taught, each trajectory computed alone."""
    checkpoint = load_checkpoint(str(base), torch.float32)
    batches = [batch_of(checkpoint, [played]) for played in trajectories()]
    model = prepare_model(checkpoint.model, settings.lora, settings.freeze, settings.seed)
    losses, count = [], 0
    for batch in batches:
        labels = batch.pop("labels")[0, 1:]
        logits = model(**batch).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum"))
        count += int((labels != IGNORED).sum())
    (torch.stack(losses).sum() / count).backward()
    return {n.replace(".default", ""): p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("rows", "parts"), [(9, 1), (3, 3), (2, 5), (1, 9)])
def test_the_loss_does_not_depend_on_how_a_step_is_split(base: Path, tmp_path: Path, rows: int, parts: int) -> None:
    split = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": parts}
    # plain descent, so that what the weights moved by is the gradient
    plain = {
        "optim": "sgd",
        "learning_rate": 1.0,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1e9,
        "max_steps": 1,
    }
    settings = recipe(base, tmp_path / "run", trl={**split, **plain, "warmup_steps": 0, "logging_steps": 1})
    fine_tune(settings, trajectories(), load_checkpoint(str(base), torch.float32), report=lambda line: None)
    learnt = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    expected = token_mean(base, settings)
    for name, gradient in expected.items():
        if "lora_B" in name:
            torch.testing.assert_close(-learnt[name], gradient, rtol=1e-4, atol=1e-7, msg=name)
    assert sum("lora_B" in name for name in expected) >= 7


def test_a_run_that_began_with_another_loss_is_not_gone_on_with(base: Path, tmp_path: Path) -> None:
    split = {"max_steps": 1, "gradient_accumulation_steps": 3}
    train(base, tmp_path / "run", trl=split)
    mark = tmp_path / "run" / "output.json"
    said = json.loads(mark.read_text())
    del said["settings"]["loss"]
    mark.write_text(json.dumps(said))
    with pytest.raises(UserError, match="loss: not set -> mean over the tokens of a step"):
        train(base, tmp_path / "run", trl=split)


def test_weights_below_the_adapter_stay_as_they_were(base: Path, tmp_path: Path, monkeypatch: Any) -> None:
    class Careless(TrajectoryTrainer):
        def training_step(self, model: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            with torch.no_grad():
                next(p for n, p in model.named_parameters() if "base_layer" in n).add_(1e-3)
            return super().training_step(model, *args, **kwargs)

    monkeypatch.setattr(sft, "TrajectoryTrainer", Careless)
    with pytest.raises(Failed, match=r"frozen have changed \(language\)"):
        train(base, tmp_path / "run", trl={"max_steps": 1})
    assert not (tmp_path / "run" / "merged").exists()


@pytest.mark.parametrize("cached", [False, True], ids=["pixels", "features"])
def test_training_lowers_the_loss_and_leaves_the_vision_tower_alone(base: Path, tmp_path: Path, cached: bool) -> None:
    lora = {"r": 16, "alpha": 64}
    result = train(base, tmp_path / "run", cache_features=cached, lora=lora, trl={"max_steps": 30})
    curve = losses(tmp_path / "run")
    assert len(curve) == 15 and curve[-1] < 0.6 * curve[0]
    before, after = (load_checkpoint(str(folder), torch.float32).model for folder in (base, result.merged))
    assert parameter_hash(before, ["vision"]) == parameter_hash(after, ["vision"])
    assert parameter_hash(before, ["projector"]) == parameter_hash(after, ["projector"])
    assert parameter_hash(before, ["language"]) != parameter_hash(after, ["language"])
    assert parameter_hash(before, ["projector"]) != parameter_hash(before, ["vision"])


def test_the_result_is_an_ordinary_checkpoint_with_all_that_belongs_to_it(base: Path, tmp_path: Path) -> None:
    result = train(base, tmp_path / "run", save_dtype="bfloat16", trl={"max_steps": 1})
    assert (result.examples, result.left_out) == (9, 0)
    copied = {path.name for path in base.iterdir()} - {"model.safetensors", "config.json", "generation_config.json"}
    assert "agent.json" in copied and "preprocessor_config.json" in copied
    for name in copied:
        assert (result.merged / name).read_bytes() == (base / name).read_bytes()
    configs = [json.loads((folder / "config.json").read_text()) for folder in (base, result.merged)]
    assert configs[1] == configs[0] | {"dtype": "bfloat16"}
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(result.merged)
    assert model.dtype == torch.bfloat16
    assert not any("lora" in name for name in model.state_dict())
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    described = SftRecipe.model_validate(yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text()))
    assert described == recipe(base, tmp_path / "run", save_dtype="bfloat16", trl={"max_steps": 1})


def test_the_merged_weights_compute_what_base_and_adapter_do(base: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    result = train(base, tmp_path / "run")
    base_checkpoint = load_checkpoint(str(base), torch.float32)
    batch = batch_of(base_checkpoint, trajectories())
    adapter = PeftModel.from_pretrained(base_checkpoint.model, str(tmp_path / "run" / "checkpoints" / "checkpoint-12"))
    merged = load_checkpoint(str(result.merged), torch.float32).model
    with torch.no_grad():
        assert torch.allclose(adapter.eval()(**batch).logits, merged.eval()(**batch).logits, atol=1e-4)


class Interrupted(Exception):
    pass


def interrupt(model: PreTrainedModel, step: int) -> dict[str, float]:
    if step == 7:
        raise Interrupted
    return {"answers": step / 10}


@pytest.mark.parametrize("damage", [False, True], ids=["whole", "last checkpoint cut off"])
def test_an_interrupted_run_goes_on_to_the_same_weights(base: Path, tmp_path: Path, damage: bool) -> None:
    straight = train(base, tmp_path / "straight", trl={"save_total_limit": 9})
    settings = recipe(base, tmp_path / "broken", evaluate_every=1, trl={"save_total_limit": 9})
    with pytest.raises(Interrupted):
        fine_tune(settings, trajectories(), load_checkpoint(str(base), torch.float32), interrupt, lambda line: None)
    if damage:
        (tmp_path / "broken" / "checkpoints" / "checkpoint-8").mkdir()
    resumed = fine_tune(settings, trajectories(), load_checkpoint(str(base), torch.float32), report=lambda line: None)
    weights = [load_checkpoint(str(run.merged), torch.float32).model.state_dict() for run in (straight, resumed)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-6) for name in weights[0])
    rows = read_metrics(tmp_path / "broken" / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == [2, 4, 6, 8, 10, 12]
    assert [row["eval/answers"] for row in rows if "eval/answers" in row] == [0.1, 0.2, 0.3, 0.4]
    assert losses(tmp_path / "broken") == pytest.approx(losses(tmp_path / "straight"), abs=1e-4)


def test_an_output_folder_of_another_run_is_refused(base: Path, tmp_path: Path) -> None:
    train(base, tmp_path / "run", trl={"max_steps": 1})
    before = contents(tmp_path / "run")
    for changes, named in (
        ({"trl": {"max_steps": 1, "learning_rate": 0.01}}, "trl.learning_rate: 0.02 -> 0.01"),
        ({"trl": {"max_steps": 2}}, "trl.max_steps: 1 -> 2"),
        ({"trl": {"max_steps": 1}, "seed": 3}, "seed: 0 -> 3"),
        ({"trl": {"max_steps": 1}, "sample": 4}, "data: 9 trajectories -> 4 trajectories"),
        ({"trl": {"max_steps": 1}, "lora": None}, "lora.r: 8 -> not set"),
    ):
        with pytest.raises(UserError, match=re.escape(named)):
            train(base, tmp_path / "run", **changes)
    assert contents(tmp_path / "run") == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_another_model_at_the_same_place_is_another_run(base: Path, tmp_path: Path) -> None:
    place = tmp_path / "base"
    shutil.copytree(base, place)
    train(place, tmp_path / "run", trl={"max_steps": 1})
    model = load_checkpoint(str(place), torch.float32).model
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    model.save_pretrained(place)
    with pytest.raises(UserError, match=r"model: .*base with another content"):
        train(place, tmp_path / "run", trl={"max_steps": 1})


def test_a_finished_run_is_finished(base: Path, tmp_path: Path) -> None:
    first = train(base, tmp_path / "run", trl={"max_steps": 3})
    before, said = contents(tmp_path / "run"), list[str]()
    settings = recipe(base, tmp_path / "run", trl={"max_steps": 3, "logging_steps": 7}, threads=1)
    again = fine_tune(settings, trajectories(), load_checkpoint(str(base), torch.float32), report=said.append)
    assert "is finished" in said[-1] and "Nothing was changed" in said[-1]
    assert contents(tmp_path / "run") == before and again == first


def test_a_run_that_ended_before_its_result_was_written_makes_no_step_more(base: Path, tmp_path: Path) -> None:
    train(base, tmp_path / "run", trl={"max_steps": 4})
    result = (tmp_path / "run" / "merged" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run" / "merged")
    train(base, tmp_path / "run", trl={"max_steps": 4})
    assert (tmp_path / "run" / "merged" / "model.safetensors").read_bytes() == result
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in row] == [2, 4]


def test_a_file_of_the_users_in_the_output_stops_the_run(base: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"recipe\.yaml is in it"):
        train(base, tmp_path / "run")
    assert contents(tmp_path / "run") == {tmp_path / "run" / "recipe.yaml": b"mine"}


def test_the_evaluation_sees_a_model_that_can_generate(base: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, bool, int]] = []

    def evaluate(model: PreTrainedModel, step: int) -> dict[str, float]:
        prompt = torch.tensor([[1, 10, 11]])
        made = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=2, do_sample=False
        )
        seen.append((step, model.training, made.shape[1]))
        return {"accuracy": 0.5}

    settings = recipe(base, tmp_path / "run", evaluate_every=2, trl={"max_steps": 4})
    fine_tune(settings, trajectories(), load_checkpoint(str(base), torch.float32), evaluate, lambda line: None)
    assert [(step, training) for step, training, _ in seen] == [(2, False), (4, False)]
    assert all(length > 3 for _, _, length in seen)


def test_without_lora_all_but_the_frozen_parts_learn(base: Path, tmp_path: Path) -> None:
    result = train(base, tmp_path / "run", lora=None, freeze=["vision"], trl={"max_steps": 2})
    before, after = (load_checkpoint(str(folder), torch.float32).model for folder in (base, result.merged))
    assert parameter_hash(before, ["vision"]) == parameter_hash(after, ["vision"])
    assert parameter_hash(before, ["projector"]) != parameter_hash(after, ["projector"])


# settings


def test_the_command_trains_on_stored_trajectories(base: Path, tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path / "played")
    for number, played in enumerate(trajectories()):
        store.append(played, str(number))
    settings = recipe(base, tmp_path / "run", data=[tmp_path / "played"]).model_dump(mode="json")
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(settings))
    result = CliRunner().invoke(
        command, [str(tmp_path / "sft.yaml"), "trl.max_steps=2", "lora.r=4", "trl.logging_steps=1"]
    )
    assert result.exit_code == 0, result.output
    assert "9 trajectories (0 left out)" in result.stdout
    lines = result.stderr.splitlines()
    assert lines[0] == "Reading trajectories: ..." and "Training: 0 of 2" in lines
    assert lines[-1].startswith("Training: 2 of 2, ") and "loss " in lines[-1]
    assert (tmp_path / "run" / "merged" / "model.safetensors").exists()
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["lora"]["r"] == 4


def test_a_sample_is_drawn_with_the_seed(base: Path, tmp_path: Path) -> None:
    drawn = [train(base, tmp_path / f"{seed}", sample=4, seed=seed, trl={"max_steps": 1}) for seed in (0, 1, 0)]
    assert [result.examples for result in drawn] == [4, 4, 4]
    made = [json.loads((tmp_path / f"{seed}" / "output.json").read_text())["settings"]["data"] for seed in (0, 1)]
    assert made[0]["name"] == made[1]["name"] == "4 trajectories" and made[0]["digest"] != made[1]["digest"]
    with pytest.raises(UserError, match=r"sample: 10 was asked for, but there are 9 trajectories"):
        train(base, tmp_path / "more", sample=10)


def test_a_sample_keeps_its_pictures_alone(base: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    pictures = PictureSet(checkpoint.family)
    examples, _ = make_examples(list(trajectories()), checkpoint.renderer(), pictures, 500)
    before = [pictures.pixels(example.pictures) for example in examples[4:6]]
    used = [number for example in examples[4:6] for number in example.pictures]
    assert len(set(used)) <= max(used), "nothing would be renumbered"
    new = pictures.keep(used)
    assert len(pictures) == len(set(used)) == len(new)
    for example, pixels in zip(examples[4:6], before, strict=True):
        again = pictures.pixels([new[number] for number in example.pictures])
        assert all(torch.equal(pixels[name], again[name]) for name in ("pixel_values", "image_grid_thw"))
    told: list[str | Step] = []
    settings = recipe(base, tmp_path / "run", sample=1, trl={"max_steps": 1})
    fine_tune(settings, trajectories(), load_checkpoint(str(base), torch.float32), report=told.append)
    lines = [said for said in told if isinstance(said, str)]
    chosen = random.Random(settings.seed).sample(range(len(examples)), 1)[0]
    assert lines[0].endswith(f" {len(set(examples[chosen].pictures))} pictures")


def test_data_without_trajectories_is_a_user_error(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no trajectories in .*absent"):
        train_recipe(recipe(base, tmp_path / "run", data=[tmp_path / "absent"]))


def test_the_atlas_recipe_loads() -> None:
    loaded = load_recipe(Path(__file__).parents[1] / "recipes" / "atlas" / "sft.yaml", SftRecipe)
    assert trl_settings(loaded).per_device_train_batch_size == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trl": {"packing": True}}, "trl.packing follows from the rest of the recipe"),
        ({"trl": {"learning_rat": 1.0}}, "Did you mean 'learning_rate'"),
        ({"trl": {"lr_scheduler_type": "zigzag"}}, "TRL refuses.*zigzag"),
    ],
)
def test_a_setting_that_cannot_be_is_a_user_error(
    base: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        trl_settings(recipe(base, tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache_features": True, "lora": None, "freeze": ["vision"]}, "cache_features"),
        ({"freeze": []}, "LoRA"),
        ({"learning_rate": 1.0}, "learning_rate"),
        ({"lora": {"rank": 8}}, "rank"),
        ({"data": []}, "data"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(base: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(base, tmp_path, **changes)


def test_an_unknown_checkpoint_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Unknown model folder"):
        load_checkpoint(str(tmp_path / "absent"), torch.float32)


def test_a_metrics_file_with_a_last_line_cut_off_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 2.0}]
    path.write_text('{"step": 1, "lo\n{"step": 2}\n')
    with pytest.raises(UserError, match="Line 1"):
        read_metrics(path)


@pytest.mark.parametrize("curves", [1, 3, 17])
def test_curves_are_drawn(tmp_path: Path, curves: int) -> None:
    names = tuple(f"curve {i}" for i in range(curves))
    rows = [{"step": step, **{name: step / (i + 1) for i, name in enumerate(names)}} for step in (1, 2)]
    plot_curves(rows, tmp_path / "curves.png", "curves", {"loss": names[:1], "all": (*names, "never logged")})
    with Image.open(tmp_path / "curves.png") as drawn:
        colours = {colour for _, colour in drawn.convert("RGB").getcolors(2**20) or ()}
    assert all(tuple(bytes.fromhex(colour[1:])) in colours for colour in CURVES[:curves])


# what TRL must have: the parts of its surface, public and private, that this file's subject leans on


def test_trl_contract() -> None:
    settings = {f.name for f in dataclasses.fields(SFTConfig)}
    assert {*FIXED, "output_dir", "seed", "data_seed", "train_sampling_strategy", "length_column_name"} <= settings
    arguments = inspect.signature(SFTTrainer.__init__).parameters
    assert {"model", "args", "data_collator", "train_dataset", "processing_class", "callbacks"} <= set(arguments)
    assert callable(SFTTrainer._send_telemetry)
    assert list(inspect.signature(SFTTrainer._get_train_sampler).parameters) == ["self", "train_dataset"]
    preparation = inspect.getsource(SFTTrainer.__init__)
    assert 'args.dataset_kwargs.get("skip_prepare_dataset", False)' in preparation
    forward = inspect.signature(Qwen2_5_VLForConditionalGeneration.forward).parameters
    assert {"mm_encoder_outputs", "mm_token_type_ids", "image_grid_thw"} <= set(forward)
