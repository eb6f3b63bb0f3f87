"""An index kept up to date with its folder: looks at the files again and again, which works on every file system.

Between looks no lock is held: others may write to the index as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from deepmmsearch.engine.build_report import Log, Outcome, unlogged
from deepmmsearch.engine.index import Index
from deepmmsearch.engine.update import Changes
from deepmmsearch.errors import UserError
from deepmmsearch.progress import Watch, silent

SHARE = 20
"""A pause is at least so many times as long as a look."""


class Rest:
    """Which changes have rested: those that are the same in two looks. Each is given once, so that what cannot be read
    now is not tried in every look."""

    def __init__(self) -> None:
        self._looks: dict[tuple[str, int], int] = {}
        self.waiting = False
        """Is there one that has not rested yet?"""

    def rested(self, found: Changes) -> Changes:
        before, self._looks = self._looks, {}
        todo = [pair for pair in found.todo if self._again((pair[0].file, pair[0].stamp), before)]
        gone = [pair for pair in found.gone if self._again((pair[0], 0), before)]
        self.waiting = 1 in self._looks.values()
        return Changes(todo, gone)

    def _again(self, change: tuple[str, int], before: dict[tuple[str, int], int]) -> bool:
        self._looks[change] = before.get(change, 0) + 1
        return self._looks[change] == 2

    def forget(self) -> None:
        """They are given once more."""
        self._looks = dict.fromkeys(self._looks, 1)


def watching(
    index: Index,
    every: float = 2.0,
    watch: Watch = silent,
    log: Log = unlogged,
    pause: Callable[[float], Any] = time.sleep,
) -> Iterator[str]:
    """Never ends. Yields a sentence when something was done, or when something stands in the way, once for each cause.

    every: seconds between two looks, at the least.
    """
    rest, told = Rest(), ""
    log = _once(log)
    while True:
        start = time.monotonic()
        said = ""
        try:
            found = index.differences()
            if found.gone and not found.todo and not any(index.root.iterdir()):
                said = f"{index.root} is empty: nothing is removed. For an index of an empty folder run: index build"
            elif any(rested := rest.rested(found)):
                yield f"{_update(index, rested, watch, log)}"
                told = ""
        except (UserError, OSError) as error:
            said = str(error)
            rest.forget()
        if said and said != told:
            yield said
        told = said
        pause(max(every, SHARE * (time.monotonic() - start)))


def _once(log: Log) -> Log:
    """A file that stays skipped is told of once."""
    told: dict[str, str] = {}

    def logged(outcome: Outcome, file: str, reason: str) -> None:
        if told.get(file) != reason or not reason:
            log(outcome, file, reason)
        told[file] = reason

    return logged


def _update(index: Index, rested: Changes, watch: Watch, log: Log) -> str:
    stamps = {found.file: found.stamp for found, _ in rested.todo}
    removed = {file for file, _ in rested.gone}

    def wanted(found: Changes) -> Changes:
        return Changes(
            [pair for pair in found.todo if stamps.get(pair[0].file) == pair[0].stamp],
            [pair for pair in found.gone if pair[0] in removed],
        )

    return index.update(watch, log=log, wanted=wanted).sentence
