"""What an index costs as it grows: the same figures at 10,000 passages, ten times as many, and so on, with peers.

The pages are made of the sentences of real texts (those of --data, else invented ones), drawn anew for each page, with
names by Zipf's law between them, so that the vocabulary grows with the index as it does in real collections. Everything
is measured in processes of their own; seconds of building are of processor time, of all processes together.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

PER_PAGE = 10
FIRST = 10_000
QUERIES = 60
ADDED = 24
MERGED = 8
"""Segments that tantivy makes one of."""
BM25S_MOST = 200_000
"""Passages: beyond that its building takes more memory than this benchmark should."""

Page = tuple[str, list[str]]


def sentences(data: Path | None) -> list[str]:
    found: list[str] = []
    for path in sorted((data / "ir").glob("*.docs.jsonl.gz")) if data is not None else ():
        if path.name.startswith(("cranfield", "scifact", "xquad-en")):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                for line in file:
                    found += re.split(r"(?<=[.!?])\s+", json.loads(line)["text"])
    if not found:
        rng = random.Random(2)
        words = ["".join(rng.choice("bdfgklmnrstv") + rng.choice("aeiou") for _ in range(3)) for _ in range(8_000)]
        weights = [1 / (rank + 10) for rank in range(len(words))]
        found = [" ".join(rng.choices(words, weights, k=18)).capitalize() + "." for _ in range(20_000)]
    return [sentence for sentence in found if 40 < len(sentence) < 300]


def pages(count: int, known: Sequence[str]) -> Iterator[Page]:
    """Pages of PER_PAGE paragraphs of about 700 characters, each a passage; the first ones are always the same."""
    rng = random.Random(1)
    for number in range(count // PER_PAGE):
        paragraphs = []
        for _ in range(PER_PAGE):
            text = ""
            while len(text) < 650:
                words = rng.choice(known).split()
                words[rng.randrange(len(words))] = name(rng)
                text += " ".join(words) + " "
            paragraphs.append(text.strip()[:880])
        yield f"{name(rng)} {name(rng)} {number}".title(), paragraphs


def name(rng: random.Random) -> str:
    """By Zipf's law, without an end: the more are drawn, the more are new."""
    rank = int(1 / (1 - rng.random()) ** 1.2)
    letters = ""
    while rank:
        rank, letter = divmod(rank, 60)
        letters += "bdfgklmnrstv"[letter // 5] + "aeiou"[letter % 5]
    return letters or "ba"


def queries(known: Sequence[str], words: int) -> list[str]:
    rng = random.Random(words)
    made = []
    while len(made) < QUERIES:
        drawn = " ".join(rng.choice(known) for _ in range(1 + words // 12)).split()
        if len(drawn) >= words:
            made.append(" ".join(rng.sample(drawn, words)))
    return made


# Each in a process of its own


def seconds() -> float:
    """Of processor time, with that of the processes that have ended."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def resident() -> float:
    """MB of this process, without what it only maps (Linux; 0 elsewhere)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


def clock(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def quickest(work: Callable[[], Any]) -> float:
    """Seconds; of three runs the best, because this is rarely the only work of a machine, or of one that is long."""
    times = [clock(work)]
    while len(times) < 3 and sum(times) < 0.3:
        times.append(clock(work))
    return min(times)


def asked(search: Callable[[str], Any], known: Sequence[str]) -> dict[str, float]:
    """ms."""
    figures = {}
    for words in (6, 30):
        times = sorted(quickest(lambda q=query: search(q)) for query in queries(known, words))
        figures[f"p50_{words}"] = times[len(times) // 2] * 1e3
        figures[f"p95_{words}"] = times[int(len(times) * 0.95)] * 1e3
    return figures


def ours_built(work: Path, count: int, known: Sequence[str]) -> dict[str, float]:
    from deepmmsearch.engine import Index

    for number, (title, paragraphs) in enumerate(pages(count, known)):
        folder = work / "pages" / f"{number // 1_000}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.md").write_text(f"# {title}\n\n" + "\n\n".join(paragraphs), encoding="utf-8")
    before = seconds()
    index = Index.build(work / "pages", work / "index")
    took = seconds() - before
    stats = index.stats()
    again = seconds()
    Index.build(work / "pages", work / "index")
    return {
        "passages": stats["passages"],
        "build": took,
        "again": seconds() - again,
        "files": stats["files"],
        "bytes": stats["bytes"],
    }


def ours_used(work: Path, known: Sequence[str]) -> dict[str, float]:
    from deepmmsearch.engine import Index

    figures = {"open": clock(lambda: Index.open(work / "index"))}
    index = Index.open(work / "index")
    before = resident()
    figures |= asked(index.search_text, known)
    figures["memory"] = resident() - before
    new = written(work / "more", ADDED, known[::-1])
    added = [clock(partial(index.add, [path])) for path in new]
    removed = [clock(partial(index.remove, [path])) for path in new[:9]]
    # the first one compiles what was not
    commands = [clock(partial(added_by_command, work, path)) for path in new[:9]][1:]
    tenth = sorted((work / "pages").rglob("*.md"))[::10]
    before = seconds()
    index.remove(tenth)
    return figures | {
        "add": statistics.median(added),
        # some of them merge segments
        "slowest": max(added),
        "command": statistics.median(commands),
        "delete": statistics.median(removed),
        "deleting": (seconds() - before) / len(tenth),
    }


def written(folder: Path, count: int, known: Sequence[str]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for number, (title, paragraphs) in enumerate(pages(count * PER_PAGE, known)):
        (folder / f"{number}.md").write_text(f"# {title}\n\n" + "\n\n".join(paragraphs), encoding="utf-8")
    return [folder / f"{number}.md" for number in range(count)]


def added_by_command(work: Path, path: Path) -> None:
    """As a user adds it, the start of the process included."""
    command = [sys.executable, "-m", "deepmmsearch", "index", "add", str(path), "--index", str(work / "index")]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, capture_output=True, check=True, env=kept)


def ours_merged(work: Path, count: int, known: Sequence[str]) -> dict[str, float]:
    """What it costs to make one segment of eight, each of which fits in memory."""
    from deepmmsearch.engine import Index, writer
    from deepmmsearch.engine.page_terms import NewPassage

    writer.HEAP = 48_000_000 + 4_000 * count // MERGED
    (work / "none").mkdir()
    index = Index.prepare(work / "none", work / "merged")
    with index.store.writing() as opened:
        for part in range(MERGED):
            for number, (title, paragraphs) in enumerate(pages(count // MERGED, known)):
                opened.add_page(f"{part}/{number}", "", title, [NewPassage(text) for text in paragraphs])
            opened.commit()
        before = seconds()
    return {"merging": (seconds() - before) / count}


def sqlite_figures(work: Path, count: int, known: Sequence[str]) -> dict[str, float]:
    import sqlite3

    before = seconds()
    database = sqlite3.connect(work / "fts.db")
    database.execute("create virtual table p using fts5(title, body, tokenize='porter unicode61')")
    rows = ((title, text) for title, paragraphs in pages(count, known) for text in paragraphs)
    insert = "insert into p values (?, ?)"
    database.executemany(insert, rows)
    database.commit()
    took = seconds() - before
    find = "select title, body from p where p match ? and rank match 'bm25(3, 1)' order by rank limit 5"

    def search(query: str) -> None:
        database.execute(find, (" OR ".join(f'"{word}"' for word in re.findall(r"\w+", query)),)).fetchall()

    def add() -> None:
        database.executemany(insert, [("New", text) for text in known[:PER_PAGE]])
        database.commit()

    held = resident()
    figures = asked(search, known)
    figures["memory"] = resident() - held
    added = [clock(add) for _ in range(ADDED)]
    figures |= {"add": statistics.median(added), "slowest": max(added)}
    database.close()
    reopened = clock(lambda: sqlite3.connect(work / "fts.db").execute(find, ("word",)).fetchall())
    return {"build": took, "open": reopened, "bytes": (work / "fts.db").stat().st_size} | figures


def tantivy_figures(work: Path, count: int, known: Sequence[str]) -> dict[str, float]:
    import tantivy

    builder = tantivy.SchemaBuilder()
    for field in ("title", "body"):
        builder.add_text_field(field, stored=True, tokenizer_name="en_stem", index_option="freq")
    schema = builder.build()
    before = seconds()
    index = tantivy.Index(schema, path=str(work))

    def write(made: Iterator[Page]) -> None:
        writer = index.writer(48_000_000, 1)
        for title, paragraphs in made:
            for text in paragraphs:
                writer.add_document(tantivy.Document(title=title, body=text))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()

    write(pages(count, known))
    took = seconds() - before
    figures = {"open": clock(lambda: tantivy.Index.open(str(work)).searcher())}
    searcher = index.searcher()

    def search(query: str) -> None:
        words = " ".join(re.findall(r"\w+", query.lower()))
        found = searcher.search(index.parse_query(words, ["title", "body"]), 5, count=False).hits
        for _, address in found:
            searcher.doc(address)

    held = resident()
    figures |= asked(search, known)
    figures["memory"] = resident() - held
    added = [clock(lambda: write(pages(PER_PAGE, known))) for _ in range(ADDED)]
    size = sum(path.stat().st_size for path in work.iterdir())
    return {"build": took, "add": statistics.median(added), "slowest": max(added), "bytes": size} | figures


def bm25s_figures(work: Path, count: int, known: Sequence[str]) -> dict[str, float]:
    import bm25s

    before, held = seconds(), resident()
    texts = [f"{title}. {text}" for title, paragraphs in pages(count, known) for text in paragraphs]
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    took = seconds() - before

    def search(query: str) -> None:
        tokens = bm25s.tokenize(query, stopwords="en", show_progress=False)
        retriever.retrieve(tokens, k=5, show_progress=False, n_threads=1)

    figures = asked(search, known)
    figures["memory"] = resident() - held
    retriever.save(str(work))
    size = sum(path.stat().st_size for path in work.iterdir())
    return {"build": took, "open": clock(lambda: bm25s.BM25.load(str(work))), "bytes": size} | figures


PEERS = {"tantivy": tantivy_figures, "sqlite fts5": sqlite_figures, "bm25s": bm25s_figures}


def measured(what: str, work: Path, count: int, data: Path | None) -> dict[str, float] | None:
    """None where it failed, for which the reason is printed."""
    command = [sys.executable, __file__, what, str(work), str(count), str(data or "")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    if result.returncode:
        print(f"  {what} failed: {(result.stderr.strip().splitlines() or ['no message'])[-1][:150]}")
        return None
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures


# a figure, its head, its decimals
SHOWN = (
    ("build", "passages/s a core", 0),
    ("open", "open ms", 1),
    ("p50_6", "p50 6 words", 2),
    ("p95_6", "p95", 2),
    ("p50_30", "p50 30 words", 2),
    ("p95_30", "p95", 2),
    ("memory", "MB", 0),
    ("bytes", "bytes each", 0),
    ("add", "add s", 3),
    ("slowest", "slowest", 3),
    ("command", "command s", 3),
    ("delete", "delete s", 3),
    ("deleting", "ms a file", 2),
    ("merging", "merge us", 1),
    ("again", "s again", 2),
)


def shown(name: str, count: int, figures: dict[str, float]) -> str:
    values = dict(figures)
    values["build"] = count / figures["build"]
    values["bytes"] = figures["bytes"] / count
    for key, times in (("open", 1e3), ("deleting", 1e3), ("merging", 1e6)):
        if key in figures:
            values[key] = figures[key] * times
    cells = [f"{values[key]:,.{places}f}" if key in values else "" for key, _, places in SHOWN]
    return f"  {name:13} {count:>10,} " + " ".join(f"{cell:>9}" for cell in cells)


def growth(work: Path, data: Path | None, most: int, first: int, row: Callable[..., None]) -> None:
    """`row` as of the table of figures with goals: name, value, goal, whether it is the most."""
    print(f"  {'':13} {'passages':>10} " + " ".join(f"{head[:9]:>9}" for _, head, _ in SHOWN))
    steps: list[tuple[int, dict[str, float]]] = []
    count = first
    while count <= most:
        for name in ("ours", *PEERS):
            place = work / f"growth-{name.split()[0]}"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            if name == "bm25s" and count > BM25S_MOST:
                print(f"  {name:13} {count:>10,} not run")
                continue
            figures = measured(name, place, count, data)
            if figures is not None and name == "ours":
                for more in ("ours, used", "ours, merged"):
                    found = measured(more, place, count, data) if figures is not None else None
                    figures = figures | found if figures is not None and found is not None else None
            if figures is not None:
                print(shown(name, count, figures), flush=True)
                if name == "ours":
                    steps.append((count, figures))
            shutil.rmtree(place, ignore_errors=True)
        count *= 10
    for count, figures in steps:
        row(f"{count:,} passages: adding one file, s", figures["add"], 0.3, True)
        row(f"{count:,} passages: the command that adds it, s", figures["command"], 0.3, True)
    for (small, before), (large, after) in pairwise(steps):
        times = large / small
        for key, words in (("build", "building"), ("again", "building again"), ("bytes", "disk"), ("p50_6", "a query")):
            row(f"{large:,} against {small:,}: {words}, each", after[key] / before[key] / times, 1.3, True)
        for key, words in (("add", "adding a file"), ("deleting", "deleting a file"), ("merging", "merging a passage")):
            row(f"{large:,} against {small:,}: {words}", after[key] / before[key], 1.3, True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what")
    parser.add_argument("work", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("data", nargs="?", default="")
    options = parser.parse_args()
    known = sentences(Path(options.data) if options.data else None)
    if options.what == "ours":
        figures = ours_built(options.work, options.count, known)
    elif options.what == "ours, used":
        figures = ours_used(options.work, known)
    elif options.what == "ours, merged":
        figures = ours_merged(options.work, options.count, known)
    else:
        figures = PEERS[options.what](options.work, options.count, known)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
