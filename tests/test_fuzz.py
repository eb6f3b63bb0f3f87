"""Every reader of files that others made, on damaged ones: only its own errors come out, in bounded time and memory.

The default suite tries a fixed number of files for each reader; `make fuzz` reads other ones for a minute each
(`FUZZ_SECONDS`, `FUZZ_SEED`). A file that fails is kept, and its path named.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from data_files import picture, picture_bytes, write_json, write_lines, write_picture
from deepmmsearch import images
from deepmmsearch.compose.recipe_kinds import other_program
from deepmmsearch.decoding import decode
from deepmmsearch.errors import ToolError, Unreadable, UserError
from deepmmsearch.prompts import load_prompt
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.strict_yaml import read_yaml
from deepmmsearch.types import (
    Answer,
    Call,
    Completion,
    Exchange,
    Grounding,
    Hit,
    ImageSearch,
    Observation,
    Question,
    TextSearch,
    Trajectory,
    Turn,
)
from fuzzing import NESTS, WORDS, Reader, fuzz, mutate

OURS = (UserError,)
ROOT = Path(__file__).parent.parent
PAGE = """<!doctype html><html lang="en-GB"><head><meta charset="utf-8"><title>Veld &amp; Oru</title>
<link rel="canonical" href="https://a.example/veld"><meta property="og:url" content="https://a.example/veld">
<meta name="date" content="2020-02-03"></head><body><nav>Home</nav><main><h1>Veld</h1><p>Its capital is Oru.</p>
<figure><img src="veld.png" alt="Flag of Veld"><figcaption>A bar.</figcaption></figure><table><tr><th>Capital</th>
<td>Oru</td></tr></table><dl><dt>Area</dt><dd>12</dd></dl><!-- x --><ul><li>a<li>b</ul></main></body></html>"""
MARKDOWN = (
    '# Harbours\n\nOru has *two* **harbours**.\n\n![A pier](pier.png "x")\n\n- one\n- [two](b.html)\n\n```\nx\n```\n'
)


def played() -> Trajectory:
    hits = (Hit("Veld", "https://a.example", "A land.", 1.5, picture(), True, "local"),)
    seen = Observation("[1] A land.", (picture(1),), hits, calls=(Call("text_search", "local", 0.25),))
    looked = Observation("Nothing found.", grounding=Grounding("the flag", None, "none", "none"), crop=picture(2))
    turns = (
        Turn(Completion("<text_search>Veld</text_search>", (1, 2), (-0.5, -0.25)), TextSearch("Veld"), seen),
        Turn(Completion("<img_search>the flag</img_search>"), ImageSearch("the flag"), looked),
        Turn(Completion("<answer>Oru</answer>"), Answer("Oru")),
    )
    question = Question("q", "Where?", (picture(),), ("Oru",), {"a": [1]}, history=(Exchange("Who?", "Veld"),))
    return Trajectory(question, load_prompt("deepmmsearch-r1"), (), turns, "answer")


# Pages


def write_pages(folder: Path) -> None:
    (folder / "veld.html").write_text(PAGE)
    (folder / "long.html").write_text(
        PAGE.replace("<p>", "<p>A sentence of the long history of Oru.</p>" * 200 + "<p>")
    )
    (folder / "latin.html").write_bytes(PAGE.replace("utf-8", "iso-8859-1").replace("Oru", "Or\xfb").encode("latin-1"))


def write_texts(folder: Path) -> None:
    (folder / "harbours.md").write_text(MARKDOWN)
    (folder / "notes.txt").write_text("Notes\n\nOru has two harbours.\n" * 5)


def write_pdfs(folder: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    stream = b"BT /F1 12 Tf 10 50 Td (Hello harbour) Tj ET"
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    )
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj%s\nendobj\n" % (number, body)
    table = b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(out)
    (folder / "text.pdf").write_bytes(out + table + end)
    for name, password in (("packed.pdf", ""), ("locked.pdf", "x")):
        writer = pypdf.PdfWriter(clone_from=folder / "text.pdf")
        writer.pages[0].compress_content_streams()
        writer.add_metadata({"/Title": "Harbours", "/CreationDate": "D:20200203000000"})
        if password:
            writer.encrypt("", password)
        writer.write(folder / name)


def write_documents(folder: Path) -> None:
    write_pages(folder)
    write_texts(folder)
    write_pdfs(folder)


def write_office(folder: Path) -> None:
    from test_documents import CONTENTS

    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)


def write_collections(folder: Path) -> None:
    from test_collection_kinds import MADE

    for suffix, make in MADE.items():
        (folder / f"a{suffix}").write_bytes(make())


def read_collection(path: Path) -> None:
    from deepmmsearch.reading.file_kinds import COLLECTIONS, read

    for entry in COLLECTIONS[path.suffix](path, ""):
        with suppress(Unreadable):
            if entry.origin is not None:
                read(entry.origin, entry.content)


def read_page(path: Path) -> None:
    pytest.importorskip("trafilatura")
    from deepmmsearch.reading.file_kinds import extract

    # here and not in the process that is killed, so that nothing hides behind it; on the web, too
    extract(path.name, path.read_bytes())


def read_page_apart(path: Path) -> None:
    from deepmmsearch.reading.worker import Extractor

    extractor = vars(read_page_apart).setdefault("extractor", Extractor(10.0))
    extractor.extract(path.name, path.read_bytes())


# Pictures


def write_pictures(folder: Path) -> None:
    for format in ("PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF"):
        (folder / f"a.{format.lower()}").write_bytes(picture_bytes(0, format))
    frames = [picture(n, (24, 16)) for n in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    picture(3, (40, 30)).convert("P").save(folder / "palette.png")
    picture(3, (40, 30)).convert("I;16").save(folder / "deep.png")
    picture(4, (40, 30)).convert("CMYK").save(folder / "print.jpeg")
    picture(5, (40, 30)).save(folder / "scans.jpeg", progressive=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")


def read_picture(path: Path) -> None:
    try:
        images.load(path)
    finally:
        # what is done in a process of its own, so that nothing hides behind it
        decode(path.read_bytes(), path.name, images.WEB_PIXELS, images.FORMATS)


# Rows

ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "Which flag?", "answers": ["Veld", "Vald"], "image": "pictures/a.png", "note": 1.5},
    {"id": "b", "question": "How high?", "answer": "12 m", "images": ["pictures/a.png"], "metadata": {"x": [1, None]}},
    {"question": "Why?", "answers": "", "choices": ["a", "b"], "direct_answers": ["c"]},
]
CONVERSATION = {
    "messages": [
        {"role": "system", "content": "You answer."},
        {"role": "user", "content": "<image>Which flag?"},
        {"role": "assistant", "content": "<reason>I look.</reason><img_search><img></img_search>"},
        {"role": "user", "content": "<information>[1] match: Veld</information>"},
        {"role": "assistant", "content": "<reason>It is.</reason><answer>Veld</answer>"},
    ],
    "images": ["pictures/a.png"],
}


def write_json_lines(folder: Path) -> None:
    write_lines(folder / "a.jsonl", ROWS)
    (folder / "wide.jsonl").write_text("\n".join(map(json.dumps, ROWS)), "utf-16")


def write_jsons(folder: Path) -> None:
    write_json(folder / "rows.json", ROWS)
    write_json(folder / "held.json", {"data": ROWS})
    write_json(folder / "conversations.json", [CONVERSATION, CONVERSATION])


def write_delimited(folder: Path) -> None:
    table = 'id,question,answers,image\na,"Which, flag?",Veld|Vald,a.png\nb,"How\nhigh?",12,\n'
    (folder / "a.csv").write_text(table)
    (folder / "b.csv").write_text(table.replace(",", ";"), "utf-8-sig")
    (folder / "c.tsv").write_text(table.replace(",", "\t"))


def write_parquet(folder: Path) -> None:
    pytest.importorskip("pyarrow")
    from data_files import write_table
    from deepmmsearch.data.convert import write_verl
    from deepmmsearch.data.records import question_row, trajectory_row, write_rows

    write_rows([trajectory_row(played()), question_row(played().question)], folder / "ours.parquet")
    write_verl([played().question], folder / "verl.parquet")
    write_table(
        folder / "plain.parquet", [{"question": "Which?", "answers": ["Veld"], "image": {"bytes": picture_bytes()}}]
    )


def damage_cells(random: Random, path: Path) -> None:
    """A sound file whose cells are damaged."""
    import pyarrow as pa
    from pyarrow import parquet

    table = parquet.read_table(path)
    rows = table.to_pylist()
    row = random.choice(rows)
    name = random.choice([n for n in table.column_names if isinstance(row[n], str)] or table.column_names[:1])
    if isinstance(row[name], str):
        row[name] = mutate(random, row[name].encode(), [WORDS[0]]).decode("utf-8", "replace")
    parquet.write_table(pa.Table.from_pylist(rows, table.schema), path)


def read_rows(path: Path) -> None:
    from deepmmsearch.data.load_report import LoadReport
    from deepmmsearch.data.reader import read_questions, read_trajectories

    if not (path.parent / "pictures").exists():
        write_picture(path.parent / "pictures" / "a.png")
    for question in read_questions(path, report=LoadReport()):
        assert isinstance(question, Question)
    if path.suffix in (".json", ".parquet"):
        with suppress(UserError):  # it holds questions
            assert all(isinstance(each, Trajectory) for each in read_trajectories(path, report=LoadReport()))


# Recipes


def write_recipes(folder: Path) -> None:
    for path in sorted((ROOT / "recipes").rglob("*.yaml")):
        if other_program(read_yaml(path.read_text(encoding="utf-8"))) is None:
            shutil.copy(path, folder / f"{path.parent.name}-{path.name}")


def read_recipe(path: Path) -> None:
    from deepmmsearch.compose.recipe import load_recipe
    from deepmmsearch.compose.recipe_kinds import KINDS

    names = {
        "eval": "eval",
        "data": "data",
        "tools": "tools",
        "atlas": "pretrain",
        "serve": "serve",
        "verl": "episodes",
    }
    wanted = names.get(path.name.partition("-")[0], "grpo" if "grpo" in path.name else "sft")
    wanted = next((kind for kind in ("sft", "grpo") if path.name.startswith(f"atlas-{kind}")), wanted)
    load_recipe(path, next(kind.model for kind in KINDS if kind.name == wanted))


# Cassettes


class _Tool:
    async def search(self, wanted: object, k: int) -> list[Hit]:
        if wanted == "down":
            raise ToolError("It is down.")
        return [Hit("Veld", "https://veld.test/", image=picture(0, (20, 20)))]


def write_cassette(folder: Path) -> None:
    from deepmmsearch.tools.cassette import Cassette
    from deepmmsearch.tools.recorded import RecordedImageSearch, RecordedTextSearch
    from deepmmsearch.tools.recorder import Recorder

    async def ask(recorder: Recorder) -> None:
        text = RecordedTextSearch(_Tool(), recorder, {"provider": "fake"})
        await text.search("a", 5)
        await RecordedImageSearch(_Tool(), recorder).search(picture(), 5)
        with pytest.raises(ToolError):
            await text.search("down", 5)

    path = folder / "c.sqlite"
    recorder = Recorder(Cassette(path))
    asyncio.run(ask(recorder))
    recorder.close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    for beside in folder.glob("c.sqlite-*"):
        beside.unlink()


def damage_values(random: Random, path: Path) -> None:
    """A sound database with a value of another kind, or a damaged text."""
    with closing(sqlite3.connect(path)) as database, database:
        table = random.choice(("entries", "failures", "images"))
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        name = random.choice(columns)
        old = database.execute(f"SELECT {name} FROM {table}").fetchone()[0]
        text = mutate(random, str(old).encode(), [WORDS[0]]).decode("utf-8", "replace")
        values = (
            text,
            text,
            text,
            text.encode(),
            random.choice((0, -1, 1e300, 9e99, 2**62)),
            mutate(random, b"x", [b"y"]),
        )
        with suppress(sqlite3.Error):  # a column that may not be so
            database.execute(f"UPDATE {table} SET {name} = ?", (random.choice(values),))


def read_cassette(path: Path) -> None:
    from deepmmsearch.tools.archive import count, export, holdings
    from deepmmsearch.tools.cassette import Cassette
    from deepmmsearch.tools.recorded import RecordedImageSearch, RecordedTextSearch
    from deepmmsearch.tools.recorder import Recorder, ReplayMiss

    with Cassette(path, read_only=True) as cassette:
        count(cassette), holdings(cassette)
        export(cassette, path.with_name("out.jsonl"))

    async def replay(recorder: Recorder) -> None:
        text = RecordedTextSearch(None, recorder, {"provider": "fake"})
        searches = [text.search("a", 5), text.search("down", 5)]
        searches.append(RecordedImageSearch(None, recorder, {"provider": "_Tool"}).search(picture(), 5))
        for said in await asyncio.gather(*searches, return_exceptions=True):
            if isinstance(said, BaseException) and not isinstance(said, ReplayMiss | ToolError | UserError):
                raise said

    recorder = Recorder(Cassette(path, read_only=True), "replay")
    try:
        asyncio.run(replay(recorder))
    finally:
        recorder.close()


def write_export(folder: Path) -> None:
    from deepmmsearch.tools.archive import export
    from deepmmsearch.tools.cassette import Cassette

    write_cassette(folder)
    with Cassette(folder / "c.sqlite", read_only=True) as cassette:
        export(cassette, folder / "c.jsonl")
        export(cassette, folder / "c.jsonl.gz")
    for beside in folder.glob("c.sqlite*"):
        beside.unlink()


def read_export(path: Path) -> None:
    from deepmmsearch.tools.archive import merge
    from deepmmsearch.tools.cassette import Cassette

    with Cassette(path.with_name("into.sqlite")) as cassette:
        merge(cassette, path)


# Folders


def write_store(folder: Path) -> None:
    store = TrajectoryStore(folder)
    store.append(played(), "a")
    store.append(played(), "b", {"note": "x"})


def damage_json(random: Random, here: Any) -> None:
    """One value of an object or list, however deep, becomes another one."""
    keys = list(here) if isinstance(here, dict) else list(range(len(here)))
    key = random.choice(keys)
    if isinstance(here[key], dict | list) and here[key] and random.random() < 0.8:
        damage_json(random, here[key])
    else:
        numbers = (-1, 0, 1, 7, 2**31, 2**63 - 1, 1e300, 10**300)
        here[key] = random.choice(
            (None, True, *numbers, "", "x", "\ud800", "../x", "9" * 64, [], {}, [[]], {"kind": "x"})
        )


def damage_line(random: Random, folder: Path) -> None:
    path = folder / "trajectories.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    damage_json(random, random.choice(lines))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def damage_settings(random: Random, folder: Path) -> None:
    path = random.choice(sorted(folder.rglob("*.json")))
    row = json.loads(path.read_text())
    damage_json(random, row)
    path.write_text(json.dumps(row))


def read_store(folder: Path) -> None:
    store = TrajectoryStore(folder)
    assert len(store) >= 0
    for name in store.ids():
        with suppress(UserError):  # one of several
            store.get(name)
    for trajectory in store:
        assert isinstance(trajectory, Trajectory)


def write_index(folder: Path) -> None:
    pytest.importorskip("tantivy")
    pytest.importorskip("cv2")
    from deepmmsearch.engine import Index

    world = folder / "world"
    world.mkdir()
    (world / "veld.html").write_text(PAGE)
    write_texts(world)
    write_picture(world / "veld.png")
    Index.build(world, folder / "index")


def read_index(folder: Path) -> None:
    from deepmmsearch.engine import Index

    index = Index.open(folder / "index")
    index.stats(), index.digest()
    for hit in index.search_text("capital of Veld", 3):
        index.read(hit.url)
    index.search_image(picture(), 2)
    index.add([folder / "world" / "notes.txt"])


def write_world(folder: Path) -> None:
    write_documents(folder)
    write_pictures(folder)


def read_world(folder: Path) -> None:
    """A folder that is indexed: a file costs itself."""
    pytest.importorskip("tantivy")
    pytest.importorskip("cv2")
    from deepmmsearch.engine import Index

    index = Index.build(folder, folder.parent / f"index of {folder.name} {time.monotonic_ns()}")
    shutil.rmtree(index.store.folder)
    assert index.report.added + sum(map(len, index.report.skipped.values())) == len(list(folder.iterdir()))
    assert index.report.added > 5


def write_checkpoint(folder: Path) -> None:
    pytest.importorskip("safetensors")
    import numpy as np
    from safetensors.numpy import save_file

    card = {
        "prompt": "deepmmsearch-r1",
        "grounding": "qwen2.5-vl",
        "max_new_tokens": 9,
        "min_pixels": 1,
        "max_pixels": 9,
    }
    write_json(folder / "agent.json", card)
    write_json(folder / "config.json", {"model_type": "qwen2_5_vl", "text_config": {"hidden_size": 8}})
    size = {"shortest_edge": 3136, "longest_edge": 12845056}
    write_json(folder / "preprocessor_config.json", {"merge_size": 2, "patch_size": 14, "size": size})
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "target_modules": "q|v", "r": 4})
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": "adapter_model.safetensors"}})
    save_file({"a": np.zeros((2, 2), np.float32)}, folder / "adapter_model.safetensors")


def read_checkpoint(folder: Path) -> None:
    pytest.importorskip("transformers")
    from deepmmsearch.policies.agent_card import processor_bounds, read_card
    from deepmmsearch.policies.local.adapter import check_adapter
    from deepmmsearch.policies.local.checkpoint import _check_weights, refuse_missing

    problems = []
    for read in (read_card, processor_bounds, check_adapter, _check_weights, lambda f: refuse_missing(str(f))):
        try:
            read(folder)
        except UserError as error:
            problems.append(error)
    if problems:
        raise problems[0]


READERS = {
    "HTML": Reader(write_pages, read_page, (Unreadable,), 60),
    "Markdown and text": Reader(write_texts, read_page, (Unreadable,), 100),
    "PDF": Reader(write_pdfs, read_page, (Unreadable,), 60),
    "documents of offices": Reader(write_office, read_page, (Unreadable,), 60),
    "collections": Reader(write_collections, read_collection, (Unreadable,), 60),
    "pages in their process": Reader(write_documents, read_page_apart, (Unreadable,), 20),
    "pictures": Reader(write_pictures, read_picture, OURS, 100),
    "JSON Lines": Reader(write_json_lines, read_rows, OURS, 60),
    "JSON": Reader(write_jsons, read_rows, OURS, 40),
    "CSV": Reader(write_delimited, read_rows, OURS, 60),
    "Parquet": Reader(write_parquet, read_rows, OURS, 40, damage=damage_cells),
    "recipes": Reader(write_recipes, read_recipe, OURS, 30),
    "cassette": Reader(write_cassette, read_cassette, OURS, 25, damage=damage_values),
    "exported cassette": Reader(write_export, read_export, OURS, 20),
    "store": Reader(write_store, read_store, OURS, 30, whole=True, damage=damage_line),
    "index": Reader(write_index, read_index, OURS, 8, whole=True, damage=damage_settings),
    "indexed folder": Reader(write_world, read_world, OURS, 1, whole=True),
    "checkpoint": Reader(write_checkpoint, read_checkpoint, OURS, 60, whole=True, damage=damage_settings),
}


@pytest.mark.parametrize("name", READERS)
def test_only_a_readers_own_errors_come_out(name: str, tmp_path: Path) -> None:
    fuzz(READERS[name], tmp_path / "fuzz", READERS[name].cases)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", READERS)
def test_for_a_minute_only_a_readers_own_errors_come_out(name: str, tmp_path: Path) -> None:
    seconds, seed = float(os.environ.get("FUZZ_SECONDS", "60")), int(os.environ.get("FUZZ_SEED", time.time()))
    found = fuzz(READERS[name], tmp_path / "fuzz", seconds=seconds, seed=seed)
    print(f"\n{name}: {found['read']} damaged files read, {found['refused']} refused (seed {seed})")


def test_damage_is_the_same_each_time_and_of_many_kinds() -> None:
    contents = [PAGE.encode(), MARKDOWN.encode()]
    spoiled = [mutate(Random(f"0 {n}"), contents[0], contents) for n in range(300)]
    assert spoiled == [mutate(Random(f"0 {n}"), contents[0], contents) for n in range(300)]
    assert len(set(spoiled)) > 250 and any(len(s) > 20_000 for s in spoiled) and any(len(s) < 300 for s in spoiled)
    assert any(nest * 50 in s for s in spoiled for nest in NESTS)
    assert any(b"\xed\xa0\x80" in s for s in spoiled) and any(b"9" * 400 in s for s in spoiled)


def test_what_is_no_error_of_the_readers_is_told_with_the_file(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        if b"capital" not in path.read_bytes():
            raise LookupError("no capital")

    with pytest.raises(AssertionError, match=r"LookupError: no capital .number .* of seed 0: .*veld\.html"):
        fuzz(Reader(lambda folder: (folder / "veld.html").write_text(PAGE), read, OURS, 500), tmp_path / "a", 500)
    (kept,) = (tmp_path / "a" / "case").iterdir()
    assert b"capital" not in kept.read_bytes()
