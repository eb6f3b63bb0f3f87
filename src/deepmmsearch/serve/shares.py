"""Links by which everybody who reaches the server can read an answer: as it was when the link was made."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from deepmmsearch.errors import UserError
from deepmmsearch.files import make_folder, write_json
from deepmmsearch.notation import parse_json


class Shared(NamedTuple):
    """The owner's questions that a link shows."""

    owner: str
    questions: tuple[str, ...]


class Shares:
    """In `folder`/shared.json. Raises UserError where that cannot be read."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "shared.json"
        self._lock = threading.Lock()
        try:
            rows = parse_json(self._path.read_text(encoding="utf-8")) if self._path.exists() else {}
            self._of = {token: Shared(str(row[0]), tuple(map(str, row[1]))) for token, row in rows.items()}
        except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
            raise UserError(f"{self._path} cannot be read ({error}). Remove it.") from None

    def add(self, owner: str, questions: Sequence[str]) -> str:
        """The token of the link, the one that there is already for the same."""
        wanted = Shared(owner, tuple(questions))
        with self._lock:
            for token, shared in self._of.items():
                if shared == wanted:
                    return token
            token = secrets.token_urlsafe(16)
            self._of[token] = wanted
            self._write()
            return token

    def find(self, token: str) -> Shared:
        """Raises UserError where there is none."""
        if token not in self._of:
            raise UserError("There is nothing under this link. Whoever shared it may have deleted it.")
        return self._of[token]

    def remove(self, owner: str, questions: Sequence[str]) -> None:
        """Takes back every link that shows one of these."""
        gone = set(questions)
        with self._lock:
            kept = {t: s for t, s in self._of.items() if s.owner != owner or not gone & set(s.questions)}
            if len(kept) < len(self._of):
                self._of = kept
                self._write()

    def _write(self) -> None:
        make_folder(self._path.parent, private=True)
        write_json(self._path, self._of, durable=True, private=True)
