"""Who asks: keys, and what each may use.

A key is 256 random bits and is shown once; the file holds its sha256, which says nothing about it. Keys may also come
from the environment (`DEEPMMSEARCH_SERVE_KEYS="anna:KEY ben:KEY"`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepmmsearch.compose.recipe import read_settings
from deepmmsearch.compose.serving import CallerLimits
from deepmmsearch.errors import UserError
from deepmmsearch.filenames import unfit_name
from deepmmsearch.files import write_json
from deepmmsearch.notation import parse_json
from deepmmsearch.serve.refusals import NoKey, Spent

VARIABLE = "DEEPMMSEARCH_SERVE_KEYS"
COOKIE = "deepmmsearch-key"
LOCAL = "local"
"""Who asks where no keys are needed."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_SHA = re.compile(r"[0-9a-f]{64}")
_MINUTE = 60.0


def key_of(headers: Mapping[str, str], cookies: Mapping[str, str]) -> str | None:
    """The key of a request: `Authorization: Bearer KEY`, or the page's cookie."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    return (given.strip() if kind.lower() == "bearer" else "") or cookies.get(COOKIE)


@dataclass(frozen=True)
class Caller:
    """`name` is the owner of what is asked."""

    name: str
    limits: CallerLimits


@dataclass
class Callers:
    """`hashes`: caller by the sha256 of its key; where there are none, everybody is LOCAL. `spent` gives the US dollars
    that an owner has used today."""

    hashes: Mapping[str, Caller]
    spent: Callable[[str], float] = lambda _: 0.0
    clock: Callable[[], float] = time.monotonic
    _asked: dict[str, deque[float]] = field(default_factory=dict)

    @property
    def keyless(self) -> bool:
        return not self.hashes

    @property
    def local(self) -> Caller:
        """Who has this machine: without limits."""
        return Caller(LOCAL, CallerLimits(concurrent=None, per_minute=None))

    def find(self, key: str | None) -> Caller:
        """Raises NoKey."""
        if self.keyless:
            return self.local
        if not key:
            raise NoKey("A key is needed. Send it as `Authorization: Bearer KEY`.", "no_key")
        told = _hash(key)
        # all are compared, so that the time taken tells nothing
        found = [caller for known, caller in self.hashes.items() if hmac.compare_digest(known, told)]
        if not found:
            raise NoKey("This key is not known here. Ask whoever runs the server for one.", "unknown_key")
        return found[0]

    def admit(self, caller: Caller) -> None:
        """Counts one more question of the caller. Raises Spent where it has asked too often, or spent too much."""
        limits, now = caller.limits, self.clock()
        if limits.money is not None and (used := self.spent(caller.name)) >= limits.money:
            raise Spent(
                f"${used:.2f} of ${limits.money:.2f} for today are used. Ask again tomorrow.",
                _until_midnight(),
                "no_money",
                most=f"{limits.money:.2f}",
            )
        if limits.per_minute is None:
            return
        asked = self._asked.setdefault(caller.name, deque())
        while asked and asked[0] <= now - _MINUTE:
            asked.popleft()
        if len(asked) >= limits.per_minute:
            wait = asked[0] + _MINUTE - now
            raise Spent(
                f"{len(asked)} questions in a minute are all this key may ask. Wait {wait:.0f} s.",
                wait,
                "too_often",
                count=len(asked),
            )
        asked.append(now)


def read_callers(path: Path | None, each: CallerLimits, environ: Mapping[str, str] = os.environ) -> dict[str, Caller]:
    """The callers of a file of keys and of the environment. Raises UserError for what cannot be read."""
    found: dict[str, Caller] = {}
    for row in _rows(path) if path is not None else []:
        given = read_settings({**each.model_dump(), **row.get("limits", {})}, CallerLimits, f"{path}, {row['name']}")
        found[row["sha256"]] = Caller(row["name"], given)
    for pair in environ.get(VARIABLE, "").split():
        name, colon, key = pair.partition(":")
        if not colon or not _is_name(name) or len(key) < 16:
            raise UserError(
                f"{VARIABLE} does not hold pairs such as anna:KEY, separated by blanks, with names of lower-case "
                "letters and keys of at least 16 characters. Correct it."
            )
        found[_hash(key)] = Caller(name, each)
    return found


def _is_name(text: str) -> bool:
    """Also of a folder, in which what the caller asked is kept."""
    return _NAME.fullmatch(text) is not None and unfit_name(text) is None


def add_key(path: Path, name: str, limits: Mapping[str, Any] | None = None) -> str:
    """Makes a key for `name`, writes its hash to the file, and gives the key. Raises UserError."""
    if not _is_name(name) or name == LOCAL:
        raise UserError(
            f"{name[:40]!r} cannot be the name of a key. Use up to 32 lower-case letters, digits, '-' and '_'; not "
            f"{LOCAL!r}, nor a device of Windows, such as con."
        )
    rows = _rows(path) if path.exists() else []
    if any(row["name"] == name for row in rows):
        raise UserError(f"There is a key for {name} in {path} already. Remove it first, or choose another name.")
    key = f"dmms-{secrets.token_urlsafe(32)}"
    row: dict[str, Any] = {"name": name, "sha256": _hash(key), "made": datetime.now(UTC).isoformat(timespec="seconds")}
    if limits:
        row["limits"] = CallerLimits(**limits).model_dump(exclude_unset=True)
    _write(path, [*rows, row])
    return key


def remove_key(path: Path, name: str) -> None:
    """Raises UserError where there is none."""
    rows = _rows(path)
    if all(row["name"] != name for row in rows):
        raise UserError(f"There is no key for {name[:40]!r} in {path}. It holds: {', '.join(r['name'] for r in rows)}.")
    _write(path, [row for row in rows if row["name"] != name])


def list_keys(path: Path) -> list[dict[str, Any]]:
    """Name, date and limits of each; nothing of the key. Raises UserError."""
    return [{name: row[name] for name in ("name", "made", "limits") if name in row} for row in _rows(path)]


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There are no keys in {path}. Make one with: deepmmsearch keys add NAME") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a file of keys ({error}).") from None
    rows = found.get("keys") if isinstance(found, dict) else None
    good = isinstance(rows, list) and all(
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and _is_name(row["name"])
        and _SHA.fullmatch(str(row.get("sha256")))
        and isinstance(row.get("limits", {}), dict)
        for row in rows
    )
    if not good:
        raise UserError(f"{path} is not a file of keys. Make one with: deepmmsearch keys add NAME")
    return rows  # type: ignore[return-value]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    write_json(path, {"keys": rows}, durable=True, private=True)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _until_midnight() -> float:
    now = datetime.now(UTC)
    return 86_400.0 - (now.hour * 3600 + now.minute * 60 + now.second)
