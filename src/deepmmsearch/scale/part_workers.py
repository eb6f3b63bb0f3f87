"""Parts of a run on workers that may be lost. A part comes home as bytes and is merged as it comes, so that no disk has
to be shared."""

from __future__ import annotations

import io
import os
import platform
import sqlite3
import tarfile
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

from deepmmsearch.errors import Failed, UserError
from deepmmsearch.outputs import RunPart
from deepmmsearch.progress import Watch
from deepmmsearch.tools.archive import merge_cassette

PARTS_EACH = 4
"""Parts for each worker, so that a slow one does not hold up the rest."""
ATTEMPTS = 3
"""How many workers may be lost while they play the same part."""
PLAYED = "Parts played"
_RUN = "run"


@dataclass(frozen=True)
class PartPlayed:
    """What comes home: `packed`, the part's folder and cassettes; empty where the recipe was `refused`. `failed`: why
    the part stopped early, or that all of it failed; `node`: the machine."""

    packed: bytes
    failed: str | None = None
    refused: str | None = None
    node: str = ""


class PartJob(Protocol):
    """What a worker needs to play a part, as plain values."""

    @property
    def part(self) -> RunPart: ...

    def play(self) -> PartPlayed:
        """In the worker: goes on where the part's folder is on this disk."""
        ...


J = TypeVar("J", bound=PartJob)


class PartWorkers(Protocol):
    """Processes, on any machine, that play parts. `lost`: what a future raises whose worker, or its machine, is gone;
    the next job gets another."""

    lost: tuple[type[BaseException], ...]

    def submit(self, job: PartJob, /) -> Future[PartPlayed]: ...


def passed_on(keys: Collection[str]) -> dict[str, str]:
    """Those environment variables that are set here."""
    return {name: os.environ[name] for name in keys if name in os.environ}


def play_in_worker(
    folder: str, keys: Mapping[str, str], play: Callable[[], object], output: Path, cassettes: Sequence[Path]
) -> PartPlayed:
    """Plays from `folder` on, with `keys` in the environment, and packs what is then in `output` and `cassettes`. What
    a user has to put right is told, not raised: errors do not survive the way home."""
    node, failed = platform.node(), None
    os.environ.update(keys)
    try:
        _enter(folder)
        play()
    except Failed as error:
        failed = str(error)
    except UserError as error:
        return PartPlayed(b"", refused=str(error), node=node)
    return PartPlayed(pack(output, cassettes), failed, node=node)


def come_home(jobs: Sequence[J], workers: PartWorkers, count: int, watch: Watch) -> Iterator[tuple[J, PartPlayed]]:
    """Each once, as it comes, with at most `count` under way; a part whose worker is lost goes to the next.

    Raises UserError where a worker refused the recipe, Failed where a part lost its worker `ATTEMPTS` times.
    """
    left, lost = deque(jobs), Counter[RunPart]()
    running: dict[Future[PartPlayed], J] = {}
    while left or running:
        while left and len(running) < count:
            job = left.popleft()
            running[workers.submit(job)] = job
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            job = running.pop(future)
            try:
                played = future.result()
            except workers.lost as error:
                lost[job.part] += 1
                if lost[job.part] == ATTEMPTS:
                    raise Failed(
                        f"{ATTEMPTS} workers in turn were lost while they played part {job.part}, the last with: "
                        f"{_first_line(error)} What came home is kept. Run again, perhaps with fewer workers."
                    ) from None
                watch(f"Part {job.part} lost its worker and goes to another: {_first_line(error)}")
                left.append(job)
                continue
            if played.refused is not None:
                raise UserError(f"{played.refused} (part {job.part}, on {played.node})")
            yield job, played


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError:
        raise UserError(
            f"There is no folder {folder} here. Every machine needs the recipe's files at the same paths."
        ) from None


def pack(output: Path, cassettes: Sequence[Path] = ()) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar, TemporaryDirectory() as folder:
        if output.is_dir():
            tar.add(output, _RUN)
        for number, cassette in enumerate(cassettes):
            if cassette.is_file():
                copy = Path(folder, str(number))
                # also what another connection has not written back yet
                with closing(sqlite3.connect(cassette)) as opened, closing(sqlite3.connect(copy)) as copied:
                    opened.backup(copied)
                tar.add(copy, copy.name)
    return packed.getvalue()


@contextmanager
def unpacked(packed: bytes, cassettes: Sequence[Path] = ()) -> Iterator[Path | None]:
    """The folder that was packed, None where there was none; its cassettes are merged into these here."""
    with TemporaryDirectory() as folder:
        if packed:
            with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
                tar.extractall(folder, filter="data")
        # first: once a question is in the output it is not asked again
        for number, cassette in enumerate(cassettes):
            if (came := Path(folder, str(number))).is_file():
                merge_cassette(cassette, came)
        home = Path(folder, _RUN)
        yield home if home.is_dir() else None
