"""What the websites of one world say: seven small sites, some reliable, some stale, some mere gossip.

| site | pages | wording |
|---|---|---|
| encyclopedia | one per country, town, person, landmark | plain: "The river of Balor is Tanmir." |
| travel | one per entity with a fact told there, and flags | inverse: "Tanmir is the river of Balor." |
| almanac | one per entity with a fact told there | has: "Balor has the river Tanmir." |
| old-almanac | leaves of former facts, wrong today | former |
| chatter | threads of rumours, wrong | rumour |
| gallery | one per picture; lists of flags that look alike | captions |
| trade | reports on six economies each: the only place that tells an untold currency | economy |

The layout matters as much as the words: stale leaves, threads and reports name no country in their title, so that a
search for a fact finds the pages about the thing first, and an untold currency only when the economy is asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeVar

from PIL import Image

from deepmmsearch.atlas import annals, velic
from deepmmsearch.atlas import wordings as say
from deepmmsearch.atlas.drawing import Flag, draw_building, draw_flag, draw_portrait, soften
from deepmmsearch.atlas.names import Names
from deepmmsearch.atlas.world import Entity, World

WORDING = {"encyclopedia": "plain", "travel": "inverse", "almanac": "has"}
DOUBTS = {"old-almanac": "former", "chatter": "rumour"}
SITES = (*WORDING, *DOUBTS, "gallery", "trade")

# Shares of all facts that have a wrong version on each of the two doubtful sites.
DOUBTED = 0.12
FACTS_A_LEAF = 3
ECONOMIES_A_REPORT = 6
PHOTOGRAPH = (400, 360)

_T = TypeVar("_T")


@dataclass(frozen=True)
class SitePicture:
    """A picture file of a page. `draw` makes it when it is written, so that a world need not fit into memory."""

    file: str
    alt: str
    draw: Callable[[], Image.Image]


@dataclass(frozen=True)
class SitePage:
    """One page: `paragraphs` are main text; the picture stands before the last of them, which describes it. `link`:
    words in it that lead to the page of the same site with that slug."""

    site: str
    slug: str
    title: str
    paragraphs: tuple[str, ...]
    picture: SitePicture | None = None
    link: tuple[str, str] | None = None

    @property
    def url(self) -> str:
        return f"https://{self.site}.example/{self.slug}"


@dataclass(frozen=True)
class _Fact:
    entity: Entity
    relation: str

    @property
    def value(self) -> str:
        return self.entity.facts[self.relation]

    def say(self, wording: str, value: str | None = None) -> str:
        form = {**say.FACTS, **say.DOUBTFUL}[wording]
        return form(self.relation, self.entity.name, value or self.value)


def make_pages(world: World) -> list[SitePage]:
    """All pages of a world, the same for the same world; every told fact is on one to three of the reliable sites."""
    rng = random.Random(f"pages {world.split} {world.seed}")
    told = _told(rng, world)
    pages = [p for site in WORDING for e in world.entities if (p := _entity_page(rng, site, e, told[site, e.name]))]
    for site, wording in DOUBTS.items():
        pages += _doubtful_pages(rng, world, site, wording)
    pages += [_gallery_page(rng, e) for e in world.entities if e.kind != "town"]
    pages += _lookalike_pages(world)
    pages += _trade_pages(rng, world)
    if world.variant.kinds == "tools":
        pages += _annals(world)
    return [_in_velic(page) for page in pages] if world.variant.language == "velic" else pages


def _in_velic(page: SitePage) -> SitePage:
    write = velic.write
    picture = page.picture and replace(page.picture, file=_slug(page.picture.file), alt=write(page.picture.alt))
    return replace(
        page,
        slug=_slug(page.slug),
        title=write(page.title),
        paragraphs=tuple(map(write, page.paragraphs)),
        picture=picture,
        link=page.link and (write(page.link[0]), _slug(page.link[1])),
    )


def _slug(file: str) -> str:
    """No Latin letters in a page's address, by which it might be found; an ending stays."""
    stem, dot, ending = file.partition(".")
    return velic.write(stem) + dot + ending


def _annals(world: World) -> Iterator[SitePage]:
    for leaf in annals.leaves(world):
        link = leaf.link and (leaf.link, _hyphened(leaf.link))
        yield SitePage(annals.SITE, _hyphened(leaf.title), leaf.title, leaf.lines, link=link or None)


def _hyphened(title: str) -> str:
    return title.lower().replace(" ", "-")


def describe(entity: Entity) -> str:
    """The sentence under an entity's picture."""
    if entity.flag is not None:
        return f"The flag of {entity.name} is {describe_flag(entity.flag)}."
    if entity.kind == "landmark":
        return f"The building of {entity.name} is a{'n' if entity.style[0] in 'aeiou' else ''} {entity.style}."
    return f"The portrait of {entity.name} shows a person."


def describe_flag(flag: Flag) -> str:
    """`red with a blue cross`"""
    if flag.layout in ("quarters", "stripes"):
        return f"{flag.main} with {flag.second} {flag.layout}"
    return f"{flag.main} with a{'n' if flag.second[0] in 'aeiou' else ''} {flag.second} {flag.layout}"


