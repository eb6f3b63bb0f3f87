"""Places by their names in other languages, and countries by their full names: Wien is Vienna, and the Russian
Federation is Russia. The names are in places.txt."""

from __future__ import annotations

import re
from importlib.resources import files

from deepmmsearch.normal_forms import normal_form

COUNTRIES = 257
"""So many places of the list are countries; they come first."""

_FORM = re.compile(
    r"^(?:the\s+)?(?:(?:federal|democratic|people['’]s|islamic|socialist|united|plurinational|independent)\s+)*"
    r"(?:republic|kingdom|federation|commonwealth|principality|grand duchy|sultanate|emirate|union|"
    r"republik|königreich|république|royaume|república|reino|repubblica)\s+(?:of|du|de|del|della|d['’])\s+(?:the\s+)?",
    re.IGNORECASE,
)
_KIND = re.compile(r"^(?:the\s+)?(?:city|town|country|island)\s+of\s+|^the\s+|[市国國]$", re.IGNORECASE)


_REGIONS = frozenset(
    "alabama alaska arizona arkansas california colorado connecticut delaware florida hawaii idaho illinois "
    "indiana iowa kansas kentucky louisiana maine maryland massachusetts michigan minnesota mississippi missouri "
    "montana nebraska nevada ohio oklahoma oregon pennsylvania tennessee texas utah vermont virginia washington "
    "wisconsin wyoming newhampshire newjersey newmexico newyork northcarolina northdakota rhodeisland "
    "southcarolina southdakota westvirginia dc ca ny tx il ma pa ontario quebec britishcolumbia alberta england "
    "scotland wales northernireland bavaria saxony hesse catalonia andalusia tuscany lombardy sicily brittany "
    "normandy provence hokkaido newsouthwales victoria queensland tasmania europe asia africa southamerica "
    "northamerica australia".split()
)


def is_region(text: str) -> bool:
    """A country, or a part of the world or of a country, within which towns are named: Portland, Oregon."""
    return _key(text) in _REGIONS or is_country(text)


def is_country(text: str) -> bool:
    place = find_place(text)
    return place is not None and place < COUNTRIES


def find_place(text: str) -> int | None:
    """The number of the one place of that name; None for any other text."""
    for name in (text, _KIND.sub("", text), _FORM.sub("", text)):
        if (found := _PLACES.get(_key(name))) is not None:
            return found
    return None


def _read_places() -> dict[str, int]:
    lines = files("deepmmsearch.judge").joinpath("places.txt").read_text(encoding="utf-8").splitlines()
    rows = (line for line in lines if not line.startswith("#"))
    return {_key(name): number for number, line in enumerate(rows) for name in line.split("|")}


def _key(name: str) -> str:
    return "".join(c for c in normal_form("NFKD", name.casefold()) if c.isalnum())


_PLACES = _read_places()
