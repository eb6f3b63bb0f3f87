"""What a checkpoint's maker wrote to be run here: its chat template, and patterns for names of modules.

Both can be made to take for ever, or all memory. So they run in a process of their own, which has neither network nor
files nor keys and ends with its limits of time and memory.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from deepmmsearch.confined import Worker, serve
from deepmmsearch.errors import Unreadable

SECONDS = 10.0
"""Of processor time, for one conversation, or for all patterns of an adapter."""
MEMORY = 1024**3


def render(template: str, names: Mapping[str, Any]) -> str:
    """A conversation by a chat template, as transformers renders it; `names` are what the template may use. Raises
    ValueError: the template's own complaint, a mistake in it, or that it took too long."""
    given = json.dumps({"template": template, "names": names, "now": datetime.now().isoformat()})
    return str(_asked(given)["text"])


def check_patterns(patterns: Iterable[str], names: Sequence[str]) -> None:
    """Raises ValueError for a pattern that is none, or that takes too long over the names."""
    _asked(json.dumps({"patterns": list(patterns), "over": list(names)}))


def _asked(given: str) -> dict[str, Any]:
    worker, lock = _process()
    with lock:
        try:
            return worker.ask({}, given.encode())
        except Unreadable as error:
            raise ValueError(str(error)) from None


@cache
def _process() -> tuple[Worker, threading.Lock]:
    """One for all: it keeps nothing of one request for the next, and starting it takes longer than most requests."""
    return Worker("deepmmsearch.policies.bounded", SECONDS, memory=MEMORY), threading.Lock()


# In the process


def _answered(request: Mapping[str, str], content: bytes) -> dict[str, Any]:
    given = json.loads(content)
    try:
        if "patterns" in given:
            _match(given["patterns"], given["over"])
            return {}
        names = {**given["names"], "strftime_now": datetime.fromisoformat(given["now"]).strftime}
        return {"text": _compiled(given["template"]).render(**names)}
    except (
        re.error,
        jinja2.TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise Unreadable(str(error) or type(error).__name__) from None


def _match(patterns: Sequence[str], names: Sequence[str]) -> None:
    """In the ways in which PEFT puts a pattern to a name."""
    for pattern in patterns:
        ways = [re.compile(form.format(pattern)) for form in ("{}", r"(.*\.)?({})$", r"(?:^|.*?\.){}\.(?P<idx>\d+)\.")]
        for name in names:
            ways[0].fullmatch(name)
            for way in ways[1:]:
                way.match(name)


@lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    """With the names and tags that chat templates are written for (transformers' `chat_template_utils`)."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _raise}
    return environment.from_string(template)


class _Generation(Extension):
    """`{% generation %}` marks what a model wrote, for those who need to know; here it is text like any other."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own escapes what means something in HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


if __name__ == "__main__":
    serve(_answered)
