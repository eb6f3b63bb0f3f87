"""Formulas, in which every sign counts: 60-k is not 60+k."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]{2,}")
_FUNCTIONS = frozenset("sin cos tan log ln exp sqrt pi".split())
_SIGNS = re.compile(r"[√π^=<>≤≥]|(?<=[\da-z)])\s?[-+*/×]\s?(?=[a-z(√π])|(?<=[a-z)])\s?[-+*/×]\s?(?=[\d(])")


def is_formula(text: str) -> bool:
    """Signs, figures and letters for unknowns, and no words."""
    return bool(_SIGNS.search(text)) and all(w.lower() in _FUNCTIONS for w in _WORD.findall(text))


def bare(text: str) -> str:
    """The formula without spaces, and without the name of what it gives: x = 2√3 is 2√3."""
    plainly = re.sub(r"[\s{}]|(?<=[\d)a-z])[*×](?=[a-zπ√(])", "", text.casefold())
    return re.sub(r"^[a-z]=", "", plainly)
