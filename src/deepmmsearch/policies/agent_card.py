"""agent.json: what a checkpoint says about how it is to be used."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.notation import parse_json

CARD = "agent.json"


@dataclass(frozen=True)
class AgentCard:
    """Settings that a checkpoint was trained with; None where the card leaves them open.

    `prompt`: the prompt set. `grounding`: the dialect of its boxes. `max_new_tokens`: of one turn. `min_pixels`,
    `max_pixels`: area of a picture as the model sees it.
    """

    prompt: str | None = None
    grounding: str | None = None
    max_new_tokens: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None


def read_card(source: str | Path) -> AgentCard:
    """The card in a checkpoint folder; an empty one where `source` has none or is no folder.

    Raises UserError for a card that cannot be read, UnknownName for a setting that it does not have.
    """
    path = Path(source) / CARD
    if not path.is_file():
        return AgentCard()
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}). Correct it or remove it.") from None
    kinds = {f.name: (str if f.name in ("prompt", "grounding") else int) for f in dataclasses.fields(AgentCard)}
    if not isinstance(values, dict):
        raise UserError(f"{path} does not hold a JSON object. Write one with any of: {', '.join(kinds)}.")
    for name, value in values.items():
        if name not in kinds:
            raise UnknownName(f"setting in {path}", name, kinds)
        if value is not None and (type(value) is not kinds[name] or (isinstance(value, int) and value <= 0)):
            wanted = "a text" if kinds[name] is str else "a whole number above 0"
            raise UserError(f"{path}: {name} is {value!r}, but {wanted} is expected. Correct it.")
    card = AgentCard(**values)
    if card.prompt is not None and not re.fullmatch(r"[\w-]+", card.prompt):
        # a path would lead to a folder of whoever uses the checkpoint
        raise UserError(f"{path}: prompt is {card.prompt!r}, but the name of a prompt set is expected. Correct it.")
    if card.min_pixels and card.max_pixels and card.min_pixels > card.max_pixels:
        raise UserError(f"{path}: min_pixels is {card.min_pixels}, above max_pixels, {card.max_pixels}. Correct it.")
    return card


def processor_bounds(folder: Path) -> tuple[int | None, int | None]:
    """The least and most pixels of a picture that the image processor of a checkpoint of Qwen's kind lets through as it
    is; None where preprocessor_config.json does not say."""
    try:
        found = parse_json((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, None
    size = found.get("size") if isinstance(found, dict) else None
    if not isinstance(size, dict) or "merge_size" not in found:
        # of other kinds these are sides, not areas
        return None, None
    least = found.get("min_pixels", size.get("shortest_edge"))
    most = found.get("max_pixels", size.get("longest_edge"))
    fits = all(type(value) is int and value > 0 for value in (least, most)) and least <= most
    return (least, most) if fits else (None, None)
