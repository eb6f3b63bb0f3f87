"""Rollouts through vLLM's two doors against the same model in this process. Here a fake answers as vLLM does; vLLM
itself runs in `tests/real_vllm`."""

from __future__ import annotations

import asyncio
import random
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from checkpoints import tiny_processor
from deepmmsearch.errors import UserError
from deepmmsearch.policies.chat import EndpointError
from deepmmsearch.policies.local import LocalPolicy
from deepmmsearch.policies.vllm import Sampling, VllmColocatePolicy, VllmServerPolicy, as_files, weights
from deepmmsearch.prompts import load_prompt
from deepmmsearch.types import Completion, Observation, Policy, Question, TextSearch, Trajectory, Turn
from fake_vllm import WINDOW, Engine, FakeLLM, Server, server
from vllm_protocol import Served, check_protocol

torch.set_num_threads(1)
ENGINE = Engine()
TOKENS = 6
LOCAL = LocalPolicy(ENGINE.model, ENGINE.tokenizer, tiny_processor(), max_new_tokens=TOKENS)
SAMPLING = Sampling(
    context=WINDOW,
    max_new_tokens=TOKENS,
    temperature=0.0,
    banned=tuple(LOCAL._banned),
    ends=tuple(LOCAL._ends),
)


def picture(seed: int, size: tuple[int, int] = (130, 90)) -> Image.Image:
    return Image.frombytes("RGB", size, random.Random(seed).randbytes(3 * size[0] * size[1]))


def start(seed: int, **metadata: object) -> Trajectory:
    question = Question(f"q{seed}", "What is it?", (picture(seed),) if seed % 3 else (), metadata=metadata)
    return Trajectory(question, load_prompt("atlas"))


async def play(policy: Policy, seed: int, turns: int = 3) -> list[Completion]:
    """Pictures come with the question and with a tool's answer, in mid-conversation."""
    trajectory, said = start(seed), []
    for number in range(turns):
        said.append(await policy.act(trajectory))
        shown = (picture(50 + seed, (60, 200)), picture(7)) if number == seed % 2 else ()
        turn = Turn(said[-1], TextSearch("x"), Observation("[1] A fact.", images=shown))
        trajectory = replace(trajectory, turns=(*trajectory.turns, turn))
    return said


def cells(image: Image.Image) -> int:
    return image.width * image.height // 28**2


def colocated(llm: FakeLLM, **settings: Any) -> VllmColocatePolicy:
    settings = {"sampling": SAMPLING, "image_tokens": cells, "make_parameters": dict, **settings}
    return VllmColocatePolicy(llm, LOCAL.renderer, **settings)


async def assert_like_local(policy: Policy) -> None:
    seeds = range(5)
    theirs = await asyncio.gather(*(play(policy, seed) for seed in seeds))
    ours = await asyncio.gather(*(play(LOCAL, seed) for seed in seeds))
    for there, here in zip((c for said in theirs for c in said), (c for said in ours for c in said), strict=True):
        assert replace(there, logprobs=None) == replace(here, logprobs=None)
        assert there.logprobs == pytest.approx(here.logprobs, abs=1e-4)


@pytest.mark.parametrize("named", [True, False])
async def test_a_server_samples_what_the_model_would(named: bool) -> None:
    with server(ENGINE, named=named) as vllm:
        policy = VllmServerPolicy(LOCAL.renderer, vllm.url + "/v1/", SAMPLING, image_tokens=cells)
        await assert_like_local(policy)
        assert policy.model == "vlm"
        rendered = [str(body) for body in vllm.paths("/render")]
        assert len(rendered) == len(set(rendered)) > 5, "every picture is sent once"
        assert vllm.misplaced == 0


def test_the_fake_answers_as_vllm_does() -> None:
    prompt = tuple(ENGINE.tokenizer.encode("What is it?", add_special_tokens=False))
    with server(ENGINE) as vllm:
        check_protocol(Served(vllm.url, "vlm", prompt, ENGINE.image_id, WINDOW))


async def test_an_engine_in_this_process_samples_what_the_model_would() -> None:
    llm = FakeLLM(ENGINE)
    policy = colocated(llm)
    await assert_like_local(policy)
    assert max(llm.batches) == 5 and set(llm.threads) == {"vllm_0"}
    policy.close()


