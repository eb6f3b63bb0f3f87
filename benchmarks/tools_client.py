"""What the guarded client costs against plain httpx, on a server of this machine; goal: at most 1.3 times.

    python benchmarks/tools_client.py            # about a minute
    python benchmarks/tools_client.py --quick

Both keep their connections, both read and parse the whole reply; batches of the two take turns. Processor time of the
client's process is compared (what others do on the machine does not count), the clock's is shown beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx2

from deepmmsearch.environment import environment
from deepmmsearch.tools.http import GuardedClient

GOAL = 1.3
HITS = [
    {"title": f"Title {n}", "url": f"https://veld.test/{n}", "content": "What is said of it. " * 15} for n in range(5)
]
JSON = json.dumps({"results": HITS}).encode()
PAGE = (
    "<html><body>" + "".join(f"<p>Sentence {n} of a long page.</p>" for n in range(5_000)) + "</body></html>"
).encode()
REPLIES = {
    "/json": ("application/json", "", JSON),
    "/page": ("text/html; charset=utf-8", "Content-Encoding: gzip\r\n", gzip.compress(PAGE)),
}


@dataclass(frozen=True)
class Row:
    """Microseconds a call, the medians of all batches; `ratio`: of processor times, the median over pairs."""

    case: str
    plain: float
    guarded: float
    plain_clock: float
    guarded_clock: float
    ratio: float


CASES = {
    "JSON, one after the other": ("/json", 1),
    "JSON, 32 at once": ("/json", 32),
    "page of 180 kB, gzip": ("/page", 1),
    "JSON, a new connection each": ("/json", 0),
}


async def serve() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
                kind, encoding, body = REPLIES[path]
                head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{encoding}Content-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def compare(calls: int = 256, rounds: int = 7) -> list[Row]:
    """Rows for all cases, of `rounds` batches of `calls` each."""
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        return [asyncio.run(measure(case, port, calls, rounds)) for case in CASES]
    finally:
        server.kill()
        server.wait()


async def measure(case: str, port: int, calls: int, rounds: int) -> Row:
    path, together = CASES[case]
    url = f"http://127.0.0.1:{port}{path}"
    headers = {"Connection": "close"} if together == 0 else {}
    allowed = [f"127.0.0.1:{port}"]
    async with httpx2.AsyncClient(trust_env=False) as plain, GuardedClient(allow_private=allowed) as guarded:

        async def with_plain() -> None:
            reply = await plain.get(url, headers=headers)
            reply.raise_for_status()
            assert reply.json() if path == "/json" else reply.text

        async def with_guard() -> None:
            reply = await guarded.get(url, headers=headers)
            assert reply.json() if path == "/json" else reply.text()

        await batch(with_plain, 64, together)
        await batch(with_guard, 64, together)
        pairs = []
        for number in range(rounds):
            both = (with_plain, with_guard) if number % 2 else (with_guard, with_plain)
            times = {call: await batch(call, calls, together) for call in both}
            pairs.append((times[with_plain], times[with_guard]))
    middle = statistics.median
    return Row(
        case,
        middle(p.processor for p, _ in pairs),
        middle(g.processor for _, g in pairs),
        middle(p.clock for p, _ in pairs),
        middle(g.clock for _, g in pairs),
        middle(g.processor / p.processor for p, g in pairs),
    )


@dataclass(frozen=True)
class Times:
    processor: float
    clock: float


async def batch(call: Callable[[], Awaitable[None]], calls: int, together: int) -> Times:
    """Microseconds a call."""
    processor, clock = time.process_time(), time.perf_counter()
    if together > 1:
        for _ in range(calls // together):
            await asyncio.gather(*(call() for _ in range(together)))
        calls -= calls % together
    else:
        for _ in range(calls):
            await call()
    return Times((time.process_time() - processor) / calls * 1e6, (time.perf_counter() - clock) / calls * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
        return
    rows = compare(64, 5) if given.quick else compare()
    print("| case | httpx, us | guarded, us | ratio | httpx, us by the clock | guarded |\n|---|---|---|---|---|---|")
    for r in rows:
        clock = f"{r.plain_clock:.0f} | {r.guarded_clock:.0f}"
        print(f"| {r.case} | {r.plain:.0f} | {r.guarded:.0f} | {r.ratio:.2f} | {clock} |")
    worst = max(r.ratio for r in rows)
    print(f"worst ratio {worst:.2f}, goal {GOAL:.1f}: {'met' if worst <= GOAL else 'missed'}")


if __name__ == "__main__":
    main()
