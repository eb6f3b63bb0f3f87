"""Files into the store: what is new or changed is read, what vanished is removed, what cannot be read is counted.

Committed in batches, so an interrupted build keeps what it has done and goes on from there.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

import numpy as np
from PIL import Image

from deepmmsearch import images
from deepmmsearch.engine import descriptors, image
from deepmmsearch.engine.chunks import Chunk, passages
from deepmmsearch.engine.encoders import ImageEncoder, TextEncoder
from deepmmsearch.engine.storage import Record, page_number
from deepmmsearch.engine.writer import Writer
from deepmmsearch.errors import Failed, Unreadable, UserError
from deepmmsearch.files import lies_in
from deepmmsearch.progress import Watch, silent, tracked
from deepmmsearch.reading.document import Document, Showing
from deepmmsearch.reading.file_kinds import PAGES, PICTURES
from deepmmsearch.reading.formats import readable_name
from deepmmsearch.reading.worker import Extractor

BATCH = 2_000  # documents, about one per passage
PICTURE_BATCH = 256
MAX_BYTES = 64_000_000
MAX_PICTURE_PIXELS = 64_000_000


@dataclass
class Report:
    """What a build did; `skipped` maps a reason to the files it held for."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, file: str, reason: str) -> None:
        self.skipped.setdefault(reason, []).append(as_text(file))

    @property
    def sentence(self) -> str:
        parts = [
            f"{self.added} added",
            f"{self.changed} changed",
            f"{self.unchanged} unchanged",
            f"{self.removed} removed",
        ]
        skipped = sum(map(len, self.skipped.values()))
        reasons = ", ".join(f"{len(files)} {reason}" for reason, files in sorted(self.skipped.items()))
        return ", ".join(parts) + (f", {skipped} skipped ({reasons})." if skipped else ".")


@dataclass(frozen=True)
class Ingest:
    """How files become documents: `root` is the folder that file ids and urls are relative to."""

    root: Path
    passage_size: int = 900
    text_encoder: TextEncoder | None = None
    image_encoder: ImageEncoder | None = None
    timeout: float = 15.0

    def file_id(self, path: Path) -> str:
        """Relative to the root in POSIX form, or absolute for files outside of it; text, whatever bytes a name has."""
        absolute = path.parent.resolve() / path.name
        try:
            return as_text(absolute.relative_to(self.root).as_posix())
        except ValueError:
            return as_text(absolute.as_posix())

    def run(self, writer: Writer, files: Iterable[Path], watch: Watch = silent) -> Report:
        """Adds or replaces the files. Anything wrong with one file skips that file; UserError for what concerns all."""
        report = Report()
        known = {record.file: record for record in writer.snapshot.find("kind", "file")}
        listed = sorted({self.file_id(path): path for path in files}.items())
        pictures = 0
        with Extractor(self.timeout) as extractor:
            for file, path in tracked(listed, "Indexing", len(listed), watch):
                pictures += self._one(writer, extractor, file, path, known.get(file), report)
                if writer.pending >= BATCH or pictures >= PICTURE_BATCH:
                    writer.commit()
                    pictures = 0
        writer.commit()
        return report

    def _one(
        self, writer: Writer, extractor: Extractor, file: str, path: Path, known: Record | None, report: Report
    ) -> bool:
        """Returns whether a picture was described (the slow kind)."""
        suffix = path.suffix.lower()
        described = False
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                raise Unreadable("not an ordinary file")
            stamp = [status.st_size, status.st_mtime_ns]
            if known is not None and known.content["stamp"] == stamp:
                report.unchanged += 1
                return False
            content, sha = _read(path, status.st_size)
            if known is not None and known.content["sha"] == sha:  # touched, not changed
                report.unchanged += 1
                return False
            writer.remove(file)
            if suffix in PICTURES:
                described = self._picture(writer, file, content, sha)
            else:
                self._page(writer, file, extractor.extract(file, content))
            writer.add("file", file, {"stamp": stamp, "sha": sha})
            report.added += known is None
            report.changed += known is not None
        except Unreadable as error:
            report.skip(file, str(error))
            writer.remove(file)
        except OSError as error:
            report.skip(file, (error.strerror or "cannot be read").lower())
            writer.remove(file)
        except UserError:
            raise
        except Exception as error:  # whatever a file can bring about: it costs that file, and no other
            report.skip(file, f"not readable ({type(error).__name__})")
            writer.remove(file)
        return described

    def _picture(self, writer: Writer, file: str, content: bytes, sha: str) -> bool:
        if writer.knows_picture(sha):
            writer.add_picture(file, sha, None)
            return False
        # all of it crosses from the process that decodes only where an encoder is to see it
        picture = decoded(content, 0 if self.image_encoder is not None else descriptors.SIDE)
        with descriptors.one_thread():
            embedding = self.image_encoder.encode([picture])[0] if self.image_encoder is not None else None
            row = image.picture_row(descriptors.pixels(picture), embedding)
        writer.add_picture(file, sha, row)
        return True

    def _page(self, writer: Writer, file: str, document: Document) -> None:
        url = document.url or file_url(file)
        found = passages(document.text, self.passage_size, frozenset(document.headings))
        shown = [(showing, self._targets(file, showing)) for showing in document.pictures]
        rows = self._add_vectors(writer, file, document.title, found)
        for position, (passage, row) in enumerate(zip(found, rows, strict=True)):
            text = passage.text
            writer.add("passage", file, {}, url=url, title=document.title, body=text, position=position, row=row)
        for showing, targets in shown:
            for target in targets:
                content = {
                    "url": url,
                    "page": document.title,
                    "title": showing.title,
                    "snippet": showing.snippet,
                    "rank": showing.rank,
                }
                writer.add("mention", file, content, ref=f"mention:{target}", url=url)

    def _add_vectors(self, writer: Writer, file: str, title: str, found: list[Chunk]) -> list[int | None]:
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

    def _targets(self, file: str, showing: Showing) -> list[str]:
        """The file ids that a picture's address in a page may mean; a mention of no indexed file is never shown."""
        try:
            address = urlsplit(showing.src)
        except ValueError:  # https://[ and the like
            return []
        if address.scheme not in ("", "file") or (address.netloc and address.scheme != "file"):
            return []
        path = unquote(address.path)
        folder = PurePosixPath(file).parent
        if not path.startswith("/"):
            return [_normal(folder / path)]
        # an absolute path is relative to the site's root, which may be any folder above the page
        bases = [folder, *folder.parents]
        candidates = [_normal(base / path.lstrip("/")) for base in bases] + [path]
        return [c for c in candidates if _is_file(self.root / c)][:1]


