"""What the oracle teaches, and how often each kind of question is asked."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from deepmmsearch.atlas.play import correct
from deepmmsearch.atlas.questions import KINDS, SEARCH_FREE, WEIGHTS, each_question, kind_weights
from deepmmsearch.atlas.teach import Lessons, teach
from deepmmsearch.atlas.world import make_world
from deepmmsearch.atlas.worlds import Worlds
from deepmmsearch.engine import Index
from deepmmsearch.errors import UserError
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Trajectory


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worlds of half the size."""
    for user in ("teach", "worlds"):
        monkeypatch.setattr(f"deepmmsearch.atlas.{user}.make_world", partial(make_world, countries=12, famous=2))


def taught(folder: Path, careful: float) -> list[Trajectory]:
    teach(Lessons(1, 8, 1000, careful, by_heart=12), folder)
    store = TrajectoryStore(folder)
    assert len(set(store.ids())) == len(store.ids())
    return [row for row in store if row.prompt.name == "atlas" and row.question.metadata["kind"] == "memory"]


def test_a_careful_teacher_looks_up_what_it_knows_by_heart_and_joins_no_other(tmp_path: Path) -> None:
    by_heart, careful = taught(tmp_path / "heart", 0.0), taught(tmp_path / "careful", 1.0)
    with pytest.raises(UserError, match=r"was made with other settings \(careful: 0.0 -> 0.5\)"):
        taught(tmp_path / "heart", 0.5)
    assert len(by_heart) >= 12 and len(careful) >= 12
    assert all(correct(row) for row in (*by_heart, *careful))
    assert not any(row.searches for row in by_heart)
    assert all(row.searches for row in careful)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_questions_that_need_a_search_can_be_chosen(share: float) -> None:
    weights = dict(zip(KINDS, kind_weights(share), strict=True))
    assert sum(weights.values()) == pytest.approx(1)
    assert sum(weights[kind] for kind in SEARCH_FREE) == pytest.approx(1 - share)
    assert kind_weights() == WEIGHTS and kind_weights(0.78) == pytest.approx(WEIGHTS)


def test_worlds_of_two_mixes_stand_side_by_side(tmp_path: Path) -> None:
    usual = Worlds(tmp_path, [5], 3)
    even = Worlds(tmp_path, [5], 3, search_share=0.0)
    # ranked as the bundled model learnt it
    assert Index.open(usual.index(usual.worlds[0])).settings.titles == "apart"
    assert all(question.metadata["search_required"] is False for question in even)
    assert list(usual) != list(even) and len(list(tmp_path.iterdir())) == 2
    assert usual.worlds == even.worlds == ("train-5",)


def test_no_question_needs_a_search_where_none_should() -> None:
    kinds = {q.metadata["kind"] for q in each_question(make_world(3, "train"), 12, search_share=0.0)}
    assert kinds <= set(SEARCH_FREE)
