"""The mix: shares that are kept, categories as even as they can be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmmsearch.data.balance import Item, choose, fill, kind_quotas
from deepmmsearch.data.recipe import Mix


def items(**cells: int) -> list[Item]:
    """`Arts_free=3`: three of them."""
    return [
        Item(f"{name}-{number:04d}", *name.split("_"))  # type: ignore[call-arg]
        for name, count in cells.items()
        for number in range(count)
    ]


def test_half_and_half_and_uniform() -> None:
    rows = items(Arts_required=500, Place_required=300, People_required=80, Arts_free=30, Entities_free=200)
    chosen = [r for r in rows if r.id in set(choose(rows, Mix(size=300)))]
    assert Counter(r.search for r in chosen) == {"required": 150, "free": 150}
    by = Counter(r.category for r in chosen)
    # Entities hold 120 of the free ones whatever is done, the rest is even
    assert by == {"Entities": 120, "Arts": 60, "Place": 60, "People": 60}


def test_the_size_shrinks_to_the_scarcer_kind() -> None:
    rows = items(Arts_required=100, Arts_free=10)
    assert len(choose(rows, Mix(size=80))) == 20
    assert len(choose(rows, Mix(search_share=0.75))) == 40
    assert len(choose(rows, Mix(search_share=1.0))) == 100
    assert len(choose(rows, Mix(search_share=None))) == 110
    assert choose([], Mix()) == []


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("taxonomy", ["uniform", "random"])
def test_the_ablations_shares(share: float, taxonomy: str) -> None:
    rows = items(Arts_required=60, Place_required=90, Arts_free=70, Place_free=50)
    mix = Mix(size=100, search_share=share, taxonomy=taxonomy)  # type: ignore[arg-type]
    chosen = [r for r in rows if r.id in set(choose(rows, mix))]
    assert len(chosen) == 100 and sum(r.search == "required" for r in chosen) == round(100 * share)


def test_random_follows_the_data_and_seeds_decide() -> None:
    rows = items(Arts_required=900, Place_required=100, Arts_free=900, Place_free=100)
    of = {r.id: r.category for r in rows}
    random_mix = Counter(of[i] for i in choose(rows, Mix(size=200, taxonomy="random")))
    assert random_mix["Arts"] > 150
    assert Counter(of[i] for i in choose(rows, Mix(size=200))) == {"Arts": 100, "Place": 100}
    assert choose(rows, Mix(size=50)) == choose(rows, Mix(size=50)) != choose(rows, Mix(size=50, seed=1))
    assert choose(rows, Mix(size=50)) == choose(rows[::-1], Mix(size=50))[::-1], "the order of the rows plays no part"


counts = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30), max_size=6)


@given(counts, st.integers(0, 200), counts)
def test_filling_is_as_even_as_can_be(available: dict[str, int], count: int, level: dict[str, int]) -> None:
    taken = fill(available, count, level)
    assert sum(taken.values()) == min(count, sum(available.values()))
    assert all(0 <= taken[c] <= available[c] for c in available)
    for full in available:
        for other in available:
            if taken[full] > 0 and taken[other] < available[other]:
                # nothing could be moved to a category that has less
                assert level.get(full, 0) + taken[full] <= level.get(other, 0) + taken[other] + 1


@given(
    st.integers(0, 50),
    st.integers(0, 50),
    st.one_of(st.none(), st.integers(1, 120)),
    st.one_of(st.none(), st.floats(0, 1)),
)
def test_quotas_never_ask_for_more_than_there_is(
    required: int, free: int, size: int | None, share: float | None
) -> None:
    quotas = kind_quotas({"required": required, "free": free}, Mix(size=size, search_share=share))
    assert 0 <= quotas.get("required", 0) <= required and 0 <= quotas.get("free", 0) <= free
    assert size is None or sum(quotas.values()) <= size
