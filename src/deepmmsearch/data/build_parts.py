"""Parts of one data build, worked on by machines that share nothing, put together into one folder.

A shard is in one part, with all that was done of it: five stages, their journals and, of an atlas, its world.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from deepmmsearch import outputs
from deepmmsearch.data.dataset import Built, DataSet
from deepmmsearch.data.recipe import BuildSettings
from deepmmsearch.data.sources import world_folder
from deepmmsearch.data.stages import COMMAND, PLAYED, RECIPE, SHARD, Stage, stages_of
from deepmmsearch.data.tables import read_json
from deepmmsearch.errors import UserError
from deepmmsearch.files import replacing, write_json, write_text
from deepmmsearch.outputs import Output, differences
from deepmmsearch.progress import Watch, silent
from deepmmsearch.store import FILE as STORED

_BEFORE = "before"
_IMAGES = "images"
_PIECE = 1 << 20


@dataclass(frozen=True)
class ShardList:
    """All shards of a build in their order, in each of its parts too."""

    folder: Path

    @property
    def _path(self) -> Path:
        return self.folder / "shards.json"

    def write(self, shards: Sequence[str]) -> None:
        write_json(self._path, list(shards), private=True)

    def read(self) -> list[str]:
        """Raises UserError where there is none."""
        found = read_json(self._path) if self._path.is_file() else None
        if not isinstance(found, list) or not all(isinstance(name, str) and SHARD.fullmatch(name) for name in found):
            raise UserError(
                f"{self.folder} is not a part of a data build ({self._path.name} is missing, or names no shards). Give "
                "folders that `deepmmsearch data build RECIPE --part I/N` wrote."
            )
        return found


@dataclass(frozen=True)
class Merged:
    """`came`: shards that are further than they were; `missing`: those that no part finished. `built`: the data set,
    where none is missing."""

    came: list[str]
    missing: list[str]
    built: Built | None


def merge_builds(out: Path, folders: Sequence[Path], watch: Watch = silent) -> Merged:
    """Adds to `out` what the parts in `folders`, all of one recipe, did of their shards, and makes the data set where
    no shard is missing. What is in `out` is kept, unless a part has more of it. Nobody is asked anything.

    Raises UserError where a folder is not a part of a build, or of one with other settings than the first.
    """
    (first, *others) = folders
    shards, made = ShardList(first).read(), _made_with(first)
    for folder in others:
        if told := differences(made, _made_with(folder)):
            raise UserError(
                f"{folder} was made with other settings than {first} ({told[0]}). Merge the parts of one recipe."
            )
        if ShardList(folder).read() != shards:
            raise UserError(
                f"{folder} was cut into other shards than {first}. Merge the parts of one recipe, with the same seeds."
            )
    output = Output(out, COMMAND)
    with output.alone():
        output.claim({})
        key = ""
        for stage in stages_of(out)[:PLAYED]:
            key = stage.claim(made[stage.name], key)
        write_text(out / RECIPE, (first / RECIPE).read_text(encoding="utf-8"), private=True)
        ShardList(out).write(shards)
        came = [name for folder in folders for name in take_over(folder, out, shards)]
        return Merged(list(dict.fromkeys(came)), *finish(out, shards, key, watch))


def finish(out: Path, shards: Sequence[str], key: str, watch: Watch = silent) -> tuple[list[str], Built | None]:
    """The shards that are not finished, and where there is none the data set. `key`: the id of stage 5."""
    missing = [name for name in shards if not all(stage.has(name) for stage in stages_of(out)[:PLAYED])]
    if missing:
        return missing, None
    settings, shown = _settings(out)
    made = DataSet(settings, shown, shards, watch)
    made.refuse_others()
    return [], made.make(key)


def take_over(source: Path, out: Path, shards: Iterable[str]) -> list[str]:
    """Copies what `source` has of these shards and `out` has not, or not as far; gives which. Interrupted, it goes on
    where it was."""
    return [shard for shard in shards if _take_shard(source, out, shard)]


def _take_shard(source: Path, out: Path, shard: str) -> bool:
    pairs = list(zip(stages_of(source), stages_of(out), strict=True))[:PLAYED]
    journals = [
        (place(theirs, shard), place(ours, shard))
        for theirs, ours in pairs
        for place in (Stage.journal_file, lambda stage, shard: stage.journal_store(shard) / STORED)
    ]
    further = _standing(source, shard) > _standing(out, shard)
    # what was paid for of a shard that is not finished comes along; two that were played apart are not mixed
    grown = all(_begins_with(theirs, ours) for theirs, ours in journals)
    coming = [(theirs, ours) for theirs, ours in journals if theirs.is_file() and _size(theirs) != _size(ours)]
    if not (further or (grown and coming)):
        return False
    if further:
        # the last first, so that a kill leaves nothing behind that is made of less
        for stage in reversed(stages_of(out)):
            stage.forget(shard)
    world = world_folder(source, shard)
    if world.is_dir() and not world_folder(out, shard).exists():
        with replacing(world_folder(out, shard)) as draft:
            shutil.copytree(world, draft, symlinks=True, ignore=shutil.ignore_patterns(".*"))
    for theirs, ours in coming:
        # pictures are complete before the line that names them
        for picture in (theirs.parent / _IMAGES).glob("*.png") if theirs.name == STORED else ():
            _copy(picture, ours.parent / _IMAGES / picture.name)
        _copy(theirs, ours)
    for before, stage in pairs if further else ():
        if before.has(shard):
            _copy(before.rows_file(shard), stage.rows_file(shard))
            _copy(before.counts_file(shard), stage.counts_file(shard))
    return True


def _standing(folder: Path, shard: str) -> tuple[int, int, int]:
    """How far a shard is: more is further."""
    counts = [stage.counts([shard]) for stage in stages_of(folder)[:PLAYED] if stage.has(shard)]
    return len(counts), -sum(c.pending for c in counts), -sum(c.spoiled for c in counts)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _begins_with(longer: Path, shorter: Path) -> bool:
    """Where there is no shorter one, too."""
    if not shorter.is_file():
        return True
    if _size(longer) < _size(shorter):
        return False
    with longer.open("rb") as theirs, shorter.open("rb") as ours:
        return all(theirs.read(len(piece)) == piece for piece in iter(lambda: ours.read(_PIECE), b""))


def _copy(source: Path, place: Path) -> None:
    if source.is_symlink():
        raise UserError(f"{source} is a link, which may lead out of the build. Copy the build with its own files.")
    with replacing(place, durable=True, private=True) as draft:
        shutil.copyfile(source, draft)


def _made_with(folder: Path) -> dict[str, Any]:
    """By stage, without which stage was before it: that one has an id of its own in each part."""
    Output(folder, COMMAND)
    ShardList(folder).read()
    made = {}
    for stage in stages_of(folder)[:PLAYED]:
        Output(stage.folder, COMMAND, private=True)
        path = stage.folder / outputs.FILE
        if not path.is_file():
            raise UserError(f"{folder} is not a part of a data build ({path} is missing). Build it once more.")
        settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
        made[stage.name] = {name: value for name, value in settings.items() if name != _BEFORE}
    said, _ = _settings(folder)
    return made | {name: getattr(said, name).model_dump(mode="json") for name in ("unique", "balance", "splits")}


def _settings(folder: Path) -> tuple[BuildSettings, Mapping[str, Mapping[str, Any]]]:
    """What the recipe in a build says of it, and who played and judged."""
    path = folder / RECIPE
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        said = {name: value for name, value in found.items() if name in BuildSettings.model_fields}
        return BuildSettings.model_validate({**said, "output": folder}), {
            name: value for name, value in found.items() if name not in BuildSettings.model_fields
        }
    except (OSError, ValueError, AttributeError, yaml.YAMLError, ValidationError) as error:
        raise UserError(f"{path} cannot be read ({error}). Build the part once more.") from None
