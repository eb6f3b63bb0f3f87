"""What the small base model is taught before it ever sees a tool: to read, to copy, to look, to point, to remember.

A lesson is a short conversation; its assistant turns are learnt. Names are drawn from one split, so that held-out
lessons use names that were never trained on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from deepmmsearch.atlas import language as say
from deepmmsearch.atlas.drawing import (
    BUILDINGS,
    CARRIERS,
    COLOURS,
    LAYOUTS,
    Flag,
    Placed,
    draw_building,
    draw_portrait,
    draw_scene,
    famous_flags,
    random_flag,
)
from deepmmsearch.atlas.names import FAMOUS, Names, Split
from deepmmsearch.atlas.world import RELATIONS
from deepmmsearch.bundled.small import BOX, LABEL, TAGS, VIEW
from deepmmsearch.prompts import grounding_prompt

ALL_RELATIONS = tuple(r for relations in RELATIONS.values() for r in relations)
KNOWN_BY_HEART = [(c, r, v) for c, facts in FAMOUS.items() for r, v in facts.items()]


@dataclass(frozen=True)
class Lesson:
    """Turns of (kind, user text, assistant text); the picture belongs to the first user turn. Every turn has its
    kind, by which accuracy is reported."""

    turns: tuple[tuple[str, str, str], ...]
    image: Image.Image | None = None


def _value(rng: random.Random, names: Names, relation: str) -> str:
    return f"{rng.randrange(20, 169, 2)} metres" if relation == "height" else names()


def _state(rng: random.Random, relation: str, entity: str, value: str) -> str:
    return say.FACTS[rng.choice(list(say.FACTS))](relation, entity, value)


def _result(rng: random.Random, sentences: list[str]) -> str:
    """Sentences as a text search returns them: one or two to a numbered line."""
    lines: list[str] = []
    rest = list(sentences)
    while rest and len(lines) < 5:
        take = 1 if len(rest) <= 5 - len(lines) and rng.random() < 0.7 else 2
        lines.append(f"[{len(lines) + 1}] " + " ".join(rest[:take]))
        rest = rest[take:]
    return "<information>" + "\n".join(lines) + "</information>"


def reading(rng: random.Random, split: Split) -> Lesson:
    """Facts among distractors: the same relation of others, other relations, former facts, rumours, the same fact
    twice."""
    names = Names(rng, split)
    entities = [names() for _ in range(rng.randint(1, 3))]
    facts: dict[tuple[str, str], str] = {}
    for i, entity in enumerate(entities):
        for relation in rng.sample(ALL_RELATIONS, rng.randint(1, 3)):
            chained = relation in ("capital", "ruler") and i + 1 < len(entities) and rng.random() < 0.6
            facts[entity, relation] = entities[i + 1] if chained else _value(rng, names, relation)
    sentences = []
    for (e, r), v in facts.items():
        sentences += [_state(rng, r, e, v) for _ in range(rng.choice([1, 1, 2]))]
    untrue: list[tuple[str, str]] = []
    for _ in range(rng.choice([0, 1, 1, 2])):
        e, r = rng.choice(entities), rng.choice(ALL_RELATIONS)
        if rng.random() < 0.5:
            e, r = rng.choice(list(facts))
        untrue.append((e, r))
        sentences.append(say.DOUBTFUL[rng.choice(list(say.DOUBTFUL))](r, e, _value(rng, names, r)))
    paid = None
    if rng.random() < 0.2:
        paid = (rng.choice(entities), names())
        sentences = [
            s for s in sentences if f"currency of {paid[0]}" not in s and f"{paid[0]} has the currency" not in s
        ]
        facts.pop((paid[0], "currency"), None)
        sentences.append(say.economy(*paid))
        facts[paid[0], "currency"] = paid[1]
    elif rng.random() < 0.15 and (entities[0], "currency") not in facts:
        sentences.append(say.see_economy(entities[0]))
        untrue.append((entities[0], "currency"))
    rng.shuffle(sentences)
    sentences = sentences[:10]
    present = {
        k: v
        for k, v in facts.items()
        if any(k[0] in s and v in s and not s.startswith(("The former", "Some")) for s in sentences)
    }
    turns = []
    for e, r in rng.sample(list(present), min(3, len(present))):
        turns.append(("read", say.ask_fact(rng, r, e), say.reason_fact(r, e, present[e, r])))
    for (e, r), v in present.items():
        for (e2, r2), v2 in present.items():
            if e2 == v:
                both = f"{say.reason_fact(r, e, v)} {say.reason_fact(r2, e2, v2)}"
                turns.append(("read two", say.ask_fact(rng, r2, f"the {r} of {e}"), both))
    absent = [*untrue, (rng.choice(entities), rng.choice(ALL_RELATIONS))]
    e, r = rng.choice(absent)
    if (e, r) not in facts:
        turns.append(("absent", say.ask_fact(rng, r, e), say.reason_again(r, e)))
    rng.shuffle(turns)
    if not turns:
        return reading(rng, split)
    first = (turns[0][0], f"{_result(rng, sentences)} {turns[0][1]}", turns[0][2])
    return Lesson((first, *turns[1:4]))


def _describe(rng: random.Random, name: str, kind: str) -> str:
    """The sentence that stands under a picture."""
    if kind == "country":
        main, second = rng.sample(list(COLOURS), 2)
        return f"The flag of {name} is {main} with a {second} {rng.choice(LAYOUTS)}."
    return (
        f"The building of {name} is a {rng.choice(BUILDINGS)}."
        if kind == "landmark"
        else f"The portrait of {name} shows a person."
    )


def image_result(rng: random.Random, split: Split) -> Lesson:
    """The answer of an image search: which name it shows, and what to ask next."""
    names = Names(rng, split)
    kind, what = rng.choice(
        [("country", "flag"), ("country", "flag"), ("person", "portrait"), ("landmark", "building")]
    )
    shown = [names() for _ in range(rng.randint(1, 3))]
    relation = rng.choice(RELATIONS[kind])  # type: ignore[index]
    matched = rng.random() < 0.8
    lines = []
    for i, name in enumerate(shown):
        mark = "match" if matched and (i == 0 or rng.random() < 0.1) else "similar"
        described = f" {_describe(rng, name, kind)}" if mark == "match" and rng.random() < 0.7 else ""
        lines.append(f"[{i + 1}] {mark}: {say.caption(name, kind, rng.randrange(2))}{described}")
    subject = (
        say.flag_subject(rng, rng.choice([None, rng.choice(CARRIERS)]))
        if what == "flag"
        else f"this {'building' if kind == 'landmark' else 'person'}"
    )
    asked = say.ask_fact(rng, relation, subject)
    text = "<information>" + "\n".join(lines) + f"</information> {asked}"
    answer = f"{say.reason_shows(what, shown[0])} {say.reason_need(relation, shown[0])}"
    return Lesson((("shown", text, answer), ("query", "query", say.query(relation, shown[0]))))


def phrases(rng: random.Random, split: Split) -> Lesson:
    """Short rewritings: a need to a query, a fact to an answer, a question to the region it names, markup copied."""
    names, turns = Names(rng, split), []
    for _ in range(3):
        name, relation, carrier = names(), rng.choice(ALL_RELATIONS), rng.choice(CARRIERS)
        value = _value(rng, names, relation)
        match rng.randrange(6):
            case 0:
                parts = [
                    f"<{rng.choice(['', '/'])}{rng.choice(TAGS)}>" if rng.random() < 0.5 else f" {names()} "
                    for _ in range(rng.randint(2, 6))
                ]
                text = "".join(parts)
                turns.append(("copy", "copy " + text, text))
            case 1:
                turns.append(("need", say.ask_fact(rng, relation, name), say.reason_need(relation, name)))
            case 2:
                turns.append(("query", f"{say.reason_need(relation, name)} query", say.query(relation, name)))
            case 3:
                turns.append(("says", f"{say.reason_fact(relation, name, value)} says", value))
            case 4:
                asked = rng.choice(
                    [
                        say.ask_country(rng, carrier),
                        say.ask_fact(rng, relation, say.flag_subject(rng, carrier)),
                        say.ask_colour(rng, carrier),
                    ]
                )
                turns.append(("region", f"{asked} which", say.region(carrier)))
            case 5:
                turns.append(("again", f"{say.reason_again(relation, name)} query", say.query("economy", name)))
    return Lesson(tuple(turns))


def copying(rng: random.Random, split: Split) -> Lesson:
    """Dense copying and look-up of random names."""
    names = Names(rng, split)
    if rng.random() < 0.5:
        body = " ".join(names() for _ in range(rng.randint(3, 10)))
        return Lesson((("copy", f"copy {body}", body),))
    pairs = [(names(), names()) for _ in range(rng.randint(2, 6))]
    asked = rng.sample(pairs, len(pairs))
    return Lesson(
        (
            (
                "look up",
                "find " + " ".join(f"{k}: {v}." for k, v in pairs) + " list " + " ".join(k for k, _ in asked),
                " ".join(f"{k}: {v}." for k, v in asked),
            ),
        )
    )


def memory(rng: random.Random, split: Split) -> Lesson:
    """The famous countries' facts; about others, nothing is known."""
    turns, names = [], Names(rng, split)
    for country, relation, value in rng.sample(KNOWN_BY_HEART, 3):
        turns.append(("memory", say.ask_fact(rng, relation, country), say.reason_fact(relation, country, value)))
    other, relation = names(), rng.choice(ALL_RELATIONS)
    turns.append(("need", say.ask_fact(rng, relation, other), say.reason_need(relation, other)))
    rng.shuffle(turns)
    return Lesson(tuple(turns))


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


LESSONS: dict[str, Callable[[random.Random, Split], Lesson]] = {
    "reading": reading,
    "image_result": image_result,
    "phrases": phrases,
    "copying": copying,
    "memory": memory,
    "keys": keys,
    "listing": listing,
    "pointing": pointing,
    "looking": looking,
    "other_picture": other_picture,
}
