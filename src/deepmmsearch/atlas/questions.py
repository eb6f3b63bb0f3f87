"""Questions about one world, of every kind the paper needs, with gold answers, boxes and tool sequences.

| kind | what a perfect player does |
|---|---|
| look | answers by looking: how many flags, which colour, what carries it |
| memory | answers by heart: a famous country's name, or one of its well-known facts |
| image | one image search: whose flag, building or portrait is this |
| text | one text search about a named thing |
| image_text | image search, then text search |
| two_text | two text searches, the second with what the first found |
| image_two_text | image search, then two text searches |
| refine | image or none, a text search that is not enough, a better one |
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from deepmmsearch.atlas import velic
from deepmmsearch.atlas import wordings as say
from deepmmsearch.atlas.drawing import Placed, draw_building, draw_portrait, draw_scene
from deepmmsearch.atlas.names import FAMOUS
from deepmmsearch.atlas.tool_questions import TOOL_KINDS, ask_with_tools
from deepmmsearch.atlas.world import RELATIONS, TAXONOMY, Entity, World
from deepmmsearch.types import Question

KINDS = ("look", "memory", "image", "text", "image_text", "two_text", "image_two_text", "refine")
WEIGHTS = (0.12, 0.10, 0.14, 0.12, 0.20, 0.10, 0.12, 0.10)
SEARCH_FREE = ("look", "memory")

_HOPS = (
    ("capital", "mayor"),
    ("capital", "museum"),
    ("capital", "harbour"),
    ("ruler", "birthplace"),
    ("ruler", "spouse"),
)


@dataclass(frozen=True)
class Plan:
    """What has to be found, in order: `start` (how the picture is looked up, if at all), then a chain of relations from
    `entity`. `look` is the answer to a question about what is seen, with its reason; `sign` what a sign shows to who
    looks closer; `second` carries another flag that is searched."""

    entity: str = ""
    relations: tuple[str, ...] = ()
    start: str = ""  # "" | "flag" | "building" | "person"
    carrier: str = ""
    flags: int = 0
    by_heart: bool = False
    look: tuple[str, str] | None = None
    sign: str = ""
    second: str = ""

    def to_dict(self) -> dict[str, Any]:
        row = {**vars(self), "relations": list(self.relations), "look": list(self.look) if self.look else None}
        # what only questions for more tools have
        return {name: value for name, value in row.items() if value or name not in ("sign", "second")}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Plan:
        look = row.get("look")
        return cls(**{**row, "relations": tuple(row["relations"]), "look": (look[0], look[1]) if look else None})


@dataclass(frozen=True)
class _Scene:
    image: Image.Image
    placed: tuple[Placed, ...]
    target: Placed
    count: int


def _flag_scene(rng: random.Random, world: World, target: Entity) -> _Scene:
    count = rng.choice([1, 1, 2, 3, 4, 5])
    others = rng.sample([c for c in world.of("country") if c is not target], count - 1)
    flags = [c.flag for c in [target, *others] if c.flag]
    image, placed = draw_scene(rng, flags)
    return _Scene(image, placed, next(p for p in placed if p.flag == target.flag), count)


def _subject(rng: random.Random, scene: _Scene) -> str | None:
    """The carrier by which the question names the flag; None says "this flag", where there is only one."""
    return None if scene.count == 1 and rng.random() < 0.5 else scene.target.carrier


def _answers(entity: Entity | None, value: str) -> tuple[str, ...]:
    if entity is not None and entity.kind == "country":
        return (value, f"Republic of {value}")
    if value.endswith(" metres"):
        number = value.split()[0]
        return (value, f"{number} m", number)
    return (value,)


def _look(rng: random.Random, world: World) -> tuple[str, Plan, str, _Scene]:
    ordinary = [c for c in world.of("country") if not c.famous]
    scene = _flag_scene(rng, world, rng.choice(ordinary))
    target = scene.target
    match rng.randrange(3):
        case 0:
            answer = say.NUMBERS[scene.count]
            return say.ask_count(rng), Plan(look=(answer, say.reason_count(scene.count))), answer, scene
        case 1:
            assert target.flag is not None
            answer = target.flag.main
            reason = f"The main colour of the flag on the {target.carrier} is {answer}."
            return say.ask_colour(rng, target.carrier), Plan(look=(answer, reason)), answer, scene
        case _:
            reason = f"The flag at the {target.position} is on the {target.carrier}."
            return say.ask_carrier(rng, target.position), Plan(look=(target.carrier, reason)), target.carrier, scene


def _memory(rng: random.Random, world: World) -> tuple[str, Plan, str, _Scene]:
    country = rng.choice([c for c in world.of("country") if c.famous])
    scene = _flag_scene(rng, world, country)
    relation = rng.choice([*FAMOUS[country.name], ""])
    carrier = _subject(rng, scene)
    relations: tuple[str, ...] = (relation,)
    if not relation:
        text, answer, relations = say.ask_country(rng, carrier), country.name, ()
    elif rng.random() < 0.5:
        text, answer = say.ask_fact(rng, relation, country.name), country.facts[relation]
        return text, Plan(country.name, relations, by_heart=True), answer, scene
    else:
        text, answer = say.ask_fact(rng, relation, say.flag_subject(rng, carrier)), country.facts[relation]
    return text, Plan(country.name, relations, "flag", scene.target.carrier, scene.count, by_heart=True), answer, scene


def _plain_relation(rng: random.Random, entity: Entity) -> str:
    known = FAMOUS.get(entity.name, {})
    return rng.choice([r for r in RELATIONS[entity.kind] if r not in entity.untold and r not in known])


def _searching(rng: random.Random, world: World, kind: str) -> tuple[str, Plan, str, _Scene]:
    """Questions that need a search. Asked about a famous country only where its answer is not known by heart."""
    countries = world.of("country")
    start = kind.startswith("image") or (kind == "refine" and rng.random() < 0.6)
    if kind == "refine":
        # A famous flag would not have to be looked up, so only the name of such a country is given.
        country = rng.choice([c for c in countries if "currency" in c.untold and not (start and c.famous)])
        chain: tuple[str, ...] = ("currency",)
    elif kind.endswith("two_text"):
        country = rng.choice([c for c in countries if not c.famous])
        chain = rng.choice(_HOPS)
    else:
        country = rng.choice([c for c in countries if not c.famous])
        chain = () if kind == "image" else (_plain_relation(rng, country),)
    picture = rng.choice([e for e in world.entities if e.kind in ("landmark", "person")])
    if kind in ("image", "image_text") and rng.random() < 0.3:
        what = "building" if picture.kind == "landmark" else "person"
        draw = (
            draw_building(rng, picture.style, picture.look) if what == "building" else draw_portrait(rng, picture.look)
        )
        scene = _Scene(draw, (), Placed(what, 0), 0)
        relation = rng.choice(RELATIONS[picture.kind])
        text = say.ask_picture(rng, what) if kind == "image" else say.ask_fact(rng, relation, f"this {what}")
        relations = () if kind == "image" else (relation,)
        answer = picture.name if kind == "image" else picture.facts[relation]
        return text, Plan(picture.name, relations, what), answer, scene
    scene = _flag_scene(rng, world, country)
    if not start and kind == "text":
        entity = rng.choice([e for e in world.entities if not e.famous])
        chain = (_plain_relation(rng, entity),)
        text = say.ask_fact(rng, chain[0], entity.name)
        return text, Plan(entity.name, chain), entity.facts[chain[0]], scene
    carrier = _subject(rng, scene)
    subject = say.flag_subject(rng, carrier) if start else country.name
    value = country.name
    for relation in chain:
        value = world.by_name[value].facts[relation]
    if not chain:
        text = say.ask_country(rng, carrier)
    elif len(chain) == 1:
        text = say.ask_fact(rng, chain[0], subject)
    else:
        text = say.ask_fact(rng, chain[1], f"the {chain[0]} of {subject}")
    plan = Plan(country.name, chain, "flag" if start else "", scene.target.carrier if start else "", scene.count)
    return text, plan, value, scene


def make_question(rng: random.Random, world: World, kind: str, id: str) -> Question:
    """One question with its scene.

    metadata: kind, category, search_required, flags, gold_box (left, top, right, bottom in pixels of the image),
    gold_tools (the calls of a perfect player, in order) and the plan the oracle follows.
    """
    if kind in TOOL_KINDS:
        return _tool_question(rng, world, kind, id)
    if kind == "look":
        text, plan, answer, scene = _look(rng, world)
    elif kind == "memory":
        text, plan, answer, scene = _memory(rng, world)
    else:
        text, plan, answer, scene = _searching(rng, world, kind)
    relation = plan.relations[-1] if plan.relations else "name"
    metadata = {
        "kind": kind,
        "category": TAXONOMY[relation],
        "search_required": kind not in SEARCH_FREE,
        "flags": scene.count,
        "crop": plan.start == "flag" and not plan.by_heart,
        "gold_box": list(scene.target.box) if scene.target.box else None,
        "gold_tools": _gold_tools(plan, world, kind),
        "plan": plan.to_dict(),
        "world": f"{world.split}-{world.seed}",
    }
    return _in_its_language(
        Question(id, text, (scene.image,), _answers(world.by_name.get(answer), answer), metadata), world
    )


def _tool_question(rng: random.Random, world: World, kind: str, id: str) -> Question:
    asked = ask_with_tools(rng, world, kind)
    plan = Plan(**asked.plan)
    metadata = {
        "kind": kind,
        "category": TAXONOMY[plan.relations[-1] if plan.relations else "flag" if plan.sign else "name"],
        "search_required": kind != "sign",
        "flags": asked.shown,
        "crop": bool(plan.second),
        "gold_boxes": {words: list(box) for words, box in asked.boxes.items()},
        "gold_tools": asked.calls,
        "plan": plan.to_dict(),
        "world": f"{world.split}-{world.seed}",
    }
    return _in_its_language(Question(id, asked.text, (asked.image,), asked.answers, metadata), world)


def _in_its_language(question: Question, world: World) -> Question:
    """What is asked and answered in the language of the world's questions, what is searched in that of its pages."""
    variant = world.variant
    if variant.language == variant.questions == "english":
        return question
    told = question.metadata
    calls = [
        [tool, velic.say(variant.language, given) if tool == "text_search" else given]
        for tool, given in told["gold_tools"]
    ]
    return replace(
        question,
        text=velic.say(variant.questions, question.text),
        answers=tuple(velic.say(variant.questions, answer) for answer in question.answers),
        metadata={**told, "gold_tools": calls, "language": variant.language, "asked_in": variant.questions},
    )


