"""Bytes as text, in the charsets that a page may name."""

from __future__ import annotations

import codecs
import re

from deepmmsearch.errors import Unreadable

_CHARSET = re.compile(
    r"utf-?(8|16|32)([-_]?[bl]e)?|us-ascii|ascii|(windows|cp)-?\d{3,4}|iso-?(8859|2022)[\w-]{1,12}|latin-?\d{1,2}|l\d"
    r"|koi8-[rtu]|gb(k|2312|18030)|big5([-_]?hkscs)?|euc[-_](jp|kr|cn)|shift[-_]?jis|sjis|ks_c_5601-1987|tis-?620"
    r"|mac-?(roman|cyrillic)|macintosh",
    re.IGNORECASE,
)


def known_charset(name: str) -> str | None:
    """Python's name for a charset of the web, None for any other. Python knows codecs by name that no page may choose:
    some take time that grows with the square of the length."""
    if not _CHARSET.fullmatch(name):
        return None
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None


def decode(content: bytes, charset: str = "", *, guess: bool = False) -> str:
    """As text: by its byte order mark, as UTF-8, in the charset that was declared, or, with `guess`, in the likeliest
    by its letters. Raises Unreadable."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        names: tuple[str | None, ...] = ("utf-16",)
    elif content.isascii() or not _is_utf8(content):
        names = (known_charset(charset), "utf-8-sig")  # ASCII may be an encoding that shifts by escapes
    else:
        names = ("utf-8-sig",)
    for name in filter(None, names):
        try:
            text = content.decode(name, "replace" if guess else "strict")
        except UnicodeError:
            continue
        # one broken letter, or one cut in half, does not make another encoding of it
        if text.count("\ufffd") <= 1 + len(text) // 200 and "\0" not in text:
            return text
    if guess:
        from charset_normalizer import from_bytes

        best = from_bytes(content[:50_000]).best()
        text = content.decode(best.encoding, "replace") if best else "\0"
        if "\0" not in text:
            return text
    raise Unreadable("not text in any encoding known" if guess else "not text in UTF-8 or a declared encoding")


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
