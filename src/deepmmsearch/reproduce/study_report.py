"""The training study as a table, claims and curves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from deepmmsearch.reproduce.study import COLUMNS, Answered, Plan, claims, table
from deepmmsearch.train.plots import plot_runs, read_metrics

CURVES = {
    "accuracy, held out (greedy)": "eval/accuracy",
    "reward": "reward/mean",
    "searches, none needed (held out)": "eval/searches_search_free",
    "KL to the start": "kl",
}


def write_study(plan: Plan, measured: Mapping[str, Sequence[Answered]], report: Callable[[str], None]) -> None:
    """Prints table and claims and writes study.md, study.json and study.png to the plan's folder."""
    rows = table(measured)
    found = claims(measured, plan.seeds)
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *map(_line, rows), ""]
    lines += [f"- {'shown' if c.shown else 'NOT shown'}: {c.text} ({c.figure})" for c in found]
    text = "\n".join(lines) + "\n"
    (plan.out / "study.md").write_text(text, encoding="utf-8")
    kept = {"table": [dict(zip(COLUMNS, row, strict=True)) for row in rows], "claims": [asdict(c) for c in found]}
    (plan.out / "study.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    plot_runs(_runs(plan), plan.out / "study.png", CURVES)
    report(text)
    report(f"Wrote {plan.out / 'study.md'}, study.json and study.png")


def _runs(plan: Plan) -> dict[str, list[dict[str, float]]]:
    folders: dict[str, Path] = {stage.name: plan.out / stage.name for stage in plan.stages() if "grpo" in stage.command}
    return {name: read_metrics(path / "metrics.jsonl") for name, path in folders.items() if path.is_dir()}


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
