"""The bundled model's tokenizer: whole words, and names as two syllables."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from deepmmsearch.atlas import drawing, world
from deepmmsearch.atlas.names import FAMOUS, FIRST, SECOND
from deepmmsearch.bundled.small import VIEW

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
