"""What may be sampled of a model: how much, which tokens end a turn, and which must not be."""

from __future__ import annotations

from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from deepmmsearch.policies.local.families import Family


class Stated(Protocol):
    """What a model says of itself, with or without weights."""

    @property
    def config(self) -> Any: ...
    @property
    def generation_config(self) -> Any: ...


def window(model: Stated, tokenizer: PreTrainedTokenizerBase) -> int:
    longest = int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 32768)
    # tokenizers without a limit say 1e30
    return min(longest, int(tokenizer.model_max_length)) if tokenizer.model_max_length < 1e9 else longest


def end_ids(model: Stated, end_of_turn: int) -> frozenset[int]:
    stated = model.generation_config.eos_token_id if model.generation_config else None
    return frozenset([end_of_turn, *(stated if isinstance(stated, list) else [stated] if stated is not None else [])])


def banned_ids(model: Stated, family: Family, ends: frozenset[int], image_id: int | None) -> list[int]:
    """What would break the conversation if it were sampled: placeholders, the start of a turn, padding, and rows of the
    embedding that are no token."""
    config, tokenizer = model.config, family.tokenizer
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id", "vision_token_id")
    found = {getattr(config, n, None) for n in names} | {image_id, tokenizer.pad_token_id, *family.markers}
    found |= {tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<start_of_turn>", "<|vision_pad|>")}
    found -= {tokenizer.unk_token_id}
    rows = int(config.get_text_config().vocab_size)
    real = {int(i) for i in found if i is not None and i < rows} - ends
    return sorted(real | set(range(len(tokenizer), rows)))
