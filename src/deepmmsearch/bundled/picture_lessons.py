"""Lessons about pictures: to look, to point, to tell famous flags from others."""

from __future__ import annotations

import random

from PIL import Image

from deepmmsearch.atlas import wordings as say
from deepmmsearch.atlas.drawing import (
    BUILDINGS,
    Flag,
    Placed,
    draw_building,
    draw_portrait,
    draw_scene,
    famous_flags,
    random_flag,
)
from deepmmsearch.atlas.names import Split
from deepmmsearch.bundled.lesson import Lesson
from deepmmsearch.bundled.small import VIEW
from deepmmsearch.bundled.small_tokenizer import BOX, LABEL
from deepmmsearch.prompts import grounding_prompt

_FAMOUS_FLAGS = {flag: name for name, flag in famous_flags().items()}


def lesson_flags(rng: random.Random, split: Split) -> list[Flag]:
    """One to five flags, a quarter of them famous."""
    return [
        rng.choice(list(_FAMOUS_FLAGS)) if rng.random() < 0.25 else random_flag(rng, split)
        for _ in range(rng.randint(1, 5))
    ]


def famous_name(flag: Flag) -> str | None:
    return _FAMOUS_FLAGS.get(flag)


def view_box(placed: Placed) -> tuple[int, int, int, int]:
    """The flag's box in pixels of the picture as the model sees it, rounded to even numbers."""
    assert placed.box is not None
    left, top, right, bottom = (round(c / 8) * 2 for c in placed.box)
    return left, top, min(right, VIEW[0]), min(bottom, VIEW[1])


def view(image: Image.Image) -> Image.Image:
    return image.resize(VIEW, Image.Resampling.BICUBIC)


def _entry(placed: Placed) -> str:
    """What stands in a cell, in as few words as possible: colour, famous name, box."""
    if placed.flag is None:
        return "none"
    return f"{placed.flag.main} {famous_name(placed.flag) or 'none'} " + " ".join(map(str, view_box(placed)))


def listing(rng: random.Random, split: Split) -> Lesson:
    """A scene in telegram style: some carriers' entries, then all of them.

    Whole questions come later: in their many words the text itself is the nearest match for an induction head, and the
    picture is not looked at. Here only the picture can tell what follows "ship".
    """
    image, placed = draw_scene(rng, lesson_flags(rng, split))
    turns = [("entry", p.carrier, _entry(p)) for p in rng.sample(placed, min(2, len(placed)))]
    turns.append(("list", "list", " ".join(f"{p.position} {p.carrier} {_entry(p)}." for p in placed)))
    return Lesson(tuple(turns), view(image))


def keys(rng: random.Random, split: Split) -> Lesson:
    """One word for one word: the first lesson that joins pictures and words. Longer answers come later; next to their
    many tokens, which a text model half guesses, the few that need the picture are not learnt."""
    image, placed = draw_scene(rng, lesson_flags(rng, split))
    turns = [("key", p.carrier, p.flag.main if p.flag else "none") for p in placed]
    turns += [("key", p.position, p.carrier) for p in placed]
    rng.shuffle(turns)
    return Lesson(tuple(turns[:8]), view(image))


def _point(p: Placed) -> tuple[str, str, str]:
    return (
        "box",
        grounding_prompt(say.region(p.carrier)),
        LABEL + p.carrier + BOX + ", ".join(map(str, view_box(p))) + "]}",
    )


def pointing(rng: random.Random, split: Split) -> Lesson:
    """Boxes and nothing else: four numbers that only the picture can tell."""
    image, placed = draw_scene(rng, lesson_flags(rng, split))
    turns = [_point(p) for p in placed if p.flag]
    rng.shuffle(turns)
    return Lesson(tuple(turns), view(image))


def looking(rng: random.Random, split: Split) -> Lesson:
    """Questions about one scene: count, colour, carrier, box, famous or not."""
    flags = lesson_flags(rng, split)
    image, placed = draw_scene(rng, flags)
    shown = [p for p in placed if p.flag]
    turns = [("count", say.ask_count(rng), say.reason_count(len(shown)))]
    for p in shown:
        assert p.flag is not None
        name = famous_name(p.flag)
        if name is None:
            turns.append(
                (
                    "colour",
                    say.ask_colour(rng, p.carrier),
                    f"The main colour of the flag on the {p.carrier} is {p.flag.main}.",
                )
            )
        turns.append(
            ("carrier", say.ask_carrier(rng, p.position), f"The flag at the {p.position} is on the {p.carrier}.")
        )
        turns.append(
            (
                "famous",
                say.ask_country(rng, p.carrier),
                f"I know the flag of {name}." if name else f"I do not know the flag on the {p.carrier}.",
            )
        )
        turns.append(_point(p))
    rng.shuffle(turns)
    return Lesson(tuple(turns[:7]), view(image))


def other_picture(rng: random.Random, split: Split) -> Lesson:
    """Buildings and portraits: no flags, nothing to know by heart."""
    if rng.random() < 0.5:
        image, what = draw_building(rng, rng.choice(BUILDINGS), rng.getrandbits(16)), "building"
    else:
        image, what = draw_portrait(rng, rng.getrandbits(16)), "person"
    turns = [
        ("picture", say.ask_picture(rng, what), say.reason_picture(what)),
        ("count", say.ask_count(rng), "There are no flags."),
    ]
    rng.shuffle(turns)
    return Lesson(tuple(turns), view(image))
