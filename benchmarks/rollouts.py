"""Rollouts with slow tools: TRL's own tool loop, a loop with a barrier after every turn, and ours.

The same small model, the same number of sampled tokens and the same pre-drawn tool latencies (lognormal, median 0.3 s,
95 % below 1.5 s) in every loop. Every turn samples a fixed number of tokens from the real model; what the turn then
does is scripted, so that every trajectory makes three tool calls and answers, and the observation is real work: text to
read, and a thumbnail after the first call.

    python benchmarks/rollouts.py [--quick] [--out FILE.json]
    python benchmarks/rollouts.py --kept [--quick]    # when does it pay to keep the cache between turns?

"ideal" is what no loop can beat: the larger of the compute alone (ours with instant tools) and the waiting of the one
trajectory that waits longest. The loop with a barrier is that of the public MMSearch-R1: all rows generate, then a pool
of 8 threads runs the tools of all rows, then all rows generate again; it is given our generation.

On a machine that others use, too, seconds on the wall say little. `--shared` computes on one core and counts the
processor time of the loop together with the waits, as they would pass if nobody else were there: in our loop an event
loop with a clock of its own skips the waits that nothing is computed in; the other two never compute and wait at the
same time, so that their waits are added.

`--vllm` adds a vLLM server on the same cores, which samples for our loop and for the worker of TRL's asynchronous GRPO,
which reads no pictures; `make bench-vllm` installs it.

Needs: pip install 'deepmmsearch[train]'
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import math
import os
import random
import selectors
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast
from transformers.processing_utils import ProcessorMixin

from deepmmsearch.agent import Toolbox, play
from deepmmsearch.agent.dialect import parse_action
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.policies.local import LocalPolicy, SlotPolicy
from deepmmsearch.policies.local.checkpoint import load_checkpoint
from deepmmsearch.policies.local.queue import BatchRow
from deepmmsearch.policies.local.slots import SlotCounts
from deepmmsearch.prompts import load_prompt
from deepmmsearch.types import Completion, Hit, Limits, Policy, Question, Trajectory, Turn

MEDIAN, P95 = 0.3, 1.5
LOOK = "<reason>look</reason><img_search><img></img_search>"
READ = "<reason>read</reason><text_search>a query</text_search>"
ANSWER = "<reason>know</reason><answer>red</answer>"
CALLS = 3
FACT = "the flag of the ship is red and blue , and the ship was built in the harbour of the town . "
THREADS = 8
# Trajectories, turns, sampled tokens per turn, words per observation.
KEPT = ((16, 3, 24, 20), (16, 3, 24, 300), (16, 3, 128, 300), (8, 10, 24, 20), (8, 10, 24, 300))
KEPT_QUICK = ((8, 3, 24, 20), (8, 3, 24, 300), (4, 10, 24, 300))


@dataclass(frozen=True)
class Load:
    """`waits[i][k]`: seconds that call k of trajectory i takes. `words`: length of each observation."""

    prompts: int
    group: int
    tokens: int
    waits: tuple[tuple[float, ...], ...]
    words: int = 20

    @property
    def calls(self) -> int:
        return len(self.waits[0])

    @classmethod
    def draw(cls, prompts: int, group: int, tokens: int, calls: int = CALLS, seed: int = 11) -> Load:
        chance = random.Random(seed)
        spread = math.log(P95 / MEDIAN) / 1.6449
        waits = tuple(
            tuple(math.exp(chance.gauss(math.log(MEDIAN), spread)) for _ in range(calls))
            for _ in range(prompts * group)
        )
        return cls(prompts, group, tokens, waits)

    @property
    def instant(self) -> Load:
        return replace(self, waits=tuple((0.0,) * self.calls for _ in self.waits))

    @property
    def longest(self) -> float:
        return max(map(sum, self.waits))

    def questions(self) -> list[Question]:
        return [
            Question(f"q{n}", "which country does this flag belong to ?", (picture(n, 112),), metadata={"rollout": r})
            for n in range(self.prompts)
            for r in range(self.group)
        ]


def picture(seed: int, side: int) -> Image.Image:
    return Image.frombytes("RGB", (side, side), random.Random(seed).randbytes(3 * side * side))


class Slow:
    """Both searches of one trajectory: each call takes the next of its waits."""

    def __init__(self, number: int, waits: Sequence[float], words: int) -> None:
        self.number, self.words, self._waits = number, words, iter(waits)

    async def search(self, what: object, k: int) -> list[Hit]:
        await asyncio.sleep(next(self._waits))
        thumbnail = picture(1000 + self.number, 56) if isinstance(what, Image.Image) else None
        return [Hit("a ship", "https://ship.example", fact(self.words), image=thumbnail)]


def fact(words: int) -> str:
    return " ".join((FACT.split() * (1 + words // 20))[:words])


def toolboxes(load: Load) -> list[Toolbox]:
    slow = [Slow(n, waits, load.words) for n, waits in enumerate(load.waits)]
    room = 10 * load.words
    return [
        Toolbox(text_search=s, image_search=s, thumbnails=True, max_line=room, max_text=room, min_passage=room)
        for s in slow
    ]


class FixedLength:
    """Mixed into a policy: every turn samples as many tokens as it may, none of which ends it or is a tag."""

    def silence(self: Any) -> None:
        tags = [i for t, i in self.tokenizer.get_added_vocab().items() if t.startswith("<")]
        self._banned = sorted({*self._banned, *self._ends, *tags})

    def _row(self, *arguments: Any) -> BatchRow:
        row: BatchRow = super()._row(*arguments)  # type: ignore[misc]
        row.out_of = "stop"
        return row


class FixedLocal(FixedLength, LocalPolicy):
    """Reads everything again at every turn."""


class FixedSlots(FixedLength, SlotPolicy):
    """Keeps what an episode has read."""


class Scripted:
    """Samples with a policy, then looks, reads until all calls are used, and answers."""

    def __init__(self, policy: Policy, calls: int) -> None:
        self.policy, self.calls = policy, calls

    async def act(self, trajectory: Trajectory) -> Completion:
        completion, turn = await self.policy.act(trajectory), len(trajectory.turns)
        return replace(completion, text=ANSWER if turn == self.calls else READ if turn else LOOK)


class OwnClock(asyncio.SelectorEventLoop):
    """Its time is that of the processor; what it would only wait for, it skips."""

    def __init__(self, policy: LocalPolicy) -> None:
        self.skipped = 0.0
        self.computing = lambda: policy._queue._workers > 0
        super().__init__(Skipping(self))

    def time(self) -> float:
        return time.process_time() + self.skipped


class Skipping(selectors.DefaultSelector):
    def __init__(self, loop: OwnClock) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if self.loop.computing():
            return super().select(min(timeout, 0.01))
        if not (found := super().select(0)):
            self.loop.skipped += timeout
        return found


def ours(load: Load, policy: Policy, loop: Callable[[], OwnClock] | None = None) -> list[Trajectory]:
    """The ordinary episodes, side by side."""
    prompt, said, limits = load_prompt("atlas"), Scripted(policy, load.calls), Limits(calls=load.calls)

    async def everything() -> list[Trajectory]:
        starts = [Trajectory(q, prompt) for q in load.questions()]
        return await asyncio.gather(*(play(s, said, t, limits) for s, t in zip(starts, toolboxes(load), strict=True)))

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(everything())


def barrier(load: Load, policy: LocalPolicy) -> list[Trajectory]:
    """All rows generate, then a pool of threads runs all tools, then all rows generate again."""
    prompt, said, limits = load_prompt("atlas"), Scripted(policy, load.calls), Limits(calls=load.calls)

    async def generate(rows: list[Trajectory]) -> list[Completion]:
        return await asyncio.gather(*(said.act(t) for t in rows))

    def observe(row: Trajectory, completion: Completion, tools: Toolbox) -> Trajectory:
        action = parse_action(completion.text, prompt.dialect)
        found = None if len(row.turns) == load.calls else asyncio.run(tools.execute(action, row, limits))
        return row.then(Turn(completion, action, found), limits)

    rows = [Trajectory(q, prompt) for q in load.questions()]
    boxes = toolboxes(load)
    with ThreadPoolExecutor(THREADS) as pool:
        while rows[0].stop is None:
            rows = list(pool.map(observe, rows, asyncio.run(generate(rows)), boxes))
    return rows


def stock(load: Load, policy: LocalPolicy) -> None:
    """`GRPOTrainer._generate` of TRL with an asynchronous tool: one trajectory's tool after the other.

    On one core: two threads within one product of so small a model wait for each other longer than they compute.
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(1)
    rows = load.questions()
    asked = [0] * len(rows)

    async def search(number: int) -> list[dict[str, Any]]:
        """search

        Args:
            number: which
        """
        call = asked[number]
        asked[number] += 1
        await asyncio.sleep(load.waits[number][call])
        shown = [{"type": "image", "image": picture(1000 + number, 56)}] if call == 0 else []
        return [*shown, {"type": "text", "text": f"<information> {fact(load.words)} </information>"}]

    tokenizer = ScriptedTokenizer.from_pretrained(BUNDLED, padding_side="left")
    tokenizer.chat_template = trl_template()
    tokenizer.rows, tokenizer.calls, tokenizer.said = len(rows), load.calls, 0
    settings = GRPOConfig(
        output_dir="rollouts-benchmark",
        per_device_train_batch_size=len(rows),
        num_generations=load.group,
        max_completion_length=1500,
        use_cpu=True,
        bf16=False,
        report_to=[],
        activation_checkpointing=False,
    )
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=lambda **_: [0.0] * len(rows),
        args=settings,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": rows[0].text}]}] * load.prompts),
        processing_class=PictureProcessor(policy.image_processor, tokenizer, tokenizer.chat_template),
        tools=[search],
    )
    trainer.generation_config.max_new_tokens = load.tokens
    trainer.generation_config.suppress_tokens = policy._banned
    # What TRL fills in for every batch just before it generates.
    trainer._sync_tool_dicts, trainer._async_tool_dicts = [{}] * len(rows), [{"search": search}] * len(rows)
    prompts = [
        [{"role": "user", "content": [{"type": "image", "image": q.image}, {"type": "text", "text": q.text}]}]
        for q in rows
    ]
    masks = trainer._generate(prompts)[2]
    assert [sum(m) for m in masks] == [load.tokens * (load.calls + 1)] * len(rows), (
        "TRL did not sample what was asked for"
    )


