"""One invented world: countries with flags, capitals, rulers and landmarks, and every fact about them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from deepmmsearch.atlas.drawing import BUILDINGS, Flag, famous_flags, lookalike, random_flag
from deepmmsearch.atlas.names import FAMOUS, Names, Split

Kind = Literal["country", "town", "person", "landmark"]

RELATIONS: dict[Kind, tuple[str, ...]] = {
    "country": ("capital", "ruler", "river", "language", "currency"),
    "town": ("mayor", "museum", "harbour"),
    "person": ("birthplace", "spouse"),
    "landmark": ("architect", "height"),
}
PERSONS = ("ruler", "mayor", "spouse", "architect", "founder", "patron")
TAXONOMY = {
    "capital": "Place",
    "ruler": "People",
    "river": "Nature",
    "language": "Arts",
    "currency": "Industry",
    "mayor": "People",
    "museum": "Arts",
    "harbour": "Place",
    "birthplace": "Place",
    "spouse": "People",
    "architect": "Arts",
    "height": "Science",
    "name": "Entities",
    "flag": "Entities",
    "founder": "People",
    "patron": "People",
}


@dataclass(frozen=True)
class Entity:
    """One named thing and its facts. `look` is the seed of its picture (people and landmarks), `style` what kind of
    landmark. `told`: whether a fact is told where one looks for it; a country's currency that is not told is described
    only in the page on its economy, and whoever asks for the currency has to ask again."""

    name: str
    kind: Kind
    facts: Mapping[str, str]
    look: int = 0
    style: str = ""
    flag: Flag | None = None
    famous: bool = False
    untold: frozenset[str] = field(default_factory=frozenset)


Tongue = Literal["english", "velic"]
Kinds = Literal["papers", "tools"]
TONGUES: tuple[Tongue, ...] = ("english", "velic")


@dataclass(frozen=True)
class Variant:
    """How a world is told and asked about. `language`: of its pages; `asked_in`: of its questions (None: the pages').
    `kinds`: the papers' questions, or such as need tools beyond one image search and text searches."""

    language: Tongue = "english"
    asked_in: Tongue | None = None
    kinds: Kinds = "papers"

    @property
    def questions(self) -> Tongue:
        """The language in which it is asked and answered."""
        return self.asked_in or self.language

    @property
    def told(self) -> dict[str, str]:
        """What has to be said of it; nothing of the world as the papers' agents know it."""
        given = {"language": self.language, "asked_in": self.questions, "kinds": self.kinds}
        usual = {"language": "english", "asked_in": self.language, "kinds": "papers"}
        return {name: value for name, value in given.items() if value != usual[name]}


USUAL = Variant()


@dataclass(frozen=True)
class World:
    """A world of one seed. Training and evaluation worlds share no name and no flag but the famous countries'."""

    seed: int
    split: Split
    entities: tuple[Entity, ...]
    variant: Variant = USUAL

    @cached_property
    def by_name(self) -> dict[str, Entity]:
        return {e.name: e for e in self.entities}

    def of(self, kind: Kind) -> tuple[Entity, ...]:
        return tuple(e for e in self.entities if e.kind == kind)


def make_world(
    seed: int, split: Split = "eval", countries: int = 24, famous: int = 6, variant: Variant = USUAL
) -> World:
    """`countries` unknown ones, `famous` of the well-known; an eighth of the flags has a look-alike among the
    others."""
    rng = random.Random(f"world {split} {seed}")
    names = Names(rng, split)
    flags: list[Flag] = []
    while len(flags) < countries:
        flag = random_flag(rng, split)
        if all(flag[:3] != other[:3] for other in flags):
            flags.append(flag)
            if len(flags) < countries and rng.random() < 0.125:
                flags.append(lookalike(rng, flag, split))
    well_known = famous_flags()
    rows: list[tuple[str, Flag, dict[str, str]]] = [(names(), flag, {}) for flag in flags]
    rows += [(name, well_known[name], FAMOUS[name]) for name in rng.sample(list(FAMOUS), famous)]
    entities: list[Entity] = []
    for name, flag, known in rows:
        facts = {relation: known.get(relation) or names() for relation in RELATIONS["country"]}
        untold = frozenset({"currency"}) if rng.random() < 0.5 else frozenset[str]()
        entities.append(Entity(name, "country", facts, flag=flag, famous=bool(known), untold=untold))
        entities.append(Entity(facts["capital"], "town", {r: names() for r in RELATIONS["town"]}))
        entities.append(
            Entity(facts["ruler"], "person", {r: names() for r in RELATIONS["person"]}, look=rng.getrandbits(32))
        )
        if rng.random() < 0.6:
            facts = {"architect": names(), "height": f"{rng.randrange(20, 169, 2)} metres"}
            entities.append(Entity(names(), "landmark", facts, look=rng.getrandbits(32), style=rng.choice(BUILDINGS)))
    return World(seed, split, tuple(entities), variant)
