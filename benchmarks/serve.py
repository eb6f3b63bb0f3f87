"""What the server itself takes from those who ask: many at once, many who only watch, some who do not read.

A server of its own process, with a policy that takes one second a turn and finds what it searches for at once, is asked
over HTTP: to the first step the ideal is 1 s, to the answer 3 s; with a photograph each, besides what these cores need
for decoding and writing all of them once. What is beyond that is the server's.

    python benchmarks/serve.py
    python benchmarks/serve.py --quick

Needs: pip install 'deepmmsearch[serve]' psutil
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.compose.serving import ServedModel, ServedModelSettings, ServeRecipe
from deepmmsearch.png import png_pieces
from deepmmsearch.prompts import load_prompt
from deepmmsearch.serve.house import House
from deepmmsearch.serve.room import on_text
from deepmmsearch.serve.running import listen, run
from deepmmsearch.types import Completion, Hit, Trajectory

TURNS = (
    "<reason>I look at it.</reason><img_search><img></img_search>",
    "<reason>I read about what it shows.</reason><text_search>capital of Veld</text_search>",
    "<reason>A hit says it.</reason><answer>Orm</answer>",
)
SECONDS, PIECES = 1.0, 20
SLOW = "slow"
GOAL_FIRST, GOAL_MB = 1.2, 1.0


class Paced:
    """Says TURNS, each in SECONDS and in PIECES; a question that begins with SLOW takes ten minutes."""

    async def act(self, trajectory: Trajectory) -> Completion:
        text = TURNS[len(trajectory.turns)]
        step = 600.0 if trajectory.question.text.startswith(SLOW) else SECONDS / PIECES
        size = -(-len(text) // PIECES)
        for start in range(0, PIECES * size, size):
            on_text(text[start : start + size])
            await asyncio.sleep(step)
        return Completion(text, prompt_tokens=100, tokens=10)


class Shelf:
    """Five hits, at once."""

    async def search(self, query: Any, k: int) -> list[Hit]:
        thumbnail = Image.new("RGB", (160, 120), "green") if not isinstance(query, str) else None
        text = "Veld is a country. Its capital is Orm. " + "It has hills, lakes and a long coast. " * 10
        return [Hit(f"Veld {n}", f"https://veld.example/{n}", text, 1.0 - n / 10, thumbnail) for n in range(5)][:k]


def serve(folder: Path, users: int) -> None:
    tools = Toolbox(Shelf(), Shelf())
    workflow = AgentWorkflow(Paced(), load_prompt("deepmmsearch-r1"), lambda _: tools, label="paced")
    recipe = ServeRecipe(
        models={"m": ServedModelSettings()}, store=folder, concurrency=users + 1, waiting=users, log="off"
    )
    bound = listen("127.0.0.1", 0)
    made = House(recipe, {"m": ServedModel("m", workflow, True)})
    run(made, bound, lambda: print(f"http://127.0.0.1:{bound.getsockname()[1]}", flush=True))


@dataclass(frozen=True)
class Served:
    """A server's process and address."""

    process: psutil.Process
    host: str
    port: int

    def megabytes(self) -> float:
        """Of the server and the processes that decode its pictures."""
        return sum(float(p.memory_info().rss) for p in (self.process, *self.process.children(recursive=True))) / 1e6

    def seconds(self) -> float:
        """Of processor time, of the same."""
        times = [p.cpu_times() for p in (self.process, *self.process.children(recursive=True))]
        return sum(float(t.user + t.system) for t in times)


@contextmanager
def server(users: int) -> Iterator[Served]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--serve", folder, "--users", str(users)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            address = urlsplit(process.stdout.readline().strip())
            assert address.hostname is not None and address.port is not None, "the server did not start"
            yield Served(psutil.Process(process.pid), address.hostname, address.port)
        finally:
            process.terminate()
            process.wait()


