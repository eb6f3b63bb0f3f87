"""The card of a data set: what is in it, how it came about, and under which licence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepmmsearch.agent.table import figure
from deepmmsearch.data.records import row_trajectory
from deepmmsearch.data.tables import Row
from deepmmsearch.revision import revision
from deepmmsearch.show.tabulate import plain_markdown
from deepmmsearch.types import Trajectory

TOOLS = (
    "no search",
    "image search, whole",
    "image search, cropped",
    "text search, once",
    "text search, several",
    "image and text search",
)
# what calls of a figure are called here; other tools by their own name
CALLS = {"text": "text search", "image": "image search, whole", "crop": "image search, cropped"}


@dataclass
class Contents:
    """What is in a data set, counted row by row. `tools` counts trajectories by what they use, `calls` every call."""

    rows: int = 0
    categories: dict[str, Counter[str]] = field(default_factory=dict)
    turns: Counter[int] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    cost: float = 0.0

    def add(self, row: Row) -> None:
        self.rows += 1
        self.categories.setdefault(row["category"] or "none", Counter())[row["search"] or "unknown"] += 1
        self.sources[row["source"] or "unknown"] += 1
        if not row.get("trajectory"):
            return
        trajectory = row_trajectory(row, picture=False)
        self.turns[len(trajectory.turns)] += 1
        self.tools.update(tools_of(trajectory))
        self.calls.update(CALLS.get(f := figure(s), f) for s in trajectory.searches)
        self.cost += trajectory.cost

    def to_dict(self) -> dict[str, Any]:
        played = max(1, sum(self.turns.values()))
        calls = max(1, sum(self.calls.values()))
        search: Counter[str] = sum(self.categories.values(), Counter())
        return {
            "rows": self.rows,
            "search": dict(sorted(search.items())),
            "categories": {name: dict(sorted(self.categories[name].items())) for name in sorted(self.categories)},
            "turns": {str(number): self.turns[number] for number in sorted(self.turns)},
            "tools": {
                name: round(self.tools[name] / played, 4) for name in dict.fromkeys([*TOOLS, *sorted(self.tools)])
            },
            "calls": {name: round(count / calls, 4) for name, count in sorted(self.calls.items())},
            "sources": dict(self.sources.most_common()),
            "cost": round(self.cost, 6),
        }


def tools_of(trajectory: Trajectory) -> list[str]:
    """The names of TOOLS that fit the trajectory, and those of other tools it uses."""
    used = Counter(figure(turn.action) for turn in trajectory.turns)
    texts, whole, crops = used.pop("text", 0), used.pop("image", 0), used.pop("crop", 0)
    fits = {
        "no search": not trajectory.searches,
        "image search, whole": whole > 0,
        "image search, cropped": crops > 0,
        "text search, once": texts == 1,
        "text search, several": texts > 1,
        "image and text search": whole + crops > 0 and texts > 0,
    }
    return [*(name for name in TOOLS if fits[name]), *sorted(used.keys() - {"answer", "malformed"})]


def count_contents(rows: Iterable[Row]) -> Contents:
    contents = Contents()
    for row in rows:
        contents.add(row)
    return contents


def git_revision() -> str:
    """The revision of this program's source, "unknown" where it is not in a repository."""
    return revision().replace("+changed", " with changes") or "unknown"


