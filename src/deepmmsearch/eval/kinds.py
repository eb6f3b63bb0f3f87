"""How well each kind of the atlas's questions was answered, by one player or several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from deepmmsearch.atlas.questions import KINDS
from deepmmsearch.eval.figures import EXACT, effort
from deepmmsearch.eval.played import Played
from deepmmsearch.show.tabulate import Table


def by_kind(rows: Iterable[Played]) -> dict[str, list[Played]]:
    """In the order of the atlas, unknown kinds last; "all" holds every row."""
    kinds: dict[str, list[Played]] = {}
    for row in rows:
        for kind in (row.kind or "other", "all"):
            kinds.setdefault(kind, []).append(row)
    order = [*(k for k in KINDS if k in kinds), *sorted(k for k in kinds if k not in (*KINDS, "all")), "all"]
    return {kind: kinds[kind] for kind in order if kind in kinds}


def kind_table(players: Mapping[str, Sequence[Played]]) -> Table:
    """A row for each kind that the first player met, one for "all", one for searches. Answers are judged exactly."""
    found = {name: by_kind(rows) for name, rows in players.items()}
    kinds = next(iter(found.values()))
    rows = [[kind.replace("_", " "), *(_right(own.get(kind, [])) for own in found.values())] for kind in kinds]
    rows.append(["searches a question", *(f"{effort(own, 0).calls:.2f}" for own in players.values())])
    return Table(["kind", *players], rows)


def _right(rows: Sequence[Played]) -> str:
    right = sum(row.scores[EXACT] for row in rows)
    return f"{right:.0f}/{len(rows)} {right / len(rows):4.0%}" if rows else "-"
