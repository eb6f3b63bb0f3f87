"""What a data build compares: its own rows, and the questions of the evaluations that must not be in it."""

from __future__ import annotations

from typing import Any

from deepmmsearch.atlas.questions import each_question
from deepmmsearch.atlas.world import make_world
from deepmmsearch.data.near_duplicates import Fingerprint, fingerprint, picture_hash
from deepmmsearch.data.published import open_questions
from deepmmsearch.data.recipe import Against, AgainstAtlas
from deepmmsearch.data.tables import Row
from deepmmsearch.errors import UserError
from deepmmsearch.types import Question

WORLD_QUESTIONS = 500


def evaluation_prints(named: Against) -> tuple[list[Fingerprint], dict[str, Any]]:
    """What is compared of an evaluation's questions, and how many could be loaded. Raises UserError when none could."""
    if isinstance(named, AgainstAtlas):
        world = make_world(named.seed, "eval")
        prints = [_print_of(question) for question in each_question(world, named.count or WORLD_QUESTIONS)]
        return prints, {"world": named.seed, "loaded": len(prints)}
    asked = open_questions(
        named.benchmark,
        path=named.path,
        images=named.images,
        split=named.split,
        sample=named.count or 0,
        seed=named.seed,
    )
    prints = [_print_of(question) for question in asked]
    if not prints:
        raise UserError(
            f"No question of {named.benchmark} could be loaded, so nothing can be compared with it: "
            f"{dict(asked.report.dropped)}. Give its path, or take it out of unique.against."
        )
    return prints, asked.report.to_dict()


def _print_of(question: Question) -> Fingerprint:
    hashed = picture_hash(question.image) if question.image is not None else None
    return fingerprint(question.id, question.text, question.answers, hashed)


def row_print(row: Row) -> Fingerprint:
    """What is compared of a row."""
    return fingerprint(row["id"], row["question"], row["answers"], row["image_hash"])
