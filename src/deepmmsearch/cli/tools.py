"""`deepmmsearch tools`: the search providers, what each needs and costs, and a real call of one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from deepmmsearch.cli.rows import json_option, print_rows
from deepmmsearch.console import Console
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.escaping import one_line, readable_address

if TYPE_CHECKING:
    from deepmmsearch.agent.protocols import Page
    from deepmmsearch.compose.tool_settings import ProviderSettings, SearchSettings
    from deepmmsearch.tools.providers.catalog import Kind, Listing
    from deepmmsearch.types import Call, Hit

GROUNDING = "grounding"
QUERY = "highest mountain of Bhutan"


@click.group(name="tools", invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the search providers: what each needs, whether you have it, and what it costs (docs/tools.md).

    \b
    Example:  deepmmsearch tools
              deepmmsearch tools check searxng url=http://127.0.0.1:8888
              deepmmsearch tools check serpapi-lens --image crop.png
    """
    if context.invoked_subcommand is None:
        _list(as_json)


@command.command()
@click.argument("name", metavar="NAME")
@click.argument("given", metavar="[SETTING=VALUE]...", nargs=-1)
@click.option("--query", default=QUERY, show_default=True, help="What to search for.")
@click.option("--image", type=click.Path(path_type=Path), help="Search with this picture instead of words.")
@click.option("--page", metavar="URL", help="Read this page (for providers that read pages).")
@click.option(
    "--tools",
    "recipe",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Tools file or recipe to take its settings from.",
)
@click.option("-k", default=5, show_default=True, type=click.IntRange(1, 100), help="How many hits.")
def check(
    name: str, given: tuple[str, ...], query: str, image: Path | None, page: str | None, recipe: Path | None, k: int
) -> None:
    """Make one real call of the provider NAME and show how long it took, what it found and what it cost.

    With NAME `grounding`: let a model find what was drawn, and say in which dialect it writes boxes. The settings are a
    policy's (base_url=..., model=...); without them it is the bundled model, which points at flags alone.

    \b
    Example:  deepmmsearch tools check brave
              deepmmsearch tools check searxng url=http://127.0.0.1:8888 --query "capital of Bhutan"
              deepmmsearch tools check serpapi-lens --image crop.png
              deepmmsearch tools check serper --tools tools/serper
              deepmmsearch tools check grounding base_url=http://127.0.0.1:8000/v1
    """
    if name == GROUNDING:
        return _check_boxes(_given(given))
    from deepmmsearch import images
    from deepmmsearch.compose.toolbox import make_provider
    from deepmmsearch.tools.providers import catalog

    kinds = catalog.kinds(name)
    kind: Kind = "image" if image is not None else "page" if page is not None else "text"
    if kind not in kinds:
        lacking = {"text": "Leave --image and --page out.", "image": "Give --image FILE.", "page": "Give --page URL."}
        raise UserError(f"{name} does not do that. {lacking[kinds[0]]}")
    settings = _settings(recipe)
    provider = _provider(name, getattr(settings, kind, ()), given)
    tool = make_provider(provider, kind, settings.network, settings.index)
    wanted = images.load(image) if image is not None else page or query
    try:
        found, call = asyncio.run(_once(tool, kind, name, wanted, k, settings.prices))
    except ToolError as error:
        raise UserError(str(error)) from None
    _show(name, found, call)


def _list(as_json: bool) -> None:
    from deepmmsearch.tools.providers import catalog

    listed = [catalog.listing(name) for name in catalog.PROVIDERS.names()]
    if as_json:
        print_rows({**asdict(known), "key_set": _key_set(known, os.environ)} for known in listed)
        return
    table = Table(
        "provider", "search", "needs", "$ / 1000", "what it is", box=None, pad_edge=False, header_style="bold"
    )
    table.columns[1].no_wrap = table.columns[0].no_wrap = True
    for known in listed:
        origin = "" if known.origin == "deepmmsearch" else f" ({known.origin})"
        table.add_row(
            Text(known.name, "cyan"),
            " ".join(known.kinds),
            _needs(known, os.environ),
            f"{1000 * known.price:g}" if known.price else "-",
            Text(one_line(known.problem or known.about) + origin, "red" if known.problem else ""),
        )
    console = Console()
    console.print(table)
    console.print(
        "Prices are those of the vendors' smallest paid plans; `prices:` in a recipe overrides them.", style="dim"
    )


def _key_set(known: Listing, environ: Mapping[str, str]) -> bool:
    return bool(environ.get(known.key_variable or "", "").strip())


def _needs(known: Listing, environ: Mapping[str, str]) -> Text:
    """What has to be there, green where it is."""
    text = Text()
    needs: list[tuple[str, bool | None]] = []
    if known.key_variable:
        held = _key_set(known, environ)
        state = "set" if held else "not set, not required" if known.key_optional else "not set"
        needs.append((f"{known.key_variable} ({state})", held or known.key_optional))
    if known.extra:
        needs.append((f"extra {known.extra} ({'installed' if known.installed else 'not installed'})", known.installed))
    elif known.package:
        needs.append(
            (f"package {known.package} ({'installed' if known.installed else 'not installed'})", known.installed)
        )
    needs += [(f"setting {name}", None) for name in known.required]
    for need, here in needs:
        text.append(", " if text.plain else "")
        text.append(need, {True: "green", False: "yellow", None: ""}[here])
    return text if text.plain else Text("nothing", "green")