def test_the_engine_outlives_event_loops_and_prepares_its_thread_once() -> None:
    prepared: list[int] = []
    policy = colocated(FakeLLM(ENGINE), prepare=lambda: prepared.append(1))
    assert asyncio.run(policy.act(start(1))) == asyncio.run(policy.act(start(1)))
    assert prepared == [1]


async def test_episodes_that_come_later_join_the_next_batch() -> None:
    llm = FakeLLM(ENGINE)
    policy = colocated(llm)
    first = asyncio.create_task(policy.act(start(1)))
    while not llm.batches:
        await asyncio.sleep(0.001)
    rest = [asyncio.create_task(policy.act(start(n))) for n in range(2, 6)]
    rest[0].cancel()
    done = await asyncio.gather(first, *rest, return_exceptions=True)
    assert llm.batches == [1, 3] and isinstance(done[1], asyncio.CancelledError)
    assert [c.ids for c in done if isinstance(c, Completion)] == [(await LOCAL.act(start(n))).ids for n in (1, 3, 4, 5)]


async def test_a_batch_that_fails_fails_its_episodes_and_no_others() -> None:
    llm = FakeLLM(ENGINE)
    policy = colocated(llm)
    llm.failing = True
    done = await asyncio.gather(policy.act(start(1)), policy.act(start(2)), return_exceptions=True)
    assert [str(d) for d in done] == ["CUDA out of memory"] * 2
    llm.failing = False
    assert (await policy.act(start(1))).ids == (await LOCAL.act(start(1))).ids


async def test_what_is_asked_of_the_sampler() -> None:
    with server(ENGINE) as vllm:
        policy = VllmServerPolicy(LOCAL.renderer, vllm.url, SAMPLING)
        for rollout in (0, 1):
            await policy.act(start(3, rollout=rollout))
        first, second = (body["sampling_params"] for body in vllm.paths("/generate"))
    assert first["seed"] != second["seed"] and first["max_tokens"] == TOKENS
    assert set(map(int, first["logit_bias"])) == set(LOCAL._banned) and set(first["logit_bias"].values()) == {-100.0}
    assert first["stop_token_ids"] == list(SAMPLING.ends)


async def test_the_window_bounds_prompt_and_completion() -> None:
    used = (await LOCAL.act(start(1))).prompt_tokens or 0
    for room, finish, sampled in ((3, "context", 3), (0, "context", 0), (-5, "context", 0), (TOKENS, "length", TOKENS)):
        sampling = replace(SAMPLING, context=used + room, ends=(9999,))
        said = await colocated(FakeLLM(ENGINE), sampling=sampling).act(start(1))
        assert (said.finish, len(said.ids or ()), said.prompt_tokens) == (finish, sampled, used)
    with server(ENGINE) as vllm:
        policy = VllmServerPolicy(LOCAL.renderer, vllm.url, replace(SAMPLING, context=10**6))
        await policy.check()
        assert policy.sampling.context == WINDOW
        policy.sampling = replace(SAMPLING, context=used)
        assert (await policy.act(start(1))).ids == () and not vllm.paths("/generate")


async def test_a_picture_of_another_size_is_refused() -> None:
    with server(ENGINE) as vllm:
        policy = VllmServerPolicy(LOCAL.renderer, vllm.url, SAMPLING, image_tokens=lambda image: cells(image) + 1)
        with pytest.raises(UserError, match="as 8 tokens, the trainer as 9"):
            await policy.act(start(1))
    with pytest.raises(UserError, match="1 pictures as"):
        await colocated(FakeLLM(ENGINE), image_tokens=lambda image: cells(image) + 1).act(start(1))


