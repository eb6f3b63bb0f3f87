"""Every file of a folder is told of: indexed, or recorded with the reason why it is not."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tantivy")

from deepmmsearch.engine import Index, exclusions, update, writer
from deepmmsearch.engine.build_report import Report
from deepmmsearch.engine.encoders import Prefixes
from deepmmsearch.engine.ingest import SUFFIXES, Ingest
from deepmmsearch.engine.update import Update, changes
from deepmmsearch.engine.walk import Walk
from deepmmsearch.engine.writer import Writer
from deepmmsearch.errors import MissingExtra, Unreadable, UserError
from deepmmsearch.progress import Step
from deepmmsearch.reading.collection import CollectionEntry
from deepmmsearch.reading.document import Origin
from deepmmsearch.reading.worker import Extractor


def write(root: Path, **texts: str) -> Path:
    root.mkdir(exist_ok=True)
    for name, text in texts.items():
        (root / f"{name}.md").write_text(text)
    return root


def test_all_of_a_folder_is_told_of_by_the_index_itself(tmp_path: Path) -> None:
    root = write(tmp_path / "docs", harbour="A harbour.", **{"Case": "Upper.", "case": "Lower.", "x" * 200: "Long."})
    for folder in (".git", "sub/.cache", "drafts"):
        (root / folder).mkdir(parents=True)
        (root / folder / "inner.md").write_text("inner")
    (root / ".env.md").write_text("hidden")
    (root / "empty.md").write_text("")
    (root / "film.mp4").write_bytes(b"film")
    os.mkfifo(root / "pipe.md")
    with (root / "huge.md").open("wb") as file:
        file.truncate(100_000_000_000)  # sparse
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.md")).write_text("A teapot.")
    (root / "again").symlink_to(root)
    index = Index.build(root, tmp_path / "index", exclude=["drafts/"])
    assert index.report.added == 5  # names that differ in their case alone are two files
    expected = {
        ".env.md": "hidden",
        ".git": "hidden",
        "again": "a link to a folder",
        "drafts": "excluded",
        "empty.md": "empty file",
        "film.mp4": "of a kind that is not indexed",
        "huge.md": "larger than 64 MB",
        "pipe.md": "not an ordinary file",
        "sub/.cache": "hidden",
    }
    assert dict(index.skipped()) == expected and index.stats()["skipped"] == len(expected)
    assert "3 hidden" in index.report.sentence
    assert dict(Index.open(index.store.folder).skipped()) == expected
    # a second build finds all as it was, writes nothing, and tells the same
    before = (index.store.folder / "text" / "meta.json").read_bytes()
    again = Index.build(root, index.store.folder)
    assert (again.report.unchanged, again.report.skipped) == (5, index.report.skipped)
    assert (index.store.folder / "text" / "meta.json").read_bytes() == before
    # what is read or gone is no longer listed
    (root / "empty.md").write_text("No more.")
    (root / "film.mp4").unlink()
    report = Index.build(root, index.store.folder).report
    assert (report.added, report.removed) == (1, 0) and not {"empty.md", "film.mp4"} & dict(index.skipped()).keys()


def test_two_names_that_read_alike_are_told_apart(tmp_path: Path) -> None:
    root = write(tmp_path / "docs", **{r"caf\xe9": "Written out."})
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.md")).write_text("In Latin-1.")
    index = Index.build(root, tmp_path / "index")
    assert index.report.added == 1 and index.skipped() == [(r"caf\udce9.md", "named like another file")]


@pytest.mark.parametrize("hidden", [True, False])
def test_hidden_files_are_indexed_when_asked_for_and_from_then_on(tmp_path: Path, hidden: bool) -> None:
    root = write(tmp_path / "docs", **{".secret": "A cellar.", "open": "An attic."})
    index = Index.build(root, tmp_path / "index", hidden=hidden)
    assert [hit.url for hit in index.search_text("cellar")] == ([".secret.md"] if hidden else [])
    assert Index.build(root, tmp_path / "index").report.removed == 0
    now = Index.build(root, tmp_path / "index", hidden=not hidden)
    assert [hit.url for hit in now.search_text("cellar")] == ([] if hidden else [".secret.md"])


@pytest.mark.parametrize(
    ("lines", "path", "left_out"),
    [
        ("a", "x/a", True),
        ("/a", "x/a", False),
        ("x/a", "y/x/a", False),
        ("**/x/a", "y/x/a", True),
        ("x/**/a", "x/a", True),
        ("x/**/a", "x/b/c/a", True),
        ("x/**", "x", False),
        ("x/**", "x/b/c", True),
        ("*.md", "x/b.md", True),
        ("b*.m[de]", "b1.md", True),
        ("[!b]*", "b1", False),
        ("x/", "x", False),
        ("x/", "x/a", True),
        ("*\n!a", "a", False),
        ("!a\na", "a", True),
        ("# a\n\n  ", "# a", False),
        (r"\#a", "#a", True),
        (r"\*", "b", False),
        (r"\*", "*", True),
        ("a ", "a", True),
        ("a*/*b", "a1/1b", True),
        ("a*b", "a/b", False),
    ],
)
def test_patterns_mean_what_they_mean_to_git(lines: str, path: str, left_out: bool) -> None:
    rules = exclusions.patterns(lines.split("\n"))
    parts = path.split("/")
    assert any(exclusions.excluded(rules, parts[:n], n < len(parts)) for n in range(1, len(parts) + 1)) is left_out


def test_a_strangers_pattern_takes_no_time() -> None:
    rules = exclusions.patterns(["a*" * 60 + "b", "/".join(["**", "a*"] * 60) + "/b"])
    assert not exclusions.excluded(rules, ["a" * 250] * 200, False)


def test_exclusions_are_kept_and_files_in_folders_add_to_them(tmp_path: Path) -> None:
    root = write(tmp_path / "docs", one="One.", two="Two.")
    write(root / "sub", one="One.", three="Three.")
    index = Index.build(root, tmp_path / "index", exclude=["two.md"])
    assert index.stats()["exclude"] == ["two.md"] and dict(index.skipped()) == {"two.md": "excluded"}
    (root / "sub" / ".deepmmsearchignore").write_text("/one.md\n")
    assert Index.build(root, tmp_path / "index").stats()["files"] == 2
    assert dict(index.skipped()) == {"two.md": "excluded", "sub/one.md": "excluded"}
    # a file that is added by its folder is left out by the same patterns
    assert index.add([root]).added == 0
    (root / "sub" / ".deepmmsearchignore").write_bytes(b"\xff")
    report = Index.build(root, tmp_path / "index", exclude=[""]).report
    assert report.added == 2 and report.skipped == {"patterns that cannot be read": ["sub/.deepmmsearchignore"]}


def test_what_goes_wrong_with_a_file_is_recorded_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "docs", **{name: f"The {name}." for name in ("gone", "grows", "locked", "lacking", "fine")})
    plain = update._content

    def content(path: str) -> tuple[bytes, int]:
        if path.endswith("gone.md"):
            Path(path).unlink()
        if path.endswith("locked.md"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return plain(path)

    def fstat(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        if status.st_size == len("The grows."):
            values = list(status)
            values[stat.ST_SIZE] = next(sizes)
            return os.stat_result(values, {"st_mtime_ns": status.st_mtime_ns})
        return status

    def extract(self: Extractor, path: str, content: bytes) -> object:
        if path == "lacking.md":
            raise MissingExtra("Reading such files", "engine")
        return reading(self, path, content)

    real, reading, sizes = os.fstat, Extractor.extract, iter(range(1, 99))
    with monkeypatch.context() as patched:
        patched.setattr(update, "_content", content)
        patched.setattr("deepmmsearch.engine.update.os.fstat", fstat)
        patched.setattr(Extractor, "extract", extract)
        index = Index.build(root, tmp_path / "index")
    assert index.report.added == 1
    assert dict(index.skipped()) == {
        "gone.md": "gone before it was read",
        "grows.md": "changed while it was read",
        "locked.md": "permission denied",
        "lacking.md": "Reading such files needs the extra engine. Install with: pip install 'deepmmsearch[engine]'",
    }
    assert Index.build(root, tmp_path / "index").report.added == 3 and index.skipped() == []


def test_a_file_that_was_refused_is_read_again_when_it_changed_or_by_a_newer_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "docs", a="A.")
    read: list[str] = []

    def extract(self: Extractor, path: str, content: bytes) -> object:
        read.append(path)
        raise Unreadable("of a form that is not known")

    monkeypatch.setattr(Extractor, "extract", extract)
    for expected in (1, 1):
        index = Index.build(root, tmp_path / "index")
        assert len(read) == expected and dict(index.skipped()) == {"a.md": "of a form that is not known"}
    monkeypatch.setattr(update, "__version__", "99")
    Index.build(root, tmp_path / "index")
    (root / "a.md").write_text("Changed.")
    Index.build(root, tmp_path / "index").add([root / "a.md"])
    assert len(read) == 4


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "docs", a="A.")
    write(root / "sub", b="B.")
    index = Index.build(root, tmp_path / "index")
    listed = os.scandir

    def scandir(path: str) -> object:
        if Path(path) in refused:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    refused = [root]
    with pytest.raises(UserError, match="cannot be read: permission denied"):
        Index.build(root, tmp_path / "index")
    assert index.stats()["files"] == 2
    refused = [root / "sub"]
    assert Index.build(root, tmp_path / "index").report.skipped == {"a folder: permission denied": ["sub"]}


def test_a_folder_that_holds_itself_is_entered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "docs", a="A.")
    (root / "loop").mkdir()
    seen = Path.stat

    def like_the_root(self: Path, **options: bool) -> os.stat_result:
        return seen(root if self.name == "loop" else self, **options)

    monkeypatch.setattr(Path, "stat", like_the_root)
    assert [(f.file, f.reason) for f in Walk(root, "", SUFFIXES)] == [
        ("a.md", ""),
        ("loop", "a folder that is met twice"),
    ]


# Interrupted builds


@pytest.mark.parametrize("dense", [False, True])
def test_a_build_that_is_interrupted_keeps_what_it_has(tmp_path: Path, dense: bool) -> None:
    root = write(tmp_path / "docs", **{f"d{n}": f"Document number {n}." for n in range(9)})

    def stop(said: str | Step) -> None:
        if isinstance(said, Step) and said.stage == "Indexing" and said.done == 4:
            raise KeyboardInterrupt

    index = Index.prepare(root, tmp_path / "index")
    if dense:
        index.__dict__["text_encoder"] = _Encoder()
    with pytest.raises(KeyboardInterrupt):
        index.update(stop)
    assert (index.stats()["files"], index.stats()["passages"], index.stats()["segments"]) == (4, 4, int(dense))
    report = index.update()
    assert (report.added, report.unchanged) == (5, 4)


class _Encoder:
    prefixes = Prefixes("", "")

    def encode_query(self, texts: Sequence[str]) -> np.ndarray:
        return np.full((len(texts), 4), 0.5, np.float32)

    encode_document = encode_query


def test_a_file_that_is_being_read_at_an_interrupt_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "docs", a="First.", b="Second.\n\n" * 900)
    added = Writer._add

    def add(self: Writer, document: object, file: str, row: int | None = None) -> None:
        added(self, document, file, row)
        if file == "b.md":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "_add", add)
        with pytest.raises(KeyboardInterrupt):
            Index.build(root, tmp_path / "index")
    index = Index.open(tmp_path / "index")
    assert index.stats()["passages"] == 1 and not index.search_text("second")
    assert Index.build(root, tmp_path / "index").report.added == 1 and index.search_text("second")


def test_commits_come_by_time_and_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    plain = Writer.commit

    def commit(self: Writer) -> None:
        commits.append(self.pending)
        plain(self)

    monkeypatch.setattr(Writer, "commit", commit)
    root = write(tmp_path / "docs", **{f"d{n}": f"Document number {n}." for n in range(6)})
    Index.build(root, tmp_path / "one")
    assert len(commits) == 1
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.0)
    Index.build(root, tmp_path / "each")
    assert len(commits) == 1 + 6 + 1
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 1e9)
    monkeypatch.setattr(writer, "COMMIT_DOCUMENTS", 4)  # a passage and a record each
    Index.build(root, tmp_path / "two")
    assert len(commits) == 8 + 3 + 1
    assert [len(Index.open(tmp_path / name).search_text("document", 9)) for name in ("one", "each", "two")] == [6, 6, 6]


# Files that hold many documents


def lines(path: Path, cursor: str) -> Iterator[CollectionEntry]:
    """Each line of a file is a document; one that says so is refused, one that says so is the end of what is sound."""
    for number, line in enumerate(path.read_text().splitlines()):
        if number <= int(cursor or -1):
            continue
        if line == "damaged":
            raise Unreadable("damaged in the middle")
        problem = "refused" if line == "bad" else ""
        url, _, text = line.rpartition(" @ ")
        yield CollectionEntry(
            f"line/{number}", str(number), text.encode(), Origin("text", f"Line {number}"), url, problem
        )


class Many:
    """A folder with one collection, and its index."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "docs" / "many.warc.gz"
        self.index = Index.prepare(write(folder / "docs", a="An attic."), folder / "index")
        self.ingest = Ingest(self.index.root, collections={".warc.gz": lines})

    def build(self, stop_at: int = -1) -> Report:
        def watch(said: str | Step) -> None:
            if isinstance(said, Step) and said.stage.startswith("Reading") and said.done == stop_at:
                raise KeyboardInterrupt

        report = Report()
        with Extractor() as extractor, Writer(self.index.store) as opened:
            walk = Walk(self.index.root, "", {*SUFFIXES, ".warc.gz"})
            found = changes(opened.snapshot, walk, report)
            Update(self.ingest, extractor, opened, report, watch).apply(found)
        self.index.store.refresh()
        return report

    def found(self, words: str) -> list[str]:
        return sorted(hit.url for hit in self.index.search_text(words, 50))


