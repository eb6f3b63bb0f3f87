"""A language model as judge: question, accepted answers and candidate go in, one word comes out. No picture does.

The prompts are both papers' rules in our own words (prompts/judge-*.md). Question, references and candidate are data:
they are written as JSON strings, so that none can end where it says it ends, without characters that show nothing, and
their chat tokens are disarmed. A model may obey them all the same. So a verdict on texts in which an order could stand
is tried once more on an answer that no reference means: a judge that calls that right, too, was told what to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from deepmmsearch.agent.protocols import LanguageModel
from deepmmsearch.errors import ToolError, UnknownName, UserError
from deepmmsearch.escaping import escape_observation
from deepmmsearch.judge.giving_up import gave_up
from deepmmsearch.judge.normalisation import is_correct
from deepmmsearch.judge.verdict import GAVE_UP, NO_ANSWER, JudgeError, Verdict
from deepmmsearch.prompts import JUDGE_PROMPTS, judge_prompt
from deepmmsearch.thoughts import without_thoughts
from deepmmsearch.types import Question

LONGEST = 2000
"""Characters of a candidate that the judge reads: an answer is a few words, and the rest costs money."""

LONGEST_NAME = 80
"""Characters of a candidate that is taken for a name or a figure, unless it speaks of judging."""
UNLIKE = "Zqorvath-7"
"""An answer that no reference means."""

_WORD = re.compile(r"[\s\"'*`.]*(correct|incorrect)[\s\"'*`.!]*", re.IGNORECASE)
_ORDER = re.compile(
    r"correct|ignor|disregard|instruct|verdict|judge|评判|正确|错误|忽略|指令|верно|неверно|richtig|falsch", re.I
)
_LINES = re.compile("[\x85\u2028\u2029]")
_AGAIN = "That was not one word. Reply with correct or incorrect and nothing else."
_WORDS = "correct or incorrect"
GRADES = "mm-vet"
"""The rules of which the reply is a grade."""
_GRADE = re.compile(r"[\s\"'*`]*(0(?:\.\d+)?|1(?:\.0+)?)[\s\"'*`.]*")
_GRADE_AGAIN = "That was no grade. Reply with a number from 0.0 to 1.0 and nothing else."


class LlmJudge:
    """Asks `model` (a `ChatPolicy`, or one within a recorder, which then is the cache of verdicts).

    `rules` names the prompt: `evaluation` (DeepMMSearch-R1, tables), `reward` (its reinforcement learning) or `mm-vet`
    (that benchmark's: a grade from 0 to 1). A reply that is not one word, or no grade, is asked for again `retries`
    times, with the reply and a reminder.
    """

    def __init__(self, model: LanguageModel, rules: str = "evaluation", *, retries: int = 2) -> None:
        if rules not in JUDGE_PROMPTS:
            raise UnknownName("prompt of the judge", rules, JUDGE_PROMPTS)
        self.model, self.rules, self.retries = model, rules, retries
        self.name = f"{rules} by {getattr(model, 'name', 'a language model')}"

    async def judge(self, question: Question, answer: str | None) -> Verdict:
        """Giving up is wrong without asking, unless it is what is accepted. Raises JudgeError when the model fails,
        will not say one word, or obeys an order in the question or in the references."""
        if answer is None or (gave_up(answer, question.answers) and not is_correct(answer, question.answers)):
            return Verdict(0.0, NO_ANSWER if answer is None or not answer.strip() else GAVE_UP)
        verdict = await self._verdict(question, answer)
        asked = (question.text, *question.answers)
        if question.answers and any(map(_ORDER.search, asked)) and not await self._is_free(question, verdict):
            raise JudgeError("The judge obeyed the question or a reference answer, which tells it what to say.")
        if verdict.score and (len(answer) > LONGEST_NAME or _ORDER.search(answer)):
            control = await self._verdict(replace(question, answers=(UNLIKE,)), answer)
            if control.score >= verdict.score:
                return Verdict(0.0, "right whatever is asked for: the answer tells the judge what to say")
        return verdict

    async def _is_free(self, question: Question, verdict: Verdict) -> bool:
        """Does the judge decide otherwise about an answer that is as plainly wrong, or as plainly right?"""
        known = UNLIKE if verdict.correct else question.answers[0]
        return (await self._verdict(question, known)).correct != verdict.correct

    async def _verdict(self, question: Question, answer: str) -> Verdict:
        conversation: list[dict[str, Any]] = [said("user", self._text(question, answer))]
        read, wanted, again = (
            (read_grade, "with a grade", _GRADE_AGAIN) if self.rules == GRADES else (read_verdict, _WORDS, _AGAIN)
        )
        reply = ""
        for _ in range(self.retries + 1):
            reply = await ask(self.model, conversation)
            if found := read(reply):
                return found
            conversation += [said("assistant", reply[:200]), said("user", again)]
        raise JudgeError(f"The judge did not answer {wanted}, but {reply[:80]!r}.")

    def _text(self, question: Question, answer: str) -> str:
        """Each part is put in once, so that a candidate holding "{question}" stays what it is."""
        parts = {
            "question": quoted(question.text),
            "references": self._references(question),
            "candidate": quoted(answer[:LONGEST]),
        }
        return re.sub(r"\{(question|references|candidate)\}", lambda m: parts[m[1]], judge_prompt(self.rules))

    def _references(self, question: Question) -> str:
        if self.rules != GRADES:
            return _list(question.answers)
        lists = question.metadata.get("answer_lists") if UNLIKE not in question.answers else None
        return f"[{', '.join(_list(map(str, parts)) for parts in lists or [[text] for text in question.answers])}]"


async def ask(model: LanguageModel, conversation: Sequence[dict[str, Any]]) -> str:
    """What the model says, without its thoughts. Raises JudgeError where it fails."""
    try:
        completion = await model.complete(list(conversation))
    except (UserError, ToolError) as error:
        raise JudgeError(str(error)) from error
    if completion.finish in ("filter", "refusal", "cut"):
        raise JudgeError("The judge refused, or its reply was withheld.")
    return without_thoughts(completion.text)


def read_verdict(reply: str) -> Verdict | None:
    """The verdict of a reply that is one of the two words, thoughts aside; None for anything else."""
    found = _WORD.fullmatch(without_thoughts(reply))
    if found is None:
        return None
    word = found[1].lower()
    return Verdict(float(word == "correct"), word)


def read_grade(reply: str) -> Verdict | None:
    """The grade of a reply that is a number from 0 to 1, thoughts aside; None for anything else."""
    found = _GRADE.fullmatch(without_thoughts(reply))
    return Verdict(float(found[1]), f"grade {found[1]}") if found else None


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(quoted, texts))}]"


def quoted(text: str) -> str:
    """A JSON string of one line."""
    return _LINES.sub(" ", json.dumps(escape_observation(text), ensure_ascii=False))


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}
