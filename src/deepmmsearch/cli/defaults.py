"""A user's own defaults: a TOML file in the user's configuration folder, and environment variables above it.

An option on the command line wins over the environment, the environment over the file. What belongs together is not
mixed: a model goes with its endpoint, an index with the tools that search it.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.index_place import Place, place
from deepmmsearch.redaction import public_address, public_settings

SETTINGS = {
    "model": "a checkpoint folder, a name on the Hub, or what the endpoint calls it",
    "base_url": "an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1",
    "proxy": "the address of a proxy to the endpoint, such as http://127.0.0.1:3128",
    "tools": "what to search with: none, local, or a file as in recipes/tools",
    "index": "the index to search",
    "save": "the folder in which questions and answers are kept",
    "encoders": "models, separated by commas, that an index may load for its vectors besides the usual ones",
    "variables": "environment variables, separated by commas, that a recipe may send as keys besides the services' own",
    "commands": "command lines, separated by commas, that a recipe may have started as MCP servers",
}
INDEX = "index"
"""The index folder where nobody names one."""

_SECRET_NAME = re.compile(r"key|token|secret|password|credential", re.I)
_SECRET_VALUE = re.compile(r"^(sk|pk|hf|tvly|xai|gsk)[-_][\w-]{16,}|^bearer\s|^AIza|//[^/]*@|[?&]\w*(key|token)=", re.I)
_NEAREST = (
    ParameterSource.PROMPT,
    ParameterSource.COMMANDLINE,
    ParameterSource.ENVIRONMENT,
    ParameterSource.DEFAULT_MAP,
    ParameterSource.DEFAULT,
)
_GIVEN = _NEAREST.index(ParameterSource.COMMANDLINE)


def variable(name: str) -> str:
    return f"DEEPMMSEARCH_{name.upper()}"


def option(name: str, *declarations: str, **attributes: Any) -> Callable[[Any], Any]:
    """A click option whose default is the setting `name`."""
    return click.option(*declarations, envvar=variable(name), **attributes)


class PlaceType(click.ParamType):
    """A folder, or the address of an engine."""

    name = "place"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Place:
        return place(value)


def several(context: click.Context | None, parameter: click.Parameter | None, value: str | None) -> tuple[str, ...]:
    """The callback of an option that takes names divided by commas."""
    return tuple(filter(None, (name.strip() for name in (value or "").split(","))))


def variables() -> tuple[str, ...]:
    """The environment variables that recipes may send as keys. Raises UserError when the file cannot be used."""
    return several(None, None, os.environ.get(variable("variables")) or read_config().get("variables"))


def commands() -> tuple[str, ...]:
    """The command lines that recipes may have started. Raises UserError when the file cannot be used."""
    return several(None, None, os.environ.get(variable("commands")) or read_config().get("commands"))


def config_file() -> Path:
    """The file of the user's defaults, whether it exists or not."""
    return Path(os.environ.get("DEEPMMSEARCH_CONFIG") or Path(click.get_app_dir("deepmmsearch")) / "config.toml")


def read_config() -> dict[str, str]:
    """The settings in the file, none where there is no file. Raises UserError when it cannot be used."""
    path = config_file()
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Correct or remove the file.") from None
    for name, value in found.items():
        check(name, value, f"{path}: ")
    return {name: str(Path(v).expanduser()) if v.startswith("~") else v for name, v in found.items()}


def check(name: str, value: object, place: str = "") -> None:
    """Raises UnknownName or UserError for what is not a setting; no message holds the value of a secret."""
    if _SECRET_NAME.search(name) or _SECRET_VALUE.search(str(value)):
        raise UserError(
            f"{place}{name} holds a key or a password. Keys are never stored in the configuration; put them into the "
            "environment: OPENAI_API_KEY for an endpoint; `deepmmsearch tools` names the variable of each provider."
        )
    if name not in SETTINGS:
        raise UnknownName("setting", name, SETTINGS)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{place}{name} is {public_settings(value)!r}. Give {SETTINGS[name]}, in quotes.")
    if name in ("base_url", "proxy") and not value.startswith(("http://", "https://")):
        raise UserError(f"{place}{name} is {public_address(value)!r}. Give {SETTINGS[name]}.")


@dataclass(frozen=True)
class Default:
    """One setting as it is now: `origin` says where the value comes from, None where there is none."""

    name: str
    value: str | None = None
    origin: str | None = None


def defaults() -> list[Default]:
    """All settings. Raises UserError when the file cannot be used."""
    kept, found = read_config(), []
    for name in SETTINGS:
        if given := os.environ.get(variable(name)):
            found.append(Default(name, given, f"the variable {variable(name)}"))
        elif name in kept:
            found.append(Default(name, kept[name], str(config_file())))
        else:
            found.append(Default(name))
    return found


def default_map() -> dict[str, Any]:
    """The file's settings as the defaults of click's commands. Raises UserError when the file cannot be used."""
    kept = read_config()
    found: dict[str, Any] = {"ask": kept}
    if "save" in kept:
        found["show"] = {"place": kept["save"]}
    if "index" in kept:
        used = {name: {"folder": kept["index"]} for name in ("add", "remove", "stats", "search", "serve")}
        found["index"] = used | {"build": {"out": kept["index"]}}
    if "encoders" in kept:
        for name in ("add", "search", "serve", "build"):
            found.setdefault("index", {}).setdefault(name, {})["encoders"] = kept["encoders"]
    return found


def nearness(context: click.Context, name: str) -> int:
    """How near to the user a parameter was given: less is nearer."""
    return _NEAREST.index(context.get_parameter_source(name) or ParameterSource.DEFAULT)


def given(context: click.Context, name: str) -> bool:
    """Was it given on the command line?"""
    return nearness(context, name) <= _GIVEN


def chosen_model(
    context: click.Context, kind: str | None, model: str | None, base_url: str | None
) -> tuple[str, str | None, str | None]:
    """Who plays, as kind, model and base_url: defaults that do not fit what was given nearer are left out."""
    of_model, of_url = nearness(context, "model"), nearness(context, "base_url")
    if kind in ("local", "human"):
        # a model from the same place as an endpoint is that endpoint's name for it
        own = kind == "local" and (of_model < of_url or base_url is None)
        model = model if own or given(context, "model") else None
        base_url = base_url if given(context, "base_url") else None
    elif of_url < of_model:
        model = None
    elif of_model < of_url and model is not None and Path(model).is_dir():
        base_url = None
    return kind or ("chat" if base_url else "local"), model, base_url


def chosen_tools(context: click.Context, tools: str | None, index: Place | None) -> tuple[str | None, Place | None]:
    """What may be searched: of an index and tools the one that was named nearer replaces the other, unless they are the
    local ones. Without any, ./index."""
    of_index, of_tools = nearness(context, "index"), nearness(context, "tools")
    if index is not None and of_index < of_tools:
        tools = None
    if tools not in (None, "local"):
        return tools, index if of_index == of_tools else None
    return tools, index or (Path(INDEX) if Path(INDEX).is_dir() else None)


def written(text: str, name: str, value: str | None) -> str:
    """The file's text with a setting changed, or removed (None); the user's other lines and comments stay."""
    # a JSON string is a TOML string, DEL aside
    quoted = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    line = [] if value is None else [f"{name} = {quoted}"]
    lines = text.splitlines()
    at = next((n for n, kept in enumerate(lines) if re.match(rf"\s*\"?{name}\"?\s*=", kept)), len(lines))
    return "".join(f"{kept}\n" for kept in (*lines[:at], *line, *lines[at + 1 :]))
