"""Faults and load: whole episodes against a search server that fails, or takes its time, as much as it is told to; and
hostile files and processes, counted (`hostile.py`).

    python benchmarks/reliability.py faults            # seven faults at 0, 10, 30 and 50 % of all requests
    python benchmarks/reliability.py load              # 512 episodes x 8 searches, p99 latency 10 s
    python benchmarks/reliability.py load --quick      # the same, with a tenth of the latency
    python benchmarks/reliability.py files             # damaged files through every reader, files of others, disks
    python benchmarks/reliability.py processes         # what children find, what ends them, what is installed

Everything between policy and socket is real: the loop, the recorder, fail-over, the SearXNG provider, the guarded
client. The server is a process of its own, so that what is measured here is the agent alone. Needs: pip install
'deepmmsearch[tools]'
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from deepmmsearch.agent import Toolbox, play
from deepmmsearch.agent.metering import Budget, Ledger, tally
from deepmmsearch.agent.runner import Timed
from deepmmsearch.environment import environment
from deepmmsearch.tools.cassette import Cassette
from deepmmsearch.tools.failover import FailOver, Lane, Pace
from deepmmsearch.tools.http import GuardedClient
from deepmmsearch.tools.providers.searxng import SearXNG
from deepmmsearch.tools.recorded import RecordedTextSearch
from deepmmsearch.tools.recorder import Recorder
from deepmmsearch.types import Completion, Limits, Prompt, Question, Trajectory

FAULTS = ("429", "500", "timeout", "empty", "html", "truncated", "reset")
RATES = (0.0, 0.1, 0.3, 0.5)
# as many requests at once as a provider may be asked to bear
CONNECTIONS = 128
PROMPT = Prompt("p", "deepmmsearch-r1", "s", "{question}")


@dataclass
class Server:
    """Speaks SearXNG's JSON. `rate`: share of requests that go wrong, in the way `fault` (or each in turn, for "all").
    `latency`: seconds for each request. `asked`: how often each query arrived."""

    fault: str = "all"
    rate: float = 0.0
    latency: Callable[[random.Random], float] = lambda chance: 0.0
    stall: float = 5.0
    seed: int = 0
    asked: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its address, while it serves."""
        self._chance = random.Random(self.seed)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2048)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                query = parse_qs(urlsplit(head.split(b" ", 2)[1].decode()).query).get("q", [""])[0]
                self.asked[query] += 1
                await asyncio.sleep(self.latency(self._chance))
                if self._chance.random() < self.rate:
                    fault = FAULTS[self.asked.total() % len(FAULTS)] if self.fault == "all" else self.fault
                    if not await self._fail(fault, writer):
                        return
                else:
                    self._reply(writer, 200, _results(query), "application/json")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side hung up, or the server is closing
        finally:
            writer.close()

    async def _fail(self, fault: str, writer: asyncio.StreamWriter) -> bool:
        """Answers badly; False when the connection is over."""
        match fault:
            case "429":
                self._reply(writer, 429, b'{"error": "slow down"}', "application/json")
            case "500":
                self._reply(writer, 500, b"oops", "text/plain")
            case "empty":
                self._reply(writer, 200, b"", "application/json")
            case "html":
                self._reply(writer, 200, b"<html><body><h1>Please log in</h1></body></html>", "text/html")
            case "truncated":
                self._reply(writer, 200, _results("half")[:60], "application/json")
            case "reset":
                writer.transport.abort()
                return False
            case "timeout":
                await asyncio.sleep(self.stall)
                return False
            case _:
                raise ValueError(f"no such fault: {fault}")
        return True

    def _reply(self, writer: asyncio.StreamWriter, status: int, body: bytes, kind: str) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)


def _results(query: str) -> bytes:
    rows = [
        {"title": f"{query} {n}", "url": f"https://veld.test/{n}", "content": f"About {query}. " * 20, "score": 5.0 - n}
        for n in range(5)
    ]
    return json.dumps({"results": rows}).encode()


@dataclass(frozen=True)
class Searcher:
    """A policy that searches `turns` times and then answers; episodes share queries: `distinct` there are in all."""

    turns: int
    distinct: int

    async def act(self, trajectory: Trajectory) -> Completion:
        turn = len(trajectory.turns)
        if turn == self.turns:
            return Completion("<reason>r</reason><answer>Oru</answer>")
        number = (int(trajectory.question.id) * self.turns + turn) % self.distinct
        return Completion(f"<reason>r</reason><text_search>query {number}</text_search>")


