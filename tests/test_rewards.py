"""The golden table: what each paper's definition gives, worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deepmmsearch.judge import RuleJudge
from deepmmsearch.prompts import load_prompt
from deepmmsearch.rewards import AgentReward, RewardSettings, crop_quality, overlap, well_formed
from deepmmsearch.types import (
    Action,
    Answer,
    Box,
    Completion,
    Grounding,
    ImageSearch,
    Malformed,
    Observation,
    Question,
    TextSearch,
    Trajectory,
    Turn,
)

DEEP = RewardSettings()
MM = RewardSettings(kind="mmsearch-r1")
EACH = RewardSettings(kind="mmsearch-r1", per_search=True)
COST = RewardSettings(call_cost=0.05)

RIGHT, WRONG = Answer("The Veld."), Answer("Ostra")
TEXT, WHOLE, CROP, BAD = TextSearch("veld"), ImageSearch(), ImageSearch("the flag on the ship"), Malformed("no action")


def played(*actions: Action, gold: tuple[float, ...] | None = None, box: Box | None = None) -> Trajectory:
    turns = []
    for action in actions:
        grounding = Grounding("x", box) if isinstance(action, ImageSearch) and action.region else None
        seen = None if isinstance(action, Answer) else Observation("found", grounding=grounding)
        turns.append(Turn(Completion("…"), action, seen))
    metadata = {"gold_box": list(gold)} if gold else {}
    question = Question("q", "Whose flag?", answers=("Veld",), metadata=metadata)
    stop = "answer" if actions and isinstance(actions[-1], Answer) else "turns"
    return Trajectory(question, load_prompt("deepmmsearch-r1"), turns=tuple(turns), stop=stop)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "actions", "value"),
    [
        (DEEP, (RIGHT,), 1.0),
        (DEEP, (TEXT, RIGHT), 1.0),
        (DEEP, (CROP, TEXT, TEXT, RIGHT), 1.0),
        (DEEP, (WRONG,), 0.1),
        (DEEP, (BAD, RIGHT), 0.9),
        (DEEP, (BAD, WRONG), 0.0),
        (DEEP, (TEXT, TEXT), 0.0),  # no answer: neither right nor well formed
        (DEEP, (), 0.0),
        (MM, (RIGHT,), 1.0),
        (MM, (TEXT, RIGHT), 0.91),
        (MM, (WHOLE, TEXT, TEXT, RIGHT), 0.91),  # the penalty falls once
        (MM, (TEXT, WRONG), 0.1),
        (MM, (BAD, TEXT, RIGHT), 0.81),
        (EACH, (TEXT, TEXT, RIGHT), 0.9 * 0.81 + 0.1),
        (EACH, (WHOLE, TEXT, TEXT, RIGHT), 0.9 * 0.729 + 0.1),
        (COST, (TEXT, TEXT, RIGHT), 0.9 * 0.9 + 0.1),
        (COST, (TEXT, TEXT, WRONG), 0.1),  # a wrong answer has nothing to lose
        (RewardSettings(format_weight=0.0), (BAD, RIGHT), 1.0),
        (RewardSettings(kind="mmsearch-r1", search_penalty=0.5), (TEXT, RIGHT), 0.55),
    ],
)
async def test_golden_table(settings: RewardSettings, actions: tuple[Action, ...], value: float) -> None:
    score = await AgentReward(settings, RuleJudge("exact"))(played(*actions))
    assert score.value == pytest.approx(value, abs=1e-12)


async def test_parts_are_kept_apart() -> None:
    score = await AgentReward(MM, RuleJudge("exact"))(played(BAD, TEXT, RIGHT))
    assert score.parts == {"correct": 1.0, "format": 0.0, "penalty": 0.9}


@given(st.lists(st.sampled_from([TEXT, WHOLE, CROP]), max_size=12))
def test_format_holds_for_any_number_of_turns(searches: list[Action]) -> None:
    assert well_formed(played(*searches, RIGHT))
    assert not well_formed(played(*searches))
    assert not well_formed(played(*searches, BAD, RIGHT))


async def test_crop_quality_is_the_overlap_with_the_gold_box() -> None:
    settings = RewardSettings(crop_weight=0.2)
    half = played(CROP, RIGHT, gold=(0, 0, 10, 10), box=Box(0, 0, 10, 5))
    assert crop_quality(half) == pytest.approx(0.5)
    score = await AgentReward(settings, RuleJudge("exact"))(half)
    assert (score.value, score.parts["crop"]) == (pytest.approx(1.1), pytest.approx(0.5))
    assert crop_quality(played(CROP, RIGHT, gold=(0, 0, 10, 10))) == 0.0
    assert crop_quality(played(CROP, RIGHT, box=Box(0, 0, 1, 1, score=0.7))) == pytest.approx(0.7)
    assert crop_quality(played(WHOLE, RIGHT, gold=(0, 0, 10, 10))) is None


def test_overlap_of_boxes_apart_and_without_area_is_zero() -> None:
    assert overlap(Box(0, 0, 1, 1), Box(2, 2, 3, 3)) == 0.0
    assert overlap(Box(0, 0, 0, 0), Box(0, 0, 0, 0)) == 0.0
    assert overlap(Box(0, 0, 4, 4), Box(0, 0, 4, 4)) == 1.0


def test_a_penalty_without_its_reward_is_refused() -> None:
    with pytest.raises(ValidationError, match="set kind: mmsearch-r1"):
        RewardSettings(search_penalty=0.8)
    with pytest.raises(ValidationError):
        RewardSettings.model_validate({"kind": "em"})
