"""JSON as models write it and JSON5 readers take it: single quotes, names without quotes, comments, commas too many."""

from __future__ import annotations

import json
import re
from typing import Any

from deepmmsearch.notation import parse_json

# What is not closed goes to the end, so that no text is looked at twice.
_TOKEN = re.compile(
    r'(?P<double>"(?:[^"\\]|\\(?:.|\Z))*+(?:"|\Z))'
    r"|(?P<single>'(?:[^'\\]|\\(?:.|\Z))*+(?:'|\Z))"
    r"|(?P<comment>//[^\n]*|/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z))"
    r"|(?P<other>-?\d[\w.+-]*|[,{}\[\]:]|\s+)"
    r"|(?P<name>[A-Za-z_$][\w$]*+)(?P<key>\s*:)?"
    r"|.",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def loads(text: str) -> Any:
    """Raises ValueError for what is neither."""
    try:
        return parse_json(text)
    except ValueError:
        pass
    return parse_json(_strict(text))


def _strict(text: str) -> str:
    kept: list[str] = []
    for token in _TOKEN.finditer(text):
        said = token[0]
        if token["comment"] or said.isspace():
            said = " "
        elif token["single"] and len(said) > 1 and said.endswith("'"):
            said = json.dumps(_ESCAPE.sub(_unescaped, said[1:-1]), ensure_ascii=False)
        elif token["key"]:
            said = f'"{token["name"]}":'
        elif said in ("}", "]"):
            while kept and kept[-1] == " ":
                kept.pop()
            if kept and kept[-1] == ",":
                kept.pop()
        kept.append(said)
    return "".join(kept)


def _unescaped(found: re.Match[str]) -> str:
    return {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}.get(found[1], found[1])
