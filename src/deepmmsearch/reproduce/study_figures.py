"""What the study measured: a table, claims and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from deepmmsearch.eval.claims import Finding
from deepmmsearch.eval.figures import Results, effort
from deepmmsearch.eval.played import Played
from deepmmsearch.eval.statistics import Difference, Interval
from deepmmsearch.files import write_json, write_text
from deepmmsearch.progress import Watch, silent
from deepmmsearch.reproduce.study import LIMITS, Study
from deepmmsearch.show.tabulate import Table, markdown_table
from deepmmsearch.train.plots import plot_runs, read_metrics

CURVES = {
    "accuracy, held out (greedy)": "eval/accuracy",
    "reward": "reward/mean",
    "searches, none needed (held out)": "eval/searches_search_free",
    "KL to the start": "kl",
}
COLUMNS = (
    "model", "right", "search needed", "none needed", "search ratio", "searches, needed", "searches, none", "malformed"
)  # fmt: skip


def write_study(study: Study, results: Results, watch: Watch = silent) -> None:
    """Tells table and claims and writes study.md, study.json and study.png to the study's folder."""
    table = study_table(results)
    found = study_findings(results, study.seeds)
    lines = [*markdown_table(table), "", *(f"- {_mark(f)}: {f.text} ({f.figure})" for f in found)]
    text = "\n".join(lines) + "\n"
    write_text(study.out / "study.md", text)
    kept = {"table": [dict(zip(COLUMNS, row, strict=True)) for row in table.rows], "claims": [asdict(f) for f in found]}
    write_json(study.out / "study.json", kept)
    plot_runs(_curves(study), study.out / "study.png", CURVES)
    watch(text)
    watch(f"Wrote {study.out / 'study.md'}, study.json and study.png")


def _mark(finding: Finding) -> str:
    return "shown" if finding.shown else "NOT shown"


def _curves(study: Study) -> dict[str, list[dict[str, float]]]:
    folders = {job.name: study.out / job.name for job in study.jobs() if job.command[0] == "grpo"}
    return {name: read_metrics(path / "metrics.jsonl") for name, path in folders.items() if path.is_dir()}


def study_table(results: Results) -> Table:
    """A row for each model: accuracy with its interval, over all questions and by need of a search, and searches."""
    rows = []
    for name in results.workflows:
        played = results.select(name)
        halves = [[r for r in played if needed(r)], [r for r in played if not needed(r)]]
        rows.append(
            [
                name,
                _share(results.accuracy(name)),
                _share(results.accuracy(name, keep=needed)),
                _share(results.accuracy(name, keep=free)),
                f"{search_ratio(played):.3f}",
                *(f"{effort(half, LIMITS['calls']).calls:.2f}" for half in halves),
                f"{sum(r.malformed for r in played) / max(1, len(played)):.2f}",
            ]
        )
    return Table(COLUMNS, rows)


def study_findings(results: Results, seeds: Sequence[int]) -> list[Finding]:
    """What the study set out to show; where the figures do not show it, it says so."""
    start = results.accuracy("start")
    gains = [results.compare(f"rl-{seed}", "start") for seed in seeds]
    over = [_over_seeds(results, seeds)] if len(seeds) > 1 else []
    kept = [results.compare(f"rl-{seed}", "start", needed) for seed in seeds]
    found = [
        Finding("the start is between 60 and 75 %", _share(start), 0.6 <= start.mean <= 0.75),
        Finding(
            "GRPO gains at least 8 points over its start, each seed",
            "; ".join([*map(_points, gains), *over]),
            all(gain.mean >= 0.08 for gain in gains),
        ),
        Finding(
            "no fewer right on questions that need a search",
            "; ".join(map(_points, kept)),
            all(difference.mean >= 0 for difference in kept),
        ),
    ]
    if {"cautious", "selective", "penalty"} <= results.workflows.keys():
        found += _selectivity(results)
    if "final" in results.workflows:
        final = results.accuracy("final")
        found.append(Finding("the shipped model reaches 92 %", _share(final), final.mean >= 0.92))
    return found


def _over_seeds(results: Results, seeds: Sequence[int]) -> str:
    """The gain as the mean of the training runs, which are resampled as the questions are."""
    first, *others = [f"rl-{seed}" for seed in seeds]
    same = {name: replace(results.workflows[name], replicates=first) for name in others}
    found = replace(results, workflows={**results.workflows, **same}).compare(first, "start")
    return f"over {found.seeds} seeds {_points(found)}"


def _selectivity(results: Results) -> list[Finding]:
    fewer = results.compare("selective", "cautious", free, lambda row: row.searched)
    kept = results.compare("selective", "cautious", needed)
    apart = results.compare("penalty", "cautious")
    before, plain, after = (search_ratio(results.select(name)) for name in ("cautious", "selective", "penalty"))
    fall = 1 - after / before if before else 0.0
    return [
        Finding(
            "GRPO searches less on questions that need none, with no fewer right on those that need a search",
            f"{fewer.mean:+.2f} a question [{fewer.low:+.2f}, {fewer.high:+.2f}]; {_points(kept)}",
            fewer.high < 0 and kept.high >= 0,
        ),
        Finding(
            "with the search penalty the search ratio falls by 20 % or more at equal accuracy",
            f"ratio {before:.3f} to {after:.3f} ({-fall:+.0%}), without the penalty {plain:.3f}; "
            f"accuracy {_points(apart)}",
            fall >= 0.2 and apart.high >= 0,
        ),
    ]


def needed(row: Played) -> bool:
    return bool(row.search_required)


def free(row: Played) -> bool:
    return not row.search_required


def search_ratio(rows: Sequence[Played]) -> float:
    """Share of questions with a search among equally many that need one and that need none, as both papers mix them."""
    halves = [[row.searched > 0 for row in rows if keep(row)] for keep in (needed, free)]
    return sum(sum(half) / max(1, len(half)) for half in halves) / 2


def _share(found: Interval) -> str:
    return f"{found.mean:.1%} [{found.low:.1%}, {found.high:.1%}]"


def _points(found: Difference) -> str:
    return f"{100 * found.mean:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
