from __future__ import annotations

import asyncio

import pytest

from deepmmsearch.agent.dialect import parse_action
from deepmmsearch.errors import UserError
from deepmmsearch.policies.human import HumanPolicy
from deepmmsearch.prompts import load_prompt
from deepmmsearch.types import Action, Answer, ImageSearch, Malformed, Question, TextSearch, Trajectory


def typed(*lines: str, prompt: str = "deepmmsearch-r1") -> str:
    left = list(lines)
    policy = HumanPolicy(lambda _: left.pop(0))
    return asyncio.run(policy.act(Trajectory(Question("q", "Who?"), load_prompt(prompt)))).text


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ("image", ImageSearch(None)),
        ("Image:", ImageSearch(None)),
        ("image: the flag on the ship", ImageSearch("the flag on the ship")),
        ("text: capital of Veld: which", TextSearch("capital of Veld: which")),
        ("answer: Veld", Answer("Veld")),
        ("<reason>r</reason><answer>Veld</answer>", Answer("Veld")),
    ],
)
def test_short_forms_and_tags(line: str, action: Action) -> None:
    assert parse_action(typed(line)) == action


def test_the_dialect_of_the_prompt_is_written() -> None:
    assert parse_action(typed("image", prompt="mmsearch-r1"), "mmsearch-r1") == ImageSearch(None)


def test_anything_else_is_passed_on() -> None:
    for line in ("hello", "", "text:", "image: <img> the flag"):
        assert typed(line) == line
        assert isinstance(parse_action(typed(line)), Malformed)


def test_lines_go_on_after_a_backslash() -> None:
    assert typed("<reason>one\\", "two</reason><answer>x</answer>") == "<reason>one\ntwo</reason><answer>x</answer>"


def test_the_end_of_the_input_is_one_sentence() -> None:
    def ended(_: str) -> str:
        raise EOFError

    with pytest.raises(UserError, match="input ended"):
        asyncio.run(HumanPolicy(ended).act(Trajectory(Question("q", "Who?"), load_prompt("atlas"))))
