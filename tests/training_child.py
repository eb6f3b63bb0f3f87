"""One process of a training run, for tests that start several at once or kill one.

    python -m tests.training_child grpo|sft BASE OUTPUT [--hang-in ROUND] [--sharded]

Writes OUTPUT.rank-N.json: the hash of the weights after each step, and which questions were played in each round.
With --hang-in, it writes OUTPUT.hangs in that round of rollouts and waits to be killed. With --sharded, the model is
spread over the processes by FSDP2, as a launcher's configuration would have it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType

from deepmmsearch.policies.local.checkpoint import load_checkpoint
from deepmmsearch.train.parts import parameter_hash
from deepmmsearch.train.shards import end_process, leave_processes, whole

STEPS = 4


def weights(model: Any) -> str:
    """Of everything that is trained, adapters included."""
    named = [(name, whole(p.detach())) for name, p in sorted(model.named_parameters()) if "lora_" in name]
    if not named:
        return parameter_hash(model, ("language",))
    return str([(name, p.double().sum().item(), p.double().square().sum().item()) for name, p in named])


def grpo(base: Path, output: Path, hang_in: int | None, hashes: dict[int, str], played: dict[str, list[str]]) -> None:
    from tests.test_grpo import TOOLS, player, questions, recipe, reward

    from deepmmsearch.agent import Toolbox
    from deepmmsearch.rewards import Score
    from deepmmsearch.train.grpo import train
    from deepmmsearch.train.rollouts import Player
    from deepmmsearch.types import Question, Trajectory

    def tools_for(question: Question) -> Toolbox:
        played.setdefault(str(question.metadata["rollout"]).split(".")[0], []).append(question.id)
        return TOOLS

    async def slow(trajectory: Trajectory) -> Score:
        if hang_in is not None and str(trajectory.question.metadata["rollout"]).startswith(f"{hang_in}."):
            output.with_suffix(".hangs").touch()
            await asyncio.sleep(3600)
        return await reward(trajectory)

    def evaluate(policy: Any, step: int) -> dict[str, float]:
        hashes[step] = weights(policy.model)
        return {"of_rank": float(os.environ.get("RANK", "0"))}

    plain = player()
    own = Player(tools_for, plain.prompt, slow, plain.limits)
    settings = recipe(base, output, evaluate_every=1, trl={"max_steps": STEPS})
    train(settings, questions(), load_checkpoint(str(base), torch.float32), lambda start: own, evaluate, print)


def sft(base: Path, output: Path, hang_in: int | None, hashes: dict[int, str]) -> None:
    from tests.test_sft import recipe, trajectories

    from deepmmsearch.train.sft import fine_tune

    def evaluate(model: Any, step: int) -> dict[str, float]:
        hashes[step] = weights(model)
        if step == hang_in:
            output.with_suffix(".hangs").touch()
            time.sleep(3600)
        return {"of_rank": float(os.environ.get("RANK", "0"))}

    trl = {"max_steps": STEPS, "per_device_train_batch_size": 2, "save_steps": 1, "logging_steps": 1}
    # a number that two processes share without a rest, which would be filled up with rows from the beginning
    settings = recipe(base, output, evaluate_every=1, trl=trl, sample=8)
    fine_tune(settings, trajectories(), load_checkpoint(str(base), torch.float32), evaluate, print)


def shard_on_cpus() -> None:
    """Accelerate shards over GPUs alone, though FSDP2 works over gloo: it is told that these processes have GPUs."""
    made = PartialState.__init__

    def told(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    PartialState.__init__ = told
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"}
    os.environ |= {"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("grpo", "sft"))
    parser.add_argument("base", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--hang-in", type=int)
    parser.add_argument("--sharded", action="store_true")
    given = parser.parse_args()
    if given.sharded:
        shard_on_cpus()
    torch.set_num_threads(1)
    hashes: dict[int, str] = {}
    played: dict[str, list[str]] = {}
    if given.kind == "grpo":
        grpo(given.base, given.output, given.hang_in, hashes, played)
    else:
        sft(given.base, given.output, given.hang_in, hashes)
    leave_processes()
    found = {"weights": hashes, "played": played}
    given.output.with_suffix(f".rank-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found))
    end_process()


if __name__ == "__main__":
    main()
