"""The small model's making: its tokenizer, its lessons, its start, and a run that is interrupted and goes on."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmmsearch.atlas import wordings as say  # noqa: E402
from deepmmsearch.atlas.drawing import draw_scene, famous_flags, random_flag  # noqa: E402
from deepmmsearch.atlas.names import FIRST, SECOND, split_of  # noqa: E402
from deepmmsearch.bundled import small  # noqa: E402
from deepmmsearch.bundled.fast_vision import speed_up_vision  # noqa: E402
from deepmmsearch.bundled.induction import start_with_induction  # noqa: E402
from deepmmsearch.bundled.lesson_batches import Encoder, batches, collate  # noqa: E402
from deepmmsearch.bundled.lessons import LESSONS  # noqa: E402
from deepmmsearch.bundled.picture_lessons import view, view_box  # noqa: E402
from deepmmsearch.bundled.pretrain import _followed, pretrain  # noqa: E402
from deepmmsearch.bundled.pretrain_recipe import LessonStageSettings, PretrainRecipe, StageSettings  # noqa: E402
from deepmmsearch.bundled.small_tokenizer import build_tokenizer  # noqa: E402
from deepmmsearch.bundled.vision_stage import dense_sample  # noqa: E402
from deepmmsearch.errors import UserError  # noqa: E402
from deepmmsearch.progress import Step  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    return build_tokenizer()


def test_every_lesson_is_spoken_in_whole_words(tokenizer) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(0)
    for lesson in LESSONS.values():
        for _ in range(30):
            for _, user, assistant in lesson(rng, "eval").turns:
                for token in tokenizer.convert_ids_to_tokens(tokenizer.encode(user + " " + assistant)):
                    assert token != "[UNK]"
                    bare = token.removeprefix("##")
                    assert len(bare) > 1 or not bare.isalpha() or token in ("I", "A", "a", "m"), (
                        f"{token!r} in {user!r}"
                    )


def test_names_are_two_tokens_and_come_back(tokenizer) -> None:  # type: ignore[no-untyped-def]
    name = FIRST[3] + SECOND[5]
    text = say.reason_fact("capital", name, FIRST[0] + SECOND[1])
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(tokenizer.encode(name)) == 2


@pytest.mark.parametrize("split", ["train", "eval"])
def test_lessons_keep_to_the_names_of_their_split(split: str) -> None:
    rng = random.Random(1)
    for _ in range(50):
        for _, _, text in LESSONS["copying"](rng, split).turns:  # type: ignore[arg-type]
            names = text.replace("copy ", "").replace(":", " ").replace(".", " ").split()
            assert all(split_of(name) == split for name in names)


def test_patches_equal_the_library_processors() -> None:
    image, _ = draw_scene(random.Random(0), [random_flag(random.Random(1), "train")])
    seen = view(image)
    expected = small.build_image_processor()(images=seen, return_tensors="np")
    assert list(expected["image_grid_thw"][0]) == [1, 8, 12]
    np.testing.assert_allclose(small.patchify(seen), expected["pixel_values"], atol=1e-5)


def test_vision_shortcuts_change_nothing(tokenizer) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model = small.build_model(tokenizer, 64, 2, 64)
    rng = random.Random(3)
    pixels = torch.from_numpy(np.concatenate([dense_sample(rng, "train")[0] for _ in range(3)]))
    grid = torch.tensor([[1, 8, 12]] * 3)
    with torch.no_grad():
        slow = model.model.visual(pixels, grid_thw=grid).pooler_output
        speed_up_vision(model)
        fast = model.model.visual(pixels, grid_thw=grid).pooler_output
    torch.testing.assert_close(slow, fast, atol=1e-5, rtol=1e-4)


def test_the_start_copies_before_any_training(tokenizer) -> None:  # type: ignore[no-untyped-def]
    """Induction: after `a b c ... a b`, c is likelier than from a random start."""
    torch.manual_seed(0)
    model = small.build_model(tokenizer)
    names = [a + b for a, b in zip(FIRST[:6], SECOND[:6], strict=True)]
    ids = torch.tensor([tokenizer.encode(" ".join(names * 2))])
    half = ids.shape[1] // 2

    def loss() -> float:
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, half:-1]
        return float(torch.nn.functional.cross_entropy(logits, ids[0, half + 1 :]))

    before = loss()
    start_with_induction(model, {})
    assert loss() < before - 0.2, f"{before} -> {loss()}"


def test_boxes_are_even_pixels_of_the_view() -> None:
    _, placed = draw_scene(random.Random(2), list(famous_flags().values())[:3])
    for p in placed:
        if p.flag:
            left, top, right, bottom = view_box(p)
            assert 0 <= left < right <= 168 and 0 <= top < bottom <= 112
            assert all(c % 2 == 0 for c in (left, top, right, bottom))


def test_batches_are_the_same_from_any_start(tokenizer) -> None:  # type: ignore[no-untyped-def]
    stage = LessonStageSettings(steps=1, batch=2, lessons={"copying": 1, "phrases": 1})
    encode = Encoder(tokenizer)
    whole = [[row[0] for row in rows] for rows in itertools.islice(batches(stage, encode, "x", 0), 20)]
    later = [[row[0] for row in rows] for rows in itertools.islice(batches(stage, encode, "x", 11), 9)]
    assert whole[11:] == later


def test_only_assistant_tokens_are_learnt(tokenizer) -> None:  # type: ignore[no-untyped-def]
    encode = Encoder(tokenizer)
    row = encode(LESSONS["looking"](random.Random(0), "train"))
    batch = collate([row], encode.pad, encode.image)
    learnt = batch["labels"][0] != -100
    assert int(learnt.sum()) == sum(row[1])
    assert not bool((batch["input_ids"][0][learnt] == encode.image).any())
    text = tokenizer.decode(batch["input_ids"][0][learnt], skip_special_tokens=False)
    assert "Locate" not in text and "<|im_end|>" in text


def test_stages_in_other_processes_are_followed_by_their_logs(tmp_path: Path) -> None:
    lessons = LessonStageSettings(steps=100, lessons={"copying": 1})
    stages = dict.fromkeys(("text", "keys", "scenes", "boxes", "joint"), lessons)
    recipe = PretrainRecipe(output=tmp_path, vision=StageSettings(steps=9), align=StageSettings(steps=9), **stages)
    (tmp_path / "text.log.jsonl").write_text(
        '{"step": 50, "loss": 1.5, "samples": 800}\n{"step": 60, "copying": 0.5}\n'
    )
    told: list[str | Step] = []
    with _followed(recipe, ["text", "vision"], told.append):
        assert told == [Step("Stage text", 50, 100, "loss 1.500"), Step("Stage vision", 0, 9)]
    assert told[-2:] == [Step("Stage text", 100, 100), Step("Stage vision", 9, 9)]


@pytest.mark.slow
def test_pretraining_runs_whole_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    lessons = LessonStageSettings(steps=4, batch=2, lessons={"copying": 1})
    recipe = PretrainRecipe(
        output=tmp_path / "base",
        hidden=256,
        layers=2,
        inner=64,
        text=lessons,
        vision=StageSettings(steps=4, batch=2),
        align=StageSettings(steps=2, batch=2),
        keys=LessonStageSettings(steps=4, batch=2, lessons={"keys": 1}),
        scenes=LessonStageSettings(steps=4, batch=2, lessons={"listing": 1}),
        boxes=LessonStageSettings(steps=4, batch=2, lessons={"pointing": 1}),
        joint=LessonStageSettings(steps=4, batch=2, workers=2, lessons={"looking": 1}),
        save_every=2,
        evaluate_every=2,
    )
    told: list[str | Step] = []
    folder = pretrain(recipe, told.append)
    for name in ("text", "vision", "align", "keys", "scenes", "boxes", "joint"):
        steps = [step for step in told if isinstance(step, Step) and step.stage == f"Stage {name}"]
        assert steps[0].done == 0 and steps[-1].done == steps[-1].total
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    assert model.config.text_config.hidden_size == 256
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert json.loads((folder / "agent.json").read_text())["prompt"] == "atlas"
    before, said = contents(recipe.output), list[str | Step]()
    assert pretrain(recipe.model_copy(update={"save_every": 9}), said.append) == folder
    assert contents(recipe.output) == before and "is finished" in str(said[0])
    with pytest.raises(UserError, match=r"keys\.steps: 4 -> 5"):
        pretrain(recipe.model_copy(update={"keys": recipe.keys.model_copy(update={"steps": 5})}))
    # finished, but its result was lost: no stage is trained again
    shutil.rmtree(folder)
    pretrain(recipe)
    assert contents(folder).items() <= before.items()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