@pytest.fixture
def many(tmp_path: Path) -> Many:
    return Many(tmp_path)


def test_each_entry_of_a_file_is_a_document_of_its_own(many: Many) -> None:
    many.file.write_text("The harbour.\nbad\nThe lighthouse.\n")
    report = many.build()
    assert report.added == 2 and many.index.skipped() == [("many.warc.gz#line/1", "refused")]
    assert many.found("harbour") == ["many.warc.gz%23line/0"]
    assert many.index.read("many.warc.gz%23line/2").text == "The lighthouse."
    assert many.build().unchanged == 2
    many.file.write_text("The drawbridge.\n")
    assert many.build().changed == 1 and many.found("drawbridge") == ["many.warc.gz%23line/0"]
    assert not many.found("harbour") and not many.found("lighthouse")
    assert many.index.skipped() == []
    many.file.unlink()
    assert many.build().removed == 1 and many.index.stats()["passages"] == 1


def test_an_entry_claims_no_file_of_the_folder(many: Many) -> None:
    many.file.write_text("a.md @ A forged attic.\nhttps://a.example/x @ A cellar.\n")
    many.build()
    assert many.index.read("a.md").text == "An attic." and many.found("forged") == ["many.warc.gz%23line/0"]
    assert many.found("cellar") == ["https://a.example/x"]
    assert many.index.digest() == many.index.digest()


