"""`deepmmsearch index`: build, change, search and serve an index of your own documents and pictures."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from deepmmsearch.cli import defaults
from deepmmsearch.cli.bars import Bars
from deepmmsearch.cli.defaults import PlaceType
from deepmmsearch.cli.listening import allow_host_option
from deepmmsearch.cli.rows import json_option, print_rows
from deepmmsearch.console import Console
from deepmmsearch.errors import UserError
from deepmmsearch.escaping import one_line, readable_address
from deepmmsearch.hosts import LOCAL
from deepmmsearch.index_place import Place
from deepmmsearch.streams import echo

if TYPE_CHECKING:
    from deepmmsearch.engine.build_report import Log, Report
    from deepmmsearch.reading.worker import Extractor
    from deepmmsearch.types import Hit

# engine.exclusions', which brings more than a help text needs
IGNORE_FILE = ".deepmmsearchignore"
PLACE = click.Path(path_type=Path)
_index_option = defaults.option(
    "index",
    "--index",
    "folder",
    default=defaults.INDEX,
    show_default=True,
    type=PlaceType(),
    help="Folder of the index, or its address.",
)

_out_option = defaults.option(
    "index",
    "--out",
    "--to",
    "out",
    default=defaults.INDEX,
    show_default=True,
    type=PlaceType(),
    help="Folder of the index, or its address: lancedb://FOLDER, s3://BUCKET/FOLDER, milvus://HOST:PORT/NAME.",
)

_encoders_option = defaults.option(
    "encoders",
    "--encoders",
    metavar="NAMES",
    callback=defaults.several,
    help="Models, separated by commas, that the index may load for its vectors besides the usual ones.",
)


_log_option = click.option(
    "--log", type=PLACE, help="Append to this file what was done with each file: added, changed, removed, skipped."
)
_exclude_option = click.option(
    "--exclude",
    metavar="PATTERN",
    multiple=True,
    help="Leave out what fits a pattern like those of .gitignore; may be repeated. The index keeps the patterns, new "
    f"ones replace them ('' drops them). A file {IGNORE_FILE} in a folder holds patterns as well.",
)
_hidden_option = click.option(
    "--hidden/--no-hidden", default=None, help="Whether names that begin with a dot are indexed; the index keeps it."
)


@click.group(name="index")
def command() -> None:
    """Build, change, search and serve an index of your own documents and pictures.

    \b
    Example:  deepmmsearch index build my-documents --out index
              deepmmsearch index search "highest point of Bhutan"
              deepmmsearch index search --image crop.png
    """


@command.command()
@click.argument("source", metavar="FOLDER", type=PLACE)
@_out_option
@click.option(
    "--dense", metavar="MODEL", help="Add dense text vectors: a sentence-transformers model, or minilm (offline)."
)
@click.option(
    "--vision", metavar="MODEL", help="Add picture vectors: a SigLIP, CLIP or DINO model, run with transformers."
)
@click.option(
    "--query-prefix", metavar="TEXT", help="What --dense reads before a query.  [default: as its model has it]"
)
@click.option(
    "--passage-prefix", metavar="TEXT", help="What --dense reads before a passage.  [default: as its model has it]"
)
@click.option("--passage", type=click.IntRange(100, 20_000), help="The longest passage, in characters.  [default: 900]")
@click.option(
    "--titles",
    type=click.Choice(["repeated", "apart"]),
    help="Words of a title count as the text's that they precede, or for each word the better of title and text does.  "
    "[default: repeated]",
)
@click.option(
    "--word-parts",
    type=click.Choice(["auto", "off"]),
    help="Find words of languages that change them, German or Arabic, by parts of four letters as well.  "
    "[default: auto]",
)
@click.option("--ocr", is_flag=True, default=None, help="Read what is written in pictures and on scanned pages.")
@_exclude_option
@_hidden_option
@_log_option
@_encoders_option
def build(
    source: Path,
    out: Place,
    dense: str | None,
    vision: str | None,
    query_prefix: str | None,
    passage_prefix: str | None,
    passage: int | None,
    titles: str | None,
    word_parts: str | None,
    ocr: bool | None,
    exclude: tuple[str, ...],
    hidden: bool | None,
    log: Path | None,
    encoders: tuple[str, ...],
) -> None:
    """Index a folder: documents, pictures and archives. Run it again to bring the index up to date.

    \b
    Example:  deepmmsearch index build my-documents
              deepmmsearch index build my-documents --out better --dense minilm
              deepmmsearch index build my-documents --exclude drafts/
              deepmmsearch index build my-documents --to lancedb://shared-index
    """
    given: dict[str, Any] = {
        "dense": dense,
        "vision": vision,
        "passage": passage,
        "query_prefix": query_prefix,
        "passage_prefix": passage_prefix,
        "titles": titles,
        "word_parts": word_parts,
        "ocr": ocr,
    }
    given = {name: value for name, value in given.items() if value is not None}
    start = time.perf_counter()
    with _started() as extractor, Bars() as bars, _logged(log) as logged, _kept(out, source):
        from deepmmsearch.engine import Index, IndexSettings
        from deepmmsearch.engine.encoders import KNOWN

        settings = IndexSettings(**given) if given else None
        index = Index.build(
            source,
            out,
            settings,
            bars,
            encoders=encoders,
            exclude=exclude or None,
            hidden=hidden,
            log=logged,
            extractor=extractor,
        )
    _summary(index.report, time.perf_counter() - start)
    if (word_parts == "auto" or (index.is_older and word_parts is None)) and index.without_parts:
        echo(index.without_parts)
    for name in filter(None, (dense, vision)):
        if name not in KNOWN and name not in encoders:
            echo(f"To search with {name} from now on, run: deepmmsearch config set encoders {shlex.quote(name)}")


@command.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=PLACE)
@_index_option
@_log_option
@_encoders_option
def add(paths: tuple[Path, ...], folder: Place, log: Path | None, encoders: tuple[str, ...]) -> None:
    """Add files or folders to an index; what it already holds of them is replaced.

    \b
    Example:  deepmmsearch index add notes.md photos/ --index index
    """
    start = time.perf_counter()
    with _started() as extractor, Bars() as bars, _logged(log) as logged:
        from deepmmsearch.engine import Index

        report = Index.open(folder, encoders).add(paths, bars, logged, extractor)
    _summary(report, time.perf_counter() - start)
    if report.skipped and not (report.added or report.changed or report.unchanged):
        raise UserError("Nothing was added: what was given cannot be indexed, for the reasons above.")


@command.command()
@click.argument("source", metavar="FOLDER", type=PLACE)
@_out_option
@click.option(
    "--every",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.1, 86_400),
    help="Seconds between two looks at the folder; more where a look takes long.",
)
@_exclude_option
@_hidden_option
@_log_option
@_encoders_option
def watch(
    source: Path,
    out: Place,
    every: float,
    exclude: tuple[str, ...],
    hidden: bool | None,
    log: Path | None,
    encoders: tuple[str, ...],
) -> None:
    """Keep an index up to date with its folder until Ctrl-C; make the index if there is none.

    A file is read when it is the same in two looks, so that one that is still being written is left until it rests.

    \b
    Example:  deepmmsearch index watch my-documents
    """
    from deepmmsearch.engine import Index
    from deepmmsearch.engine.watching import watching

    with Bars() as bars, _logged(log) as logged:
        index = Index.prepare(source, out, encoders=encoders)
        index.select(exclude or None, hidden)
        echo(f"Watching {one_line(str(index.root))} (Ctrl-C ends it)")
        try:
            for said in watching(index, every, bars, logged):
                echo(f"{datetime.now():%H:%M:%S}  {said}")
        except KeyboardInterrupt:
            echo("Stopped. What was done is in the index.", err=True)


@command.command()
@click.argument("names", metavar="PATHS-OR-URLS...", nargs=-1, required=True)
@_index_option
def remove(names: tuple[str, ...], folder: Place) -> None:
    """Remove files, folders or URLs from an index; the files themselves stay.

    \b
    Example:  deepmmsearch index remove notes.md https://example.org/page
    """
    from deepmmsearch.engine import Index

    echo(f"Files removed: {Index.open(folder).remove(names)}.")


@command.command()
@_index_option
@click.option("--skipped", is_flag=True, help="List each file and folder that is not in the index, with the reason.")
@json_option
def stats(folder: Place, skipped: bool, as_json: bool) -> None:
    """Show what an index holds, or what it does not hold of its folder.

    \b
    Example:  deepmmsearch index stats --index index
              deepmmsearch index stats --skipped
    """
    from deepmmsearch.engine import Index

    index = Index.open(folder)
    if skipped:
        left_out = index.skipped()
        if as_json:
            print_rows({"file": file, "reason": reason} for file, reason in left_out)
        else:
            for file, reason in left_out:
                echo(f"{one_line(file)}: {one_line(reason)}")
        return
    found = index.stats()
    if as_json:
        print_rows([found])
        return
    for name, value in found.items():
        echo(f"{name:10} {one_line(str(value)) if value is not None else '-'}")


@command.command()
@click.argument("query", required=False)
@click.option("--image", type=PLACE, help="Search with this picture instead of words.")
@click.option(
    "--pictures", is_flag=True, help="Search for pictures with the words: by name, caption and what they show."
)
@click.option("-k", default=5, show_default=True, type=click.IntRange(1, 100), help="How many hits.")
@click.option(
    "--page", default=1, show_default=True, type=click.IntRange(1, 1000), help="Further hits of a text search."
)
@json_option
@_index_option
@_encoders_option
def search(
    query: str | None,
    image: Path | None,
    pictures: bool,
    k: int,
    page: int,
    as_json: bool,
    folder: Place,
    encoders: tuple[str, ...],
) -> None:
    """Search with words or with a picture; show the hits with their scores.

    Beside words: "a phrase", -without, site:example.org, folder:notes, filetype:pdf, after:2020, before:2021-06.

    \b
    Example:  deepmmsearch index search "national anthem of Kenya"
              deepmmsearch index search 'lighthouse "built in" -museum filetype:pdf' --page 2
              deepmmsearch index search --image crop.png -k 3
              deepmmsearch index search --pictures "red tower"
    """
    from deepmmsearch import images
    from deepmmsearch.engine import Index
    from deepmmsearch.show.terminal import hit_json

    if (query is None) == (image is None):
        raise UserError("Give either words to search for or --image FILE.")
    if pictures and image is not None:
        raise UserError("--pictures searches with words. Leave it out to search with a picture.")
    index = Index.open(folder, encoders)
    if image is not None:
        hits = index.search_image(images.load(image), k)
    else:
        found = index.search_pictures(query or "", k) if pictures else None
        hits = index.search_text(query or "", k, offset=(page - 1) * k) if found is None else found
    if as_json:
        print_rows({**hit_json(hit), "snippet": hit.snippet} for hit in hits)
    else:
        for word, other in index.replaced(query or "").items():
            echo(f"Searched for {one_line(other)} instead of {one_line(word)}, which is in no page.")
        _show(hits, (page - 1) * k, lambda text: index.matched(query or "", text))


@command.command()
@_index_option
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="The port; 0 picks a free one."
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on. No key is asked for: whoever reaches it can search.",
)
@allow_host_option
@_encoders_option
def serve(folder: Place, port: int, host: str, allowed: tuple[str, ...], encoders: tuple[str, ...]) -> None:
    """Answer POST /retrieve over HTTP: {"queries": [...], "topk": 3, "return_scores": true} or {"query": "..."}.

    It answers to the names of this machine for itself, to its address, and to what --host and --allow-host name; pages
    of other sites are refused.

    \b
    Example:  deepmmsearch index serve --index index --port 8000
              deepmmsearch index serve --host 0.0.0.0 --allow-host search.lan
    """
    from deepmmsearch.engine import Index
    from deepmmsearch.engine.server import make_server

    index = Index.open(folder, encoders)
    index.check_encoders()
    try:
        server = make_server(index, port, host, allowed)
    except OSError as error:
        raise UserError(f"Cannot listen on {host}:{port} ({error.strerror}). Choose another --port.") from error
    with server:
        if host not in LOCAL:
            echo(f"Note: whoever reaches {host} from elsewhere can search {folder}.", err=True)
        called = f"[{host}]" if ":" in host else host
        echo(f"http://{called}:{server.server_address[1]}/retrieve (Ctrl-C ends it)")
        server.serve_forever()


@contextmanager
def _logged(path: Path | None) -> Iterator[Log]:
    """Gives what writes lines to a log file, or nowhere."""
    from deepmmsearch.engine.build_report import Outcome, unlogged

    if path is None:
        yield unlogged
        return
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:

        def log(outcome: Outcome, name: str, reason: str) -> None:
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {outcome:7} {one_line(name)}")
            file.write(f": {one_line(reason)}\n" if reason else "\n")

        yield log


@contextmanager
def _kept(out: Place, source: Path) -> Iterator[None]:
    """Says what is left of a build that is interrupted."""
    from deepmmsearch.engine import Index, backend_choice

    try:
        yield
    except KeyboardInterrupt:
        held = (
            Index.open(out).stats()
            if backend_choice.exists(backend_choice.resolved(out))
            else {"files": 0, "passages": 0}
        )
        line = shlex.join(["deepmmsearch", "index", "build", str(source), "--out", str(out)])
        echo(f"{held['files']:,} files ({held['passages']:,} passages) are in the index. Go on with: {line}", err=True)
        raise


def _started() -> Extractor:
    """The process that reads files, which starts while the engine is imported."""
    from deepmmsearch.reading.worker import Extractor

    extractor = Extractor()
    extractor.start()
    return extractor


def _summary(report: Report, seconds: float) -> None:
    echo(f"{report.sentence} {seconds:.1f} s")
    for reason, files in sorted(report.skipped.items()):
        shown = ", ".join(map(one_line, files[:3])) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        echo(f"  skipped, {reason}: {shown}", err=True)


def _show(hits: list[Hit], before: int, matched: Callable[[str], list[tuple[int, int]]]) -> None:
    console = Console()
    if not hits:
        console.print("Nothing found.")
    for number, hit in enumerate(hits, before + 1):
        head = Text(f"{number}. {one_line(hit.title)}", "bold").append(f"  {hit.score:.3f}", "not bold dim")
        console.print(head.append(" match" if hit.matched else "", "not bold green"))
        console.print(Text(f"   {one_line(readable_address(hit.url))}", "cyan"), soft_wrap=True)
        if hit.snippet:
            console.print(_snippet(one_line(hit.snippet), matched))


def _snippet(text: str, matched: Callable[[str], list[tuple[int, int]]]) -> Text:
    """400 characters of it, from before the first word that was searched for, those words in bold."""
    first = next((start for start, _ in matched(text)), 0)
    begin = text.rfind(" ", 0, first - 80) + 1 if first > 300 else 0
    text = text[begin : begin + 400]
    shown = Text(f"   {text}")
    for start, end in matched(text):
        shown.stylize("bold", 3 + start, 3 + end)
    return shown
