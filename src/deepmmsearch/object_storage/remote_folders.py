"""A folder in object storage: objects that are never changed, and a manifest that is put last and names them.

Object storage knows no rename and no appending. So a file that only grows (JSON lines) is several objects, one for what
came at a time; what replaces a file is a new object, and the former one goes once the manifest names the new one. What
the manifest does not name does not exist; it is itself one object, replaced whole.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from deepmmsearch.errors import Failed, UserError
from deepmmsearch.files import replacing
from deepmmsearch.notation import parse_json
from deepmmsearch.object_storage.filesystems import filesystem, inner_path, speaking

MANIFEST = "deepmmsearch-manifest.json"
_VERSION = 1
_CHUNK = 1 << 20
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class FilePiece:
    """Of a file, in the object of this name."""

    object: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """`files`: by their paths, the pieces of each in order. `id`: of this state of the folder."""

    files: Mapping[str, tuple[FilePiece, ...]] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def at(self, within: str) -> Mapping[str, tuple[FilePiece, ...]]:
        """The files at a path in the folder and below it; all where it is empty."""
        if not within:
            return self.files
        return {n: pieces for n, pieces in self.files.items() if n == within or n.startswith(f"{within}/")}


class RemoteFolder:
    """Raises MissingExtra, UserError, Failed where nothing answers."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.fs, self.path = filesystem(address)

    def manifest(self) -> Manifest | None:
        """None where there is none."""
        with speaking(self.address):
            try:
                raw = self.fs.cat_file(f"{self.path}/{MANIFEST}")
            except (FileNotFoundError, NotADirectoryError):
                return None
        try:
            found = parse_json(raw.decode("utf-8"))
            if found["version"] > _VERSION:
                raise UserError(f"A newer version of deepmmsearch made {self.address}. Update.")
            files = {
                name: tuple(FilePiece(str(p["object"]), int(p["size"]), str(p["sha256"])) for p in pieces)
                for name, pieces in found["files"].items()
            }
            if any(p.size < 0 or not _SHA256.fullmatch(p.sha256) for pieces in files.values() for p in pieces):
                raise ValueError
            return Manifest(files, str(found["id"]))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            raise UserError(f"{self.address}/{MANIFEST} cannot be read. Another program wrote it.") from None

    def commit(self, manifest: Manifest) -> None:
        """From now on the folder is that."""
        files = {name: [asdict(piece) for piece in pieces] for name, pieces in sorted(manifest.files.items())}
        self.put(MANIFEST, json.dumps({"version": _VERSION, "id": manifest.id, "files": files}, indent=1).encode())

    def put(self, name: str, data: bytes | Path) -> None:
        """An object, whole: bytes, or what is in a file."""
        place = self._place(name)
        with speaking(self.address):
            if "file" in _protocols(self.fs):
                with replacing(Path(place), durable=True) as draft:
                    draft.write_bytes(data) if isinstance(data, bytes) else shutil.copyfile(data, draft)
            elif isinstance(data, bytes):
                self.fs.pipe_file(place, data)
            else:
                self.fs.put_file(str(data), place)

    def remove(self, names: Iterable[str]) -> None:
        """Objects; none of them where one is not in the folder."""
        places = [self._place(name) for name in names]
        with speaking(self.address):
            for place in places:
                self.fs.rm_file(place)

    def holds_anything(self) -> bool:
        with speaking(self.address):
            return bool(self.fs.exists(self.path))

    def lies_in(self, folder: Path) -> bool:
        """On this machine, in that folder."""
        return "file" in _protocols(self.fs) and Path(self.path).resolve().is_relative_to(folder.resolve())

    def fetch(self, manifest: Manifest, name: str, place: Path) -> None:
        """Writes a file of the folder to `place`, whole, once it is what the manifest says."""
        with replacing(place, private=True) as draft, draft.open("wb") as file:
            for piece in manifest.files[name]:
                found = hashlib.sha256()
                for data in self._read(piece):
                    found.update(data)
                    file.write(data)
                if found.hexdigest() != piece.sha256:
                    raise Failed(
                        f"{self.address}/{name} is being changed, or is damaged: {piece.object} does not hold what the "
                        "manifest says. Run again."
                    )

    def _read(self, piece: FilePiece) -> Iterator[bytes]:
        with speaking(self.address), self.fs.open(self._place(piece.object), "rb") as source:
            while data := source.read(_CHUNK):
                yield data

    def _place(self, name: str) -> str:
        """Raises UserError for what is not in the folder, through a link neither."""
        place = f"{self.path}/{inner_path(name).as_posix()}"
        if "file" in _protocols(self.fs) and not Path(place).parent.resolve().is_relative_to(Path(self.path).resolve()):
            raise UserError(f"{self.address}/{name} leads out of that folder through a link. Remove the link.")
        return place


def digest_of_file(path: Path, first: int = 0, size: int | None = None) -> str:
    """sha256 of `size` bytes from `first` on, of all where it is None."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(first)
        left = path.stat().st_size - first if size is None else size
        while left > 0 and (data := file.read(min(left, _CHUNK))):
            found.update(data)
            left -= len(data)
    return found.hexdigest()


def object_name(path: str, sha256: str, taken: bool) -> str:
    """Its own, or where something else bears that, one that its content tells."""
    if not taken:
        return path
    pure = PurePosixPath(path)
    return str(pure.with_name(f"{pure.stem}.{sha256[:16]}{pure.suffix}"))


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
