"""The local engine: text and pictures of one's own index, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL.Image import Image

from deepmmsearch.types import Hit


class Local:
    """Text and image search over an index of one's own, offline.

    `index`: the folder or address that `deepmmsearch index build` was given. `encoders`: models that it may name for
    its vectors, besides the usual ones.
    """

    name = "local"
    kinds = ("text", "image")
    extra = "engine"
    module = "tantivy"

    def __init__(self, index: str | Path, encoders: Sequence[str] = ()) -> None:
        from deepmmsearch.engine import Index
        from deepmmsearch.tools.index_tools import LocalImageSearch, LocalTextSearch

        opened = Index.open(index, encoders)
        opened.check_encoders()
        self._text, self._image = LocalTextSearch(opened), LocalImageSearch(opened)

    async def search(self, wanted: str | Image, k: int) -> list[Hit]:
        if isinstance(wanted, str):
            return await self._text.search(wanted, k)
        return await self._image.search(wanted, k)
