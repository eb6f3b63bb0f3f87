"""The DeepMMSearchVQA pipeline (DeepMMSearch-R1, arXiv 2510.12801, section 3.2), from seed questions to a data set.

| folder | what is in it |
|---|---|
| 1-seeds | the questions drawn, with pictures |
| 2-episodes | the teacher's episodes that pass the three checks |
| 3-correct | those whose answer the judge finds right |
| 4-labelled | with a category of the taxonomy |
| 5-search | told whether the question needs a search |
| 6-unique | without near-duplicates and without what is in the evaluation |
| 7-balanced | the rows of the data set |
| dataset | train and validation files, card, plots; `variants/` beside it |

Duplicates go before balancing, not after it as one might expect: removed afterwards they would unbalance it again.
Every stage works shard by shard; what is finished is never done again, and a run that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from deepmmsearch.data.build_parts import ShardList, take_over
from deepmmsearch.data.dataset import Built, DataSet
from deepmmsearch.data.episodes import PlayEpisodes
from deepmmsearch.data.recipe import AtlasSeeds, BuildSettings, Seeds
from deepmmsearch.data.sources import SeedSource, open_source
from deepmmsearch.data.stages import COMMAND, PLAYED, RECIPE, Stage, stages_of, summaries, tell
from deepmmsearch.data.tasks import DrawSeeds, JudgeFactory, LabelerFactory, PlayerFactory
from deepmmsearch.data.verdicts import KeepCorrect, LabelTaxonomy, TellSearch
from deepmmsearch.data.workers import ShardTask, run_shards
from deepmmsearch.digests import tables_digest
from deepmmsearch.files import write_text
from deepmmsearch.outputs import Output, RunPart, content
from deepmmsearch.progress import Watch, silent
from deepmmsearch.redaction import public_settings
from deepmmsearch.settings import decisive


@dataclass(frozen=True)
class Makers:
    """Who plays, judges and labels: factories, and in `settings` their settings as plain values, for each of
    "teacher", "judge", "labels", "rollouts". `made_with`: of these what can change a result, with models and indexes by
    their content; when it changes, what was made with others is not taken over. `keys`: the environment variables that
    they need."""

    players: PlayerFactory
    judges: JudgeFactory
    labelers: LabelerFactory
    settings: Mapping[str, Mapping[str, Any]]
    made_with: Mapping[str, Mapping[str, Any]]
    rollout_players: PlayerFactory | None = None
    keys: tuple[str, ...] = ()


def build(settings: BuildSettings, makers: Makers, watch: Watch = silent, *, retry_errors: bool = False) -> Built:
    """Runs what is missing of the build in `settings.output`, and gives the data set. `retry_errors`: episodes that
    ended in an error are played again.

    Raises UserError when another run holds the folder, when the recipe changed since an expensive stage was made, or
    when nothing is left for the data set.
    """
    with taken(settings, makers):
        stages = ShardStages(settings, makers, watch, retry_errors)
        made = DataSet(settings, makers.settings, stages.shards, watch)
        made.refuse_others()
        key = stages.claim()
        stages.run(stages.shards)
        return made.make(key)


def build_part(
    settings: BuildSettings,
    makers: Makers,
    part: RunPart,
    watch: Watch = silent,
    *,
    retry_errors: bool = False,
    elsewhere: Collection[str] = (),
    former: Path | None = None,
) -> list[dict[str, Any]]:
    """As `build`, but of every `part.of`th shard alone and up to stage 5; gives what a card tells of each stage.
    `elsewhere`: shards that another folder holds; `former`: a folder with what is known of some already."""
    with taken(settings, makers):
        stages = ShardStages(settings, makers, watch, retry_errors)
        stages.claim()
        mine = [s for place, s in enumerate(stages.shards) if part.holds(place) and s not in elsewhere]
        if former is not None:
            take_over(former, settings.output, mine)
        stages.run(mine)
        return summaries(settings.output, mine)[:PLAYED]


@contextmanager
def taken(settings: BuildSettings, makers: Makers) -> Iterator[None]:
    """The folder of the build, for this run alone, with its recipe in it. Raises UserError."""
    output = Output(settings.output, COMMAND)
    with output.alone():
        output.claim({})
        recipe = public_settings({**settings.model_dump(mode="json"), **makers.settings})
        write_text(settings.output / RECIPE, yaml.safe_dump(recipe, sort_keys=False), private=True)
        yield


@dataclass
class ShardStages:
    """The five stages in which every shard is worked on by itself."""

    settings: BuildSettings
    makers: Makers
    watch: Watch
    retry_errors: bool = False
    cost: float = 0.0

    def __post_init__(self) -> None:
        self.stages = stages_of(self.settings.output)
        self.source: SeedSource = open_source(self.settings.seeds, self.settings.output)

    @cached_property
    def shards(self) -> list[str]:
        return self.source.shards()

    @cached_property
    def _plans(self) -> list[tuple[Stage, dict[str, Any], ShardTask]]:
        s, m, made_with = self.settings, self.makers, self.makers.made_with
        seeds, episodes, correct, labelled, search, *_ = self.stages
        return [
            (
                seeds,
                {"seeds": _shard_settings(s.seeds), "pictures": decisive(s.pictures)},
                DrawSeeds(self.source, seeds, s.pictures),
            ),
            (
                episodes,
                {"teacher": made_with["teacher"], "episodes": decisive(s.episodes)},
                PlayEpisodes(seeds, episodes, s.episodes, s.pictures, m.players, s.tries, self.retry_errors),
            ),
            (correct, {"judge": made_with["judge"]}, KeepCorrect(episodes, correct, m.judges, s.tries)),
            (
                labelled,
                {"labels": made_with["labels"], "taxonomy": decisive(s.taxonomy)},
                LabelTaxonomy(correct, labelled, s.taxonomy, m.labelers, s.tries),
            ),
            (
                search,
                {
                    "search": decisive(s.search),
                    **({"rollouts": made_with.get("rollouts")} if s.search.by == "rollouts" else {}),
                },
                TellSearch(labelled, search, s.search, s.episodes, s.pictures, s.tries, m.rollout_players, m.judges),
            ),
        ]

    def claim(self) -> str:
        """Takes all the stages before the first is run, so that what is refused is refused at once; gives the id of the
        last. Raises UserError where one was made with other settings."""
        key = ""
        for stage, wanted, _ in self._plans:
            key = stage.claim(wanted, key)
        ShardList(self.settings.output).write(self.shards)
        return key

    def run(self, shards: Sequence[str]) -> None:
        """Does what is missing of these."""
        self._take_up(shards)
        before = None
        for stage, _, task in self._plans:
            self._run(shards, stage, before, task)
            before = stage

    def unfinished(self) -> list[str]:
        """Shards for which `run` has something to do."""
        return [shard for shard in self.shards if self._missing(shard)]

    def _missing(self, shard: str) -> bool:
        return any(not stage.has(shard) or self._again(stage, shard) for stage in self.stages[:PLAYED])

    def _again(self, stage: Stage, shard: str) -> bool:
        counts = stage.counts([shard])
        return bool(counts.pending or (self.retry_errors and counts.spoiled))

    def _take_up(self, shards: Sequence[str]) -> None:
        """Parts with rows that were left for this start are made again, and with `retry_errors` those with episodes
        that failed, and what came after them: the last one first, so that a kill leaves nothing behind that is made of
        less."""
        for place, stage in enumerate(self.stages):
            for shard in shards:
                if self._again(stage, shard):
                    for later in reversed(self.stages[place:]):
                        later.forget(shard)

    def _run(self, shards: Sequence[str], stage: Stage, before: Stage | None, task: ShardTask) -> None:
        missing = [shard for shard in shards if not stage.has(shard)]
        drawn = _drawn(self.settings.seeds) * len(shards) // max(1, len(self.shards))
        total = before.counts(shards).kept if before else drawn
        finished = stage.counts(shards)
        done, kept = finished.rows, finished.kept
        self.cost += finished.cost
        tell(self.watch, stage, done, kept, total or None, self.cost)
        # starting processes costs more than judging and labelling, which wait for a model at most
        heavy = isinstance(task, DrawSeeds | PlayEpisodes) or self.settings.search.by == "rollouts"
        processes = self.settings.processes if heavy else 1
        with closing(run_shards(task, missing, processes, self.makers.keys)) as told:
            for news in told:
                done, kept, self.cost = done + news.done, kept + news.kept, self.cost + news.cost
                # the total is an estimate: where it is passed, it is not known
                tell(self.watch, stage, done, kept, total if done < total else None, self.cost)
        counted = stage.counts(shards)
        tell(self.watch, stage, counted.rows, counted.kept, counted.rows, self.cost)


def _drawn(seeds: Seeds) -> int:
    """How many questions are drawn; 0 where all there are, which nobody has counted."""
    return seeds.worlds * seeds.questions if isinstance(seeds, AtlasSeeds) else seeds.count or 0


def _shard_settings(seeds: Seeds) -> dict[str, Any]:
    """What a shard is drawn with: more worlds, or more whole shards, add to a build and change nothing in it."""
    settings: dict[str, Any] = decisive(seeds)
    for name in ("benchmark", "path"):
        if settings.get(name) and Path(settings[name]).exists():
            settings[name] = content(settings[name], tables_digest(Path(settings[name])))
    if isinstance(seeds, AtlasSeeds):
        return _without(settings, "worlds")
    whole = seeds.count is not None and seeds.count % seeds.shard == 0
    return _without(settings, "count") if whole else settings


def _without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    """The settings without these."""
    return {name: value for name, value in settings.items() if name not in names}
