"""Who answers better: everywhere, and on questions of one sort."""

from __future__ import annotations

from collections.abc import Sequence

from deepmmsearch.eval.charts import Dot, Forest
from deepmmsearch.eval.figures import Results, mean_score, share_of
from deepmmsearch.eval.sections.section import (
    COMPARED,
    TESTED,
    Section,
    accuracy_cell,
    comparisons,
    difference_cells,
    main_workflows,
    mean_cell,
    percent,
    tested_cells,
)
from deepmmsearch.prompts import IN_OUR_WORDS
from deepmmsearch.show.tabulate import Table


def accuracy(results: Results) -> Section | None:
    """Table 1."""
    names, columns = main_workflows(results), knowledge(results)
    if not names or not columns:
        return None
    best = {c: max((results.accuracy(n, [c]).mean for n in names if results.select(n, c)), default=0) for c in columns}
    rows, dots = [], []
    for name in names:
        played = [c for c in columns if results.select(name, c)]
        average = results.accuracy(name, played)
        cells = [accuracy_cell(average) if len(played) == len(columns) else "-"]
        for column in columns:
            figure = results.accuracy(name, [column])
            cells.append(accuracy_cell(figure, best=figure.count > 0 and figure.mean == best[column]))
        rows.append([name, *cells] if len(columns) > 1 else [name, cells[1]])
        if average.count:
            dots.append(Dot(name, average.mean, average.low, average.high))
    rows += _over_seeds(results, names, columns)
    heads = ["workflow", "average", *columns] if len(columns) > 1 else ["workflow", columns[0]]
    note = (
        f"Judge: {results.judge}. Brackets: 95 % bootstrap interval. *: best of its column. Failed episodes are wrong. "
        "Over seeds: the mean of models that differ in the seed of their training, which is resampled too."
    )
    if ours := [name for name in names if results.workflows[name].prompt.endswith(IN_OUR_WORDS)]:
        note += (
            f" Played with a prompt in our words, not the one that its model was trained with: {', '.join(ours)}. "
            "`deepmmsearch dialects fetch` brings theirs."
        )
    return Section(
        "Accuracy",
        "Every workflow on the same questions, with the same tools (the paper's Table 1).",
        (Table(heads, rows, note),),
        (Forest(dots, "accuracy, average of the benchmarks"),),
    )


def _over_seeds(results: Results, names: Sequence[str], columns: Sequence[str]) -> list[list[str]]:
    rows = []
    for name in names:
        runs = results.runs_of(name)
        if len(runs) > 1 and all(results.select(run, column) for run in runs for column in columns):
            parts = [columns, *([column] for column in columns)]
            average, *each = [accuracy_cell(results.accuracy_of_runs(name, part)) for part in parts]
            rows.append([f"{name}, over {len(runs)} seeds", *([average] if len(columns) > 1 else []), *each])
    return rows


def knowledge(results: Results) -> list[str]:
    return [name for name, b in results.benchmarks.items() if not b.general]


def differences(results: Results) -> Section | None:
    """The pairs that were planned are one family; whoever looks at all others finds some by chance."""
    found = comparisons(results)
    family, others = ([c for c in found if c.planned is planned] for planned in (True, False))
    tables = []
    if family:
        cells = tested_cells([each.difference for each in family])
        rows = [[f"{c.first} - {c.second}", *row] for c, row in zip(family, cells, strict=True)]
        note = (
            "Points, paired by question. p: McNemar's exact test, random sign flips where scores are graded, or the "
            f"share of resamples where there are several seeds; corrected for {len(rows)} planned pairs (Holm). "
            "*: below 0.05."
        )
        tables.append(Table(["pair", *TESTED], rows, note))
    if others:
        rows = [[f"{c.first} - {c.second}", *difference_cells(c.difference)] for c in others]
        note = "Not planned, so not tested: of many pairs some differ by chance."
        tables.append(Table(["pair", *COMPARED], rows, note, folded=f"Other pairs: {len(rows)}"))
    if not tables:
        return None
    lead = "Planned before anything was played: the claims, and ablations against what they are of."
    return Section("Are the differences real?", lead, tuple(tables))


def search_need(results: Results) -> Section | None:
    """Search-required against search-free, where the benchmark tells."""
    rows = []
    for name in main_workflows(results):
        played = [r for r in results.select(name) if r.search_required is not None]
        needed, free = ([r for r in played if r.search_required is flag] for flag in (True, False))
        if needed and free:
            cells = [
                f"{mean_cell(results, part)} ({percent(share_of(part, lambda r: r.searched > 0))})"
                for part in (needed, free)
            ]
            rows.append([name, *cells])
    if not rows:
        return None
    table = Table(
        ["workflow", "search required", "search-free"], rows, "Accuracy, and in brackets how often it searched."
    )
    return Section("Knowing when to search", "A selective agent searches where it must, and only there.", (table,))


def retention(results: Results) -> Section | None:
    """Table 2."""
    general = [name for name, b in results.benchmarks.items() if b.general]
    names = [n for n in main_workflows(results) if any(results.select(n, b) for b in general)]
    if not general or not names:
        return None
    rows = [[name, *(accuracy_cell(results.accuracy(name, [b])) for b in general)] for name in names]
    return Section(
        "General questions",
        "Does the model keep what its base could do (the paper's Table 2)?",
        (Table(["workflow", *general], rows, f"Judge: {results.judge}."),),
    )


def domains(results: Results) -> Section | None:
    """Open check (c): questions unlike those trained on."""
    near = [n for n, b in results.benchmarks.items() if not b.out_of_domain and not b.general]
    far = [n for n, b in results.benchmarks.items() if b.out_of_domain]
    if not near or not far:
        return None
    rows = [
        [name, accuracy_cell(results.accuracy(name, near)), accuracy_cell(results.accuracy(name, far))]
        for name in main_workflows(results)
        if results.select(name)
    ]
    table = Table(["workflow", "in domain", "out of domain"], rows, f"Out of domain: {', '.join(far)}.")
    return Section("Unlike the training questions", "Left open by the paper.", (table,))


def judges(results: Results) -> Section | None:
    if len(results.judges) < 2:
        return None
    rows = []
    for name in main_workflows(results):
        played = results.select(name)
        if played:
            rows.append([name, *(f"{100 * mean_score(played, judge):.1f}" for judge in results.judges)])
    table = Table(["workflow", *results.judges], rows, "Mean score over all questions, by judge.")
    return Section("Judges compared", "The same answers, judged in several ways.", (table,))
