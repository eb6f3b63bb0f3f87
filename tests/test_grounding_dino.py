"""Grounding DINO for real, with tiny random weights: processor, model, post-processing, boxes in original pixels."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deepmmsearch.agent import Toolbox
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.tools.grounding.dino import WEAKEST, DinoGrounder, caption
from deepmmsearch.types import Box
from detectors import FAMILIES, LONG, SHIFT, SHORT, WORDS, tiny_detector

SIZES = [(300, 170), (170, 300), (64, 64), (640, 200), (97, 411)]
PHRASE = "The flag on the ship"


@pytest.fixture(scope="module", params=list(FAMILIES))
def detector(request: Any, tmp_path_factory: Any) -> tuple[Any, DinoGrounder]:
    folder = tmp_path_factory.mktemp("detector") / request.param
    return tiny_detector(folder, request.param), DinoGrounder(folder)


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Coloured blocks: what a detector sees depends on where they are."""
    blocks = np.random.default_rng(seed).integers(0, 255, (5, 7, 3), np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def locate(grounder: DinoGrounder, image: Image.Image, phrase: str = PHRASE) -> list[Box]:
    return asyncio.run(grounder.locate(image, phrase))


def pixels_by_hand(image: Image.Image) -> torch.Tensor:
    """[1, 3, height, width]: the shorter side SHORT, unless the longer one would then be more than LONG."""
    short, long = sorted(image.size)
    fitted = (SHORT, int(SHORT * long / short))
    if fitted[1] > LONG:
        fitted = (round(LONG * short / long), LONG)
    width, height = fitted if image.width <= image.height else fitted[::-1]
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    values = (np.asarray(resized) / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.tensor(values.transpose(2, 0, 1)[None], dtype=torch.float32)


def reference(model: Any, image: Image.Image, words: str = "the flag on the ship .") -> list[Box]:
    """All boxes in pixels of the picture, best first, without any of transformers' processors."""
    ids = torch.tensor([[WORDS.index(w) for w in ("[CLS]", *words.split(), "[SEP]")]])
    pixels = pixels_by_hand(image)
    with torch.inference_mode():
        seen = model(
            pixel_values=pixels,
            pixel_mask=torch.ones_like(pixels[:, 0], dtype=torch.long),
            input_ids=ids,
            token_type_ids=torch.zeros_like(ids),
            attention_mask=torch.ones_like(ids),
        )
    boxes = []
    for logits, (x, y, w, h) in zip(seen.logits[0].tolist(), seen.pred_boxes[0].tolist(), strict=True):
        corners = ((x - w / 2) * image.width, (y - h / 2) * image.height)
        ends = ((x + w / 2) * image.width, (y + h / 2) * image.height)
        best = max(v for v in logits if v > -math.inf)
        left, top = (max(0.0, c) for c in corners)
        right, bottom = min(ends[0], image.width), min(ends[1], image.height)
        boxes.append(Box(left, top, right, bottom, 1 / (1 + math.exp(-best))))
    return sorted(boxes, key=lambda b: -b.score)


@pytest.mark.parametrize("size", SIZES)
def test_boxes_are_those_of_a_reference_computed_by_hand(detector: Any, size: tuple[int, int]) -> None:
    model, grounder = detector
    found, expected = locate(grounder, picture(size)), reference(model, picture(size))
    assert found and found[0].score == pytest.approx(expected[0].score, abs=1e-3)
    kept = [b for b in expected if b.score > WEAKEST]
    assert len(found) == len(kept)
    for ours, theirs in zip(found, kept, strict=True):
        for side in ("left", "top", "right", "bottom"):
            assert abs(getattr(ours, side) - getattr(theirs, side)) < 1, (ours, theirs)
        assert 0 <= ours.left < ours.right <= size[0] and 0 <= ours.top < ours.bottom <= size[1]


def test_the_best_box_lies_where_its_anchor_is(detector: Any) -> None:
    """Without anything learned a box is an anchor of the grid, moved once per decoder layer by the heads' bias."""
    model, grounder = detector
    size = (300, 170)
    best = locate(grounder, picture(size))[0]
    rows, columns = pixels_by_hand(picture(size)).shape[2:]
    anchors = []
    for level, step in enumerate((8, 16, 32, 64)):
        high, wide = math.ceil(rows / step), math.ceil(columns / step)
        anchors += [
            ((i + 0.5) / wide, (j + 0.5) / high, 0.05 * 2**level, 0.05 * 2**level)
            for i in range(wide) for j in range(high)
        ]  # fmt: skip
    shifts = model.config.decoder_layers + (1 if _proposals_move(model) else 0)
    moved = [[_logistic(_logit(v) + shifts * d) for v, d in zip(a, SHIFT, strict=True)] for a in anchors]
    boxes = [Box((x - w / 2) * 300, (y - h / 2) * 170, (x + w / 2) * 300, (y + h / 2) * 170) for x, y, w, h in moved]
    nearest = min(boxes, key=lambda b: _distance(b, best))
    assert _distance(nearest, best) < 1, (nearest, best)


def _proposals_move(model: Any) -> bool:
    head = model.model.encoder_output_bbox_embed.layers[-1].bias
    return bool(head.abs().sum() > 0)


def _distance(a: Box, b: Box) -> float:
    clipped = Box(max(0, a.left), max(0, a.top), min(300, a.right), min(170, a.bottom))
    return max(abs(getattr(clipped, s) - getattr(b, s)) for s in ("left", "top", "right", "bottom"))


def _logit(value: float) -> float:
    return math.log(value / (1 - value))


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_words_and_pictures_matter(detector: Any) -> None:
    _, grounder = detector
    here = locate(grounder, picture((300, 170)))
    assert here == locate(grounder, picture((300, 170)), "the flag on the ship.")
    assert [b.score for b in here] != [b.score for b in locate(grounder, picture((300, 170)), "the left ship")]
    assert [b.score for b in here] != [b.score for b in locate(grounder, picture((300, 170), 1))]


def test_waiting_requests_of_one_size_go_together_and_change_nothing(
    detector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, grounder = detector
    asked = [(picture((300, 170), n), phrase) for n in range(3) for phrase in ("the flag", "the flag on the left ship")]
    asked += [(picture((170, 300)), "the flag")]
    alone = [locate(grounder, image, phrase) for image, phrase in asked]
    batches: list[int] = []
    detect = grounder._detect
    monkeypatch.setattr(grounder, "_detect", lambda images, texts: batches.append(len(images)) or detect(images, texts))

    async def together() -> list[list[Box]]:
        return list(await asyncio.gather(*(grounder.locate(image, phrase) for image, phrase in asked)))

    for one, many in zip(alone, asyncio.run(together()), strict=True):
        assert [b.label for b in one] == [b.label for b in many]
        for a, b in zip(one, many, strict=True):
            assert (b.left, b.top, b.right, b.bottom, b.score) == pytest.approx(
                (a.left, a.top, a.right, a.bottom, a.score), abs=1e-3
            )
    assert sum(batches) == len(asked) and len(batches) < len(asked)


def test_labels_are_words_of_the_phrase_above_the_text_threshold(tmp_path: Path) -> None:
    tiny_detector(tmp_path)
    said = set(PHRASE.lower().split())
    labels = {t: _labels(tmp_path, t) for t in (0.0, 0.25, 1.0)}
    assert set(labels[0.0]) == {"the flag on the ship"} and not any(labels[1.0])
    assert any(labels[0.25]) and all(set(label.split()) <= said for label in labels[0.25])


def _labels(folder: Path, threshold: float) -> list[str]:
    return [b.label for b in locate(DinoGrounder(folder, text_threshold=threshold), picture((300, 170)))]


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (900, 3), (5000, 10)])
def test_pictures_of_any_shape(detector: Any, size: tuple[int, int]) -> None:
    _, grounder = detector
    try:
        boxes = locate(grounder, Image.new("RGB", size, "red"))
    except ToolError as error:
        assert "detector failed" in str(error)
    else:
        assert all(0 <= b.left < b.right <= size[0] and 0 <= b.top < b.bottom <= size[1] for b in boxes)
    assert locate(grounder, picture((64, 64))), "the grounder works on"


def test_other_modes_and_long_phrases(detector: Any) -> None:
    _, grounder = detector
    rgb = picture((64, 64))
    assert locate(grounder, rgb.convert("L"))
    assert locate(grounder, rgb, "the flag " * 500)
    assert locate(grounder, rgb, " .?\n ") == []


def test_the_caption_is_one_thing_to_look_for() -> None:
    assert caption("The Flag\n on the ship") == "the flag on the ship."
    assert caption("sign no. 5.") == "sign no 5."
    assert caption("What flag?") == "what flag."
    assert caption("...") == ""


def test_what_is_no_detector_is_refused(tmp_path: Path) -> None:
    from checkpoints import tiny_checkpoint

    with pytest.raises(UserError, match="not a Grounding DINO"):
        DinoGrounder(tiny_checkpoint(tmp_path / "vlm"))
    with pytest.raises(UserError, match=r"no config\.json"):
        DinoGrounder(tmp_path)
    with pytest.raises(UserError, match="No model could be loaded"):
        DinoGrounder("someone/nothing")
    tiny_detector(tmp_path / "d")
    with pytest.raises(UserError, match="cannot be used"):
        DinoGrounder(tmp_path / "d", device="gpu7")


def test_from_a_recipe(tmp_path: Path) -> None:
    from deepmmsearch.compose.recipe import read_settings
    from deepmmsearch.compose.tool_settings import ToolSettings
    from deepmmsearch.compose.toolbox import build_toolbox
    from deepmmsearch.testing import ScriptedPolicy

    tiny_detector(tmp_path)

    def box(**given: Any) -> Toolbox:
        settings = read_settings({"image": "serpapi-lens", **given}, ToolSettings, "tools")
        return build_toolbox(settings, ScriptedPolicy(), {"SERPAPI_API_KEY": "none-0123456789"})

    dino = {"kind": "dino", "model": str(tmp_path), "text_threshold": 0.0}
    tools = box(grounding=dino)
    assert tools.grounder is not None and tools.box_threshold == 0.3
    boxes = asyncio.run(tools.grounder.locate(picture((64, 64)), PHRASE))
    assert boxes[0].label == "the flag on the ship"
    assert box(grounding={**dino, "box_threshold": 0.7}).box_threshold == 0.7
    own = box()
    assert own.grounder is None and own.box_threshold == 0.5
