from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.codec import Codec, no_picture
from deepmmsearch.errors import UserError
from deepmmsearch.images import digest


@dataclass(frozen=True)
class Place:
    name: str
    within: Place | None = None
    pictures: tuple[Image.Image, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class River:
    miles: int


@dataclass(frozen=True)
class Visit:
    what: Place | River


FLAG = Image.new("RGB", (2, 2), "red")
FERNER = Place("Ferner", Place("Bengum"), (FLAG,), {"short": "F"}, Counter(a=2))


@pytest.mark.parametrize("kinds", [True, False])
def test_what_was_written_is_read_again(kinds: bool) -> None:
    codec = Codec(kinds=kinds)
    kept: dict[str, Image.Image] = {}

    def keep(image: Image.Image) -> str:
        return kept.setdefault(digest(image), image) and digest(image)

    record = json.loads(json.dumps(codec.encode(FERNER, keep)))
    assert ("kind" in record) == kinds and record["pictures"] == [{"sha256": digest(FLAG)}]
    read = codec.decode(record, Place, kept.__getitem__)
    assert read == FERNER and isinstance(read.seen, Counter)
    assert codec.decode([record], list[Place], kept.__getitem__) == [FERNER]


def test_kinds_tell_the_members_of_a_union_apart() -> None:
    codec = Codec()
    for visit in (Visit(River(9)), Visit(Place("Ferner"))):
        assert codec.decode(codec.encode(visit, digest), Visit, no_picture) == visit
    with pytest.raises(UserError, match=r"'Road' where one of \['Place', 'River'\] belongs"):
        codec.decode({"what": {"kind": "Road"}}, Visit, no_picture)


def test_an_old_record_is_upgraded_wherever_it_stands() -> None:
    def named(row: dict[str, Any]) -> dict[str, Any]:
        return {("name" if key == "title" else key): value for key, value in row.items()}

    old = {"what": {"kind": "Place", "title": "Ferner", "within": {"title": "Bengum"}}}
    found = Codec(upgrades={Place: named}).decode(old, Visit, no_picture)
    assert found == Visit(Place("Ferner", Place("Bengum")))
    assert old["what"]["title"] == "Ferner", "the record itself is left as it was"
    with pytest.raises(UserError, match=r"A stored Place has unknown fields \['title'\]"):
        Codec().decode(old, Visit, no_picture)


def test_what_is_no_record_is_one_clear_sentence() -> None:
    with pytest.raises(UserError, match=r"A stored Place lacks \['name'\]"):
        Codec().decode({"within": None}, Place, no_picture)
    with pytest.raises(UserError, match="7 where a Place belongs"):
        Codec().decode(7, Place, no_picture)
    with pytest.raises(UserError, match="stands where none belongs"):
        Codec().encode(FERNER, no_picture)
