"""Tiny random vision-language checkpoints, made on the spot: real architectures, no downloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
    VipLlavaConfig,
    VipLlavaForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils import logging as transformers_logging

from deepmmsearch.testing import tiny_tokenizer

HIDDEN = 32
GRIDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
FAMILIES = (*GRIDS, "llava", "idefics3", "smolvlm")
TILED = ("idefics3", "smolvlm")
# SmolVLM-Instruct's, with a system message of its own form as other models have it
TILED_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}<image>{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


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
    if family in ("llava", "vipllava", *TILED):
        model = _square(family, text, id_of("<image>" if family in TILED else "<|image_pad|>"))
    elif family == "qwen2_vl":
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


def _square(family: str, text: dict[str, Any], image_token: int) -> PreTrainedModel:
    """Models whose pictures are squares of 28 pixels: one each (LLaVA), or as many as it takes."""
    rotary = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
    language = LlamaConfig(**text | rotary)
    shape: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 7}
    if family == "vipllava":
        tower = CLIPVisionConfig(**shape, projection_dim=16)
        settings = {"vision_config": tower, "text_config": language, "image_token_index": image_token}
        return VipLlavaForConditionalGeneration(VipLlavaConfig(**settings, vision_feature_layers=[-1, -2]))
    if family == "llava":
        tower = CLIPVisionConfig(**shape, projection_dim=16)
        return LlavaForConditionalGeneration(
            LlavaConfig(vision_config=tower, text_config=language, image_token_index=image_token)
        )
    settings = {"text_config": language.to_dict(), "vision_config": shape, "image_token_id": image_token}
    settings |= {"scale_factor": 2, "tie_word_embeddings": False}
    if family == "smolvlm":
        return SmolVLMForConditionalGeneration(SmolVLMConfig(**settings))
    return Idefics3ForConditionalGeneration(Idefics3Config(**settings))


def tiny_parts(family: str = "qwen2_5_vl") -> tuple[Any, Any]:
    """Tokenizer and image processor."""
    if family in ("llava", "vipllava"):
        return tiny_tokenizer(), CLIPImageProcessorPil(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
        )
    if family in TILED:
        kind = SmolVLMImageProcessorPil if family == "smolvlm" else Idefics3ImageProcessorPil
        return tiled_tokenizer(), kind(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    return tiny_tokenizer(), tiny_processor()


def tiny_checkpoint(folder: Path, family: str = "qwen2_5_vl", seed: int = 0, **card: object) -> Path:
    tokenizer, processor = tiny_parts(family)
    transformers_logging.disable_progress_bar()
    tiny_model(tokenizer, family, seed).save_pretrained(folder)
    transformers_logging.enable_progress_bar()
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    if card:
        (folder / "agent.json").write_text(json.dumps(card))
    return folder


def tiled_tokenizer() -> Any:
    """With what stands around the tiles of a picture, and Idefics3's template of a conversation."""
    tokenizer = tiny_tokenizer(TILED_TEMPLATE)
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    named = ["<fake_token_around_image>", "<global-img>", "<image>", "<end_of_utterance>", *places]
    tokenizer.add_special_tokens({"additional_special_tokens": named}, replace_extra_special_tokens=False)
    return tokenizer