async def test_what_goes_wrong_on_the_server_is_one_sentence() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(EndpointError, match=r"No vLLM server answers at .*enable-scale-out"):
        await VllmServerPolicy(LOCAL.renderer, nowhere, SAMPLING, retries=0).act(start(1))
    with server(ENGINE) as vllm:
        other = VllmServerPolicy(LOCAL.renderer, vllm.url, SAMPLING, model="llm")
        with pytest.raises(EndpointError, match="serves vlm, not llm"):
            await other.check()
        with pytest.raises(EndpointError, match="does not serve llm"):
            await other.act(start(1))
        policy = VllmServerPolicy(LOCAL.renderer, vllm.url, SAMPLING, retries=0)
        good = {"index": 0, "token_ids": [8], "finish_reason": "stop"}
        for answer, said in (
            ((404, {"detail": "Not Found"}), "has no /inference/v1/generate.*--enable-scale-out"),
            ((401, {"error": "Unauthorized"}), "VLLM_API_KEY"),
            ((400, {"error": {"message": "too long", "type": "x", "code": 400}}), "too long"),
            ((500, {"error": {"message": "engine died", "type": "x", "code": 500}}), "engine died"),
            ((200, b"<html>"), "cannot be used"),
            ((200, {"choices": []}), "cannot be used"),
            ((200, {"choices": [{**good, "logprobs": None}]}), "cannot be used"),
            ((200, {"choices": [{**good, "logprobs": {"content": []}}]}), "other tokens"),
            ((200, {"choices": [{**good, "logprobs": _sure(8), "finish_reason": "abort"}]}), "'abort'"),
        ):
            vllm.answers = [answer]
            with pytest.raises(EndpointError, match=said):
                await policy.act(start(3))
    with server(ENGINE, scale_out=False) as vllm, pytest.raises(EndpointError, match="without --enable-scale-out"):
        await VllmServerPolicy(LOCAL.renderer, vllm.url, SAMPLING, retries=0).act(start(3))
    with server(ENGINE, hoards=True) as vllm, pytest.raises(EndpointError, match="--mm-processor-cache-gb 0"):
        await VllmServerPolicy(LOCAL.renderer, vllm.url, SAMPLING).act(start(1))


async def test_weights_that_cannot_be_loaded_are_told_in_one_sentence(tmp_path: Path) -> None:
    def policy(vllm: Server) -> VllmServerPolicy:
        return VllmServerPolicy(LOCAL.renderer, vllm.url, SAMPLING, retries=0)

    with server(ENGINE) as vllm:
        await policy(vllm).wait(0)
        with pytest.raises(EndpointError, match=r"could not load the weights in .*rollouts\.weights"):
            await policy(vllm).load_weights(tmp_path)
        with as_files(tmp_path, LOCAL.model.named_parameters()) as folder:
            await policy(vllm).load_weights(folder)
            vllm.busy = True
            with pytest.raises(EndpointError, match="serve this run alone"):
                await policy(vllm).load_weights(folder)
        assert not list(tmp_path.iterdir())
    with server(ENGINE, development=False) as vllm:
        for asked in (policy(vllm).wait(0), policy(vllm).load_weights(tmp_path)):
            with pytest.raises(EndpointError, match="Restart it: VLLM_SERVER_DEV_MODE=1"):
                await asked
    with (
        server(ENGINE, logprobs="raw_logprobs") as vllm,
        pytest.raises(EndpointError, match=r"raw_logprobs.*Restart it:.*processed_logprobs"),
    ):
        await policy(vllm).wait(0)


def test_weights_are_written_in_files_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FILE_BYTES", 40_000)
    (tmp_path / "weights-left").mkdir()
    plain = dict(LOCAL.model.named_parameters())
    with as_files(tmp_path, plain.items()) as folder:
        assert list(tmp_path.iterdir()) == [folder] and folder.is_absolute()
        parts = [load_file(file) for file in sorted(folder.iterdir())]
    assert len(parts) > 2 and all(sum(w.nbytes for w in part.values()) <= 40_000 or len(part) == 1 for part in parts)
    written = {name: weight for part in parts for name, weight in part.items()}
    assert written.keys() == plain.keys() and all(torch.equal(written[name], plain[name]) for name in plain)
    with pytest.raises(RuntimeError), as_files(tmp_path, plain.items()):
        raise RuntimeError("the server is gone")
    assert not list(tmp_path.iterdir())


def _sure(token: int) -> dict[str, Any]:
    return {"content": [{"token": f"token_id:{token}", "logprob": 0.0, "top_logprobs": []}]}


async def test_a_cancelled_rollout_leaves_the_picture_to_the_others() -> None:
    with server(ENGINE) as vllm:
        policy = VllmServerPolicy(LOCAL.renderer, vllm.url, SAMPLING)
        await policy.check()
        tasks = [asyncio.create_task(policy.act(start(1, rollout=n))) for n in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[0].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert [c.ids for c in done[1:]] == [(await LOCAL.act(start(1))).ids] * 2  # type: ignore[union-attr]
        assert len(vllm.paths("/render")) == 1


def test_without_vllm_the_error_says_what_to_install() -> None:
    with pytest.raises(UserError, match=r"pip install 'deepmmsearch\[vllm\]'"):
        VllmColocatePolicy(FakeLLM(ENGINE), LOCAL.renderer, SAMPLING, cells)