def toolbox(
    address: str, recorder: Recorder | None, timeout: float, hurry: float, calls: int, ledger: Ledger
) -> Toolbox:
    """`timeout`: seconds for a request; `hurry`: divides all pauses; `calls`: at once."""
    allowed = [urlsplit(address).netloc]
    # on a busy machine connecting takes long, which is no fault of the other side
    client = GuardedClient(allow_private=allowed, timeout=timeout, connect_timeout=timeout, connections=calls)
    pace = Pace(concurrency=calls, first_rest=1 / hurry, longest_rest=60 / hurry)
    lane = Lane("searxng", SearXNG(client, address), "text_search", pace)
    search = FailOver([lane], pause=0.5 / hurry, patience=5 / hurry)
    return Toolbox(
        text_search=search if recorder is None else RecordedTextSearch(search, recorder),
        ledger=ledger,
    )


@dataclass(frozen=True)
class Outcome:
    """`said`: failed searches whose error the policy could read; `lost`: those whose error it could not."""

    fault: str
    rate: float
    episodes: int
    answered: int
    searches: int
    said: int
    lost: int
    calls: int
    succeeded: float
    over_budget: int
    seconds: float
    examples: tuple[str, ...] = ()


async def faults(
    fault: str, rate: float, episodes: int = 48, turns: int = 6, timeout: float = 2.0, hurry: float = 20.0
) -> Outcome:
    """Episodes at once against a server that fails in that way, each with a budget of two calls more than turns."""
    budget = turns + 2
    server = Server(fault, rate, stall=5 * timeout, seed=hash_of(fault, rate))
    async with server.running() as address:
        tools = toolbox(address, None, timeout, hurry, 16, Ledger(question=Budget(calls=budget)))
        starts = [Trajectory(Question(str(n), "Which?"), PROMPT) for n in range(episodes)]
        policy = Searcher(turns, episodes * turns)
        began = time.perf_counter()
        played = await asyncio.gather(*(play(s, Timed(policy), tools, Limits(calls=turns + 2)) for s in starts))
        seconds = time.perf_counter() - began
    seen = [t.observation for p in played for t in p.turns if t.observation is not None]
    failed = [o for o in seen if o.error is not None]
    total = tally(call for p in played for call in p.calls)
    return Outcome(
        fault,
        rate,
        episodes,
        sum(p.stop == "answer" for p in played),
        len(seen),
        sum(o.error in o.text for o in failed if o.error),
        # a search without hits and without an error would be a failure that nobody was told of
        sum(not o.hits and o.error is None for o in seen),
        total.calls,
        total.succeeded,
        sum(len(p.calls) > budget for p in played),
        seconds,
        tuple(sorted({o.error for o in failed if o.error}, key=len)[:2]),
    )


def hash_of(fault: str, rate: float) -> int:
    return sum(map(ord, fault)) * 1000 + round(rate * 100)


@dataclass(frozen=True)
class Load:
    """`upstream`: requests that reached the server, `distinct`: queries, `twice`: queries that arrived more than once,
    `again`: requests that failed and were made again, with success. `lag`: the longest time, in seconds, for which the
    event loop did nothing else. `grown`: megabytes by which the process grew."""

    episodes: int
    answered: int
    searches: int
    distinct: int
    upstream: int
    twice: int
    failed: int
    again: int
    seconds: float
    slowest: float
    lag: float
    grown: float
    peak: float
    reasons: tuple[tuple[str, int], ...] = ()


