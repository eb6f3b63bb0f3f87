"""`deepmmsearch doctor`: what is installed, configured and reachable here. Nothing secret is in it."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path

import click
from rich.text import Text

from deepmmsearch.cli import defaults
from deepmmsearch.console import Console
from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.escaping import one_line
from deepmmsearch.policies.devices import describe_devices
from deepmmsearch.redaction import public_address
from deepmmsearch.streams import echo_json

# for developers of this package, or nothing but other extras
_NOT_FOR_USERS = ("all", "dev", "bench")


@dataclass(frozen=True)
class Fact:
    """`ok` is false where something is missing or wrong."""

    name: str
    value: str
    ok: bool = True


@click.command()
@click.option("--check", is_flag=True, help="Also ask your default endpoint (base_url) whether it answers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def command(check: bool, as_json: bool) -> None:
    """Show what is installed here, which keys are set (names only), your defaults and where each comes from, the GPU,
    and free disk space. Made for bug reports: nothing secret is printed.

    With --check, the exit code is 1 if the endpoint cannot be reached.

    \b
    Example:  deepmmsearch doctor
              deepmmsearch doctor --check --json
    """
    found = {
        "versions": _versions(),
        "extras": list(_extras()),
        "keys": _keys(),
        "gpu": [_gpu()],
        "defaults": _defaults(),
        "disk": list(_disk()),
    }
    if check:
        found["endpoint"] = [_endpoint()]
    if as_json:
        echo_json({section: [asdict(fact) for fact in facts] for section, facts in found.items()})
    else:
        _show(found)
    if check and not found["endpoint"][0].ok:
        sys.exit(1)


def _versions() -> list[Fact]:
    from deepmmsearch.revision import revision

    packages = [Fact(name, version(name)) for name in ("deepmmsearch", "click", "rich", "pydantic", "pillow", "numpy")]
    own = [Fact("revision", revision() or "not from a checkout"), Fact("python", platform.python_version())]
    return [packages[0], *own, Fact("platform", platform.platform()), *packages[1:]]


def _extras() -> Iterator[Fact]:
    """Each extra with the versions of its packages, or with what is missing and how to install it."""
    packages: dict[str, list[str]] = {name: [] for name in metadata("deepmmsearch").get_all("Provides-Extra") or ()}
    for requirement in requires("deepmmsearch") or ():
        named, wanted = re.match(r"[\w.-]+", requirement), re.search(r"extra == ['\"]([\w-]+)", requirement)
        if named and wanted and named[0] != "deepmmsearch":
            packages[wanted[1]].append(named[0])
    for extra, names in packages.items():
        if extra in _NOT_FOR_USERS:
            continue
        found = {name: _version(name) for name in names}
        if missing := [name for name, here in found.items() if here is None]:
            yield Fact(extra, f"without {', '.join(missing)}: {MissingExtra.line(extra)}", False)
        else:
            yield Fact(extra, ", ".join(f"{name} {here}" for name, here in found.items()))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _keys() -> list[Fact]:
    """The environment variables that may hold a key."""
    from deepmmsearch.tools.providers.catalog import PROVIDERS, listing

    named = {listing(name).key_variable for name in PROVIDERS.names()} | {"OPENAI_API_KEY", "HF_TOKEN"}
    held = {name: bool(os.environ.get(name, "").strip()) for name in sorted(filter(None, named))}
    return [Fact(name, "set" if here else "not set", here) for name, here in held.items()]


def _gpu() -> Fact:
    if find_spec("torch") is None:
        return Fact("torch", f"not installed: {MissingExtra.line('local')}", False)
    from deepmmsearch.children import call_all

    try:
        # in a process of its own: a broken driver must not break the report of it
        [said] = call_all([(describe_devices,)], 1)
    except RuntimeError as error:
        return Fact("torch", f"{_version('torch')} cannot be used: {error}", False)
    return Fact("torch", said)


def _defaults() -> list[Fact]:
    """Every setting with its value, where it comes from, and what is wrong with it."""
    try:
        settings = defaults.defaults()
    except UserError as error:
        return [Fact("file", _short(error), False)]
    rows = [Fact("file", _short(defaults.config_file()))]
    for setting in settings:
        if setting.value is None:
            rows.append(Fact(setting.name, "not set"))
            continue
        problem = _problem(setting.name, setting.value)
        said = f"{_short(setting.value)}, from {_short(setting.origin)}"
        rows.append(Fact(setting.name, f"{said}. {problem}" if problem else said, not problem))
    return rows


def _problem(name: str, value: str) -> str:
    """Why a default cannot be used, as far as can be told without the network."""
    try:
        if name == "tools" and value not in ("none", "local"):
            from deepmmsearch.compose.recipe import load_recipe
            from deepmmsearch.compose.tool_settings import ToolSettings
            from deepmmsearch.compose.toolbox import build_toolbox
            from deepmmsearch.policies.human import HumanPolicy

            allowed = {"variables": defaults.variables(), "commands": defaults.commands()}
            build_toolbox(load_recipe(Path(value), ToolSettings, **allowed), HumanPolicy())
        elif name == "index":
            from deepmmsearch.engine import Index

            Index.open(value)
    except UserError as error:
        return _short(error)
    return ""


def _endpoint() -> Fact:
    from deepmmsearch.policies.chat import ChatPolicy

    try:
        values = {setting.name: setting.value for setting in defaults.defaults()}
        if values["base_url"] is None:
            return Fact("base_url", "not set, so there is nothing to check", False)
        policy = ChatPolicy(values["model"], values["base_url"], proxy=values["proxy"], timeout=10.0)
        asyncio.run(policy.check())
    except UserError as error:
        return Fact("base_url", _short(error), False)
    return Fact("base_url", f"{_short(policy.base_url)} answers, for the model {policy.model}")


def _disk() -> Iterator[Fact]:
    """What is free where things are written, and what the Hub's cache holds."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    for name, place in {"here": Path.cwd(), "temporary": Path(tempfile.gettempdir()), "hub cache": hub}.items():
        free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free
        held = sum(path.lstat().st_size for path in place.rglob("*")) if place == hub else 0
        said = f"{_short(place)}: {free / 1e9:.1f} GB free"
        yield Fact(name, f"{said}, {held / 1e9:.1f} GB used" if held else said, free > 5e9)


def _short(value: object) -> str:
    """Without the name of who runs this, and without what may be secret in an address."""
    return public_address(str(value)).replace(str(Path.home()), "~")


def _show(found: dict[str, list[Fact]]) -> None:
    console = Console()
    for section, facts in found.items():
        console.print(Text(section.capitalize() if section != "gpu" else "GPU", "bold"))
        for fact in facts:
            line = Text(f"  {fact.name:16}  ").append(one_line(fact.value), "" if fact.ok else "yellow")
            console.print(line, soft_wrap=True)
