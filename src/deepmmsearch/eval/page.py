"""The report of an evaluation: one HTML page that can be mailed, the same as Markdown, and the figures as JSON.

The page has no script and loads nothing: filters of the gallery are radio buttons and style. Everything that a model, a
page, a hit or a data set wrote is escaped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from deepmmsearch.eval.figures import Example, Results, effort
from deepmmsearch.eval.sections import Section, main_workflows, sections
from deepmmsearch.files import write_text
from deepmmsearch.show.page import card, page, table_html
from deepmmsearch.show.table import markdown_table, plain_markdown

VERDICTS = ("all", "right", "wrong")
TOOLS = ("any tools", "no search", "text", "image", "crop")


def write_reports(results: Results, folder: Path, lead: str = "", more: Sequence[Section] = ()) -> list[Path]:
    """report.html, report.md and report.json in `folder`; each appears whole or not at all. `more` stands first."""
    shown = [*more, *sections(results)]
    texts = {
        "report.html": render_html(results, shown, lead),
        "report.md": render_markdown(results, shown, lead),
        "report.json": json.dumps(summary(results), indent=2, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        # A model may write half a surrogate pair, which has no UTF-8.
        write_text(folder / name, text, errors="replace")
    return [folder / name for name in texts]


def render_html(results: Results, shown: Sequence[Section], lead: str = "") -> str:
    contents = "".join(f"<a href='#s{n}'>{escape(s.title)}</a>" for n, s in enumerate(shown))
    contents += "<a href='#gallery'>Gallery</a>" if results.examples else ""
    parts = "".join(_section(section, f"s{number}") for number, section in enumerate(shown))
    body = f"<nav>{contents}</nav>{parts}{_gallery(results)}"
    return page(f"Evaluation: {results.title}", lead or _lead(results), body, _STYLE + _filters(results))


def _lead(results: Results) -> str:
    played = len(results.rows)
    names = ", ".join(results.benchmarks)
    revision = str(results.facts.get("revision", ""))[:12]
    made = f" Made at revision {revision}." if revision else ""
    return f"{played} episodes: {len(results.workflows)} workflows on {names}, judged by {results.judge}.{made}"


def _section(section: Section, anchor: str) -> str:
    tables = "".join(table_html(table) for table in section.tables)
    charts = "".join(section.charts)
    lead = f"<p class=lead>{escape(section.lead)}</p>"
    return f"<section class=part id={anchor}><h2>{escape(section.title)}</h2>{lead}{tables}{charts}</section>"


def _gallery(results: Results) -> str:
    if not results.examples:
        return ""
    # Names of workflows are a user's own, so classes are numbers.
    workflows = [
        "all workflows",
        *sorted({e.played.workflow for e in results.examples}, key=list(results.workflows).index),
    ]
    cards = "".join(_example(example, workflows.index(example.played.workflow)) for example in results.examples)
    controls = "".join(
        f"<fieldset><legend>{legend}</legend>{_radios(group, names)}</fieldset>"
        for legend, group, names in (("verdict", "v", VERDICTS), ("tool", "t", TOOLS), ("workflow", "w", workflows))
    )
    return (
        "<section class='part gallery' id=gallery><h2>Gallery</h2>"
        "<p class=lead>Episodes to read: the picture with the boxes that were cropped, what was searched and why, what "
        "came back, the answer and the verdict.</p>"
        f"<div class=controls>{controls}</div>{cards}</section>"
    )


def _radios(group: str, names: Sequence[str]) -> str:
    return "".join(
        f"<input type=radio name={group} id={group}{n}{' checked' if not n else ''}><label for={group}{n}>"
        f"{escape(name)}</label>"
        for n, name in enumerate(names)
    )


def _example(example: Example, workflow: int) -> str:
    played = example.played
    right = example.verdict is not None and example.verdict.score >= 0.5
    tools = [n for n, tool in enumerate(TOOLS) if played.searches.get(tool, 0)] if played.searched else [1]
    classes = f"v{1 if right else 2} w{workflow} {' '.join(f't{n}' for n in tools)}"
    said = (example.verdict.error or example.verdict.reason) if example.verdict else "not judged"
    label = " · ".join(part for part in (played.workflow, played.benchmark, played.kind.replace("_", " ")) if part)
    return card(example.trajectory, {}, False, right=right, verdict=said, label=label, classes=classes)


def _filters(results: Results) -> str:
    counts = {"v": len(VERDICTS), "t": len(TOOLS), "w": 1 + len(results.workflows)}
    return "".join(
        f".gallery:has(#{group}{n}:checked) .card:not(.{group}{n}){{display:none}}"
        for group, count in counts.items()
        for n in range(1, count)
    )


def render_markdown(results: Results, shown: Sequence[Section], lead: str = "") -> str:
    lines = [f"# Evaluation: {plain_markdown(results.title)}", "", plain_markdown(lead or _lead(results)), ""]
    for section in shown:
        lines += [f"## {plain_markdown(section.title)}", "", plain_markdown(section.lead), ""]
        for table in section.tables:
            lines += [*markdown_table(table), ""]
    return "\n".join(lines)


def summary(results: Results) -> dict[str, Any]:
    """The figures, for programs; a figure that does not exist is null."""
    names = [n for n in results.workflows if results.select(n)]
    mains = [n for n in main_workflows(results) if n in names]
    found = {
        "title": results.title,
        "judge": results.judge,
        "facts": dict(results.facts),
        "benchmarks": {name: asdict(b) for name, b in results.benchmarks.items()},
        "workflows": {
            name: {
                **asdict(results.workflows[name]),
                "accuracy": {
                    b: asdict(results.accuracy(name, [b])) for b in results.benchmarks if results.select(name, b)
                },
                "average": asdict(results.accuracy(name, [b for b in results.benchmarks if results.select(name, b)])),
                "effort": asdict(effort(results.select(name), results.workflows[name].calls)),
            }
            for name in names
        },
        "differences": [
            {"first": a, "second": b, **asdict(results.compare(a, b))}
            for at, a in enumerate(mains)
            for b in mains[at + 1 :]
        ],
    }
    return _finite(found)


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


_STYLE = """
nav { display: flex; flex-wrap: wrap; gap: 6px 8px; margin: 0 0 26px; }
nav a { font-size: .85rem; color: var(--ink); text-decoration: none; border: 1px solid var(--line); border-radius: 14px;
  padding: 3px 12px; background: var(--paper); }