def test_a_hit_is_read_from_its_own_file(tmp_path: Path) -> None:
    """However it is called, and whatever else claims its address."""
    claim = "---\nurl: https://a.example/page\n---\n"
    texts = {"a b é": "One.", "%41": "Two.", "A": "Three.", "100%": "Four.", "x#y?z": "Five."}
    root = write(tmp_path / "docs", **{name: f"{claim}The harbour is {text}" for name, text in texts.items()})
    index = Index.build(root, tmp_path / "index")
    hits = index.search_text("harbour", 9)
    assert len({hit.url for hit in hits}) == 5 and all(index.read(hit.url).text == hit.snippet for hit in hits)
    assert all(index.read(f"{name}.md").text.endswith(text) for name, text in texts.items() if name != "%41")


def test_a_long_file_goes_on_where_it_was_interrupted(many: Many, monkeypatch: pytest.MonkeyPatch) -> None:
    many.file.write_text("\n".join(f"Harbour number {n}." for n in range(20)))
    monkeypatch.setattr(writer, "COMMIT_DOCUMENTS", 3)
    read: list[str] = []
    plain = Ingest.add_page

    def add_page(self: Ingest, writer: Writer, file: str, *rest: object) -> None:
        read.append(file)
        plain(self, writer, file, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Ingest, "add_page", add_page)
    for stop in (5, 7):
        with pytest.raises(KeyboardInterrupt):
            many.build(stop)
    assert len(many.found("harbour")) == 12 and many.build().added == 1
    assert len(many.found("harbour")) == 20 and len(read) == len(set(read)) == 21
    assert many.build().unchanged == 2


