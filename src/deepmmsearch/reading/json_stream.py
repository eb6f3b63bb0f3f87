"""JSON of any length, read value by value and no further than each needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from deepmmsearch.notation import parse_json

_PIECE = 1 << 20
_LONGEST = 64 * _PIECE
_BLANKS = re.compile(r"[ \t\r\n\ufeff]*")


def lines(file: IO[str]) -> Iterator[tuple[int, Any, str]]:
    """The values of JSON Lines: the number of the line, the value, and what is wrong with it, "" for nothing."""
    number = 0
    while line := file.readline(_LONGEST):
        number += 1
        if not line.strip():
            continue
        try:
            yield number, parse_json(line), ""
        except ValueError as error:
            yield number, None, str(error)[:160]


def members(file: IO[str]) -> Iterator[tuple[str, Any]]:
    """Those of one object, each as soon as it is read. Raises ValueError with what is wrong."""
    text = _Ahead(file)
    text.take("{")
    while not text.at("}"):
        key = text.value()
        text.take(":")
        yield str(key), text.value()
        if not text.at("}"):
            text.take(",")


def items(file: IO[str]) -> Iterator[tuple[str, Any]]:
    """Those of one list by their numbers, each as soon as it is read. Raises ValueError with what is wrong."""
    text = _Ahead(file)
    text.take("[")
    number = 0
    while not text.at("]"):
        number += 1
        yield str(number), text.value()
        if not text.at("]"):
            text.take(",")


class _Ahead:
    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text, self._place, self._decoder = "", 0, json.JSONDecoder()

    def at(self, sign: str) -> bool:
        self._place = _BLANKS.match(self._text, self._place).end()  # type: ignore[union-attr]
        while self._place == len(self._text) and self._more():
            self._place = _BLANKS.match(self._text, self._place).end()  # type: ignore[union-attr]
        return self._text.startswith(sign, self._place)

    def take(self, sign: str) -> None:
        if not self.at(sign):
            found = repr(self._text[self._place : self._place + 20])
            found = found if found != "''" else "the end of the file"
            raise ValueError(f"{found} stands where {sign} should")
        self._place += len(sign)

    def value(self) -> Any:
        self.at("")
        while True:
            try:
                found, self._place = self._decoder.raw_decode(self._text, self._place)
                return found
            except RecursionError:
                raise ValueError("it is nested too deeply") from None
            except ValueError as error:
                if len(self._text) - self._place > _LONGEST or not self._more():
                    raise ValueError(str(error)) from None

    def _more(self) -> bool:
        left = self._text[self._place :]
        # as much again each time: what is not whole yet is looked at again from its beginning
        piece = self._file.read(max(_PIECE, len(left)))
        self._text, self._place = left + piece, 0
        return bool(piece)
