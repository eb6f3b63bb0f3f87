"""The report of an evaluation: one HTML page that can be mailed, the same as Markdown, and the figures as JSON.

The page has no script and loads nothing: filters of the gallery are radio buttons and style.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deepmmsearch.eval.figures import GalleryEpisode, Results, effort
from deepmmsearch.eval.sections import Section, comparisons, sections
from deepmmsearch.eval.statistics import holm
from deepmmsearch.files import write_text
from deepmmsearch.show.gallery import Card
from deepmmsearch.show.page import render_page
from deepmmsearch.show.tabulate import markdown_table, plain_markdown

VERDICTS = ("all", "right", "wrong")
PAGES = ("report.html", "report.md", "report.json")


def write_reports(results: Results, folder: Path, lead: str = "", more: Sequence[Section] = ()) -> list[Path]:
    """PAGES in `folder`; each appears whole or not at all. `more` stands first."""
    shown = [*more, *sections(results)]
    texts = (
        render_html(results, shown, lead),
        render_markdown(results, shown, lead),
        json.dumps(summary(results), indent=2, ensure_ascii=False) + "\n",
    )
    for name, text in zip(PAGES, texts, strict=True):
        # A model may write half a surrogate pair, which has no UTF-8.
        write_text(folder / name, text, private=True, errors="replace")
    return [folder / name for name in PAGES]


def render_html(results: Results, shown: Sequence[Section], lead: str = "") -> str:
    # A class or an id must be the program's own: names of workflows are a user's, so their tags are numbers.
    tools = ["any tools", "no search", *results.tools]
    present = {episode.played.workflow for episode in results.gallery}
    players = ["all workflows", *(name for name in results.workflows if name in present)]
    filters = [Filter("verdict", "v", VERDICTS), Filter("tool", "t", tools), Filter("workflow", "w", players)]
    return render_page(
        "evaluation.html",
        f"Evaluation: {results.title}",
        lead or _lead(results),
        "".join(each.style for each in filters),
        sections=shown,
        filters=filters,
        cards=[_card(episode, tools, players) for episode in results.gallery],
    )


@dataclass(frozen=True)
class Filter:
    """Radio buttons of the gallery; the first choice shows all, choice n only what has the class TAGn."""

    name: str
    tag: str
    choices: Sequence[str]

    @property
    def style(self) -> str:
        return "".join(
            f".gallery:has(#{self.tag}{n}:checked) .card:not(.{self.tag}{n}){{display:none}}"
            for n in range(1, len(self.choices))
        )


def _lead(results: Results) -> str:
    played = len(results.rows)
    names = ", ".join(results.benchmarks)
    revision = str(results.facts.get("revision", ""))[:12]
    made = f" Made at revision {revision}." if revision else ""
    return f"{played} episodes: {len(results.workflows)} workflows on {names}, judged by {results.judge}.{made}"


def _card(episode: GalleryEpisode, tools: Sequence[str], players: Sequence[str]) -> Card:
    played, verdict = episode.played, episode.verdict
    right = verdict is not None and verdict.score >= 0.5
    used = [tools.index(tool) for tool in played.searches] or [tools.index("no search")]
    return Card(
        episode.trajectory,
        right,
        " · ".join(part for part in (played.workflow, played.benchmark, played.kind.replace("_", " ")) if part),
        verdict=(verdict.error or verdict.reason) if verdict else "not judged",
        tags=[f"v{1 if right else 2}", f"w{players.index(played.workflow)}", *(f"t{n}" for n in used)],
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
    compared = comparisons(results)
    corrected = iter(holm([each.difference.p for each in compared if each.planned]))
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
                "over_seeds": _over_seeds(results, name),
                "effort": asdict(effort(results.select(name), results.workflows[name].calls)),
            }
            for name in names
        },
        "differences": [
            {
                "first": each.first,
                "second": each.second,
                **asdict(each.difference),
                "planned": each.planned,
                "p_holm": next(corrected) if each.planned else None,
            }
            for each in compared
        ],
    }
    return _finite(found)


def _over_seeds(results: Results, workflow: str) -> dict[str, Any] | None:
    """The average with its interval over training runs, of the first of several."""
    runs = results.runs_of(workflow)
    played = [b for b in results.benchmarks if all(results.select(run, b) for run in runs)]
    return {"seeds": len(runs), **asdict(results.accuracy_of_runs(workflow, played))} if len(runs) > 1 else None


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value