async def load(
    address: str,
    asked: Callable[[], Counter[str]],
    episodes: int,
    turns: int,
    distinct: int,
    hurry: float,
    folder: Path,
) -> Load:
    recorder = Recorder(Cassette(folder / "cache.sqlite"))
    # the machine does not get faster with the latency, so the patience stays
    tools = toolbox(address, recorder, 60.0, hurry, min(episodes, CONNECTIONS), Ledger())
    starts = [Trajectory(Question(str(n), "Which?"), PROMPT) for n in range(episodes)]
    before, began, lags = memory(), time.perf_counter(), [0.0]
    ticking = asyncio.create_task(_tick(lags))
    policy = Searcher(turns, distinct)
    played = await asyncio.gather(*(play(s, Timed(policy), tools, Limits(calls=turns + 2)) for s in starts))
    seconds = time.perf_counter() - began
    ticking.cancel()
    recorder.close()
    arrived = asked()
    seen = [t.observation for p in played for t in p.turns if t.observation is not None]
    return Load(
        episodes,
        sum(p.stop == "answer" for p in played),
        len(seen),
        distinct,
        arrived.total(),
        sum(n > 1 for n in arrived.values()),
        sum(o.error is not None for o in seen),
        sum(call.error is not None for o in seen if o.error is None for call in o.calls),
        seconds,
        max(p.seconds for p in played),
        max(lags),
        memory() - before,
        memory(),
        tuple(Counter(o.error for o in seen if o.error).most_common(3)),
    )


async def _tick(lags: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.01)
        lags.append(time.perf_counter() - began - 0.01)


def memory() -> float:
    """The most this process has held, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def slow(hurry: float, median: float = 0.8, p99: float = 10.0) -> Callable[[random.Random], float]:
    """Latencies with a long tail: log-normal, in seconds, divided by `hurry`."""
    sigma = math.log(p99 / median) / 2.3263
    return lambda chance: min(chance.lognormvariate(math.log(median), sigma), 6 * p99) / hurry


async def _serve_alone(hurry: float) -> None:
    """The server as a process of its own: says its address, and at the end of input what was asked."""
    server = Server(latency=slow(hurry))
    async with server.running() as address:
        print(address, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(json.dumps(server.asked), flush=True)


def _run_load(quick: bool) -> None:
    hurry = 10.0 if quick else 1.0
    command = [sys.executable, __file__, "serve", "--hurry", str(hurry)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdin is not None and process.stdout is not None
    address = process.stdout.readline().strip()

    def asked() -> Counter[str]:
        out, _ = process.communicate()
        return Counter(json.loads(out))

    with tempfile.TemporaryDirectory() as folder:
        o = asyncio.run(load(address, asked, 512, 8, 2048, hurry, Path(folder)))
    print(f"{o.episodes} episodes at once x {o.searches // o.episodes} searches, {o.distinct} distinct queries")
    print(f"latency: median {0.8 / hurry:g} s, p99 {10 / hurry:g} s")
    print(f"ended with an answer:     {o.answered} of {o.episodes}")
    repeated = f"{o.twice} queries more than once, {o.again} made again after a failure"
    print(f"requests to the server:   {o.upstream} ({repeated})")
    print(f"searches that failed:     {o.failed}")
    print(f"seconds in all:           {o.seconds:.1f} (slowest episode {o.slowest:.1f})")
    print(f"event loop held up:       {1000 * o.lag:.0f} ms at most")
    print(f"memory:                   grew by {o.grown:.0f} MB to {o.peak:.0f} MB")
    for reason, times in o.reasons:
        print(f"   {times} x {reason}")


async def _run_faults(quick: bool) -> None:
    print("| fault | rate | episodes answered | searches | failed, and said so | not said | over budget | calls | "
          "tool success | s |\n|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    examples: dict[str, tuple[str, ...]] = {}
    for fault in ("all",) if quick else (*FAULTS, "all"):
        for rate in RATES:
            # long enough for a busy machine; where nothing comes at all, nobody wants to wait so long
            o = await faults(fault, rate, timeout=4.0 if fault in ("timeout", "all") else 30.0)
            examples[fault] = o.examples or examples.get(fault, ())
            print(
                f"| {fault} | {rate:.0%} | {o.answered} of {o.episodes} | {o.searches} | {o.said} | {o.lost} | "
                f"{o.over_budget} | {o.calls} | {o.succeeded:.1%} | {o.seconds:.1f} |",
                flush=True,
            )
    for fault, said in examples.items():
        print(f"{fault}: {said[0] if said else '-'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("what", choices=("faults", "load", "files", "processes", "serve"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--hurry", type=float, default=1.0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.what == "serve":
        asyncio.run(_serve_alone(given.hurry))
    elif given.what in ("files", "processes"):
        import hostile

        sys.exit(not (hostile.run_files(given.quick) if given.what == "files" else hostile.run_processes()))
    elif given.what == "load":
        _run_load(given.quick)
    else:
        asyncio.run(_run_faults(given.quick))


if __name__ == "__main__":
    main()
