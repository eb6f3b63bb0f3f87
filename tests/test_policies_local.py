"""The local policy on tiny random checkpoints: the real library, the real loop, exact tokens."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import Idefics3Processor

from checkpoints import FAMILIES, GRIDS, TILED, tiny_checkpoint, tiny_model, tiny_parts, tiny_processor
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.policies.agent_card import AgentCard, read_card
from deepmmsearch.policies.local import LocalPolicy, TokenReader
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing import contract
from deepmmsearch.types import Completion, Malformed, Observation, Question, TextSearch, Trajectory, Turn

torch.set_num_threads(1)


def make(family: str = "qwen2_5_vl", **settings: Any) -> LocalPolicy:
    tokenizer, processor = tiny_parts(family)
    return LocalPolicy(tiny_model(tokenizer, family), tokenizer, processor, **{"max_new_tokens": 12, **settings})


@pytest.fixture(scope="module")
def policy() -> LocalPolicy:
    return make()


def picture(seed: int) -> Image.Image:
    shuffled = random.Random(seed)
    size = shuffled.randrange(30, 300), shuffled.randrange(30, 300)
    return Image.frombytes("RGB", size, shuffled.randbytes(size[0] * size[1] * 3))


def start(seed: int, **metadata: object) -> Trajectory:
    image = picture(seed) if seed % 4 else None
    question = Question(
        f"q{seed}", "What is it? " * (1 + seed % 5), (image,) if image is not None else (), metadata=metadata
    )
    return Trajectory(question, load_prompt("atlas"))


def go_on(trajectory: Trajectory, completion: Completion, *pictures: Image.Image) -> Trajectory:
    turn = Turn(completion, TextSearch("x"), Observation("[1] A fact.", images=pictures))
    return replace(trajectory, turns=(*trajectory.turns, turn))


async def play(policy: LocalPolicy, seed: int, turns: int = 3) -> list[Completion]:
    trajectory, said = start(seed), []
    for turn in range(turns):
        said.append(await policy.act(trajectory))
        shown = [picture(100 + seed)] if turn == seed % 3 else []
        trajectory = go_on(trajectory, said[-1], *shown)
    return said


def processed(policy: LocalPolicy, trajectory: Trajectory) -> tuple[list[int], dict[str, Any]]:
    """The prompt's ids and the model's further arguments, as the library's own processor makes them of the text."""
    sequence = policy.renderer.sequence(trajectory)
    family = policy.model.config.model_type
    if not sequence.images:
        return list(sequence.ids), {}
    if family in TILED:
        tokenizer, pictures = tiny_parts(family)
        library = Idefics3Processor(pictures, tokenizer, image_seq_len=4)
        alone = [library(text="<image>", images=[image], add_special_tokens=False) for image in sequence.images]
        made = library(text="<image>" * len(alone), images=[list(sequence.images)], return_tensors="pt")
        pixels = {name: made[name] for name in ("pixel_values", "pixel_attention_mask")}
        return policy.renderer.expand(sequence.ids, [one["input_ids"][0] for one in alone]), pixels
    pixels = dict(tiny_parts(family)[1](images=list(sequence.images), return_tensors="pt"))
    counts = [int(g.prod()) // 4 for g in pixels["image_grid_thw"]] if family in GRIDS else [16] * len(sequence.images)
    prompt = policy.renderer.expand(sequence.ids, counts)
    if family in GRIDS:
        pixels["mm_token_type_ids"] = torch.tensor([prompt]).eq(policy.renderer.image_id or 0).int()
    return prompt, pixels


def independent_logprobs(policy: LocalPolicy, trajectory: Trajectory, completion: Completion) -> list[float]:
    """By one forward pass over everything, pictures as pixels, without padding, cache or our positions."""
    prompt, pixels = processed(policy, trajectory)
    assert completion.prompt_tokens == len(prompt)
    ids = torch.tensor([[*prompt, *(completion.ids or ())]])
    if "mm_token_type_ids" in pixels:
        pixels["mm_token_type_ids"] = (ids == policy.renderer.image_id).int()
    with torch.no_grad():
        logits = policy.model(input_ids=ids, **pixels).logits[0, len(prompt) - 1 : -1].float()
    logits[:, policy._banned] = -torch.inf
    scaled = torch.log_softmax(logits / (policy.temperature or 1), -1)
    return scaled.gather(1, ids[0, len(prompt) :, None])[:, 0].tolist()


@pytest.mark.parametrize("family", FAMILIES)
async def test_tokens_and_logprobs_are_those_of_the_model(family: str) -> None:
    policy = make(family, temperature=0.8)
    for seed in range(4):
        trajectory = start(seed)
        for turn in range(2):
            completion = await policy.act(trajectory)
            assert completion.ids and len(completion.ids) == len(completion.logprobs or ())
            expected = independent_logprobs(policy, trajectory, completion)
            assert completion.logprobs == pytest.approx(expected, abs=2e-4)
            trajectory = go_on(trajectory, completion, *[picture(50 + seed)] * turn)


@pytest.mark.parametrize("family", FAMILIES)
async def test_greedy_in_batches_equals_one_by_one(family: str) -> None:
    together, alone = make(family), make(family)
    seeds = range(24)
    batched = await asyncio.gather(*(play(together, seed) for seed in seeds))
    for seed in seeds:
        single = await play(alone, seed)
        assert [c.ids for c in batched[seed]] == [c.ids for c in single]
    assert len({c.ids for said in batched for c in said}) > 20, "the model must not say the same everywhere"


@pytest.mark.parametrize("check", contract.POLICY, ids=lambda check: check.__name__)
def test_what_holds_for_every_policy(policy: LocalPolicy, check: contract.Check[contract.PolicyCase]) -> None:
    check(contract.PolicyCase(policy, start(0)))


async def test_greedy_equals_generate_of_the_library(policy: LocalPolicy) -> None:
    for seed in range(5):
        trajectory = start(seed)
        sequence = policy.renderer.sequence(trajectory)
        pixels = tiny_processor()(images=list(sequence.images), return_tensors="pt") if sequence.images else {}
        counts = [int(g.prod()) // 4 for g in pixels.get("image_grid_thw", [])]
        ids = torch.tensor([policy.renderer.expand(sequence.ids, counts)])
        kinds = {"mm_token_type_ids": (ids == policy.renderer.image_id).int()} if pixels else {}
        out = policy.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **pixels,
            **kinds,
            max_new_tokens=12,
            do_sample=False,
            suppress_tokens=policy._banned,
            eos_token_id=sorted(policy._ends),
        )
        assert (await policy.act(trajectory)).ids == tuple(out[0, ids.shape[1] :].tolist())


async def test_samples_depend_on_the_place_in_the_episode_alone() -> None:
    policy = make(temperature=1.0, max_batch=5)
    seeds = range(12)
    once = await asyncio.gather(*(play(policy, seed) for seed in seeds))
    again = [await play(policy, seed) for seed in reversed(seeds)][::-1]
    assert [[c.ids for c in said] for said in once] == [[c.ids for c in said] for said in again]
    rollouts = await asyncio.gather(*(policy.act(start(1, rollout=n)) for n in range(6)))
    assert len({c.ids for c in rollouts}) == 6
    other = make(temperature=1.0, seed=1)
    assert (await other.act(start(1))).ids != (await policy.act(start(1))).ids


async def test_what_would_break_the_conversation_is_never_sampled() -> None:
    policy = make(temperature=50.0, max_new_tokens=200)
    said = await asyncio.gather(*(policy.act(start(seed)) for seed in range(8)))
    sampled = {i for c in said for i in c.ids or ()}
    names = ("<|im_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|endoftext|>")
    assert not sampled & set(policy.tokenizer.convert_tokens_to_ids(list(names)))
    assert len(sampled) > 100 and max(sampled) < len(policy.tokenizer)


async def test_how_a_turn_ends(policy: LocalPolicy) -> None:
    end = policy.renderer.end_id
    loud = make(max_new_tokens=40)
    with torch.no_grad():
        loud.model.lm_head.weight[end] = 0
        loud.model.lm_head.weight[:end] = 0
        loud.model.lm_head.weight[end + 1 :] = 0
    completion = await loud.act(start(1))  # all logits equal: the lowest id that is allowed
    assert completion.ids == (end,) and completion.text == "" and completion.finish == "stop"

    completion = await policy.act(start(1))
    assert completion.finish == "length" and len(completion.ids or ()) == 12

    used = completion.prompt_tokens or 0
    tight = make(context=used + 5)
    completion = await tight.act(start(1))
    assert completion.finish == "context" and len(completion.ids or ()) == 5
    for room in (0, -3):
        full = await make(context=used + room).act(start(1))
        assert (full.finish, full.ids, full.text) == ("context", (), "")


async def test_text_is_the_ids_without_the_end(policy: LocalPolicy) -> None:
    completion = await policy.act(start(2))
    assert completion.text == policy.tokenizer.decode(list(completion.ids or ()))
    assert "<|im_end|>" not in completion.text


async def test_a_cancelled_episode_leaves_the_others_alone(policy: LocalPolicy) -> None:
    expected = [(await policy.act(start(seed))).ids for seed in range(4)]
    tasks = [asyncio.create_task(policy.act(start(seed))) for seed in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(done[1], asyncio.CancelledError)
    assert [c.ids for i, c in enumerate(done) if i != 1] == [e for i, e in enumerate(expected) if i != 1]
    assert (await policy.act(start(1))).ids == expected[1]


async def test_one_bad_trajectory_fails_alone(policy: LocalPolicy) -> None:
    bad = replace(start(1), turns=(Turn(Completion("no ids"), Malformed("x"), Observation("Error: x")),))
    results = await asyncio.gather(policy.act(bad), policy.act(start(2)), return_exceptions=True)
    assert isinstance(results[0], UserError) and isinstance(results[1], Completion)


def test_the_policy_outlives_event_loops(policy: LocalPolicy) -> None:
    assert asyncio.run(policy.act(start(3))).ids == asyncio.run(policy.act(start(3))).ids


async def test_complete_answers_a_conversation(policy: LocalPolicy) -> None:
    image = picture(7)
    parts = [{"type": "image"}, {"type": "text", "text": "Locate it."}]
    completion = await policy.complete([{"role": "user", "content": parts}], [image])
    width, height = policy.view(image).size
    assert completion.ids and width % 28 == height % 28 == 0
    text_only = await policy.complete([{"role": "user", "content": parts[1:]}])
    assert (completion.prompt_tokens or 0) - (text_only.prompt_tokens or 0) == width * height // 784 + 2


def test_a_checkpoint_folder_loads_with_its_card(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "small", prompt="atlas", max_new_tokens=7, max_pixels=56 * 56, min_pixels=784)
    policy = LocalPolicy.load(folder)
    assert policy.card == AgentCard("atlas", None, 7, 784, 56 * 56)
    assert policy.model.dtype == torch.float32
    assert policy.view(Image.new("RGB", (500, 500))).size == (56, 56)
    assert len(asyncio.run(policy.act(start(1))).ids or ()) == 7


def test_an_adapter_is_merged(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    folder = tiny_checkpoint(tmp_path / "base")
    plain = LocalPolicy.load(folder, max_new_tokens=12)
    tuned = get_peft_model(LocalPolicy.load(folder).model, LoraConfig(r=2, target_modules=["q_proj", "o_proj"]))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    tuned.save_pretrained(tmp_path / "adapter")
    merged = LocalPolicy.load(folder, adapter=tmp_path / "adapter", max_new_tokens=12)
    assert asyncio.run(merged.act(start(1))).ids != asyncio.run(plain.act(start(1))).ids
    with pytest.raises(UserError, match="not an adapter"):
        LocalPolicy.load(folder, adapter=tmp_path)


def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "small")
    with pytest.raises(UnknownName, match=r"Did you mean .*small'"):
        LocalPolicy.load(tmp_path / "smal")
    with pytest.raises(UserError, match=r"no config\.json"):
        LocalPolicy.load(tmp_path)
    with pytest.raises(UserError, match="No vision-language model could be loaded from 'someone/nothing'"):
        LocalPolicy.load("someone/nothing")
    with pytest.raises(UnknownName, match="Did you mean 'float32'"):
        LocalPolicy.load(folder, dtype="float23")
    with pytest.raises(UserError, match="device 'abacus'"):
        LocalPolicy.load(folder, device="abacus")
    with pytest.raises(UserError, match="temperature"):
        LocalPolicy.load(folder, temperature=-1)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="small"):
        LocalPolicy.load(folder)


def test_cards_are_checked(tmp_path: Path) -> None:
    card = tmp_path / "agent.json"
    assert read_card(tmp_path) == AgentCard()
    card.write_text('{"promt": "atlas"}')
    with pytest.raises(UnknownName, match="Did you mean 'prompt'"):
        read_card(tmp_path)
    card.write_text('{"max_pixels": "many"}')
    with pytest.raises(UserError, match="a whole number above 0 is expected"):
        read_card(tmp_path)
    card.write_text('{"max_pixels": 784, "min_pixels": 3136}')
    with pytest.raises(UserError, match="min_pixels is 3136, above max_pixels"):
        read_card(tmp_path)
    card.write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_card(tmp_path)


def test_pieces_of_a_word_level_tokenizer_keep_their_blanks(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tiny_checkpoint(tmp_path / "small")
    words = ["[UNK]", "<|im_end|>", "<|image_pad|>", "the", "flag", "of", "Nil", "##zis"]
    small = Tokenizer(models.WordPiece(vocab={w: i for i, w in enumerate(words)}, unk_token="[UNK]"))  # type: ignore[call-arg]
    small.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    small.decoder = decoders.WordPiece()  # type: ignore[assignment]
    small.add_special_tokens(words[1:3])
    fast = PreTrainedTokenizerFast(tokenizer_object=small, eos_token="<|im_end|>", unk_token="[UNK]")
    template = "{% for m in messages %}{{ m['content'][0]['text'] }}<|im_end|>{% endfor %}"
    fast.chat_template = template
    fast.save_pretrained(folder)
    reader = TokenReader(folder)
    ids = fast.encode("the flag of Nilzis", add_special_tokens=False)
    assert "".join(reader.pieces(ids)) == "the flag of Nilzis" and len(ids) == 5
    assert reader.pieces([]) == []
