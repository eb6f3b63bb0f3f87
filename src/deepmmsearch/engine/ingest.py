"""One file, or one entry of a file that holds many, into documents of the store."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np

from deepmmsearch.engine.backend import BackendWriter
from deepmmsearch.engine.chunks import Chunk, Outline, passages
from deepmmsearch.engine.encoders import ImageEncoder, TextEncoder
from deepmmsearch.engine.linked_pages import keep_links
from deepmmsearch.engine.page_terms import NewPassage
from deepmmsearch.engine.storage import Record, page_number
from deepmmsearch.engine.walk import as_text, file_url
from deepmmsearch.errors import Failed, Unreadable, UserError
from deepmmsearch.reading.collection import Collection
from deepmmsearch.reading.document import Document, Showing
from deepmmsearch.reading.file_kinds import COLLECTIONS, PAGES, PICTURES
from deepmmsearch.reading.titles import readable_name

if TYPE_CHECKING:
    from PIL import Image

    from deepmmsearch.reading.ocr import TextReader

SUFFIXES = frozenset((*PAGES, *PICTURES, *COLLECTIONS))
MAX_BYTES = 64_000_000
MAX_PICTURE_PIXELS = 64_000_000
_FIRST_PAGES = ("index", "readme", "default", "_index")
PICTURE_FOLDERS = ("attachments", "Attachments", "assets", "images", "img", "media", "files", "_resources")


_Part = tuple[str, Chunk]
"""The part of its document that a passage is from, as a fragment of an address, and the passage."""


class _Own(NamedTuple):
    """A picture that a document brings. `row`: None for one that the index knows; `said`: what is written in it."""

    name: str
    sha: str
    row: dict[str, Any] | None
    said: list[Chunk]
    place: str


@dataclass(frozen=True)
class Ingest:
    """How files become documents: `root` is the folder that file ids and urls are relative to. `texts` reads what is
    written in pictures. `links`: where pages lead is kept."""

    root: Path
    passage_size: int = 900
    text_encoder: TextEncoder | None = None
    image_encoder: ImageEncoder | None = None
    texts: TextReader | None = None
    collections: Mapping[str, Collection] = field(default_factory=lambda: COLLECTIONS)
    language: str | None = None
    links: bool = True

    def file_id(self, path: Path) -> str:
        """Relative to the root in POSIX form, or absolute for files outside of it; text, whatever bytes a name has."""
        absolute = path.parent.resolve() / path.name
        try:
            return as_text(absolute.relative_to(self.root).as_posix())
        except ValueError:
            return as_text(absolute.as_posix())

    def add_picture(self, writer: BackendWriter, file: str, content: bytes, sha: str, within: str = "") -> None:
        """A picture in place of what the file held. Raises Unreadable, and then nothing is changed."""
        row = None if writer.knows_picture(sha) else self._described(content)
        said = [("", passage) for passage in self._written(content)]
        if not within:
            writer.remove(file)
        writer.add_picture(file, sha, row, within, readable_name(file))
        self._add_passages(writer, file, file_url(file), Document(readable_name(file), ""), said, within)

    def _described(self, content: bytes) -> dict[str, Any]:
        from deepmmsearch.engine import descriptors, image  # which a folder of pages does without

        # all of it crosses from the process that decodes only where an encoder is to see it
        picture = decoded(content, 0 if self.image_encoder is not None else descriptors.SIDE)
        with descriptors.one_thread():
            embedding = self.image_encoder.encode([picture])[0] if self.image_encoder is not None else None
            return image.picture_row(descriptors.pixels(picture), embedding)

    def _written(self, content: bytes) -> list[Chunk]:
        """What is written in a picture, where that is to be read."""
        return passages(self.texts.picture(decoded(content)), self.passage_size) if self.texts is not None else []

    def add_page(self, writer: BackendWriter, file: str, document: Document, within: str = "", url: str = "") -> None:
        """A page in place of what the file held. `within`: the collection whose entry it is, which holds no such one
        yet; `url`: what the collection says its address is, which counts if it is one of the web."""
        url = url if url.startswith(("https://", "http://")) else document.url or file_url(file)
        outline = Outline(document.headings)
        # a passage is of one part, so that it can be cited
        found = [
            (place, passage)
            for place, text in _parts(document)
            for passage in passages(text, self.passage_size, outline)
        ]
        shown = [(showing, self._targets(file, showing, within)) for showing in document.pictures]
        own = list(self._own_pictures(writer, file, document))
        if not within:
            writer.remove(file)
        found += [(picture.place, passage) for picture in own for passage in picture.said]
        self._add_passages(writer, file, url, document, found, within)
        if found and self.links:
            keep_links(writer, file, document.links, within)
        for picture in own:
            writer.add_picture(picture.name, picture.sha, picture.row, within or file)
        for showing, targets in shown:
            for target in targets:
                content = {
                    "url": cited(url, showing.place),
                    "page": document.title,
                    "title": showing.title,
                    "snippet": showing.snippet,
                    "rank": showing.rank,
                    "target": target,
                }
                ref, beside = f"mention:{target}", f"{showing.title} {showing.snippet} {document.title}"
                writer.add("mention", file, content, ref=ref, url=url, within=within, caption=beside)

    def _own_pictures(self, writer: BackendWriter, file: str, document: Document) -> Iterator[_Own]:
        """The pictures that the file holds."""
        rows: dict[str, dict[str, Any] | None] = {}
        for showing in document.pictures:
            if showing.content:
                sha = hashlib.sha256(showing.content).hexdigest()
                try:
                    if sha not in rows:
                        rows[sha] = None if writer.knows_picture(sha) else self._described(showing.content)
                    said = self._written(showing.content)
                except Unreadable:  # one in a form that is not read: the page is
                    continue
                yield _Own(_name_within(file, showing), sha, rows[sha], said, showing.place)

    def _add_passages(
        self, writer: BackendWriter, file: str, url: str, document: Document, found: list[_Part], within: str
    ) -> None:
        rows = self._add_vectors(writer, file, document.title, [passage for _, passage in found])
        texts = [
            NewPassage(passage.text, row, place, passage.path)
            for (place, passage), row in zip(found, rows, strict=True)
        ]
        spoken = self.language or document.language
        names = f"{document.site} {_called(file[len(within) + 1 :] if within else file)}"
        writer.add_page(file, url, document.title, texts, spoken, document.date, within, names)

    def _add_vectors(self, writer: BackendWriter, file: str, title: str, found: list[Chunk]) -> list[int | None]:
        """The row of each passage: one vector per part, each below the page's title and its heading."""
        if self.text_encoder is None or not found:
            return [None] * len(found)
        parts = [part for passage in found for part in passage.parts]
        flat = self.text_encoder.encode_document(
            [part if part.startswith(title) else f"{title}. {part}" for part in parts]
        )
        owned = np.split(flat.astype(np.float16), np.cumsum([len(passage.parts) for passage in found])[:-1])
        page = np.uint64(page_number(file))
        return [writer.add_row("vectors", {"vector": [vectors], "page": page}) for vectors in owned]

    def _targets(self, file: str, showing: Showing, within: str) -> list[str]:
        """The file ids that a picture's address in a page may mean; a mention of no indexed file is never shown."""
        if showing.content:
            return [_name_within(file, showing)]
        try:
            address = urlsplit(showing.src)
        except ValueError:  # https://[ and the like
            return []
        path = unquote(address.path)
        if within and address.netloc:  # an archive of the web names its entries so
            return [f"{within}#{address.netloc}{path}{'?' if address.query else ''}{address.query}"]
        if address.scheme not in ("", "file") or (address.netloc and address.scheme != "file"):
            return []
        if within and path.startswith("/"):  # of the site, or of the archive
            site = file.removeprefix(f"{within}#").partition("/")[0]
            return [f"{within}#{site}{_normal(PurePosixPath(path))}", f"{within}#{_normal(PurePosixPath(path))[1:]}"]
        if within:
            name = PurePosixPath("/", file.removeprefix(f"{within}#")).parent / path
            return [f"{within}#{_normal(name).lstrip('/')}"]
        folder = PurePosixPath(file).parent
        if not path.startswith("/"):
            beside = _normal(folder / path)
            return [beside if "/" in path or _is_file(self.root / beside) else self._kept(folder, path) or beside]
        # an absolute path is relative to the site's root, which may be any folder above the page
        bases = [folder, *folder.parents]
        candidates = [_normal(base / path.lstrip("/")) for base in bases] + [path]
        return [c for c in candidates if _is_file(self.root / c)][:1]

    def _kept(self, folder: PurePosixPath, name: str) -> str | None:
        """A picture that notes call by its name alone, which lies where their programs keep pictures."""
        places = (base / kept / name for base in (folder, *folder.parents) for kept in ("", *PICTURE_FOLDERS))
        return next((_normal(place) for place in places if _is_file(self.root / place)), None)


