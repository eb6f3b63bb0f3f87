"""A question as verl's dataset hands it to an agent loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepmmsearch.data.convert import verl_question
from deepmmsearch.data.load_report import Skip
from deepmmsearch.errors import UserError
from deepmmsearch.types import Question


def asked(row: Mapping[str, Any]) -> Question:
    """The question of a row as verl's dataset gives it: pictures stand as parts in `raw_prompt`. Raises UserError."""
    said = [{"role": m["role"], "content": _listed(m["content"])} for m in row["raw_prompt"]]
    parts = [part for m in said if isinstance(m["content"], list) for part in m["content"]]
    pictures = [_picture(part) for part in parts if part["type"] == "image"]
    number = int(row.get("index", 0))
    try:
        return verl_question({**row, "prompt": said, "images": pictures}, number)
    except Skip as error:
        raise UserError(f"Row {number} of verl's data holds no question ({error}). Leave it out.") from None


def _listed(content: Any) -> Any:
    return content if isinstance(content, str) else list(content)


def _picture(part: Mapping[str, Any]) -> Any:
    """As it stands in the data where it does: opened, it would not be bounded."""
    return part if part.get("bytes") or part.get("path") else part["image"]
