"""Brings the prompt texts of another's checkpoint into the user's folder: from its public repository, or from a copy of
that on this machine."""

from __future__ import annotations

import json
from pathlib import Path

from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.files import replacing
from deepmmsearch.prompt_sources import LARGEST, PromptSource
from deepmmsearch.prompts import ORIGIN, fetched_folder
from deepmmsearch.tools.http import GuardedClient


async def fetch_texts(name: str, source: PromptSource, copy: Path | None = None) -> Path:
    """The folder of the prompt set `name`. `copy`: a checkout of the repository, instead of asking for it.

    Raises UserError for what cannot be had and for a file that is not the one that is known; nothing is kept then.
    """
    paths = dict.fromkeys(file.path for file in source.files.values())
    held = {path: _held(copy, path) for path in paths} if copy is not None else await _asked_for(source, list(paths))
    where = {path: str(copy / path) if copy is not None else source.address(path) for path in paths}
    texts = {key: file.checked(held[file.path], where[file.path]) for key, file in source.files.items()}
    folder = fetched_folder() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    origin = {"repository": source.repository, "commit": source.commit, "licence": source.licence}
    with replacing(folder) as draft:
        draft.mkdir()
        for file, text in source.make(texts).items():
            (draft / file).write_text(text, encoding="utf-8", newline="")
        (draft / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    return folder


def _held(copy: Path, path: str) -> bytes:
    try:
        return (copy / path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{copy / path} cannot be read ({error.strerror or error}). Name the folder of a checkout."
        ) from None


async def _asked_for(source: PromptSource, paths: list[str]) -> dict[str, bytes]:
    found = {}
    async with GuardedClient(allow_hosts=("raw.githubusercontent.com",), max_bytes=LARGEST) as client:
        for path in paths:
            try:
                found[path] = (await client.get(source.address(path))).content
            except ToolError as error:
                raise UserError(
                    f"{source.address(path)} could not be fetched: {error} Name a copy of the repository with --from."
                ) from None
    return found
