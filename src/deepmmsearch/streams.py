"""The border to the terminal: whatever is written to standard output and error passes here as plain text.

`console.Console` does the same for what Rich lays out. No other module writes to either stream.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from deepmmsearch.escaping import plain

# How progress bars of other packages draw a line again, each time in a write of its own.
_REDRAWN = re.compile(r"\r[^\r\n]*|(?:\n|\x1b\[A)+")

# colours of tracebacks and logs, which would leave their numbers behind
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def echo(text: object = "", *, err: bool = False, end: str = "\n") -> None:
    """Prints a text, of which a terminal obeys nothing, on standard output or error."""
    print(plain(str(text)), file=sys.stderr if err else sys.stdout, end=end, flush=True)


def echo_json(value: Any, *, err: bool = False) -> None:
    """Prints a value on one line of JSON that is ASCII without control characters, on standard output or error."""
    # the one control character that JSON lets stand
    print(json.dumps(value).replace("\x7f", "\\u007f"), file=sys.stderr if err else sys.stdout, flush=True)


def flush_output() -> None:
    """Writes what is left for standard output. Raises OSError where that cannot be."""
    if sys.stdout is not None:  # as it is where somebody closed it
        sys.stdout.flush()


class PlainStream(io.TextIOBase):
    """A text stream that passes on what a terminal does not obey. There is no way around it to the bytes below.

    Only on a terminal, bars of other packages may go back to the beginning of their line; what they say in it is plain.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        if _REDRAWN.fullmatch(text) and self.isatty():
            self.stream.write(text if "\x1b" in text else text[0] + plain(text[1:]))
        else:
            self.stream.write(plain(_COLOUR.sub("", text)))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    def writable(self) -> bool:
        return True

    # of the class these are attributes that nobody may set
    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.stream.errors


def guard_streams() -> None:
    """From now on all that this process writes is plain: warnings, logs, tracebacks and other packages' words too."""
    sys.stdout, sys.stderr = _plain_stream(sys.stdout), _plain_stream(sys.stderr)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """The same while the block lasts, in which the streams may have been replaced, as Rich does below a bar."""
    before = sys.stdout, sys.stderr
    guard_streams()
    own = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout = before[0] if sys.stdout is own[0] else sys.stdout
        sys.stderr = before[1] if sys.stderr is own[1] else sys.stderr


@contextmanager
def output_for_a_program() -> Iterator[None]:
    """Standard output as it was while the block lasts, for a protocol that a program reads byte by byte."""
    before = sys.stdout
    if isinstance(before, PlainStream):
        sys.stdout = before.stream
    try:
        yield
    finally:
        sys.stdout = before


def _plain_stream(stream: Any) -> Any:
    # None where a process has no such stream
    return stream if stream is None or isinstance(stream, PlainStream) else PlainStream(stream)
