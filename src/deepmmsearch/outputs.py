"""Output folders and what they were made with: `output.json` in each names the command and everything that can change
its result. A folder belongs to one command with one set of settings; anything else in it stops the command.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepmmsearch.errors import UserError
from deepmmsearch.files import locked, remove_drafts, write_json
from deepmmsearch.revision import revision

FILE = "output.json"
LOCK = ".lock"
VERSION = 1
# what earlier versions wrote, which said too little of the settings
_EARLIER = ("run.json", "recipe.json", "lessons.json", "demo.json", "stage.json", "1-seeds")
_FIELDS = ("command", "version", "id", "settings", "parts", "revision", "finished")
_SHOWN = 6
_MISSING = "not set"

Values = Mapping[str, Any]


@dataclass(frozen=True)
class RunPart:
    """Every `of`th question, or shard of them, from the `number`th on, counted from 1: what one of several machines
    plays."""

    number: int = 1
    of: int = 1

    def holds(self, place: int) -> bool:
        """Is what stands at this place, counted from 0, one of them?"""
        return place % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def folder(self, path: Path) -> Path:
        """Where this part has what the whole has in `path`, a folder or a file."""
        return path if self.of == 1 else path.with_name(f"{path.stem}.part-{self.number}-of-{self.of}{path.suffix}")


WHOLE = RunPart()


class Output:
    """The folder that a command writes to. `id`, once it is claimed, is of what was made in it: made anew, it has
    another.

    Raises UserError where it is a file, or holds anything that the same command did not make. Logs (*.log), which may
    be written there from the start, and hidden files do not count; where the command `makes` but a few files, only
    those do.
    """

    def __init__(self, folder: Path, command: str, makes: Collection[str] = (), *, private: bool = False) -> None:
        self.folder, self._private = folder, private
        self._command, self._makes = command, makes
        self._alone = False
        self.id = ""
        self._check(self._read())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other runs out until it ends. Raises UserError where one is at work."""
        with locked(self.folder / LOCK, wait=False, private=self._private) as mine:
            if not mine:
                raise UserError(f"Another run is at work in {self.folder}. Wait for it, or choose another output.")
            remove_drafts(self.folder)
            self._alone = True
            try:
                yield
            finally:
                self._alone = False

    def expect(self, settings: Values, parts: Mapping[str, Values], spare: Collection[str] = ()) -> None:
        """Raises as `claim` does, and takes nothing: for what is known before the rest is read or made. What is not
        given is not compared."""
        former = self._read()
        wanted = _plain({"settings": settings, "parts": parts})
        if former is not None and (changed := _changes(former, wanted, spare, given=True)):
            raise self._refusal(changed)

    def claim(
        self,
        settings: Values,
        parts: Mapping[str, Values] | None = None,
        *,
        spare: Collection[str] = (),
        clear: Callable[[], None] | None = None,
    ) -> bool:
        """Takes the folder for these settings, and tells whether they are finished in it.

        `parts` have names of their own and may join later; `spare`: settings that may differ all the same, by the last
        word of their name. Raises UserError with the settings that differ; where `clear` is given, it is called instead
        to remove what was made with others, and the folder is taken anew.
        """
        wanted = _plain({"settings": settings, "parts": parts or {}})
        with self._locked():
            former = self._read()
            self._check(former)
            if former is not None and (changed := _changes(former, wanted, spare)):
                if clear is None:
                    raise self._refusal(changed)
                clear()
                former = None
            made: dict[str, Any] = former or {"command": self._command, "version": VERSION, "id": uuid.uuid4().hex}
            made = {"finished": False, **made, **wanted, "parts": {**made.get("parts", {}), **wanted["parts"]}}
            if made != former:
                self._write({**made, "revision": revision()})
            self.id = str(made["id"])
        return bool(made["finished"])

    def finish(self) -> None:
        """From now on `claim` tells that it is finished."""
        with self._locked():
            remove_drafts(self.folder)
            self._write({**(self._read() or {}), "finished": True})

    def _refusal(self, changed: Sequence[str]) -> UserError:
        listed = "; ".join(changed[:_SHOWN])
        listed += f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        return UserError(f"{self.folder} was made with other settings ({listed}). Choose another output, or remove it.")

    def _write(self, made: dict[str, Any]) -> None:
        write_json(self.folder / FILE, made, durable=True, private=self._private)

    def _locked(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._alone else locked(self.folder / LOCK, private=self._private)

    def _read(self) -> dict[str, Any] | None:
        path = self.folder / FILE
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file. Give a folder.")
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["version"] > VERSION:
                raise UserError(
                    f"A newer version of deepmmsearch made {self.folder}. Update, or choose another output."
                )
            return {name: found[name] for name in _FIELDS}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} cannot be read ({error}). Choose another output, or remove the folder.") from None

    def _check(self, former: dict[str, Any] | None) -> None:
        if former is None:
            names = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
            if FILE in names:
                return  # made just now, by a process beside this one: `claim` looks again
            if self._makes:
                names = [name for name in names if name in self._makes]
            if earlier := [name for name in names if name in _EARLIER]:
                raise UserError(
                    f"An earlier version of deepmmsearch made {self.folder} and did not write down with which settings "
                    f"({earlier[0]} says too little). Choose another output, or remove it."
                )
            if foreign := [name for name in names if not name.startswith(".") and not name.endswith(".log")]:
                raise UserError(
                    f"{self.folder} is not empty, and `deepmmsearch {self._command}` did not make it ({foreign[0]} is "
                    "in it). Choose another output."
                )
        elif former["command"] != self._command:
            raise UserError(
                f"{self.folder} was made by `deepmmsearch {former['command']}`, not by `deepmmsearch {self._command}`. "
                "Choose another output."
            )


