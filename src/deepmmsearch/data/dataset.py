"""Stages 6 and 7 and the data set itself, made of what the stages before them left: no model is asked."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from deepmmsearch.data.balance import Item, choose
from deepmmsearch.data.card import count_contents, git_revision, write_card
from deepmmsearch.data.near_duplicates import Duplicate, against, groups, within
from deepmmsearch.data.overlap import evaluation_prints, row_print
from deepmmsearch.data.recipe import DATASET, BuildSettings, Mix
from deepmmsearch.data.records import write_rows
from deepmmsearch.data.sources import open_source
from deepmmsearch.data.stages import COMMAND, PLAYED, RECIPE, Counts, Stage, stages_of, summaries, tell
from deepmmsearch.data.tables import Row, read_json
from deepmmsearch.errors import UserError
from deepmmsearch.files import write_json, write_text
from deepmmsearch.progress import Watch
from deepmmsearch.settings import decisive

_FILE = re.compile(r"(train|validation)-\d{5}\.parquet")
# what stands in a data set's folder besides
_BESIDE = ("README.md", "card.json", "contents.png", "stages.png", "recipe.yaml")


@dataclass(frozen=True)
class Built:
    """`dataset` is the folder with the files; `card` what stands in its card.json."""

    dataset: Path
    card: Mapping[str, Any]

    @classmethod
    def read(cls, dataset: Path) -> Built:
        return cls(dataset, _card(dataset))


@dataclass
class DataSet:
    """Of the shards of a build. `shown`: who played and judged, as settings, for the card."""

    settings: BuildSettings
    shown: Mapping[str, Mapping[str, Any]]
    shards: Sequence[str]
    watch: Watch

    def __post_init__(self) -> None:
        self.output = self.settings.output
        self.stages = stages_of(self.output)

    def refuse_others(self) -> None:
        """Raises UserError for files of the names of ours that nobody of us made."""
        for folder in (self.output / DATASET, *(self._variant(name) for name in self.settings.balance.variants)):
            self._own(folder)

    def make(self, key: str) -> Built:
        """`key`: the id of stage 5. Raises UserError where nothing is left for the data set."""
        self._balanced(self._unique(key))
        return self._dataset()

    def _unique(self, key: str) -> str:
        before, stage = self.stages[4], self.stages[5]
        settings = self.settings.unique
        made_with = {"unique": decisive(settings), "shards": self.shards}
        key = stage.claim(made_with, key, cheap=True)
        if all(stage.has(shard) for shard in self.shards):
            return key
        began = time.perf_counter()
        prints = [row_print(row) for _, row in self._named(before)]
        removed: dict[str, tuple[str, Duplicate]] = {}
        evaluations = []
        for named in settings.against:
            evaluation, report = evaluation_prints(named)
            evaluations.append({"benchmark": named.benchmark, **report})
            for found in against(prints, evaluation, settings.bits, settings.overlap):
                removed.setdefault(found.id, (f"in {Path(named.benchmark).name}: {found.kind}", found))
        left = [p for p in prints if p.id not in removed]
        for found in within(left, settings.bits, settings.overlap, settings.per_picture):
            removed[found.id] = (f"duplicate: {found.kind}", found)
        rows = [{"id": d.id, "of": d.of, "why": why} for why, d in removed.values()]
        told = {"evaluations": evaluations, "removed": rows}
        write_json(stage.folder / "report" / "removed.json", told, durable=True, private=True)
        seconds = time.perf_counter() - began
        drop = {name: why for name, (why, _) in removed.items()}
        for shard, named_rows in groupby(self._named(before), key=itemgetter(0)):
            counts = Counts(seconds=seconds / len(self.shards))
            stage.finish(shard, _filtered((row for _, row in named_rows), drop, counts), counts)
        for shard in self.shards:
            if not stage.has(shard):  # one without a row
                stage.finish(shard, [], Counts())
        self._told(stage)
        return key

    def _named(self, stage: Stage) -> Iterator[tuple[str, Row]]:
        """All rows with their shards. Ids are told apart within a shard, where they are drawn; here all are."""
        seen: set[str] = set()
        for shard in self.shards:
            for row in stage.read(shard):
                name = row["id"]
                while name in seen:
                    name = f"{name}-{shard}"
                seen.add(name)
                yield shard, {**row, "id": name}

    def _balanced(self, key: str) -> str:
        before, stage = self.stages[5], self.stages[6]
        settings = self.settings.balance
        key = stage.claim({"balance": decisive(settings)}, key, cheap=True)
        if all(stage.has(shard) for shard in self.shards):
            return key
        began = time.perf_counter()
        items = [Item(row["id"], row["category"], row["search"]) for shard in self.shards for row in before.read(shard)]
        mixes: dict[str, Mix] = {DATASET: settings, **settings.variants}
        chosen = {name: choose(items, mix) for name, mix in mixes.items()}
        if not chosen[DATASET]:
            raise UserError(
                f"Nothing is left for the data set: {len(items)} rows came to balancing, of which none can be taken "
                f"with a search share of {settings.search_share}. Take more seeds, or set balance.search_share=null."
            )
        write_json(stage.folder / "report" / "chosen.json", chosen, durable=True, private=True)
        keep = set(chosen[DATASET])
        seconds = time.perf_counter() - began
        for shard in self.shards:
            counts = Counts(seconds=seconds / len(self.shards))
            drop = {row["id"]: "not in the mix" for row in before.read(shard) if row["id"] not in keep}
            stage.finish(shard, _filtered(before.read(shard), drop, counts), counts)
        self._told(stage)
        return key

    def _told(self, stage: Stage) -> None:
        counted = stage.counts(self.shards)
        cost = sum(before.counts(self.shards).cost for before in self.stages[:PLAYED])
        tell(self.watch, stage, counted.rows, counted.kept, counted.rows, cost)

    def _dataset(self) -> Built:
        unique = self.stages[5]
        chosen = read_json(self.stages[6].folder / "report" / "chosen.json")
        prints = [row_print(row) for shard in self.shards for row in unique.read(shard)]
        numbers = groups(prints, self.settings.unique.bits)
        together: dict[str, list[str]] = {}
        for each, group in zip(prints, numbers, strict=True):
            together.setdefault(prints[group].id, []).append(each.id)
        held_out = hold_out(together, set(chosen[DATASET]), self.settings.splits.validation)
        stages = summaries(self.output, self.shards)
        built = None
        for name, ids in chosen.items():
            folder = self.output / DATASET if name == DATASET else self._variant(name)
            card = self._write(name, folder, set(ids), held_out, stages)
            built = Built(folder, card) if name == DATASET else built
        assert built is not None
        return built

    def _variant(self, name: str) -> Path:
        return self.output / "variants" / name

    def _own(self, folder: Path) -> set[str]:
        """The files in it that an earlier run made. Raises UserError for one of their names that none did."""
        place = folder.relative_to(self.output).as_posix()
        made = set(self._record().get(place, ()))
        if not made and _card(folder):
            # of a version that did not write them down
            made = {path.name for path in folder.iterdir()}
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in made and (path.name in _BESIDE or _FILE.fullmatch(path.name)):
                raise UserError(f"{path} was not made by `deepmmsearch {COMMAND}`. Move it, or choose another output.")
        return made

    def _record(self) -> dict[str, list[str]]:
        """By folder, the files that were made there: written down before, so that a kill leaves none unknown."""
        path = self.stages[6].folder / "report" / "files.json"
        return dict(read_json(path)) if path.is_file() else {}

    def _claim(self, folder: Path, names: Iterable[str]) -> None:
        place = folder.relative_to(self.output).as_posix()
        made = self._own(folder)
        wanted = {**self._record(), place: sorted({*made, *names})}
        write_json(self.stages[6].folder / "report" / "files.json", wanted, durable=True, private=True)
        for old in made:
            if _FILE.fullmatch(old):
                (folder / old).unlink(missing_ok=True)

    def _write(
        self, name: str, folder: Path, ids: set[str], held_out: set[str], stages: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """The files of one mix: written once, unless the rows differ from those that are there."""
        kept = len(ids)
        made_of = (sorted(ids), sorted(ids & held_out), self.settings.splits)
        # the card tells of rows that wait and of what was tried again, too
        waiting = [stage[name] for name in ("pending", "retries") for stage in stages if stage[name]]
        key = hashlib.sha256(repr((*made_of, waiting) if waiting else made_of).encode()).hexdigest()
        if (card := _card(folder)).get("key") == key:
            return card
        size, rows_of = self.settings.splits.rows_per_file, {"train": ids - held_out, "validation": ids & held_out}
        numbered = ((split, n) for split, wanted in rows_of.items() for n in range(-(-len(wanted) // size)))
        self._claim(folder, [*_BESIDE, *(f"{split}-{number:05d}.parquet" for split, number in numbered)])
        contents = {}
        for split, wanted in rows_of.items():
            files = _chunks(self._chosen_rows(wanted), self.settings.splits.rows_per_file)
            for number, rows in enumerate(files):
                write_rows(rows, folder / f"{split}-{number:05d}.parquet")
            contents[split] = count_contents(self._chosen_rows(wanted)).to_dict()
        settings, source = self.settings, open_source(self.settings.seeds, self.output)
        mix = settings.balance if name == DATASET else settings.balance.variants[name]
        title = settings.name if name == DATASET else f"{settings.name}: {name}"
        card = {
            "name": title,
            "licence": settings.licence,
            "licence_of_seeds": source.licence(),
            "source": source.describe(),
            "teacher": _short(self.shown["teacher"]),
            "judge": _short(self.shown["judge"]),
            "revision": git_revision(),
            "mix": {field: getattr(mix, field) for field in Mix.model_fields},
            "contents": contents,
            "stages": [
                *stages[:-1],
                {**stages[-1], "kept": kept, "dropped": {"not in the mix": stages[-1]["rows"] - kept}},
            ],
            "key": key,
        }
        write_text(folder / RECIPE, (self.output / RECIPE).read_text(encoding="utf-8"))
        write_card(card, folder)
        return card

    def _chosen_rows(self, wanted: set[str]) -> Iterator[Row]:
        for shard in self.shards:
            yield from (row for row in self.stages[5].read(shard) if row["id"] in wanted)


def _card(folder: Path) -> dict[str, Any]:
    """Of a data set of ours; empty where there is none."""
    try:
        found = read_json(folder / "card.json") if (folder / "card.json").is_file() else None
    except UserError:
        found = None
    return found if isinstance(found, dict) and "key" in found else {}


def _filtered(rows: Iterable[Row], drop: Mapping[str, str], counts: Counts) -> Iterator[Row]:
    for row in rows:
        counts.rows += 1
        if row["id"] in drop:
            counts.drop(drop[row["id"]], row["id"])
        else:
            yield row


def _chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def hold_out(groups: Mapping[str, Sequence[str]], wanted: Collection[str], share: float) -> set[str]:
    """The ids of whole groups, in an order that their names alone decide: as many as come nearest to `share` of the
    `wanted` ids."""
    names = sorted(groups, key=_fraction)
    counts = [0, *accumulate(sum(id in wanted for id in groups[name]) for name in names)]
    best = min(range(len(counts)), key=lambda count: abs(counts[count] - share * len(wanted)))
    return {id for name in names[:best] for id in groups[name]}


def _fraction(text: str) -> float:
    """A number in [0, 1) that the text alone decides."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def _short(settings: Mapping[str, Any]) -> str:
    """Who it is in a few words: the settings that are set, of a model or of tools its kind and name."""
    words = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            named = [str(value[key]) for key in ("kind", "model", "base_url", "index") if value.get(key)]
            words += [f"{name}: {' '.join(named)}"] if named else []
        elif value not in (None, False, ""):
            words.append(f"{name}: {value}")
    return ", ".join(words) or "default"