def card_markdown(card: Mapping[str, Any]) -> str:
    """The card as Markdown with the Hub's front matter."""
    name, source, teacher, judge, licence = (
        plain_markdown(str(card[key])) for key in ("name", "source", "teacher", "judge", "licence_of_seeds")
    )
    contents = card["contents"]["train"]
    held_out = card["contents"]["validation"]
    parts = [
        _front_matter(card),
        f"# {name}\n",
        "Questions about pictures with trajectories of a model that looks things up: teaching material for supervised "
        "fine-tuning, questions for reinforcement learning. Made by the DeepMMSearchVQA pipeline "
        "(DeepMMSearch-R1, arXiv 2510.12801, section 3.2).\n",
        f"- Seeds: {source}\n- Teacher: {teacher}\n- Judge: {judge}\n"
        f"- Licence of the seeds: {licence}\n- Made with revision {card['revision']}, "
        "settings in `recipe.yaml`\n",
        f"{contents['rows']:,} rows for training, {held_out['rows']:,} for validation.\n",
        "![What is in it](contents.png)\n",
        "## How it came about\n",
        _table(("stage", "rows in", "kept", "tried again", "seconds", "dollars"), _stage_rows(card["stages"])),
        "![What each stage kept](stages.png)\n",
        "## What was dropped\n",
        _table(("stage", "reason", "rows", "for example"), _dropped_rows(card["stages"])),
        "## What is in it (training)\n",
        _table(("category", "search-required", "search-free"), _category_rows(contents["categories"])),
        _table(("turns", "trajectories"), [(k, f"{v:,}") for k, v in contents["turns"].items()]),
        _table(
            ("tools", "share of trajectories"), [(_cell(k), f"{100 * v:.1f} %") for k, v in contents["tools"].items()]
        ),
        _table(("calls", "share of calls"), [(_cell(k), f"{100 * v:.1f} %") for k, v in contents["calls"].items()]),
        "## Columns\n",
        _COLUMNS,
    ]
    return "\n".join(parts)


_COLUMNS = """\
`id`, `question`, `image`, `answers` (all accepted), `source`, `category`, `search` (required or free), `metadata`
(JSON), `trajectory` (JSON: prompt, turns, actions, observations; pictures as numbers into `pictures`), `further_images`
(of questions with several), `history` (JSON: what was asked and answered before), `image_hash`.

```python
from datasets import load_dataset

rows = load_dataset("parquet", data_files={"train": "train-*.parquet", "validation": "validation-*.parquet"})
```
"""


def write_card(card: Mapping[str, Any], folder: Path) -> None:
    from deepmmsearch.data.card_plots import plot_contents, plot_stages
    from deepmmsearch.files import write_json, write_text

    contents = card["contents"]["train"]
    write_text(folder / "README.md", card_markdown(card))
    plot_contents(
        contents["categories"], contents["turns"], contents["tools"], folder / "contents.png", str(card["name"])
    )
    names = [stage["stage"] for stage in card["stages"]]
    plot_stages(names, [stage["kept"] for stage in card["stages"]], folder / "stages.png", str(card["name"]))
    # last: where it is, everything is
    write_json(folder / "card.json", dict(card), durable=True)


def _front_matter(card: Mapping[str, Any]) -> str:
    rows = card["contents"]["train"]["rows"] + card["contents"]["validation"]["rows"]
    sizes = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    size = next((name for limit, name in sizes if rows < limit), "n>1M")
    # JSON is YAML: names from outside cannot break the front matter
    return (
        f"---\npretty_name: {json.dumps(card['name'])}\nlicense: {json.dumps(card['licence'])}\n"
        f"task_categories:\n- visual-question-answering\nlanguage:\n- en\nsize_categories:\n- {size}\n"
        "configs:\n- config_name: default\n  data_files:\n"
        "  - split: train\n    path: train-*.parquet\n  - split: validation\n    path: validation-*.parquet\n---\n"
    )


def _stage_rows(stages: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (s["stage"], f"{s['rows']:,}", f"{s['kept']:,}", _again(s), f"{s['seconds']:,.0f}", f"{s['cost']:.2f}")
        for s in stages
    ]


def _again(stage: Mapping[str, Any]) -> str:
    """How often something was tried again, and for how many rows it helped."""
    times = stage.get("retries", 0)
    return f"{times:,} times, {stage.get('recovered', 0):,} rows recovered" if times else ""


def _dropped_rows(stages: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (stage["stage"], _cell(reason), f"{count:,}", _cell("; ".join(stage["examples"].get(reason, [])[:2])))
        for stage in stages
        for reason, count in stage["dropped"].items()
    ]


def _category_rows(categories: Mapping[str, Mapping[str, int]]) -> list[tuple[str, ...]]:
    return [
        (_cell(name), f"{kinds.get('required', 0):,}", f"{kinds.get('free', 0):,}")
        for name, kinds in categories.items()
    ]


def _cell(text: str) -> str:
    return plain_markdown(text[:160])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "None.\n"
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"
