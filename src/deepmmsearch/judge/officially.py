"""Each benchmark's own scoring with a model where its authors ask one; everywhere else the rules of `official`.

MM-Vet: a language model grades. MathVista: it extracts the answer. Multiple choice: it finds the option of an answer
in which no rule finds one. Encyclopedic-VQA: BEM says whether an answer that is not the same means the same. The
prompts are ours (prompts/official-*.md), and so is the model: figures are those of its kind, not its authors' own.
"""

from __future__ import annotations

import asyncio
import re
from string import ascii_uppercase

from deepmmsearch.agent.protocols import LanguageModel
from deepmmsearch.judge.bem import EQUIVALENT, Bem
from deepmmsearch.judge.choices import options_of, read_choice, right_choice
from deepmmsearch.judge.encyclopedic import judge_encyclopedic
from deepmmsearch.judge.llm import LONGEST, LlmJudge, ask, quoted, said
from deepmmsearch.judge.mathvista import is_direct, judge_extracted
from deepmmsearch.judge.official import scorer
from deepmmsearch.judge.rules import RuleJudge
from deepmmsearch.judge.verdict import NO_ANSWER, JudgeError, Verdict
from deepmmsearch.prompts import official_prompt
from deepmmsearch.types import Question

NONE = "Z"
_ONE_LETTER = re.compile(r"[\s\"'*`.(\[]*(?:option\s+)?([A-Z])[\s\"'*`.)\]:]*(?:\n.*)?", re.DOTALL | re.IGNORECASE)
_AGAIN = "That was no letter of an option. Reply with one letter and nothing else."
TRIES = 3


class OfficialJudge:
    """`model`: a `ChatPolicy`, or one within a recorder; None asks none, as `rule: official` does. `bem` likewise."""

    def __init__(self, model: LanguageModel | None = None, bem: Bem | None = None) -> None:
        self.model, self.bem = model, bem
        self.name = "official"
        self._rules = RuleJudge("official")
        self._grades = LlmJudge(model, "mm-vet") if model is not None else None

    def counts(self, question: Question) -> bool:
        return self._rules.counts(question)

    async def judge(self, question: Question, answer: str | None) -> Verdict:
        """Raises JudgeError where the model fails or will not say what it is asked for, UserError for BEM."""
        if answer is None or not answer.strip():
            return Verdict(0.0, NO_ANSWER)
        rule = scorer(question)
        if self._grades is not None and question.metadata.get("match") == "llm":
            return await self._grades.judge(question, answer)
        if self.model is not None and rule == "mathvista" and not is_direct(question, answer):
            return judge_extracted(question, await self._extracted(self.model, question, answer))
        if (
            self.model is not None
            and rule in ("choice", "given-choice")
            and read_choice(answer, options_of(question)) is None
        ):
            return await self._chosen(self.model, question, answer)
        if self.bem is not None and rule == "encyclopedic":
            return await self._equivalent(self.bem, question, answer)
        return self._rules.verdict(question, answer)

    async def _extracted(self, model: LanguageModel, question: Question, answer: str) -> str:
        text = official_prompt("extract", {"question": quoted(question.text), "candidate": quoted(answer[:LONGEST])})
        reply = await ask(model, [said("user", text)])
        return (reply.strip().splitlines() or [""])[0].strip().strip("\"'`*")

    async def _chosen(self, model: LanguageModel, question: Question, answer: str) -> Verdict:
        """Officially an option is drawn when the model names none; here there is no verdict."""
        choices = options_of(question)
        options = "\n".join(
            f"{letter}. {quoted(choice)}" for letter, choice in zip(ascii_uppercase, choices, strict=False)
        )
        text = official_prompt("match", {"options": options, "candidate": quoted(answer[:LONGEST])})
        conversation, reply = [said("user", text)], ""
        for _ in range(TRIES):
            reply = await ask(model, conversation)
            found = _ONE_LETTER.fullmatch(reply)
            letter = found[1].upper() if found else ""
            if letter == NONE and len(choices) < len(ascii_uppercase):
                return Verdict(0.0, "names no option")
            if letter and 0 <= (number := ascii_uppercase.find(letter)) < len(choices):
                return Verdict(float(number == right_choice(question, choices)), f"the model reads {letter}")
            conversation += [said("assistant", reply[:200]), said("user", _AGAIN)]
        raise JudgeError(f"The judge did not answer with the letter of an option, but {reply[:80]!r}.")

    async def _equivalent(self, bem: Bem, question: Question, answer: str) -> Verdict:
        """The best of the references, as their lists with commas."""
        if (found := judge_encyclopedic(question, answer)).correct:
            return found
        scores = [
            await asyncio.to_thread(bem.equivalence, question.text, reference, answer) for reference in question.answers
        ]
        best = max(scores, default=0.0)
        return Verdict(float(best >= EQUIVALENT), f"BEM {best:.2f}")
