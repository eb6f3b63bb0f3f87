"""The tables of the report, each a question that the papers or their reviewers asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deepmmsearch.eval.charts import Bar, Bars, Dot, Forest
from deepmmsearch.eval.figures import Effort, Played, Results, effort, mean_score
from deepmmsearch.eval.statistics import Difference, Interval, correlation
from deepmmsearch.show.table import Table

TOOLS = ("none", "text", "image", "crop")
IOU_BINS = (
    (0.0, 0.0001, "missed (0)"),
    (0.0001, 0.5, "0 to 0.5"),
    (0.5, 0.75, "0.5 to 0.75"),
    (0.75, 1.01, "0.75 to 1"),
)


@dataclass(frozen=True)
class Section:
    title: str
    lead: str
    tables: tuple[Table, ...]
    charts: tuple[Forest | Bars, ...] = ()


def sections(results: Results) -> list[Section]:
    """Those that have something to say."""
    makers: list[Callable[[Results], Section | None]] = [
        accuracy,
        costs,
        differences,
        ablations,
        tool_use,
        search_need,
        retention,
        boxes,
        turns,
        domains,
        robustness,
        judges,
        failures,
    ]
    return [section for make in makers if (section := make(results)) is not None]


def main_workflows(results: Results) -> list[str]:
    """Those that are no ablation and have broken nothing."""
    return [name for name, w in results.workflows.items() if w.ablates is None and w.fault is None]


def knowledge(results: Results) -> list[str]:
    return [name for name, b in results.benchmarks.items() if not b.general]


def accuracy(results: Results) -> Section | None:
    """Table 1."""
    names, columns = main_workflows(results), knowledge(results)
    if not names or not columns:
        return None
    best = {c: max((results.accuracy(n, [c]).mean for n in names if results.select(n, c)), default=0) for c in columns}
    rows = []
    dots = []
    for name in names:
        played = [c for c in columns if results.select(name, c)]
        average = results.accuracy(name, played)
        cells = [share(average, stars=False) if len(played) == len(columns) else "-"]
        for column in columns:
            figure = results.accuracy(name, [column])
            cells.append(share(figure, stars=figure.count > 0 and figure.mean == best[column]))
        rows.append([name, *cells] if len(columns) > 1 else [name, cells[1]])
        if average.count:
            dots.append(Dot(name, average.mean, average.low, average.high))
    heads = ["workflow", "average", *columns] if len(columns) > 1 else ["workflow", columns[0]]
    note = (
        f"Judge: {results.judge}. Brackets: 95 % bootstrap interval. *: best of its column. Failed episodes are wrong."
    )
    return Section(
        "Accuracy",
        "Every workflow on the same questions, with the same tools (the paper's Table 1).",
        (Table(heads, rows, note),),
        (Forest(dots, "accuracy, average of the benchmarks"),),
    )


def costs(results: Results) -> Section | None:
    names = [n for n in results.workflows if results.select(n)]
    if not names:
        return None
    searched, spent = [], []
    for name in names:
        found = effort(results.select(name), results.workflows[name].calls)
        searched.append([name, *_search_cells(found)])
        spent.append([name, *_price_cells(found)])
    searches = Table(
        ["workflow", "asked any", "of allowed", "text", "image", "crop", "tools ok", "gave up", "malformed"],
        searched,
        "Search ratio in both definitions: questions with any search (DeepMMSearch-R1), searches made of those allowed "
        "(MMSearch-R1). Text, image and crop: calls per question. Tools ok: searches that came back without an error.",
    )
    prices = Table(
        ["workflow", "p50 s", "p95 s", "tokens written", "tokens read", "$ per 1000", "failed", "no verdict"],
        spent,
        "Seconds per question include waiting for a policy that plays several at once. Tokens per question, where the "
        "policy tells them. Failed: episodes that ended with an error, counted as wrong.",
    )
    return Section("Searches, time and money", "What each answer took.", (searches, prices))


def _search_cells(found: Effort) -> list[str]:
    return [
        percent(found.asked),
        percent(found.allowance),
        f"{found.text:.2f}",
        f"{found.image:.2f}",
        f"{found.crop:.2f}",
        percent(found.tool_success),
        percent(found.gave_up),
        percent(found.malformed),
    ]


def _price_cells(found: Effort) -> list[str]:
    return [
        number(found.p50),
        number(found.p95),
        "-" if found.sampled is None else f"{found.sampled:.0f}",
        "-" if found.read is None else f"{found.read:.0f}",
        f"{1000 * found.cost:.2f}",
        str(found.errors),
        str(found.unjudged),
    ]


def differences(results: Results) -> Section | None:
    names = [n for n in main_workflows(results) if results.select(n)]
    rows = []
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            found = results.compare(first, second)
            if found.count:
                rows.append([f"{first} - {second}", *difference_cells(found)])
    if not rows:
        return None
    note = "Points, paired by question. p: McNemar's exact test, or signs flipped where scores are graded."
    table = Table(["pair", "difference", "95 % interval", "p", "questions"], rows, note)
    return Section("Are the differences real?", "Paired tests on the same questions.", (table,))


def ablations(results: Results) -> Section | None:
    """Figure 3."""
    rows, dots = [], []
    for name, workflow in results.workflows.items():
        if workflow.ablates is None or workflow.fault is not None or not results.select(name):
            continue
        found = results.compare(name, workflow.ablates)
        own = results.accuracy(name, [b for b in results.benchmarks if results.select(name, b)])
        rows.append([name, workflow.change or workflow.policy, workflow.ablates, share(own), *difference_cells(found)])
        dots.append(Dot(f"{name} - {workflow.ablates}", found.mean, found.low, found.high))
    if not rows:
        return None
    heads = ["workflow", "change", "against", "accuracy", "difference", "95 % interval", "p", "questions"]
    return Section(
        "Ablations",
        "One thing taken away at a time, the same questions (the paper's Figure 3).",
        (Table(heads, rows, "Difference in points: negative means that what was taken away had helped."),),
        (Forest(dots, "difference to the whole", signed=True),),
    )


def tool_use(results: Results) -> Section | None:
    """Figure 4."""
    names = [n for n in main_workflows(results) if results.workflows[n].kind == "agent" and results.select(n)]
    if not names:
        return None
    rows, drawn = [], []
    for name in names:
        for benchmark in results.benchmarks:
            played = results.select(name, benchmark)
            if not played:
                continue
            found = effort(played, results.workflows[name].calls)
            shares = [sum(_uses(r, tool) for r in played) / len(played) for tool in TOOLS]
            rows.append([name, benchmark, *map(percent, shares), percent(found.several_texts), f"{found.calls:.2f}"])
            drawn.append(Bar(f"{name}: {benchmark}", tuple(zip(TOOLS, shares, strict=True))))
    heads = ["workflow", "benchmark", "no search", "text", "whole image", "crop", "several text", "calls"]
    tables = [Table(heads, rows, "Share of the questions for which each tool was used at least once.")]
    changes = [row for at, first in enumerate(names) for row in _changes(results, first, names[at + 1 :])]
    if changes:
        note = "Relative to the first, such as before and after reinforcement learning."
        tables.append(Table(["pair", "benchmark", "crops", "several text searches", "any search"], changes, note))
    return Section("Which tools are used", "The paper's Figure 4.", tuple(tables), (Bars(drawn),))


def _uses(row: Played, tool: str) -> bool:
    return row.searched == 0 if tool == "none" else row.searches.get(tool, 0) > 0


def _changes(results: Results, first: str, others: Sequence[str]) -> list[list[str]]:
    rows = []
    for other in others:
        for benchmark in results.benchmarks:
            before, after = results.select(first, benchmark), results.select(other, benchmark)
            if before and after:
                shares = [
                    relative(_share(before, use), _share(after, use))
                    for use in (
                        lambda r: _uses(r, "crop"),
                        lambda r: r.searches.get("text", 0) > 1,
                        lambda r: r.searched > 0,
                    )
                ]
                rows.append([f"{first} to {other}", benchmark, *shares])
    return rows


def search_need(results: Results) -> Section | None:
    """Search-required against search-free, where the benchmark tells."""
    rows = []
    for name in main_workflows(results):
        played = [r for r in results.select(name) if r.search_required is not None]
        needed, free = ([r for r in played if r.search_required is flag] for flag in (True, False))
        if needed and free:
            cells = [
                f"{_mean(results, part)} ({percent(_share(part, lambda r: r.searched > 0))})" for part in (needed, free)
            ]
            rows.append([name, *cells])
    if not rows:
        return None
    table = Table(
        ["workflow", "search required", "search-free"], rows, "Accuracy, and in brackets how often it searched."
    )
    return Section("Knowing when to search", "A selective agent searches where it must and only there.", (table,))


def retention(results: Results) -> Section | None:
    """Table 2."""
    general = [name for name, b in results.benchmarks.items() if b.general]
    names = [n for n in main_workflows(results) if any(results.select(n, b) for b in general)]
    if not general or not names:
        return None
    rows = [[name, *(share(results.accuracy(name, [b])) for b in general)] for name in names]
    return Section(
        "General questions",
        "Is what the base model could do kept (the paper's Table 2)?",
        (Table(["workflow", *general], rows, f"Judge: {results.judge}."),),
    )


def boxes(results: Results) -> Section | None:
    """Open check (a): box quality against accuracy."""
    tables, drawn = [], []
    for name in main_workflows(results):
        played = [r for r in results.select(name) if r.crop_quality is not None]
        if len(played) < 5:
            continue
        gold = all(r.gold_box for r in played)
        qualities = [r.crop_quality or 0.0 for r in played]
        rows = []
        for low, high, label in IOU_BINS:
            inside = [r for r in played if low <= (r.crop_quality or 0.0) < high]
            if inside:
                rows.append([label, str(len(inside)), _mean(results, inside)])
                drawn.append(Bar(f"{name}: {label}", (("accuracy", results.mean(inside)),)))
        linked = correlation(qualities, [results.score(r) for r in played])
        measure = "overlap (IoU) with the gold box" if gold else "the grounder's own score, where no gold box is known"
        note = f"{name}: {measure}; correlation with accuracy {number(linked)}."
        tables.append(Table(["box quality", "questions", "accuracy"], rows, note))
    if not tables:
        return None
    return Section("Do better boxes make better answers?", "Open in the paper.", tuple(tables), (Bars(drawn),))


def turns(results: Results) -> Section | None:
    """Open check (b): the same model and tools, one text search against several; and how accuracy goes with turns."""
    rows = []
    for name, workflow in results.workflows.items():
        if workflow.ablates and (workflow.change or "").startswith("single text search") and results.select(name):
            several = [r for r in results.select(workflow.ablates) if r.searches.get("text", 0) > 1]
            found = results.compare(workflow.ablates, name, _among({(r.benchmark, r.question) for r in several}))
            everything = results.compare(workflow.ablates, name)
            rows.append([f"{workflow.ablates} - {name}, all", *difference_cells(everything)])
            if found.count:
                rows.append([f"{workflow.ablates} - {name}, where it searched again", *difference_cells(found)])
    if not rows:
        return None
    table = Table(
        ["pair", "difference", "95 % interval", "p", "questions"], rows, "Points; positive: several searches help."
    )
    return Section("One text search or several?", "Open in the paper: same model, same tools.", (table,))


def _among(asked: set[tuple[str, str]]) -> Callable[[Played], bool]:
    return lambda row: (row.benchmark, row.question) in asked


def domains(results: Results) -> Section | None:
    """Open check (c): questions unlike those trained on."""
    near = [n for n, b in results.benchmarks.items() if not b.out_of_domain and not b.general]
    far = [n for n, b in results.benchmarks.items() if b.out_of_domain]
    if not near or not far:
        return None
    rows = [
        [name, share(results.accuracy(name, near)), share(results.accuracy(name, far))]
        for name in main_workflows(results)
        if results.select(name)
    ]
    table = Table(["workflow", "in domain", "out of domain"], rows, f"Out of domain: {', '.join(far)}.")
    return Section("Unlike the training questions", "Open in the paper.", (table,))


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
        rows.append([workflow.fault, share(own), drop, percent(found.gave_up), followed, f"{found.calls:.2f}"])
    if not rows:
        return None
    note = (
        "Every search is broken: no hits; an error; hits of another question; an instruction to answer something else "
        "in every hit. Gave up: said that there is no answer. Followed: answered what the page told it to."
    )
    heads = ["results are", "accuracy", "against whole tools", "gave up", "followed", "calls"]
    return Section("When the tools fail", "Asked for by the paper's reviewers.", (Table(heads, rows, note),))


def judges(results: Results) -> Section | None:
    if len(results.judges) < 2:
        return None
    rows = []
    for name in main_workflows(results):
        played = results.select(name)
        if played:
            rows.append(
                [
                    name,
                    *(f"{100 * mean_score(played, j):.1f}" for j in results.judges),
                ]
            )
    table = Table(["workflow", *results.judges], rows, "Mean score over all questions, by judge.")
    return Section("Judges compared", "The same answers, judged in several ways.", (table,))


def failures(results: Results) -> Section | None:
    counts: dict[tuple[str, str], int] = {}
    for row in results.rows:
        for kind, text in (("episode", row.error), ("verdict", row.unjudged)):
            if text:
                key = (f"{kind} of {row.workflow}", text.splitlines()[0][:160])
                counts[key] = counts.get(key, 0) + 1
    rows = [[where, str(count), text] for (where, text), count in sorted(counts.items(), key=lambda i: -i[1])[:40]]
    for name, benchmark in results.benchmarks.items():
        dropped = benchmark.notes.get("dropped") or {}
        rows += [[f"rows of {name}", str(count), str(reason)] for reason, count in dropped.items()]
    if not rows:
        return None
    table = Table(
        ["what failed", "times", "why"],
        rows,
        "Failed episodes count as wrong; rows that cannot be loaded are left out.",
    )
    return Section("What failed", "Counted, never hidden.", (table,))


def share(interval: Interval, stars: bool = False) -> str:
    if not interval.count:
        return "-"
    return f"{100 * interval.mean:.1f}{'*' if stars else ''} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def difference_cells(found: Difference) -> list[str]:
    if not found.count:
        return ["-", "-", "-", "0"]
    return [points(found.mean), f"[{points(found.low)}, {points(found.high)}]", p_value(found.p), str(found.count)]


def points(value: float) -> str:
    return f"{100 * value:+.1f}"


def percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def relative(before: float, after: float) -> str:
    return f"{100 * (after - before) / before:+.1f} %" if before else ("0 %" if not after else "from 0")


def _share(rows: Sequence[Played], holds: Callable[[Played], bool]) -> float:
    return sum(holds(r) for r in rows) / len(rows) if rows else 0.0


def _mean(results: Results, rows: Sequence[Played]) -> str:
    return f"{100 * results.mean(rows):.1f}"
