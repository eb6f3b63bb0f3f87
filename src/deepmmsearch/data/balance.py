"""Which rows a data set gets: a share that needs a search, about uniform over the categories."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deepmmsearch.data.recipe import Mix

REQUIRED, FREE = "required", "free"


@dataclass(frozen=True)
class Item:
    """A row as far as balancing goes. `search`: "required" or "free"."""

    id: str
    category: str
    search: str


def choose(items: Sequence[Item], mix: Mix) -> list[str]:
    """The ids of the chosen rows, in their order. Which rows of a cell are taken is decided by the seed.

    With a `search_share` the size shrinks to what the scarcer kind allows. Uniform: the kind with fewer categories to
    choose from is spread first, then the other fills the categories that have fewest.
    """
    rng = random.Random(f"balance {mix.seed}")
    cells: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in sorted(items, key=lambda i: i.id):
        cells[item.search, item.category].append(item.id)
    for names in cells.values():
        rng.shuffle(names)
    quotas = kind_quotas(Counter(item.search for item in items), mix)
    chosen: set[str] = set()
    if mix.taxonomy == "random":
        for kind in sorted(quotas):
            names = sorted(name for (k, _), cell in cells.items() if k == kind for name in cell)
            chosen.update(rng.sample(names, quotas[kind]))
    else:
        level: Counter[str] = Counter()
        for kind in sorted(quotas, key=lambda k: (sum(1 for cell in cells if cell[0] == k), k)):
            available = {category: len(names) for (k, category), names in cells.items() if k == kind}
            for category, count in fill(available, quotas[kind], level).items():
                chosen.update(cells[kind, category][:count])
                level[category] += count
    return [item.id for item in items if item.id in chosen]


def kind_quotas(available: Mapping[str, int], mix: Mix) -> dict[str, int]:
    """How many rows of each kind: `size` of them where there are enough, fewer in the same proportion where not."""
    total = sum(available.values())
    if mix.search_share is None:
        size = min(mix.size or total, total)
        if not total:
            return {}
        required = round(size * available.get(REQUIRED, 0) / total)
    else:
        size = min(mix.size or total, total)
        for kind, share in ((REQUIRED, mix.search_share), (FREE, 1 - mix.search_share)):
            if share > 0:
                # as a float first: a tiny share allows infinitely many
                size = int(min(size, available.get(kind, 0) / share + 1e-9))
        required = round(size * mix.search_share)
    required = min(required, available.get(REQUIRED, 0))
    return {REQUIRED: required, FREE: min(size - required, available.get(FREE, 0))}


def fill(available: Mapping[str, int], count: int, level: Mapping[str, int] | None = None) -> dict[str, int]:
    """`count` things over categories that hold so many each, so that with what is there already (`level`) the
    categories are as even as can be: always one more where there is least."""
    taken = dict.fromkeys(sorted(available), 0)
    level = level or {}
    for _ in range(min(count, sum(available.values()))):
        open_ones = [category for category in taken if taken[category] < available[category]]
        least = min(open_ones, key=lambda category: level.get(category, 0) + taken[category])
        taken[least] += 1
    return taken
