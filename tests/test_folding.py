"""Long episodes in a short window, and the calls that are left."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import given
from PIL import Image

from deepmmsearch.agent import Toolbox, play
from deepmmsearch.agent.folding import folded
from deepmmsearch.prompts import load_prompt
from deepmmsearch.renderer import messages
from deepmmsearch.testing import ScriptedPolicy, trajectories
from deepmmsearch.types import Completion, Limits, Malformed, Observation, Question, TextSearch, Trajectory, Turn

PIXELS = 1280 * 28 * 28
PICTURE = Image.new("RGB", (280, 280), "red")  # 100 tokens
LONG = "[1] Veld has the capital Moru. " + "It is large. " * 400 + "\nAbout the page.\nThe sea is near. [2]"


def long_episode(turns: int) -> Trajectory:
    seen = Observation(LONG, images=(PICTURE, PICTURE), crop=PICTURE)
    turn = Turn(Completion("<reason>r</reason><text_search>x</text_search>"), TextSearch("x"), seen)
    return Trajectory(Question("q", "Where?", (PICTURE,)), load_prompt("deepmmsearch-r1"), turns=(turn,) * turns)


def test_what_fits_stays_as_it_is() -> None:
    whole = long_episode(4)
    assert folded(whole, 1_000_000, PIXELS) == whole


def test_the_oldest_are_folded_to_the_lines_that_tell_of_hits() -> None:
    read = folded(long_episode(4), 3_500, PIXELS)
    texts = [turn.observation.text for turn in read.turns if turn.observation]
    assert texts[-1] == LONG and read.turns[-1].observation == long_episode(1).turns[0].observation
    first, *rest = texts[0].splitlines()
    assert first.startswith("[1] Veld has the capital Moru.") and len(first) <= 240
    # one picture is the question's, one the crop, which is not shown
    assert rest == ["The sea is near. [2]", "(Pictures 3 to 4 were shown here.)"]
    assert "(Pictures 6 to 7 were shown here.)" in texts[1]
    conversation, pictures = messages(read)
    assert sum(part["type"] == "image" for m in conversation for part in m["content"]) == len(pictures) < 9


def test_what_was_folded_stays_folded() -> None:
    before = 0
    for turns in range(1, 9):
        read = folded(long_episode(turns), 4_000, PIXELS)
        shown = [turn.observation.text == LONG for turn in read.turns if turn.observation]
        short = shown.index(True)
        assert all(shown[short:]) and short >= before
        before = short
    assert before > 4


def test_text_without_hits_is_cut() -> None:
    whole = long_episode(3)
    plain = [replace(turn, observation=Observation("word " * 2_000)) for turn in whole.turns]
    read = folded(replace(whole, turns=tuple(plain)), 1_024, PIXELS)
    lengths = [len(turn.observation.text) for turn in read.turns if turn.observation]
    assert max(lengths[:2]) <= 400 and lengths[2] == 10_000


@given(trajectories())
def test_any_trajectory_can_be_folded(whole: Trajectory) -> None:
    for tokens in (0, 200, 2_000):
        read = folded(whole, tokens, PIXELS)
        assert [turn.completion for turn in read.turns] == [turn.completion for turn in whole.turns]
        assert [turn.action for turn in read.turns] == [turn.action for turn in whole.turns]
        assert read.turns[-1:] == whole.turns[-1:]


def test_the_policy_is_told_how_many_calls_are_left() -> None:
    search, answer = "<reason>r</reason><text_search>x</text_search>", "<reason>r</reason><answer>y</answer>"
    start = Trajectory(Question("q", "Where?"), load_prompt("deepmmsearch-r1"))
    script = ScriptedPolicy(search, "nothing", search, answer)
    played = asyncio.run(play(start, script, Toolbox(), Limits(calls=3, told=True)))
    assert isinstance(played.turns[1].action, Malformed)
    ends = [turn.observation.text.splitlines()[-1] for turn in played.turns if turn.observation]
    assert ends == ["Calls left: 2.", "Calls left: 1.", "No call is left, only an answer."]
    untold = asyncio.run(play(start, script, Toolbox(), Limits(calls=3)))
    assert not any("left" in turn.observation.text for turn in untold.turns if turn.observation)
