"""`deepmmsearch cache`: cassettes of recorded tool calls, shown, exported, imported and pruned."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from deepmmsearch.cli.rows import json_option, print_rows
from deepmmsearch.console import Console
from deepmmsearch.errors import UserError
from deepmmsearch.escaping import one_line
from deepmmsearch.streams import echo

_cassette = click.argument("cassette", metavar="CASSETTE", type=click.Path(path_type=Path))
_tools = click.option("--tool", "tools", multiple=True, metavar="NAME", help="Only this tool, such as text_search.")


@click.group(name="cache")
def command() -> None:
    """Show, export, import and prune a cassette: the file in which tool calls are recorded.

    \b
    Example:  deepmmsearch cache stats runs/cache.sqlite
              deepmmsearch cache export runs/cache.sqlite recorded.jsonl.gz
              deepmmsearch cache prune runs/cache.sqlite --older-than 30d
    """


@command.command()
@_cassette
@json_option
def stats(cassette: Path, as_json: bool) -> None:
    """Show what CASSETTE holds, by tool and provider, and what its calls took.

    \b
    Example:  deepmmsearch cache stats runs/cache.sqlite
    """
    from deepmmsearch.show.terminal import dollars
    from deepmmsearch.tools.archive import count, holdings
    from deepmmsearch.tools.cassette import Cassette

    with Cassette(cassette, read_only=True) as opened:
        rows, total = holdings(opened), count(opened)
    if as_json:
        print_rows({**asdict(h), "oldest": _finite(h.oldest), "newest": _finite(h.newest)} for h in rows)
        return
    # wider than a narrow terminal rather than with names cut off
    console = Console(width=max(110, Console().width))
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("tool")
    table.add_column("provider")
    for name in ("answers", "failures", "text", "seconds", "cost", "oldest", "newest"):
        table.add_column(name, justify="right")
    for h in rows:
        figures = (str(h.answers), str(h.failures), _size(h.bytes), f"{h.seconds:.1f}", dollars(h.cost))
        table.add_row(one_line(h.tool), one_line(h.provider), *figures, _day(h.oldest), _day(h.newest))
    if rows:
        console.print(table)
    console.print(f"{cassette}: {total.sentence}, {_size(_on_disk(cassette))} on disk", soft_wrap=True)


@command.command(name="export")
@_cassette
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@_tools
def export_command(cassette: Path, file: Path, tools: tuple[str, ...]) -> None:
    """Write CASSETTE to FILE as JSON lines, compressed if its name ends in .gz.

    \b
    Example:  deepmmsearch cache export runs/cache.sqlite recorded.jsonl.gz
              deepmmsearch cache export runs/cache.sqlite pages.jsonl --tool reader
    """
    from deepmmsearch.tools.archive import export, holdings
    from deepmmsearch.tools.cassette import Cassette

    with Cassette(cassette, read_only=True) as opened:
        _refuse_unknown(tools, {h.tool for h in holdings(opened)})
        written = export(opened, file, tools)
    echo(f"Written to {file}: {written.sentence}.")


@command.command(name="import")
@_cassette
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
def import_command(cassette: Path, file: Path) -> None:
    """Add an exported FILE to CASSETTE, which is created if it does not exist. Where both hold an answer, the newer one
    is kept.

    \b
    Example:  deepmmsearch cache import runs/cache.sqlite recorded.jsonl.gz
    """
    from deepmmsearch.tools.archive import merge
    from deepmmsearch.tools.cassette import Cassette

    if not file.is_file():
        raise UserError(f"There is no file {file}. Give one that `deepmmsearch cache export` wrote.")
    with Cassette(cassette) as opened:
        added = merge(opened, file)
    echo(f"New in {cassette}: {added.sentence}.")


@command.command(name="merge")
@_cassette
@click.argument("others", nargs=-1, required=True, type=click.Path(path_type=Path))
def merge_command(cassette: Path, others: tuple[Path, ...]) -> None:
    """Add other cassettes, such as those of the parts of an evaluation, to CASSETTE, which is created if it does not
    exist. Where both hold an answer, the newer one is kept.

    \b
    Example:  deepmmsearch cache merge runs/cache.sqlite runs/cache.part-*.sqlite
    """
    from deepmmsearch.tools.archive import merge_cassette

    for other in others:
        echo(f"New in {cassette} from {other}: {merge_cassette(cassette, other).sentence}.")


@command.command()
@_cassette
@_tools
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Only this provider.")
@click.option("--older-than", metavar="AGE", help="Only calls older than this, such as 12h or 30d.")
@click.option("--failures", is_flag=True, help="Only failed calls; answers stay.")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def prune(
    cassette: Path,
    tools: tuple[str, ...],
    providers: tuple[str, ...],
    older_than: str | None,
    failures: bool,
    everything: bool,
    dry_run: bool,
) -> None:
    """Remove recorded calls from CASSETTE and free their disk space. Say which with at least one option.

    \b
    Example:  deepmmsearch cache prune runs/cache.sqlite --older-than 30d --dry-run
              deepmmsearch cache prune runs/cache.sqlite --tool text_search --provider serper
              deepmmsearch cache prune runs/cache.sqlite --failures
    """
    from deepmmsearch.tools.archive import holdings, read_age
    from deepmmsearch.tools.archive import prune as remove
    from deepmmsearch.tools.cassette import Cassette

    if not (tools or providers or older_than or failures or everything):
        raise UserError("Say what to remove: --older-than 30d, --tool, --provider, --failures or --all.")
    before = time.time() - read_age(older_than) if older_than else None
    if not cassette.is_file():
        raise UserError(f"There is no cassette {cassette}. Check the path.")
    with Cassette(cassette) as opened:
        held = holdings(opened)
        _refuse_unknown(tools, {h.tool for h in held})
        _refuse_unknown(providers, {h.provider for h in held}, "provider")
        gone = remove(opened, before=before, tools=tools, providers=providers, failures_only=failures, dry=dry_run)
    echo(f"{'Would be removed' if dry_run else 'Removed'}: {gone.sentence}.")


def _refuse_unknown(names: tuple[str, ...], known: set[str], kind: str = "tool") -> None:
    from deepmmsearch.errors import UnknownName

    for name in names:
        if name not in known:
            raise UnknownName(f"{kind} on this cassette", name, known)


def _on_disk(cassette: Path) -> int:
    return sum(p.stat().st_size for p in (cassette, Path(f"{cassette}-wal")) if p.is_file())


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds)) if math.isfinite(seconds) else "-"
