"""The settings that a class or function takes are its arguments: they are checked against its signature."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from deepmmsearch.errors import UnknownName, UserError


def settings_of(taker: Callable[..., Any], ours: Collection[str]) -> dict[str, inspect.Parameter]:
    """The arguments that are settings: all but `ours`, which we give."""
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {n: p for n, p in inspect.signature(taker).parameters.items() if p.kind in plain and n not in ours}


def check_settings(
    owner: str, taker: Callable[..., Any], given: Mapping[str, Any], ours: Collection[str], beside: Collection[str] = ()
) -> dict[str, Any]:
    """The settings as their annotations say (`Annotated` with pydantic's `Field` may bound them). `owner` is what
    messages call the taker, such as "provider serper"; `beside` are settings of others that stand in the same place.

    Raises UnknownName for a setting that it does not take; UserError for one of the wrong kind or a missing one.
    """
    known = settings_of(taker, ours)
    for name in given:
        if name not in known:
            raise UnknownName(f"setting of the {owner}", name, [*beside, *known])
    hints = typing.get_type_hints(taker.__init__ if isinstance(taker, type) else taker, include_extras=True)  # type: ignore[misc]
    fields: dict[str, Any] = {
        n: (hints.get(n, Any), ... if p.default is p.empty else p.default) for n, p in known.items()
    }
    model = create_model(
        "Settings", __config__=ConfigDict(arbitrary_types_allowed=True, protected_namespaces=()), **fields
    )
    try:
        made = model.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "missing":
            raise UserError(f"The {owner} needs the setting {name}.") from None
        raise UserError(f"The {owner}: {name}: {first['msg']}, found {first.get('input')!r}.") from None
    return {n: getattr(made, n) for n in known if n in given}
