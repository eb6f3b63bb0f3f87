"""Questions of benchmarks that are published encrypted, so that no crawler and no training set picks them up.

They are decrypted in memory, and whatever is kept of them is sealed again: compressed and combined with a key that
stands here. Like the publishers' own encryption that keeps out machines that read everything, not people.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

from deepmmsearch.errors import UserError
from deepmmsearch.notation import parse_json
from deepmmsearch.types import Question

MARK = "encrypted"
"""In the metadata of a question: the benchmark that publishes it encrypted."""
_SEALED = "sealed"
_MOST = 256_000_000


def combine(data: bytes, passphrase: str) -> bytes:
    """Each byte with the key that repeats: sha256 of the passphrase. Twice gives the data again."""
    key = hashlib.sha256(passphrase.encode()).digest()
    stream = (key * (len(data) // len(key) + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(stream)).to_bytes(len(data))


def decrypt(text: str, passphrase: str) -> str:
    """A text that was encrypted and then written as base64. Raises ValueError for what the passphrase does not open."""
    try:
        return combine(base64.b64decode(text, validate=True), passphrase).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("the text is not encrypted with this passphrase") from None


def is_sealed(question: Question) -> bool:
    return bool(question.metadata.get(MARK))


def refuse_sealed(question: Question) -> None:
    """Raises UserError before such a question is written in the clear or trained on."""
    if is_sealed(question):
        raise UserError(
            f"{question.metadata[MARK]} is published encrypted, to keep its questions out of training data: "
            "no data set is made of it. Evaluate with it."
        )


def seal(record: Mapping[str, Any], benchmark: str) -> dict[str, Any]:
    packed = zlib.compress(json.dumps(record, ensure_ascii=True).encode(), 6)
    return {_SEALED: benchmark, "text": base64.b64encode(combine(packed, _passphrase(benchmark))).decode()}


def unseal(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record as it was sealed; one that is not sealed as it is. Raises ValueError for one that cannot be opened."""
    if _SEALED not in record:
        return record
    opener = zlib.decompressobj()
    try:
        packed = combine(base64.b64decode(str(record["text"]), validate=True), _passphrase(str(record[_SEALED])))
        text = opener.decompress(packed, _MOST)
    except (KeyError, zlib.error) as error:
        raise ValueError(f"a sealed record that cannot be opened ({error})") from None
    found = parse_json(text.decode())
    if not opener.eof or not isinstance(found, dict):
        raise ValueError("a sealed record that cannot be opened")
    return found


def _passphrase(benchmark: str) -> str:
    return f"deepmmsearch: {benchmark}"