class ScriptedTokenizer(PreTrainedTokenizerFast):
    """Answers TRL's question what a completion calls: the tool, three times, then nothing."""

    rows: int
    calls: int
    said: int

    def parse_response(self, ids: Any, prefix: Any = None, tools: Any = None) -> dict[str, Any]:
        number, call = self.said % self.rows, self.said // self.rows
        self.said += 1
        reply: dict[str, Any] = {"role": "assistant", "content": "x"}
        if call < self.calls:
            function = {"name": "search", "arguments": {"number": number}}
            reply["tool_calls"] = [{"type": "function", "function": function}]
        return reply


class PictureProcessor(ProcessorMixin):
    """A processor without videos: Qwen's own asks for torchvision."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        self.image_token = "<|image_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **_: Any) -> str:
        cells = int(image_inputs["image_grid_thw"][image_idx].prod()) // self.image_processor.merge_size**2
        return str(self.image_token * cells)


def trl_template() -> str:
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / "qwen3_vl.jinja").read_text(encoding="utf-8")


def make(kind: type[Any], tokens: int, threads: int, *, source: Path = BUNDLED, context: int | None = None) -> Any:
    torch.set_num_threads(threads)
    loaded = load_checkpoint(source, torch.float32)
    policy = kind(
        loaded.model,
        loaded.tokenizer,
        loaded.image_processor,
        card=loaded.card,
        max_new_tokens=tokens,
        temperature=1.0,
        context=context,
    )
    policy.image_processor = loaded.image_processor
    policy.silence()
    return policy


def check(load: Load, played: list[Trajectory] | None) -> None:
    for trajectory in played or ():
        sampled = [len(t.completion.ids or ()) for t in trajectory.turns]
        assert trajectory.stop == "answer" and sampled == [load.tokens] * (load.calls + 1), (trajectory.stop, sampled)


def timed(run: Callable[..., Any], load: Load, policy: Any) -> tuple[float, float]:
    """Seconds on the wall and on the processor, of this process."""
    if not isinstance(policy, FixedLocal):
        policy.reset()
    wall, busy = time.perf_counter(), time.process_time()
    played = run(load, policy)
    result = time.perf_counter() - wall, time.process_time() - busy
    check(load, played)
    return result


def counted(run: Callable[..., Any], load: Load, policy: LocalPolicy) -> tuple[float, float]:
    """`timed` for a machine that others use too: the time that passes for the loop, and the processor's."""
    if run is not ours:
        busy = timed(run, load.instant, policy)[1]
        return busy + (waits_behind_barriers(load) if run is barrier else sum(map(sum, load.waits))), busy
    if isinstance(policy, SlotPolicy):
        policy.reset()
    clock: list[OwnClock] = []

    def make_clock() -> OwnClock:
        clock.append(OwnClock(policy))
        return clock[0]

    busy = time.process_time()
    check(load, ours(load, policy, make_clock))
    busy = time.process_time() - busy
    return busy + clock[0].skipped, busy


