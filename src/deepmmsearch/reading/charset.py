"""Charsets that a page may name."""

from __future__ import annotations

import codecs
import re

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
