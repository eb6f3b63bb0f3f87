from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from deepmmsearch.agent.metering import calling
from deepmmsearch.cli import group
from deepmmsearch.errors import ToolError, UnknownName, UserError
from deepmmsearch.tools.archive import read_age
from deepmmsearch.tools.cassette import Cassette
from deepmmsearch.tools.recorded import RecordedImageSearch, RecordedTextSearch
from deepmmsearch.tools.recorder import Recorder
from deepmmsearch.types import Hit

PICTURE = Image.effect_noise((20, 20), 50).convert("RGB")


class Lens:
    name, price = "serpapi-lens", 0.025

    async def search(self, image: Image.Image, k: int) -> list[Hit]:
        with calling("image_search", self.name, self.price):
            return [Hit("Flag", "u", image=PICTURE)]


class Words:
    name = "searxng"

    async def search(self, query: str, k: int) -> list[Hit]:
        if query == "down":
            raise ToolError("It is down.")
        return [Hit(query, f"https://veld.test/{query}")]


def record(path: Path, *queries: str) -> Path:
    async def ask() -> None:
        recorder = Recorder(Cassette(path))
        words = RecordedTextSearch(Words(), recorder)
        for query in queries:
            with suppress(ToolError):
                await words.search(query, 5)
        await RecordedImageSearch(Lens(), recorder).search(Image.new("RGB", (9, 9)), 5)
        recorder.close()

    asyncio.run(ask())
    return path


def cache(*arguments: object) -> Result:
    return CliRunner().invoke(group, ["cache", *map(str, arguments)])


def said(*arguments: object) -> str:
    result = cache(*arguments)
    assert result.exit_code == 0, result.exception or result.output
    return result.output


def test_stats_say_what_there_is(tmp_path: Path) -> None:
    path = record(tmp_path / "c.sqlite", "a", "b", "down")
    lines = said("stats", path).splitlines()
    rows = {(row["tool"], row["provider"]): row for row in map(json.loads, said("stats", path, "--json").splitlines())}
    assert rows["image_search", "serpapi-lens"]["cost"] == 0.025 and len(rows) == 2
    assert lines[1].split()[:4] == ["text_search", "searxng", "2", "1"]
    image = lines[2].split()
    assert image[:4] == ["image_search", "serpapi-lens", "1", "0"] and "$0.025" in image
    assert "3 answers, 1 failures, 1 pictures" in lines[3]


