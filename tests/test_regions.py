"""Boxes told apart, for any boxes, and counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deepmmsearch.agent.regions import choose_region, count_outcomes, no_region, told
from deepmmsearch.prompts import load_prompt
from deepmmsearch.types import Box, Completion, Grounding, ImageSearch, Observation, Question, Trajectory, Turn

SIZE = (100, 80)
sides = st.one_of(st.floats(-50, 150), st.sampled_from([float("nan"), float("inf"), 0.0]))
boxes = st.builds(Box, sides, sides, sides, sides, st.one_of(st.floats(0, 1), st.just(float("nan"))))


def choose(*found: Box) -> Grounding:
    return choose_region("the flag", found, SIZE, 0.3, 4.0)


@given(st.lists(boxes, max_size=12))
def test_whatever_a_grounder_says_the_outcome_is_one_of_them(found: list[Box]) -> None:
    chosen = choose(*found)
    assert (chosen.box is None) == (chosen.outcome in ("none", "weak", "tiny"))
    assert (chosen.fallback is not None) == (chosen.outcome not in ("box", "several"))
    assert len(told(chosen)) == (chosen.outcome not in ("box", "whole"))
    if chosen.box is not None:
        assert 0 <= chosen.box.left < chosen.box.right <= 100 and 0 <= chosen.box.top < chosen.box.bottom <= 80
        assert chosen.box == chosen.candidates[0] and chosen.box.score == max(b.score for b in chosen.candidates)


def test_equally_good_boxes_of_one_thing_are_one() -> None:
    assert choose(Box(10, 10, 50, 50, 0.8), Box(11, 10, 51, 52, 0.79)).outcome == "box"
    assert choose(Box(10, 10, 50, 50, 0.8), Box(60, 10, 90, 50, 0.79)).outcome == "several"
    assert choose(Box(10, 10, 50, 50, 0.8), Box(60, 10, 90, 50, 0.7)).outcome == "box"
    assert choose(Box(10, 10, 50, 50, 0.8), Box(60, 10, 61, 50, 0.8)).outcome == "box", "a tiny rival is none"
    assert choose(Box(0, 0, 100, 80, 0.8), Box(60, 10, 90, 50, 0.8)).outcome == "whole"


def test_outcomes_are_counted() -> None:
    seen = [choose(Box(10, 10, 50, 50)), choose(), choose(Box(0, 0, 100, 80)), no_region("x", "missing", "none")]
    turns = tuple(Turn(Completion(""), ImageSearch("x"), Observation("", grounding=g)) for g in (*seen, None))
    old = Turn(Completion(""), ImageSearch("x"), Observation("", grounding=Grounding("x", Box(1, 1, 9, 9))))
    played = Trajectory(Question("q", "?"), load_prompt("deepmmsearch-r1"), turns=(*turns, old))
    assert count_outcomes([played, played]) == {"box": 4, "none": 2, "whole": 2, "missing": 2, "fallback": 6}
