"""The same documents in each back end that is installed: nDCG@10, how long building takes, and a question.

LanceDB in a folder; Milvus as milvus-lite, a server of its protocol on this machine, which does not measure Milvus.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepmmsearch.engine import Index
from deepmmsearch.index_place import Place
from engine_text import Table, collections, finding, invented, ndcg, write_pages


@contextmanager
def places(work: Path) -> Iterator[dict[str, Place]]:
    """Where an index may be made, by the name of its back end."""
    found: dict[str, Place] = {"local": work / "local"}
    if importlib.util.find_spec("lancedb"):
        found["LanceDB"] = f"lancedb://{work / 'lance'}"
    if not importlib.util.find_spec("milvus_lite"):
        yield found
        return
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    server, database, port = start_server_in_thread(str(work / "milvus"))
    try:
        yield {**found, "milvus-lite": f"milvus://127.0.0.1:{port}/engine"}
    finally:
        server.stop(0)
        database.close()


def backends(folders: list[Path], table: Table, quick: bool) -> None:
    """Prints for each set and back end: nDCG@10, documents a second while building, median ms of a question."""
    table.head("Back ends: nDCG@10, documents/s of building, ms of a question (p50)")
    for chosen in [invented()] if quick else [chosen for folder in folders for chosen in collections(folder)]:
        with tempfile.TemporaryDirectory() as folder, places(Path(folder)) as known:
            write_pages(chosen, Path(folder, "pages"))
            for name, place in known.items():
                start = time.perf_counter()
                index = Index.build(Path(folder, "pages"), place)
                rate = len(chosen.documents) / (time.perf_counter() - start)
                find, scores, times = finding(chosen, index), [], []
                for query, relevant in chosen.questions[: 30 if quick else None]:
                    start = time.perf_counter()
                    found = find(query)
                    times.append(time.perf_counter() - start)
                    scores.append(ndcg(found, relevant))
                median = 1000 * statistics.median(times)
                print(
                    f"  {chosen.name:14} {name:12} {statistics.mean(scores):.3f} {rate:8.0f} {median:8.1f}", flush=True
                )
