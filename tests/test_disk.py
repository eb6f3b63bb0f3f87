"""Places that cannot be written are read without writing; what a disk refuses is one sentence, and leaves nothing
half-written."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("tantivy")
pytest.importorskip("cv2")
pytest.importorskip("pyarrow")

from commands import done
from deepmmsearch.children import Child, ParentPipe
from deepmmsearch.disk import refusal
from deepmmsearch.engine import Index
from deepmmsearch.errors import Failed
from deepmmsearch.eval.run import BenchmarkInfo, Described, EvalRun, Judged
from deepmmsearch.files import write_text
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.tools.cassette import Cassette
from limited import Told, limited
from test_store import a_trajectory

CASSETTE = "cassette.sqlite"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything that commands read."""
    folder = tmp_path_factory.mktemp("made")
    pages = folder / "pages"
    pages.mkdir()
    (pages / "veld.md").write_text("# Veld\n\nThe capital of Veld is Moru.\n")
    Image.effect_noise((120, 90), 70).convert("RGB").save(pages / "flag.png")
    Index.build(pages, folder / "index")
    TrajectoryStore(folder / "store").append(a_trajectory())
    done("data", "convert", folder / "store", folder / "data", "--to", "parquet")
    with Cassette(folder / CASSETTE) as cassette:
        values = (b"k", "text_search", "p", "{}", "[]", "", "[]", None, 1.0)
        cassette.transact([("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)])
    run = EvalRun(folder / "run")
    run.describe([Described("agent", "agent")], [BenchmarkInfo("mine", questions=1)], ["exact"])
    run.store.append(a_trajectory(), "mine/agent/q1")
    run.judge_line([Judged("mine/agent/q1", "exact", 1.0)])
    return folder


def contents(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


@pytest.fixture
def untouched(made: Path) -> Iterator[Path]:
    before = contents(made)
    yield made
    assert contents(made) == before


def test_read_only_places_are_read_without_writing(untouched: Path, tmp_path: Path) -> None:
    made, mine = untouched, tmp_path
    # what a run that was killed leaves: its last line is not whole
    torn = tmp_path / "torn"
    shutil.copytree(made / "run", torn)
    with (torn / "verdicts.jsonl").open("a") as lines:
        lines.write('{"id": "mine/ag')
    before = contents(torn)
    told = limited(
        ("index", "search", "Moru", "--index", made / "index"),
        ("index", "stats", "--index", made / "index"),
        ("show", made / "store", "q1"),
        ("cache", "stats", made / CASSETTE),
        ("cache", "export", made / CASSETTE, mine / "out" / "exported.jsonl"),
        ("data", "show", made / "data"),
        ("data", "convert", made / "store", mine / "out" / "verl.parquet", "--to", "verl"),
        ("report", torn, "--out", mine / "out" / "report"),
        ("index", "build", made / "pages", "--out", mine / "out" / "index"),
        writable=[_folder(mine / "out")],
    )
    assert [each for each in told if each.code != 0] == []
    assert "Moru" in told[0].out and contents(torn) == before


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def test_another_process_writes_an_index_that_is_read_without_writing(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "index", tmp_path / "index")
    (tmp_path / "new.md").write_text("# Oru\n\nThe capital of Oru is Venn.\n")
    index = Index.open(tmp_path / "index")
    index.store.index = index.store._opened_apart()
    assert index.store.read_only and not index.search_text("Venn", 1)
    done("index", "add", tmp_path / "new.md", "--index", tmp_path / "index")
    assert index.search_text("Venn", 1)[0].title == "Oru"
    with pytest.raises(Failed, match="cannot be written: its folder is read-only"):
        index.add([tmp_path / "new.md"])


def one_sentence(told: Told) -> bool:
    """Not a traceback, nor anything that a library printed."""
    lines = [line for line in told.error.splitlines() if line.startswith("Error: ")]
    return told.code in (1, 2) and len(lines) == 1 and "Traceback" not in told.error


def writing(made: Path, out: Path) -> list[tuple[str | Path, ...]]:
    """Each writes something new in `out`."""
    return [
        ("index", "build", made / "pages", "--out", out / "index"),
        ("data", "convert", made / "store", out / "converted", "--to", "parquet"),
        ("data", "convert", made / "store", out / "verl.parquet", "--to", "verl"),
        ("data", "convert", made / "store", out / "sharegpt.json", "--to", "sharegpt"),
        ("data", "convert", made / "store", out / "stored", "--to", "store"),
        ("atlas", "make", out / "world", "--seed", "1", "--countries", "12", "--questions", "1"),
        ("atlas", "teach", "--out", out / "lessons", "--worlds", "1", "--questions", "1"),
        ("demo", "--out", out / "demo", "--policy", "oracle", "--questions", "1"),
        ("cache", "export", made / CASSETTE, out / "exported.jsonl"),
        ("cache", "import", out / "imported.sqlite", made / "exported.jsonl"),
        ("recipes", "copy", "eval/atlas", out / "mine.yaml"),
        ("report", made / "run", "--out", out / "report"),
    ]


@pytest.fixture
def exported(made: Path) -> Path:
    done("cache", "export", made / CASSETTE, made / "exported.jsonl")
    return made


def test_no_permission_is_one_sentence_in_every_command(exported: Path, tmp_path: Path) -> None:
    out, scratch = _folder(tmp_path / "out"), _folder(tmp_path / "scratch")
    commands = writing(exported, out)
    # and what would change something that is there
    commands += [
        ("index", "add", exported / "pages", "--index", exported / "index"),
        ("index", "remove", "flag.png", "--index", exported / "index"),
        ("cache", "prune", exported / CASSETTE, "--all"),
        ("report", exported / "run"),
    ]
    before = contents(exported)
    told = limited(*commands, writable=[scratch])
    assert [(c, t) for c, t in zip(commands, told, strict=True) if not one_sentence(t)] == []
    assert list(out.iterdir()) == [] and contents(exported) == before


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(exported: Path, tmp_path: Path) -> None:
    commands = writing(exported, _folder(tmp_path / "out"))
    told = limited(*commands, largest=10)
    assert [(c, t) for c, t in zip(commands, told, strict=True) if not one_sentence(t)] == []
    # folders in which the next run goes on, with what marks them as ours, are no half-written results
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.stat().st_size]
    assert left == []
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.parametrize("command", [("show", "STORE", "--json"), ("index", "stats", "--index", "INDEX"), ("--help",)])
def test_output_that_cannot_be_written_is_one_sentence(command: tuple[str, ...], made: Path) -> None:
    words = [str(made / word.lower()) if word.isupper() else word for word in command]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "deepmmsearch", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("Error: There is no room left on the disk")


def test_closed_outputs_are_no_error(made: Path) -> None:
    command = f"{sys.executable} -P -m deepmmsearch show {made / 'store'}"
    for closed, code in ((">&-", 0), ("2>&- >&-", 0), ("nothing >&-", 2)):
        ended = subprocess.run(f"{command} {closed}", shell=True, capture_output=True, text=True)
        assert ended.returncode == code and "Traceback" not in ended.stderr, ended


def test_a_name_that_is_too_long_is_one_sentence(made: Path, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 300)
    commands = [
        *(("show", long), ("eval", long), ("cache", "stats", long), ("data", "show", long), ("report", long)),
        *(("index", "build", long, "--out", tmp_path / "i"), ("index", "search", "x", "--index", long)),
        *writing(made, long),
    ]
    told = limited(*(command for command in commands if command[1] != "import"))
    assert [each for each in told if not one_sentence(each)] == []


def test_the_log_of_a_writer_that_was_killed_is_no_obstacle(made: Path, tmp_path: Path) -> None:
    """Nothing can be written beside it, so what stands in the log alone is not read; nothing is lost by that."""
    place = _folder(tmp_path / "theirs") / CASSETTE
    shutil.copy(made / CASSETTE, place)
    script = f"import os, sqlite3\nc = sqlite3.connect({str(place)!r}, isolation_level=None)\n"
    script += "c.execute(\"UPDATE entries SET provider = 'new'\"); os._exit(9)"
    subprocess.run([sys.executable, "-c", script], check=False)
    assert Path(f"{place}-wal").stat().st_size
    Path(f"{place}-shm").unlink()
    (told,) = limited(("cache", "stats", place), writable=[_folder(tmp_path / "mine")])
    assert told.code == 0 and "1 answers" in told.out
    assert sqlite3.connect(place).execute("SELECT provider FROM entries").fetchall() == [("new",)]


def test_a_cassette_that_is_only_read_gets_nothing_beside_it_and_still_follows_its_writer(
    made: Path, tmp_path: Path
) -> None:
    place = _folder(tmp_path / "shared") / CASSETTE
    shutil.copy(made / CASSETTE, place)
    with Cassette(place, read_only=True) as reader:
        assert [path.name for path in place.parent.iterdir()] == [CASSETTE]
        assert reader.rows("SELECT count(*) FROM entries") == [(1,)]
        with Cassette(place) as writer:
            values = (b"l", "text_search", "p", "{}", "[]", "", "[]", None, 2.0)
            writer.transact([("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)])
            assert reader.rows("SELECT count(*) FROM entries") == [(2,)]
    with Cassette(place, read_only=True) as reader:
        assert reader.rows("SELECT count(*) FROM entries") == [(2,)]


def test_a_cassette_that_was_written_between_two_reads_is_read_anew(made: Path, tmp_path: Path) -> None:
    place = _folder(tmp_path / "shared") / CASSETTE
    shutil.copy(made / CASSETTE, place)
    with Cassette(place, read_only=True) as reader:
        assert reader.rows("SELECT provider FROM entries") == [("p",)]
        with Cassette(place) as writer:
            writer.transact([("UPDATE entries SET provider = 'new'", ())])
        assert not Path(f"{place}-wal").exists()
        assert reader.rows("SELECT provider FROM entries") == [("new",)]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "no room left"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only file system"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "no permission"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EFBIG, "larger than a file may be"),
    ],
)
def test_what_the_system_refuses_has_words(code: int, said: str) -> None:
    plain = OSError(code, os.strerror(code), "/runs/.report.html.0123abcd.part")
    told = refusal(plain)
    assert told is not None and said in told and "/runs/report.html" in told
    wrapped = ValueError("a library's own words")
    wrapped.__cause__ = plain
    torch = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")
    assert "The disk failed" in (refusal(torch) or "")
    rust = RuntimeError(f"I/O error: {os.strerror(code)} (os error {code})")
    arrow = RuntimeError(f"[Errno {code}] Error writing bytes to file")
    for error in (wrapped, rust, arrow):
        told = refusal(error)
        assert told is not None and said in told
    for error in (OSError("timed out"), ConnectionResetError(104, "reset"), ValueError("x"), KeyError(code)):
        assert refusal(error) is None


def fill(line: ParentPipe, place: str) -> None:
    write_text(Path(place) / "x" / "y", "text")


def test_a_worker_tells_it_in_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a file")
    with Child(fill, str(tmp_path)) as child, pytest.raises(Failed, match="where a folder is expected"):
        child.receive()
