"""What answering took, which tools were used for it, and what failed."""

from __future__ import annotations

from collections.abc import Sequence

from deepmmsearch.eval.charts import Bar, BarChart
from deepmmsearch.eval.figures import Effort, Results, effort, share_of
from deepmmsearch.eval.played import Keep
from deepmmsearch.eval.sections.section import Section, main_workflows, mean_cell, number, percent
from deepmmsearch.eval.statistics import correlation
from deepmmsearch.show.tabulate import Table

IOU_BINS = (
    (0.0, 0.0001, "missed (0)"),
    (0.0001, 0.5, "0 to 0.5"),
    (0.5, 0.75, "0.5 to 0.75"),
    (0.75, 1.01, "0.75 to 1"),
)


def costs(results: Results) -> Section | None:
    names = [n for n in results.workflows if results.select(n)]
    if not names:
        return None
    searched, spent = [], []
    for name in names:
        found = effort(results.select(name), results.workflows[name].calls)
        searched.append([name, *_search_cells(found, results.tools)])
        spent.append([name, *_price_cells(found)])
    searches = Table(
        ["workflow", "asked any", "of allowed", *results.tools, "tools ok", "gave up", "malformed", "unavailable"],
        searched,
        "Search ratio by both definitions: questions with any search (DeepMMSearch-R1), searches made out of those "
        "allowed (MMSearch-R1). Text, image and crop: searches per question. Tools ok: searches that came back without "
        "an error. Unavailable: turns per question that asked for a tool that is not there.",
    )
    prices = Table(
        ["workflow", "p50 s", "p95 s", "tokens written", "tokens read", "$ per 1000", "failed", "no verdict"],
        spent,
        "Seconds per question include waiting for a policy that plays several at once. Tokens per question, where the "
        "policy reports them. Failed: episodes that ended with an error, counted as wrong.",
    )
    return Section("Searches, time and money", "What each answer cost.", (searches, prices))


def _search_cells(found: Effort, tools: Sequence[str]) -> list[str]:
    return [
        percent(found.asked),
        percent(found.allowance),
        *(f"{found.tools.get(tool, 0.0):.2f}" for tool in tools),
        percent(found.tool_success),
        percent(found.gave_up),
        percent(found.malformed),
        f"{found.unavailable:.2f}",
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
            shares = {"none": 1 - found.asked}
            shares |= {tool: sum(r.used(tool) for r in played) / len(played) for tool in results.tools}
            cells = [percent(share) for share in shares.values()]
            rows.append([name, benchmark, *cells, percent(found.several_texts), f"{found.calls:.2f}"])
            drawn.append(Bar(f"{name}: {benchmark}", tuple(shares.items())))
    tools = ["whole image" if tool == "image" else tool for tool in results.tools]
    heads = ["workflow", "benchmark", "no search", *tools, "several text", "calls"]
    tables = [Table(heads, rows, "Share of the questions for which each tool was used at least once.")]
    whole = [n for n in names if results.workflows[n].ablates is None and results.workflows[n].replicates is None]
    changes = [row for at, first in enumerate(whole) for row in _changes(results, first, whole[at + 1 :])]
    if changes:
        note = "Relative to the first, such as before and after reinforcement learning."
        tables.append(Table(["pair", "benchmark", "crops", "several text searches", "any search"], changes, note))
    return Section("Which tools are used", "The paper's Figure 4.", tuple(tables), (BarChart(drawn),))


def _changes(results: Results, first: str, others: Sequence[str]) -> list[list[str]]:
    rows = []
    for other in others:
        for benchmark in results.benchmarks:
            before, after = results.select(first, benchmark), results.select(other, benchmark)
            if before and after:
                uses: list[Keep] = [lambda r: r.used("crop"), lambda r: r.several_texts, lambda r: r.searched > 0]
                shares = [_relative(share_of(before, use), share_of(after, use)) for use in uses]
                rows.append([f"{first} to {other}", benchmark, *shares])
    return rows


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
                rows.append([label, str(len(inside)), mean_cell(results, inside)])
                drawn.append(Bar(f"{name}: {label}", (("accuracy", results.mean(inside)),)))
        linked = correlation(qualities, [results.score(r) for r in played])
        measure = "overlap (IoU) with the gold box" if gold else "the grounder's own score, where no gold box is known"
        note = f"{name}: {measure}; correlation with accuracy {number(linked)}."
        tables.append(Table(["box quality", "questions", "accuracy"], rows, note))
    if not tables:
        return None
    return Section("Do better boxes make better answers?", "Left open by the paper.", tuple(tables), (BarChart(drawn),))


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
        told = benchmark.notes.get("notes") or {}
        rows += [[f"rows of {name}, played", str(count), str(note)] for note, count in told.items()]
    if not rows:
        return None
    table = Table(
        ["what failed", "times", "why"],
        rows,
        "Failed episodes count as wrong; rows that cannot be loaded are left out.",
    )
    return Section("What failed", "Counted, never hidden.", (table,))


def _relative(before: float, after: float) -> str:
    return f"{100 * (after - before) / before:+.1f} %" if before else ("0 %" if not after else "from 0")
