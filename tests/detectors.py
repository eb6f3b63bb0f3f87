"""Tiny random Grounding DINO checkpoints, made on the spot: real architectures, no downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    SwinConfig,
)
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil
from transformers.utils import logging as transformers_logging

FAMILIES: dict[str, tuple[type, type]] = {
    "grounding-dino": (GroundingDinoConfig, GroundingDinoForObjectDetection),
    "mm-grounding-dino": (MMGroundingDinoConfig, MMGroundingDinoForObjectDetection),
}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "the", "flag", "on", "ship", "left")
SHORT, LONG = 64, 128
# What the last layer of every box head adds to the corners' logits: centre right and down, wider than high.
SHIFT = (0.2, 0.1, 0.9, 0.4)


def tiny_detector(folder: Path, family: str = "grounding-dino", seed: int = 0) -> Any:
    """A saved checkpoint; the model is returned too. Boxes depend on the picture and the words through their scores."""
    config, architecture = FAMILIES[family]
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    model = architecture(
        config(
            backbone_config=SwinConfig(
                image_size=SHORT, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
                out_indices=[2, 3, 4],
            ),
            text_config=BertConfig(
                vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                intermediate_size=32, max_position_embeddings=64,
            ),
            d_model=64, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=10, max_text_len=48,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for head in model.bbox_embed:
            head.layers[-1].bias.copy_(torch.tensor(SHIFT))
    (folder / "words.txt").write_text("\n".join(WORDS) + "\n")
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    model.save_pretrained(folder)
    if bars:
        transformers_logging.enable_progress_bar()
    BertTokenizer(str(folder / "words.txt")).save_pretrained(folder)
    GroundingDinoImageProcessorPil(size={"shortest_edge": SHORT, "longest_edge": LONG}).save_pretrained(folder)
    return model
