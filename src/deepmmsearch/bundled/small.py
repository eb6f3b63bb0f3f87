"""The bundled model: a Qwen2.5-VL of 4 M parameters, what it sees of a picture, and how it is saved.

Nothing here is special at run time: the result is an ordinary checkpoint that transformers loads. What is special is
where its weights start (`induction`, `alignment`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from deepmmsearch.files import replacing

PATCH, MERGE = 14, 2
VIEW = (168, 112)
GRID = (VIEW[1] // (PATCH * MERGE), VIEW[0] // (PATCH * MERGE))
"""Merged image tokens of a scene: 4 rows, 6 columns; a cell of the scene is 2 x 2 of them."""


def build_image_processor() -> Qwen2VLImageProcessorPil:
    size = {"shortest_edge": (2 * PATCH * MERGE) ** 2, "longest_edge": VIEW[0] * VIEW[1]}
    return Qwen2VLImageProcessorPil(patch_size=PATCH, merge_size=MERGE, temporal_patch_size=2, size=size)


_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def patchify(image: Image.Image) -> np.ndarray:
    """The picture as Qwen2-VL's image processor gives it, (patches, 3 * 2 * 14 * 14) float32; the sides must be
    multiples of 28."""
    pixels = ((np.asarray(image, np.float32) / 255 - _MEAN) / _STD).transpose(2, 0, 1)
    rows, columns = pixels.shape[1] // PATCH, pixels.shape[2] // PATCH
    blocks = pixels.reshape(3, rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH)
    blocks = blocks.transpose(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
    blocks = np.broadcast_to(blocks, (*blocks.shape[:5], 2, PATCH, PATCH))
    return np.ascontiguousarray(blocks.reshape(rows * columns, -1))


def build_model(
    tokenizer: PreTrainedTokenizerFast, hidden: int = 256, layers: int = 5, inner: int = 512
) -> Qwen2_5_VLForConditionalGeneration:
    """Heads of 32 dimensions; embeddings tied. With the defaults about 4 M parameters."""
    id_of = tokenizer.convert_tokens_to_ids
    heads, half = hidden // 32, 16
    text: dict[str, Any] = {
        "vocab_size": (len(tokenizer) + 15) // 16 * 16,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [half - 12, 6, 6]},
        "bos_token_id": None,
        "eos_token_id": id_of("<|im_end|>"),
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }
    vision: dict[str, Any] = {
        "depth": 3,
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_heads": 3,
        "out_hidden_size": hidden,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "window_size": 224,
        "fullatt_block_indexes": [0, 1, 2],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=id_of("<|image_pad|>"),
        video_token_id=id_of("<|video_pad|>"),
        vision_start_token_id=id_of("<|vision_start|>"),
        vision_end_token_id=id_of("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def save_checkpoint(
    folder: Path, model: Any, tokenizer: PreTrainedTokenizerFast, card: dict[str, Any], dtype: torch.dtype | None = None
) -> None:
    """An ordinary checkpoint folder: weights, config, tokenizer, image processor, and agent.json with the agent's
    settings; whole or not at all."""
    import copy
    import json

    with replacing(folder) as draft:
        (copy.deepcopy(model).to(dtype) if dtype else model).save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        build_image_processor().save_pretrained(draft)
        (draft / "agent.json").write_text(json.dumps(card, indent=2) + "\n")
