"""`deepmmsearch data`: benchmarks, the DeepMMSearchVQA pipeline, converters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmmsearch.cli.bars import Bars
from deepmmsearch.cli.check import dry_run, ready
from deepmmsearch.cli.part_options import cluster_of, part_options
from deepmmsearch.cli.rows import json_option, print_rows
from deepmmsearch.cli.storage_options import READ, folders, out_option, working_copy, written_to
from deepmmsearch.errors import MissingExtra
from deepmmsearch.escaping import one_line
from deepmmsearch.streams import echo

if TYPE_CHECKING:
    from deepmmsearch.console import Console
    from deepmmsearch.data.benchmark import QuestionSet
    from deepmmsearch.data.dataset import Built
    from deepmmsearch.data.load_report import LoadReport
    from deepmmsearch.outputs import RunPart
    from deepmmsearch.types import Question

PLACE = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Questions as data: known benchmarks and your own, building training sets, converting between formats.

    \b
    Example:  deepmmsearch data list
              deepmmsearch data show my-questions.jsonl
              deepmmsearch data build recipes/data/atlas.yaml
              deepmmsearch data convert runs/data/atlas/dataset out.parquet --to verl
    """


@command.command(name="list")
@json_option
def list_command(as_json: bool) -> None:
    """List the benchmarks that are known by name.

    \b
    Example:  deepmmsearch data list
    """
    from rich.table import Table
    from rich.text import Text

    from deepmmsearch.console import Console

    rows = list(_benchmarks())
    if as_json:
        print_rows(rows)
        return
    table = Table()
    for head in ("name", "title", "splits", "from", "licence"):
        table.add_column(head, overflow="fold", no_wrap=head == "name")
    for row in rows:
        if row["problem"]:
            table.add_row(row["name"], Text(row["problem"], "red"))
            continue
        place = f"Hub: {row['hub']}" if row["hub"] else f"--path: {row['source']}"
        title = f"{row['title']} (published encrypted)" if row["encrypted"] else row["title"]
        table.add_row(row["name"], title, ", ".join(row["splits"]), place, row["licence"])
    Console().print(table)
    echo("See the questions of one, or of your own file, with: deepmmsearch data show NAME")


def _benchmarks() -> Iterator[dict[str, Any]]:
    from deepmmsearch.data.published import BENCHMARKS
    from deepmmsearch.errors import UserError

    for name in BENCHMARKS.names():
        row: dict[str, Any] = dict.fromkeys(("title", "splits", "hub", "source", "licence", "encrypted", "problem"))
        try:
            found = BENCHMARKS.find(name)
        except UserError as error:
            yield {"name": name, **row, "problem": str(error)}
            continue
        row |= {"title": found.title, "splits": list(found.splits), "licence": found.licence}
        row |= {"source": found.source, "encrypted": found.encrypted}
        yield {"name": name, **row, "hub": found.hub.repository if found.hub else None}


def _source_options(call: Any) -> Any:
    for option in (
        click.option("--seed", type=int, default=0, show_default=True, help="Draws the sample."),
        click.option(
            "--sample",
            type=click.IntRange(min=0),
            help="Draw so many; 0 takes all.  [default: 2000 of infoseek and evqa, else all]",
        ),
        click.option("--split", help="Which split.  [default: the one that is evaluated]"),
        click.option("--images", type=READ, help="Folder with the pictures, where they are elsewhere."),
        click.option("--path", type=READ, help="Local files of the benchmark, instead of the Hub."),
    ):
        call = option(call)
    return call