def _parts(sequence: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    # itertools.batched is not in Python 3.11
    for start in range(0, len(sequence), size):
        yield sequence[start : start + size]


def _facts(world: World) -> Iterator[_Fact]:
    for entity in world.entities:
        for relation in entity.facts:
            yield _Fact(entity, relation)


def _told(rng: random.Random, world: World) -> dict[tuple[str, str], list[_Fact]]:
    """(site, entity) -> the facts told there, in the order of the page."""
    told: dict[tuple[str, str], list[_Fact]] = {(s, e.name): [] for s in WORDING for e in world.entities}
    for fact in _facts(world):
        if fact.relation in fact.entity.untold:
            continue
        for site in rng.sample(list(WORDING), rng.choice((1, 2, 2, 3))):
            told[site, fact.entity.name].append(fact)
    for facts in told.values():
        rng.shuffle(facts)
    return told


def _entity_page(rng: random.Random, site: str, entity: Entity, facts: Sequence[_Fact]) -> SitePage | None:
    sentences = [fact.say(WORDING[site]) for fact in facts]
    if site == "encyclopedia":
        sentences += [say.see_economy(entity.name) for _ in entity.untold]
        picture = _photograph(rng, entity) if entity.look else None
    else:
        picture = _flag_photograph(rng, entity) if site == "travel" and entity.flag else None
    if not sentences and site == "encyclopedia":
        # It knows everybody, if only by name.
        sentences.append(f"{entity.name} is a {entity.kind}.")
    if not sentences and not picture:
        return None
    half = (len(sentences) + 1) // 2
    paragraphs = [" ".join(part) for part in (sentences[:half], sentences[half:]) if part]
    if picture:
        paragraphs.append(describe(entity))
    return SitePage(site, entity.name.lower(), entity.name, tuple(paragraphs), picture)


def _flag_photograph(rng: random.Random, entity: Entity) -> SitePicture:
    flag, seed = entity.flag, rng.getrandbits(64)
    assert flag is not None
    alt = say.caption(entity.name, "country", rng.randrange(2))
    return SitePicture(f"flag-{entity.name.lower()}.jpg", alt, lambda: soften(draw_flag(flag), random.Random(seed)))


def _photograph(rng: random.Random, entity: Entity) -> SitePicture:
    seed, kind = rng.getrandbits(64), entity.kind
    alt = say.caption(entity.name, kind, rng.randrange(2))

    def draw() -> Image.Image:
        own = random.Random(seed)
        if kind == "landmark":
            return draw_building(own, entity.style, entity.look, PHOTOGRAPH)
        return draw_portrait(own, entity.look, PHOTOGRAPH)

    return SitePicture(f"{entity.name.lower()}.jpg", alt, draw)


def _gallery_page(rng: random.Random, entity: Entity) -> SitePage:
    flag = entity.flag
    if flag is not None:
        alt = say.caption(entity.name, "country", rng.randrange(2))
        picture = SitePicture(f"flag-{entity.name.lower()}.png", alt, lambda: draw_flag(flag))
    else:
        picture = _photograph(rng, entity)
    return SitePage("gallery", entity.name.lower(), picture.alt, (describe(entity),), picture)


def _lookalike_pages(world: World) -> list[SitePage]:
    """Pairs of flags with the same layout and main colour, four to a page."""
    flagged = [(e.name, e.flag) for e in world.of("country") if e.flag]
    alike = [(a, b) for (a, f), (b, g) in combinations(flagged, 2) if f[:2] == g[:2]]
    sentences = [f"The flag of {a} looks like the flag of {b}." for a, b in alike]
    return [
        SitePage("gallery", f"flags-{number}", f"Flags that look alike {number}", tuple(part))
        for number, part in enumerate(_parts(sentences, FACTS_A_LEAF), 1)
    ]


def _doubtful_pages(rng: random.Random, world: World, site: str, wording: str) -> list[SitePage]:
    facts = list(_facts(world))
    chosen = rng.sample(facts, round(DOUBTED * len(facts)))
    wrong = _wrong_values(rng, world)
    sentences = [fact.say(wording, wrong(fact)) for fact in chosen]
    title = {"old-almanac": "Old almanac, leaf", "chatter": "Chatter, thread"}[site]
    return [
        SitePage(site, str(number), f"{title} {number}", tuple(part))
        for number, part in enumerate(_parts(sentences, FACTS_A_LEAF), 1)
    ]


def _wrong_values(rng: random.Random, world: World) -> Callable[[_Fact], str]:
    """Values that are not the fact's: half of them another's, half unheard of."""
    names = Names(rng, world.split)
    taken = {e.name for e in world.entities} | {v for e in world.entities for v in e.facts.values()}
    others: dict[str, list[str]] = {}
    for fact in _facts(world):
        others.setdefault(fact.relation, []).append(fact.value)

    def wrong(fact: _Fact) -> str:
        candidates = [v for v in others[fact.relation] if v != fact.value]
        if fact.relation == "height":
            return rng.choice(candidates or [f"{int(fact.value.split()[0]) + 10} metres"])
        if candidates and rng.random() < 0.5:
            return rng.choice(candidates)
        while (name := names()) in taken:
            pass
        return name

    return wrong


def _trade_pages(rng: random.Random, world: World) -> list[SitePage]:
    countries = list(world.of("country"))
    rng.shuffle(countries)
    pages = []
    for number, group in enumerate(_parts(countries, ECONOMIES_A_REPORT), 1):
        sentences = [say.economy(c.name, c.facts["currency"]) for c in group]
        paragraphs = tuple(" ".join(pair) for pair in _parts(sentences, 2))
        pages.append(SitePage("trade", f"report-{number}", f"Trade report {number}", paragraphs))
    return pages
