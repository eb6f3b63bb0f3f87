"""What was asked and answered, kept in an ordinary trajectory store: a question is stored when it is taken and again
when it has ended, so that a restart knows which ones were interrupted.

A store belongs to one server at a time; within it, one thread at a time reads and writes. Pictures, which take longest,
are written by several at once, and nothing is removed meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deepmmsearch.errors import UserError
from deepmmsearch.files import locked, write_json
from deepmmsearch.images import KeptPicture, pack
from deepmmsearch.notation import parse_json
from deepmmsearch.serve.refusals import INTERRUPTED, NamedRefusal
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Trajectory

TITLES = "titles.json"
LONGEST_TITLE = 200
_LOCK = ".serving"


@dataclass(frozen=True)
class HistoryEntry:
    """A line of the history. `date` is ISO 8601; `stop` None means that it is in play. `cost` in US dollars."""

    id: str
    conversation: str
    date: str
    title: str
    question: str
    answer: str | None
    stop: str | None
    error: str | None
    model: str
    pictures: int
    cost: float
    offset: int


class History:
    """One owner's. What is older than so many `days` is deleted, once a day. Raises UserError where the folder cannot
    be used, or another server uses it."""

    def __init__(self, folder: Path, days: int | None = None) -> None:
        self._days, self._looked = days, ""
        self.store = TrajectoryStore(folder)
        self._lock = threading.Condition()
        self._preparing, self._removing = 0, False
        self._held = locked(folder / _LOCK, wait=False, private=True)
        if not self._held.__enter__():
            raise UserError(f"Another server keeps its history in {folder}. Stop it, or set another store.")
        self._titles = self._read_titles()
        self._entries: dict[str, HistoryEntry] = {}
        for offset, line in self.store.spots():
            self._note(offset, line)
        self._interrupted()
        self._expire()

    def close(self) -> None:
        self._held.__exit__(None, None, None)

    def keep(self, trajectory: Trajectory, about: Mapping[str, Any]) -> None:
        """Stores the trajectory under its question's id. Raises UserError, OSError."""
        self._expire()
        with self._preparation():
            self._store(trajectory, about)

    def accept(self, asked: Trajectory, about: Mapping[str, Any]) -> None:
        """Stores a question that is being played, soon: its pictures are not packed yet. From then on their pixels need
        no memory where they are KeptPictures. Raises UserError, OSError."""
        self._expire()
        with self._preparation():
            for image in asked.question.images:
                path = self.store.save_picture(image, packed=False)
                if isinstance(image, KeptPicture):
                    image.keep(path)
            self._store(asked, about)

    def pack(self, trajectory: Trajectory) -> None:
        """Makes the files of its question's pictures as small as others. Raises UserError, OSError."""
        for image in trajectory.question.images:
            if isinstance(image, KeptPicture) and image.path is not None:
                with self._preparation():
                    if image.path.exists():
                        pack(image.path)

    def entries(self, search: str = "") -> list[HistoryEntry]:
        """Newest first; of those whose question, title or answer holds every word of `search`."""
        words = search.casefold().split()
        with self._lock:
            found = sorted(self._entries.values(), key=lambda e: (e.date, e.offset), reverse=True)
        told = ((e, f"{e.title} {e.question} {e.answer or ''}".casefold()) for e in found)
        return [entry for entry, text in told if all(word in text for word in words)]

    def entry(self, id: str) -> HistoryEntry:
        """Raises UserError when there is none."""
        with self._lock:
            if id not in self._entries:
                raise UserError(f"There is no question {id[:40]!r} in the history. It may have been deleted.")
            return self._entries[id]

    def get(self, id: str) -> Trajectory:
        """The whole episode, with its pictures. Raises UserError when there is none."""
        entry = self.entry(id)
        with self._lock:
            return self.store.read_at(entry.offset)

    def conversation(self, id: str) -> list[HistoryEntry]:
        """All of one conversation, oldest first."""
        return [entry for entry in reversed(self.entries()) if entry.conversation == id]

    def spent_today(self) -> float:
        """US dollars of the tools, since midnight (UTC)."""
        today = datetime.now(UTC).date().isoformat()
        with self._lock:
            return sum(entry.cost for entry in self._entries.values() if entry.date.startswith(today))

    def rename(self, id: str, title: str) -> None:
        """Raises UserError when there is none, or the title is empty."""
        entry, title = self.entry(id), " ".join(title.split())[:LONGEST_TITLE]
        if not title:
            raise NamedRefusal("The title is empty. Give one of at least one character.", "no_title")
        with self._lock:
            self._titles[id] = title
            write_json(self.store.folder / TITLES, self._titles, durable=True, private=True)
            self._entries[id] = replace(entry, title=title)

    def remove(self, ids: Iterable[str]) -> None:
        """Deletes these and the pictures that nothing else shows. Those that are not there are not missed."""
        with self._removal():
            gone = set(ids) & set(self._entries)
            if not gone:
                return
            self.store.remove(gone)
            self._titles = {id: title for id, title in self._titles.items() if id not in gone}
            write_json(self.store.folder / TITLES, self._titles, durable=True, private=True)
            self._entries = {}
            for offset, line in self.store.spots():
                self._note(offset, line)

    @contextmanager
    def _preparation(self) -> Iterator[None]:
        with self._lock:
            self._lock.wait_for(lambda: not self._removing)
            self._preparing += 1
        try:
            yield
        finally:
            with self._lock:
                self._preparing -= 1
                self._lock.notify_all()

    @contextmanager
    def _removal(self) -> Iterator[None]:
        """With the lock, and nobody's pictures on their way."""
        with self._lock:
            self._lock.wait_for(lambda: not self._removing)
            self._removing = True
            try:
                self._lock.wait_for(lambda: not self._preparing)
                yield
            finally:
                self._removing = False
                self._lock.notify_all()

    def _store(self, trajectory: Trajectory, about: Mapping[str, Any]) -> None:
        record = self.store.prepare(trajectory, about)
        with self._lock:
            self._note(*self.store.write(record))

    def _note(self, offset: int, line: Mapping[str, Any]) -> None:
        id, row = str(line["id"]), line["trajectory"]
        question = row["question"]
        turns = row.get("turns") or []
        action = turns[-1].get("action") if turns else None
        answer = action.get("text") if isinstance(action, dict) and action.get("kind") == "Answer" else None
        calls = [c for t in turns for c in ((t.get("observation") or {}).get("calls") or ())]
        text = str(question["text"])
        self._entries[id] = HistoryEntry(
            id=id,
            conversation=str(line.get("conversation") or id),
            date=str(line.get("date") or ""),
            title=self._titles.get(id, text[:LONGEST_TITLE]),
            question=text,
            answer=None if answer is None else str(answer),
            stop=row.get("stop"),
            error=row.get("error"),
            model=str(line.get("model") or row.get("policy") or ""),
            pictures=len(question.get("images") or ()),
            cost=sum(float(call.get("cost") or 0.0) for call in calls),
            offset=offset,
        )

    def _interrupted(self) -> None:
        for entry in [e for e in self._entries.values() if e.stop is None]:
            kept = self.store.read_at(entry.offset)
            told = {"date": entry.date, "conversation": entry.conversation, "model": entry.model}
            self.keep(kept.failed(INTERRUPTED), told)

    def _expire(self) -> None:
        today = datetime.now(UTC).date()
        if self._days is None or self._looked == today.isoformat():
            return
        self._looked = today.isoformat()
        oldest = (today - timedelta(days=self._days)).isoformat()
        self.remove([entry.id for entry in self.entries() if entry.date < oldest and entry.stop is not None])

    def _read_titles(self) -> dict[str, str]:
        try:
            found = parse_json((self.store.folder / TITLES).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(f"{self.store.folder / TITLES} cannot be read ({error}). Remove it.") from None
        return {str(id): str(title) for id, title in found.items()} if isinstance(found, dict) else {}
