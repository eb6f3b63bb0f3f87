"""Policies, tools and a tokenizer that need no model and no network: library code, not mocks.

transformers and hypothesis are imported only by the functions that need them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL.Image import Image

from deepmmsearch.agent import Toolbox
from deepmmsearch.errors import MissingExtra, ToolError, UserError
from deepmmsearch.tools.base import Page
from deepmmsearch.types import Box, Completion, Hit, Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# The chat template that Qwen2.5-VL checkpoints carry, and a minimal one without line ends, as small models use.
QWEN2_5_VL_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}"
    "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMALL_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} {% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


class ScriptedPolicy:
    """Writes the given turns in order, whatever comes back.

    It looks at the trajectory alone, so one policy may play many episodes at once. Raises UserError when the episode
    is longer than the script.
    """

    def __init__(self, *script: str | Completion) -> None:
        self.script = script

    async def act(self, trajectory: Trajectory) -> Completion:
        number = len(trajectory.turns)
        if number >= len(self.script):
            raise UserError(f"The script has {len(self.script)} turns, but turn {number + 1} was asked for.")
        line = self.script[number]
        return line if isinstance(line, Completion) else Completion(line)


@dataclass
class FakeTools:
    """All five tools from what they are told to find; `asked` records every call as (tool, argument).

    `texts` and `pictures`: hits by query and for any image. `boxes`: by phrase. `pages`: by address. `summaries`: by
    passage (default: its first sentence). `failing` names the tools that raise ToolError: text, image, grounding,
    reader, summary.
    """

    texts: Mapping[str, Sequence[Hit]] = field(default_factory=dict)
    pictures: Sequence[Hit] = ()
    boxes: Mapping[str, Sequence[Box]] = field(default_factory=dict)
    pages: Mapping[str, str] = field(default_factory=dict)
    summaries: Mapping[str, str] = field(default_factory=dict)
    failing: frozenset[str] = frozenset()
    asked: list[tuple[str, object]] = field(default_factory=list)

    def toolbox(self) -> Toolbox:
        return Toolbox(_Texts(self), _Pictures(self), _Boxes(self), _Pages(self), _Summaries(self))

    def ask(self, tool: str, argument: object) -> None:
        self.asked.append((tool, argument))
        if tool in self.failing:
            raise ToolError(f"The {tool} tool is down.")


@dataclass(frozen=True)
class _Texts:
    fake: FakeTools

    async def search(self, query: str, k: int) -> list[Hit]:
        self.fake.ask("text", query)
        return list(self.fake.texts.get(query, ()))[:k]


@dataclass(frozen=True)
class _Pictures:
    fake: FakeTools

    async def search(self, image: Image, k: int) -> list[Hit]:
        self.fake.ask("image", image)
        return list(self.fake.pictures)[:k]


@dataclass(frozen=True)
class _Boxes:
    fake: FakeTools

    async def locate(self, image: Image, phrase: str) -> list[Box]:
        self.fake.ask("grounding", phrase)
        return list(self.fake.boxes.get(phrase, ()))


@dataclass(frozen=True)
class _Pages:
    fake: FakeTools

    async def read(self, url: str) -> Page:
        self.fake.ask("reader", url)
        if url not in self.fake.pages:
            raise ToolError(f"There is no page at {url}.")
        return Page(url, "", self.fake.pages[url])


@dataclass(frozen=True)
class _Summaries:
    fake: FakeTools

    async def summarize(self, question: str, query: str, passages: Sequence[str]) -> list[str]:
        self.fake.ask("summary", (question, query, tuple(passages)))
        return [self.fake.summaries.get(p, p.split(". ")[0]) for p in passages]


def tiny_tokenizer(chat_template: str = QWEN2_5_VL_TEMPLATE) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of some 280 tokens with Qwen's special tokens and the protocol's tags, made on the spot.

    Every text survives encoding and decoding. The tags are ordinary tokens, because decoders skip special ones.
    """
    try:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        raise MissingExtra("The tiny tokenizer", "local") from None

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate((*SPECIAL_TOKENS, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    # add_prefix_space would make a text encode differently in pieces than as a whole.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    names = ("reason", "img_search", "text_search", "answer", "information")
    tags = ["<img>", *(f"<{slash}{name}>" for name in names for slash in ("", "/"))]
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in tags])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        chat_template=chat_template,
    )
