"""Bytes as text: by their mark, as UTF-8, in the charset that a page names, else in the likeliest by its letters."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from deepmmsearch.errors import MissingExtra, Unreadable

_CHARSET = re.compile(
    r"utf-?(8|16|32)([-_]?[bl]e)?|us-ascii|ascii|(windows|cp)-?\d{3,4}|iso-?(8859|2022)[\w-]{1,12}|latin-?\d{1,2}|l\d"
    r"|koi8-[rtu]|gb(k|2312|18030)|big5([-_]?hkscs)?|euc[-_](jp|kr|cn)|shift[-_]?jis|sjis|ks_c_5601-1987|tis-?620"
    r"|mac-?(roman|cyrillic)|macintosh",
    re.IGNORECASE,
)
# what browsers read for them (WHATWG): what says Latin-1 is written by Windows
_OF_THE_WEB = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "big5": "big5hkscs",
}
# shifts by letters of ASCII, which any text may hold
_NEVER = ("utf-7", "hz")
_SAMPLE = 100_000
_WEAK = 0.15
_COMMON = re.compile(r"cp(125\d|874|932|949)|iso8859-([256789]|15)|koi8-[ru]|gb18030|big5hkscs|euc\S+|shift_jis\S*")
_IN_A_WORD = re.compile(r"[^\W\d_][“„”«»¿¡§€°][^\W\d_]")
_WESTERN = frozenset("àâäáãåæçéèêëíìîïñóòôöõøœúùûüýßÀÂÄÁÃÅÆÇÉÈÊËÍÎÏÑÓÔÖÕØŒÚÜ€–—‘’“”„…«»¿¡°§")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


class Decoded(NamedTuple):
    """`guessed`: the encoding that was taken where nothing told it, such as "windows-1251", or "windows-1252, a weak
    guess"; "" where it was told, or is UTF-8."""

    text: str
    guessed: str = ""


def known_charset(name: str) -> str | None:
    """Python's name for a charset of the web, None for any other. Python knows codecs by name that no page may choose:
    some take time that grows with the square of the length."""
    if not _CHARSET.fullmatch(name):
        return None
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None


def decode(content: bytes, charset: str = "") -> Decoded:
    """`charset`: the one that was declared. Raises Unreadable for what is no text; MissingExtra."""
    mark = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    if mark is not None and (text := _decoded(content, mark)) is not None:
        return Decoded(text)
    # ASCII may be an encoding that shifts by escapes
    declared = known_charset(charset) if content.isascii() or not _is_utf8(content) else None
    if declared is not None and (text := _decoded(content, _OF_THE_WEB.get(declared, declared))) is not None:
        return Decoded(text)
    if (wide := _wide(content)) is not None and (text := _decoded(content, wide)) is not None:
        return Decoded(text, wide)
    if b"\x1b$" not in content and _is_mostly_utf8(content) and (text := _decoded(content, "utf-8")) is not None:
        return Decoded(text)
    return _guessed(content)


def _guessed(content: bytes) -> Decoded:
    try:
        import chardet
    except ImportError:
        raise MissingExtra("Reading text of an encoding that is not told", "engine") from None
    sample = content[:_SAMPLE]
    found = chardet.detect(sample, compat_names=False, exclude_encodings=_NEVER)
    name, sure = found["encoding"], found["confidence"]
    name = _OF_THE_WEB.get(codecs.lookup(name).name, name) if name else None
    if name and not _COMMON.fullmatch(name) and _may_be_western(sample):
        name, sure = "cp1252", 0.0
    text = _decoded(content, name) if name else None
    if name is None or text is None:
        raise Unreadable("not text in any encoding known")
    shown = re.sub(r"^cp(125\d|874)$", r"windows-\1", name)
    # three accents in a line may be of several alphabets
    return Decoded(text, shown if sure >= _WEAK else f"{shown}, a weak guess")


def _may_be_western(sample: bytes) -> bool:
    """Texts of DOS and of an old Macintosh hold other signs then, or quotation marks within words."""
    text = sample.decode("cp1252", "replace")
    return _WESTERN.issuperset(letter for letter in text if letter > "\x7f") and not _IN_A_WORD.search(text)


def _decoded(content: bytes, name: str) -> str | None:
    """None for what is no text in that encoding. One letter that is broken, or cut in half at the end, does not make
    another encoding of it, and a stray control character no picture."""
    text = content.decode(name, "replace")
    broken = text.count("\ufffd")
    control = len(_CONTROL.findall(text))
    if broken > 1 + len(text) // 200 or control > len(text) // 20:
        return None
    return _CONTROL.sub("", text) if control else text


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_mostly_utf8(content: bytes) -> bool:
    """It may hold a broken letter, but more whole ones."""
    text = content.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return not broken or sum(1 for letter in text if letter > "\x7f" and letter != "\ufffd") >= 2 * broken


def _wide(content: bytes) -> str | None:
    """UTF-16 without its mark: every second byte of Latin text is zero, and of other scripts those of line ends are."""
    if len(content) < 8 or len(content) % 2:
        return None
    even, odd = (content[start:_SAMPLE:2].count(0) for start in (0, 1))
    most, least, pairs = max(even, odd), min(even, odd), min(len(content), _SAMPLE) // 2
    if most <= 20 * least or most < 0.02 * pairs:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"
