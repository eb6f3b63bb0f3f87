"""Near-duplicates: found in scaled and recompressed copies, not in other questions about other pictures."""

from __future__ import annotations

import io
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from data_files import picture

pytest.importorskip("imagehash")

from deepmmsearch.data.near_duplicates import (
    Fingerprint,
    FingerprintedPictures,
    against,
    fingerprint,
    groups,
    overlap,
    picture_hash,
    within,
)


def scene(seed: int) -> Image.Image:
    from deepmmsearch.atlas.questions import make_questions
    from deepmmsearch.atlas.world import make_world

    image = make_questions(make_world(seed, countries=12, famous=1), 1, seed)[0].image
    assert image is not None
    return image


def copies(image: Image.Image) -> dict[str, Image.Image]:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return {
        "compressed": Image.open(buffer),
        "half the size": image.resize((image.width // 2, image.height // 2)),
        "brighter": ImageEnhance.Brightness(image).enhance(1.15),
    }


def bits(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_copies_are_near_and_others_far() -> None:
    images = [scene(1), scene(2), picture(3, (320, 240)), picture(4, (320, 240))]
    hashes = [picture_hash(image) for image in images]
    for image, own in zip(images, hashes, strict=True):
        for name, copy in copies(image).items():
            assert bits(picture_hash(copy), own) <= 4, name
    assert min(bits(a, b) for a in hashes for b in hashes if a != b) > 8


def row(name: str, text: str, answers: tuple[str, ...] = ("Ada",), image_hash: str | None = "0" * 16) -> Fingerprint:
    return fingerprint(name, text, answers, image_hash)


def test_within_the_first_stays() -> None:
    rows = [
        row("a", "Who is this woman?"),
        row("b", "who is this WOMAN", image_hash="0" * 15 + "3"),
        row("c", "When was she born?", image_hash="0" * 15 + "1"),
        row("d", "Who is this woman?", image_hash="f" * 16),
        row("e", "Who was the first programmer?", image_hash=None),
        row("f", "Who was the first programmer", ("ada", "Lovelace"), image_hash=None),
        row("g", "Who was the first programmer", ("Babbage",), image_hash=None),
    ]
    found = {d.id: (d.of, d.kind) for d in within(rows, 4, 0.9)}
    assert found == {"b": ("a", "picture and question"), "f": ("e", "question and answer")}
    limited = {d.id: d.kind for d in within(rows, 4, 0.9, per_picture=1)}
    assert limited["c"] == "too many of one picture" and "d" not in limited


def test_against_an_evaluation() -> None:
    rows = [
        row("same picture", "Something else entirely?", ("x",)),
        row("same question", "Who designed the Eiffel tower in Paris?", ("Sauvestre",), "f" * 16),
        row("same words, other answer", "Who is this person?", ("Bo",), "ff" * 8),
        row("fine", "What is this?", ("Veld",), "0f" * 8),
    ]
    evaluation = [
        row("e1", "Who is it?", image_hash="0" * 15 + "1"),
        row("e2", "Who designed the Eiffel tower in Paris", ("Stephen Sauvestre", "sauvestre"), "a5" * 8),
        row("e3", "Who is this person?", ("Ada",), "5a" * 8),
    ]
    found = {d.id: (d.of, d.kind) for d in against(rows, evaluation, 4, 0.9)}
    assert found == {"same picture": ("e1", "picture"), "same question": ("e2", "question and answer")}


def test_groups_hold_what_is_near_through_others() -> None:
    rows = [
        row("a", "?", image_hash="0" * 16),
        row("b", "?", image_hash="f" * 16),
        row("c", "?", image_hash="0" * 15 + "f"),
    ]
    rows.append(row("d", "?", image_hash="0" * 14 + "ff"))
    rows.append(row("e", "?", image_hash=None))
    assert groups(rows, 4) == [0, 1, 0, 0, 4]


hashes = st.integers(0, 2**64 - 1)


@given(st.lists(hashes, max_size=12), st.lists(hashes, max_size=12), st.integers(0, 32))
def test_near_pairs_are_those_of_the_definition(mine: list[int], theirs: list[int], most: int) -> None:
    one, other = FingerprintedPictures(), FingerprintedPictures()
    for number, value in enumerate(mine):
        one.add(f"{value:016x}", number)
    for number, value in enumerate(theirs):
        other.add(f"{value:016x}", number)
    wanted = {(i, j) for i, a in enumerate(mine) for j, b in enumerate(theirs) if (a ^ b).bit_count() <= most}
    assert set(one.near(other, most)) == wanted


@given(st.frozensets(st.text(max_size=2)), st.frozensets(st.text(max_size=2)))
def test_overlap_is_jaccard(one: frozenset[str], other: frozenset[str]) -> None:
    assert 0 <= overlap(one, other) <= 1 and overlap(one, one) == 1
    assert overlap(one, other) == overlap(other, one)


def test_ten_thousand_rows_take_seconds() -> None:
    rng = random.Random(0)
    rows = [row(str(n), f"What is thing {n}?", (str(n % 2000),), f"{rng.getrandbits(64):016x}") for n in range(10_000)]
    began = time.process_time()
    assert within(rows, 4, 0.9) == []
    assert time.process_time() - began < 20
