"""The bundled model's making: a word-level tokenizer, a Qwen2.5-VL of 4 M parameters, and where its weights start.

Nothing here is special at run time: the result is an ordinary checkpoint that transformers loads. What is special is
the start. A small transformer learns to copy unseen names within minutes, instead of hours, when it starts from a
working induction circuit (Olsson et al. 2022), and learns to read pictures when the vision tower speaks the
embeddings' language.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionPatchEmbed,
    Qwen2_5_VLVisionAttention,
    apply_rotary_pos_emb_vision,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from deepmmsearch.atlas import drawing, world
from deepmmsearch.atlas.names import FAMOUS, FIRST, SECOND
from deepmmsearch.files import replacing

PATCH, MERGE = 14, 2
VIEW = (168, 112)
GRID = (VIEW[1] // (PATCH * MERGE), VIEW[0] // (PATCH * MERGE))
"""Merged image tokens of a scene: 4 rows, 6 columns; a cell of the scene is 2 x 2 of them."""

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TAGS = ("reason", "img_search", "img", "text_search", "answer", "information", "search")
BARE_BOX = '{"bbox_2d": ['
LABEL, BOX = '{"label": "', '", "bbox_2d": ['
"""A box in Qwen2.5-VL's JSON, the label first: what is pointed at stands right before where it is."""
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = """
system user assistant Answer the question about image Search search when you do not know text or answer again Write
one reason and action without What Who is of country whose flag on shown with this Name I want to Which has belong
does How many flags are there Count main colour covers most carries at thing under name building person There no one
two three four five so whole see a The shows portrait need result in It former was Some say that For economy people
pay match similar view Nothing found No region for searched Error already use Unable due lack relevant information
help metres Republic Locate Output its bounding box JSON label looks like stands called also known an as by from its
not copy find list none want rewrite query says which describe nothing picture page report sun background emblem
field coat hair hat crown A In Both That These Text Use m To know
""".split()


def vocabulary() -> list[str]:
    """All tokens in order: special, whole words, first syllables, second syllables, numbers, single characters."""
    words = set(WORDS) | set(drawing.COLOURS) | set(drawing.CARRIERS) | set(drawing.LAYOUTS) | set(drawing.EMBLEMS)
    words |= set(drawing.FAMOUS_LAYOUTS) | set(drawing.BUILDINGS) | set(" ".join(drawing.POSITIONS).split())
    words |= {r for relations in world.RELATIONS.values() for r in relations} | set(world.RELATIONS)
    words |= {name for country, facts in FAMOUS.items() for name in (country, *facts.values())}
    characters = [chr(i) for i in range(33, 127)]
    parts = ["[UNK]", *sorted(words), *FIRST, *(f"##{s}" for s in SECOND), *(str(n) for n in range(VIEW[0] + 1))]
    parts += [*characters, *(f"##{c}" for c in characters if c.isalnum()), "bbox", "2d"]
    return list(dict.fromkeys([*SPECIAL, *parts]))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, names as two syllables. Tags are ordinary tokens, because some decoders skip special ones."""
    vocab = {token: i for i, token in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]", continuing_subword_prefix="##"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    plain = (
        [f"<{slash}{tag}>" for tag in TAGS for slash in ("", "/")]
        + [BARE_BOX]
        + [f"[{i}]" for i in range(1, 10)]
        + [LABEL, BOX]
    )
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in plain])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="[UNK]",
        padding_side="left",
        additional_special_tokens=list(SPECIAL[1:]),
        model_max_length=2048,
    )
    fast.chat_template = TEMPLATE
    return fast


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


CODE = 8


def coordinate_code(share: Tensor) -> Tensor:
    """A coordinate in [0, 1] (any shape) as CODE smooth numbers (last axis): cosines and sines of four frequencies."""
    angles = share[..., None] * math.pi * torch.tensor([1.0, 2.0, 4.0, 8.0])
    return torch.cat([angles.cos(), angles.sin()], -1)


class Muon(torch.optim.Optimizer):
    """Muon (Jordan 2024) in float32 for matrices, batched over equal shapes; torch's own runs in bf16, which is
    slow on CPUs."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.01, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"])
                shapes.setdefault(tuple(sorted(p.shape)), []).append(
                    (p, update if p.shape[0] <= p.shape[1] else update.T)
                )
            for shape, rows in shapes.items():
                x = torch.stack([update for _, update in rows])
                x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
                for _ in range(5):
                    a = x @ x.mT
                    x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.775, alpha=2.0315), x, beta=3.4445)
                scale = 0.2 * max(shape) ** 0.5 * group["lr"]
                for (p, _), u in zip(rows, x, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(
                        u if p.shape[0] <= p.shape[1] else u.T, alpha=-scale
                    )


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
