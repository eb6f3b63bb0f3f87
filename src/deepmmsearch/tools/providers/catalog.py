"""Which providers there are, what each needs, and how one is made from its settings.

All of them, ours included, are found through the entry-point group `deepmmsearch.providers`: name = "module:Class".
A class says with `kinds` what it does: it searches with words (text) or pictures (image) and has `search(wanted, k)`,
or it reads pages (page) and has `read(url)`. Its constructor's arguments are its settings, except two: `client` (the
guarded client) and `key` (from the environment variable that `key_variable` names; with a default it may be missing).
Optional: `price`, US dollars a call; `per_second` and `concurrency`, how fast and how often at once it is asked where a
recipe does not say; `extra` and `module`, the extra to install and the package it brings, or `module` alone where no
extra brings it.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deepmmsearch.arguments import check_settings, settings_of
from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.registry import Registry
from deepmmsearch.tools.providers.api import Client

INJECTED = ("client", "key")
Kind = Literal["text", "image", "page"]
METHODS: Mapping[str, str] = {"text": "search", "image": "search", "page": "read"}
# what makes the client for a provider: its addresses in the settings, these with its usual ones, and its keys
ClientFor = Callable[[Sequence[str], Sequence[str], Sequence[str]], Client]


class MissingKey(UserError):
    """The environment does not hold the provider's key."""


@dataclass(frozen=True)
class Listing:
    """What is known of a provider without making it. `price` is in US dollars a call. `problem`: why its class cannot
    be used, "" where it can."""

    name: str
    origin: str
    kinds: tuple[str, ...] = ()
    about: str = ""
    key_variable: str | None = None
    key_optional: bool = False
    extra: str | None = None
    package: str | None = None
    installed: bool = True
    required: tuple[str, ...] = ()
    price: float = 0.0
    problem: str = ""


def kinds(name: str) -> tuple[str, ...]:
    """What it searches with. Raises UnknownName, UserError."""
    return _kinds(PROVIDERS.find(name))


def listing(name: str) -> Listing:
    """What can be said of it, also where it cannot be used. Raises UnknownName."""
    origin = PROVIDERS.origin(name)
    try:
        loaded = PROVIDERS.find(name)
    except UserError as error:
        return Listing(name, origin, problem=str(error))
    module, key = getattr(loaded, "module", None), inspect.signature(loaded).parameters.get("key")
    return Listing(
        name,
        origin,
        _kinds(loaded),
        (inspect.getdoc(loaded) or "").partition("\n\n")[0].replace("\n", " "),
        getattr(loaded, "key_variable", None),
        key is not None and key.default is not key.empty,
        getattr(loaded, "extra", None),
        module,
        module is None or importlib.util.find_spec(module) is not None,
        tuple(n for n, p in settings_of(loaded, INJECTED).items() if p.default is p.empty),
        getattr(loaded, "price", 0.0),
    )


def make(
    name: str,
    kind: Kind,
    settings: Mapping[str, Any],
    client_for: ClientFor,
    environ: Mapping[str, str],
    key_variable: str | None = None,
) -> Any:
    """The provider, from its settings. `key_variable` names another environment variable for the key than the class
    does.

    Raises UnknownName for an unknown provider or setting; UserError for a setting of the wrong kind or a missing one,
    or a provider of the other kind; MissingKey; MissingExtra.
    """
    loaded = PROVIDERS.find(name)
    if kind not in _kinds(loaded):
        places = {"text": "under text:", "image": "under image:", "page": "as reader:"}
        raise UserError(f"The provider {name} does not do that. Name it {places[_kinds(loaded)[0]]}.")
    arguments = checked(name, loaded, settings)
    parameters = inspect.signature(loaded).parameters
    if "key" in parameters:
        variable = key_variable or getattr(loaded, "key_variable", None)
        if parameters["key"].default is inspect.Parameter.empty or environ.get(variable or "", "").strip():
            arguments["key"] = find_key(name, variable, environ)
    module, extra = getattr(loaded, "module", None), getattr(loaded, "extra", None)
    if module and extra and importlib.util.find_spec(module) is None:
        raise MissingExtra(f"The provider {name}", extra)
    if "client" in parameters:
        keys = [arguments["key"]] if "key" in arguments else []
        arguments["client"] = client_for(_addresses(settings), addresses(loaded, settings), keys)
    return loaded(**arguments)


def checked(name: str, loaded: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the constructor takes them. Raises UnknownName, UserError."""
    for given in settings:
        if given in INJECTED:
            raise UserError(f"{name}: {given} is not a setting. Keys come from the environment, never from a file.")
    return check_settings(f"provider {name}", loaded, settings, INJECTED)


def find_key(name: str, variable: str | None, environ: Mapping[str, str]) -> str:
    """The key in the environment. Raises MissingKey, UserError."""
    if variable is None:
        raise UserError(f"The provider {name} takes a key but names no environment variable for it (key_variable).")
    key = environ.get(variable, "").strip()
    if not key:
        raise MissingKey(f"No key for {name}. Set {variable}, or run offline with --tools local.")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"What {variable} holds is not a key: it has blanks or other characters that keys do not have.")
    return key


def addresses(loaded: type, settings: Mapping[str, Any]) -> list[str]:
    """Those that a provider asks: of its settings, and its usual ones where they are not set."""
    return _addresses({n: p.default for n, p in settings_of(loaded, INJECTED).items()} | dict(settings))


def _addresses(settings: Mapping[str, Any]) -> list[str]:
    texts = [value for value in settings.values() if isinstance(value, str)]
    return [text for text in texts if text.startswith(("http://", "https://"))]


def _kinds(loaded: type) -> tuple[str, ...]:
    kinds = getattr(loaded, "kinds", ())
    if not isinstance(kinds, tuple | list):
        return ()
    return tuple(k for k in kinds if k in METHODS and callable(getattr(loaded, METHODS[k], None)))


def _is_provider(found: Any) -> bool:
    return isinstance(found, type) and bool(_kinds(found))


PROVIDERS: Registry[type] = Registry(
    "deepmmsearch.providers",
    "provider",
    _is_provider,
    'a class with `kinds = ("text",)` and `search`; docs/extending.md shows one',
)
