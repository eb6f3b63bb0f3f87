"""Questions that one image search and text searches do not answer.

| kind | what a perfect player does |
|---|---|
| sign | zooms: what colour has the small sign on a flag? |
| deep | text search, then reads on in a long page |
| linked | text search, opens the page, follows a link |
| two_flags | two image searches: whose flags are these two? |
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from PIL import Image

from deepmmsearch.atlas import wordings as say
from deepmmsearch.atlas.annals import chronicles
from deepmmsearch.atlas.drawing import Placed, draw_scene
from deepmmsearch.atlas.drawing.signs import pin_signs
from deepmmsearch.atlas.world import World

TOOL_KINDS = ("sign", "deep", "linked", "two_flags")


class ToolQuestion(NamedTuple):
    """`plan`: the fields of the oracle's plan; `boxes`: of what can be grounded, by its words."""

    text: str
    answers: tuple[str, ...]
    plan: dict[str, Any]
    image: Image.Image
    shown: int
    boxes: dict[str, tuple[int, int, int, int]]
    calls: list[list[str]]


def ask_with_tools(rng: random.Random, world: World, kind: str) -> ToolQuestion:
    """A question of one of TOOL_KINDS, with its scene."""
    countries = rng.sample([c for c in world.of("country") if not c.famous], rng.choice([2, 2, 3, 4]))
    image, placed = draw_scene(rng, [c.flag for c in countries if c.flag])
    if kind in ("deep", "linked"):
        return _in_annals(rng, world, kind, image, len(countries))
    names = {c.flag: c.name for c in countries}
    chosen = rng.sample([p for p in placed if p.flag], 2)
    boxes = {say.region(p.carrier): p.box for p in placed if p.box}
    if kind == "sign":
        colour = pin_signs(rng, image, placed)[chosen[0].carrier]
        calls, plan = [["zoom", say.region(chosen[0].carrier)]], {"carrier": chosen[0].carrier, "sign": colour}
        return ToolQuestion(say.ask_sign(rng, chosen[0].carrier), (colour,), plan, image, len(countries), boxes, calls)
    return _two_flags(rng, chosen, [names[p.flag] for p in chosen], image, len(countries), boxes)


def _in_annals(rng: random.Random, world: World, kind: str, image: Image.Image, shown: int) -> ToolQuestion:
    country, chronicle = rng.choice(list(chronicles(world).items()))
    relation = {"deep": "founder", "linked": "patron"}[kind]
    answer = chronicle.founder if kind == "deep" else chronicle.patron
    text = say.ask_fact(rng, relation, f"{country} in the annals")
    calls = [["text_search", say.query("annals", country)], ["visit", ""]]
    return ToolQuestion(text, (answer,), {"entity": country, "relations": (relation,)}, image, shown, {}, calls)


def _two_flags(
    rng: random.Random,
    chosen: list[Placed],
    names: list[str],
    image: Image.Image,
    shown: int,
    boxes: dict[str, tuple[int, int, int, int]],
) -> ToolQuestion:
    first, second = (place.carrier for place in chosen)
    plan = {"start": "flag", "carrier": first, "second": second, "flags": shown}
    answers = (say.both(*names), say.both(*names[::-1]))
    calls = [["image_search", say.region(carrier)] for carrier in (first, second)]
    return ToolQuestion(say.ask_both(rng, first, second), answers, plan, image, shown, boxes, calls)