async def opened(
    at: Served, path: str, body: Any = None, limit: int = 2**16
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request that was sent; the reply is not read yet."""
    reader, writer = await asyncio.open_connection(at.host, at.port, limit=limit)
    content = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    head = f"{method} {path} HTTP/1.1\r\nHost: {at.host}:{at.port}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content)
    await writer.drain()
    return reader, writer


def question(picture: str | None, text: str = "Which capital?") -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": picture}}] if picture else []
    content = [*parts, {"type": "text", "text": text}]
    return {"model": "m", "stream": True, "messages": [{"role": "user", "content": content}]}


def photograph(seed: int) -> str:
    """As a telephone sends it, made small by the page: a JPEG of 1024 x 768, another one for each seed."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 255, (24, 32, 3), dtype=np.uint8)).resize((1024, 768))
    noisy = np.asarray(coarse, dtype=np.int16) + random.integers(-12, 12, (768, 1024, 1))
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def floor(pictures: Sequence[str]) -> float:
    """Seconds that these cores need for decoding each of the pictures once and writing it down once, nothing else."""
    contents = [base64.b64decode(each.partition(",")[2]) for each in pictures]

    def once(content: bytes) -> int:
        with Image.open(io.BytesIO(content)) as opened:
            return sum(map(len, png_pieces(opened.convert("RGB"), packed=False)))

    began = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        assert all(threads.map(once, contents))
    return time.perf_counter() - began


async def ask(at: Served, body: dict[str, Any]) -> tuple[float, float]:
    """Seconds to the first step and to the answer."""
    began, first, answer = time.perf_counter(), 0.0, 0.0
    reader, writer = await opened(at, "/v1/chat/completions", body)
    try:
        while line := await reader.readline():
            if not first and b'"reasoning_content": "' in line:
                first = time.perf_counter() - began
            if b"Orm [" in line:
                answer = time.perf_counter() - began
        assert first and answer, "a question was not answered"
        return first, answer
    finally:
        writer.close()


async def at_once(at: Served, bodies: Sequence[dict[str, Any]], unread: int = 0) -> dict[str, float]:
    """All at once, beside `unread` who ask and then read nothing."""
    users = len(bodies)
    silent = [await opened(at, "/v1/chat/completions", bodies[0], limit=1) for _ in range(unread)]
    before, worked, peak = at.megabytes(), at.seconds(), 0.0
    asking = asyncio.gather(*(ask(at, body) for body in bodies))
    while not asking.done():
        await asyncio.wait([asking], timeout=0.5)
        peak = max(peak, at.megabytes())
    firsts, answers = zip(*asking.result(), strict=True)
    for _, writer in silent:
        writer.close()
    return {
        "first p50": percentile(firsts, 50),
        "first p95": percentile(firsts, 95),
        "answer p50": percentile(answers, 50),
        "answer p95": percentile(answers, 95),
        "MB a stream": (peak - before) / users,
        "processor ms an answer": (at.seconds() - worked) / users * 1000,
    }


async def watched(at: Served, watchers: int, body: dict[str, Any]) -> dict[str, float]:
    """One slow run that `watchers` look at while somebody else asks."""
    reader, writer = await opened(at, "/api/questions", {"text": SLOW})
    id = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])["id"]
    writer.close()
    before = at.megabytes()
    looking = []
    for _ in range(watchers):
        looking.append(await opened(at, f"/api/questions/{id}/events"))
    for each, _ in looking:
        await each.readuntil(b"writing")
    after, worked, began = at.megabytes(), at.seconds(), time.perf_counter()
    await asyncio.sleep(5)
    idle = (at.seconds() - worked) / (time.perf_counter() - began)
    first, answer = await ask(at, body)
    for _, each in looking:
        each.close()
    return {
        "MB a stream": (after - before) / watchers,
        "share of a core": idle,
        "first": first,
        "answer": answer,
    }


def percentile(values: Sequence[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


async def measure(at: Served, users: int, watchers: int, unread: int) -> bool:
    """Prints a line for each; tells whether the goals are met."""
    photographs = [photograph(n) for n in range(users)]
    plain, pictured = question(None), list(map(question, photographs))
    # the processes that decode are started by the first pictures that come, and by those that are packed in the end
    await asyncio.gather(*(ask(at, question(photograph(users + n))) for n in range(4)))
    await asyncio.sleep(2)
    rows = {
        f"{users} at once, without a picture": await at_once(at, [plain] * users),
        f"the same beside {unread} who read nothing": await at_once(at, [plain] * users, unread),
        f"{users} at once, each with a photograph": await at_once(at, pictured),
        f"{watchers} watch one run, and one asks": await watched(at, watchers, plain),
    }
    needed = floor(photographs)
    print(f"{users} photographs decoded and written once, nothing else: {needed:.2f} s")
    # half of them are through in half of that time
    ideal = dict.fromkeys(rows, SECONDS) | {f"{users} at once, each with a photograph": SECONDS + needed * 0.95}
    for name, row in rows.items():
        if "first p95" in row:
            row["first p95 against the ideal"] = row["first p95"] / ideal[name]
    for name, row in rows.items():
        print(f"{name}: " + ", ".join(f"{what} {value:.2f}" for what, value in row.items()))
    late = [name for name, row in rows.items() if row.get("first p95 against the ideal", 0.0) > GOAL_FIRST]
    large = [name for name, row in rows.items() if row["MB a stream"] > GOAL_MB]
    for name in late:
        print(f"later than {GOAL_FIRST:g} of the ideal to the first step: {name}")
    for name in large:
        print(f"more than {GOAL_MB:g} MB a stream: {name}")
    return not late and not large


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--users", type=int, default=64, help="who ask at once (default: 64)")
    parser.add_argument("--watchers", type=int, default=1000, help="who watch one run (default: 1000)")
    parser.add_argument("--unread", type=int, default=16, help="who ask and read nothing (default: 16)")
    parser.add_argument("--quick", action="store_true", help="a quarter of each, to see that it works")
    parser.add_argument("--serve", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, options.users * 2)
    part = 4 if options.quick else 1
    with server(options.users) as at:
        met = asyncio.run(measure(at, options.users // part, options.watchers // part, options.unread // part))
    print("The goals are met." if met else "The goals are not met.")


if __name__ == "__main__":
    main()
