"""Lessons without pictures: to read, to copy, to rewrite, to remember."""

from __future__ import annotations

import random

from deepmmsearch.atlas import wordings as say
from deepmmsearch.atlas.drawing import (
    BUILDINGS,
    CARRIERS,
    COLOURS,
    LAYOUTS,
)
from deepmmsearch.atlas.names import FAMOUS, Names, Split
from deepmmsearch.atlas.world import RELATIONS
from deepmmsearch.bundled.lesson import Lesson
from deepmmsearch.bundled.small_tokenizer import TAGS

ALL_RELATIONS = tuple(r for relations in RELATIONS.values() for r in relations)
KNOWN_BY_HEART = [(c, r, v) for c, facts in FAMOUS.items() for r, v in facts.items()]


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
