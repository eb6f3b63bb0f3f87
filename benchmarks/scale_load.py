"""What one episode does and how long each part of it takes: from named defaults, or as it was measured."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

from deepmmsearch.errors import UserError
from deepmmsearch.store import FILE, TrajectoryStore
from deepmmsearch.tools.cassette import Cassette, read_calls
from deepmmsearch.types import Call, ImageSearch, TextSearch, Trajectory

DEFAULTS = Path(__file__).with_name("scale_defaults.json")
TOOLS = ("text_search", "image_search", "reader", "judge")
TOKENS = ("prompt_tokens", "written_tokens", "observation_tokens", "page_tokens", "summary_tokens")


@dataclass(frozen=True)
class Draws:
    """A distribution: its values are equally likely."""

    values: tuple[float, ...]

    @classmethod
    def lognormal(cls, median: float, p95: float, count: int = 499) -> Draws:
        """Equally likely quantiles of the lognormal distribution that has these two."""
        normal = NormalDist(math.log(median), math.log(p95 / median) / NormalDist().inv_cdf(0.95))
        return cls(tuple(math.exp(normal.inv_cdf((n + 0.5) / count)) for n in range(count)))

    def draw(self, chance: random.Random) -> float:
        return chance.choice(self.values)


@dataclass(frozen=True)
class Tool:
    """`seconds` of one call, its `price` in US dollars, and the share of calls that fail."""

    seconds: Draws
    price: float = 0.0
    failing: float = 0.0


@dataclass(frozen=True)
class Load:
    """`shapes`: the actions of an episode ("image", "text", "answer"), each of them equally likely; `tokens` and
    `tools` by the names in scale_defaults.json; `repeated`: share of text queries that the other rollouts of the same
    question ask as well; `sources`: where each figure comes from."""

    shapes: tuple[tuple[str, ...], ...]
    tokens: Mapping[str, Draws]
    tools: Mapping[str, Tool]
    repeated: float
    sources: Mapping[str, str] = field(default_factory=dict)


def load_defaults(path: Path = DEFAULTS) -> Load:
    """Raises UserError when the file is not of the form of scale_defaults.json."""
    try:
        given: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        shapes = tuple(
            tuple(shape.split())
            for shape, share in given["shapes"]["shares"].items()
            for _ in range(round(100 * float(share)))
        )
        assert shapes and all(shape[-1] == "answer" and set(shape[:-1]) <= {"image", "text"} for shape in shapes)
        tokens = {name: Draws.lognormal(given[name]["median"], given[name]["p95"]) for name in TOKENS}
        tools = {name: _tool(given[name]) for name in TOOLS}
        sources = {name: str(entry["source"]) for name, entry in given.items()}
        return Load(shapes, tokens, tools, float(given["repeated"]["share"]), sources)
    except (OSError, ValueError, KeyError, TypeError, AssertionError, AttributeError) as error:
        raise UserError(
            f"{path} does not hold the figures of a load ({type(error).__name__}: {error}). "
            f"Start from a copy of {DEFAULTS.name}."
        ) from None


def _tool(entry: Mapping[str, Any]) -> Tool:
    seconds = Draws.lognormal(entry["median"], entry["p95"])
    return Tool(seconds, float(entry.get("price", 0.0)), float(entry.get("failing", 0.0)))


def measured(folder: Path, otherwise: Load) -> Load:
    """What trajectories (trajectories.jsonl) and cassettes (*.sqlite) in the folder tell, `otherwise` where they tell
    nothing. Raises UserError when there are none, or none that tells anything."""
    cassettes = sorted(folder.glob("*.sqlite"))
    stored = folder / FILE
    if not cassettes and not stored.is_file():
        raise UserError(f"{folder} holds neither {FILE} nor a cassette (*.sqlite). Give the folder of a run.")
    played = [t for t in TrajectoryStore(folder) if t.error is None and t.turns] if stored.is_file() else []
    calls = [call for trajectory in played for call in trajectory.calls]
    calls += [call for path in cassettes for call in _recorded(path)]
    load = _with_tools(otherwise, calls, str(folder))
    load = _with_shapes(load, played, str(folder))
    if load.sources == otherwise.sources:
        raise UserError(f"Nothing in {folder} tells how long a call or how many tokens a turn took. Play a run first.")
    return load


def _recorded(path: Path) -> Iterable[Call]:
    with Cassette(path, read_only=True) as cassette:
        rows = cassette.rows("SELECT calls FROM entries UNION ALL SELECT calls FROM failures")
    return [call for (text,) in rows for call in read_calls(text)]


def _with_tools(load: Load, calls: Iterable[Call], source: str) -> Load:
    tools, sources = dict(load.tools), dict(load.sources)
    for name in TOOLS:
        made = [call for call in calls if call.tool == name and not call.cached]
        if made:
            seconds = Draws(tuple(sorted(call.seconds for call in made)))
            failing = sum(call.error is not None for call in made) / len(made)
            tools[name] = Tool(seconds, sum(call.cost for call in made) / len(made), failing)
            sources[name] = f"measured: {len(made)} calls in {source}"
    return replace(load, tools=tools, sources=sources)


def _with_shapes(load: Load, played: list[Trajectory], source: str) -> Load:
    if not played:
        return load
    shapes = tuple(_shape(trajectory) for trajectory in played)
    told = f"measured: {len(played)} trajectories in {source}"
    tokens, sources = dict(load.tokens), {**load.sources, "shapes": told}
    known = {
        "written_tokens": [turn.completion.sampled for t in played for turn in t.turns],
        "prompt_tokens": [t.turns[0].completion.prompt_tokens for t in played],
    }
    for name, counts in known.items():
        if values := sorted(float(count) for count in counts if count):
            tokens[name], sources[name] = Draws(tuple(values)), told
    return replace(load, shapes=shapes, tokens=tokens, sources=sources)


def _shape(trajectory: Trajectory) -> tuple[str, ...]:
    """Other tools than the two searches are left out."""
    kinds = {TextSearch: "text", ImageSearch: "image"}
    actions = (kinds.get(type(turn.action)) for turn in trajectory.turns)
    return (*(kind for kind in actions if kind is not None), "answer")
