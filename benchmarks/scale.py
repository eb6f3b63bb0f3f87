"""How many episodes an hour, for how much money, and what holds them up: a simulation of large runs.

The scheduler, the loop, the toolbox, the lanes with their pace, fail-over, prices and budgets are those of real runs
(`run_all`; `Player` for training). The policy, the tools and the summariser are stood in by draws from distributions,
under a clock that skips what is only waited for, so that 100,000 episodes side by side take seconds or minutes and give
the same figures every time.

    python benchmarks/scale.py [--quick]            # 64 to 100,000 episodes at once (--quick: to 1,000)
    python benchmarks/scale.py --check              # the same 64 episodes in real time: is the prediction right?
    python benchmarks/scale.py --measured FOLDER    # with what a run's trajectories or cassettes tell

Where the figures come from: benchmarks/scale_defaults.json (`--defaults FILE` for others), and `Site` below; most of
them are assumed, and every table says so.

Needs: pip install 'deepmmsearch[train]'
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

from PIL.Image import Image, new

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.metering import Budget, Ledger, Purse, calling
from deepmmsearch.agent.runner import AgentWorkflow, run_all
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.prompts import load_prompt
from deepmmsearch.rewards import Score
from deepmmsearch.tools.failover import FailOver, Lane, Pace
from deepmmsearch.tools.http import Unreachable
from deepmmsearch.train.rollouts import Player, numbered
from deepmmsearch.types import Cited, Completion, Hit, Limits, Question, Trajectory
from scale_clock import Shared, SimulatedClock
from scale_load import DEFAULTS, Draws, Load, Tool, load_defaults, measured

SAID = {
    "image": "<reason>look</reason><img_search><img></img_search>",
    "text": "<reason>read</reason><text_search>{}</text_search>",
    "answer": "<reason>know</reason><answer>red</answer>",
}
CONCURRENT = (64, 1_000, 10_000, 100_000)
PAGES = 5
HOUR = 3600.0
UNBOUND = Budget()
BUSY = 0.8  # from this share of its capacity on, a part is what holds the others up
CHECKED, SHRUNK, TOLERANCE = 64, 0.02, 0.15


@dataclass(frozen=True)
class Engine:
    """One GPU that writes: tokens a second that it reads, that one sequence is written with when alone, and that all of
    its sequences together are written with."""

    read: float
    alone: float
    together: float

    async def write(self, gpus: Shared, read: float, written: float) -> None:
        await gpus.serve(read / self.read)
        await gpus.serve(written / self.alone, self.alone / self.together)


@dataclass(frozen=True)
class Site:
    """What there is: GPUs that sample (and, in training, update), GPUs for the summariser (None: it takes no time),
    and how the searches may be asked.

    Engines: assumed, not measured. A 7B model in bf16 has 15 GB, which an H100 (3.35 TB/s) reads in 4.5 ms: 130 tokens
    a second at 60 % of that; together as far as caches of 3,000 tokens allow, about 4,000; it reads 25,000 tokens a
    second at 35 % of 989 TFLOP/s. A 32B summariser: 4.6 times slower. `mfu`: 0.35 of the peak in updates.
    """

    gpus: float = 8
    summariser_gpus: float | None = 8
    text_rate: float | None = 50.0
    image_rate: float | None = 50.0
    connections: int = 256
    policy: Engine = Engine(25_000, 130, 4_000)
    summariser: Engine = Engine(5_400, 28, 900)
    parameters: float = 7.6e9
    peak: float = 989e12
    mfu: float = 0.35
    gpu_hour: float = 2.5

    @property
    def hourly(self) -> float:
        """US dollars."""
        return self.gpu_hour * (self.gpus + (self.summariser_gpus or 0))


class Provider:
    """A search engine that takes as long as was drawn for what it is asked, and fails as often."""

    def __init__(self, name: str, tool: Tool, seed: int) -> None:
        self.name, self.price, self._tool, self._seed = name, tool.price, tool, seed
        self.asked, self.seconds = 0, 0.0
        self.hits = [Hit(f"page {n}", f"https://{n}.example", "a fact", matched=True) for n in range(PAGES)]

    async def search(self, wanted: str, k: int) -> list[Hit]:
        # by what is asked and how often it was, not by when: the same whoever comes first
        chance = random.Random(f"{self._seed} {self.name} {wanted}")
        seconds, failing = self._tool.seconds.draw(chance), chance.random() < self._tool.failing
        self.asked, self.seconds = self.asked + 1, self.seconds + seconds
        await asyncio.sleep(seconds)
        if failing:
            raise Unreachable(f"{self.name} did not answer.")
        return self.hits[:k]


class Remembered:
    """As the recorder in mode `cache`: equal searches reach the provider once, also at the same time, and a failure is
    kept for nobody else. `pages`: the reader, where the pages of the hits are read, all at once; it is no call of its
    own, as five for each search would be most of what the simulation computes."""

    pays_itself = True

    def __init__(self, tool: FailOver, pages: Tool | None, chance: random.Random) -> None:
        self.name, self._tool, self._pages, self._chance, self.saved = tool.name, tool, pages, chance, 0
        self._known: dict[str, asyncio.Future[list[Hit]]] = {}

    async def search(self, wanted: str | Image, k: int) -> list[Hit]:
        key = wanted if isinstance(wanted, str) else str(wanted.info["question"])
        while (known := self._known.get(key)) is not None:
            await asyncio.wait([known])
            if not known.cancelled() and known.exception() is None:
                self.saved += 1
                return known.result()
            if self._known.get(key) is known:
                del self._known[key]
        found = self._known[key] = asyncio.ensure_future(self._found(key, k))
        return await found

    async def _found(self, key: str, k: int) -> list[Hit]:
        hits = await self._tool.search(key, k)
        if self._pages is not None:
            await asyncio.sleep(max(self._pages.seconds.draw(self._chance) for _ in hits))
            kept = [hit for hit in hits if self._chance.random() >= self._pages.failing]
            return kept or hits[:1]
        return hits


class Condenser:
    """The summariser: one language model for all episodes."""

    name = "summarizer"

    def __init__(self, site: Site, gpus: Shared | None, tokens: Mapping[str, Draws], chance: random.Random) -> None:
        self._engine, self._gpus, self._tokens, self._chance = site.summariser, gpus, tokens, chance

    async def condense(self, question: str, query: str, passages: Sequence[str], about: str) -> list[Cited]:
        if self._gpus is not None:
            each = self._tokens["page_tokens"].draw if about == "text" else lambda _: 60.0  # a title and a snippet
            read = sum(each(self._chance) for _ in passages)
            await self._engine.write(self._gpus, read, self._tokens["summary_tokens"].draw(self._chance))
        return [Cited("a fact", (1,))]


class Scripted:
    """A policy that does what was drawn for the question and the rollout, in the time that its engine takes. `spans`:
    seconds from the first turn's request to the answer; `answered` is called at each. `tokens` of all episodes: read
    (each once), written, and billed (an endpoint counts at each turn what came before)."""

    def __init__(self, load: Load, site: Site, gpus: Shared, seed: int) -> None:
        self._load, self._engine, self._gpus, self._seed = load, site.policy, gpus, seed
        self._began: dict[str, float] = {}
        self._plays: dict[str, tuple[tuple[str, ...], random.Random]] = {}
        self._context: dict[str, float] = {}
        self.spans: list[float] = []
        self.answered: Callable[[], None] = lambda: None
        self.tokens: Counter[str] = Counter()

    async def act(self, trajectory: Trajectory) -> Completion:
        turn, question = len(trajectory.turns), trajectory.question
        name = f"{question.id}.{question.metadata.get('rollout', 0)}"
        if turn == 0:
            chance = random.Random(f"{self._seed} {name}")
            self._plays[name] = chance.choice(self._load.shapes), chance
            self._began[name] = asyncio.get_running_loop().time()
        shape, chance = self._plays[name]
        does = shape[min(turn, len(shape) - 1)]
        tokens = self._load.tokens
        read = tokens["observation_tokens" if turn else "prompt_tokens"].draw(chance)
        written = tokens["written_tokens"].draw(chance)
        context = self._context.get(name, 0.0) + read
        self._context[name] = context + written
        self.tokens.update(read=round(read), written=round(written), billed=round(context))
        await self._engine.write(self._gpus, read, written)
        if does == "answer":
            self.spans.append(asyncio.get_running_loop().time() - self._began.pop(name))
            del self._plays[name], self._context[name]
            self.answered()
        whose = question.id if chance.random() < self._load.repeated else name
        return Completion(SAID[does].format(f"{whose} query {turn}"))


@dataclass
class Outcome:
    """What a simulated run came to. `used`: the share of its capacity that each part was used with, between the first
    and the last quarter of the episodes (in training: over all rounds); `steady`: episodes an hour in that time.
    `asked`: searches that reached a provider, `saved`: those that the cache answered."""

    concurrent: int
    episodes: int
    seconds: float
    p50: float
    p95: float
    used: dict[str, float]
    asked: dict[str, int]
    saved: int
    steady: float
    failed: int
    money: float
    hours_cost: float
    ended: str = ""
    waits: str = "waiting: more at once would help"
    computed: float = 0.0
    tokens: Counter[str] = field(default_factory=Counter)

    @property
    def per_thousand(self) -> float:
        """US dollars for a thousand episodes, tools and GPUs."""
        return 1000 * (self.money + self.hours_cost) / max(1, self.episodes)

    @property
    def bottleneck(self) -> str:
        if self.ended:
            return "money"
        name, share = max(self.used.items(), key=lambda item: item[1], default=("", 0.0))
        return name if share >= BUSY else self.waits


class World:
    """One simulated run: the toolbox that all of its episodes share, the policy, and the books."""

    def __init__(self, load: Load, site: Site, budget: Budget, seed: int) -> None:
        loop = asyncio.get_running_loop()
        self.load, self.site = load, site
        self.gpus = Shared(site.gpus)
        self.summariser = Shared(site.summariser_gpus) if site.summariser_gpus else None
        self.policy = Scripted(load, site, self.gpus, seed)
        self.providers, self.searches = {}, {}
        for name, rate in (("text_search", site.text_rate), ("image_search", site.image_rate)):
            provider = self.providers[name] = Provider(name, load.tools[name], seed)
            pace = Pace(per_second=rate, concurrency=site.connections)
            lane = Lane(name, provider, name, pace, clock=loop.time)  # type: ignore[arg-type]
            pages = load.tools["reader"] if name == "text_search" else None
            self.searches[name] = Remembered(FailOver([lane]), pages, random.Random(seed))
        self.ledger = Ledger(run=Purse(budget, "run"))
        self.tools = Toolbox(
            **self.searches,  # type: ignore[arg-type]
            condenser=Condenser(site, self.summariser, load.tokens, random.Random(seed + 1)),
            text_hits=PAGES,
            ledger=self.ledger,
        )
        self._ends: list[tuple[float, dict[str, float]]] = []
        self.policy.answered = self._note
        self.judged = random.Random(seed + 2)
        self.failed = 0

    async def reward(self, trajectory: Trajectory) -> Score:
        judge = self.load.tools["judge"]
        with calling("judge", "judge", judge.price):
            await asyncio.sleep(judge.seconds.draw(self.judged))
        self.ledger.run.correct(0, judge.price)
        return Score(1.0, {})

    def used(self) -> dict[str, float]:
        """What every part has done, in seconds of all that there is of it."""
        used = {"sampler": self.gpus.used / self.gpus.capacity}
        if self.summariser is not None:
            used["summariser"] = self.summariser.used / self.summariser.capacity
        for name, rate in (("text_search", self.site.text_rate), ("image_search", self.site.image_rate)):
            provider, shown = self.providers[name], name.replace("_", " ")
            if rate is not None:
                used[f"tools: rate of {shown}"] = provider.asked / rate
            used[f"tools: connections of {shown}"] = provider.seconds / self.site.connections
        return used

    def _note(self) -> None:
        self._ends.append((asyncio.get_running_loop().time(), self.used()))

    def outcome(self, concurrent: int, seconds: float, ended: str = "") -> Outcome:
        spans, count = sorted(self.policy.spans) or [0.0], len(self._ends)
        first, last = (self._ends[count // 4], self._ends[3 * count // 4]) if count else ((0.0, {}), (0.0, {}))
        passed = last[0] - first[0]
        return Outcome(
            concurrent, count, seconds, spans[len(spans) // 2], spans[int(0.95 * len(spans))],
            {name: (last[1][name] - first[1][name]) / passed for name in last[1]} if passed else {},
            {name: p.asked for name, p in self.providers.items()}, sum(s.saved for s in self.searches.values()),
            HOUR * (3 * count // 4 - count // 4) / passed if passed else 0.0, self.failed, self.ledger.run.money,
            self.site.hourly * seconds / HOUR, ended, tokens=self.policy.tokens,
        )  # fmt: skip


def questions(count: int) -> list[Question]:
    made = []
    for number in range(count):
        picture = new("RGB", (8, 8))
        picture.info["question"] = f"q{number}"
        made.append(Question(f"q{number}", "which flag ?", (picture,)))
    return made


async def play_all(world: World, concurrent: int, asked: Iterable[Question]) -> Outcome:
    """As evaluation and the making of data play: as many in play as there may be, until all are finished."""
    clock, ended = asyncio.get_running_loop().time, ""
    began = clock()
    agent = AgentWorkflow(world.policy, load_prompt("deepmmsearch-r1"), lambda _: world.tools)
    try:
        async for played in run_all(asked, agent, concurrent):
            world.failed += played.error is not None
    except Failed as error:
        ended = str(error)
    return world.outcome(concurrent, clock() - began, ended)


async def play_rounds(world: World, prompts: int, group: int, rounds: int) -> Outcome:
    """As training plays: a round of rollouts on all GPUs, then one update on them, and again."""
    clock = asyncio.get_running_loop().time
    began, size, updating = clock(), prompts * group, 0.0
    player = Player(lambda _: world.tools, load_prompt("deepmmsearch-r1"), world.reward, Limits(), size)
    for number in range(rounds):
        before = Counter(world.policy.tokens)
        asked = [numbered(q, number, m) for q in questions(prompts) for m in range(group)]
        asked = [replace(q, id=f"{number}.{q.id}") for q in asked]
        for question in asked:
            question.images[0].info["question"] = question.id
        played = await player.play(asked, world.policy)
        world.failed += sum(rollout.failed for rollout in played)
        tokens = sum((world.policy.tokens - before)[kind] for kind in ("read", "written"))
        # forward and backward, and the reference's forward
        seconds = (6 + 2) * world.site.parameters * tokens / (world.site.gpus * world.site.peak * world.site.mfu)
        updating += seconds
        await asyncio.sleep(seconds)
    seconds = clock() - began
    used = {name: done / seconds for name, done in world.used().items()} | {"update": updating / seconds}
    return replace(world.outcome(size, seconds), used=used, waits="waiting for the slowest of each round")


Play = Callable[[World], Any]


def simulate(load: Load, site: Site, play: Play, budget: Budget = UNBOUND, seed: int = 0) -> Outcome:
    """`play` in a new world, under a simulated clock."""

    async def everything() -> Outcome:
        outcome: Outcome = await play(World(load, site, budget, seed))
        return outcome

    began = time.perf_counter()
    gc.disable()  # with 100,000 episodes in play it takes most of the time and finds nothing
    try:
        with asyncio.Runner(loop_factory=SimulatedClock) as runner:
            outcome = runner.run(everything())
    finally:
        gc.enable()
    outcome.computed = time.perf_counter() - began
    return outcome


def evaluation(load: Load, site: Site, concurrent: int, count: int, budget: Budget = UNBOUND, seed: int = 0) -> Outcome:
    return simulate(load, site, lambda world: play_all(world, concurrent, questions(count)), budget, seed)


def training(load: Load, site: Site, prompts: int, group: int, rounds: int, seed: int = 0) -> Outcome:
    return simulate(load, site, lambda world: play_rounds(world, prompts, group, rounds), UNBOUND, seed)


def shrunk(load: Load, factor: float) -> Load:
    """All calls that much shorter, and all tokens that much fewer."""
    tools = {
        name: replace(tool, seconds=Draws(tuple(factor * value for value in tool.seconds.values)))
        for name, tool in load.tools.items()
    }
    tokens = {name: Draws(tuple(factor * v for v in draws.values)) for name, draws in load.tokens.items()}
    return replace(load, tools=tools, tokens=tokens)


def check(load: Load, site: Site, seed: int) -> dict[str, Any]:
    """The same episodes under the clock of the day, each wait as long as it says, and as predicted."""
    small = shrunk(load, SHRUNK)

    def everything(world: World) -> Any:
        return play_all(world, CHECKED, questions(4 * CHECKED))

    async def really() -> Outcome:
        outcome: Outcome = await everything(World(small, site, UNBOUND, seed))
        return outcome

    asyncio.run(really())  # warm
    rows = {"predicted": simulate(small, site, everything, UNBOUND, seed), "measured": asyncio.run(really())}
    found: dict[str, Any] = {name: asdict(row) for name, row in rows.items()}
    print(f"{4 * CHECKED} episodes, {CHECKED} at once, all waits times {SHRUNK:g}")
    for figure in ("seconds", "p50", "p95"):
        predicted, real = (getattr(row, figure) for row in rows.values())
        off = found[f"{figure} off"] = real / predicted - 1
        print(f"{figure:>8}: predicted {predicted:.3f} s, measured {real:.3f} s ({off:+.1%})")
    found["agrees"] = all(abs(found[f"{f} off"]) <= TOLERANCE for f in ("seconds", "p50", "p95"))
    print(f"within {TOLERANCE:.0%}: {'yes' if found['agrees'] else 'NO'}")
    return found


def show(rows: Sequence[Outcome]) -> None:
    print("| at once | episodes | p50, s | p95, s | episodes/h | US$ a thousand | holds up | most used | computed, s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        most = sorted(row.used.items(), key=lambda item: -item[1])[:3]
        used = ", ".join(f"{name} {share:.0%}" for name, share in most)
        print(
            f"| {row.concurrent:,} | {row.episodes:,} | {row.p50:.1f} | {row.p95:.1f} | {row.steady:,.0f} | "
            f"{row.per_thousand:.2f} | {row.bottleneck} | {used} | {row.computed:.1f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 and 1,000 at once only")
    parser.add_argument("--check", action="store_true", help="predicted against measured at the small end")
    parser.add_argument("--measured", type=Path, metavar="FOLDER", help="a folder of trajectories or cassettes")
    parser.add_argument("--defaults", type=Path, default=DEFAULTS, help="the figures for what was not measured")
    parser.add_argument("--gpus", type=float, default=8, help="GPUs that sample")
    parser.add_argument("--summarisers", type=float, default=8, help="GPUs that summarise (0: it takes no time)")
    parser.add_argument("--rate", type=float, default=Site.text_rate, help="searches a second of each provider")
    parser.add_argument("--money", type=float, help="US dollars for searches in each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    try:
        load = load_defaults(given.defaults)
        load = measured(given.measured, load) if given.measured else load
    except UserError as error:
        raise SystemExit(f"Error: {error}") from None
    site = Site(given.gpus, given.summarisers or None, given.rate, given.rate)
    for name, source in load.sources.items():
        print(f"- {name}: {source}")
    print()
    result: Any
    if given.check:
        result = check(load, site, given.seed)
    else:
        sizes = CONCURRENT[:2] if given.quick else CONCURRENT
        budget = Budget(money=given.money)
        rows = [evaluation(load, site, n, min(4 * n, max(n, 20_000)), budget, given.seed) for n in sizes]
        show(rows)
        result = [asdict(row) for row in rows]
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if given.check and not result["agrees"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
