"""A language model as judge: question, accepted answers and candidate go in, one word comes out. No picture does.

The prompts are both papers' rules in our own words (prompts/judge-*.md). What the candidate says is data: it is written
as a JSON string, so that it cannot end where it says it ends, and its chat tokens are disarmed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from deepmmsearch.agent.protocols import LanguageModel
from deepmmsearch.errors import ToolError, UnknownName, UserError
from deepmmsearch.escaping import escape_chat_tokens
from deepmmsearch.judge.normalisation import gave_up
from deepmmsearch.judge.verdict import GAVE_UP, NO_ANSWER, JudgeError, Verdict
from deepmmsearch.prompts import JUDGE_PROMPTS, judge_prompt
from deepmmsearch.types import Question

LONGEST = 2000
"""Characters of a candidate that the judge reads: an answer is a few words, and the rest costs money."""

_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_WORD = re.compile(r"[\s\"'*`.]*(correct|incorrect)[\s\"'*`.!]*", re.IGNORECASE)
_AGAIN = "That was not one word. Reply with correct or incorrect and nothing else."


class LlmJudge:
    """Asks `model` (a `ChatPolicy`, or one within a recorder, which then is the cache of verdicts).

    `rules` names the prompt: `evaluation` (DeepMMSearch-R1, tables) or `reward` (its reinforcement learning). A reply
    that is not one word is asked for again `retries` times, with the reply and a reminder.
    """

    def __init__(self, model: LanguageModel, rules: str = "evaluation", *, retries: int = 2) -> None:
        if rules not in JUDGE_PROMPTS:
            raise UnknownName("prompt of the judge", rules, JUDGE_PROMPTS)
        self.model, self.rules, self.retries = model, rules, retries
        self.name = f"{rules} by {getattr(model, 'name', 'a language model')}"

    async def judge(self, question: Question, answer: str | None) -> Verdict:
        """Giving up is wrong without asking. Raises JudgeError when the model fails or will not say one word."""
        if answer is None or gave_up(answer):
            return Verdict(0.0, NO_ANSWER if answer is None or not answer.strip() else GAVE_UP)
        conversation: list[dict[str, Any]] = [_said("user", self._text(question, answer))]
        reply = ""
        for _ in range(self.retries + 1):
            reply = await self._ask(conversation)
            if found := read_verdict(reply):
                return found
            conversation += [_said("assistant", reply[:200]), _said("user", _AGAIN)]
        raise JudgeError(f"The judge did not answer correct or incorrect, but {reply[:80]!r}.")

    async def _ask(self, conversation: Sequence[dict[str, Any]]) -> str:
        try:
            return (await self.model.complete(list(conversation))).text
        except (UserError, ToolError) as error:
            raise JudgeError(str(error)) from error

    def _text(self, question: Question, answer: str) -> str:
        """Each part is put in once, so that a candidate holding "{question}" stays what it is."""
        parts = {
            "question": " ".join(question.text.split()),
            "references": _quoted(list(question.answers)),
            "candidate": _quoted(answer[:LONGEST]),
        }
        return re.sub(r"\{(question|references|candidate)\}", lambda m: parts[m[1]], judge_prompt(self.rules))


def read_verdict(reply: str) -> Verdict | None:
    """The verdict of a reply that is one of the two words, thoughts aside; None for anything else."""
    found = _WORD.fullmatch(_THOUGHT.sub("", reply))
    if found is None:
        return None
    word = found[1].lower()
    return Verdict(float(word == "correct"), word)


def _quoted(value: str | list[str]) -> str:
    return escape_chat_tokens(json.dumps(value, ensure_ascii=False))


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}
