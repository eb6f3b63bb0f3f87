"""What hits have to say at length: their own text where that is long enough, else their page's.

Pages fail all the time. Where more hits were found than are wanted, the next ones are tried in their place, in order of
rank, until enough have a text or the list ends (MMSearch-R1 does so); why each failed is kept in its `Call`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from deepmmsearch.agent.metering import BudgetSpent, using
from deepmmsearch.agent.protocols import PageReader
from deepmmsearch.errors import ToolError
from deepmmsearch.types import Hit


@dataclass(frozen=True)
class Passage:
    """A hit with the text to summarise; `read` is false where its page failed and its snippet has to do."""

    hit: Hit
    text: str
    read: bool = True


async def read_passages(hits: Sequence[Hit], reader: PageReader | None, wanted: int, enough: int) -> list[Passage]:
    """At most `wanted` passages in order of rank. `enough`: characters from which a snippet speaks for its page. Where
    too few pages can be read, the best of the hits that failed fill up with their snippets."""
    found: dict[int, Passage] = {}
    tried = 0
    while tried < len(hits) and (missing := wanted - sum(p.read for p in found.values())) > 0:
        batch = range(tried, min(tried + missing, len(hits)))
        passages = await asyncio.gather(*(_passage(hits[n], reader, enough) for n in batch))
        found |= dict(zip(batch, passages, strict=True))
        tried = batch.stop
    failed = [n for n, p in found.items() if not p.read]
    surplus = failed[wanted - len(found) :] if len(found) > wanted else []
    return [p for n, p in found.items() if n not in surplus]


async def _passage(hit: Hit, reader: PageReader | None, enough: int) -> Passage:
    if reader is None or not hit.url or len(hit.snippet) >= enough:
        return Passage(hit, hit.snippet)
    try:
        with using("reader", reader):
            text = (await reader.read(hit.url)).text
    except ToolError as error:
        # without a budget the others fail as well: there is nothing to go on to
        return Passage(hit, hit.snippet, read=isinstance(error, BudgetSpent))
    return Passage(hit, text or hit.snippet, read=bool(text))
