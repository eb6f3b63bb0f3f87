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

        Raises UserError for a kind or a field that this version does not know, and for one that is missing.
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
            return self._union([a for a in arguments if a is not type(None)])
        if origin in (list, tuple):
            element, make = self.decoder(arguments[0]), origin
            if element is _as_it_is:
                return lambda value, load: make(value)
            return lambda value, load: make([element(each, load) for each in value])
        if origin is Counter:
            return lambda value, load: Counter(value)
        if wanted is Image:
            return lambda value, load: load(value["sha256"])
        if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
            return self._record(wanted)
        return _as_it_is

    def _union(self, members: list[Any]) -> Decoder:
        """None stands for itself wherever it is found: annotations say where it may be."""
        if len(members) == 1:
            one = self.decoder(members[0])
            return lambda value, load: None if value is None else one(value, load)
        if not all(dataclasses.is_dataclass(m) for m in members):
            return _as_it_is
        by_name = {m.__name__: self.decoder(m) for m in members}

        def read(value: Any, load: LoadImage) -> Any:
            if value is None:
                return None
            kind = value.get("kind") if isinstance(value, Mapping) else None
            if kind not in by_name:
                raise UserError(f"A record has a {kind!r} where one of {sorted(by_name)} belongs. Update deepmmsearch.")
            return by_name[kind](value, load)

        return read

    def _record(self, kind: type) -> Decoder:
        fields = dataclasses.fields(kind)
        names = {f.name for f in fields}
        needed = {f.name for f in fields if f.default is dataclasses.MISSING is f.default_factory}
        # a class may hold itself, so it is known before its fields are
        self._decoders[kind] = lambda value, load: read(value, load)
        hints = typing.get_type_hints(kind)
        special = [(n, d) for n in names if (d := self.decoder(hints[n])) is not _as_it_is]
        upgrade = self._upgrades.get(kind)
        plain = not hasattr(kind, "__post_init__") and not hasattr(kind, "__slots__")

        def read(value: Any, load: LoadImage) -> Any:
            if not isinstance(value, Mapping):
                raise UserError(f"A record has {value!r} where a {kind.__name__} belongs.")
            row = dict(value)
            if self._kinds:
                row.pop("kind", None)
            if upgrade is not None:
                row = upgrade(row)
            for name, decode in special:
                if row.get(name) is not None:
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


def _as_it_is(value: Any, load: LoadImage) -> Any:
    return value


def no_picture(image: Any) -> Any:
    """To save and load where no picture can be."""
    raise UserError(f"A picture ({image!r}) stands where none belongs.")
