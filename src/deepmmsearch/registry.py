"""Things that are found by name, ours and anyone's: through an entry-point group of the installed packages.

A package offers one by a line in its own pyproject.toml, such as

    [project.entry-points."deepmmsearch.rewards"]
    brief = "my_package.rewards:Brief"

and ours come through the same door. Where the caller allows code, `module:name` is taken as well: whoever runs a recipe
that says so runs that module.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.redaction import public_address

T = TypeVar("T")
ADDRESS = re.compile(r"[a-z][a-z\d+.-]+:/", re.IGNORECASE)
"""How one begins, also where it was taken for a path: no name and no module does."""


@dataclass(frozen=True)
class Registry(Generic[T]):
    """What the installed packages offer in one entry-point group.

    `kind` is what messages call one of them ("reward"). `form` tells whether something loaded is one: a class or
    runtime-checkable Protocol whose instance it must be, or a function that says yes or no; `expected` says the same in
    words, after "is not".
    """

    group: str
    kind: str
    form: type | Callable[[Any], bool]
    expected: str

    def names(self) -> tuple[str, ...]:
        """Sorted. Raises UserError when two packages offer one name: neither has a privilege."""
        return tuple(self._entries())

    def find(self, name: str, *, code: bool = False) -> T:
        """The thing of that name; with `code` also what `module:name` says.

        Raises UnknownName with the nearest name; UserError when it cannot be imported or is not of the form, when two
        packages offer one name, and when nothing is installed in the group.
        """
        if ADDRESS.match(name):
            needed = "a name or module:name" if code else "a name"
            raise UserError(
                f"The {self.kind} {public_address(name)!r} is an address, where {needed} is needed. "
                f"Known: {', '.join(self.names())}."
            )
        if code and ":" in name:
            return self._load(EntryPoint(name, name, self.group), "", " Is it installed, or on PYTHONPATH?")
        return cast(T, _found(self, name, tuple(sys.path)))

    def _load(self, entry: EntryPoint, origin: str, missing: str) -> T:
        name = entry.name
        try:
            found = entry.load()
        # Anything may happen while somebody else's module is imported; it must not take the others down.
        except Exception as error:
            written = EntryPoint.pattern.match(entry.value)
            why = f"{type(error).__name__}: {error}" if written else "it is not written as module:name"
            raise UserError(f"The {self.kind} {name!r}{origin} cannot be imported ({why}).{missing}") from None
        if not (isinstance(found, self.form) if isinstance(self.form, type) else self.form(found)):
            raise UserError(f"The {self.kind} {name!r}{origin} is not {self.expected}.")
        return cast(T, found)

    def all(self) -> dict[str, T]:
        """Every one by its name. Raises UserError as `find` does."""
        return {name: self.find(name) for name in self.names()}

    def origin(self, name: str) -> str:
        """The package that offers it. Raises UnknownName, UserError."""
        distribution = self._entry(name).dist
        return distribution.name if distribution is not None else "an unknown package"

    def _entry(self, name: str) -> EntryPoint:
        entries = self._entries()
        if not entries:
            raise UserError(
                f"No {self.kind} is installed: the package's entry points are missing. Install it again with pip."
            )
        if name not in entries:
            raise UnknownName(self.kind, name, entries)
        return entries[name]

    def _entries(self) -> Mapping[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for entry in _scan(self.group, tuple(sys.path)):
            other = found.setdefault(entry.name, entry)
            if other.value != entry.value:
                offered = " and ".join(
                    f"{e.dist.name if e.dist else 'an unknown package'} ({e.value})" for e in (other, entry)
                )
                raise UserError(f"Two packages offer the {self.kind} {entry.name!r}: {offered}. Uninstall one of them.")
        return found


# Dialects are asked for with every text that is rendered, and loading one and looking at its form takes a third of a
# millisecond. As with a scan, what a name stands for depends on the path alone; what fails is tried anew.
@cache
def _found(registry: Registry[Any], name: str, path: tuple[str, ...]) -> Any:
    return registry._load(registry._entry(name), f" of {registry.origin(name)}", "")


# A scan reads the metadata of every installed package. What it finds depends on the path alone, so a changed path (in a
# test, in a notebook) is scanned anew; what is installed later into a folder of the path is seen by the next process.
@cache
def _scan(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=group), key=lambda entry: entry.name))
