"""Training in several processes, and training that is killed: the same weights in the end.

The processes are real: two of them share each step over gloo, one is killed with SIGKILL. Timeouts are generous, for
machines with other things to do; a run takes about 10 s of processor time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests import test_grpo, test_sft
from tests.checkpoints import tiny_checkpoint
from tests.training_child import STEPS
from trl.trainer.utils import RepeatSampler

from deepmmsearch.policies.local.checkpoint import load_checkpoint
from deepmmsearch.train.order import EachEpoch
from deepmmsearch.train.output import last_checkpoint
from deepmmsearch.train.plots import read_metrics
from deepmmsearch.train.sft import fine_tune

ROOT = Path(__file__).parent.parent
PATIENCE = 1200.0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_checkpoint(tmp_path_factory.mktemp("base"), prompt="atlas", max_new_tokens=8)


@contextlib.contextmanager
def child(kind: str, base: Path, output: Path, *flags: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    log = output.with_suffix(f".{environment.get('RANK', '0')}.log")
    command = [sys.executable, "-m", "tests.training_child", kind, str(base), str(output), *flags]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    code = process.wait(PATIENCE)
    assert code == 0, log.read_text(encoding="utf-8", errors="replace")[-4000:]


def side_by_side(kind: str, base: Path, output: Path, *flags: str) -> list[dict[str, Any]]:
    """What the two processes of one run wrote."""
    with started(kind, base, output, *flags) as processes:
        for rank, process in enumerate(processes):
            finish(process, output.with_suffix(f".{rank}.log"))
    return [json.loads(output.with_suffix(f".rank-{rank}.json").read_text()) for rank in range(2)]


@contextlib.contextmanager
def started(kind: str, base: Path, output: Path, *flags: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The two processes of one run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with contextlib.ExitStack() as stack:
        processes = []
        for rank in "01":
            own = {**shared, "RANK": rank, "LOCAL_RANK": rank, "GLOO_SOCKET_IFNAME": "lo"}
            processes.append(stack.enter_context(child(kind, base, output, *flags, **own)))
        yield processes


def check_ranks(ranks: list[dict[str, Any]], output: Path) -> None:
    one, other = (rank["weights"] for rank in ranks)
    assert list(one) == [str(step) for step in range(1, STEPS + 1)]
    assert one == other, "the processes have different weights"
    assert len(set(one.values())) == STEPS, "the weights did not move"
    rows = read_metrics(output / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, STEPS + 1))
    assert [row["eval/of_rank"] for row in rows if "eval/of_rank" in row] == [0.0] * STEPS, "one process writes"
    assert not list(output.glob("*.part"))
    assert (output / "merged" / "model.safetensors").is_file()


@dataclass(frozen=True)
class Run:
    output: Path
    ranks: list[dict[str, Any]]


@pytest.fixture(scope="module")
def plain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """GRPO in two processes that each hold the whole model."""
    output = tmp_path_factory.mktemp("plain") / "run"
    return Run(output, side_by_side("grpo", base, output))


def test_two_grpo_processes_have_the_same_weights_and_questions_of_their_own(plain: Run) -> None:
    output, ranks = plain.output, plain.ranks
    check_ranks(ranks, output)
    for step in map(str, range(STEPS)):
        one, other = (rank["played"][step] for rank in ranks)
        assert len(one) == len(other) == 8 and not set(one) & set(other)
        assert all(one.count(question) == 4 for question in one), "a group is whole in one process"
    steps = [row for row in read_metrics(output / "metrics.jsonl") if "loss" in row]
    # 16 rollouts of at most 8 tokens a turn, in at most 5 turns; one process has 8 of them
    assert all(row["tokens/round"] == pytest.approx(16 * row["tokens/sampled"]) for row in steps)


def test_sharded_processes_learn_what_whole_ones_do(plain: Run, base: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    check_ranks(side_by_side("grpo", base, sharded, "--sharded"), sharded)
    check_close(sharded, plain.output)


@pytest.mark.slow
def test_sharded_processes_are_taught_what_whole_ones_are(base: Path, tmp_path: Path) -> None:
    sharded, plain = tmp_path / "sharded", tmp_path / "plain"
    check_ranks(side_by_side("sft", base, sharded, "--sharded"), sharded)
    check_ranks(side_by_side("sft", base, plain), plain)
    check_close(sharded, plain)
    # a step of two processes is a step of one with twice the rows
    trl = {"max_steps": STEPS, "per_device_train_batch_size": 4, "save_steps": 1}
    whole = test_sft.recipe(base, tmp_path / "whole", trl=trl, sample=8)
    fine_tune(whole, test_sft.trajectories(), load_checkpoint(str(base), torch.float32), report=print)
    check_close(plain, whole.output)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["grpo", "sft"])
def test_a_sharded_run_that_was_killed_goes_on_to_the_same_weights(kind: str, base: Path, tmp_path: Path) -> None:
    output, plain = tmp_path / "run", tmp_path / "plain"
    with started(kind, base, output, "--sharded", "--hang-in", "3") as processes:
        kill_when_it_hangs(processes[0], output)
    assert last_checkpoint(output / "checkpoints") is not None
    side_by_side(kind, base, output, "--sharded")
    side_by_side(kind, base, plain)
    check_close(output, plain)


def check_close(output: Path, other: Path) -> None:
    found, expected = (load_file(folder / "merged" / "model.safetensors") for folder in (output, other))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6, msg=name)
    assert (output / "adapter" / "adapter_model.safetensors").is_file()


def kill_when_it_hangs(process: subprocess.Popen[bytes], output: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not output.with_suffix(".hangs").exists():
        log = output.with_suffix(".0.log").read_text(encoding="utf-8", errors="replace")
        assert process.poll() is None, f"it ended by itself:\n{log[-4000:]}"
        assert time.monotonic() < until, f"it never came so far:\n{log[-4000:]}"
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(PATIENCE) == -signal.SIGKILL


def killed(kind: str, base: Path, output: Path, hang_in: int) -> Path:
    """The output of a run that was killed where it hung, after its second checkpoint."""
    with child(kind, base, output, "--hang-in", str(hang_in)) as process:
        kill_when_it_hangs(process, output)
    saved = last_checkpoint(output / "checkpoints")
    assert saved is not None and saved.name == "checkpoint-2"
    return output


def grpo_here(base: Path, output: Path) -> Path:
    def evaluate(policy: Any, step: int) -> dict[str, float]:
        return {}

    settings = test_grpo.recipe(base, output, evaluate_every=1, trl={"max_steps": STEPS})
    checkpoint = load_checkpoint(str(base), torch.float32)
    asked = test_grpo.questions()
    result = test_grpo.train(settings, asked, checkpoint, lambda start: test_grpo.player(), evaluate, lambda line: None)
    return result.merged


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_grpo_run_that_was_killed_goes_on_to_the_same_weights(base: Path, tmp_path: Path) -> None:
    output = killed("grpo", base, tmp_path / "killed", hang_in=2)
    # a checkpoint that was being written when the power failed
    torn = output / "checkpoints" / "checkpoint-3"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"epoch": 0.')
    resumed, whole = grpo_here(base, output), grpo_here(base, tmp_path / "whole")
    assert test_grpo.weights_of(resumed) == test_grpo.weights_of(whole)
    rows = read_metrics(output / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, STEPS + 1))


def test_the_order_of_questions_depends_on_seed_and_epoch_alone() -> None:
    def order(epoch: int, *before: int, seed: int = 0) -> list[int]:
        now = [0]
        sampler = RepeatSampler(range(20), mini_repeat_count=2, batch_size=5, repeat_count=3, seed=seed)
        each = EachEpoch(sampler, seed, lambda: now[0])
        for now[0] in (*before, epoch):
            drawn = list(each)
        assert len(drawn) == len(each) == 20 * 2 * 3
        return drawn

    assert order(1) == order(1, 0) == order(1, 0, 1) != order(0)
    assert order(1) != order(1, seed=5)
    plain = EachEpoch(RepeatSampler(range(3), mini_repeat_count=1, shuffle=False), 0, lambda: 1)
    assert list(plain) == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_an_sft_run_that_was_killed_goes_on_to_the_same_weights(base: Path, tmp_path: Path) -> None:
    output = killed("sft", base, tmp_path / "killed", hang_in=3)
    merged = []
    for place in (output, tmp_path / "whole"):
        trl = {"max_steps": STEPS, "per_device_train_batch_size": 2, "save_steps": 1, "logging_steps": 1}
        settings = test_sft.recipe(base, place, evaluate_every=1, trl=trl, sample=8).model_copy(
            update={"data": [output]}
        )
        checkpoint = load_checkpoint(str(base), torch.float32)
        result = fine_tune(settings, test_sft.trajectories(), checkpoint, report=lambda line: None)
        merged.append(test_grpo.weights_of(result.merged))
    assert merged[0] == merged[1]
