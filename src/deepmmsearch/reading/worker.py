"""Pages and documents taken apart in a process of their own: one that hangs its parser costs one timeout."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from operator import index
from typing import TYPE_CHECKING, Any

from deepmmsearch.confined import CONTENT, MEMORY_LIMIT, Worker, serve
from deepmmsearch.errors import Unreadable
from deepmmsearch.reading.declared import canonical
from deepmmsearch.reading.document import Document, Heading, Origin, Showing
from deepmmsearch.reading.file_kinds import KINDS, READERS, file_origin, read
from deepmmsearch.types import Link

if TYPE_CHECKING:
    from deepmmsearch.reading.ocr import TextReader

_CHARSET = re.compile(r"[\w-]{0,40}(, a weak guess)?")
LIBRARIES = ("trafilatura", "pypdfium2", "htmldate")


class Extractor(Worker):
    """`read` in a process of its own. `texts` reads scans; it is closed with this."""

    def __init__(
        self,
        timeout: float = 15.0,
        wall: float | None = None,
        memory: int = MEMORY_LIMIT,
        texts: TextReader | None = None,
    ) -> None:
        super().__init__("deepmmsearch.reading.worker", timeout, wall, memory)
        self.texts = texts

    def close(self) -> None:
        super().close()
        if self.texts is not None:
            self.texts.close()

    def extract(self, path: str, content: bytes) -> Document:
        """A file, by its extension. Raises as `ask` does."""
        return self.read(file_origin(path, content), content)

    def read(self, origin: Origin, content: bytes) -> Document:
        """Raises as `ask` does."""
        try:
            patience = 1 if origin.address else KINDS[origin.kind].patience
            answer = self.ask(vars(origin), content, patience * self.timeout)
        except Unreadable as error:
            from deepmmsearch.reading.pdf import SCAN

            if self.texts is None or not str(error).startswith(SCAN):
                raise
            return self.texts.scan(origin, content)
        try:
            shown = tuple(_showings(answer["pictures"], answer[CONTENT]))
            url, date, language = (
                None if answer[name] is None else _text(answer[name]) for name in ("url", "date", "language")
            )
            # what was taken over by a page must not pass for another site's either
            url = canonical(origin.address, url) if url else None
            headings = tuple(Heading(_text(line), index(level)) for line, level in answer["headings"])
            marks = tuple((index(offset), _text(fragment)) for offset, fragment in answer["marks"])
            title, text, charset, site = (_text(answer[name]) for name in ("title", "text", "charset", "site"))
            if not _CHARSET.fullmatch(charset):  # it is told to the user
                raise ValueError(charset)
            links = tuple(Link(_text(link["text"]), _text(link["url"])) for link in answer["links"])
            return Document(title, text, url, shown, headings, date, language, marks, charset, links, site)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise Unreadable("its extraction failed") from None


def _text(value: Any) -> str:
    """Text that can be written down: a page may hold halves of surrogate pairs."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _showings(pictures: list[Any], contents: bytes) -> Iterator[Showing]:
    at = 0
    for picture in pictures:
        size = index(picture["content"])
        own = contents[at : at + size]
        if size < 0 or len(own) != size:
            raise ValueError(size)
        src, title, snippet, place = (_text(picture[name]) for name in ("src", "title", "snippet", "place"))
        yield Showing(src, title, snippet, float(picture["rank"]), own, place)
        at += size


def _extracted(request: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    document = read(Origin(**{field.name: request[field.name] for field in fields(Origin)}), content)
    pictures = [{**vars(picture), "content": len(picture.content)} for picture in document.pictures]
    contents = b"".join(picture.content for picture in document.pictures)
    links = [vars(link) for link in document.links]
    return {**vars(document), "pictures": pictures, "links": links, CONTENT: contents}


if __name__ == "__main__":
    serve(_extracted, (*LIBRARIES, *READERS))
