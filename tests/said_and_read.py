"""Whatever a dialect can say, it reads again."""

from __future__ import annotations

from collections.abc import Sequence

from deepmmsearch.agent.dialect import find_dialect
from deepmmsearch.agent.table import Tool
from deepmmsearch.prompts import source_of
from deepmmsearch.types import Action


def check_said_and_read(dialect: str, action: Action, tools: Sequence[Tool]) -> None:
    """Released checkpoints were trained for a few tools: their dialects alone may not be able to say it."""
    spoken = find_dialect(dialect)
    try:
        written = spoken.write("I look.", action, tools)
    except ValueError:
        assert source_of(dialect) is not None
        return
    assert spoken.parse(written, tools, True) == action
