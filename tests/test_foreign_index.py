"""An index that somebody else made, and folders that somebody else filled: they run, delete and show nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tantivy")
pytest.importorskip("cv2")

from deepmmsearch.engine import Index, IndexSettings
from deepmmsearch.engine import segments as seg
from deepmmsearch.engine.writer import Writer
from deepmmsearch.errors import UserError


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """An index with a page and a picture."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("A ship came in.")
    Image.linear_gradient("L").save(tmp_path / "docs" / "a.png")
    return Index.build(tmp_path / "docs", tmp_path / "index").store.folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of the user's, with what must stay."""
    for name in ("letters", "pictures-0123456789abcdef"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "kept.txt").write_text("mine")
    return tmp_path / "mine"


def _whole(mine: Path) -> bool:
    return all((mine / name / "kept.txt").is_file() for name in ("letters", "pictures-0123456789abcdef"))


def _update(docs: Path, index: Path) -> None:
    (docs / "b.txt").write_text("A boat came in.")
    Index.build(docs, index)


@pytest.mark.parametrize("part", ["arrays", "text"])
def test_a_link_within_an_index_leads_nowhere(theirs: Path, mine: Path, tmp_path: Path, part: str) -> None:
    shutil.move(theirs / part, tmp_path / "moved")
    (theirs / part).symlink_to(mine if part == "arrays" else tmp_path / "moved")
    with pytest.raises(UserError, match="not a folder of its own"):
        _update(tmp_path / "docs", theirs)
    assert _whole(mine)


def test_a_linked_array_is_not_read(theirs: Path, tmp_path: Path) -> None:
    segment = next((theirs / "arrays").iterdir())
    (segment / "thumbnail.npy").rename(tmp_path / "private.npy")
    (segment / "thumbnail.npy").symlink_to(tmp_path / "private.npy")
    with pytest.raises(UserError, match="not an ordinary file"):
        Index.open(theirs)


def test_only_what_is_named_like_a_segment_is_removed(theirs: Path, mine: Path, tmp_path: Path) -> None:
    arrays = theirs / "arrays"
    for name in ("letters", "pictures-0123456789abcdef"):
        shutil.copytree(mine / name, arrays / name)
    # a link is refused before anything is written, and would not be followed either
    (arrays / "vectors-0123456789abcdef").symlink_to(mine / "letters")
    seg.remove_orphans(arrays, {p.name for p in arrays.glob("pictures-*") if p.name != "pictures-0123456789abcdef"})
    assert (arrays / "letters").is_dir() and not (arrays / "pictures-0123456789abcdef").exists()
    (arrays / "vectors-0123456789abcdef").unlink()
    _update(tmp_path / "docs", theirs)
    assert (arrays / "letters").is_dir() and _whole(mine)


@pytest.mark.parametrize("listed", ["{mine}/letters/kept.txt", "../../mine/letters/kept.txt"])
def test_the_list_of_files_to_delete_names_none_of_the_users(
    theirs: Path, mine: Path, tmp_path: Path, listed: str
) -> None:
    """tantivy deletes what its own list names and no commit needs, wherever it lies."""
    managed = theirs / "text" / ".managed.json"
    managed.write_text(json.dumps([*json.loads(managed.read_text()), listed.format(mine=mine)]))
    with pytest.raises(UserError, match="not its own"):
        _update(tmp_path / "docs", theirs)
    assert _whole(mine)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "../../mine/letters"},
        {"kind": "../../mine/x", "name": "../../mine/x-0123456789abcdef"},
        {"rows": 10**30},
        {"dead": "eJwDAAAAAAE="},
        {"dead": "no base64"},
    ],
)
def test_a_manifest_names_segments_of_the_index_alone(
    theirs: Path, mine: Path, tmp_path: Path, changed: dict[str, object]
) -> None:
    store = Index.open(theirs).store
    with Writer(store) as writer:
        manifest = {"segments": [s.to_json() | changed for s in writer.snapshot.segments], "next_id": 9}
        writer._writer.delete_documents_by_term("kind", "manifest")
        writer.add("manifest", "", manifest)
        writer._writer.commit()
    with pytest.raises(UserError, match="is damaged"):
        Index.open(theirs).search_image(Image.new("RGB", (60, 40)), 1)
    with pytest.raises(UserError, match="is damaged"):
        _update(tmp_path / "docs", theirs)
    assert sorted(p.name for p in mine.iterdir()) == ["letters", "pictures-0123456789abcdef"]


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("ids", np.array([[1]], np.int64)),
        ("points_offsets", np.array([0, 10**9], np.int64)),
        ("vector", np.zeros((7, 3), np.float16)),
        ("grid", np.array(["words"])),
    ],
)
def test_arrays_that_do_not_fit_are_told_as_damage(theirs: Path, name: str, array: np.ndarray) -> None:
    np.save(next((theirs / "arrays").iterdir()) / f"{name}.npy", array)
    with pytest.raises(UserError, match="is damaged"):
        Index.open(theirs).search_image(Image.linear_gradient("L").convert("RGB"), 1)