def as_text(name: str) -> str:
    """A file's name with each byte that is not UTF-8 written out: `caf\\xe9.md`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _exists(link: Path) -> bool:
    try:
        return link.exists()
    except OSError:  # a link to itself
        return False


def _normal(path: PurePosixPath) -> str:
    return PurePosixPath(os.path.normpath(path)).as_posix()


def file_url(file: str) -> str:
    """A file's own address: relative to the indexed folder, or a file URL for one outside of it."""
    return Path(file).as_uri() if PurePosixPath(file).is_absolute() else quote(file)


def url_file(url: str) -> str:
    """The inverse of `file_url`."""
    return unquote(url.removeprefix("file://"))


def _read(path: Path, size: int) -> tuple[bytes, str]:
    """The content and its hash."""
    if size > MAX_BYTES:
        raise Unreadable(f"larger than {MAX_BYTES // 1_000_000} MB")
    content = path.read_bytes()
    return content, hashlib.sha256(content).hexdigest()


def decoded(content: bytes, side: int = 0) -> Image.Image:
    """Upright RGB, within the caps of `images` and ours; with `side`, reduced to that. Raises Unreadable."""
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
        }
        reason = next((reason for words, reason in reasons.items() if words in str(error)), "a damaged picture")
        raise Unreadable(reason) from None


def walk(folder: Path, index: Path | None, report: Report) -> Iterator[Path]:
    """The files of a folder that can be indexed, hidden ones and the index itself left out. Others are counted, and so
    are links that lead out of the folder, links to folders, and folders that cannot be read."""
    root = folder.resolve()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            report.skip(_below(here, folder), f"a folder: {(error.strerror or 'cannot be read').lower()}")
            continue
        folders = []
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith(".") or path == index:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif entry.is_symlink() and (why := _refused_link(path, root)):
                report.skip(_below(path, folder), why)
            elif path.suffix.lower() in (*PAGES, *PICTURES):
                yield path
            else:
                report.skip(entry.name, "of a kind that is not indexed")
        waiting += reversed(folders)


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _refused_link(link: Path, root: Path) -> str | None:
    """Why a link is not followed. What a folder's maker links to is on the disk of whoever indexes it."""
    if not _exists(link):
        return "a link to nothing"
    if not lies_in(link, root):
        return "a link out of the folder"
    return "a link to a folder" if link.is_dir() else None


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