@command.command()
@click.argument("name")
@_source_options
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="Show so many questions.")
@json_option
def show(
    name: str,
    path: Path | None,
    images: Path | None,
    split: str | None,
    sample: int | None,
    seed: int,
    limit: int,
    as_json: bool,
) -> None:
    """Show questions of NAME: a known benchmark, or a file or folder of your own.

    \b
    Example:  deepmmsearch data show my-questions.jsonl
              deepmmsearch data show okvqa --limit 3
              deepmmsearch data show infoseek --path infoseek_data --split val
    """
    from itertools import islice

    from rich.table import Table

    from deepmmsearch.console import Console

    asked = _open(name, path, images, split, sample, seed)
    if as_json:
        print_rows(_question_row(question) for question in islice(asked, limit))
        return
    table = Table("id", "question", "picture", "accepted answers")
    for question in islice(asked, limit):
        size = ", ".join(f"{image.width} x {image.height}" for image in question.images) or "none"
        answers = "; ".join(question.answers[:4]) + (" ..." if len(question.answers) > 4 else "")
        table.add_row(question.id, question.text, size, answers)
    console = Console()
    console.print(table)
    _tell_encrypted(console, asked)
    _print_report(console, asked.report)


def _question_row(question: Question) -> dict[str, Any]:
    sizes = [{"width": image.width, "height": image.height} for image in question.images]
    kept = {"answers": list(question.answers), "metadata": dict(question.metadata)}
    return {"id": question.id, "question": question.text, "images": sizes, **kept}


