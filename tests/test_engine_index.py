"""Build, change, search: what an index holds is what its folder holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

pytest.importorskip("tantivy")
pytest.importorskip("cv2")

from deepmmsearch.engine import Index, IndexSettings
from deepmmsearch.errors import ToolError, UnknownName, UserError
from deepmmsearch.tools.index_tools import LocalImageSearch, LocalReader, LocalTextSearch


def page(title: str, body: str, url: str = "") -> str:
    link = f'<link rel="canonical" href="{url}">' if url else ""
    return f"<html><head><title>{title}</title>{link}</head><body><main>{body}</main></body></html>"


def picture(path: Path, colour: str = "red", star: bool = True) -> None:
    image = Image.new("RGB", (160, 100), colour)
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 0, 60, 100], fill="white")
    if star:
        draw.polygon([(110, 20), (120, 60), (90, 35), (130, 35), (100, 60)], fill="yellow")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    root = tmp_path / "world"
    (root / "countries").mkdir(parents=True)
    picture(root / "img" / "veld.png", "red")
    picture(root / "img" / "nord.png", "blue", star=False)
    flag = '<img src="../img/veld.png" alt="{}"><p>{}</p>'
    (root / "countries" / "veld.html").write_text(
        page(
            "Veld",
            "<p>The capital of Veld is Oru.</p>" + flag.format("Flag of Veld", "A white bar on red."),
            "https://a.example/veld",
        )
    )
    (root / "countries" / "nord.html").write_text(page("Nord", "<p>The capital of Nord is Tal.</p>"))
    (root / "gallery.html").write_text(
        page("Gallery", '<img src="/img/veld.png" alt=""><p>Many pictures are here.</p>')
    )
    (root / "notes.md").write_text("# Harbours\n\nOru has two harbours.\n")
    (root / "questions.sqlite").write_text("{}")
    return root


@pytest.fixture
def index(world: Path, tmp_path: Path) -> Index:
    return Index.build(world, tmp_path / "index")


def test_build_reports_what_it_did(index: Index) -> None:
    report = index.report
    assert (report.added, report.changed, report.removed) == (6, 0, 0)
    assert report.skipped == {"of a kind that is not indexed": ["questions.sqlite"]}
    stats = index.stats()
    assert (stats["files"], stats["passages"], stats["pictures"]) == (6, 4, 2)


def test_two_pages_that_name_one_address_are_each_cited_and_read_by_their_own_file(tmp_path: Path) -> None:
    root, named = tmp_path / "world", "https://a.example/veld"
    picture(root / "veld.png")
    picture(root / "nord.png", "blue", star=False)
    (root / "a trap.html").write_text(
        page(
            "Trap", '<p>The capital of Veld is Bad.</p><img src="nord.png" alt="Nord">', "HTTPS://A.example:443/veld#x"
        )
    )
    (root / "veld.html").write_text(
        page("Veld", '<p>The capital of Veld is Oru.</p><img src="veld.png" alt="Flag of Veld">', named)
    )
    index = Index.build(root, tmp_path / "index")
    said = {hit.url: hit.snippet for hit in index.search_text("capital of Veld", 5)}
    assert said == {"a%20trap.html": "The capital of Veld is Bad.", "veld.html": "The capital of Veld is Oru."}
    assert {hit.url: index.read(hit.url).text for hit in index.search_text("capital of Veld", 5)} == said
    with Image.open(root / "nord.png") as shown:
        assert index.search_image(shown.convert("RGB"), 1)[0].url == "a%20trap.html"
    with pytest.raises(UserError, match=r"2 pages of .* as a file: a%20trap\.html, veld\.html"):
        index.read(named)
    # alone, a page is what it says
    index.remove([root / "a trap.html"])
    assert [hit.url for hit in index.search_text("capital of Veld", 5)] == [named]
    assert index.read(named).text == index.read("veld.html").text == "The capital of Veld is Oru."
    outside = tmp_path / "other veld.html"
    outside.write_text(page("Other", "<p>The capital of Veld is Far.</p>", named))
    index.add([outside])
    far = next(hit for hit in index.search_text("capital Far", 5) if hit.title == "Other")
    assert far.url == outside.as_uri() and index.read(far.url).text == "The capital of Veld is Far."


def test_text_search_finds_the_passage_whole(index: Index) -> None:
    hit = index.search_text("capital of Veld", 1)[0]
    assert hit.title == "Veld" and hit.url == "https://a.example/veld"
    assert hit.snippet == "The capital of Veld is Oru.\nA white bar on red." and hit.source == "local"
    assert index.search_text("what is the capital of the country Nord?", 1)[0].url == "countries/nord.html"
    assert index.search_text("Veld", 0) == [] and index.search_text("...", 3) == []


def test_picture_is_one_entry_with_its_best_caption(index: Index, world: Path) -> None:
    hits = index.search_image(Image.open(world / "img" / "veld.png"), 5)
    assert [h.title for h in hits].count("Flag of Veld") == 1 and len(hits) == 2
    best = hits[0]
    assert best.title == "Flag of Veld" and best.url == "https://a.example/veld" and best.matched
    assert best.snippet == "A white bar on red." and best.image is not None
    assert hits[1].title == "nord" and hits[1].url == "img/nord.png" and not hits[1].matched


def test_rebuild_follows_the_folder(index: Index, world: Path) -> None:
    again = Index.build(world, index.store.folder)
    assert (again.report.unchanged, again.report.added, again.report.changed) == (6, 0, 0)
    os.utime(world / "notes.md", (1, 1))
    assert Index.build(world, index.store.folder).report.changed == 0  # touched, the same content
    (world / "countries" / "veld.html").write_text(page("Veld", "<p>The capital of Veld is Nuru.</p>"))
    (world / "notes.md").unlink()
    (world / "new.txt").write_text("Fresh words about lighthouses.")
    report = Index.build(world, index.store.folder).report
    assert (report.added, report.changed, report.removed) == (1, 1, 1)
    # the index that was open all the time sees it
    assert "Nuru" in index.search_text("capital of Veld", 1)[0].snippet
    assert not any("Oru" in h.snippet for h in index.search_text("Oru harbours", 5))
    assert index.search_text("lighthouse", 1)[0].title == "new"
    hit = index.search_image(Image.open(world / "img" / "veld.png"), 1)[0]
    assert hit.title == "veld" and hit.url == "gallery.html"  # the alt text went with the page


def test_add_and_remove(index: Index, world: Path, tmp_path: Path) -> None:
    outside = tmp_path / "else" / "trams.txt"
    outside.parent.mkdir()
    outside.write_text("The trams of Oru are green.")
    assert index.add([outside]).added == 1
    hit = index.search_text("trams green", 1)[0]
    assert hit.url == outside.as_uri()
    report = Index.build(world, index.store.folder).report
    assert (report.changed, report.removed) == (0, 0)  # files from elsewhere stay
    assert index.remove([str(outside)]) == 1 and index.search_text("trams", 1) == []
    assert index.remove(["https://a.example/veld"]) == 1 and index.remove(["img"]) == 2
    assert index.search_image(Image.new("RGB", (50, 50)), 3) == []
    with pytest.raises(UserError, match=r"is not in the index"):
        index.remove(["nothing.html"])
    with pytest.raises(UserError, match="does not exist"):
        index.add([tmp_path / "missing.txt"])
    with pytest.raises(UserError, match="not indexed"):
        index.add([world / "questions.sqlite"])


def test_files_from_elsewhere_are_followed_too(index: Index, world: Path, tmp_path: Path) -> None:
    away = tmp_path / "else"
    away.mkdir()
    for name in ("trams", "buses", "boats", "links"):
        (away / f"{name}.txt").write_text(f"The {name} of Oru are green.")
    (away / ".hidden.txt").write_text("hidden")
    assert index.add([away]).added == 4
    (away / "trams.txt").write_text("The trams of Oru are quite red now.")
    (away / "buses.txt").unlink()
    (away / "links.txt").unlink()
    (tmp_path / "secret.txt").write_text("A secret.")
    (away / "links.txt").symlink_to(tmp_path / "secret.txt")
    report = Index.build(world, index.store.folder).report
    assert (report.changed, report.removed) == (1, 1)
    assert index.search_text("trams red", 1)[0].snippet.endswith("quite red now.")
    assert not index.search_text("buses", 1) and not index.search_text("secret", 1)
    assert Index.build(world, index.store.folder).report.changed == 0
    # a disk that is not there takes nothing with it
    away.rename(tmp_path / "unplugged")
    assert Index.build(world, index.store.folder).report.removed == 0 and index.search_text("boats", 1)


def test_lock_files_are_left_out_and_other_json_is_read(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "package.json").write_text('{"name": "harbour", "description": "Boats for everyone."}')
    (root / "package-lock.json").write_text('{"name": "harbour", "lockfileVersion": 3, "packages": {"": {}}}')
    index = Index.build(root, tmp_path / "index")
    assert [hit.url.partition("%23")[0] for hit in index.search_text("harbour boats")] == ["package.json"]
    assert [file for file, reason in index.skipped() if "lock file" in reason] == ["package-lock.json"]


def test_a_removed_picture_comes_back_and_copies_share_one_row(index: Index, world: Path) -> None:
    (world / "copy.png").write_bytes((world / "img" / "veld.png").read_bytes())
    index.add([world / "copy.png"])
    assert index.stats()["pictures"] == 3
    assert len(index.search_image(Image.open(world / "copy.png"), 9)) == 2
    index.remove(["img/veld.png"])
    assert len(index.search_image(Image.open(world / "copy.png"), 9)) == 2
    index.remove(["copy.png"])
    assert len(index.search_image(Image.open(world / "copy.png"), 9)) == 1
    index.add([world / "img" / "veld.png"])
    assert index.search_image(Image.open(world / "copy.png"), 1)[0].matched


def test_many_small_commits_are_merged(tmp_path: Path, world: Path) -> None:
    index = Index.build(world, tmp_path / "index")
    for number in range(24):
        target = world / "more" / f"p{number}.png"
        picture(target, f"#{number * 9:02x}40{255 - number * 9:02x}")
        index.add([target])
    assert index.stats()["segments"] <= 9 and index.stats()["pictures"] == 26
    for number in (0, 11, 23):
        found = index.search_image(Image.open(world / "more" / f"p{number}.png"), 1)[0]
        assert found.url == f"more/p{number}.png"
    folders = {p.name for p in index.store.arrays.iterdir()}
    assert folders == {s.name for s in index.store.snapshot().segments}


def test_at_most_so_many_passages_of_one_page(tmp_path: Path) -> None:
    root = tmp_path / "w"
    root.mkdir()
    (root / "long.txt").write_text("\n".join(f"Harbour number {n} lies in the harbour town. " * 12 for n in range(20)))
    (root / "short.txt").write_text("One harbour.")
    index = Index.build(root, tmp_path / "i")
    assert [h.title for h in index.search_text("harbour", 5, per_page=2)].count("long") == 2
    assert len(index.search_text("harbour", 5, per_page=2)) == 3


def test_a_page_with_many_good_passages_does_not_hide_the_others(tmp_path: Path) -> None:
    root = tmp_path / "w"
    root.mkdir()
    (root / "long.txt").write_text("\n".join("Harbour after harbour, and a harbour. " * 20 for _ in range(120)))
    for name in ("first", "second"):
        (root / f"{name}.txt").write_text(f"The {name} town has much else. " * 20 + "It has a harbour.")
    index = Index.build(root, tmp_path / "i")
    assert index.stats()["passages"] == 122
    titles = [h.title for h in index.search_text("harbour", 5)]
    assert titles[:3] == ["long"] * 3 and set(titles[3:]) == {"first", "second"}


def test_reader_returns_the_whole_page_in_order(tmp_path: Path) -> None:
    root = tmp_path / "w"
    root.mkdir()
    text = "\n".join(f"Line {n} of the page about harbours and bridges." for n in range(200))
    (root / "p.html").write_text(
        page("P", "".join(f"<p>{line}</p>" for line in text.splitlines()[:90]), "https://p.example/")
    )
    index = Index.build(root, tmp_path / "i")
    read = index.read("https://p.example/")
    assert read.title == "P" and read.text == "\n".join(text.splitlines()[:90])


async def test_tools(index: Index, world: Path) -> None:
    assert (await LocalTextSearch(index).search("capital Veld", 1))[0].title == "Veld"
    assert (await LocalImageSearch(index).search(Image.open(world / "img" / "veld.png"), 1))[0].matched
    assert "Oru" in (await LocalReader(index).read("https://a.example/veld")).text
    with pytest.raises(ToolError, match="No page"):
        await LocalReader(index).read("https://nowhere.example/")


@settings(max_examples=60)
@given(st.text(max_size=80))
def test_any_string_is_a_query(shared: Index, query: str) -> None:
    shared.search_text(query, 3)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Index:
    root = tmp_path_factory.mktemp("shared")
    (root / "w").mkdir()
    (root / "w" / "a.txt").write_text("Veld AND Oru OR title:x (harbour) [a TO b] ~ ^ * \\ quotes.")
    return Index.build(root / "w", root / "i")


def test_what_is_no_unicode_is_a_query_and_no_address(shared: Index) -> None:
    """An argument that is not UTF-8 has such letters; the index was once called damaged over it."""
    assert shared.search_text("harbour \ud800\udcff", 1)[0].title == "a"
    with pytest.raises(UserError, match="No page of the index"):
        shared.read("https://a.example/\udcff")


@pytest.mark.parametrize("query", ['"', 'title:"a', "a AND", "(", "[a TO", "x^", "*", "\\", "NOT a", "-a", "/re/", "'"])
def test_query_syntax_is_only_text(shared: Index, query: str) -> None:
    assert isinstance(shared.search_text(query, 3), list)
    assert shared.search_text(f"harbour {query}", 1)[0].title == "a"


def test_an_older_index_is_marked_as_new_once_new_records_are_in_it(tmp_path: Path, index: Index) -> None:
    meta = index.store.folder / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "format": 3}))
    assert Index.build(tmp_path / "world", index.store.folder).search_text("capital") is not None
    assert json.loads(meta.read_text())["format"] == 3  # nothing was written
    (tmp_path / "new.txt").write_text("Trams are green.")
    Index.open(index.store.folder).add([tmp_path / "new.txt"])
    assert json.loads(meta.read_text())["format"] == 4
    assert Index.open(index.store.folder).search_text("trams")


def test_not_an_index_or_another_version(tmp_path: Path, index: Index) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Index.open(tmp_path / "none")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "x").write_text("mine")
    with pytest.raises(UserError, match="is not an index"):
        Index.open(tmp_path / "plain")
    with pytest.raises(UserError, match="exists and is not an index"):
        Index.build(tmp_path / "world", tmp_path / "plain")
    meta = index.store.folder / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "format": 99}))
    with pytest.raises(
        UserError, match="format 99 and this version reads formats 3 and 4: delete that folder and build it again"
    ):
        Index.open(index.store.folder)
    # what an early version wrote
    meta.write_text(json.dumps({"format": 1, "root": str(tmp_path / "world"), "dense": None, "passage": 900}))
    with pytest.raises(UserError, match=r"has format 1 and .* build it again with `deepmmsearch index build`"):
        Index.build(tmp_path / "world", index.store.folder)
    meta.write_text("{nonsense")
    with pytest.raises(UserError, match=r"meta\.json cannot be read"):
        Index.open(index.store.folder)


def test_wrong_sources_and_settings(tmp_path: Path, world: Path, index: Index) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Index.build(tmp_path / "none", tmp_path / "i")
    assert not (tmp_path / "i").exists()
    with pytest.raises(UserError, match="other settings"):
        Index.build(world, index.store.folder, IndexSettings(passage=300))
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="belongs to"):
        Index.build(tmp_path / "other", index.store.folder)
    with pytest.raises(UnknownName, match="Did you mean 'dense'"):
        IndexSettings.read({"dens": None})


def test_hostile_files_are_skipped_and_counted(tmp_path: Path) -> None:
    root = tmp_path / "w"
    root.mkdir()
    (root / "ok.txt").write_text("Fine words.")
    (root / "empty.html").write_bytes(b"")
    (root / "empty.png").write_bytes(b"")
    (root / "huge.html").write_bytes(b"<p>words</p>" * 900_000)
    (root / "cut.pdf").write_bytes(b"%PDF-1.4\n1 0 obj<<")
    (root / "binary.txt").write_bytes(bytes(range(256)) * 4)
    (root / "not.png").write_bytes(b"hello, no picture")
    (root / "bomb.png").write_bytes(_header(50_000, 50_000))
    os.mkfifo(root / "pipe.txt")
    index = Index.build(root, tmp_path / "i")
    reasons = {reason: len(files) for reason, files in index.report.skipped.items()}
    assert index.report.added == 1 and sum(reasons.values()) == 8
    assert reasons["empty file"] == 2 and reasons["larger than 2 MB"] == 1 and reasons["damaged PDF"] == 1
    assert reasons["of more than 64 megapixels"] == 1 and reasons["not an ordinary file"] == 1
    assert "8 skipped" in index.report.sentence
    # a file that became unreadable takes its old content with it
    (root / "ok.txt").write_bytes(b"\xff\xff broken")
    assert Index.build(root, tmp_path / "i").search_text("fine words", 1) == []


def _header(width: int, height: int) -> bytes:
    import struct
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IDAT"


def test_pages_cannot_reach_outside_or_forge_records(tmp_path: Path) -> None:
    root = tmp_path / "w"
    root.mkdir()
    picture(tmp_path / "secret.png")
    (root / "a.html").write_text(
        page("A", '<img src="../secret.png" alt="mine"><img src="file:///etc/x.png"><p>Text here.</p>')
    )
    index = Index.build(root, tmp_path / "i")
    assert index.stats()["pictures"] == 0 and index.search_image(Image.new("RGB", (9, 9)), 3) == []
