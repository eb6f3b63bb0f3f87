"""Faster equals of two modules of Qwen2.5-VL's vision tower, for pictures of one size."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionPatchEmbed,
    Qwen2_5_VLVisionAttention,
    apply_rotary_pos_emb_vision,
)


class _BatchedVisionAttention(Qwen2_5_VLVisionAttention):
    """The same maths in one call for pictures of equal size; the library's own loops over pictures in Python."""

    def forward(
        self,
        hidden_states: Tensor,
        cu_seqlens: Tensor,
        position_embeddings: Any = None,
        max_seqlen: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        count = len(cu_seqlens) - 1
        length = hidden_states.shape[0] // count
        qkv = self.qkv(hidden_states).reshape(hidden_states.shape[0], 3, self.num_heads, -1).permute(1, 0, 2, 3)
        q, k, v = qkv.unbind(0)
        q, k = apply_rotary_pos_emb_vision(q, k, *position_embeddings)
        q, k, v = (x.reshape(count, length, self.num_heads, -1).transpose(1, 2) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(hidden_states.shape[0], -1)
        projected: Tensor = self.proj(out)
        return projected


class _LinearPatchEmbed(Qwen2_5_VisionPatchEmbed):
    """A convolution whose kernel equals its stride is a matrix product, which CPUs do far faster."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        weight = self.proj.weight
        return F.linear(
            hidden_states.reshape(hidden_states.shape[0], -1).to(weight.dtype), weight.reshape(weight.shape[0], -1)
        )


def speed_up_vision(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Exchanges two modules of this one model for faster equals with the same parameters; all pictures of a batch must
    then have the same size. A saved checkpoint does not know the difference."""
    visual: Any = model.model.visual
    visual.patch_embed.__class__ = _LinearPatchEmbed
    for block in visual.blocks:
        block.attn.__class__ = _BatchedVisionAttention
