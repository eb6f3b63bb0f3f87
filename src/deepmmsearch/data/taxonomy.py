"""Which kind of knowledge a question needs: by its own metadata, or by a language model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deepmmsearch.agent.protocols import LanguageModel
from deepmmsearch.escaping import escape_chat_tokens
from deepmmsearch.types import Question

_PART = re.compile(r"\{(categories|question|answer)\}")


@dataclass(frozen=True)
class KnownLabels:
    """Labeler: what the metadata say in `field`, by another name where `mapping` has one."""

    field: str
    mapping: Mapping[str, str]

    async def label(self, question: Question) -> str | None:
        found = question.metadata.get(self.field)
        return None if found is None else self.mapping.get(str(found), str(found))


@dataclass(frozen=True)
class ModelLabels:
    """Labeler: a model sees the picture and reads the prompt with `{categories}`, `{question}` and `{answer}`. What it
    writes counts when it names exactly one category; else it is asked again, `attempts` times in all."""

    model: LanguageModel
    categories: Sequence[str]
    prompt: str
    attempts: int = 2

    async def label(self, question: Question) -> str | None:
        parts = {
            "categories": ", ".join(self.categories),
            "question": escape_chat_tokens(" ".join(question.text.split())),
            "answer": escape_chat_tokens("; ".join(question.answers[:5])),
        }
        text = _PART.sub(lambda found: parts[found[1]], self.prompt)
        pictures = [question.image] if question.image is not None else []
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": text}]
        for _ in range(self.attempts):
            reply = await self.model.complete([{"role": "user", "content": content}], pictures)
            if (found := read_category(reply.text, self.categories)) is not None:
                return found
        return None


def read_category(text: str, categories: Sequence[str]) -> str | None:
    """The one category that a text names, in any case; None when it names none or several."""
    named = [c for c in categories if re.search(rf"(?<!\w){re.escape(c)}(?!\w)", text, re.IGNORECASE)]
    return named[0] if len(named) == 1 else None
