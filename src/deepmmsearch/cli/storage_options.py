"""Object storage on the command line: `--out ADDRESS`, and addresses where a file or folder is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmmsearch.errors import UserError
from deepmmsearch.progress import Watch, silent

if TYPE_CHECKING:
    from deepmmsearch.outputs import RunPart

out_option = click.option(
    "--out",
    metavar="ADDRESS",
    help="Put the run up there too while it goes on, and go on from there: s3://bucket/run, gs://, hf://.",
)


class ReadPlace(click.Path):
    """A file or folder; of an address in object storage, its copy on this machine."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from deepmmsearch.object_storage.local_copies import local_copy

        return local_copy(str(super().convert(value, param, ctx)))


READ = ReadPlace()


def working_copy(
    folder: Path, out: str | None, part: RunPart | None, watch: Watch = silent
) -> AbstractContextManager[object]:
    """Puts `folder` up to `out`, a part's to an address of its own. Raises UserError for what is not an address."""
    if out is None:
        return nullcontext()
    from deepmmsearch.object_storage.filesystems import address_of
    from deepmmsearch.object_storage.working_copy import WorkingCopy

    address = address_of(out if part is None else part.folder(Path(out)))
    if address is None:
        raise UserError(
            f"--out {out} is not an address in object storage, such as s3://bucket/run. For a folder of this machine "
            "give output=FOLDER."
        )
    return WorkingCopy(folder, address, watch)


def folders(places: Iterable[Path]) -> list[Path]:
    """Of folders and addresses, in which a * stands for any name."""
    from deepmmsearch.object_storage.local_copies import local_copy, matching

    return [local_copy(found) for place in places for found in matching(place)]


@contextmanager
def written_to(out: Path) -> Iterator[Path]:
    """Where to write what is to stand at `out`, which may be an address: there it stands once the block has ended."""
    from tempfile import TemporaryDirectory

    from deepmmsearch.object_storage.filesystems import address_of
    from deepmmsearch.object_storage.working_copy import put_new, refuse_taken

    if (address := address_of(out)) is None:
        yield out
        return
    refuse_taken(address)
    with TemporaryDirectory() as folder:
        yield (place := Path(folder) / out.name)
        put_new(place, address)
