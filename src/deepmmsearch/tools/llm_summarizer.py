"""Summaries by a language model (DeepMMSearch-R1, section 3.1; MMSearch-R1, section 3.2), prompts in `prompts/`.

Passages are untrusted. They stand behind a fence that their writers cannot foresee, without chat tokens; and of what
the model says only sentences are kept that cite a passage which exists. What the policy reads of it is escaped once
more by the renderer, like anything else from outside.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from deepmmsearch.agent.protocols import LanguageModel
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.escaping import escape_observation
from deepmmsearch.language.detection import language_of
from deepmmsearch.language.stems import ENGLISH
from deepmmsearch.prompts import summary_prompt
from deepmmsearch.thoughts import without_thoughts
from deepmmsearch.tools.summarizer import PASSAGE_CHARACTERS, plain, split_line, split_sentences
from deepmmsearch.types import Cited

Prompt = Literal["text", "image", "page"]
ASKED_ABROAD = "\n\nWrite in the language of the question, whatever language the passages are in."

MOST_SENTENCES: dict[Prompt, int] = {"text": 12, "image": 5, "page": 5}
# All passages of one request together; MMSearch-R1 reads 30,000 characters of one page.
TOGETHER = 60_000

_CITATION = re.compile(r"\[\s*(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\s*\]|【\s*(\d{1,3})[^】]{0,20}】")
_FOOTNOTE = re.compile(r"(?<![ \t])[ \t]*\[\s*\d{1,3}(?:\s*[,;]\s*\d{1,3})*\s*\]")
# a private character on either side stands for a citation while sentences are split
_HIDDEN = re.compile("\ue000(\\d+)\ue001")
_STOPS = ".!?…。！？｡؟۔।॥։።"
_AFTER_STOP = re.compile(f"([{_STOPS}][\"'”’»)」』）]*)\\s*((?:\ue000\\d+\ue001[ ,;]*)+)")
_BEFORE_MARK = re.compile(f" (?=[{_STOPS},;、，；،؛])")
_BULLET = re.compile(r"^(?:[-*•–]|\d{1,2}[.)])\s+")
_NOTHING = re.compile(r"nothing\W*", re.IGNORECASE)


class LlmSummarizer:
    """Summarizer and ObservationSummarizer: asks a model, once for each page or once for all.

    `together`: characters of all passages in one request, shared evenly. Raises ToolError when the model cannot be
    asked or says nothing that can be used.
    """

    def __init__(self, model: LanguageModel, *, name: str = "llm", together: int = TOGETHER) -> None:
        self.name, self._model, self._together = name, model, together

    @property
    def identity(self) -> dict[str, object]:
        """What a recorded summary depends on beside what was asked: another prompt makes another summary."""
        prompts = {kind: summary_prompt(kind, defaultdict(str)) for kind in MOST_SENTENCES}
        digest = hashlib.sha256(json.dumps(prompts, sort_keys=True).encode()).hexdigest()[:16]
        return {"provider": self.name, "together": self._together, "prompts": digest}

    async def summarize(self, question: str, query: str, passages: Sequence[str]) -> list[str]:
        """At most 5 sentences per passage, from its first 30,000 characters; "" where nothing serves the question."""
        return list(await asyncio.gather(*(self._page(question, query, passage) for passage in passages)))

    async def condense(
        self, question: str, query: str, passages: Sequence[str], about: Literal["text", "image"]
    ) -> list[Cited]:
        if not any(passage.strip() for passage in passages):
            return []
        share = max(1, self._together // len(passages))
        said = await self._ask(about, question, query, [passage[:share] for passage in passages])
        if _NOTHING.fullmatch(said):
            return []
        sentences = read_citations(said, len(passages))
        if not any(s.hits for s in sentences):
            raise ToolError("The summariser cited none of the passages.")
        shown = [s for s in sentences if s.hits][: MOST_SENTENCES[about]]
        return [*shown, *(s for s in sentences if not s.hits)]

    async def _page(self, question: str, query: str, passage: str) -> str:
        if not passage.strip():
            return ""
        said = await self._ask("page", question, query, [passage[:PASSAGE_CHARACTERS]])
        if _NOTHING.fullmatch(said):
            return ""
        kept = split_sentences(_FOOTNOTE.sub("", said))[: MOST_SENTENCES["page"]]
        return " ".join(kept)

    async def _ask(self, prompt: Prompt, question: str, query: str, passages: Sequence[str]) -> str:
        request = fenced(prompt, question, query, passages)
        if language_of(question) != ENGLISH:
            request += ASKED_ABROAD
        try:
            completion = await self._model.complete([{"role": "user", "content": [{"type": "text", "text": request}]}])
        except UserError as error:
            raise ToolError(f"The summariser could not be asked: {error}") from error
        if completion.finish == "context":
            raise ToolError("The passages do not fit into the summariser's window.")
        if completion.finish in ("filter", "refusal", "cut"):
            raise ToolError("The summariser refused, or its reply was withheld.")
        said = without_thoughts(completion.text)
        if not said:
            raise ToolError("The summariser said nothing.")
        return said


def fenced(prompt: Prompt, question: str, query: str, passages: Sequence[str]) -> str:
    """The request, its passages behind a fence named after all that is asked: no page can hold it, since no page knows
    the question and its neighbours, and yet equal requests are equal (a recorder knows them again)."""
    clean = [_clean(passage) for passage in passages]
    asked = "\x00".join([prompt, question, query, *clean])
    fence = "=== " + hashlib.sha256(asked.encode("utf-8", "replace")).hexdigest()[:16]
    numbered = "\n".join(f"{fence} {number}\n{text}" for number, text in enumerate(clean, 1))
    return summary_prompt(
        prompt,
        {
            "question": escape_observation(" ".join(question.split())),
            "query": escape_observation(" ".join(query.split())) or "the whole of it",
            "count": str(len(passages)),
            "fence": fence,
            "passages": numbered,
        },
    )


def read_citations(said: str, passages: int) -> list[Cited]:
    """The sentences of a summary with the passages each cites, in order; numbers of passages that do not exist are left
    out, and so is everything but text and numbers (bullets, bold type)."""
    found = []
    for line in said.splitlines():
        line = _BULLET.sub("", line.strip()).strip()
        if not line or line.startswith(("```", "#")) or _NOTHING.fullmatch(line):
            continue
        found += [Cited(text, hits) for text, hits in _sentences(line, passages)]
    return found


def _sentences(line: str, passages: int) -> list[tuple[str, tuple[int, ...]]]:
    """The sentences of a line, each with what it cites; numbers after a full stop belong to the sentence before it."""
    marks: list[str] = []

    def hide(mark: re.Match[str]) -> str:
        marks.append(mark.group(1) or mark.group(2))
        return f"\ue000{len(marks) - 1}\ue001"

    hidden = _CITATION.sub(hide, plain(line.replace("**", "")).translate({0xE000: None, 0xE001: None}))
    hidden = _AFTER_STOP.sub(lambda m: "".join(c for c in m.group(2) if c not in " ,;") + m.group(1) + " ", hidden)
    found = []
    for sentence in split_line(hidden.strip()):
        cited = [int(n) for i in _HIDDEN.findall(sentence) for n in re.findall(r"\d+", marks[int(i)])]
        text = _BEFORE_MARK.sub("", " ".join(_HIDDEN.sub(" ", sentence).split()))
        if any(c.isalnum() for c in text):
            found.append((text, tuple(sorted({n for n in cited if 1 <= n <= passages}))))
    return found


def _clean(passage: str) -> str:
    """Without tags, chat tokens and footnote numbers, which would read as citations."""
    return escape_observation(_FOOTNOTE.sub("", passage)).strip()
