"""`deepmmsearch config`: the user's own defaults for model, endpoint, tools and index."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from deepmmsearch.cli.defaults import SETTINGS, check, config_file, defaults, read_config, variable, written
from deepmmsearch.cli.rows import json_option, print_rows
from deepmmsearch.errors import UnknownName
from deepmmsearch.escaping import one_line
from deepmmsearch.files import write_text
from deepmmsearch.index_place import is_address, place
from deepmmsearch.redaction import public_address, public_settings
from deepmmsearch.streams import echo

_LANCEDB = "lancedb://"


@click.group(name="config", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Your own defaults for `ask`, `show` and `index`: model, endpoint (base_url), tools, index, and where to save.

    An option wins over an environment variable (DEEPMMSEARCH_MODEL, DEEPMMSEARCH_BASE_URL, ...), and a variable wins
    over the file. API keys are never stored in the file; they come from the environment only.

    \b
    Example:  deepmmsearch config
              deepmmsearch config set base_url http://127.0.0.1:8000/v1
              deepmmsearch config set tools tools/searxng
              deepmmsearch config unset base_url
    """
    if context.invoked_subcommand is None:
        context.invoke(list_command)


@command.command(name="list")
@json_option
def list_command(as_json: bool = False) -> None:
    """List all settings, their values, and where each value comes from.

    \b
    Example:  deepmmsearch config list
    """
    settings = defaults()
    if as_json:
        rows = (public_settings(asdict(setting)) for setting in settings)
        print_rows({**row, "variable": variable(row["name"])} for row in rows)
        return
    for setting in settings:
        value = (
            f"{public_address(setting.value)}  (from {setting.origin})"
            if setting.value
            else f"-  ({SETTINGS[setting.name]})"
        )
        echo(f"{setting.name:9} {one_line(value)}")


@command.command()
@click.argument("name")
def get(name: str) -> None:
    """Print the current value of one setting. Exit code 1 if it has none.

    \b
    Example:  deepmmsearch config get model
    """
    found = next((setting for setting in defaults() if setting.name == name), None)
    if found is None:
        raise UnknownName("setting", name, SETTINGS)
    if found.value is None:
        raise SystemExit(1)
    echo(found.value)


@command.command(name="set")
@click.argument("name")
@click.argument("value")
def set_command(name: str, value: str) -> None:
    """Write one setting to the file.

    \b
    Example:  deepmmsearch config set model Qwen/Qwen2.5-VL-7B-Instruct
              deepmmsearch config set index my-index
    """
    check(name, value)
    if name == "index":
        place(value)
    # the file counts in every folder, so a path must not depend on this one
    is_place = name in ("index", "save") and not is_address(value)
    if is_place or (Path(value).exists() and value not in ("none", "local")):
        value = str(Path(value).absolute())
    elif name == "index" and value.startswith(_LANCEDB):
        value = f"{_LANCEDB}{Path(value.removeprefix(_LANCEDB)).absolute()}"
    elif name == "tools" and value not in ("none", "local"):
        from deepmmsearch.compose.shipped import find_recipe

        find_recipe(value)
    _write(name, value)
    echo(f"{name} is {public_address(value)} from now on, unless {variable(name)} or an option says otherwise.")


@command.command()
@click.argument("name")
def unset(name: str) -> None:
    """Remove one setting from the file.

    \b
    Example:  deepmmsearch config unset model
    """
    if name not in SETTINGS:
        raise UnknownName("setting", name, SETTINGS)
    _write(name, None)


@command.command()
def path() -> None:
    """Print where the file is, or will be.

    \b
    Example:  deepmmsearch config path
    """
    echo(config_file())


def _write(name: str, value: str | None) -> None:
    """Refuses to touch a file that cannot be read."""
    # many keep it elsewhere, with a link here
    file = config_file().resolve()
    if not read_config() and value is None:
        return
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    write_text(file, written(text, name, value), private=True)
