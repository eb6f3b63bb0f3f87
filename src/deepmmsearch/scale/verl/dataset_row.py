"""A question as verl's dataset hands it to an agent loop."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from deepmmsearch.data.convert import verl_question
from deepmmsearch.data.load_report import Skip
from deepmmsearch.errors import UserError
from deepmmsearch.types import Question


def asked(row: Mapping[str, Any]) -> Question:
    """The question of a row as verl's dataset gives it: pictures stand as parts in `raw_prompt`. Raises UserError for
    one that cannot be asked, or of which no answer could be rewarded."""
    index = row.get("index")
    try:
        said = [_message(m) for m in _messages(row)]
        parts = [part for m in said if isinstance(m["content"], list) for part in m["content"]]
        pictures = [_picture(part) for part in parts if part["type"] == "image"]
        if not isinstance(row.get("reward_model") or {}, Mapping):
            raise Skip("its reward_model is not an object with ground_truth")
        # an index of somebody else's may be any text
        counted = re.fullmatch(r"[0-9]{1,15}", str(index))
        named = {} if index is None or counted else {"data_id": row.get("data_id") or str(index)}
        question = verl_question(
            {**row, **named, "prompt": said, "images": pictures}, int(counted[0]) if counted else 0
        )
        if not question.text.strip() and not pictures:
            raise Skip("its last question is empty")
        if not any(answer.strip() for answer in question.answers):
            raise Skip("it has no accepted answer in reward_model.ground_truth, so no reward could be earned")
    except UserError:
        raise
    except Exception as error:  # whatever a row can bring about
        found = str(error) if isinstance(error, Skip) else f"{type(error).__name__}: {str(error)[:160]}"
        place = "A row" if index is None else f"Row {str(index)[:60]}"
        raise UserError(f"{place} of verl's data holds no question ({found}). Leave it out.") from None
    return question


def _messages(row: Mapping[str, Any]) -> Iterable[Any]:
    found = row.get("raw_prompt")
    if found is None:
        raise UserError("verl's data comes without raw_prompt. Set data.return_raw_chat=true in verl's configuration.")
    if isinstance(found, str | Mapping) or not isinstance(found, Iterable):
        raise Skip("its raw_prompt is not a list of messages")
    return found


def _message(found: Any) -> dict[str, Any]:
    if not isinstance(found, Mapping) or not isinstance(found.get("role"), str):
        raise Skip("a message of its raw_prompt has no role")
    content = found.get("content")
    if isinstance(content, str):
        return {"role": found["role"], "content": content}
    if content is None or isinstance(content, Mapping) or not isinstance(content, Iterable):
        raise Skip(f"the content of a message of {found['role'][:20]} is neither a text nor a list of parts")
    parts = list(content)
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("text", "image"):
            told = f"type {str(kind)[:20]!r}" if kind else "no type"
            raise Skip(f"a part of a message has {told}, only text and image are read")
        if kind == "text" and not isinstance(part.get("text"), str):
            raise Skip("a part of type text has no text")
    return {"role": found["role"], "content": parts}


def _picture(part: Mapping[str, Any]) -> Any:
    """As it stands in the data where it does: opened, it would not be bounded."""
    if part.get("bytes") or part.get("path"):
        return part
    if part.get("image") is None:
        raise Skip("a part of type image has no image")
    return part["image"]
