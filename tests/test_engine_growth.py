"""An index that grows by single files stays as quick as one that was built at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("tantivy")

from deepmmsearch.engine import Index
from deepmmsearch.engine.page_terms import NewPassage
from deepmmsearch.engine.writer import Writer
from deepmmsearch.reading.worker import Extractor


def folder_of(root: Path, **texts: str) -> Path:
    root.mkdir(exist_ok=True)
    for name, text in texts.items():
        (root / f"{name}.md").write_text(text)
    return root


def test_files_that_are_added_one_by_one_do_not_leave_a_segment_each(tmp_path: Path) -> None:
    index = Index.prepare(folder_of(tmp_path / "docs"), tmp_path / "index")
    for number in range(30):
        with Writer(index.store) as opened:
            opened.add_page(f"{number}.md", f"{number}.md", f"Page {number}", [NewPassage(f"Harbour {number}.")])
            opened.commit()
    assert len(json.loads((tmp_path / "index" / "text" / "meta.json").read_bytes())["segments"]) < 10
    index.store.refresh()
    assert index.store.snapshot().count("passage") == 30
    assert Index.open(tmp_path / "index").search_text("harbour 17", 1)[0].url == "17.md"


def test_a_writer_that_fails_leaves_the_last_commit(tmp_path: Path) -> None:
    index = Index.prepare(folder_of(tmp_path / "docs"), tmp_path / "index")
    with pytest.raises(KeyboardInterrupt), Writer(index.store) as opened:
        opened.add_page("a.md", "a.md", "A", [NewPassage("An attic.")])
        opened.commit()
        opened.add_page("b.md", "b.md", "B", [NewPassage("A barn.")])
        raise KeyboardInterrupt
    assert [hit.url for hit in Index.open(tmp_path / "index").search_text("attic barn")] == ["a.md"]


def test_the_process_that_reads_is_started_as_soon_as_there_is_something_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(Extractor, "start", lambda self: started.append("started"))
    root, place = folder_of(tmp_path / "docs", a="An attic."), tmp_path / "index"
    Index.build(root, place)
    assert started == ["started"]
    (root / "film.mp4").write_bytes(b"film")
    (root / "damaged.png").write_bytes(b"no picture")
    assert Index.build(root, place).report.unchanged == 1
    assert started == ["started"]
    folder_of(root, b="A barn.")
    Index.open(place).add([root / "b.md"])
    assert started == ["started"] * 2
