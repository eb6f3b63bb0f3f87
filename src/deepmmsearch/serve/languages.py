"""The page's words, from one table for all its languages."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from deepmmsearch.notation import parse_json

LANGUAGES = ("en", "de", "zh")
_TABLE = Path(__file__).parent / "page" / "texts.json"


def choose_language(chosen: str | None, accepted: str, default: str) -> str:
    """What somebody chose, else the first of those that their browser accepts (`Accept-Language`), else the default."""
    if chosen in LANGUAGES:
        return chosen
    wanted = []
    for order, each in enumerate(accepted[:1000].split(",")):
        tag, _, weight = each.strip().partition(";q=")
        name = tag.strip().lower().split("-")[0]
        try:
            share = float(weight) if weight else 1.0
        except ValueError:
            continue
        if name in LANGUAGES and share > 0:
            wanted.append((-share, order, name))
    return min(wanted)[2] if wanted else default


@cache
def page_texts(language: str) -> dict[str, str]:
    """Each text by its name, in one of LANGUAGES."""
    return {name: row[language] for name, row in parse_json(_TABLE.read_text(encoding="utf-8")).items()}
