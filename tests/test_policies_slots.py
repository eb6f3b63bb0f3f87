"""Kept caches against reading everything again: the same tokens, the same logprobs, fewer tokens read."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from checkpoints import GRIDS, tiny_model, tiny_processor
from deepmmsearch.errors import UserError
from deepmmsearch.policies.local import LocalPolicy, SlotPolicy
from deepmmsearch.policies.local.policy import episode_name
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing import tiny_tokenizer
from deepmmsearch.types import Completion, Malformed, Observation, Question, TextSearch, Trajectory, Turn

torch.set_num_threads(1)
TURNS = 4


def pair(family: str = "qwen2_5_vl", *, slots: int = 64, **settings: Any) -> tuple[SlotPolicy, LocalPolicy]:
    """Both policies on one model."""
    tokenizer = tiny_tokenizer()
    model, processor = tiny_model(tokenizer, family), tiny_processor()
    # no draw of this seed lies within 1e-5 of the border between two tokens: sums in another order move it by 3e-6
    settings = {"max_new_tokens": 12, "seed": 4, **settings}
    policies = (
        SlotPolicy(model, tokenizer, processor, slots=slots, **settings),
        LocalPolicy(model, tokenizer, processor, **settings),
    )
    # A random model rarely ends a turn, and a turn that runs out of tokens ends its episode.
    for policy in policies:
        policy._ends = frozenset([*policy._ends, *range(30, 160)])
    return policies


def picture(seed: int) -> Image.Image:
    shuffled = random.Random(seed)
    size = shuffled.randrange(30, 300), shuffled.randrange(30, 300)
    return Image.frombytes("RGB", size, shuffled.randbytes(size[0] * size[1] * 3))


def start(seed: int, **metadata: object) -> Trajectory:
    image = picture(seed) if seed % 4 else None
    return Trajectory(
        Question(f"q{seed}", "What is it? " * (1 + seed % 5), (image,) if image is not None else (), metadata=metadata),
        load_prompt("atlas"),
    )


def go_on(trajectory: Trajectory, completion: Completion, *pictures: Image.Image) -> Trajectory:
    facts = "[1] A fact. " * (1 + len(trajectory.turns) % 3)
    turn = Turn(completion, TextSearch("x"), Observation(facts, images=pictures))
    return replace(trajectory, turns=(*trajectory.turns, turn))


async def play(
    policy: LocalPolicy, seed: int, rollout: int = 0, pauses: random.Random | None = None
) -> list[Completion]:
    trajectory, said = start(seed, rollout=rollout), []
    for turn in range(TURNS):
        said.append(await policy.act(trajectory))
        if said[-1].finish != "stop":
            break
        if pauses:
            await asyncio.sleep(pauses.random() / 50)
        shown = [picture(100 + seed)] * (1 + seed % 2) if turn == seed % 3 else []
        trajectory = go_on(trajectory, said[-1], *shown)
    return said


async def play_all(policy: LocalPolicy, pauses: random.Random | None = None) -> list[list[Completion]]:
    return await asyncio.gather(*(play(policy, seed, rollout, pauses) for seed in range(6) for rollout in range(3)))


def assert_same(kept: list[list[Completion]], read: list[list[Completion]]) -> None:
    assert [[c.ids for c in said] for said in kept] == [[c.ids for c in said] for said in read]
    for one, other in zip((c for said in kept for c in said), (c for said in read for c in said), strict=True):
        assert (one.text, one.finish, one.prompt_tokens) == (other.text, other.finish, other.prompt_tokens)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize("family", GRIDS)
@pytest.mark.parametrize("temperature", [0.0, 0.9])
async def test_tokens_and_logprobs_are_those_of_the_local_policy(family: str, temperature: float) -> None:
    slots, local = pair(family, temperature=temperature)
    kept, read = await play_all(slots, random.Random(1)), await play_all(local)
    assert_same(kept, read)
    assert sum(len(said) == TURNS for said in read) > 6, "many episodes must go on to the end"
    assert slots.counts.kept > 500 and slots.counts.evicted == 0


async def test_evicted_episodes_are_read_again() -> None:
    slots, local = pair(temperature=0.9, slots=2)
    assert_same(await play_all(slots, random.Random(2)), await play_all(local))
    assert slots.counts.evicted > 5 and len(slots._parked) <= 2


async def test_two_workers_share_the_slots() -> None:
    torch.set_num_threads(2)
    try:
        slots, local = pair(temperature=0.9, max_batch=9)
    finally:
        torch.set_num_threads(1)
    assert_same(await play_all(slots, random.Random(3)), await play_all(local))
    assert slots.counts.kept > 500


async def test_only_what_is_new_is_read() -> None:
    slots, _ = pair()
    trajectory = start(1)
    first = await slots.act(trajectory)
    assert first.finish == "stop" and slots.counts.prefilled == first.prompt_tokens
    following = go_on(trajectory, first, picture(5))
    second = await slots.act(following)
    # The last sampled token has not been read when the turn ends.
    read = (first.prompt_tokens or 0) + len(first.ids or ()) - 1
    assert slots.counts.kept == read
    assert slots.counts.prefilled == (second.prompt_tokens or 0) - read + (first.prompt_tokens or 0)


async def test_rollouts_share_their_prompt() -> None:
    slots, local = pair(temperature=1.0)
    rollouts = [start(1, rollout=n) for n in range(6)]
    kept = await asyncio.gather(*map(slots.act, rollouts))
    assert len({c.ids for c in kept}) == 6
    assert slots.counts.prefilled == kept[0].prompt_tokens
    assert slots.counts.shared == 5 * slots.counts.prefilled
    assert_same([kept], [await asyncio.gather(*map(local.act, rollouts))])


async def test_a_slot_of_another_story_is_not_used() -> None:
    """The same question and rollout, but other tokens, or the same tokens over another picture."""
    slots, local = pair()
    trajectory = start(1)
    first = await slots.act(trajectory)
    other_text = replace(trajectory, question=replace(trajectory.question, text="What was it?"))
    other_picture = replace(trajectory, question=replace(trajectory.question, images=(picture(1).rotate(180),)))
    for told in (other_text, other_picture):
        slots.reset()
        await slots.act(trajectory)
        following = go_on(told, first)
        assert episode_name(following) in slots._parked
        assert_same([[await slots.act(following)]], [[await local.act(following)]])
        assert slots.counts.kept == 0


async def test_slots_are_freed_when_the_episode_ends() -> None:
    slots, _ = pair()
    trajectory = start(1)
    await slots.act(trajectory)
    assert len(slots._parked) == 1
    slots.release(trajectory)
    assert not slots._parked
    slots._ends = frozenset([slots.renderer.end_id])
    assert (await slots.act(start(2))).finish == "length" and not slots._parked
    answer = slots.tokenizer.encode("<reason>r</reason><answer>x</answer>", add_special_tokens=False)
    script = iter([*answer, slots.renderer.end_id])
    slots.max_new_tokens = 50
    slots._choose = lambda logits, rows: (torch.tensor([next(script)]), torch.zeros(1))  # type: ignore[method-assign]
    said = await slots.act(start(3))
    assert said.finish == "stop" and said.text.endswith("</answer>") and not slots._parked


async def test_new_weights_need_a_reset() -> None:
    slots, local = pair()
    trajectory = start(1)
    first = await slots.act(trajectory)
    following = go_on(trajectory, first)
    slots.reset()
    with torch.no_grad():
        for weight in slots.model.parameters():
            weight.mul_(1.1)
    local._eyes.forget()
    assert_same([[await slots.act(following)]], [[await local.act(following)]])
    assert slots.counts.kept == 0


async def test_a_reset_frees_what_was_kept_at_once() -> None:
    slots, _ = pair()
    await slots.act(start(1))
    # an answer is there before the thread that made it lays its cache aside
    for thread in threading.enumerate():
        if thread.name == "local-policy":
            await asyncio.to_thread(thread.join)
    tensors = [layer.keys for block in slots._spare for layer in block._layers()]
    kept = [weakref.ref(tensor) for tensor in tensors if tensor is not None]
    assert kept
    del tensors
    gc.disable()
    try:
        slots.reset()
        assert not any(tensor() is not None for tensor in kept)
    finally:
        gc.enable()


async def test_bad_episodes_and_cancelled_ones_leave_the_others_alone() -> None:
    slots, local = pair(temperature=0.9)
    bad = replace(start(1), turns=(Turn(Completion("no ids"), Malformed("x"), Observation("Error: x")),))
    tasks = [asyncio.create_task(slots.act(t)) for t in (start(2), bad, start(3), start(4))]
    # all have asked, and none can have been answered before this coroutine waits again
    await asyncio.sleep(0)
    tasks[2].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(done[1], UserError) and isinstance(done[2], asyncio.CancelledError)
    expected = [await local.act(start(2)), await local.act(start(4))]
    assert [done[0].ids, done[3].ids] == [c.ids for c in expected]  # type: ignore[union-attr]
    assert (await slots.act(start(3))).ids == (await local.act(start(3))).ids


async def test_what_fails_in_the_model_reaches_every_episode_and_passes() -> None:
    slots, local = pair(temperature=0.9, seed=0)
    working = slots._read
    calls = iter(range(1000))

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 1:
            raise RuntimeError("out of memory")
        return working(*args, **kwargs)

    slots._read = failing  # type: ignore[method-assign]
    done = await asyncio.gather(*(slots.act(start(n)) for n in range(1, 4)), return_exceptions=True)
    assert any(isinstance(d, RuntimeError) for d in done)
    assert all(isinstance(d, RuntimeError | Completion) for d in done)
    assert_same([[await slots.act(start(1))]], [[await local.act(start(1))]])


async def test_a_full_window_ends_the_episode() -> None:
    _, local = pair()
    used = (await local.act(start(1))).prompt_tokens or 0
    tight, _ = pair(context=used + 3)
    assert (await tight.act(start(1))).finish in ("context", "stop")
    full, _ = pair(context=used)
    assert (await full.act(start(1))).finish == "context"


async def test_eager_attention_works_too() -> None:
    slots, local = pair(temperature=0.9)
    slots.model.set_attn_implementation("eager")
    try:
        eager = await asyncio.gather(*(play(slots, seed) for seed in range(4)))
    finally:
        slots.model.set_attn_implementation("sdpa")
    assert_same(eager, await asyncio.gather(*(play(local, seed) for seed in range(4))))


def test_the_policy_outlives_event_loops() -> None:
    slots, _ = pair()
    assert asyncio.run(slots.act(start(3))).ids == asyncio.run(slots.act(start(3))).ids


def test_what_cannot_be_kept_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    processor = tiny_processor()
    sliding = tiny_model(tokenizer)
    sliding.config.get_text_config().layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(UserError, match="sliding_attention"):
        SlotPolicy(sliding, tokenizer, processor)
    other = tiny_model(tokenizer)
    other.config.model_type = "gemma9"
    with pytest.raises(UserError, match="gemma9"):
        SlotPolicy(other, tokenizer, processor)
    with pytest.raises(UserError, match="0 slots"):
        SlotPolicy(tiny_model(tokenizer), tokenizer, processor, slots=0)
