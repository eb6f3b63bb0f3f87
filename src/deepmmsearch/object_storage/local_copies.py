"""What lies in object storage, read through a copy on this machine's disk that is renewed where it changed there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deepmmsearch.errors import UserError
from deepmmsearch.files import locked, make_folder, replacing, write_json
from deepmmsearch.object_storage.filesystems import address_of, filesystem, inner_path, speaking
from deepmmsearch.object_storage.remote_folders import MANIFEST, Manifest, RemoteFolder, object_name

_STATE = ".state.json"
_ABOVE = 3
"""So many folders above an address may hold the manifest that it belongs to."""


def local_copy(place: str | Path) -> Path:
    """The place itself where it is on this machine, else a copy of the file or folder there.

    Raises MissingExtra, UserError where there is nothing, Failed where nothing answers.
    """
    address = address_of(place)
    if address is None:
        return Path(place)
    found = _manifest_over(address)
    return _copy_plain(address) if found is None else _copy_within(*found)


def matching(place: str | Path) -> list[str | Path]:
    """The folders with a manifest whose addresses match one with `*` in it; else the place alone."""
    address = address_of(place)
    if address is None or "*" not in address:
        return [place]
    fs, path = filesystem(address)
    with speaking(address):
        found = sorted(fs.glob(f"{path}/{MANIFEST}"))
    if not found:
        raise UserError(f"No folder that was put up matches {address}. Check the address.")
    return [fs.unstrip_protocol(name.removesuffix(f"/{MANIFEST}")) for name in found]


def copies() -> Path:
    """The folder of the copies, which may be removed at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "deepmmsearch" / "object-storage"


def _manifest_over(address: str) -> tuple[RemoteFolder, Manifest, str] | None:
    """The folder that the address is or lies in, and where in it; None where no manifest tells.

    A manifest above tells of what was put up with it alone: of files that consist of objects beside their own names.
    All else at the address is somebody else's, and so is what another manifest would have read in its place.
    """
    scheme, _, rest = address.partition("://")
    parts = rest.split("/")
    for above in range(min(_ABOVE + 1, len(parts) - 1 if scheme in ("s3", "gs", "gcs") else len(parts))):
        folder = RemoteFolder(f"{scheme}://{'/'.join(parts[: len(parts) - above])}")
        if (manifest := folder.manifest()) is not None:
            within = "/".join(parts[len(parts) - above :])
            return (folder, manifest, within) if not within or _put_up_with(manifest, within) else None
    return None


def _put_up_with(manifest: Manifest, within: str) -> bool:
    files = manifest.at(within)
    return bool(files) and all(
        piece.object == name or (Path(name).name and piece.object == object_name(name, piece.sha256, True))
        for name, pieces in files.items()
        for piece in pieces
    )


def _copy_within(folder: RemoteFolder, manifest: Manifest, within: str) -> Path:
    wanted = {name: "".join(piece.sha256 for piece in pieces) for name, pieces in manifest.at(within).items()}
    if not wanted:
        raise _nothing_at(folder.address)
    with _place_of(folder.address) as home:
        _renew(home, wanted, lambda name, place: folder.fetch(manifest, name, place), within)
        return home / within if within else home


def _copy_plain(address: str) -> Path:
    """Of what another program put there: a file, or all files below."""
    fs, path = filesystem(address)
    with speaking(address):
        if alone := fs.isfile(path):
            found = {path.rpartition("/")[2]: fs.info(path)}
            path = path.rpartition("/")[0]
        else:
            found = {name.removeprefix(f"{path}/"): info for name, info in fs.find(path, detail=True).items()}
    found = {name: info for name, info in found.items() if not any(part[:1] == "." for part in name.split("/"))}
    if not found:
        raise _nothing_at(address)
    wanted = {name: hashlib.sha256(str(info).encode()).hexdigest() for name, info in found.items()}

    def fetch(name: str, place: Path) -> None:
        with replacing(place, private=True) as draft, speaking(address):
            fs.get_file(f"{path}/{name}", str(draft))

    with _place_of(address) as home:
        _renew(home.parent if alone else home, wanted, fetch)
        return home


def _nothing_at(address: str) -> UserError:
    return UserError(f"There is nothing at {address} yet. Check the address, or wait for what writes there.")


@contextmanager
def _place_of(address: str) -> Iterator[Path]:
    """Where its copy lies, for this process alone."""
    home = copies() / hashlib.sha256(address.encode()).hexdigest()[:16]
    make_folder(copies(), private=True)
    with locked(home / ".lock", private=True):
        yield home / inner_path(address.rpartition("/")[2])


def _renew(home: Path, wanted: Mapping[str, str], fetch: Callable[[str, Path], None], within: str = "") -> None:
    """Fetches what is missing or another one by what `wanted` tells of it, and removes what is there no more."""
    state = home / _STATE
    known: dict[str, str] = {}
    if state.is_file():
        known = json.loads(state.read_text(encoding="utf-8"))
    gone = [name for name in known if name not in wanted and (not within or name.startswith(f"{within}/"))]
    for name in gone:
        (home / inner_path(name)).unlink(missing_ok=True)
        del known[name]
    try:
        for name, told in wanted.items():
            place = home / inner_path(name)
            if known.get(name) != told or not place.is_file():
                fetch(name, place)
                known[name] = told
    finally:
        write_json(state, known, private=True)
