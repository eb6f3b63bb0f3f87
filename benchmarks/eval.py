"""What the evaluation costs beside the policy: questions a second of a policy that takes no time, and how close 64
questions at once against an endpoint that takes a second come to the ideal.

    python benchmarks/eval.py [--quick]

Goals: at least 200 questions a second on the atlas; at most 1.2 times the ideal. The first is measured in processor
time too, because the clock also counts what else runs on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.atlas.questions import make_questions
from deepmmsearch.atlas.world import make_world
from deepmmsearch.children import Child, ParentPipe
from deepmmsearch.eval.run import BenchmarkInfo, Described, EvalRun, evaluate
from deepmmsearch.judge import RuleJudge
from deepmmsearch.policies.chat import ChatPolicy
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing import FakeTools
from deepmmsearch.types import Completion, Hit, Question, Trajectory

GOAL_RATE, GOAL_RATIO = 200, 1.2


class Instant:
    """A policy of no latency: a text search, then the accepted answer."""

    async def act(self, trajectory: Trajectory) -> Completion:
        if not trajectory.turns:
            return Completion("<reason>I look it up.</reason><text_search>capital of Veld</text_search>")
        return Completion(f"<reason>I read it.</reason><answer>{trajectory.question.answers[0]}</answer>")


async def harness(questions: list[Question], folder: Path) -> tuple[float, float]:
    """Questions per second by the clock and by processor time, with store and judge."""
    hit = Hit("Veld", "https://example.org/veld", "The capital of Veld is Balor.", 1.0)
    tools = FakeTools(texts={"capital of Veld": [hit]}).toolbox()
    run = EvalRun(folder)
    run.describe([Described("agent", "agent")], [BenchmarkInfo("atlas")], ["reward"])
    workflow = AgentWorkflow(Instant(), load_prompt("atlas"), lambda _: tools)
    began, busy = time.perf_counter(), time.process_time()
    played = await evaluate(
        run, "atlas", questions, "agent", workflow, {"reward": RuleJudge()}, concurrency=64, pictures=8
    )
    seconds, processor = time.perf_counter() - began, time.process_time() - busy
    assert played == len(questions) == len(run.judged()), (played, len(questions))
    return played / seconds, played / processor


def serve(line: ParentPipe, latency: float) -> None:
    """An OpenAI-compatible endpoint that answers everything after `latency` seconds, any number at once."""
    message = {"role": "assistant", "content": "<reason>I know.</reason><answer>Veld</answer>"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    body = json.dumps(
        {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while asked := await reader.readuntil(b"\r\n\r\n"):
                lines = asked.lower().split(b"\r\n")
                length = next((int(h.split(b":")[1]) for h in lines if h.startswith(b"content-length")), 0)
                await reader.readexactly(length)
                await asyncio.sleep(latency)
                writer.write(head + body)
                await writer.drain()
        writer.close()

    async def forever() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**20)
        line.send(json.dumps(server.sockets[0].getsockname()[1]).encode())
        await server.serve_forever()

    asyncio.run(forever())


@contextmanager
def slow_endpoint(latency: float) -> Iterator[str]:
    """In a process of its own, as endpoints are."""
    with Child(serve, latency) as process:
        yield f"http://127.0.0.1:{process.receive()}/v1"


async def concurrent(questions: list[Question], folder: Path, rounds: int, latency: float = 1.0) -> float:
    """Time taken of the ideal: 64 at once, `rounds` times the latency."""
    run = EvalRun(folder)
    run.describe([Described("direct", "direct")], [BenchmarkInfo("atlas")], ["reward"])
    asked = questions[: 64 * rounds]
    with slow_endpoint(latency) as url:
        policy = ChatPolicy("m", url)
        # making the client and its first connection is no cost of the harness
        await policy.complete([{"role": "user", "content": "hello"}])
        workflow = AgentWorkflow(policy, load_prompt("direct"), lambda _: Toolbox())
        began = time.perf_counter()
        played = await evaluate(
            run, "atlas", asked, "direct", workflow, {"reward": RuleJudge()}, concurrency=64, pictures=0
        )
        seconds = time.perf_counter() - began
    assert played == len(asked)
    return seconds / (rounds * latency)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer questions")
    quick = parser.parse_args().quick
    questions = make_questions(make_world(7), 256 if quick else 1000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rate, busy = asyncio.run(harness(questions, folder / "rate"))
        ratio = asyncio.run(concurrent(questions, folder / "slow", 2 if quick else 4))
    print(f"policy of no latency: {rate:.0f} questions/s by the clock, {busy:.0f} of processor time (goal {GOAL_RATE})")
    print(f"64 at once against an endpoint of 1 s: {ratio:.2f} of the ideal (goal {GOAL_RATIO})")
    if not quick and (rate < GOAL_RATE or ratio > GOAL_RATIO):
        sys.exit(1)


if __name__ == "__main__":
    main()
