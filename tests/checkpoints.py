"""Tiny random vision-language checkpoints, made on the spot: real architectures, no downloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils import logging as transformers_logging

from deepmmsearch.testing import tiny_tokenizer

HIDDEN = 32
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def tiny_model(tokenizer: Any, family: str = "qwen2_5_vl", seed: int = 0) -> PreTrainedModel:
    """About 60 k parameters, float32; logits are scaled so that the choices of a greedy decoder vary."""
    torch.manual_seed(seed)
    id_of = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer) + 3,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
        "bos_token_id": None,
        "eos_token_id": id_of("<|im_end|>"),
        "pad_token_id": id_of("<|endoftext|>"),
        "tie_word_embeddings": False,
    }
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2}
    ids = {
        "image_token_id": id_of("<|image_pad|>"),
        "video_token_id": id_of("<|video_pad|>"),
        "vision_start_token_id": id_of("<|vision_start|>"),
        "vision_end_token_id": id_of("<|vision_end|>"),
        "tie_word_embeddings": False,
    }
    model: PreTrainedModel
    if family == "qwen2_vl":
        vision |= {"embed_dim": 16, "hidden_size": HIDDEN, "mlp_ratio": 2}
        model = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision, **ids))
    elif family == "qwen3_vl":
        text |= {"head_dim": 8}
        vision |= {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": HIDDEN}
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
        model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision, **ids))
    else:
        vision |= {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": HIDDEN, "window_size": 56}
        vision |= {"fullatt_block_indexes": [1]}
        model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.3 if "embed" in name or "lm_head" in name else 0.15)
    return model.eval()


def tiny_processor() -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil(patch_size=14, size={"shortest_edge": 28 * 28, "longest_edge": 112 * 84})


def tiny_checkpoint(folder: Path, family: str = "qwen2_5_vl", seed: int = 0, **card: object) -> Path:
    tokenizer = tiny_tokenizer()
    transformers_logging.disable_progress_bar()
    tiny_model(tokenizer, family, seed).save_pretrained(folder)
    transformers_logging.enable_progress_bar()
    tokenizer.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    if card:
        (folder / "agent.json").write_text(json.dumps(card))
    return folder
