"""Teaching material: the oracle's trajectories on training worlds, played through the real engine.

Kinds of rows: episodes with tools, the same questions answered without tools (by looking or by heart, else giving
up), pointing: where in the picture is the flag on the ship? And, if asked for, close-ups: what colour has this sign?
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import AgentWorkflow, run_all
from deepmmsearch.atlas import wordings as say
from deepmmsearch.atlas.closeups import closeup_questions
from deepmmsearch.atlas.oracle import OraclePolicy
from deepmmsearch.atlas.play import correct, with_gold_boxes
from deepmmsearch.atlas.questions import make_question
from deepmmsearch.atlas.world import USUAL, Variant, World, make_world
from deepmmsearch.atlas.world_files import load_questions
from deepmmsearch.atlas.worlds import keep_world
from deepmmsearch.files import write_json
from deepmmsearch.outputs import Output
from deepmmsearch.progress import Step, Watch, silent
from deepmmsearch.prompts import grounding_prompt, load_prompt, prompt_names
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import PAPER_LIMITS, Answer, Completion, Limits, Prompt, Question, Trajectory, Turn

POINTING = Prompt("grounding", "deepmmsearch-r1", system="")


@dataclass(frozen=True)
class Lessons:
    """How much is taught.

    `worlds` of `questions` each, and `by_heart` more that need no search: to know a flag is harder than to look it up.
    `careful`: share of what everybody knows by heart that the teacher looks up all the same. `direct`: share of
    questions also asked without tools. `pointing`: share of pictures in which something is pointed at. `max_pixels`: of
    a picture as the student sees it. `prompt`: the set that episodes are played with. `closeups`: signs seen close, in
    each world.
    """

    worlds: int = 16
    questions: int = 400
    seed: int = 1000
    careful: float = 0.0
    direct: float = 0.15
    pointing: float = 0.25
    by_heart: int = 100
    max_pixels: int = 168 * 112
    prompt: str = "atlas"
    closeups: int = 0
    variant: Variant = USUAL

    @property
    def alike(self) -> dict[str, Any]:
        """What worlds have in common that join one folder."""
        usual = ("worlds", "seed", "prompt", "closeups", "variant")
        told: dict[str, Any] = dict(self.variant.told)
        told |= {} if self.prompt == "atlas" else {"prompt": self.prompt}
        told |= {"closeups": self.closeups} if self.closeups else {}
        return {name: value for name, value in vars(self).items() if name not in usual} | told


def teach(lessons: Lessons, folder: Path, watch: Watch = silent) -> None:
    """Appends every world's rows to the store in `folder`; worlds that are there already are skipped, half-finished
    ones completed. Raises UserError where the folder holds rows of other lessons, or something else."""
    Output(folder, "atlas teach", private=True).claim(lessons.alike)
    store = TrajectoryStore(folder)
    done = set(store.ids())
    for seed in range(lessons.seed, lessons.seed + lessons.worlds):
        mark = folder / f"world-{seed}.json"
        if mark.exists():
            watch(f"World {seed}: already in {folder}")
            continue
        kept = 0
        for row in _world_rows(seed, lessons, watch):
            if row.question.id not in done:
                store.append(row)
            kept += 1
        write_json(mark, {"seed": seed, "rows": kept}, private=True)
        watch(f"World {seed}, {seed - lessons.seed + 1} of {lessons.worlds}: {kept} rows")


def _world_rows(seed: int, lessons: Lessons, watch: Watch) -> Iterator[Trajectory]:
    with tempfile.TemporaryDirectory() as folder:
        variant, tools_needed = lessons.variant, lessons.variant.kinds == "tools"
        kept = keep_world(Path(folder), seed, "train", lessons.questions, watch=watch, variant=variant)
        tools, questions = kept.toolbox(), load_questions(kept.atlas)
        known = [] if tools_needed else by_heart(make_world(seed, "train", variant=variant), lessons.by_heart)
        asked = [_looked_up(question, lessons.careful) for question in (*questions, *known)]
        limits = replace(PAPER_LIMITS, image_searches=2) if tools_needed else PAPER_LIMITS
        for trajectory in asyncio.run(_play(asked, tools, lessons.prompt, f"World {seed}, episodes", watch, limits)):
            if correct(trajectory):
                yield _as_seen(trajectory, lessons.max_pixels)
        rng = random.Random(f"teach {seed}")
        if (direct := f"{lessons.prompt}-direct") in prompt_names():
            asked = [replace(q, id=f"{q.id}-direct") for q in questions if rng.random() < lessons.direct]
            for trajectory in asyncio.run(_play(asked, Toolbox(), direct, f"World {seed}, without tools", watch)):
                yield _as_seen(trajectory, lessons.max_pixels)
        for question in questions:
            if rng.random() < lessons.pointing and (row := _pointing(question, lessons.max_pixels)):
                yield row
        for number, (shown, text, colour) in enumerate(closeup_questions(seed, "train", lessons.closeups)):
            close = Question(f"train{seed}-closeup-{number:05d}", text, images=(_seen(shown, lessons.max_pixels),))
            yield _told(close, say.reason_sign(colour), colour)


def by_heart(world: World, count: int) -> list[Question]:
    """`count` questions about what everybody knows."""
    rng = random.Random(f"by heart {world.split} {world.seed}")
    return [make_question(rng, world, "memory", f"{world.split}{world.seed}-heart-{i:05d}") for i in range(count)]


def _looked_up(question: Question, share: float) -> Question:
    """The question with a plan that looks up what is known by heart, for `share` of such questions."""
    plan = question.metadata["plan"]
    if not plan["by_heart"] or random.Random(f"careful {question.id}").random() >= share:
        return question
    return replace(question, metadata={**question.metadata, "plan": {**plan, "by_heart": False}})


async def _play(
    questions: list[Question],
    tools: Toolbox,
    prompt: str,
    stage: str,
    watch: Watch,
    limits: Limits = PAPER_LIMITS,
) -> list[Trajectory]:
    watch(Step(stage, 0, len(questions)))
    played: list[Trajectory] = []
    oracle = AgentWorkflow(OraclePolicy(), load_prompt(prompt), with_gold_boxes(tools), limits, label="oracle")
    async for row in run_all(questions, oracle, concurrency=4):
        played.append(row)
        watch(Step(stage, len(played), len(questions)))
    return played


def _as_seen(trajectory: Trajectory, max_pixels: int) -> Trajectory:
    """Without the pixels that the student never sees: a tenth of the size on disk, the same training rows."""
    turns = tuple(
        replace(
            turn,
            observation=turn.observation
            and replace(
                turn.observation,
                images=tuple(_seen(image, max_pixels) for image in turn.observation.images),
                crop=None,
                hits=tuple(replace(h, image=None) for h in turn.observation.hits),
            ),
        )
        for turn in trajectory.turns
    )
    return replace(trajectory, question=_small(trajectory.question, max_pixels), turns=turns)


def _small(question: Question, max_pixels: int) -> Question:
    assert question.image is not None
    return replace(question, images=(_seen(question.image, max_pixels),))


def _seen(image: Image, max_pixels: int) -> Image:
    return images.model_view(image, 56 * 56, max_pixels)


def _pointing(question: Question, max_pixels: int) -> Trajectory | None:
    """The gold box in pixels of the picture as the student sees it, even numbers, in Qwen2.5-VL's JSON."""
    box, plan = question.metadata.get("gold_box"), question.metadata["plan"]
    if not box or not plan["carrier"] or question.image is None:
        return None
    seen = _small(question, max_pixels)
    assert seen.image is not None
    scale = seen.image.width / question.image.width
    numbers = ", ".join(str(round(c * scale / 2) * 2) for c in box)
    text = f'{{"label": "{plan["carrier"]}", "bbox_2d": [{numbers}]}}'
    asked = replace(seen, id=f"{question.id}-box", text=grounding_prompt(f"the flag on the {plan['carrier']}"))
    return _told(asked, text, text)


def _told(question: Question, text: str, answer: str) -> Trajectory:
    turn = Turn(Completion(text), Answer(answer))
    return Trajectory(question, POINTING, turns=(turn,), stop="answer", policy="oracle")