def waits_behind_barriers(load: Load) -> float:
    """What a pool of threads needs for the calls of one turn after the other, each thread taking the next call."""
    total = 0.0
    for call in range(load.calls):
        free = [0.0] * THREADS
        for waits in load.waits:
            heapq.heapreplace(free, free[0] + waits[call])
        total += max(free)
    return total


def compare(load: Load, threads: int, skip_stock: bool, shared: bool, vllm: str | None) -> dict[str, Any]:
    measure = counted if shared else timed
    local, slots = (make(kind, load.tokens, 1 if shared else threads) for kind in (FixedLocal, FixedSlots))
    for policy in (local, slots):
        timed(ours, Load.draw(2, 2, load.tokens).instant, policy)
    compute = {"local": measure(ours, load.instant, local)[0], "slots": measure(ours, load.instant, slots)[0]}
    loops: dict[str, tuple[Callable[..., Any], Any]] = {
        "ours, SlotPolicy": (ours, slots),
        "ours, LocalPolicy": (ours, local),
        "barrier, 8 tool threads, SlotPolicy": (barrier, slots),
        "barrier, 8 tool threads, LocalPolicy": (barrier, local),
    }
    if not skip_stock:
        loops["TRL's built-in tool loop"] = (stock, local)
    if vllm is not None:
        from vllm_peers import FixedServer

        server = FixedServer(vllm, local)
        timed(ours, Load.draw(2, 2, load.tokens).instant, server)
        compute["vLLM"] = measure(ours, load.instant, server)[0]
        loops["ours, vLLM on the same cores"] = (ours, server)
    ideal = max(min(compute.values()), load.longest)
    found = {}
    for name, (run, policy) in loops.items():
        found[name] = measure(run, load, policy)
        print(f"{name}: {found[name][0]:.1f} s", flush=True)
    if vllm is not None:
        from vllm_peers import asynchronous

        found["TRL's asynchronous worker, vLLM, no pictures"] = asynchronous(load, vllm), math.nan
    return {
        "trajectories": len(load.waits),
        "tokens per turn": load.tokens,
        "sum of all waits": sum(map(sum, load.waits)),
        "longest waits of one trajectory": load.longest,
        "compute alone": compute,
        "ideal": ideal,
        "seconds": {name: wall for name, (wall, _) in found.items()},
        "processor seconds": {name: busy for name, (_, busy) in found.items()},
    }


