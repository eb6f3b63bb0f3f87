"""What tools answer, as JSON and back: the annotations are the schema. Pictures are kept apart, by hash."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from PIL.Image import Image

from deepmmsearch.images import digest

LoadImage = Callable[[str], Image]
Decoder = Callable[[Any, LoadImage], Any]


def encode(value: Any, pictures: dict[str, Image]) -> Any:
    """`value` as plain JSON values; its pictures go into `pictures`, by hash."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Image):
        sha = digest(value)
        pictures[sha] = value
        return {"sha256": sha}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name), pictures) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): encode(v, pictures) for k, v in value.items()}
    return [encode(v, pictures) for v in value]


@cache
def decoder(annotation: Any) -> Decoder:
    """What makes a value of that type of what `encode` made of it. It may change its argument.

    Made once for each type, because answers are decoded for every cached call. It raises TypeError or KeyError for what
    another version encoded.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (a for a in arguments if a is not type(None))
        one = decoder(inner)
        return lambda value, load: None if value is None else one(value, load)
    if origin in (list, tuple):
        element, make = decoder(arguments[0]), origin
        if element is _as_it_is:
            return lambda value, load: make(value)
        return lambda value, load: make([element(v, load) for v in value])
    if annotation is Image:
        return lambda value, load: load(value["sha256"])
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return _record(annotation)
    return _as_it_is


def _as_it_is(value: Any, load: LoadImage) -> Any:
    return value


def _record(kind: type) -> Decoder:
    fields = {name: decoder(hint) for name, hint in typing.get_type_hints(kind).items()}
    special = [(name, read) for name, read in fields.items() if read is not _as_it_is]
    names = tuple(f.name for f in dataclasses.fields(kind))

    def read_record(row: Any, load: LoadImage) -> Any:
        for name, read in special:
            if row.get(name) is not None:
                row[name] = read(row[name], load)
        if tuple(row) != names:
            return kind(**row)
        # all fields are there: the frozen constructor, which sets them one by one, takes three times as long
        made: Any = object.__new__(kind)
        made.__dict__.update(row)
        return made

    return read_record
