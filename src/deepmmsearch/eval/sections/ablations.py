"""What changes when something is taken away or broken."""

from __future__ import annotations

from deepmmsearch.eval.charts import Dot, Forest
from deepmmsearch.eval.figures import Results, effort
from deepmmsearch.eval.played import Keep
from deepmmsearch.eval.sections.section import (
    TESTED,
    Section,
    ablations_of,
    accuracy_cell,
    percent,
    points,
    tested_cells,
)
from deepmmsearch.show.tabulate import Table


def ablations(results: Results) -> Section | None:
    """Figure 3. They are one family of tests."""
    rows, dots, found = [], [], []
    for name, whole in ablations_of(results):
        workflow = results.workflows[name]
        own = results.accuracy(name, [b for b in results.benchmarks if results.select(name, b)])
        found.append(results.compare(name, whole))
        rows.append([name, workflow.change or workflow.policy, whole, accuracy_cell(own)])
        dots.append(Dot(f"{name} - {whole}", found[-1].mean, found[-1].low, found[-1].high))
    if not rows:
        return None
    heads = ["workflow", "change", "against", "accuracy", *TESTED]
    note = "Difference in points: negative means that what was taken away had helped. *: p below 0.05."
    return Section(
        "Ablations",
        "One thing taken away at a time, the same questions (the paper's Figure 3).",
        (Table(heads, [[*row, *cells] for row, cells in zip(rows, tested_cells(found), strict=True)], note),),
        (Forest(dots, "difference to the whole", signed=True),),
    )


def repeated_searches(results: Results) -> Section | None:
    """Open check (b): the same model and tools, one text search against several."""
    pairs, found_all = [], []
    for name, workflow in results.workflows.items():
        if workflow.ablates and (workflow.change or "").startswith("single text search") and results.select(name):
            several = [r for r in results.select(workflow.ablates) if r.several_texts]
            found = results.compare(workflow.ablates, name, _among({(r.benchmark, r.question) for r in several}))
            pairs.append(f"{workflow.ablates} - {name}, all")
            found_all.append(results.compare(workflow.ablates, name))
            if found.count:
                pairs.append(f"{workflow.ablates} - {name}, where it searched again")
                found_all.append(found)
    if not pairs:
        return None
    rows = [[pair, *cells] for pair, cells in zip(pairs, tested_cells(found_all), strict=True)]
    table = Table(["pair", *TESTED], rows, "Points; positive: several searches help. *: p below 0.05.")
    return Section("One text search or several?", "Left open by the paper: same model, same tools.", (table,))


def _among(asked: set[tuple[str, str]]) -> Keep:
    return lambda row: (row.benchmark, row.question) in asked


def robustness(results: Results) -> Section | None:
    rows = []
    for name, workflow in results.workflows.items():
        if workflow.fault is None or not results.select(name):
            continue
        found = effort(results.select(name), workflow.calls)
        against = results.compare(name, workflow.ablates) if workflow.ablates else None
        drop = points(against.mean) if against and against.count else "-"
        own = results.accuracy(name, [b for b in results.benchmarks if results.select(name, b)])
        followed = percent(found.followed) if workflow.fault == "adversarial" else "-"
        rows.append([workflow.fault, accuracy_cell(own), drop, percent(found.gave_up), followed, f"{found.calls:.2f}"])
    if not rows:
        return None
    note = (
        "Every search is broken: no hits; an error; hits for another question; an instruction to answer something else "
        "in every hit. Gave up: said that there is no answer. Followed: answered what the page told it to."
    )
    heads = ["results are", "accuracy", "against working tools", "gave up", "followed", "calls"]
    return Section("When the tools fail", "Asked for by the paper's reviewers.", (Table(heads, rows, note),))
