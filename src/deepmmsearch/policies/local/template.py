"""A checkpoint's chat template, which its maker wrote: rendered in a process that can be killed."""

from __future__ import annotations

import hashlib
from typing import Any

from transformers import PreTrainedTokenizerBase

from deepmmsearch.policies.bounded import render
from deepmmsearch.renderer import Message, Template

# the bundled model's and those of what was trained from it, which need no such care
_OURS = frozenset(("de166e9055c1a90c3dfd1bea7987958292ea171cc8c8d01d1a30b5a15bfdd48f",))


def template_of(tokenizer: PreTrainedTokenizerBase) -> Template | None:
    """What renders a conversation as the tokenizer would; None for our own template, which the tokenizer renders.

    It raises ValueError for what the template cannot render, also because it takes too long.
    """
    if not tokenizer.chat_template:
        return None  # the tokenizer says so in its own words
    template = tokenizer.get_chat_template()
    if hashlib.sha256(template.encode("utf-8", "replace")).hexdigest() in _OURS:
        return None
    special: dict[str, Any] = {name: _plain(token) for name, token in tokenizer.special_tokens_map.items()}

    def rendered(conversation: list[Message], reply: bool) -> str:
        names = {**special, "messages": conversation, "tools": None, "documents": None, "add_generation_prompt": reply}
        return render(template, names)

    return rendered


def _plain(token: Any) -> Any:
    return [str(each) for each in token] if isinstance(token, list | tuple) else str(token)
