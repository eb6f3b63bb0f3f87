"""A store of trajectories that somebody else made: no picture but its own is shown, what is wrong is one sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.cli.entries import read_entries
from deepmmsearch.errors import UserError
from deepmmsearch.images import digest, save
from deepmmsearch.notation import DEEPEST_JSON, parse_json
from deepmmsearch.store import TrajectoryStore, from_dict, to_dict
from deepmmsearch.strict_yaml import read_yaml
from deepmmsearch.types import (
    Answer,
    Call,
    Completion,
    Hit,
    Observation,
    Prompt,
    Question,
    TextSearch,
    Trajectory,
    Turn,
)

PICTURE = Image.linear_gradient("L").convert("RGB")


@pytest.fixture
def theirs(tmp_path: Path) -> TrajectoryStore:
    store = TrajectoryStore(tmp_path / "theirs")
    hits = (Hit("Veld", "https://a.example", "A land.", 1.5),)
    seen = Observation("[1] A land.", hits=hits, calls=(Call("text_search", "local", 0.25),))
    turns = (
        Turn(Completion("<text_search>Veld</text_search>", (1, 2), (-0.5, -0.25)), TextSearch("Veld"), seen),
        Turn(Completion("<answer>Oru</answer>"), Answer("Oru")),
    )
    store.append(
        Trajectory(
            Question("q", "Where?", (PICTURE,), ("Oru",)), Prompt("p", "deepmmsearch-r1", "s"), (), turns, "answer"
        )
    )
    return store


def _line(store: TrajectoryStore, change: Any) -> None:
    line = json.loads(store.path.read_text())
    change(line)
    store.path.write_text(json.dumps(line) + "\n")


@pytest.mark.parametrize(
    "name", ["../../private/passport", "{private}/passport", "passport", "A" * 64, "", "0" * 63 + "/"]
)
def test_a_picture_has_the_name_of_one_in_a_store(theirs: TrajectoryStore, tmp_path: Path, name: str) -> None:
    (tmp_path / "private").mkdir()
    PICTURE.save(tmp_path / "private" / "passport.png")
    PICTURE.save(theirs.folder / "images" / "passport.png")
    named = name.format(private=tmp_path / "private")
    _line(theirs, lambda line: line["trajectory"]["question"].update(images=[{"sha256": named}]))
    with pytest.raises(UserError, match="not the name of one in a store"):
        theirs.get("q")


def test_a_linked_picture_is_not_shown(theirs: TrajectoryStore, tmp_path: Path) -> None:
    private = save(PICTURE, tmp_path / "private")
    (theirs.folder / "images" / private.name).unlink()
    (theirs.folder / "images" / private.name).symlink_to(private)
    with pytest.raises(UserError, match="is a link"):
        theirs.get("q")
    shutil.rmtree(theirs.folder / "images")
    (theirs.folder / "images").symlink_to(tmp_path / "private")
    with pytest.raises(UserError, match="is a link"):
        theirs.get("q")
    # the store itself may be linked to by its reader
    (theirs.folder / "images").unlink()
    shutil.copytree(tmp_path / "private", theirs.folder / "images")
    (tmp_path / "mine").symlink_to(theirs.folder)
    assert digest(TrajectoryStore(tmp_path / "mine").get("q").question.images[0]) == digest(PICTURE)


def test_nothing_is_written_through_a_link(theirs: TrajectoryStore, tmp_path: Path) -> None:
    trajectory = theirs.get("q")
    private = tmp_path / "private.txt"
    private.write_text("half a line of the user's")
    theirs.path.unlink()
    theirs.path.symlink_to(private)
    with pytest.raises(UserError, match="is a link"):
        theirs.append(trajectory)
    assert private.read_text() == "half a line of the user's"
    theirs.path.unlink()
    shutil.move(theirs.folder / "images", tmp_path / "elsewhere")
    (theirs.folder / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        theirs.append(replace(trajectory, question=replace(trajectory.question, images=(PICTURE.rotate(90),))))
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


@pytest.mark.parametrize(
    "path, value",
    [
        (("question", "text"), 5),
        (("question", "text"), None),
        (("question", "images"), "abc"),
        (("question", "images"), [{"sha256": ["x"]}]),
        (("question", "images"), ["x"]),
        (("question", "answers"), [1]),
        (("question", "metadata"), []),
        (("prompt", "after"), "x"),
        (("turns", 0, "completion", "ids"), [1, "2"]),
        (("turns", 0, "completion", "logprobs"), 0.5),
        (("turns", 0, "completion", "seconds"), "9"),
        (("turns", 0, "completion"), None),
        (("turns", 0, "action"), None),
        (("turns", 0, "action"), {"kind": "Malformed", "problem": {}}),
        (("turns", 0, "action"), {"kind": ["TextSearch"]}),
        (("turns", 0, "action"), {"kind": "Box"}),
        (("turns", 0, "observation", "hits"), [{"title": "x"}]),
        (("turns", 0, "observation", "calls"), [[]]),
        (("turns", 0), "x"),
        (("turns", 0), {}),
        (("turns",), {"a": 1}),
        (("stop",), 7),
        (("error",), ["x"]),
    ],
)
def test_what_is_of_the_wrong_kind_is_one_sentence(
    theirs: TrajectoryStore, path: tuple[str | int, ...], value: Any
) -> None:
    def change(line: dict[str, Any]) -> None:
        here = line["trajectory"]
        for part in path[:-1]:
            here = here[part]
        here[path[-1]] = value

    _line(theirs, change)
    with pytest.raises(UserError):
        theirs.get("q")
    with pytest.raises(UserError):
        list(read_entries(theirs))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"version": 1, "id": "q", "trajectory": ' + b"[" * 900 + b"]" * 900 + b"}\n",
        b'{"version": 1, "id": "q", "trajectory": {"question": ' + b"[" * 90_000 + b"}\n",
        b'{"version": 1, "id": "q", "trajectory": {"n": ' + b"9" * 4000 + b"}}\n",
        b'{"version": 1, "id": "q", "trajectory": {"n": ' + b"9" * 5000 + b"}}\n",
        b'{"version": 1, "id": ["q"], "trajectory": {}}\n',
        b'{"version": 1, "id": "q", "trajectory": 4}\n',
        b'{"version": 1, "id": "q"}\n',
        b"[1]\n",
        b"\xff\xfe\n",
    ],
)
def test_lines_that_are_none(theirs: TrajectoryStore, raw: bytes) -> None:
    theirs.path.write_bytes(raw)
    for read in (theirs.ids, lambda: theirs.get("q"), lambda: list(theirs)):
        with pytest.raises(UserError, match="line 1: this is no stored trajectory"):
            read()


def test_about_an_entry_is_text(theirs: TrajectoryStore) -> None:
    _line(theirs, lambda line: line.update(date={"a": 1}, model=7))
    (entry,) = read_entries(theirs)
    assert entry.about == {"date": "{'a': 1}", "model": "7", "endpoint": None}


def test_a_number_where_floats_belong_may_be_whole() -> None:
    trajectory = Trajectory(Question("q", "?", metadata={"n": 10**30}), Prompt("p", "deepmmsearch-r1", "s"))
    record = parse_json(json.dumps(to_dict(trajectory, digest)).replace("0.0", "0"))
    assert from_dict(record, lambda sha: PICTURE) == trajectory


def test_json_is_bounded_in_depth_and_digits() -> None:
    deep = "[" * DEEPEST_JSON + "]" * DEEPEST_JSON
    assert json.dumps(parse_json(deep)) == deep and parse_json('{"a": [1, {"b": 2.5}]}') == {"a": [1, {"b": 2.5}]}
    assert parse_json("9" * 300) == int("9" * 300) and parse_json(f'["{"9" * 999}"]') == ["9" * 999]
    for text in (f"[{deep}]", '{"a":' * 101 + "1" + "}" * 101, "[" * 100_000, "9" * 301, "-" + "9" * 4300, "[1,]", ""):
        with pytest.raises(ValueError):
            parse_json(text)


@pytest.mark.parametrize(
    "text", ["!!timestamp x", "a: !!int ''", "!!float ''", "? [a]\n: b", "!!python/name:os.system", "!!set [1]"]
)
def test_a_tag_in_yaml_is_not_taken_at_its_word(text: str) -> None:
    with pytest.raises(ValueError):
        read_yaml(text)