def _parts(document: Document) -> Iterator[tuple[str, str]]:
    """(fragment, text) of the parts of a document that are cited by themselves, or all of it with no fragment."""
    marks = document.marks if document.marks and document.marks[0][0] == 0 else ((0, ""), *document.marks)
    for (start, place), (end, _) in pairwise((*marks, (len(document.text), ""))):
        yield place, document.text[start:end]


def _name_within(file: str, showing: Showing) -> str:
    return f"{file}#{showing.src}"


def cited(url: str, place: str) -> str:
    """The address of a part of a page."""
    return f"{url}#{place}" if place and "#" not in url else url


def _called(file: str) -> str:
    """The words of its name that say something: a number alone numbers pages, and `index.html` is called as its folder
    is."""
    path = PurePosixPath(file)
    name = path.parent.name if path.stem.lower() in _FIRST_PAGES else path.stem
    return readable_name(f"{name}.") if re.search(r"[^\W\d_]{2}", name) else ""


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _normal(path: PurePosixPath) -> str:
    return PurePosixPath(os.path.normpath(path)).as_posix()


def decoded(content: bytes, side: int = 0) -> Image.Image:
    """Upright RGB, within the caps of `images` and ours; with `side`, reduced to that. Raises Unreadable."""
    from deepmmsearch import images

    if not content:
        raise Unreadable("empty file")
    try:
        return images.load(content, max_pixels=MAX_PICTURE_PIXELS, side=side)
    except Failed:
        raise
    except UserError as error:
        slow = "a picture that takes too long to decode"
        reasons = {
            "too large": f"of more than {MAX_PICTURE_PIXELS // 1_000_000} megapixels",
            "too long": slow,
            "took more": slow,
            "needs the extra": str(error),
        }
        reason = next((reason for words, reason in reasons.items() if words in str(error)), "a damaged picture")
        raise Unreadable(reason) from None


def caption(mentions: list[Record], files: list[str]) -> tuple[str, str, str, str]:
    """(title, snippet, url, file that says so) of a picture: the best mention's, else its own file's readable name."""
    best = max(mentions, key=lambda m: float(m.content["rank"]), default=None)
    file = min(files, key=lambda f: (len(f), f))
    if best is None:
        return readable_name(file), "", file_url(file), file
    content = best.content
    title = content["title"] or readable_name(file)
    page = content["page"]
    snippet = content["snippet"]
    return title, snippet or (page if page != title else ""), content["url"], best.file
