"""What a benchmark is: where its rows come from, and how a row becomes a question."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from PIL.Image import Image

from deepmmsearch.data.columns import first, plain_names
from deepmmsearch.data.layouts import open_table
from deepmmsearch.data.load_report import LoadReport, Skip
from deepmmsearch.data.pictures import Folders, load_picture, names_nothing
from deepmmsearch.data.tables import LocalRows, Row, Rows, hub_rows, whole_row
from deepmmsearch.errors import UserError
from deepmmsearch.sealing import MARK
from deepmmsearch.types import Exchange, Question

MOST_PICTURES = 64
SAMPLE = 2000
"""How many examples are drawn where nothing else is said (DeepMMSearch-R1, section 4: InfoSeek and Enc-VQA 2k)."""


@dataclass(frozen=True)
class Draft:
    """A question whose pictures are still only named. `picture` is whatever `pictures.load_picture` takes, or a list of
    several; `files`: more names under which a single one may lie; `needs_picture` drops the row where there is none.
    `notes`: what was corrected, or was not read."""

    id: str
    text: str
    picture: Any
    answers: Sequence[str]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    needs_picture: bool = True
    notes: tuple[str, ...] = ()
    history: tuple[Exchange, ...] = ()


@dataclass(frozen=True)
class Hub:
    """A data set on the Hugging Face Hub; `splits` maps our names of splits to theirs, the first is the default."""

    repository: str
    splits: Mapping[str, str]
    config: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """`convert` makes a draft of a row (its number among the rows is the second argument) or raises Skip.

    `open_local` reads the files in which the authors publish it (a folder or one file, a split), None for the plain
    table that the Hub holds. `verified` says against what the format was checked. `prepare`: from the Hub's rows to one
    row per question. `encrypted`: so it is published, and `convert` decrypts; what is kept of it is sealed (`sealing`).
    """

    name: str
    title: str
    convert: Callable[[Row, int], Draft]
    licence: str
    source: str
    verified: str
    splits: tuple[str, ...]
    hub: Hub | None = None
    open_local: Callable[[Path, str], LocalRows] | None = None
    prepare: Callable[[Rows], Rows] | None = None
    sample: int | None = None
    general: bool = False
    encrypted: bool = False

    def open(
        self,
        path: Path | None = None,
        *,
        images: Path | None = None,
        split: str | None = None,
        sample: int | None = None,
        seed: int = 0,
        limit: int | None = None,
    ) -> QuestionSet:
        """The questions of `split` (default: the one that is evaluated), from local files or from the Hub.

        `images`: a folder with the pictures, where they are not in the rows or beside them. `sample`: so many drawn
        with `seed`; None draws none. `limit`: of those the first. Raises UserError for an unknown split and for files
        that are not there.
        """
        chosen = split or self.splits[0]
        if chosen not in self.splits:
            raise UserError(f"{self.name} has no split {chosen!r}. It has: {', '.join(self.splits)}.")
        if path is not None:
            local = self._open_local(Path(path), chosen)
            rows, folders = local.rows, local.folders
            home: Folders = (Path(path) if Path(path).is_dir() else Path(path).parent,)
        elif self.hub is not None:
            rows, folders, home = hub_rows(self.hub.repository, self.hub.config, self.hub.splits[chosen]), (), ()
        else:
            raise UserError(
                f"{self.name} is not on the Hugging Face Hub. Download it ({self.source}) and give its folder: --path"
            )
        if self.prepare is not None:
            rows = self.prepare(rows)
        given = (images,) if images else ()
        folders, roots = (*given, *folders), (*given, *home)
        return QuestionSet(
            self.name,
            rows,
            self.convert,
            folders,
            sample,
            seed,
            split=chosen,
            roots=roots,
            limit=limit,
            encrypted=self.encrypted,
        )

    def _open_local(self, path: Path, split: str) -> LocalRows:
        try:
            return (self.open_local or open_table)(path, split)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is not in the form in which {self.name} is published ({type(error).__name__}: {error}). "
                f"Fetch it again from {self.source}."
            ) from None


@dataclass
class QuestionSet:
    """Questions that are read when they are asked for, at most `limit`; `report` counts the latest pass. Pictures are
    looked for in `folders`, and must lie in one of `roots` (default: the folders).

    A sample takes rows in an order that the seed alone decides, until it has enough that can be loaded: the same files
    and the same seed give the same questions. They come in the order of the rows.
    """

    name: str
    rows: Rows
    convert: Callable[[Row, int], Draft]
    folders: Folders = ()
    sample: int | None = None
    seed: int = 0
    split: str = ""
    report: LoadReport = field(default_factory=LoadReport)
    roots: Folders | None = None
    limit: int | None = None
    encrypted: bool = False
    _rows_of: dict[str, int] = field(default_factory=dict, repr=False)

    def __iter__(self) -> Iterator[Question]:
        self.report = LoadReport()
        return islice(self._sampled(), self.limit)

    def _sampled(self) -> Iterator[Question]:
        if self.sample is None or self.sample >= len(self.rows):
            yield from self.load(range(len(self.rows)))
            return
        order = self.order()
        taken = 0
        while taken < len(order) and self.report.loaded < self.sample:
            batch = order[taken : taken + self.sample - self.report.loaded]
            taken += len(batch)
            # in ascending order, because big files are read from the front
            yield from self.load(sorted(batch))

    def order(self) -> list[int]:
        """The numbers of all rows, in the order in which samples take them."""
        order = list(range(len(self.rows)))
        random.Random(f"sample {self.seed}").shuffle(order)
        return order

    def load(self, numbers: Sequence[int]) -> Iterator[Question]:
        """The questions of these rows; `report` goes on counting."""
        for number in numbers:
            self.report.rows += 1
            row: Row = {}
            try:
                row = whole_row(self.rows[number])
                draft = self.convert(row, number)
                question = self._finish(draft)
            except Skip as skip:
                self.report.drop(_name_of(row, number), skip)
                continue
            except UserError:
                raise
            except Exception as error:  # whatever a row can bring about: it costs that row, and no other
                told = f"{type(error).__name__}: {error}"[:160]
                self.report.drop(_name_of(row, number), Skip("row in an unknown format", told))
                continue
            self.report.loaded += 1
            for note in draft.notes:
                self.report.note(_name_of(row, number), note)
            yield self._named(question, number)

    def _named(self, question: Question, number: int) -> Question:
        """Ids name trajectories and verdicts: one that another row has is numbered by its own row."""
        name = question.id
        while self._rows_of.setdefault(name, number) != number:
            name += f"-row{number + 1}"
        if name != question.id:
            self.report.note(f"row {number + 1}: {question.id} became {name}"[:160], "id of another row, numbered")
        return replace(question, id=name)

    def _finish(self, draft: Draft) -> Question:
        if not draft.text.strip():
            raise Skip("no question")
        answers = tuple(dict.fromkeys(text for answer in draft.answers if (text := str(answer).strip())))
        if not answers:
            raise Skip("no answer")
        metadata = {"benchmark": self.name, **({"split": self.split} if self.split else {}), **draft.metadata}
        if self.encrypted:
            metadata[MARK] = self.name
        return Question(draft.id, draft.text.strip(), self._pictures(draft), answers, metadata, draft.history)

    def _pictures(self, draft: Draft) -> tuple[Image, ...]:
        named = draft.picture if isinstance(draft.picture, list | tuple) else [draft.picture]
        several = [each for each in named if not names_nothing(each)]
        if len(several) > MOST_PICTURES:
            raise Skip(f"more than {MOST_PICTURES} pictures", f"{len(several)}")
        if len(several) > 1:
            return tuple(load_picture(each, self.folders, roots=self.roots) for each in several)
        try:
            return (load_picture(next(iter(several), None), self.folders, *draft.files, roots=self.roots),)
        except Skip as skip:
            if draft.needs_picture or skip.reason != "no picture named":
                raise
            return ()


def _name_of(row: Row, number: int) -> str:
    columns = plain_names(row)
    key = first(columns, ("data_id", "question_id", "sample_id", "id", "pid", "index"))
    return str(columns[key])[:120] if key is not None else f"row {number + 1}"
