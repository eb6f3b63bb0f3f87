"""What the page offers to a first visit: the first questions of a folder, as `deepmmsearch atlas make` writes it."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping

from deepmmsearch.atlas.world_files import read_questions
from deepmmsearch.compose.serving import ServedModel
from deepmmsearch.errors import UserError
from deepmmsearch.types import Question

MOST = 6


class Examples:
    """Of several models. Raises UserError for a folder that cannot be read."""

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        self._of = {name: _chosen(model) for name, model in models.items()}

    def texts(self, model: str) -> list[str]:
        return [question.text for question in self._of[model]]

    def picture(self, model: str, number: str) -> Callable[[], bytes]:
        """What draws the picture of that example (counted from 0) as PNG. Raises UserError where there is none."""
        found = {str(place): question for place, question in enumerate(self._of.get(model, []))}
        image = found[number].image if number in found else None
        if image is None:
            raise UserError("There is no such example.")

        def png() -> bytes:
            buffer = io.BytesIO()
            image.save(buffer, "PNG", compress_level=1)
            return buffer.getvalue()

        return png


def _chosen(model: ServedModel) -> list[Question]:
    if model.examples is None:
        return []
    # one of each kind first
    known: dict[str, list[Question]] = {}
    for question in itertools.islice(read_questions(model.examples), 5 * MOST):
        known.setdefault(str(question.metadata.get("kind", "")), []).append(question)
    rounds = itertools.zip_longest(*known.values())
    return [each for one in rounds for each in one if each is not None][:MOST]
