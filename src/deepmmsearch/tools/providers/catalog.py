"""Which providers there are, what each needs, and how one is made from its settings.

All of them, ours included, are found through the entry-point group `deepmmsearch.providers`: name = "module:Class".
A class says with `kinds` what it does: it searches with words (text) or pictures (image) and has `search(wanted, k)`,
or it reads pages (page) and has `read(url)`. Its constructor's arguments are its settings, except two: `client` (the
guarded client) and `key` (from the environment variable that `key_variable` names; with a default it may be missing).
Optional: `extra` and `module`, the extra to install and the package it brings.
"""

from __future__ import annotations

import importlib.util
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError, create_model

from deepmmsearch.errors import MissingExtra, UnknownName, UserError
from deepmmsearch.tools.providers.api import Client

GROUP = "deepmmsearch.providers"
INJECTED = ("client", "key")
Kind = Literal["text", "image", "page"]
METHODS: Mapping[str, str] = {"text": "search", "image": "search", "page": "read"}
# what makes the client for a provider: its addresses in the settings, and these with its usual ones
ClientFor = Callable[[Sequence[str], Sequence[str]], Client]


class MissingKey(UserError):
    """The environment does not hold the provider's key."""


@dataclass(frozen=True)
class Listing:
    """What is known of a provider without making it. `problem`: why its class cannot be used, "" where it can."""

    name: str
    origin: str
    kinds: tuple[str, ...] = ()
    about: str = ""
    key_variable: str | None = None
    key_optional: bool = False
    extra: str | None = None
    installed: bool = True
    required: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Catalog:
    """The providers at hand, by name. `find()` reads the entry points of this environment."""

    found: Mapping[str, EntryPoint] = field(default_factory=dict)

    @classmethod
    def find(cls, offered: Iterable[EntryPoint] | None = None) -> Catalog:
        """Raises UserError when two packages offer one name: neither has a privilege."""
        found: dict[str, EntryPoint] = {}
        for entry in entry_points(group=GROUP) if offered is None else offered:
            other = found.get(entry.name)
            if other is not None and other.value != entry.value:
                raise UserError(
                    f"Two packages offer the provider {entry.name!r}: {_origin(other)} ({other.value}) and "
                    f"{_origin(entry)} ({entry.value}). Uninstall one of them."
                )
            found[entry.name] = entry
        return cls(dict(sorted(found.items())))

    def load(self, name: str) -> type:
        """Raises UnknownName, or UserError when the class cannot be imported."""
        if not self.found:
            raise UserError("No provider is installed: the package's entry points are missing. Install it with pip.")
        if name not in self.found:
            raise UnknownName("provider", name, self.found)
        entry = self.found[name]
        try:
            loaded = entry.load()
        # Anything may happen while somebody else's module is imported; it must not take the others down.
        except Exception as error:
            raise UserError(
                f"The provider {name!r} of {_origin(entry)} cannot be imported ({type(error).__name__}: {error})."
            ) from None
        if not isinstance(loaded, type) or not _kinds(loaded):
            raise UserError(
                f'The provider {name!r} of {_origin(entry)} is no class with `kinds = ("text",)` and `search`. '
                "docs/tools.md shows one."
            )
        return loaded

    def kinds(self, name: str) -> tuple[str, ...]:
        """What it searches with. Raises UnknownName, UserError."""
        return _kinds(self.load(name))

    def listing(self, name: str) -> Listing:
        origin = _origin(self.found[name])
        try:
            loaded = self.load(name)
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
            module is None or importlib.util.find_spec(module) is not None,
            tuple(n for n, p in _arguments(loaded).items() if p.default is p.empty),
        )

    def make(
        self,
        name: str,
        kind: Kind,
        settings: Mapping[str, Any],
        client_for: ClientFor,
        environ: Mapping[str, str],
        key_variable: str | None = None,
    ) -> Any:
        """The provider, from its settings. `key_variable` names another environment variable for the key than the
        class does.

        Raises UnknownName for an unknown provider or setting; UserError for a setting of the wrong kind or a missing
        one, or a provider of the other kind; MissingKey; MissingExtra.
        """
        loaded = self.load(name)
        if kind not in _kinds(loaded):
            places = {"text": "under text:", "image": "under image:", "page": "as reader:"}
            raise UserError(f"{name} is no provider for that. Name it {places[_kinds(loaded)[0]]}.")
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
            usual = {n: p.default for n, p in _arguments(loaded).items() if n not in settings}
            arguments["client"] = client_for(_addresses(settings), _addresses({**usual, **settings}))
        return loaded(**arguments)


def checked(name: str, loaded: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the constructor takes them. Raises UnknownName, UserError."""
    known = _arguments(loaded)
    for given in settings:
        if given in INJECTED:
            raise UserError(f"{name}: {given} is no setting. Keys come from the environment, never from a file.")
        if given not in known:
            raise UnknownName(f"setting of the provider {name}", given, known)
    hints = typing.get_type_hints(loaded.__init__)  # type: ignore[misc]
    fields: dict[str, Any] = {
        n: (hints.get(n, Any), ... if p.default is p.empty else p.default) for n, p in known.items()
    }
    model = create_model(
        "Settings", __config__=ConfigDict(arbitrary_types_allowed=True, protected_namespaces=()), **fields
    )
    try:
        made = model.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        setting = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "missing":
            raise UserError(f"The provider {name} needs the setting {setting}.") from None
        raise UserError(f"The provider {name}: {setting}: {first['msg']}, found {first.get('input')!r}.") from None
    return {n: getattr(made, n) for n in known if n in settings}


def find_key(name: str, variable: str | None, environ: Mapping[str, str]) -> str:
    """The key in the environment. Raises MissingKey, UserError."""
    if variable is None:
        raise UserError(f"The provider {name} takes a key but names no environment variable for it (key_variable).")
    key = environ.get(variable, "").strip()
    if not key:
        raise MissingKey(f"No key for {name}. Set {variable}, or run offline with --tools local.")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"What {variable} holds is no key: it has blanks or other characters that keys do not have.")
    return key


def _arguments(loaded: type) -> dict[str, inspect.Parameter]:
    """The constructor's arguments that are settings."""
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {n: p for n, p in inspect.signature(loaded).parameters.items() if p.kind in plain and n not in INJECTED}


def _addresses(settings: Mapping[str, Any]) -> list[str]:
    texts = [value for value in settings.values() if isinstance(value, str)]
    return [text for text in texts if text.startswith(("http://", "https://"))]


def _kinds(loaded: type) -> tuple[str, ...]:
    kinds = getattr(loaded, "kinds", ())
    if not isinstance(kinds, tuple | list):
        return ()
    return tuple(k for k in kinds if k in METHODS and callable(getattr(loaded, METHODS[k], None)))


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown package"
