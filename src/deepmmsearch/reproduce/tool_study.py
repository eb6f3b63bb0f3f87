"""What zoom, visit, a second image search and a second language bring or cost, on an invented world.

The oracle is the upper bound. A model that was fine-tuned for them (`ToolTraining`) shows what can be learnt of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.evaluate import play_recipe
from deepmmsearch.eval.figures import EXACT, Results, load_results
from deepmmsearch.eval.played import Played
from deepmmsearch.eval.statistics import bootstrap, compare
from deepmmsearch.progress import Watch, silent
from deepmmsearch.reproduce.study import FIRST_WORLD, Job
from deepmmsearch.show.tabulate import Table

LIMITS = {"calls": 8, "image_searches": 2, "tokens": 768}
# benchmark -> how its world is told and asked about
LANGUAGES: Mapping[str, Mapping[str, str]] = {
    "english": {},
    "velic": {"language": "velic"},
    "velic asked in english": {"language": "velic", "asked_in": "english"},
    "english asked in velic": {"asked_in": "velic"},
}
# what is taken away -> settings of the workflow, and the kinds of questions that need it
TAKEN: Mapping[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "zoom": ({"without": ["zoom"]}, ("sign",)),
    "visit": ({"without": ["visit"]}, ("deep", "linked")),
    "second image search": ({"limits": {**LIMITS, "image_searches": 1}}, ("two_flags",)),
}
ORACLE = "oracle"


@dataclass(frozen=True)
class ToolTraining:
    """The model's way: training worlds, and one fine-tuning on all of them. `words`: the bundled model with more words
    (`bundled.more_words`); `start`: the same with a tower that sees signs (`bundled.sign_stage`), made before the jobs.
    """

    recipe: Path
    out: Path
    questions: int = 300
    overrides: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def words(self) -> Path:
        return self.out / "words"

    @property
    def start(self) -> Path:
        return self.out / "start"

    def jobs(self) -> list[Job]:
        # more of what it has never done
        told = {"usual": (1, ()), "tools": (5, ("--kinds", "tools", "--closeups", "120"))}
        lessons = [
            self._teach(name, 5 * FIRST_WORLD + 100 * number, worlds, options)
            for number, (name, (worlds, options)) in enumerate(told.items())
        ]
        data = ",".join(str(self.out / name) for name in told)
        given = (f"model={self.start}", f"data=[{data}]", f"output={self.out / 'sft'}", *self.overrides)
        tuned = Job("sft", ("sft", str(self.recipe), *given), self.out / "sft" / "merged", tuple(told))
        return [*lessons, tuned]

    def _teach(self, name: str, first: int, worlds: int, options: Sequence[str]) -> Job:
        folder = self.out / name
        given = ("--seed", str(first), "--worlds", str(worlds), "--out", str(folder), *options)
        command = ("atlas", "teach", "--prompt", "atlas-tools", "--questions", str(self.questions), *given)
        return Job(name, command, folder / f"world-{first + worlds - 1}.json")


def recipes(models: Mapping[str, Path], questions: int, seed: int, out: Path, concurrency: int) -> list[EvalRecipe]:
    """The questions that need more tools, with everything and with each taken away; and the papers' questions in two
    languages."""
    players = [ORACLE, *models]

    def agent(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        player = {"kind": "oracle"} if name == ORACLE else {"kind": "agent", "policy": name}
        return {**player, "limits": LIMITS, **settings}

    def recipe(part: str, benchmarks: list[dict[str, Any]], workflows: dict[str, Any]) -> EvalRecipe:
        given: dict[str, Any] = {
            "output": out / part,
            "worlds": out / "worlds",
            "benchmarks": [{"name": "atlas", "seed": seed, "sample": questions, **each} for each in benchmarks],
            "workflows": workflows,
            "judges": {EXACT: {"rule": EXACT}},
            "concurrency": concurrency,
            "pictures": 0,
        }
        local = {name: {"kind": "local", "model": str(folder)} for name, folder in models.items()}
        return EvalRecipe.model_validate(given | ({"policies": local} if local else {}))

    taken = {
        f"{name} without {what}": agent(name, settings) | {"ablates": name}
        for name in players
        for what, (settings, _) in TAKEN.items()
    }
    whole = {name: agent(name, {}) for name in players}
    tools = recipe("tools", [{"label": "tools", "kinds": "tools"}], {**whole, **taken})
    spoken = [{"label": label, **told} for label, told in LANGUAGES.items()]
    return [tools, recipe("languages", spoken, whole)]


def play(parts: Sequence[EvalRecipe], watch: Watch = silent) -> Results:
    """What was played before is not played again."""
    return load_results([play_recipe(part, watch=watch) for part in parts])


def tool_table(results: Results) -> Table:
    """What each tool is worth on the questions that need it, and on the others."""
    rows = []
    for name in _players(results):
        for what, (_, kinds) in TAKEN.items():
            for label, needed in ((f"{what}: {', '.join(kinds)}", True), (f"{what}: other questions", False)):

                def keep(row: Played, kinds: tuple[str, ...] = kinds, needed: bool = needed) -> bool:
                    return row.benchmark == "tools" and (row.kind in kinds) is needed

                having = results.accuracy(name, ["tools"], keep)
                without = results.accuracy(f"{name} without {what}", ["tools"], keep)
                gain = results.compare(name, f"{name} without {what}", keep)
                change = f"{100 * gain.mean:+.0f} [{100 * gain.low:+.0f}, {100 * gain.high:+.0f}]"
                rows.append((label, name, _share(having), _share(without), change, str(gain.count)))
    note = (
        "Shares of right answers by exact match with bootstrap 95 % intervals; differences are of the same questions."
    )
    return Table(("tool: questions", "player", "with", "without", "brings, points", "n"), rows, note)


def language_table(results: Results) -> Table:
    """The same questions about the same world in other words: against English, question by question."""
    rows = []
    for name in _players(results):
        usual = _by_question(results, name, "english")
        for label in LANGUAGES:
            told = _by_question(results, name, label)
            common = [id for id in usual if id in told]
            scores = [results.score(told[id]) for id in common]
            apart = compare(scores, [results.score(usual[id]) for id in common])
            change = f"{100 * apart.mean:+.0f} [{100 * apart.low:+.0f}, {100 * apart.high:+.0f}]"
            searches = sum(told[id].searched for id in common) / max(1, len(common))
            rows.append(
                (label, name, _share(bootstrap([scores])), "" if label == "english" else change, f"{searches:.2f}")
            )
    count = min((len(_by_question(results, ORACLE, label)) for label in LANGUAGES), default=0)
    note = f"{count} questions each, the same in all languages; differences to English are paired."
    return Table(("pages and questions", "player", "right", "brings, points", "searches"), rows, note)


def _players(results: Results) -> list[str]:
    return [name for name, workflow in results.workflows.items() if workflow.ablates is None]


def _by_question(results: Results, workflow: str, benchmark: str) -> dict[str, Played]:
    return {row.question: row for row in results.select(workflow, benchmark)}


def _share(found: Any) -> str:
    return f"{100 * found.mean:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]" if found.count else "-"