def _gold_tools(plan: Plan, world: World, kind: str) -> list[list[str]]:
    if plan.by_heart or plan.look:
        return []
    calls: list[list[str]] = []
    if plan.start:
        calls.append(["image_search", say.region(plan.carrier) if plan.start == "flag" else ""])
    name = plan.entity
    for relation in plan.relations:
        calls.append(["text_search", say.query(relation, name)])
        if kind == "refine":
            calls.append(["text_search", say.query("economy", name)])
        name = world.by_name[name].facts[relation]
    return calls


def kind_weights(search_share: float | None = None) -> tuple[float, ...]:
    """How often each of KINDS is asked; with `search_share` the share that needs a search, 0.78 otherwise."""
    if search_share is None:
        return WEIGHTS
    free = sum(w for kind, w in zip(KINDS, WEIGHTS, strict=True) if kind in SEARCH_FREE)
    scale = {True: (1 - search_share) / free, False: search_share / (sum(WEIGHTS) - free)}
    return tuple(w * scale[kind in SEARCH_FREE] for kind, w in zip(KINDS, WEIGHTS, strict=True))


def each_question(world: World, count: int, seed: int = 0, search_share: float | None = None) -> Iterator[Question]:
    """`count` questions, kinds drawn by `kind_weights` in a fixed order of seeds: the same seed, the same questions.
    One at a time: a scene takes about 1 MB."""
    rng = random.Random(f"questions {world.split} {world.seed} {seed}")
    if world.variant.kinds == "tools":
        kinds = rng.choices(TOOL_KINDS, k=count)
    else:
        kinds = rng.choices(KINDS, kind_weights(search_share), k=count)
    for i, kind in enumerate(kinds):
        id = f"{world.split}{world.seed}-{seed}-{i:05d}"
        yield make_question(random.Random(rng.getrandbits(64)), world, kind, id)


def make_questions(world: World, count: int, seed: int = 0) -> list[Question]:
    return list(each_question(world, count, seed))
