"""Thoughts are parted from what is said, however they are marked."""

from __future__ import annotations

import time

import pytest

from deepmmsearch.thoughts import part_thoughts, without_thoughts


@pytest.mark.parametrize(
    ("text", "said", "thoughts"),
    [
        ("correct", "correct", ""),
        ("<think>maybe incorrect</think>\ncorrect", "correct", "maybe incorrect"),
        ("<think>\n\n</think>\n\ncorrect", "correct", ""),
        ("They are the same.\n</think>\n\ncorrect", "correct", "They are the same."),
        ("<think>one</think><think>two</think> correct", "correct", "one\ntwo"),
        ("<think>never finished, correct", "", "never finished, correct"),
        ("correct <think>or not", "correct", "or not"),
        ("<think>a <think> b</think> c</think> correct", "correct", "a\nb\nc"),
        ("< THINK >a</ Think >correct", "correct", "a"),
        ("<thinking>a</thinking>correct", "correct", "a"),
        ("[THINK]a[/THINK]correct", "correct", "a"),
        ("◁think▷a◁/think▷correct", "correct", "a"),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>correct", "correct", "a"),
        ("<reason>I see.</reason><answer>I think, therefore</answer>",) * 2 + ("",),
        ("a thinking man </thinker>", "a thinking man </thinker>", ""),
        ("", "", ""),
    ],
)
def test_thoughts_are_parted(text: str, said: str, thoughts: str) -> None:
    reply = part_thoughts(text)
    assert (reply.said, reply.thoughts) == (said, thoughts)
    assert without_thoughts(text) == said


def test_what_a_server_gives_apart_is_thought_too() -> None:
    assert part_thoughts("correct", "hm").thoughts == "hm"
    assert part_thoughts("<think>b</think>correct", "a").thoughts == "a\nb"


@pytest.mark.parametrize("piece", ["<think>", "</think>", "<", "< ", "<|channel|> ", "<|end|> ", "<think>a</think>"])
def test_many_marks_take_no_longer_than_they_should(piece: str) -> None:
    began = time.process_time()
    part_thoughts(piece * (200_000 // len(piece)))
    assert time.process_time() - began < 5