def content(name: object, digest: str) -> dict[str, str]:
    """What is told apart by its content; `name` is only shown."""
    return {"name": str(name), "digest": digest}


def digest_of(*parts: str | bytes) -> str:
    """sha256 over the parts, each told from the next."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        found.update(b"%d:" % len(data) + data)
    return found.hexdigest()


def _plain(value: Any) -> Any:
    """As it is read from the file again."""
    return json.loads(json.dumps(value, default=str))


def _changes(former: Values, wanted: Values, spare: Collection[str], given: bool = False) -> list[str]:
    changed = differences(former["settings"], wanted["settings"], spare, given)
    for name, part in wanted["parts"].items():
        changed += [f"{name}.{each}" for each in differences(former["parts"].get(name, part), part, spare, given)]
    return changed


def differences(former: Values, wanted: Values, spare: Collection[str] = (), given: bool = False) -> list[str]:
    """`name: old -> new` of each setting that differs; `spare` are not compared, by the last word of their name, and
    with `given` nor are those that are not wanted."""
    old, new = dict(_flat(former)), dict(_flat(wanted))
    pairs = {name: (old.get(name, _MISSING), new.get(name, _MISSING)) for name in (*(() if given else old), *new)}
    return [
        f"{name}: {_show(*pair)}"
        for name, pair in pairs.items()
        if not _same(*pair) and name.rpartition(".")[2] not in spare
    ]


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        # an empty digest: what is not on this machine yet is told by its name
        known = before.get("digest") and after.get("digest")
        return before == after or before.get("digest" if known else "name") == after.get("digest" if known else "name")
    if _MISSING in (before, after):
        # a version that did not know the setting yet did what one does that has it turned off
        return not (after if before == _MISSING else before)
    return bool(before == after)


def _flat(settings: Values, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value and set(value) != {"name", "digest"}:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _show(before: Any, after: Any) -> str:
    old, new = (_short(value) for value in (before, after))
    return f"{old} -> {new}" if old != new else f"{old} with another content"


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "digest" in value:
        return str(value["name"])
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
