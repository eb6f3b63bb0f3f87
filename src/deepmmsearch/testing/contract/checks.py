"""What the contracts are made of: a check is a function that takes one thing and asserts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
Check = Callable[[T], None]


def raised(kind: type[E], call: Callable[[], Any]) -> E:
    """The exception of that kind that the call ends with."""
    try:
        found = call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {found!r}")
