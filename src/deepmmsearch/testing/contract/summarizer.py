"""What holds for every summarizer of passages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from deepmmsearch.agent.protocols import Summarizer
from deepmmsearch.testing import HOSTILE_TEXTS
from deepmmsearch.testing.contract.checks import Check

QUESTION, QUERY = "What is the capital of the country with this flag?", "capital of Veld"
PASSAGES = (
    "Veld is a country. The capital of Veld is Oru. It lies at the sea.",
    "How to bake bread. Take flour and water.",
    "The capital of Veld has been Oru since 1801.",
)


def _summarized(summarizer: Summarizer, passages: Sequence[str], query: str = QUERY) -> list[str]:
    return asyncio.run(summarizer.summarize(QUESTION, query, passages))


def there_is_one_text_for_each_passage(summarizer: Summarizer) -> None:
    for count in range(len(PASSAGES) + 1):
        texts = _summarized(summarizer, PASSAGES[:count])
        assert len(texts) == count and all(isinstance(text, str) for text in texts)


def any_passage_and_query_can_be_summarized(summarizer: Summarizer) -> None:
    odd = ("", " ", "x" * 50_000, ". " * 5000, *HOSTILE_TEXTS)
    assert len(_summarized(summarizer, odd)) == len(odd)
    for query in ("", "?", *HOSTILE_TEXTS):
        assert len(_summarized(summarizer, PASSAGES, query)) == len(PASSAGES)


def searches_side_by_side_do_not_mix(summarizer: Summarizer) -> None:
    async def together() -> list[list[str]]:
        asked = (summarizer.summarize(QUESTION, QUERY, PASSAGES[: n % 4]) for n in range(8))
        return list(await asyncio.gather(*asked))

    assert [len(texts) for texts in asyncio.run(together())] == [n % 4 for n in range(8)]


SUMMARIZER: tuple[Check[Summarizer], ...] = (
    there_is_one_text_for_each_passage,
    any_passage_and_query_can_be_summarized,
    searches_side_by_side_do_not_mix,
)
