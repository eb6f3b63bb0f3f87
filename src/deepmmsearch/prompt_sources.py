"""Prompt texts that others published: where they lie, how they are known, and how they are read.

The texts are not ours to ship. A dialect names the file in the model's public repository, its commit and its sha256;
`deepmmsearch dialects fetch` brings them. Nothing of a file is run: a pickle is read as a list of instructions of which
those for texts alone are allowed, Python is parsed and its literals are taken.
"""

from __future__ import annotations

import ast
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from deepmmsearch.errors import UserError

LARGEST = 4_000_000
"""Bytes of a file."""

# a text, how it is framed, and that it may be referred to: nothing that looks up, calls or builds
_TEXT_INSTRUCTIONS = frozenset(
    ("PROTO", "FRAME", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "MEMOIZE", "BINPUT", "PUT", "STOP")
)


@dataclass(frozen=True)
class SourceFile:
    """`read` makes of its bytes what is wanted of it. `sha256`: of the file, or, where `of_text`, of what `read`
    makes."""

    path: str
    sha256: str
    read: Callable[[bytes], Any]
    of_text: bool = False

    def checked(self, data: bytes, origin: str) -> Any:
        """Raises UserError for a file that is not the one that is known."""
        if len(data) > LARGEST:
            raise UserError(f"{origin} has {len(data):,} bytes, at most {LARGEST:,} are read. Name another copy.")
        if not self.of_text:
            self._refuse(data, origin)
        try:
            found = self.read(data)
        except (ValueError, SyntaxError, RecursionError, MemoryError, LookupError, TypeError) as error:
            raise UserError(f"{origin} cannot be read: {error}. Name another copy.") from None
        if self.of_text:
            self._refuse(str(found).encode(), origin)
        return found

    def _refuse(self, data: bytes, origin: str) -> None:
        found = sha256(data).hexdigest()
        if found != self.sha256:
            raise UserError(
                f"{origin} is another version than the one that is known: its sha256 begins {found[:16]}, "
                f"{self.sha256[:16]} is expected. Fetch it without --from, or name a copy of that commit."
            )


@dataclass(frozen=True)
class PromptSource:
    """A model's public repository on GitHub. `make`: the files of a prompt set, by name, from what the published files
    hold, by theirs here."""

    repository: str
    commit: str
    licence: str
    files: Mapping[str, SourceFile]
    make: Callable[[Mapping[str, Any]], Mapping[str, str]]

    def address(self, path: str) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{path}"


def pickled_text(data: bytes) -> str:
    """The only text of a pickle, without unpickling it. Raises ValueError for one that holds anything else."""
    texts = []
    for instruction, argument, _ in pickletools.genops(data):
        if instruction.name not in _TEXT_INSTRUCTIONS:
            raise ValueError(f"its pickle does more than hold a text ({instruction.name})")
        if isinstance(argument, str):
            texts.append(argument)
    if len(texts) != 1:
        raise ValueError(f"its pickle holds {len(texts)} texts, one is expected")
    return texts[0]


def python_value(name: str) -> Callable[[bytes], Any]:
    """What reads the first literal that a Python file assigns to `name`, in a function or outside; of an f-string the
    text with its names in braces."""

    def read(data: bytes) -> Any:
        found = [
            node
            for node in ast.walk(ast.parse(data))
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
        ]
        for node in sorted(found, key=lambda node: node.lineno):
            value = _literal(node.value)
            if value is not None:
                return value
        raise ValueError(f"it assigns no literal to {name}")

    return read


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_piece, node.values))
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _piece(node: ast.expr) -> str:
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name):
        return f"{{{node.value.id}}}"
    if isinstance(node, ast.Constant):
        return str(node.value)
    raise ValueError("an f-string of it holds more than names")
