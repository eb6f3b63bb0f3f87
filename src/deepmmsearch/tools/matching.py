"""Do the hits of an image search show what was searched for? Told by their pictures, or by the provider's rank.

The paper (DeepMMSearch-R1, section 3.1) takes every hit for the thing that was searched; reviewers asked for a check.
A search that marks its hits itself (the local index does) is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL.Image import Image

from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.tools.threads import ToolThreads
from deepmmsearch.types import Hit

if TYPE_CHECKING:
    from deepmmsearch.engine.encoders import ImageEncoder

Compare = Callable[[Image, Sequence[Image]], Sequence[bool]]
"""Which of the pictures show what the first one shows."""

# A look-alike agrees, too, but less than the thing itself where both were found.
BEHIND = 0.15
COSINE = 0.8


class PictureMatcher:
    """Matcher: compares the picture of a hit; the first `ranks` hits of the list match by rank if they have none."""

    def __init__(self, compare: Compare, ranks: int = 1) -> None:
        self._compare, self._ranks = compare, ranks
        self._threads = ToolThreads("matcher")

    async def match(self, image: Image, hits: Sequence[Hit]) -> list[Hit]:
        pictures = {rank: h.image for rank, h in enumerate(hits, 1) if h.matched is None and h.image is not None}
        agree: dict[int, bool] = {}
        if pictures:
            try:
                found = await self._threads.run(self._compare, image, list(pictures.values()))
            # whatever a library for pictures raises for an odd one
            except Exception as error:
                raise ToolError(f"The hits could not be compared with the picture: {error}") from error
            agree = dict(zip(pictures, found, strict=True))
        return [_marked(hit, rank, agree.get(rank), self._ranks) for rank, hit in enumerate(hits, 1)]


class RankMatcher:
    """Matcher: the first `ranks` hits match, whatever they show; for searches whose hits have no pictures."""

    def __init__(self, ranks: int = 1) -> None:
        self._ranks = ranks

    async def match(self, image: Image, hits: Sequence[Hit]) -> list[Hit]:
        return [_marked(hit, rank, None, self._ranks) for rank, hit in enumerate(hits, 1)]


def _marked(hit: Hit, rank: int, agrees: bool | None, ranks: int) -> Hit:
    if hit.matched is not None:
        return hit
    if agrees is not None:
        return replace(hit, matched=agrees, matched_by="picture")
    return replace(hit, matched=rank <= ranks, matched_by="rank")


def same_subject(image: Image, pictures: Sequence[Image]) -> list[bool]:
    """By the engine's descriptors and alignment: the same picture, or one within the other, recompressed, resized,
    cropped or lit otherwise; not another photograph of the same thing. About 0.3 s of processor time per picture.

    Raises MissingExtra without the engine.
    """
    from deepmmsearch.engine.image import compare

    agreements = []
    for picture in pictures:
        there = compare(image, picture)
        # a hit is often the larger scene: what was searched for is then a part of it
        back = None if there.matched else compare(picture, image)
        agreements.append(max(m.agreement if m.matched else 0.0 for m in (there, back) if m is not None))
    best = max(agreements, default=0.0)
    return [a > 0 and a >= best - BEHIND for a in agreements]


class SameByEncoder:
    """By cosine similarity of a neural encoder, which also knows other photographs of the same thing. `threshold`
    depends on the encoder: measure it on pairs of your own."""

    def __init__(self, encoder: ImageEncoder, threshold: float = COSINE) -> None:
        if not -1 <= threshold <= 1:
            raise UserError(f"A cosine lies between -1 and 1, not at {threshold}. Set the matcher's threshold there.")
        self._encoder, self._threshold = encoder, threshold

    def __call__(self, image: Image, pictures: Sequence[Image]) -> list[bool]:
        vectors = self._encoder.encode([image, *pictures])
        return [bool(cosine >= self._threshold) for cosine in np.asarray(vectors[1:] @ vectors[0])]