nav a:hover { border-color: var(--accent); color: var(--accent); }
section.part { margin: 0 0 44px; }
h2 { font-size: 1.25rem; margin: 0 0 2px; }
.lead { color: var(--soft); margin: 0 0 12px; max-width: 75ch; }
.part .table { margin-bottom: 6px; } .part .table + .note { margin-bottom: 16px; max-width: 90ch; }
.part th, .part td { padding: 6px 11px; font-size: .92rem; }
td { white-space: nowrap; } tbody th { font-weight: 600; }
tbody tr:hover > * { background: var(--read); }
figure { margin: 14px 0 0; background: var(--paper); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px 8px; }
figure svg { display: block; width: 100%; height: auto; max-width: 900px; }
figcaption { color: var(--soft); font-size: .85rem; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .tick { fill: var(--soft); font-size: 11px; }
svg .value { fill: var(--soft); font-size: 11px; }
.grid { stroke: var(--line); } .zero { stroke: var(--soft); stroke-dasharray: 3 3; }
.whisker { stroke: var(--accent); stroke-width: 2; } .dot { fill: var(--accent); }
.bar.c0 { fill: #9aa5b8; } .bar.c1 { fill: #2b59c3; } .bar.c2 { fill: #d98a1f; } .bar.c3 { fill: #1b9e77; }
.gallery > details { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; margin: 10px 0; }
.controls { display: flex; flex-wrap: wrap; gap: 10px 22px; margin: 0 0 14px; }
fieldset { border: 0; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: 4px; align-items: center; }
legend { float: left; color: var(--soft); font-size: .85rem; margin-right: 8px; padding: 0; }
fieldset input { position: absolute; opacity: 0; }
fieldset label { font-size: .85rem; border: 1px solid var(--line); border-radius: 14px; padding: 2px 11px;
  cursor: pointer;
  background: var(--paper); }
fieldset input:checked + label { background: var(--accent); border-color: var(--accent); color: var(--paper); }
fieldset input:focus-visible + label { outline: 2px solid var(--accent); outline-offset: 2px; }
@media print { .controls, nav { display: none; } }
"""
