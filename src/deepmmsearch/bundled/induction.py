"""Where the small model's weights start: a working induction circuit, and numbers on a smooth curve.

A small transformer learns to copy unseen names within minutes, instead of hours, when it starts from a working circuit
(Olsson et al. 2022), and learns to read pictures when the vision tower speaks the embeddings' language (`alignment`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from deepmmsearch.bundled.small import VIEW

CODE = 8


def coordinate_code(share: Tensor) -> Tensor:
    """A coordinate in [0, 1] (any shape) as CODE smooth numbers (last axis): cosines and sines of four frequencies."""
    angles = share[..., None] * math.pi * torch.tensor([1.0, 2.0, 4.0, 8.0])
    return torch.cat([angles.cos(), angles.sin()], -1)


@torch.no_grad()
def start_with_induction(
    model: Qwen2_5_VLForConditionalGeneration, numbers: dict[int, int], gain: float = 0.25, seed: int = 0
) -> None:
    """Sets the first two layers to an n-gram induction circuit. The residual stream is blocks of 32 dimensions.

    Block 0 holds the token's identity. Five heads of layer 0 copy the token 1..5 places back into blocks 1..5
    (attention by offset, through the biases and RoPE). The heads of layer 1 attend to where the tokens before equal the
    current ones and copy what stood there into block 0: the next token. `numbers`: value -> token id; their identities
    lie on a smooth curve, so that coordinates can be read off a picture by a linear map.
    """
    gen = torch.Generator().manual_seed(seed)
    lm: Any = model.model.language_model
    config = lm.config
    heads, width = config.num_attention_heads, config.hidden_size
    size = width // heads
    half = size // 2
    freq = config.rope_parameters["rope_theta"] ** (-torch.arange(half) / half)
    sharp = torch.tensor([8.0, 8, 6, 4] + [2.0] * (half - 4))
    table = lm.embed_tokens.weight
    table.copy_(0.02 * torch.randn(*table.shape, generator=gen))
    table[:, :size] = 0.25 * torch.randn(table.shape[0], size, generator=gen)
    spread = torch.linalg.qr(torch.randn(size, CODE, generator=gen))[0]
    for value, token in numbers.items():
        table[token, :size] = 0.6 * spread @ coordinate_code(torch.tensor(value / VIEW[0])) + 0.1 * table[token, :size]
    eye = torch.eye(size)
    first = lm.layers[0].self_attn
    for h in range(5):
        s, offset = slice(h * size, (h + 1) * size), h + 1
        first.k_proj.bias[s] = torch.cat([sharp, torch.zeros(half)])
        first.q_proj.bias[s] = torch.cat([sharp * (offset * freq).cos(), -sharp * (offset * freq).sin()])
        first.v_proj.weight[s] *= 0.1
        first.v_proj.weight[s, :size] += eye
        first.o_proj.weight[:, s] *= 0.1
        first.o_proj.weight[offset * size : (offset + 1) * size, s] += 0.1 * eye
    second = lm.layers[1].self_attn
    slow = [i for i in range(half) if freq[i] < 0.008]
    dims = torch.tensor(slow + [i + half for i in slow])
    weights = (1.2, 1.0, 1.0, 0.3, 1.0)
    for h in range(heads):
        query, key = torch.zeros(size, width), torch.zeros(size, width)
        for offset, weight in enumerate(weights):
            match = gain * weight**0.5 * torch.randn(len(dims), size, generator=gen)
            query[dims, offset * size : (offset + 1) * size] = match
            key[dims, (offset + 1) * size : (offset + 2) * size] = match
        s = slice(h * size, (h + 1) * size)
        second.q_proj.weight[s] = second.q_proj.weight[s] * 0.3 + query
        second.k_proj.weight[s] = second.k_proj.weight[s] * 0.3 + key
        second.v_proj.weight[s] *= 0.1
        second.v_proj.weight[s, :size] += eye
        second.o_proj.weight[:, s] *= 0.1
        second.o_proj.weight[:size, s] += 0.125 * eye
