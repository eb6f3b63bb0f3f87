"""The annals: long pages that have to be read, because no search shows what stands deep in them.

A country's annals tell in words of their own, without its name and not as one asks, who laid its first stone; and they
link to a second volume, which names neither the country nor what it is about. Searching finds where they begin.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from deepmmsearch.atlas.drawing import BUILDINGS, CARRIERS
from deepmmsearch.atlas.names import Names
from deepmmsearch.atlas.world import World

SITE = "annals"
LINES = 6
"""Of the annals of a country, two sentences each."""


class Chronicle(NamedTuple):
    """What only the annals tell of a country: its `founder` deep in the page, its `patron` in the second volume."""

    founder: str
    patron: str
    volume: str


_THINGS = (*BUILDINGS, *CARRIERS)
# what is asked -> how the annals say it
DEEDS = {"founder": "{} laid the first stone.", "patron": "{} paid for the bells."}


def chronicles(world: World) -> dict[str, Chronicle]:
    """Of each country, by its name. Drawn apart from the world, which stays what it is."""
    rng = random.Random(f"annals {world.split} {world.seed}")
    names, taken = Names(rng, world.split), {name for e in world.entities for name in (e.name, *e.facts.values())}

    def fresh() -> str:
        return next(name for name in iter(names, None) if name not in taken)

    countries = [country.name for country in world.of("country")]
    numbers = rng.sample(range(1, 100), len(countries))
    return {
        name: Chronicle(fresh(), fresh(), f"second volume {number}")
        for name, number in zip(countries, numbers, strict=True)
    }


def begins(country: str) -> str:
    """The first sentence of a country's annals, and all that a search shows of them."""
    return f"The annals of {country} begin here."


class Leaf(NamedTuple):
    """A page of the annals; `link` stands in its text and leads to the page of that title."""

    title: str
    lines: tuple[str, ...]
    link: str | None = None


def leaves(world: World) -> Iterator[Leaf]:
    """The annals of each country and their second volumes."""
    rng = random.Random(f"leaves {world.split} {world.seed}")
    for country, chronicle in chronicles(world).items():
        lines = [[_old_news(rng), _old_news(rng)] for _ in range(LINES)]
        deep, linked = rng.sample(range(2, LINES), 2)
        lines[0][0] = begins(country)
        lines[deep][1] = DEEDS["founder"].format(chronicle.founder)
        lines[linked][1] = f"For the bells see the {chronicle.volume}."
        yield Leaf(f"Annals of {country}", tuple(map(" ".join, lines)), chronicle.volume)
        told = [_old_news(rng), DEEDS["patron"].format(chronicle.patron), _old_news(rng)]
        yield Leaf(chronicle.volume.capitalize(), tuple(told))


def _old_news(rng: random.Random) -> str:
    year, thing, fate = rng.randrange(20, 169), rng.choice(_THINGS), rng.choice(("built", "lost", "found"))
    return f"In the year {year} a{'n' if thing[0] in 'aeiou' else ''} {thing} was {fate}."
