"""One contract for all that may keep an index: the local engine, LanceDB, a server of Milvus's protocol.

Everything here runs against the real engine; those that are not installed are skipped with a word."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

pytest.importorskip("tantivy")
pytest.importorskip("cv2")

from tests.conftest import new_bucket
from tests.fake_encoder import WordEncoder

from deepmmsearch.engine import Index, IndexSettings, backend_choice
from deepmmsearch.engine.engine_tables import Is, Row
from deepmmsearch.engine.lancedb_tables import LanceEngine
from deepmmsearch.engine.table_store import Statistics, parts_table
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.index_place import Place
from deepmmsearch.types import Link

SERVER = "DEEPMMSEARCH_TEST_MILVUS"
"""The variable that names a server of Milvus, such as milvus://127.0.0.1:19530, in place of milvus-lite."""
NewPlace = Callable[[], Place]


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("pymilvus", reason="the extra milvus is not installed")
    if SERVER in os.environ:
        yield os.environ[SERVER]
        return
    servers = pytest.importorskip("milvus_lite.adapter.grpc.server", reason="milvus-lite is not installed")
    server, database, port = servers.start_server_in_thread(str(tmp_path_factory.mktemp("milvus")))
    yield f"milvus://127.0.0.1:{port}"
    server.stop(0)
    database.close()


@pytest.fixture(scope="module", params=["local", "lancedb", "milvus", pytest.param("s3", marks=pytest.mark.slow)])
def new_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewPlace]:
    if request.param in ("lancedb", "s3"):
        pytest.importorskip("lancedb", reason="the extra lancedb is not installed")
    if request.param == "s3":
        with pytest.MonkeyPatch.context() as environment:
            bucket = new_bucket(request.getfixturevalue("s3_server"), environment)
            yield lambda: f"{bucket}/{uuid.uuid4().hex}"
    elif request.param == "milvus":
        server = request.getfixturevalue("milvus")
        yield lambda: f"{server}/t{uuid.uuid4().hex}"
    elif request.param == "lancedb":
        yield lambda: f"lancedb://{tmp_path_factory.mktemp('lance') / 'index'}"
    else:
        yield lambda: tmp_path_factory.mktemp("local") / "index"


