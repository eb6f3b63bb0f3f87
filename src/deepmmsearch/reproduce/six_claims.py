"""Table 1 and the paper's six claims on a world that no model has seen: what is played, and who plays which part."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepmmsearch.bundled import BUNDLED
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.errors import UserError
from deepmmsearch.eval.claims import Roles
from deepmmsearch.eval.faults import FAULTS

# The first of these that is given is the trained agent that the claims are about.
TRAINED = ("rl", "sft", "bundled")
# Models that differ in their training data alone: compared as agents.
_BY_DATA = re.compile(r"mix(\d{1,3})|uniform|random")


def read_models(given: Sequence[str]) -> dict[str, Path]:
    """Name -> checkpoint folder, in the order given; the bundled model where none is. `NAME@SEED` is one of several
    training runs of a model. Raises UserError."""
    folders: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or not re.fullmatch(r"[\w.-]+(@\d+)?", name):
            raise UserError(
                f"{text!r} does not name a model. Write NAME=FOLDER, such as sft=runs/atlas/sft/merged, or NAME@SEED="
                "FOLDER for each seed that it was trained with."
            )
        if not (Path(folder) / "config.json").is_file():
            raise UserError(f"There is no model in {folder}. Give the folder of a checkpoint.")
        if name in folders:
            raise UserError(f"Two models are called {name}. Give each a name of its own.")
        folders[name] = Path(folder)
    return folders or {"bundled": BUNDLED}


def make_recipe(
    folders: Mapping[str, Path], questions: int, seed: int, faults: bool, out: Path, concurrency: int
) -> EvalRecipe:
    """Every model directly, with RAG and as an agent, those of claim 4 as agents alone; the trained one with everything
    taken away and broken too."""
    workflows: dict[str, dict[str, Any]] = {}
    first = _first_runs(folders)
    main = first[_trained(list(first))]
    for name in folders:
        model = name.partition("@")[0]
        alone = first[model] != main and _BY_DATA.fullmatch(model)
        for kind in ("agent",) if alone else ("direct", "rag", "agent"):
            workflows[f"{name} {kind}"] = {"kind": kind, "policy": name}
            if first[model] != name:
                workflows[f"{name} {kind}"]["replicates"] = f"{first[model]} {kind}"
    without: dict[str, dict[str, Any]] = {
        "no crop": {"crop": False},
        "single text": {"text_searches": 1},
        "no image search": {"image_search": False},
        **({fault: {"fault": fault} for fault in FAULTS} if faults else {}),
    }
    workflows |= {f"{main} {name}": {"policy": main, "ablates": f"{main} agent", **w} for name, w in without.items()}
    for run in (name for name in folders if name != main and first[name.partition("@")[0]] == main):
        workflows |= {
            f"{run} {name}": {"policy": run, "ablates": f"{run} agent", "replicates": f"{main} {name}", **w}
            for name, w in without.items()
            if "fault" not in w
        }
    return EvalRecipe.model_validate(
        {
            "output": out,
            "policies": {name: {"kind": "local", "model": str(folder)} for name, folder in folders.items()},
            "benchmarks": [{"name": "atlas", "seed": seed, "sample": questions}],
            "workflows": {**workflows, "oracle": {"kind": "oracle"}},
            "judges": {"reward": {"rule": "reward"}, "exact": {"rule": "exact"}},
            "concurrency": concurrency,
        }
    )


def roles(names: Sequence[str]) -> Roles:
    """Which workflow plays which part in the claims, by the names of the models; of several training runs the first,
    which stands for all of them."""
    first = _first_runs(names)

    def of(name: str, kind: str) -> str | None:
        return f"{first[name]} {kind}" if name in first else None

    main = first[_trained(list(first))]
    mixes = {int(m[1]): f"{run} agent" for name, run in first.items() if (m := _BY_DATA.fullmatch(name)) and m[1]}
    return Roles(
        f"{main} agent",
        f"{main} rag",
        f"{main} direct",
        of("base", "agent"),
        of("base", "rag"),
        of("base", "direct"),
        f"{main} no crop",
        f"{main} single text",
        of("sft", "agent"),
        of("rl", "agent"),
        mixes,
        of("random", "agent"),
        # half and half is uniform over the taxonomy, unless another model is said to be
        of("uniform", "agent") or of("mix50", "agent"),
    )


def _first_runs(names: Iterable[str]) -> dict[str, str]:
    """Of each model the name of the run that was given first."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(name.partition("@")[0], name)
    return found


def _trained(names: Sequence[str]) -> str:
    return next((name for name in TRAINED if name in names), names[-1])
