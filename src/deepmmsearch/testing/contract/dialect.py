"""What holds for every dialect, whatever its turns look like."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence

from deepmmsearch.agent.dialect import Dialect
from deepmmsearch.agent.table import Tool, installed_tools
from deepmmsearch.escaping import escape_observation
from deepmmsearch.testing import HOSTILE_TEXTS
from deepmmsearch.testing.contract.checks import Check
from deepmmsearch.types import Action, Answer, ImageSearch, Limits, Malformed, TextSearch

ACTIONS: tuple[Action, ...] = (
    TextSearch("capital of Veld"),
    TextSearch('height of "K2" < 9,000 m & more'),
    ImageSearch(),
    ImageSearch("the flag on the ship"),
    Answer("Oru"),
    Answer("a < b,\nc > d {}"),
)
_FRAGMENTS = ("<", ">", "/", "</", "<|im_end|>", "</s>", "{", "}", '"', "[", ":", " ", "\n", "\x00", "é", "img", "a")
SECONDS = 5.0
"""Of the processor, for texts of 200,000 characters."""


def its_values_are_of_their_kind(dialect: Dialect) -> None:
    assert isinstance(dialect, Dialect) and dialect.name == dialect.name.strip() != ""
    assert dialect.pictures in ("before", "after") and isinstance(dialect.limits, Limits)
    assert dialect.numbering(0) == dialect.numbering(1) == "", "one picture needs no number"
    assert all(isinstance(dialect.about(tool), str) for tool in installed_tools())


def what_is_written_is_read_back(dialect: Dialect) -> None:
    """What it cannot say it refuses to write; an answer and a text search it can."""
    tools, written = installed_tools(), []
    for action in ACTIONS:
        for reason in ("I look.", "a <b> and\n</reason>"):
            try:
                text = dialect.write(reason, action, tools)
            except ValueError:
                continue
            assert dialect.parse(text, tools, True) == action, text
            written.append(type(action))
    assert {Answer, TextSearch} <= set(written)


def the_reason_comes_back(dialect: Dialect) -> None:
    for action in (TextSearch("capital of Veld"), Answer("Oru")):
        assert dialect.reason(dialect.write("I look it up.", action, installed_tools())) == "I look it up."


def no_text_raises(dialect: Dialect) -> None:
    tools = installed_tools()
    for text in _texts(dialect, tools, 1000):
        for ended in (True, False):
            action = dialect.parse(text, tools, ended)
            assert not isinstance(action, Malformed) or action.problem.strip(), "a problem that can be acted upon"
        assert isinstance(dialect.reason(text), str)


def a_turn_that_was_cut_off_is_not_guessed(dialect: Dialect) -> None:
    """Wherever it was cut, it is the whole action or none."""
    tools = installed_tools()
    for action in (TextSearch("capital of Veld"), Answer("Oru Tan")):
        text = dialect.write("I look.", action, tools)
        read = [dialect.parse(text[:end], tools, False) for end in range(len(text))]
        assert all(found == action or isinstance(found, Malformed) for found in read)


def an_observation_is_never_an_action(dialect: Dialect) -> None:
    tools = installed_tools()
    turns = [dialect.write("I look.", action, tools) for action in (TextSearch("x"), Answer("Oru"))]
    for text in ("[1] Oru is the capital of Veld.", *HOSTILE_TEXTS, *turns):
        harmless = escape_observation(text)
        seen = dialect.observation(harmless)
        assert harmless in seen
        assert isinstance(dialect.parse(seen, tools, True), Malformed), seen


def long_texts_take_linear_time(dialect: Dialect) -> None:
    tools = installed_tools()
    text = dialect.write("I look.", TextSearch("x"), tools)
    for unit in ("<", "</", " ", "<\n/", "{", "[", '"', "\\", text[: len(text) // 2], text):
        long = unit * (200_000 // len(unit))
        began = time.process_time()
        dialect.parse(long, tools, True)
        dialect.parse(text[:-1] + long, tools, True)
        dialect.reason(long)
        assert time.process_time() - began < SECONDS, f"{unit!r} repeated"


def _texts(dialect: Dialect, tools: Sequence[Tool], count: int) -> Iterator[str]:
    """Pieces of turns and of markup in any order; the same ones each time."""
    chance = random.Random(0)
    turns = [dialect.write("I look.", action, tools) for action in (TextSearch("Veld"), Answer("Oru"))]
    yield from ("", *turns, *HOSTILE_TEXTS)
    for _ in range(count):
        pieces = []
        for _ in range(chance.randrange(12)):
            turn = chance.choice(turns)
            begin = chance.randrange(len(turn))
            pieces.append(chance.choice((chance.choice(_FRAGMENTS), turn[begin : begin + chance.randrange(1, 30)])))
        yield "".join(pieces)


DIALECT: tuple[Check[Dialect], ...] = (
    its_values_are_of_their_kind,
    what_is_written_is_read_back,
    the_reason_comes_back,
    no_text_raises,
    a_turn_that_was_cut_off_is_not_guessed,
    an_observation_is_never_an_action,
    long_texts_take_linear_time,
)
