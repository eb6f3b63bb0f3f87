"""YAML and JSON that others wrote: what would take hours or all memory to read, or could not be written again, is
refused.

YAML as recipes use it: a name that stands twice is refused, too, and numbers such as 1e-3 are numbers, which YAML 1.1
reads as text.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

LARGEST = 1_000_000
"""Characters of a file."""
MOST_VALUES, DEEPEST = 50_000, 40
"""What it may unfold to: an alias counts as often as it is used, with everything in it."""
DEEPEST_JSON, LONGEST_NUMBER = 100, 300
"""Levels within each other, and digits of a whole number: no longer one is a float."""
_WHOLES = frozenset((dict, list))
# of so many digits in a row, at least so many are among every twentieth character
_MAYBE_LONG = re.compile(rf"\d{{{LONGEST_NUMBER // 20}}}")
_LONG_NUMBER = re.compile(rf"(?<!\d)\d{{{LONGEST_NUMBER + 1}}}")


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(text: str) -> Any:
    """Raises ValueError with what is wrong."""
    if len(text) > LARGEST:
        raise ValueError(f"it has {len(text):,} characters, at most {LARGEST:,} are read")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {}, set(), 0)
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError(f"it nests more than {DEEPEST} deep") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # `!!timestamp x` and the like: PyYAML takes a tag's word for what follows
        raise ValueError(f"a value of it cannot be read ({type(error).__name__}: {error})") from None


def parse_json(text: str) -> Any:
    """Raises ValueError with what is wrong."""
    try:
        long = _MAYBE_LONG.search(text[::20]) and _LONG_NUMBER.search(text)
        value = json.loads(text, parse_int=_whole_number if long else None)
    except RecursionError:
        raise ValueError(f"it nests more than {DEEPEST_JSON} deep") from None
    level = [value]
    for _ in range(DEEPEST_JSON):
        level = [part for whole in level for part in _wholes(whole)]
        if not level:
            return value
    raise ValueError(f"it nests more than {DEEPEST_JSON} deep")


def without_halves(text: str) -> str:
    """The text with ? for each half of a surrogate pair, which JSON can write and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def json_text(value: Any) -> str:
    """As JSON that UTF-8 can hold: halves of surrogate pairs stay as JSON writes them."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text == without_halves(text) else json.dumps(value)


def _wholes(value: Any) -> list[Any]:
    """The lists and objects right within it."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if _WHOLES.isdisjoint(map(type, parts)):
        return []
    return [part for part in parts if type(part) in _WHOLES]


def _whole_number(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a number of it has {len(digits):,} digits, at most {LONGEST_NUMBER} are read")
    return int(digits)


def _measure(node: yaml.Node, known: dict[int, int], open_: set[int], depth: int) -> int:
    """How many values a node unfolds to."""
    if id(node) in open_:
        raise ValueError(f"an alias contains itself (line {node.start_mark.line + 1})")
    if depth > DEEPEST:
        raise ValueError(f"it nests more than {DEEPEST} deep (line {node.start_mark.line + 1})")
    if id(node) not in known:
        open_.add(id(node))
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        size = 1
        if not isinstance(node, yaml.ScalarNode):
            size += sum(_measure(part, known, open_, depth + 1) for part in parts)
        elif node.value != without_halves(node.value):
            raise ValueError(f"a text in it is not Unicode: half a surrogate pair (line {node.start_mark.line + 1})")
        if size > MOST_VALUES:
            raise ValueError(f"its aliases unfold to more than {MOST_VALUES:,} values")
        if isinstance(node, yaml.MappingNode):
            _refuse_twice(node)
        open_.discard(id(node))
        known[id(node)] = size
    return known[id(node)]


def _refuse_twice(node: yaml.MappingNode) -> None:
    names: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in names:
                raise ValueError(f"{key.value} stands twice in one section (line {key.start_mark.line + 1})")
            names.add(key.value)