def _settings(recipe: Path | None) -> SearchSettings:
    from deepmmsearch.cli.recipe_file import open_recipe
    from deepmmsearch.compose.tool_settings import SearchSettings, ToolSettings

    found = SearchSettings() if recipe is None else open_recipe(recipe, ToolSettings)
    if not isinstance(found, SearchSettings):
        raise UserError(f"{recipe} names no tools. Give a file as in recipes/tools.")
    return found


def _provider(name: str, listed: Sequence[ProviderSettings], given: Sequence[str]) -> ProviderSettings:
    """The provider as the recipe has it, else without settings, and those of the command line."""
    from deepmmsearch.compose.tool_settings import ProviderSettings

    found = next((p for p in listed if p.name == name), ProviderSettings(name=name))
    return ProviderSettings.model_validate({**found.model_dump(), **_given(given)})


def _given(given: Sequence[str]) -> dict[str, Any]:
    from deepmmsearch.strict_yaml import read_yaml

    more: dict[str, Any] = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UserError(f"{setting!r} is not a setting. Write it as name=value, such as url=http://127.0.0.1:8888.")
        try:
            more[key] = read_yaml(value)
        except ValueError:
            more[key] = value
    return more


def _check_boxes(given: Mapping[str, Any]) -> None:
    from deepmmsearch.compose.policies import Model, ModelSettings, build_policy
    from deepmmsearch.compose.recipe import read_settings
    from deepmmsearch.tools.grounding import Speaker, box_dialect
    from deepmmsearch.tools.grounding.trial import Trial, fitting, locate_all

    kind = "chat" if "base_url" in given else "local"
    settings: Model = read_settings({"kind": kind, **given}, ModelSettings, "the command line")
    policy = build_policy(settings)
    if not isinstance(policy, Speaker):
        raise UserError("This policy has no model that could be asked for a box.")
    located: list[Trial] = []
    console = Console()

    async def locate() -> None:
        async for one in locate_all(policy):
            located.append(one)
            console.print(Text(f"{one.phrase}: {one_line(one.said)[:160] or 'nothing said'}"))

    try:
        asyncio.run(locate())
    except ToolError as error:
        raise UserError(str(error)) from None
    table = Table("dialect", *(one.phrase for one in located), box=None, pad_edge=False, header_style="bold")
    for dialect in located[0].overlaps:
        table.add_row(dialect, *(f"{one.overlaps[dialect]:.2f}" for one in located))
    console.print(table)
    found, known = fitting(located), box_dialect(getattr(policy, "model_type", ""))
    if found is None and not given.keys() & {"base_url", "model"}:
        raise UserError(
            "The bundled model points at flags alone, and no flag is drawn here. Name the model to try: base_url=... "
            "of an endpoint, or model=FOLDER."
        )
    if found is None:
        raise UserError(
            "None of the dialects puts its boxes where the targets are. Ground with another model (grounding: {kind: "
            "chat, ...} or {kind: dino, ...}), or not at all (grounding: none)."
        )
    dialect, share = found
    expected = f" Its name says {known}." if known not in (None, dialect) else ""
    console.print(f"It writes boxes as {dialect} (overlap {share:.2f}): set grounding: {dialect}.{expected}")


async def _once(
    tool: Any, kind: Kind, name: str, wanted: Any, k: int, prices: Mapping[str, float]
) -> tuple[list[Hit] | Page, Call]:
    from deepmmsearch.agent.metering import Meter, calling

    meter = Meter(prices=prices)
    with meter.open():
        if kind == "page":
            return await tool.read(wanted), meter.calls[0]
        with calling(f"{kind}_search", name, getattr(tool, "price", 0.0)):
            hits = await tool.search(wanted, k)
    return hits, meter.calls[0]


def _show(name: str, found: Sequence[Hit] | Page, call: Call) -> None:
    from deepmmsearch.agent.protocols import Page

    console = Console()
    cost = f"${call.cost:.4g}" if call.cost else "no cost"
    size = f"{call.bytes / 1000:.1f} kB" if call.bytes else "nothing fetched"
    spent = f"in {call.seconds:.2f} s, {size}, {cost}"
    if isinstance(found, Page):
        console.print(f"{name}: {len(found.text)} characters {spent}")
        console.print(Text(one_line(found.title), "bold"))
        console.print(Text(one_line(found.text)[:600]))
        return
    pictures = sum(hit.image is not None for hit in found)
    console.print(f"{name}: {len(found)} hits{f', {pictures} with a picture' if pictures else ''} {spent}")
    for number, hit in enumerate(found, 1):
        console.print(Text(f"{number}. {one_line(hit.title) or 'untitled'}", "bold"))
        if hit.url:
            console.print(Text(f"   {one_line(readable_address(hit.url))}", "cyan"), soft_wrap=True)
        if hit.snippet:
            console.print(Text(f"   {one_line(hit.snippet)[:300]}"))