def test_what_comes_before_the_damage_of_a_file_is_kept(many: Many) -> None:
    many.file.write_text("The harbour.\ndamaged\n")
    many.build()
    assert many.index.skipped() == [("many.warc.gz", "damaged in the middle")] and many.found("harbour")
    assert many.build().skipped == {"damaged in the middle": ["many.warc.gz"]} and many.found("harbour")
    many.file.write_text("The lighthouse.\n")
    assert many.build().added == 1 and many.index.skipped() == [] and not many.found("harbour")


# As a user types it


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from deepmmsearch.cli import main; main()", "index", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def test_skipped_files_are_listed_and_logged(tmp_path: Path) -> None:
    write(tmp_path / "docs", **{"a b é": "A harbour.", "none": "", "draft": "x"})
    built = run(tmp_path, "build", "docs", "--log", "build.log", "--exclude", "draft*")
    assert built.returncode == 0 and "2 skipped (1 empty file, 1 excluded)" in built.stdout
    log = [line[20:] for line in (tmp_path / "build.log").read_text().splitlines()]
    assert sorted(log) == ["added   a b é.md", "skipped draft.md: excluded", "skipped none.md: empty file"]
    assert run(tmp_path, "stats", "--skipped").stdout == "draft.md: excluded\nnone.md: empty file\n"
    first = json.loads(run(tmp_path, "stats", "--skipped", "--json").stdout.splitlines()[0])
    assert first == {"file": "draft.md", "reason": "excluded"}


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    write(tmp_path / "docs", **{f"d{n}": f"Document {n}." for n in range(2_500)})
    command = [sys.executable, "-c", "from deepmmsearch.cli import main; main()", "index", "build", "docs"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "Indexing: 0 of 2,500" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert "are in the index. Go on with: deepmmsearch index build docs --out index\n" in errors


def test_hits_are_shown_as_people_write_their_paths(tmp_path: Path) -> None:
    write(tmp_path / "docs", **{"a b é": "A harbour."})
    Index.build(tmp_path / "docs", tmp_path / "index")
    assert "a b é.md" in run(tmp_path, "search", "harbour").stdout
    assert json.loads(run(tmp_path, "search", "harbour", "--json").stdout)["url"] == "a%20b%20%C3%A9.md"


def test_a_page_is_found_by_the_name_of_its_file(tmp_path: Path) -> None:
    root = write(
        tmp_path / "docs",
        **{
            "holiday_plan_2024": "# Where to go\n\nBy train to the sea.",
            "getUserName": "# A function\n\nIt returns what people are called.",
            "0017": "# Seventeen\n\nOf the holiday another plan.",
            "Sea": "# Sea\n\nThe sea is salt.",
        },
    )
    write(root / "installing", README="# First things\n\nTake it out of its box.")
    index = Index.build(root, tmp_path / "index")
    asked = {
        "holiday plan 2024": "holiday_plan_2024.md",
        "user name": "getUserName.md",
        "getUserName": "getUserName.md",
    }
    asked |= {"installing": "installing/README.md", "sea": "Sea.md"}
    assert {query: index.search_text(query, k=1)[0].url for query in asked} == asked
    assert not index.search_text("0017") and not index.search_text("readme")


@pytest.mark.parametrize(
    ("name", "text", "day"),
    [
        (
            "a.html",
            '<meta property="article:published_time" content="2021-03-04T10:00:00Z"><p>A harbour.',
            "2021-03-04",
        ),
        ("a.html", '<body><p>A harbour.<time datetime="2020-02-03">then</time>', "2020-02-03"),
        (
            "a.html",
            '<script type="application/ld+json">{"@type": "Article", "datePublished": "2019-01-02"}</script><p>harbour',
            "2019-01-02",
        ),
        ("a.md", "---\ndate: 2018-01-02\n---\nA harbour.", "2018-01-02"),
        ("a.txt", "A harbour.", "2011-05-06"),  # of the file, which was last changed then
        ("a.html", "<p>A harbour.", "2011-05-06"),
    ],
)
def test_files_are_found_by_their_dates(tmp_path: Path, name: str, text: str, day: str) -> None:
    root = write(tmp_path / "docs")
    (root / name).write_text(text)
    os.utime(root / name, (1_304_640_000, 1_304_640_000))
    index = Index.build(root, tmp_path / "index")
    year = int(day[:4])
    assert index.search_text(f"harbour after:{day} before:{year + 1}")
    assert not index.search_text(f"harbour before:{day}")


@pytest.mark.parametrize("modified", [-4_000_000_000, 0, 900_000_000_000])
def test_a_file_of_an_impossible_time_is_read(tmp_path: Path, modified: int) -> None:
    root = write(tmp_path / "docs", a="A harbour.")
    try:
        os.utime(root / "a.md", (modified, modified))
    except OSError:
        pytest.skip("this file system keeps no such time")
    assert Index.build(root, tmp_path / "index").report.added == 1
