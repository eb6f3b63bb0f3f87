"""All that the doors share: the models, the room, everybody's history, and who is asking."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from deepmmsearch.compose.serving import ServedModel, ServeRecipe, build_served
from deepmmsearch.errors import UnknownName
from deepmmsearch.serve.history import History
from deepmmsearch.serve.intake import take_question
from deepmmsearch.serve.room import Room, Run, on_text
from deepmmsearch.types import Exchange

LOCAL = "local"
"""Who asks where no keys are needed."""


class Histories:
    """One for each owner, in a folder of its own, opened when it is first needed. An owner's name is one that the
    operator chose."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, History] = {}
        self._lock = threading.Lock()

    def of(self, owner: str) -> History:
        with self._lock:
            if owner not in self._open:
                self._open[owner] = History(self._folder / owner)
            return self._open[owner]

    def close(self) -> None:
        with self._lock:
            for history in self._open.values():
                history.close()
            self._open.clear()


@dataclass
class House:
    """What a server serves. `models` in the order of the recipe, the first is the default."""

    recipe: ServeRecipe
    models: Mapping[str, ServedModel]
    histories: Histories = field(init=False)
    room: Room = field(init=False)

    def __post_init__(self) -> None:
        self.histories = Histories(self.recipe.store)
        self.room = Room(
            self.histories.of,
            concurrency=self.recipe.concurrency,
            waiting=self.recipe.waiting,
            timeout=self.recipe.timeout,
            per_owner=lambda owner: None if owner == LOCAL else self.recipe.each.concurrent,
        )

    @classmethod
    def load(cls, recipe: ServeRecipe) -> Self:
        """Loads every model. Raises UserError, MissingExtra."""
        return cls(recipe, {name: build_served(name, given, on_text) for name, given in recipe.models.items()})

    def model(self, name: str | None) -> ServedModel:
        """The one of that name, or the default. Raises UnknownName."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise UnknownName("model", name, self.models)
        return self.models[name]

    async def ask(
        self,
        text: str,
        pictures: Sequence[bytes | str] = (),
        *,
        owner: str = LOCAL,
        model: str | None = None,
        history: Sequence[Exchange] = (),
        calls: int | None = None,
        **about: Any,
    ) -> Run:
        """Takes a question and begins to play it. `calls`: at most so many tool calls; `about` is kept beside it, such
        as `conversation`. Raises UnknownName, UserError (TooMuch, NoPlace)."""
        chosen = self.model(model)
        question = await take_question(text, pictures, history, self.recipe.uploads)
        return await self.room.start(chosen.limited(calls), question, owner, model=chosen.name, **about)

    async def close(self) -> None:
        """Ends what is in play and lets go of the histories."""
        await self.room.close()
        self.histories.close()
