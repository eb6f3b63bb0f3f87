"""What programs read: one JSON object per line. docs/commands.md tells the names, which are the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from deepmmsearch.streams import echo_json

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, for programs.")


def print_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        echo_json(row)
