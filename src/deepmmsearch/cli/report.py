"""`deepmmsearch report`: the tables and the gallery of one or more evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.streams import echo

if TYPE_CHECKING:
    from deepmmsearch.eval.run import EvalRun


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to.  [default: the first RUN]")
@click.option("--judge", metavar="NAME", help="Whose scores the tables show.  [default: the run's first]")
@click.option("--title", metavar="TEXT", help="Heading of the page.  [default: the names of the runs]")
@click.option(
    "--examples",
    type=click.IntRange(0),
    default=24,
    show_default=True,
    help="At most so many episodes of each benchmark and workflow are shown.",
)
@click.option(
    "--show-encrypted",
    is_flag=True,
    help="Show questions and answers of benchmarks that are published encrypted. Do not publish such a page.",
)
def command(
    runs: tuple[Path, ...],
    out: Path | None,
    judge: str | None,
    title: str | None,
    examples: int,
    show_encrypted: bool,
) -> None:
    """Write report.html, report.md and report.json of the evaluations in the folders RUNS, which may lie in object
    storage.

    Several runs are put together, such as those of two checkpoints on the same questions. The page holds everything in
    itself and loads nothing.

    \b
    Example:  deepmmsearch report runs/eval/atlas
              deepmmsearch report runs/eval/sft runs/eval/rl --out runs/eval/both --judge exact
    """
    from deepmmsearch.eval.report import PAGES
    from deepmmsearch.eval.run import FILE, EvalRun
    from deepmmsearch.object_storage.filesystems import address_of
    from deepmmsearch.object_storage.local_copies import local_copy
    from deepmmsearch.outputs import Output

    if out is None and address_of(runs[0]):
        raise UserError(f"A report is written to a folder of this machine. Give --out FOLDER beside {runs[0]}.")
    folders = [local_copy(run) for run in runs]
    for folder in folders:
        if not (folder / FILE).is_file():
            raise UserError(f"{folder} holds no evaluation (no {FILE}). Run: deepmmsearch eval RECIPE")
    if out is not None and out not in runs:
        Output(out, "report", makes=PAGES, private=True).claim({})
    opened = [EvalRun(folder) for folder in folders]
    write_all(opened, out or runs[0], judge, title or "", examples, echo, encrypted=show_encrypted)


def write_all(
    runs: Sequence[EvalRun],
    out: Path,
    judge: str | None = None,
    title: str = "",
    examples: int = 24,
    echo: Callable[[str], None] = lambda _: None,
    *,
    encrypted: bool = False,
) -> None:
    """Raises UnknownName for a judge that judged none of the runs."""
    from deepmmsearch.eval.figures import load_results
    from deepmmsearch.eval.report import write_reports

    results = load_results(runs, judge, title, examples, encrypted=encrypted)
    if judge is not None and judge not in results.judges:
        raise UnknownName("judge in the runs", judge, results.judges)
    for path in write_reports(results, out):
        echo(f"Wrote {path}")
