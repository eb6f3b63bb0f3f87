"""A table of figures, once for the console, once as Markdown; the page has its own template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from deepmmsearch.escaping import one_line

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first of each its name; `note` stands under it. A row "all" is set off from the others.
    `folded`: what it says in place of the table until it is opened; empty: it is open."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    folded: str = ""


def console_table(table: Table, title: str = "") -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=Text(title) if title else None)
    for number, column in enumerate(table.columns):
        shown.add_column(Text(column), justify="right" if number else "left")
    for row, following in zip(table.rows, [*table.rows[1:], ("",)], strict=True):
        ended = "all" in (row[0], following[0])
        shown.add_row(*map(Text, row), style="bold" if row[0] == "all" else None, end_section=ended)
    return shown


def markdown_table(table: Table) -> list[str]:
    """Its lines. Whatever stands in a cell is text: nothing in it becomes markup."""

    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(plain_markdown(c) for c in cells)} |"

    lines = [row(table.columns), f"|{'---|' * len(table.columns)}", *(row(cells) for cells in table.rows)]
    lines += ["", plain_markdown(table.note)] if table.note else []
    if table.folded:
        return ["<details>", f"<summary>{escape(table.folded)}</summary>", "", *lines, "", "</details>"]
    return lines


def plain_markdown(text: str) -> str:
    """One line in which nothing is markup."""
    flat = one_line(text)
    for sign in "\\|`<>*_[]#&":
        flat = flat.replace(sign, f"\\{sign}")
    return flat
