"""All that the doors share: the models, the room, everybody's history, and who is asking."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from PIL.Image import Image

from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.compose.serving import ServedModel, ServeRecipe, build_served
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.files import make_folder
from deepmmsearch.hosts import LOCAL as LOOPBACK
from deepmmsearch.serve.account import Account
from deepmmsearch.serve.callers import LOCAL, Caller, Callers, read_callers
from deepmmsearch.serve.history import History
from deepmmsearch.serve.intake import take_question
from deepmmsearch.serve.room import Room, Run, on_text
from deepmmsearch.streams import echo_json
from deepmmsearch.types import Exchange


class Histories:
    """One for each owner, in a folder of its own, opened when it is first needed. An owner's name is one that the
    operator chose; `days` says how long its questions are kept."""

    def __init__(self, folder: Path, days: Mapping[str, int | None] | None = None) -> None:
        self._folder, self._days = folder, days or {}
        self._open: dict[str, History] = {}
        self._lock = threading.Lock()

    def of(self, owner: str) -> History:
        with self._lock:
            if owner not in self._open:
                make_folder(self._folder, private=True)
                self._open[owner] = History(self._folder / owner, self._days.get(owner))
            return self._open[owner]

    def close(self) -> None:
        with self._lock:
            for history in self._open.values():
                history.close()
            self._open.clear()


@dataclass
class House:
    """What a server serves. `models` in the order of the recipe, the first is the default; `known`: callers by the
    sha256 of their keys, none where no keys are needed."""

    recipe: ServeRecipe
    models: Mapping[str, ServedModel]
    known: Mapping[str, Caller] = field(default_factory=dict)
    histories: Histories = field(init=False)
    callers: Callers = field(init=False)
    account: Account = field(init=False)
    room: Room = field(init=False)

    def __post_init__(self) -> None:
        limits = {caller.name: caller.limits for caller in self.known.values()}
        self.histories = Histories(self.recipe.store, {name: each.days for name, each in limits.items()})
        self.callers = Callers(self.known, lambda owner: self.histories.of(owner).spent_today())
        self.account = Account(questions=self.recipe.log == "questions", write=self._log)
        self.room = Room(
            self.histories.of,
            concurrency=self.recipe.concurrency,
            waiting=self.recipe.waiting,
            timeout=self.recipe.timeout,
            per_owner=lambda owner: limits[owner].concurrent if owner in limits else None,
            ended=self.account.add,
        )

    @classmethod
    def load(cls, recipe: ServeRecipe) -> Self:
        """Loads every model. Raises UserError, MissingExtra."""
        known = read_callers(recipe.keys, recipe.each)
        if not known and not lets_everybody_in(recipe):
            raise UserError(
                f"Whoever reaches {recipe.host} could ask here. Make a key with `deepmmsearch keys add NAME`, and name "
                "its file as keys: in the recipe; or let everybody in with --insecure."
            )
        models = {name: build_served(name, given, on_text) for name, given in recipe.models.items()}
        return cls(recipe, models, known)

    def open_histories(self) -> None:
        """Everybody's, before anybody asks: what an earlier server left unanswered is told. Raises UserError where
        another server has them, or they cannot be read."""
        for owner in {caller.name for caller in self.known.values()} or {LOCAL}:
            self.histories.of(owner)

    def model(self, name: str | None) -> ServedModel:
        """The one of that name, or the default. Raises UnknownName."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise UnknownName("model", name[:80], self.models)
        return self.models[name]

    async def begin(
        self,
        workflow: AgentWorkflow,
        text: str,
        pictures: Sequence[bytes | str | Image],
        history: Sequence[Exchange],
        caller: Caller,
        model: str,
        **about: Any,
    ) -> Run:
        """Takes a question and begins to play it, with the workflow of a served model or one made of it. `about` is
        kept beside it, such as `conversation`. Raises UserError (TooMuch), Failed (NoPlace, Spent)."""
        # before anything is decoded or fetched
        self.callers.admit(caller)
        question = await take_question(text, pictures, history, self.recipe.uploads)
        return await self.room.start(workflow, question, caller.name, model=model, **about)

    def _log(self, row: Any) -> None:
        if self.recipe.log != "off":
            echo_json(row, err=True)

    async def close(self) -> None:
        """Ends what is in play and lets go of the histories."""
        await self.room.close()
        self.histories.close()


def lets_everybody_in(recipe: ServeRecipe) -> bool:
    """Are no keys needed: only this machine reaches the server, or its operator says so."""
    return recipe.insecure or recipe.host in LOOPBACK
