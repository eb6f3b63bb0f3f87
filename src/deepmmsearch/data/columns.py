"""Which column of a stranger's table is the question, the answer, a picture: by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from deepmmsearch.data.answers import parse_list
from deepmmsearch.data.pictures import BEGINNINGS, EXTENSIONS, PARTS, from_base64, is_address, names_nothing
from deepmmsearch.data.tables import Row, distinct

TEXT = ("question", "question_text", "query", "text", "prompt", "problem", "instruction", "q")
ANSWERS = (
    *("answers", "answer", "gt_answer", "gt_answers", "ground_truth", "ground_truths", "gt", "gold", "gold_answer"),
    *("gold_answers", "reference", "references", "reference_answer", "expected", "expected_answer", "correct_answer"),
    *("correct_answers", "answer_text", "final_answer", "target", "label", "solution", "output", "response", "a"),
)
NAME = ("id", "question_id", "data_id", "sample_id", "qid", "uid", "index")

_NOUNS = r"(?:image|img|picture|pic|photo|photograph|screenshot|figure)"
_FORMS = r"(?:bytes|base64|b64|data|file|path|file_?name|file_?path|local_?path|name|src|url|uri|link|address)"
# image, images, query_image, img_path, image_url_2, photo3, file_name
_PICTURE = re.compile(
    rf"(?:(?:query|input|question|decoded|main|original|raw|base64|b64|encoded|local)_)?(?P<noun>{_NOUNS})s?(?:_?(?P<form>{_FORMS})s?)?"
    rf"_?(?P<number>\d{{1,3}})?|(?P<file>file(?:_?(?:name|path|url))?)s?"
)
_NUMBER = re.compile(rf"(?P<noun>{_NOUNS})s?_?(?P<number>\d{{1,3}})_?{_FORMS}s?")  # image_2_path
_SHORT = {"img": "image", "pic": "picture", "photograph": "photo"}


def plain_name(name: object) -> str:
    """`Image URL `, `imageUrl` and `image-url` are image_url."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name).strip("\ufeff \t\r\n\"'"))
    return re.sub(r"[\s\-.]+", "_", text).lower()


def plain_names(row: Row) -> dict[str, Any]:
    """The row by the plain names of its columns; where several have the same, they are numbered."""
    # one that is written so comes first
    keys = sorted(row, key=lambda key: plain_name(key) != key)
    return dict(zip(distinct([plain_name(key) for key in keys]), map(row.__getitem__, keys), strict=True))


def first(row: Row, names: Sequence[str]) -> str | None:
    """The first of these columns that holds something."""
    return next((name for name in names if name in row and not _is_empty(row[name])), None)


def picture_columns(row: Row) -> tuple[list[Any], list[str], list[str]]:
    """What the columns of pictures name, in order; the columns that have such a name; and those that hold pictures, as
    it seems, and were not read.

    `image`, `image_path` and `image_url` are one picture in three forms, of which the first that is there is read;
    `image_1`, `image_2` are two; a list is as many as it holds.
    """
    found: dict[int, dict[str, str]] = {}
    nouns: list[str] = []
    for name, value in row.items():
        parts = _parts(name)
        if parts is None or _is_empty(value):
            continue
        called, number = parts
        nouns += [called] if called not in nouns else []
        found.setdefault(number, {}).setdefault(called, name)
    # whoever names pictures in two ways means the same ones, or said which are which in words that are not known here
    noun = next((n for n in _ORDER if n in nouns), None)
    read = [forms[noun] for _, forms in sorted(found.items()) if noun in forms]
    pictures: list[Any] = []
    seen: set[str | bytes | int] = set()
    for name in read:
        # within one list a picture may stand twice
        pictures += (new := [each for each in _listed(row[name]) if _key(each) not in seen])
        seen.update(map(_key, new))
    named = {name: parts[0] for name in row if (parts := _parts(name)) is not None}
    unread = [name for name in row if named.get(name, "") != noun and _looks_like_one(name, row[name])]
    return pictures, list(named), unread


_ORDER = ("image", "picture", "photo", "screenshot", "figure", "file")


def _parts(name: str) -> tuple[str, int] | None:
    """The noun in the name of a column of pictures, and its number, 0 where it has none."""
    parts = _NUMBER.fullmatch(name) or _PICTURE.fullmatch(name)
    if parts is None:
        return None
    told = parts.groupdict()
    noun = told.get("noun") or "file"
    return _SHORT.get(noun, noun), int(told["number"] or 0)


def _listed(value: Any) -> list[Any]:
    """A list as a list, also one that is written in a text; an object likewise."""
    if isinstance(value, str):
        names = [part.strip() for part in re.split(r"[|;,]", value)] if len(value) < 4096 else []
        if len(names) > 1 and all(name.lower().endswith(EXTENSIONS) for name in names):
            return names
        opened = parse_list(f"[{value}]") if value.lstrip().startswith("{") else parse_list(value)
        value = value if opened is None else opened
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        if len(value) > 64 and all(isinstance(each, int) and 0 <= each < 256 for each in value):
            return [bytes(value)]  # bytes in JSON
        return [each for each in value if not names_nothing(each)]
    return [value]


def _key(value: Any) -> str | bytes | int:
    """What a picture is told apart by: its name or its bytes, wherever they stand."""
    if isinstance(value, Mapping):
        value = next((value[part] for part in PARTS if not names_nothing(value.get(part))), value)
    return value if isinstance(value, str | bytes) else id(value)


def _is_empty(value: Any) -> bool:
    return names_nothing(value) or (isinstance(value, Sequence | Mapping) and not value)


def _looks_like_one(name: str, value: Any) -> bool:
    """Is it a picture, whatever its column is called? By what it holds, for `image_width` holds none."""
    if isinstance(value, Mapping):
        return isinstance(value.get("bytes"), bytes)
    if isinstance(value, bytes):
        return True
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(_looks_like_one(name, each) for each in list(value)[:8])
    if not isinstance(value, str):
        return False
    text = value.strip()
    if "\n" not in text and len(text) < 1024 and text.partition("?")[0].lower().endswith(EXTENSIONS):
        return not is_address(text) or re.search(_NOUNS, name) is not None
    found = from_base64(text) if len(text) >= 64 and " " not in text[:64] else None
    return found is not None and found.startswith(BEGINNINGS)