def _picture(seed: int) -> Image.Image:
    """Shapes and strokes, so that it has many local features."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (320, 240), tuple(random.integers(60, 200, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y, w, h = random.integers(0, 280), random.integers(0, 200), *random.integers(8, 50, 2)
        colour = tuple(random.integers(0, 255, 3).tolist())
        (draw.rectangle if random.random() < 0.5 else draw.ellipse)([x, y, x + w, y + h], fill=colour, outline="black")
    return image


TEXTS = {
    "bhutan.md": "# Bhutan\n\nThe highest point of Bhutan is Gangkhar Puensum, 7,570 m high.",
    "notes/tower.md": "# 東京タワー\n\n東京タワーは高さ333メートルの電波塔です。",
    "notes/russia.md": "# Маяк\n\nСтарый маяк стоит на берегу холодного моря.",
    "notes/arab.md": "# المنارة\n\nتقع المنارة القديمة على شاطئ البحر.",
    "notes/mill.txt": "The red wheel of the mill turns slowly. A museum is beside the mill.",
    'o\'hara "x"\\.md': "---\nurl: https://en.example.org/o'hara\ndate: 2021-05-01\n---\n# O'Hara\n\nAn old mill.",
    "C++.md": "# C++\n\nThe language C++ has templates; it grew out of C.",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("documents")
    for name, text in TEXTS.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for seed in range(4):
        _picture(seed).save(root / f"shapes {seed}.png")
    (root / "gallery.md").write_text(
        "# Shapes\n\n![A heap of blocks](<shapes 2.png>)\n\n[Beside them](notes/mill.txt)\n"
    )
    return root


@pytest.fixture(scope="module")
def index(new_place: NewPlace, folder: Path) -> Index:
    return Index.build(folder, new_place())


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# One\n\nThe first lighthouse.")
    (tmp_path / "docs" / "b.md").write_text("# Two\n\nThe second lighthouse.")
    return tmp_path / "docs"


def _urls(index: Index, query: str) -> list[str]:
    return [hit.url for hit in index.search_text(query)]


def test_builds_and_counts(index: Index) -> None:
    stats = index.stats()
    assert (stats["files"], stats["passages"], stats["pictures"], stats["captions"]) == (12, 8, 4, 1)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("highest point of Bhutan", "bhutan.md"),
        ("東京タワーの高さ", "notes/tower.md"),
        ("старый маяк", "notes/russia.md"),
        ("المنارة القديمة", "notes/arab.md"),
        ("C++ templates", "C%2B%2B.md"),
        ("bhuten", "bhutan.md"),
        ('"red wheel"', "notes/mill.txt"),
        ("mill -museum", "https://en.example.org/o'hara"),
        ("mill site:example.org", "https://en.example.org/o'hara"),
        ("mill filetype:txt", "notes/mill.txt"),
        ("mill after:2021 before:2022", "https://en.example.org/o'hara"),
        ("mill folder:notes", "notes/mill.txt"),
    ],
)
def test_words_find_pages(index: Index, query: str, expected: str) -> None:
    assert _urls(index, query)[:1] == [expected]


@pytest.mark.parametrize(
    "query", ['"wheel red"', "mill after:2100", "mill site:other.org", "mill filetype:pdf", "zzzqqq"]
)
def test_what_does_not_fit_is_not_found(index: Index, query: str) -> None:
    assert _urls(index, query) == []


@pytest.mark.parametrize(
    "query",
    [
        "' OR '1'='1",
        'mill" or id != "',
        "mill folder:x'||'",
        "mill\\",
        "site:a'b mill",
        "\0",
        "-- ; DROP TABLE",
        "%_*",
        "🦜 \ud800",
        'mill folder:\x01\x1f\u2028 "a\tb\x7f"',
    ],
)
def test_hostile_queries_are_words(index: Index, query: str) -> None:
    assert index.search_text(query) is not None
    assert index.stats()["passages"] == 8


def test_reads_where_a_page_leads(index: Index) -> None:
    assert index.read("gallery.md").links == (Link("Beside them", "notes/mill.txt"),)


def test_reads_a_page_by_any_name(index: Index) -> None:
    assert "An old mill" in index.read("https://en.example.org/o'hara").text
    assert "An old mill" in index.read('o\'hara "x"\\.md').text
    with pytest.raises(UserError, match="No page"):
        index.read("' OR 1=1 --")


@pytest.mark.parametrize("change", ["same", "crop", "mirrored", "grey"])
def test_changed_pictures_are_matched(index: Index, change: str) -> None:
    picture = _picture(2)
    if change == "crop":
        picture = picture.crop((40, 30, 280, 210))
    elif change == "mirrored":
        picture = ImageOps.mirror(picture)
    elif change == "grey":
        picture = ImageOps.grayscale(picture).convert("RGB")
    best = index.search_image(picture, 3)[0]
    assert best.matched and best.title == "A heap of blocks" and best.image is not None


def test_another_picture_is_no_match(index: Index) -> None:
    assert not any(hit.matched for hit in index.search_image(_picture(77), 3))
    assert not any(hit.matched for hit in index.search_image(Image.new("RGB", (200, 200), "white"), 3))


def test_words_find_pictures(index: Index) -> None:
    assert index.search_pictures("heap of blocks", 1)[0].title == "A heap of blocks"


def test_what_changes_is_replaced_and_what_goes_is_removed(new_place: NewPlace, own: Path) -> None:
    place = new_place()
    index = Index.build(own, place)
    assert Index.build(own, place).report.unchanged == 2
    (own / "a.md").write_text("# One\n\nA windmill now.")
    (own / "b.md").unlink()
    shutil.copy(own / "a.md", own / "c.md")
    report = Index.build(own, place).report
    assert (report.added, report.changed, report.removed) == (1, 1, 1)
    assert _urls(index, "lighthouse") == [] and sorted(_urls(index, "windmill")) == ["a.md", "c.md"]
    assert index.remove(["c.md"]) == 1 and _urls(index, "windmill") == ["a.md"]
    for name in ("' OR '1'='1", "%", "caf\udce9.md", '" or id != "'):
        with pytest.raises(UserError, match="is not in the index"):
            index.remove([name])
    index.add([own / "a.md"])
    assert index.stats()["files"] == 1 and Index.open(place).digest() == index.digest()


def test_pages_that_name_one_address_are_cited_by_their_files(new_place: NewPlace, own: Path) -> None:
    head = "---\nurl: https://example.org/same\n---\n# Lighthouses\n\n"
    for name in ("a.md", "b.md"):
        (own / name).write_text(f"{head}The lighthouse of {name}.")
    (own / "c.md").write_text("---\nurl: https://example.org/other\n---\n# Other\n\nAnother lighthouse.")
    index = Index.build(own, new_place())
    assert sorted(_urls(index, "lighthouse")) == ["a.md", "b.md", "https://example.org/other"]
    index.remove(["b.md"])
    assert sorted(_urls(index, "lighthouse")) == ["https://example.org/other", "https://example.org/same"]


def test_a_question_asks_an_engine_a_few_times(new_place: NewPlace, folder: Path) -> None:
    place = new_place()
    if isinstance(place, Path):
        pytest.skip("the local engine is asked within the process")
    index = Index.build(folder, place)
    asked: list[str] = []
    for name in ("passages", "pages", "records"):
        rows = index.store.opened(name)
        for way in ("find", "rank", "count"):
            setattr(rows, way, partial(_noting, asked, f"{way} {name}", getattr(rows, way)))
    assert len(index.search_text("mill bhutan lighthouse маяк templates", k=10)) == 5
    assert sorted(asked) == ["find passages", "rank pages", "rank passages"]


def _noting(asked: list[str], name: str, ask: Callable[..., object], *given: object) -> object:
    asked.append(name)
    return ask(*given)


def test_a_picture_stays_as_long_as_a_file_holds_it(new_place: NewPlace, own: Path) -> None:
    for name in ("one.png", "two.png"):
        _picture(5).save(own / name)
    index = Index.build(own, new_place())
    index.remove(["one.png"])
    assert index.search_image(_picture(5), 1)[0].matched
    index.remove(["two.png"])
    assert index.search_image(_picture(5), 1) == [] and index.stats()["pictures"] == 0


def test_words_and_vectors_are_fused(new_place: NewPlace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepmmsearch.engine.index.SentenceEncoder", WordEncoder)
    index = Index.build(folder, new_place(), IndexSettings(dense="minilm"))
    assert _urls(index, "the highest point")[:1] == ["bhutan.md"]
    vectors = index.store.snapshot().vectors()
    assert vectors is not None
    near, share = vectors.search(WordEncoder("minilm"), "old mill an", 3)
    assert len(near) == 3 and near[0].cosine >= near[1].cosine and 0 < share < 1
    found = index.store.snapshot()
    assert "old mill" in found.passage(1.0, found.address(near[0].row)).text


def test_a_second_writer_is_refused(new_place: NewPlace, own: Path) -> None:
    index = Index.build(own, new_place())
    with index.store.writing(), pytest.raises(UserError, match=r"Another process .*is writing"):
        index.add([own / "a.md"])
    index.add([own / "a.md"])


def test_readers_read_while_another_writes(new_place: NewPlace, own: Path) -> None:
    place = new_place()
    Index.build(own, place)
    reader, failed, done = Index.open(place), list[Exception](), threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                assert "b.md" in _urls(reader, "second lighthouse")
            except Exception as error:
                failed.append(error)
                return

    thread = threading.Thread(target=read)
    thread.start()
    writer = Index.open(place)
    for number in range(5):
        (own / "a.md").write_text(f"# One\n\nThe first lighthouse, painted {number} times.")
        writer.add([own / "a.md"])
    done.set()
    thread.join()
    assert not failed and "painted 4 times" in reader.search_text("first lighthouse painted")[0].snippet


KILLED = """
import os, sys
from pathlib import Path
from deepmmsearch.engine import Index
from deepmmsearch.engine.index import Ingest
from deepmmsearch.index_place import place

