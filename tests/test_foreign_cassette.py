"""A cassette that somebody else recorded: rows to be read, not a program to be run."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.tools.archive import count, export, holdings, merge
from deepmmsearch.tools.cassette import Cassette
from deepmmsearch.tools.cassette_form import LATEST
from deepmmsearch.tools.recorded import RecordedImageSearch, RecordedTextSearch
from deepmmsearch.tools.recorder import Recorder
from deepmmsearch.types import Hit

PICTURE = Image.effect_noise((20, 20), 50).convert("RGB")


class Words:
    async def search(self, query: str | Image.Image, k: int) -> list[Hit]:
        if query == "down":
            raise ToolError("It is down.")
        return [Hit(query if isinstance(query, str) else "flag", "https://veld.test/", image=PICTURE)]


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """As somebody passes it on: one file, without what SQLite keeps beside it."""

    async def ask() -> None:
        recorder = Recorder(Cassette(tmp_path / "theirs" / "c.sqlite"))
        await RecordedTextSearch(Words(), recorder, {"provider": "fake"}).search("a", 5)
        await RecordedImageSearch(Words(), recorder).search(PICTURE, 5)
        with pytest.raises(ToolError):
            await RecordedTextSearch(Words(), recorder, {"provider": "fake"}).search("down", 5)
        recorder.close()

    asyncio.run(ask())
    path = tmp_path / "theirs" / "c.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    for beside in path.parent.glob("c.sqlite-*"):
        beside.unlink()
    return path


def change(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)


def replayed(path: Path, query: str = "a") -> Any:
    async def ask() -> Any:
        recorder = Recorder(Cassette(path, read_only=True), "replay")
        try:
            return await RecordedTextSearch(None, recorder, {"provider": "fake"}).search(query, 5)
        finally:
            recorder.close()

    return asyncio.run(ask())


def test_what_nobody_changed_is_read(theirs: Path, tmp_path: Path) -> None:
    assert replayed(theirs)[0].title == "a"
    with Cassette(theirs) as cassette:
        assert len(holdings(cassette)) == 3 and count(cassette).images == 1
        export(cassette, tmp_path / "out.jsonl")
    with Cassette(tmp_path / "copy.sqlite") as copy:
        assert merge(copy, tmp_path / "out.jsonl").answers == 2
    # a link to the cassette, which its reader made
    (tmp_path / "link.sqlite").symlink_to(theirs)
    assert replayed(tmp_path / "link.sqlite")[0].title == "a"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW more AS SELECT * FROM entries",
        "CREATE TRIGGER spread AFTER INSERT ON entries BEGIN DELETE FROM entries; END",
        "CREATE INDEX slow ON entries (length(hex(result)))",
        "CREATE VIRTUAL TABLE words USING fts5(body)",
        "CREATE TABLE other (a)",
        "ALTER TABLE entries ADD COLUMN computed TEXT AS (hex(tool)) VIRTUAL",
        "ALTER TABLE images RENAME TO turns",
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_database_holds_the_tables_of_a_cassette_alone(theirs: Path, statement: str, read_only: bool) -> None:
    change(theirs, statement)
    with pytest.raises(UserError, match=r"which no cassette has|cannot be used: no such table"):
        Cassette(theirs, read_only=read_only)


def test_a_view_in_the_place_of_a_table_is_refused(theirs: Path) -> None:
    change(theirs, "ALTER TABLE entries RENAME TO kept", "CREATE VIEW entries AS SELECT * FROM kept")
    with pytest.raises(UserError, match="which no cassette has"):
        Cassette(theirs, read_only=True)


WRONG = [
    "UPDATE entries SET created = 9e99",
    "UPDATE entries SET created = -1",
    "UPDATE entries SET created = 'yesterday'",
    f"UPDATE failures SET created = {LATEST + 1e6}",
    "UPDATE entries SET result = x'00'",
    "UPDATE entries SET owner = x'00'",
    "UPDATE images SET sha = x'00'",
    "UPDATE failures SET calls = x'5b5d'",
    "UPDATE images SET png = '/etc/hostname'",
]


@pytest.mark.parametrize("statement", WRONG)
def test_values_of_the_wrong_kind_are_refused(theirs: Path, statement: str) -> None:
    change(theirs, statement)
    for read_only in (True, False):
        with pytest.raises(UserError, match="values that no cassette has"):
            Cassette(theirs, read_only=read_only)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET result = '[7]'",
        "UPDATE entries SET result = '{'",
        f"UPDATE entries SET result = '{'[' * 900 + ']' * 900}'",
        f"UPDATE entries SET result = '[{'9' * 4000}]'",
        'UPDATE entries SET result = replace(result, \'"score":0.0\', \'"score":"high"\')',
        "UPDATE images SET png = x'00'",
        "DELETE FROM images",
    ],
)
def test_an_answer_that_cannot_be_read_is_an_error_of_the_tool(theirs: Path, statement: str) -> None:
    change(theirs, statement)
    with pytest.raises(ToolError):
        replayed(theirs)


@pytest.mark.parametrize("calls", ["[7]", "{", "[" * 900, '[{"tool": 3, "provider": "x", "seconds": 1}]', "null"])
def test_calls_that_are_none(theirs: Path, calls: str) -> None:
    change(theirs, f"UPDATE failures SET calls = '{calls}', asker = ''", f"UPDATE entries SET calls = '{calls}'")
    with pytest.raises(ToolError):
        replayed(theirs, "down")
    with Cassette(theirs, read_only=True) as cassette, pytest.raises(UserError):
        holdings(cassette)


def test_a_picture_is_bytes_and_no_path(theirs: Path, tmp_path: Path) -> None:
    """Whatever else is overlooked: a text is never taken for the path of a picture."""
    PICTURE.save(tmp_path / "private.png")
    with Cassette(theirs) as cassette:
        change(theirs, f"UPDATE images SET png = '{tmp_path / 'private.png'}'")
        ((sha,),) = cassette.rows("SELECT sha FROM images")
        with pytest.raises((UserError, TypeError)):
            cassette.image(sha)


# What lies beside the file


def test_a_journal_deletes_no_other_file(theirs: Path, tmp_path: Path) -> None:
    """SQLite deletes the file that a journal names as the one above it, wherever it lies."""
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    page = struct.unpack(">H", theirs.read_bytes()[16:18])[0]
    magic = bytes.fromhex("d9d505f920a163d7")
    head = (magic + struct.pack(">IIIII", 0, 7, len(theirs.read_bytes()) // page, 512, page)).ljust(512, b"\0")
    name = str(precious).encode()
    named = struct.pack(">I", 0x40000000 // page + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    Path(f"{theirs}-journal").write_bytes(head + named)
    # SQLite alone does so
    shutil.copytree(theirs.parent, tmp_path / "copy")
    with sqlite3.connect(tmp_path / "copy" / "c.sqlite") as database:
        database.execute("SELECT count(*) FROM entries").fetchone()
    assert not precious.exists()
    precious.write_text("mine")
    for read_only in (True, False):
        with pytest.raises(UserError, match="names another file, which SQLite would delete"):
            Cassette(theirs, read_only=read_only)
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal", "-lock"])
def test_nothing_is_written_through_a_link_beside_the_file(theirs: Path, tmp_path: Path, suffix: str) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    Path(f"{theirs}{suffix}").symlink_to(precious)
    (tmp_path / "mine.sqlite").symlink_to(theirs)
    for path in (theirs, tmp_path / "mine.sqlite"):
        if path == theirs or suffix != "-lock":
            with pytest.raises(UserError, match="is a link, through which"):
                Cassette(path)
    assert precious.read_text() == "mine"


# Exported files


def _lines(theirs: Path, tmp_path: Path) -> list[dict[str, Any]]:
    with Cassette(theirs) as cassette:
        export(cassette, tmp_path / "out.jsonl")
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]


def entry(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {"entry": row["entry"] | changes} if "entry" in row else row


@pytest.mark.parametrize(
    "changed",
    [
        entry(created=9e99),
        entry(created=-1),
        entry(created=10**400),
        entry(created=float("nan")),
        entry(created=float("inf")),
        entry(created="1"),
        entry(created=True),
        entry(result="["),
        entry(result="[" * 900 + "]" * 900),
        entry(result="9" * 4000),
        entry(calls="[7]"),
        entry(calls='{"a": 1}'),
        entry(asked='"é"'),
        entry(asked="7"),
        entry(provider="\ud800"),
        entry(images="not there"),
        lambda row: {"image": "x", "png": "x", "entry": 5},
        lambda row: {"image": [], "png": []},
        lambda row: {"entry": 5},
        lambda row: {"entry": {}},
        lambda row: [row],
    ],
)
def test_an_imported_line_is_whole_or_nothing_is(
    theirs: Path, tmp_path: Path, changed: Callable[[dict[str, Any]], Any]
) -> None:
    head, *rows = _lines(theirs, tmp_path)
    text = "\n".join(json.dumps(row) for row in (head, *map(changed, rows)))
    (tmp_path / "bad.jsonl").write_text(text + "\n")
    with Cassette(tmp_path / "mine.sqlite") as mine:
        with pytest.raises(UserError):
            merge(mine, tmp_path / "bad.jsonl")
        assert count(mine).answers == count(mine).images == 0


def test_damage_that_is_no_text_is_one_sentence(theirs: Path, tmp_path: Path) -> None:
    content = theirs.read_bytes()
    for damaged in (b"CREATE TABLE images (\xac\xaca", b"CREATE TABL\xac images (sha", b"\xacREATE TABLE images (sha"):
        theirs.write_bytes(content.replace(b"CREATE TABLE images (sha", damaged))
        with pytest.raises(UserError, match="damaged"):
            Cassette(theirs, read_only=True)
    theirs.write_bytes(content)
    exported = tmp_path / "c.jsonl.gz"
    with Cassette(theirs, read_only=True) as cassette:
        export(cassette, exported)
    sound, refused = exported.read_bytes(), 0
    for place in range(40, len(sound), 97):
        exported.write_bytes(sound[:place] + b"\xff\xff" + sound[place + 2 :])
        with Cassette(tmp_path / f"{place}.sqlite") as into:
            try:
                merge(into, exported)
            except UserError:
                refused += 1
    assert refused > 5