def show(result: dict[str, Any]) -> None:
    seconds, ideal = result["seconds"], result["ideal"]
    waits, longest = result["sum of all waits"], result["longest waits of one trajectory"]
    print(f"{result['trajectories']} trajectories, {CALLS} tool calls each, {result['tokens per turn']} tokens a turn")
    print(f"all waits together {waits:.1f} s, those of the slowest trajectory {longest:.1f} s")
    alone = ", ".join(f"{name} {value:.1f} s" for name, value in result["compute alone"].items())
    print(f"compute alone: {alone}; ideal {ideal:.1f} s; load of the machine {result['load'][0]:.1f}\n")
    best = min(value for name, value in seconds.items() if name.startswith("ours"))
    print(f"{'loop':46}{'seconds':>9}{'cpu s':>8}{'/ ideal':>9}{'/ ours':>8}{'rollouts/s':>12}")
    for name, value in seconds.items():
        busy, speed = result["processor seconds"][name], result["trajectories"] / value
        print(f"{name:46}{value:9.1f}{busy:8.1f}{value / ideal:9.2f}{value / best:8.2f}{speed:12.2f}")


def compare_kept(quick: bool) -> list[dict[str, Any]]:
    """Reading everything again against kept caches: instant tools, one core, processor seconds."""
    rows = []
    for trajectories, turns, tokens, words in KEPT_QUICK if quick else KEPT:
        load = replace(Load.draw(trajectories // 4, 4, tokens, calls=turns - 1).instant, words=words)
        local, slots = (make(kind, tokens, 1, context=10**6) for kind in (FixedLocal, FixedSlots))
        for policy in (local, slots):
            timed(ours, replace(load, prompts=1, waits=load.waits[:4]), policy)
        slots.counts = SlotCounts()
        busy = {name: timed(ours, load, policy)[1] for name, policy in (("local", local), ("slots", slots))}
        counts = slots.counts
        read = counts.prefilled + counts.kept + counts.shared
        rows.append(
            {"trajectories": trajectories, "turns": turns, "tokens": tokens, "words": words, "processor seconds": busy}
            | {"prompt tokens": read, "prefilled": counts.prefilled}
        )
    return rows


def show_kept(rows: list[dict[str, Any]]) -> None:
    print(f"{'rows':>5}{'turns':>7}{'tokens':>8}{'words':>7}{'local cpu s':>13}{'slots cpu s':>13}{'ratio':>7}   read")
    for row in rows:
        local, slots = row["processor seconds"]["local"], row["processor seconds"]["slots"]
        sizes = f"{row['trajectories']:5}{row['turns']:7}{row['tokens']:8}{row['words']:7}"
        read = f"{row['prefilled']} of {row['prompt tokens']} prompt tokens"
        print(f"{sizes}{local:13.1f}{slots:13.1f}{local / slots:7.2f}   {read}")


@contextmanager
def vllm_or_nothing(wanted: bool) -> Iterator[str | None]:
    if not wanted:
        yield None
        return
    from vllm_peers import vllm_server

    with vllm_server() as url:
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="16 trajectories instead of 64")
    parser.add_argument("--kept", action="store_true", help="compare re-reading and kept caches only")
    parser.add_argument("--tokens", type=int, default=24, help="sampled tokens per turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="processor cores to use")
    parser.add_argument("--shared", action="store_true", help="the machine is busy: count processor time and waits")
    parser.add_argument("--skip-stock", action="store_true", help="without TRL's loop, which takes longest")
    parser.add_argument("--vllm", action="store_true", help="with a vLLM server, which must be installed")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    if arguments.vllm and arguments.shared:
        parser.error("--shared counts this process alone, and vLLM is another. Leave one of them out.")
    result: Any
    if arguments.kept:
        result = compare_kept(arguments.quick)
        show_kept(result)
    else:
        load = Load.draw(4 if arguments.quick else 16, 4, arguments.tokens)
        with vllm_or_nothing(arguments.vllm) as vllm:
            result = compare(load, arguments.threads, arguments.skip_stock, arguments.shared, vllm)
        result["load"] = os.getloadavg()
        show(result)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
