"""Parts of one evaluation, played on machines that share nothing, put together into one folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from deepmmsearch import outputs
from deepmmsearch.errors import UserError
from deepmmsearch.eval.run import COMMAND, FILE, EvalRun, Judged
from deepmmsearch.outputs import Output, differences
from deepmmsearch.types import Trajectory

# so many trajectories with their pictures are in memory at once
_BATCH = 32


def merge_runs(out: Path, folders: Sequence[Path], spare: Collection[str] = ()) -> Counter[str]:
    """Adds what `out` does not hold yet of the runs in `folders`, all of one recipe; gives how many trajectories and
    verdicts came to it. Interrupted, it goes on where it was. `spare`: settings that may be others than those of `out`.

    Raises UserError where one is not an evaluation, or was made with other settings than the first.
    """
    parts = [(folder, _made_with(folder)) for folder in folders]
    (first, made), *others = parts
    for folder, other in others:
        if told := differences(_compared(made), _compared(other)):
            raise UserError(
                f"{folder} was made with other settings than {first} ({told[0]}). Merge the parts of one recipe."
            )
    run = EvalRun(out)
    Output(out, COMMAND, private=True).claim(made["settings"], made["parts"], spare=spare)
    _describe(run, [EvalRun(folder).info for folder in folders])
    added: Counter[str] = Counter()
    for folder in folders:
        added += _add(run, EvalRun(folder))
    return added


def missing(run: EvalRun) -> Iterator[str]:
    """A line for each benchmark and workflow of which questions were not played."""
    played = Counter(str(id).rpartition("/")[0] for id in set(run.store.ids()))
    for benchmark, about in run.info["benchmarks"].items():
        for workflow, described in run.info["workflows"].items():
            there, wanted = played[f"{benchmark}/{workflow}"], about.get("questions") or 0
            if there < wanted and (there or described.get("kind") != "oracle"):
                yield f"{benchmark}: {workflow}: {wanted - there:,} of {wanted:,} questions are in none of the parts."


def _made_with(folder: Path) -> dict[str, Any]:
    if not (folder / FILE).is_file():
        raise UserError(
            f"{folder} holds no evaluation ({FILE} is missing). Give folders that `deepmmsearch eval` wrote."
        )
    Output(folder, COMMAND, private=True)
    made: dict[str, Any] = json.loads((folder / outputs.FILE).read_text(encoding="utf-8"))
    return made


def _compared(made: dict[str, Any]) -> dict[str, Any]:
    return {"settings": made["settings"], **made["parts"]}


def _describe(run: EvalRun, infos: Sequence[dict[str, Any]]) -> None:
    def add(info: dict[str, Any]) -> None:
        for other in infos:
            judges = [*info["judges"], *other["judges"]]
            facts = {name: value for name, value in other.items() if name not in info or name in ("revision", "recipe")}
            for name in ("workflows", "benchmarks"):
                info[name] |= other[name]
            info |= {**facts, "judges": list(dict.fromkeys(judges))}
            info["planned"] = info["planned"] or other["planned"]

    run.update(add)


def _add(run: EvalRun, part: EvalRun) -> Counter[str]:
    added: Counter[str] = Counter()
    failed = {str(row["id"]): row["trajectory"].get("error") for row in run.store.lines()}
    # what failed in one part may have been played again in another
    coming = {
        str(row["id"]): row["trajectory"].get("error")
        for row in part.store.lines()
        if failed.get(str(row["id"]), "absent") is not None
    }
    wanted = {id for id, error in coming.items() if id not in failed or error is None}
    rows = ((id, trajectory) for id, trajectory in _last(part) if id in wanted)
    while batch := list(islice(rows, _BATCH)):
        run.store.extend(batch)
        added["trajectories"] += len(batch)
    known = run.judged()
    fresh: list[Judged] = [
        row
        for key, row in part.judged().items()
        if key not in known or (known[key] != row and (known[key].error is not None or key[0] in wanted))
    ]
    run.judge_line(fresh)
    added["verdicts"] += len(fresh)
    return added


def _last(part: EvalRun) -> Iterator[tuple[str, Trajectory]]:
    """Each once: as it was played last."""
    last = {str(row["id"]): place for place, row in part.store.spots()}
    return ((id, part.store.read_at(place)) for id, place in last.items())
