"""In which language and region a service is asked: as the recipe says, or as the query is written (`auto`)."""

from __future__ import annotations

from collections.abc import Mapping

from deepmmsearch.language.detection import language_of

AUTO = "auto"
GOOGLE = {"zh": "zh-cn", "he": "iw"}
"""Google's codes, where they are others than ISO 639-1's."""


def spoken(query: str) -> str:
    """The language of a query as an ISO 639-1 code; "" where it is names alone, which every Latin language writes."""
    found = language_of(query)
    return "" if found == "en" and language_of(query, "de") == "de" else found


def in_language(given: str, query: str, codes: Mapping[str, str], option: str) -> dict[str, str]:
    """The service's `option` with the language that the recipe gives, or with the query's in the service's code; empty
    where there is none to give."""
    found = spoken(query) if given == AUTO else given
    code = codes.get(found, found) if given == AUTO else given
    return {option: code} if code else {}
