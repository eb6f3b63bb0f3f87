"""YAML that others wrote: what would take hours or all memory to read, or could not be written again, is refused.

As recipes use it: a name that stands twice is refused, too, and numbers such as 1e-3 are numbers, which YAML 1.1
reads as text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from deepmmsearch.notation import without_halves

LARGEST = 1_000_000
"""Characters of a file."""
MOST_VALUES, DEEPEST = 50_000, 40
"""What it may unfold to: an alias counts as often as it is used, with everything in it."""


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