index = Index.open(place(sys.argv[1]))
with index.store.writing() as writer:
    for name in ("a.md", "new.md"):
        writer.remove(name)
        from deepmmsearch.engine.page_terms import NewPassage
        writer.add_page(name, name, "Half", [NewPassage("half of it is there")])
        writer.add_file(name, "file", {"sha": "0"}, 7)
    {step}
    writer.commit()
"""
_OUT = "writer._add_pictures = lambda: os._exit(9)"
STEPS = {
    "after what was there is out": _OUT,
    "after what is new is in": "writer._let_go = lambda shas: os._exit(9)",
}


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_writer_loses_nothing_for_good(new_place: NewPlace, own: Path, step: str) -> None:
    place = new_place()
    if isinstance(place, Path):
        pytest.skip("the local engine commits at once; tests/test_engine_crash.py kills it")
    Index.build(own, place)
    code = KILLED.replace("{step}", STEPS[step])
    ended = subprocess.run([sys.executable, "-c", code, str(place)], check=False, timeout=120)
    assert ended.returncode == 9
    index = Index.build(own, place)
    assert sorted(_urls(index, "lighthouse")) == ["a.md", "b.md"] and _urls(index, "half") == []
    assert index.stats()["files"] == 2 and index.stats()["passages"] == 2


def test_a_server_of_milvus_that_is_too_old_is_told(milvus: str, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pymilvus import MilvusClient, MilvusException

    def refused(client: object, *given: object, **options: object) -> None:
        raise MilvusException(1100, "create index on 104 field is not supported")

    monkeypatch.setattr(MilvusClient, "create_collection", refused)
    monkeypatch.setattr(MilvusClient, "get_server_version", lambda client: "v2.3.5")
    with pytest.raises(UserError, match=r"is Milvus v2\.3\.5, which has no sparse vectors. Use 2\.4 or later"):
        Index.build(own, f"{milvus}/old")


def test_no_index_is_told(new_place: NewPlace, tmp_path: Path) -> None:
    place = new_place()
    with pytest.raises(UserError, match="index build FOLDER"):
        Index.open(place)
    if not isinstance(place, Path) and place.startswith("lancedb"):
        assert not Path(place.removeprefix("lancedb://")).exists(), "looking makes nothing"


def test_another_folder_or_setting_is_refused(new_place: NewPlace, own: Path, tmp_path: Path) -> None:
    place = new_place()
    Index.build(own, place)
    with pytest.raises(UserError, match="other settings"):
        Index.build(own, place, IndexSettings(passage=500))
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="belongs to"):
        Index.build(tmp_path / "other", place)


@pytest.mark.parametrize("address", ["milvus://user:secret-password@h:1/x", "s3://AKIA:secretsecret@bucket/x"])
def test_an_address_holds_no_password(address: str) -> None:
    with pytest.raises(UserError, match="environment") as error:
        Index.open(address)
    assert "secret" not in str(error.value)


def test_unknown_addresses_are_refused() -> None:
    addresses = ["lance://x", "LanceDB://x", "lancedb:/x", "lancedb:x", "s3:/b/x", "S3:b", "milvus:127.0.0.1:19530"]
    for address in [*addresses, "http://127.0.0.1/x", "file:///x", "postgres:/x", Path("lancedb://x")]:
        with pytest.raises(UserError, match=r"not the address of an index. Those begin with lancedb://, s3://"):
            Index.open(address)
    with pytest.raises(UserError, match="names no place"):
        Index.open("lancedb://")


def test_folders_with_colons_in_their_names_are_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("notes:2024", "C:/x", "lancedb", "a b:c/index", "s3", str(tmp_path / "lancedb:" / "x")):
        assert backend_choice.resolved(name) == backend_choice.resolved(Path(name)) == (tmp_path / name).resolve()


@pytest.mark.parametrize("target", ["lancedb:/x", "lance://x", "s3:/bucket"])
def test_the_command_line_makes_no_folder_of_a_misspelt_address(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    from click.testing import CliRunner

    from deepmmsearch.cli import group
    from deepmmsearch.compose.recipe import load_recipe
    from deepmmsearch.compose.tool_settings import ToolSettings

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPMMSEARCH_CONFIG", str(tmp_path / "config.toml"))
    before = sorted(tmp_path.rglob("*"))
    for command in (
        ["build", str(own), "--to", target],
        ["search", "x", "--index", target],
        ["stats", "--index", target],
    ):
        run = CliRunner().invoke(group, ["index", *command])
        assert isinstance(run.exception, UserError) and "not the address of an index" in str(run.exception)
    run = CliRunner().invoke(group, ["config", "set", "index", target])
    assert isinstance(run.exception, UserError) and "not the address of an index" in str(run.exception)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "tools.yaml").write_text(f"kind: local\nindex: '{target}'\n")
    with pytest.raises(UserError, match="not the address of an index"):
        load_recipe(tmp_path / "tools.yaml", ToolSettings)


def test_a_server_that_is_not_there_is_told() -> None:
    pytest.importorskip("pymilvus", reason="the extra milvus is not installed")
    with pytest.raises((Failed, UserError), match=r"cannot be used|not an address"):
        Index.open("milvus://host with blanks/x")


def test_the_command_line_takes_addresses(tmp_path: Path, own: Path) -> None:
    pytest.importorskip("lancedb", reason="the extra lancedb is not installed")
    from click.testing import CliRunner

    from deepmmsearch.cli.index import command

    place = f"lancedb://{tmp_path / 'lance'}"
    run = CliRunner()
    built = run.invoke(command, ["build", str(own), "--to", place])
    assert built.exit_code == 0 and "2 added" in built.output, built.output
    found = run.invoke(command, ["search", "second lighthouse", "--index", place, "--json"])
    assert json.loads(found.output.splitlines()[0])["url"] == "b.md"
    recipe = tmp_path / "tools.yaml"
    recipe.write_text(f"kind: local\nindex: {place}\n")
    from deepmmsearch.compose.recipe import load_recipe
    from deepmmsearch.compose.tool_settings import LocalToolSettings, ToolSettings

    settings = load_recipe(recipe, ToolSettings)
    assert isinstance(settings, LocalToolSettings) and settings.index == place


def test_tables_beside_documents_are_no_documents(own: Path) -> None:
    pytest.importorskip("lancedb", reason="the extra lancedb is not installed")
    for report in (Index.build(own, f"lancedb://{own / 'index'}").report for _ in range(2)):
        assert report.skipped == {}
    assert Index.open(f"lancedb://{own / 'index'}").stats()["files"] == 2


def test_tables_are_not_put_among_other_files(tmp_path: Path, own: Path) -> None:
    pytest.importorskip("lancedb", reason="the extra lancedb is not installed")
    Index.build(own, tmp_path / "local")
    for folder in (own, tmp_path / "local"):
        before = sorted(folder.iterdir())
        with pytest.raises(UserError, match="new or empty folder"):
            Index.build(own, f"lancedb://{folder}")
        assert sorted(folder.iterdir()) == before


def test_an_index_in_lancedb_that_is_named_as_a_folder_is_told(tmp_path: Path, own: Path) -> None:
    pytest.importorskip("lancedb", reason="the extra lancedb is not installed")
    place = f"lancedb://{tmp_path / 'tables'}"
    Index.build(own, place)
    with pytest.raises(UserError, match=place):
        Index.open(tmp_path / "tables")


@pytest.mark.parametrize(("name", "content"), [("meta", "[]"), ("writer", "no JSON"), ("unfinished-0", "7")])
def test_tables_of_a_stranger_are_told_in_a_sentence(tmp_path: Path, own: Path, name: str, content: str) -> None:
    lancedb = pytest.importorskip("lancedb", reason="the extra lancedb is not installed")
    place = f"lancedb://{tmp_path / 'tables'}"
    Index.build(own, place)
    row = [{"id": name, "content": content}]
    state = lancedb.connect(tmp_path / "tables").open_table("state")
    state.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(row)
    with pytest.raises(UserError):
        Index.build(own, place)


def test_an_engine_has_no_titles_apart(tmp_path: Path) -> None:
    pytest.importorskip("lancedb", reason="the extra lancedb is not installed")
    (tmp_path / "pages").mkdir()
    with pytest.raises(UserError, match="has no titles apart"):
        Index.build(tmp_path / "pages", f"lancedb://{tmp_path / 'index'}", IndexSettings(titles="apart"))
    with pytest.raises(UserError):
        Index.build(tmp_path / "pages", f"lancedb://{tmp_path / 'index'}", IndexSettings(dense="nobody/no-such-model"))
    assert not (tmp_path / "index").exists(), "what is refused leaves nothing behind"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON\n",
        b'{"grid": ["O", [1]]}\n12345678',
        b'{"grid": ["f4", [-1]]}\n1234',
        b'{"grid": ["f4", [9, 9]]}\n1234',
        b'{"grid": ["f4", [9, 9, "x"]]}\n1234',
    ],
)
def test_arrays_of_pictures_that_nobody_packed_are_refused(content: bytes) -> None:
    from deepmmsearch.engine.table_pictures import packed, unpacked

    with pytest.raises(ValueError):
        unpacked(content)
    arrays = {"grid": np.arange(12, dtype=np.float16).reshape(3, 4), "words": np.zeros(0, np.uint16)}
    assert all((unpacked(packed(arrays))[name] == value).all() for name, value in arrays.items())


def test_what_unpacks_to_more_than_it_may_is_cut() -> None:
    import zlib

    from deepmmsearch.engine.engine_tables import MOST_BYTES, unzipped

    assert len(unzipped(zlib.compress(bytes(2 * MOST_BYTES)))) == MOST_BYTES
    with pytest.raises(ValueError):
        unzipped(b"no")


@pytest.fixture
def lance(tmp_path: Path) -> LanceEngine:
    pytest.importorskip("lancedb", reason="the extra lancedb is not installed")
    return LanceEngine("lancedb://tables", str(tmp_path / "tables"), read_only=False, indexed=600)


def _vectors(count: int) -> np.ndarray:
    made = np.random.default_rng(3).standard_normal((count, 16)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def _parts(vectors: np.ndarray, first: int = 0) -> list[Row]:
    rows = enumerate(vectors, first)
    return [{"id": f"{n}", "owners": [f"{n}.md"], "passage": n, "page": n, "vector": vector} for n, vector in rows]


def test_many_vectors_have_an_index_that_is_used(lance: LanceEngine) -> None:
    table = parts_table({"vector": 16})
    vectors = _vectors(900)
    lance.create(table)
    rows = lance.open(table, Statistics())
    rows.add(_parts(vectors[:500]))
    rows.compact()
    assert _indexed(lance) == {}, "few are compared one by one"
    rows.add(_parts(vectors[500:800], 500))
    assert rows.compact()
    assert _indexed(lance) == {"vector": ("IvfHnswSq", 800)}
    rows.add(_parts(vectors[800:], 800))
    rows.delete([Is("id", ["7"])])
    plan = lance._database.open_table(table.name).search(vectors[0]).distance_type("cosine").explain_plan()
    assert "ANN" in plan
    right = 0
    for query in vectors[::30]:
        exact = [n for n in np.argsort(-(vectors @ query)).tolist() if n != 7][:10]
        found = rows.nearest("vector", query, 40, ["passage"])
        right += len({row["passage"] for _, row in found[:10]} & set(exact))
        assert found[0][0] == pytest.approx(1, abs=0.01) and found[0][1]["passage"] == exact[0]
    assert right >= 0.98 * 300


def test_an_index_of_vectors_in_many_pieces_is_made_anew(lance: LanceEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepmmsearch.engine.lancedb_tables.APART", 10)
    monkeypatch.setattr("deepmmsearch.engine.lancedb_tables.SEGMENTS", 2)
    table = parts_table({"vector": 16})
    lance.create(table)
    rows = lance.open(table, Statistics())
    vectors, pieces = _vectors(800), []
    for first, last in [(0, 600), (600, 650), (650, 700), (700, 750), (750, 752)]:
        rows.add(_parts(vectors[first:last], first))
        rows.compact()
        (index,) = lance._database.open_table("parts").list_indices()
        pieces.append((index.num_segments, index.num_unindexed_rows))
    assert pieces == [(1, 0), (2, 0), (3, 0), (1, 0), (1, 2)]
    assert rows.nearest("vector", vectors[740], 10, ["passage"])[0][1]["passage"] == 740


def _indexed(lance: LanceEngine) -> dict[str, tuple[str, int]]:
    found = lance._database.open_table("parts").list_indices()
    return {column: (index.index_type, index.num_indexed_rows) for index in found for column in index.columns}


def test_what_a_build_adds_is_in_the_indexes_of_words(tmp_path: Path) -> None:
    lancedb = pytest.importorskip("lancedb", reason="the extra lancedb is not installed")
    (tmp_path / "docs").mkdir()
    for number in range(110):
        (tmp_path / "docs" / f"{number}.md").write_text(f"# Page {number}\n\nA lighthouse of {number} steps.")
    Index.build(tmp_path / "docs", f"lancedb://{tmp_path / 'tables'}")
    for name in ("passages", "pages"):
        indexes = lancedb.connect(tmp_path / "tables").open_table(name).list_indices()
        assert indexes and all((i.num_indexed_rows, i.num_unindexed_rows) == (110, 0) for i in indexes)


def test_an_index_on_object_storage(s3: str, own: Path) -> None:
    pytest.importorskip("lancedb", reason="the extra lancedb is not installed")
    place = f"{s3}/shared/index"
    with pytest.raises(UserError, match="index build FOLDER"):
        Index.open(place)
    for seed in (1, 2):
        _picture(seed).save(own / f"{seed}.png")
    index = Index.build(own, place)
    reader = Index.open(place)
    assert _urls(reader, "second lighthouse")[0] == "b.md" and reader.stats()["folder"] == place
    assert reader.search_image(_picture(1), 1)[0].matched
    with index.store.writing(), pytest.raises(UserError, match=r"Another process .*is writing"):
        Index.open(place).add([own / "a.md"])
    (own / "a.md").write_text("# One\n\nA windmill now.")
    assert Index.build(own, place).report.changed == 1
    assert _urls(reader, "windmill") == ["a.md"]
    # a writer that is killed between taking out and bringing in
    ended = subprocess.run([sys.executable, "-c", KILLED.replace("{step}", _OUT), place], check=False, timeout=120)
    assert ended.returncode == 9
    assert Index.build(own, place).report.added == 1
    assert _urls(reader, "windmill") == ["a.md"] and _urls(reader, "half") == []
    reader.remove(["b.md"])
    assert Index.open(place).stats()["files"] == 3


def test_keys_of_object_storage_are_the_environments(s3: str, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lancedb", reason="the extra lancedb is not installed")
    with pytest.raises(Failed, match=r"The specified bucket does not exist\. Keys .*AWS_ENDPOINT_URL") as error:
        Index.open("s3://another-bucket/index")
    assert len(str(error.value)) < 300
    with pytest.raises(UserError, match="holds a password or key"):
        Index.build(own, f"{s3}/index?aws_secret_access_key=abcdefghijkl")
