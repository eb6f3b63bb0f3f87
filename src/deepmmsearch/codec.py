"""Dataclasses as plain JSON values and back: their annotations are the whole schema."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from PIL.Image import Image

from deepmmsearch.errors import UserError

SaveImage = Callable[[Image], str]
"""Keeps a picture and gives its sha256."""
LoadImage = Callable[[str], Image]
Decoder = Callable[[Any, LoadImage], Any]
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes of a record that an older version wrote the one that this version would write."""


class Codec:
    """Writes values and reads them. Dataclasses become objects, tuples lists; a picture becomes its sha256.

    `kinds`: whether an object names its class as `kind`, which tells the members of a union apart. `upgrades`: what
    turns an old record of a class into one of today, before its fields are looked at.
    """

    def __init__(self, *, kinds: bool = True, upgrades: Mapping[type, Upgrade] | None = None) -> None:
        self._kinds = kinds
        self._upgrades = dict(upgrades or {})
        self._decoders: dict[Any, Decoder] = {}

    def encode(self, value: Any, save_image: SaveImage) -> Any:
        if value is None or isinstance(value, str | bool | int | float):
            return value
        if isinstance(value, Image):
            return {"sha256": save_image(value)}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            kind = {"kind": type(value).__name__} if self._kinds else {}
            return kind | {f.name: self.encode(getattr(value, f.name), save_image) for f in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {key: self.encode(each, save_image) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.encode(each, save_image) for each in value]
        return value

    def decode(self, record: Any, wanted: Any, load_image: LoadImage) -> Any:
        """The value of the type `wanted` that `record` tells.

        Raises UserError for a kind or a field that this version does not know, one that is missing, and a value of the
        wrong kind: a record may be somebody else's.
        """
        return self.decoder(wanted)(record, load_image)

    def decoder(self, wanted: Any) -> Decoder:
        """`decode` for one type, made once: what is read a thousand times is not inspected a thousand times."""
        if wanted not in self._decoders:
            self._decoders[wanted] = self._make(wanted)
        return self._decoders[wanted]

    def _make(self, wanted: Any) -> Decoder:
        origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
        if origin in (typing.Union, types.UnionType):
            return self._union([a for a in arguments if a is not type(None)], type(None) in arguments)
        if origin in (list, tuple):
            return self._list(arguments[0], origin)
        if origin is Counter:
            return lambda value, load: Counter(_checked(value, _MAPPING))
        if origin in (dict, Mapping):
            return lambda value, load: _checked(value, _MAPPING)
        if wanted is Image:
            return _picture
        if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
            return self._record(wanted)
        kinds = _plain_kinds(wanted)
        return _as_it_is if kinds is None else lambda value, load: _checked(value, kinds)

    def _list(self, wanted: Any, make: Callable[[Any], Any]) -> Decoder:
        kinds, element = _plain_kinds(wanted), self.decoder(wanted)

        def read(value: Any, load: LoadImage) -> Any:
            if not isinstance(value, list | tuple):
                raise UserError(f"A record has {_shown(value)} where a list belongs.")
            if kinds is None:
                return make([element(each, load) for each in value])
            # thousands of token ids: looked at one kind at a time
            if not kinds.issuperset(map(type, value)):
                raise UserError(f"A record has {_shown(value)} where a list of {_named(kinds)} belongs.")
            return make(value)

        return read

    def _union(self, members: list[Any], optional: bool) -> Decoder:
        if len(members) == 1:
            one = self.decoder(members[0])
            return lambda value, load: None if value is None else one(value, load)
        if not all(dataclasses.is_dataclass(m) for m in members):
            return _as_it_is
        by_name = {m.__name__: self.decoder(m) for m in members}

        def read(value: Any, load: LoadImage) -> Any:
            if value is None and optional:
                return None
            kind = value.get("kind") if isinstance(value, Mapping) else None
            if not isinstance(kind, str) or kind not in by_name:
                found = _shown(kind)
                raise UserError(f"A record has a {found} where one of {sorted(by_name)} belongs. Update deepmmsearch.")
            return by_name[kind](value, load)

        return read

    def _record(self, kind: type) -> Decoder:
        fields = dataclasses.fields(kind)
        names = {f.name for f in fields}
        needed = {f.name for f in fields if f.default is dataclasses.MISSING is f.default_factory}
        # a class may hold itself, so it is known before its fields are
        self._decoders[kind] = lambda value, load: read(value, load)
        hints = typing.get_type_hints(kind)
        plainly = {n: kinds for n in names if (kinds := _plain_kinds(hints[n])) is not None}
        special = [(n, d) for n in names - plainly.keys() if (d := self.decoder(hints[n])) is not _as_it_is]
        upgrade = self._upgrades.get(kind)
        plain = not hasattr(kind, "__post_init__") and not hasattr(kind, "__slots__")

        def read(value: Any, load: LoadImage) -> Any:
            if not isinstance(value, Mapping):
                raise UserError(f"A record has {_shown(value)} where a {kind.__name__} belongs.")
            row = dict(value)
            if self._kinds:
                row.pop("kind", None)
            if upgrade is not None:
                row = _upgraded(row, upgrade, kind)
            for name, kinds in plainly.items():
                if name in row and type(row[name]) not in kinds:
                    raise UserError(
                        f"A stored {kind.__name__} has {_shown(row[name])} as {name}, where {_named(kinds)} belongs."
                    )
            for name, decode in special:
                if name in row:
                    row[name] = decode(row[name], load)
            if plain and row.keys() == names:
                # the frozen constructor, which sets the fields one by one, takes three times as long
                made: Any = object.__new__(kind)
                made.__dict__.update(row)
                return made
            if unknown := sorted(row.keys() - names):
                raise UserError(f"A stored {kind.__name__} has unknown fields {unknown}: a newer version wrote it.")
            if missing := sorted(needed - row.keys()):
                raise UserError(f"A stored {kind.__name__} lacks {missing}. It was damaged, or is something else.")
            return kind(**row)

        return read


def _upgraded(row: dict[str, Any], upgrade: Upgrade, kind: type) -> dict[str, Any]:
    try:
        return upgrade(row)
    except (AttributeError, LookupError, TypeError, ValueError):
        raise UserError(f"A stored {kind.__name__} is of no version that is known. It was damaged.") from None


_MAPPING = frozenset((dict,))


def _plain_kinds(wanted: Any) -> frozenset[type] | None:
    """The types that JSON has for it, None where it holds others."""
    arguments = typing.get_args(wanted)
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        members = [_plain_kinds(argument) for argument in arguments]
        return None if None in members else frozenset().union(*filter(None, members))
    if typing.get_origin(wanted) is typing.Literal:
        return frozenset(map(type, arguments))
    plain = {str: (str,), bool: (bool,), int: (int,), float: (float, int), type(None): (type(None),)}
    return frozenset(plain[wanted]) if wanted in plain else None


def _checked(value: Any, kinds: frozenset[type]) -> Any:
    if type(value) not in kinds:
        raise UserError(f"A record has {_shown(value)} where {_named(kinds)} belongs.")
    return value


def _named(kinds: frozenset[type]) -> str:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", dict: "an object"}
    return " or ".join(sorted({names.get(kind, "null") for kind in kinds}))


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple | Mapping):
        return "an object" if isinstance(value, Mapping) else "a list"
    return f"a long {type(value).__name__}" if isinstance(value, int) and value.bit_length() > 64 else repr(value)[:80]


def _picture(value: Any, load: LoadImage) -> Any:
    if not isinstance(value, Mapping) or not isinstance(value.get("sha256"), str):
        raise UserError(f"A record has {_shown(value)} where a picture belongs.")
    return load(value["sha256"])


PLAIN = Codec(kinds=False)
"""For records of one type alone."""


def _as_it_is(value: Any, load: LoadImage) -> Any:
    return value


def no_picture(image: Any) -> Any:
    """To save and load where no picture can be."""
    raise UserError(f"A picture ({image!r}) stands where none belongs.")