def test_thumbnails_that_are_none_cost_a_hit_its_picture_alone(theirs: Path) -> None:
    path = next((theirs / "arrays").iterdir()) / "thumbnail.npy"
    query = Image.linear_gradient("L").convert("RGB")
    (before,) = Index.open(theirs).search_image(query, 1)
    np.save(path, np.load(path) ^ 0x55)
    (after,) = Index.open(theirs).search_image(query, 1)
    assert before.image is not None and after == replace(before, image=None)


def test_an_array_that_claims_to_be_huge_takes_no_memory(theirs: Path) -> None:
    path = next((theirs / "arrays").iterdir()) / "thumbnail.npy"
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1, np.uint8)) | {"shape": (10**13,)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(UserError, match="is damaged"):
        Index.open(theirs).search_image(Image.linear_gradient("L").convert("RGB"), 1)


def test_a_damaged_file_of_texts_is_found_before_it_is_read(theirs: Path) -> None:
    """Over most such damage tantivy panics; over a length, it ends the process."""
    sound = {
        path: path.read_bytes() for path in (theirs / "text").iterdir() if path.suffix in (".store", ".term", ".idx")
    }
    assert len(sound) == 3
    for path, content in sound.items():
        body = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        for place in (0, body - 1, body, len(content) - 1):
            path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
            with pytest.raises(UserError, match="is damaged"):
                Index.open(theirs)
        for cut in (content[:-1], content[:4], b"", content + b"x"):
            path.write_bytes(cut)
            with pytest.raises(UserError, match="is damaged"):
                Index.open(theirs)
        path.write_bytes(content)
    assert len(Index.open(theirs).search_text("ship")) == 1
    # what was deleted, and written since, is part of it
    docs = theirs.parent / "docs"
    (docs / "a.txt").write_text("A ship went.")
    _update(docs, theirs)
    assert any(path.suffix == ".del" for path in (theirs / "text").iterdir())
    assert [hit.snippet for hit in Index.open(theirs).search_text("ship")] == ["A ship went."]


@pytest.mark.parametrize("kind", ["dense", "vision"])
def test_a_model_that_an_index_names_is_not_loaded(
    theirs: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a folder that came along nor any other, until the user names it himself."""
    model = theirs / "model"
    model.mkdir()
    (model / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]))
    (model / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "evil.Module"}}))
    (model / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    _set(theirs, **{kind: str(model)})
    index = Index.open(theirs)
    with pytest.raises(UserError, match="config set encoders"):
        index.search_text("ship", 1) if kind == "dense" else index.search_image(Image.new("RGB", (9, 9)), 1)
    with pytest.raises(UserError, match="config set encoders"):
        _update(tmp_path / "docs", theirs)
    # named, it is loaded, and its code is not run all the same
    pytest.importorskip("sentence_transformers")
    named = Index.open(theirs, encoders=[str(model)])
    with pytest.raises(UserError):
        named.search_text("ship", 1) if kind == "dense" else named.search_image(Image.new("RGB", (9, 9)), 1)
    assert not (tmp_path / "ran").exists() and "evil" not in sys.modules


def test_a_known_encoder_is_that_of_the_hub_and_no_folder_of_its_name(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr("deepmmsearch.engine.index.SentenceEncoder", lambda name, *_: loaded.append(name))
    _set(theirs, dense="BAAI/bge-m3")
    Index.open(theirs).search_text("ship", 1)
    assert loaded == ["BAAI/bge-m3"]
    (tmp_path / "BAAI" / "bge-m3").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="loaded only if you name it"):
        Index.open(theirs).search_text("ship", 1)


def test_an_encoder_that_the_user_names_is_used(theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr("deepmmsearch.engine.index.SentenceEncoder", lambda name, *_: loaded.append(name))
    _set(theirs, dense="my/model")
    Index.open(theirs, encoders=["my/model"]).search_text("ship", 1)
    Index.build(tmp_path / "docs", theirs, IndexSettings(dense="my/model"))
    assert loaded == ["my/model", "my/model"]


def _set(index: Path, **settings: object) -> None:
    meta = index / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | settings))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"dense": ["x"]}, {"passage": "long"}, {"passage": 0}, {"passage": -1}, {"passage": 10**9}, {"stem": 3}),
        *({"root": 7}, {"format": [2]}),
    ],
)
def test_settings_of_the_wrong_kind(theirs: Path, wrong: dict[str, object]) -> None:
    _set(theirs, **wrong)
    with pytest.raises(UserError):
        Index.open(theirs)


# Folders


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    """What the folder's maker links to lies on the disk of whoever indexes it."""
    docs, private = tmp_path / "docs", tmp_path / "private"
    (docs / "own").mkdir(parents=True)
    private.mkdir()
    (private / "letter.txt").write_text("The passphrase is swordfish.")
    (docs / "own" / "page.txt").write_text("A harbour.")
    (docs / "letter.txt").symlink_to(private / "letter.txt")
    (docs / "relative.txt").symlink_to("../private/letter.txt")
    (docs / "all").symlink_to(private)
    (docs / "loop.txt").symlink_to("loop.txt")
    (docs / "again").symlink_to(docs)
    # links within the folder are followed, also through several steps
    (docs / "same.txt").symlink_to("own/page.txt")
    (docs / "twice.txt").symlink_to("same.txt")
    # another folder whose name begins alike is not within
    (tmp_path / "docs-private").mkdir()
    (tmp_path / "docs-private" / "x.txt").write_text("swordfish")
    (docs / "near.txt").symlink_to("../docs-private/x.txt")
    index = Index.build(docs, tmp_path / "index")
    assert index.report.skipped == {
        "a link out of the folder": ["all", "letter.txt", "near.txt", "relative.txt"],
        "a link to a folder": ["again"],
        "a link to nothing": ["loop.txt"],
    }
    assert index.report.added == 3 and not index.search_text("swordfish", 5)
    assert {hit.url for hit in index.search_text("harbour", 5)} == {"own/page.txt", "same.txt", "twice.txt"}
    # `add` of a folder likewise; a link that the user names himself is his own choice
    assert index.add([docs]).skipped["a link out of the folder"] == ["all", "letter.txt", "near.txt", "relative.txt"]
    assert index.add([docs / "letter.txt"]).added == 1 and index.search_text("swordfish", 5)


def test_one_bad_file_costs_itself(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    bad_name = os.fsencode(str(docs)) + b"/caf\xe9.txt"
    Path(os.fsdecode(bad_name)).write_text("Named in Latin-1, a teapot.")
    pages = {
        "address": "<p>A lighthouse.</p><img src='https://[' alt='x'><img src='//[::1' alt='y'>",
        "long": f"<p>A windmill.</p><img src='/{'x' * 900}.png' alt='x'><img src='{'y' * 900}.png' alt='y'>",
        "surrogate": "<title>&#xD800;</title><p>A drawbridge &#55357;.</p><img src='&#xD800;.png' alt='&#xDFFF;'>",
        "nested": "<div>" * 3000 + "<p>Deep.</p>",
        "numbers": f"<p>A sluice.</p><img src='&#{'9' * 4000};.png' alt='x'>",
        "canonical": "<link rel=canonical href='https://[x'><p>A weir.</p>",
    }
    for name, text in pages.items():
        (docs / f"{name}.html").write_text(text)
    (docs / "zz.txt").write_text("The last of all.")
    index = Index.build(docs, tmp_path / "index")
    for word in ("teapot", "lighthouse", "windmill", "drawbridge", "sluice", "weir", "last"):
        assert index.search_text(word, 1), word
    assert index.search_text("teapot", 1)[0].title == r"caf\xe9"
    assert all("nested.html" in files for files in index.report.skipped.values())
    # nothing changed, so nothing is read again; what is gone is removed
    assert Index.build(docs, tmp_path / "index").report.unchanged == 7
    Path(os.fsdecode(bad_name)).unlink()
    assert Index.build(docs, tmp_path / "index").report.removed == 1


def test_folders_nested_very_deeply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs, depth = tmp_path / "docs", 2100
    docs.mkdir()
    (docs / "a.txt").write_text("Above all.")
    monkeypatch.chdir(docs)
    # deeper than Python's recursion goes, and in the end than a path may be long
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    Path("deepest.txt").write_text("Out of reach.")
    monkeypatch.chdir(tmp_path)
    index = Index.build(docs, tmp_path / "index")
    assert index.report.added == 1 and list(index.report.skipped) == ["a folder: file name too long"]
    # shutil.rmtree, with which pytest clears up, recurses
    _remove_deep(docs, depth)


def _remove_deep(folder: Path, depth: int) -> None:
    before = Path.cwd()
    os.chdir(folder)
    for _ in range(depth):
        os.chdir("d")
    Path("deepest.txt").unlink()
    for _ in range(depth):
        os.chdir("..")
        Path("d").rmdir()
    os.chdir(before)


def test_a_reader_that_was_taken_over_forges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process that takes pages apart answers is text from outside."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text("One.")
    none: dict[str, object] = dict.fromkeys(("url", "date", "language"))
    none |= {"pictures": [], "headings": [], "marks": [], "links": [], "content": b""}
    whole = {"title": "A", "text": "B", "charset": "", "site": "", **none}
    answers: list[dict[str, object]] = [
        {},
        {**whole, "pictures": [{"src": 1}]},
        {**whole, "pictures": 7},
        {**whole, "headings": None},
        {**whole, "links": [{"text": "a"}]},
        {**whole, "charset": "\x1b[2J"},
        {**whole, "pictures": [{"src": "", "title": "", "snippet": "", "rank": "high"}]},
    ]
    for number, answer in enumerate(answers):
        monkeypatch.setattr("deepmmsearch.confined.Worker.ask", lambda *_, given=answer: dict(given))
        assert Index.build(docs, tmp_path / f"{number}").report.skipped == {"its extraction failed": ["a.txt"]}
    forged = {**whole, "title": ["x"], "text": "lone \ud800 half", "extra": 1}
    monkeypatch.setattr("deepmmsearch.confined.Worker.ask", lambda *_: dict(forged))
    assert Index.build(docs, tmp_path / "index").report.added == 1
