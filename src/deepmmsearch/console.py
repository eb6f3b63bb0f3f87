"""Styled text on the terminal, the only Rich console there is: what comes from outside stays text."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import IO, Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.file_proxy import FileProxy
from rich.segment import Segment

from deepmmsearch.escaping import plain
from deepmmsearch.streams import PlainStream

_NO_TERMINAL = 10_000
"""Columns: nothing is wrapped or cut for who reads lines."""


class Console(rich.console.Console):
    """No markup, no emoji codes, no highlighting, and nothing in a text that a terminal obeys: styles are given apart
    from it. `width` in columns; where it is None the terminal's, or what COLUMNS says, and in a pipe or a file as much
    as there is to say. `quiet` shows nothing."""

    def __init__(
        self,
        *,
        stderr: bool = False,
        file: IO[str] | None = None,
        width: int | None = None,
        quiet: bool = False,
        force_terminal: bool | None = None,
    ) -> None:
        super().__init__(
            stderr=stderr,
            file=file,
            width=width,
            quiet=quiet,
            force_terminal=force_terminal,
            markup=False,
            emoji=False,
            highlight=False,
        )
        if width is None and not self.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
            self.width = _NO_TERMINAL

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is removed takes no room, so the layout stays."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=plain(segment.text))

    @property
    def file(self) -> IO[str]:
        """Past the streams that would take out this console's own styles."""
        found: Any = super().file
        while isinstance(found, PlainStream | FileProxy):
            found = found.stream if isinstance(found, PlainStream) else found.rich_proxied_file
        return found

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file