@command.command()
@click.argument("name")
@_source_options
@json_option
def stats(
    name: str,
    path: Path | None,
    images: Path | None,
    split: str | None,
    sample: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Count the questions of NAME: how many load and why the others do not, answers, pictures, kinds.

    \b
    Example:  deepmmsearch data stats my-questions.csv
              deepmmsearch data stats dynvqa --path DynVQA_en --images pictures
    """
    from collections import Counter

    from rich.table import Table

    from deepmmsearch.console import Console

    asked = _open(name, path, images, split, sample, seed)
    kinds: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    words, answers = 0, 0
    for question in asked:
        kinds[_kind(question)] += 1
        sizes[_size(question)] += 1
        words += len(question.text.split())
        answers += len(question.answers)
    report, loaded = asked.report, max(1, asked.report.loaded)
    if as_json:
        counts = {"questions": report.loaded, "rows": report.rows, "dropped": dict(report.dropped)}
        means = {"words_each": words / loaded, "answers_each": answers / loaded}
        print_rows([{"name": name, **counts, **means, "kinds": dict(kinds), "pictures": dict(sizes)}])
        return
    table = Table(show_header=False)
    table.add_row("questions", f"{report.loaded:,}")
    table.add_row("words a question", f"{words / loaded:.1f}")
    table.add_row("accepted answers a question", f"{answers / loaded:.1f}")
    for title, counted in (("kind", kinds), ("picture", sizes)):
        for value, count in counted.most_common(12):
            table.add_row(f"{title}: {value}", f"{count:,}")
    console = Console()
    console.print(table)
    _print_report(console, report)


def _kind(question: Question) -> str:
    for key in ("kind", "answer_type", "category", "question_type"):
        if question.metadata.get(key):
            return str(question.metadata[key])
    return "unknown"


def _size(question: Question) -> str:
    if question.image is None:
        return "none"
    megapixels = question.image.width * question.image.height / 1e6
    return "below 0.25 megapixels" if megapixels < 0.25 else "0.25 to 1" if megapixels < 1 else "above 1 megapixel"


def _open(
    name: str, path: Path | None, images: Path | None, split: str | None, sample: int | None, seed: int
) -> QuestionSet:
    from deepmmsearch.data.published import open_questions
    from deepmmsearch.object_storage.filesystems import address_of
    from deepmmsearch.object_storage.local_copies import local_copy

    # a name is not a path: only an address is changed
    name = str(local_copy(name)) if address_of(name) else name
    return open_questions(name, path=path, images=images, split=split, sample=sample, seed=seed)


def _tell_encrypted(console: Console, asked: QuestionSet) -> None:
    if asked.encrypted:
        console.print(
            "These are published encrypted, to keep them out of training data: do not keep them in the clear."
        )


def _print_report(console: Console, report: LoadReport) -> None:
    console.print(f"{report.rows} rows read, {report.loaded} loaded, {report.dropped.total()} left out.")
    for reason, count in report.dropped.most_common():
        shown = one_line(f"{reason}: {'; '.join(report.examples.get(reason, []))}")
        console.print(f"  {count} x {shown}", style="yellow")
    for note, count in report.notes.most_common():
        shown = one_line(f"{note}: {'; '.join(report.examples.get(note, []))}")
        console.print(f"  {count} x {shown}", style="yellow")


@command.command()
@click.argument("recipe", type=PLACE)
@click.argument("overrides", nargs=-1)
@click.option("--retry-errors", is_flag=True, help="Play again the episodes that ended in an error in an earlier run.")
@part_options
@out_option
@dry_run
def build(
    recipe: Path,
    overrides: tuple[str, ...],
    retry_errors: bool,
    part: RunPart | None,
    address: str | None,
    workers: int | None,
    worker_gpus: float | None,
    out: str | None,
    dry_run: bool,
) -> None:
    """Build a training set as RECIPE says: seeds, a teacher's episodes, judged, labelled, without duplicates, balanced.

    An interrupted run goes on where it was: what was played, judged or labelled is never paid for twice.

    \b
    Example:  deepmmsearch data build recipes/data/atlas.yaml
              deepmmsearch data build recipes/data/atlas.yaml output=runs/mine seeds.worlds=2
              deepmmsearch data build recipes/data/atlas.yaml --part 3/8
              deepmmsearch data merge runs/data/atlas runs/data/atlas.part-*
              deepmmsearch data build recipes/data/atlas.yaml --ray local --workers 8
              deepmmsearch data build recipes/data/atlas.yaml --out s3://bucket/atlas
    """
    from deepmmsearch.cli.recipe_file import open_recipe
    from deepmmsearch.compose.data_build import DataRecipe, build_of, run_build, run_part
    from deepmmsearch.console import Console
    from deepmmsearch.outputs import WHOLE

    cluster = cluster_of(part, address, workers, worker_gpus)
    settings = open_recipe(recipe, DataRecipe, overrides)
    folder = build_of(settings, part or WHOLE).output
    copy = partial(working_copy, folder, out, part)
    ready(settings, recipe, dry_run, copy)
    with Bars() as bars, copy(bars):
        if part is not None and part.of > 1:
            stages = run_part(settings, part, bars, retry_errors=retry_errors)
        elif cluster is not None:
            from deepmmsearch.scale.ray_workers import build_on_ray

            built = build_on_ray(settings, cluster, retry_errors=retry_errors, watch=bars)
        else:
            built = run_build(settings, bars, retry_errors=retry_errors)
    if part is not None and part.of > 1:
        _print_stages(Console(), stages)
        echo(f"Part {part} is in {folder}. Put the parts together with: deepmmsearch data merge OUT PARTS")
    else:
        _print_built(Console(), built)


@command.command()
@click.argument("out", type=PLACE)
@click.argument("parts", nargs=-1, required=True, type=PLACE)
def merge(out: Path, parts: tuple[Path, ...]) -> None:
    """Put PARTS, folders that `deepmmsearch data build RECIPE --part I/N` wrote, together into OUT, and make the data
    set once no part is missing. Nobody is asked anything. PARTS may lie in object storage.

    \b
    Example:  deepmmsearch data merge runs/data/atlas runs/data/atlas.part-*
    """
    from deepmmsearch.console import Console
    from deepmmsearch.data.build_parts import merge_builds

    with Bars() as bars:
        merged = merge_builds(out, folders(parts), bars)
    echo(f"{len(merged.came):,} shards are new in {out}, or further than they were")
    if merged.built is None:
        named = ", ".join(merged.missing[:8]) + (" ..." if len(merged.missing) > 8 else "")
        echo(
            f"{len(merged.missing):,} shards are finished in none of the parts, so there is no data set yet: {named}. "
            f"Merge the other parts too, or build them here: deepmmsearch data build RECIPE output={out}"
        )
    else:
        _print_built(Console(), merged.built)


def _print_built(console: Console, built: Built) -> None:
    _print_stages(console, built.card["stages"])
    contents = built.card["contents"]
    console.print(
        f"{contents['train']['rows']:,} rows for training and {contents['validation']['rows']:,} for validation "
        f"are in {built.dataset}, with a card (README.md) and plots."
    )


def _print_stages(console: Console, stages: Sequence[Mapping[str, Any]]) -> None:
    from rich.table import Table

    from deepmmsearch.data.stages import ERROR

    table = Table("stage", "rows in", "kept", "left out because")
    for stage in stages:
        why = "; ".join(f"{count} {reason}" for reason, count in list(stage["dropped"].items())[:4])
        table.add_row(stage["stage"], f"{stage['rows']:,}", f"{stage['kept']:,}", why)
    console.print(table)
    if pending := sum(stage.get("pending", 0) for stage in stages):
        console.print(f"{pending:,} rows wait for the next start, because a judge or a model failed. Run it again.")
    if again := sum(stage.get("retries", 0) for stage in stages):
        recovered = sum(stage.get("recovered", 0) for stage in stages)
        console.print(f"{again:,} calls that failed were tried again, which helped {recovered:,} rows.")
    dropped = [reason for stage in stages for reason in stage["dropped"].items()]
    if spoiled := sum(count for reason, count in dropped if reason.startswith(ERROR)):
        console.print(f"{spoiled:,} episodes ended in an error all the same. Play them again with --retry-errors.")


@command.command()
@click.argument("source", type=READ)
@click.argument("out", type=PLACE)
@click.option("--to", required=True, metavar="verl|sharegpt|store|parquet", help="What to write.")
@click.option("--split", help="Which split to read.  [default: train; of a benchmark the one that is evaluated]")
@click.option("--images", type=READ, help="Folder with pictures that rows may name, besides the file's own.")
@click.option("--path", type=READ, help="Local files of the benchmark, instead of the Hub.")
@click.option("--sample", type=click.IntRange(min=1), help="Draw so many questions.  [default: all]")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the sample.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many questions, the first.")
def convert(
    source: Path,
    out: Path,
    to: str,
    split: str | None,
    images: Path | None,
    path: Path | None,
    sample: int | None,
    seed: int,
    limit: int | None,
) -> None:
    """Convert SOURCE to OUT: stored trajectories, data sets, verl's Parquet, LLaMA-Factory's ShareGPT, question
    files; or the questions of a benchmark, by its name.

    OUT is a file for verl and sharegpt, a folder for store and parquet. A folder of questions is what
    `deepmmsearch grpo` reads. SOURCE and OUT may be addresses in object storage.

    \b
    Example:  deepmmsearch data convert runs/data/atlas/dataset questions.parquet --to verl
              deepmmsearch data convert runs/atlas/teacher sharegpt/atlas.json --to sharegpt
              deepmmsearch data convert fvqa-train runs/paper/fvqa_train --to parquet
              deepmmsearch data convert infoseek runs/infoseek --to parquet --path infoseek_data --sample 500
              deepmmsearch data convert s3://bucket/atlas/dataset s3://bucket/questions.parquet --to verl
    """
    from deepmmsearch.console import Console
    from deepmmsearch.data.exchange import Chosen, write_as

    try:
        with written_to(out) as place:
            count, report = write_as(source, place, to, split, images, Chosen(path, sample, seed, limit))
    except ModuleNotFoundError as error:
        raise MissingExtra("Converting", "data") from error
    if report.dropped or report.notes:
        _print_report(Console(), report)
    echo(f"Wrote {count:,} rows to {out}.")


@command.command()
@click.argument("source", type=READ)
@click.argument("out", type=PLACE)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many articles, the first.")
def corpus(source: Path, out: Path, limit: int | None) -> None:
    """Write the articles of SOURCE to the folder OUT, as pages for an index: the Wikipedia that goes with InfoSeek or
    Encyclopedic-VQA (one JSON object of articles by address, or one article a line, also packed with gzip).

    \b
    Example:  deepmmsearch data corpus wiki_100_dict_v4.json wikipedia
              deepmmsearch data corpus encyclopedic_kb_wiki.json wikipedia --limit 100000
              deepmmsearch index build wikipedia --out index
    """
    from deepmmsearch.console import Console
    from deepmmsearch.data.corpus import write_pages

    with Bars() as bars:
        report = write_pages(source, out, limit, bars)
    if report.dropped:
        _print_report(Console(), report)
    echo(f"Wrote {report.loaded:,} pages to {out}. Index them with: deepmmsearch index build {out}")