def test_an_exported_cassette_comes_back_whole(tmp_path: Path) -> None:
    path = record(tmp_path / "c.sqlite", "a", "b", "down")
    for name in ("out.jsonl", "out.jsonl.gz"):
        assert "3 answers, 1 failures, 1 pictures" in said("export", path, tmp_path / name)
        copy = tmp_path / f"{name}.sqlite"
        assert "3 answers, 1 failures, 1 pictures" in said("import", copy, tmp_path / name)
        assert "0 answers, 0 failures, 0 pictures" in said("import", copy, tmp_path / name)
        tables = ("entries", "failures", "images")
        with Cassette(path) as one, Cassette(copy) as other:
            for table in tables:
                assert one.rows(f"SELECT * FROM {table} ORDER BY 1") == other.rows(f"SELECT * FROM {table} ORDER BY 1")
    # equal cassettes give equal files
    said("export", tmp_path / "out.jsonl.sqlite", tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


def test_an_export_of_version_1_comes_back_without_its_turns(tmp_path: Path) -> None:
    said("export", record(tmp_path / "c.sqlite", "a"), tmp_path / "new.jsonl")
    head, *rows = (tmp_path / "new.jsonl").read_text().splitlines()
    turn = json.dumps({"turn": {"asker": "q/0/p//1", "seconds": 1.5, "created": 1.0}})
    old = [json.dumps({**json.loads(head), "version": 1}), *(re.sub(r',\\"began\\":[^}]*', "", r) for r in rows), turn]
    assert old[1:-1] != rows
    (tmp_path / "old.jsonl").write_text("\n".join(old) + "\n")
    assert "2 answers, 0 failures, 1 pictures" in said("import", tmp_path / "copy.sqlite", tmp_path / "old.jsonl")


def test_an_export_replaces_an_export_and_no_file_of_the_users(tmp_path: Path) -> None:
    path = record(tmp_path / "c.sqlite", "a")
    for name in ("o.jsonl", "o.jsonl.gz"):
        said("export", path, tmp_path / name)
        said("export", path, tmp_path / name)
        (tmp_path / name).write_text("mine")
        error = cache("export", path, tmp_path / name).exception
        assert isinstance(error, UserError) and "is not an exported cassette" in str(error)
        assert (tmp_path / name).read_text() == "mine"


def test_only_one_tool_is_exported(tmp_path: Path) -> None:
    path = record(tmp_path / "c.sqlite", "a", "down")
    assert "1 answers, 1 failures, 0 pictures" in said("export", path, tmp_path / "o.jsonl", "--tool", "text_search")
    assert isinstance(cache("export", path, tmp_path / "o.jsonl", "--tool", "text").exception, UnknownName)


def test_the_newer_answer_stays(tmp_path: Path) -> None:
    old = record(tmp_path / "old.sqlite", "a")
    said("export", old, tmp_path / "old.jsonl")
    time.sleep(0.02)
    new = record(tmp_path / "new.sqlite", "a")
    with Cassette(new) as cassette:
        before = cassette.rows("SELECT created FROM entries")
        said("import", new, tmp_path / "old.jsonl")
        assert cassette.rows("SELECT created FROM entries") == before
    said("export", new, tmp_path / "new.jsonl")
    said("import", old, tmp_path / "new.jsonl")
    with Cassette(old) as cassette:
        assert cassette.rows("SELECT created FROM entries") == before


def broken_files(good: list[dict[str, object]]) -> dict[str, list[object]]:
    head, image, *rest = good
    entry = next(row for row in rest if "entry" in row)
    fields = dict(entry["entry"])  # type: ignore[call-overload]
    return {
        "is no exported cassette": [{"a": 1}],
        "in version 7": [{**head, "version": 7}],
        "line 2: this is no line": [head, "{half"],
        "line 2: neither picture": [head, {"what": 1}],
        "line 2: the picture cannot be read": [head, {**image, "png": "bm8="}],
        "line 2: the picture is not the one": [head, {**image, "image": "0" * 64}],
        "line 3: a entry has the fields": [head, image, {"entry": {**fields, "more": 1}}],
        "line 3: created is of the wrong kind": [head, image, {"entry": {**fields, "created": "now"}}],
        "line 3: this is no line": [head, image, {"entry": {**fields, "result": "[" * 100_000}}],
        "lacks the picture": [head, *rest],
    }


def test_a_broken_file_leaves_the_cassette_as_it_was(tmp_path: Path) -> None:
    path = record(tmp_path / "c.sqlite", "a")
    said("export", path, tmp_path / "good.jsonl")
    good = [json.loads(line) for line in (tmp_path / "good.jsonl").read_text().splitlines()]
    for message, rows in broken_files(good).items():
        file = tmp_path / "bad.jsonl"
        file.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
        copy = tmp_path / f"{len(message)}-{message[:6]}.sqlite"
        error = cache("import", copy, file).exception
        assert isinstance(error, UserError) and message in str(error)
        assert "0 answers, 0 failures, 0 pictures" in said("stats", copy)
    (tmp_path / "bad.jsonl.gz").write_bytes(b"no gzip")
    assert isinstance(cache("import", path, tmp_path / "bad.jsonl.gz").exception, UserError)


def test_prune_removes_what_was_named_and_pictures_without_an_answer(tmp_path: Path) -> None:
    path = record(tmp_path / "c.sqlite", "a", "b", "down")
    size = path.stat().st_size
    assert "Would be removed: 1 answers, 0 failures" in said("prune", path, "--tool", "image_search", "--dry-run")
    assert "Removed: 0 answers, 1 failures, 0 pictures" in said("prune", path, "--failures")
    assert "Removed: 0 answers" in said("prune", path, "--older-than", "1h")
    assert "Removed: 2 answers, 0 failures, 0 pictures" in said("prune", path, "--provider", "searxng")
    assert "Removed: 1 answers, 0 failures, 1 pictures" in said("prune", path, "--older-than", "0s")
    assert path.stat().st_size <= size
    for arguments, message in (((), "Say what to remove"), (("--older-than", "soon"), "is no length of time")):
        error = cache("prune", path, *arguments).exception
        assert isinstance(error, UserError) and message in str(error)
    assert isinstance(cache("prune", path, "--provider", "seraxng").exception, UnknownName)


def test_a_picture_in_two_answers_stays_with_the_second(tmp_path: Path) -> None:
    path = record(tmp_path / "c.sqlite")

    async def more() -> None:
        recorder = Recorder(Cassette(path))
        await RecordedImageSearch(Lens(), recorder).search(Image.new("RGB", (8, 8)), 5)
        recorder.close()

    with Cassette(path) as cassette:
        cassette.transact([("UPDATE entries SET created = 0", ())])
    asyncio.run(more())
    assert "Removed: 1 answers, 0 failures, 0 pictures" in said("prune", path, "--older-than", "1d")
    assert "Removed: 1 answers, 0 failures, 1 pictures" in said("prune", path, "--all")


@pytest.mark.parametrize("verb", ["stats", "export", "prune"])
def test_a_missing_or_foreign_file_says_so_and_is_not_made(verb: str, tmp_path: Path) -> None:
    more = {"stats": (), "export": (tmp_path / "o.jsonl",), "prune": ("--all",)}[verb]
    error = cache(verb, tmp_path / "none.sqlite", *more).exception
    assert isinstance(error, UserError) and "There is no cassette" in str(error)
    with sqlite3.connect(tmp_path / "foreign.sqlite") as other:
        other.execute("CREATE TABLE theirs (a)")
    error = cache(verb, tmp_path / "foreign.sqlite", *more).exception
    assert isinstance(error, UserError) and "no cassette" in str(error)
    assert not (tmp_path / "none.sqlite").exists()


def test_lengths_of_time() -> None:
    assert [read_age(t) for t in ("90", "2m", "12h", "30d", "1.5w")] == [90.0, 120.0, 43200.0, 2592000.0, 907200.0]
