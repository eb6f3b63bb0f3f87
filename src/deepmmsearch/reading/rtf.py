"""Rich Text Format."""

from __future__ import annotations

import re

from deepmmsearch.errors import MissingExtra, Unreadable
from deepmmsearch.reading.composition import Composition, given_title
from deepmmsearch.reading.document import Document, Origin, clean

_TITLE = re.compile(r"\{\\title ([^{}\\]{1,300})\}")


def from_rtf(origin: Origin, content: bytes) -> Document:
    """Raises Unreadable, MissingExtra."""
    try:
        from striprtf.striprtf import rtf_to_text
    except ImportError:
        raise MissingExtra("Reading RTF files", "documents") from None
    if not content.lstrip()[:5].startswith(b"{\\rt"):
        raise Unreadable("not an RTF file")
    written = content.decode("latin-1")
    try:
        found = rtf_to_text(written, encoding="cp1252", errors="ignore")
    except Exception:  # it raises nearly anything over a damaged file
        raise Unreadable("a damaged RTF file") from None
    # letters beyond the first 65,536 come as two halves
    found = found.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "")
    text = Composition(origin.longest)
    for line in found.split("\n"):
        text.add(clean(line.replace("|", " | ")) if line.endswith("|") else clean(line))
    named = _TITLE.search(written[:20_000])
    return text.document((given_title(named[1]) if named else "") or text.first_line or origin.name)
