"""Question-focused extraction: what of a passage serves the query, word for word.

The paper condenses hits with a language model (DeepMMSearch-R1, section 3.1). This summariser needs none: it ranks the
sentences of all passages together by BM25 and keeps the best of each, verbatim, so that what the policy reads can be
found in its source. Passages are untrusted: they are only ever cut, never interpreted.
"""

from __future__ import annotations

import asyncio
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from deepmmsearch.errors import UserError
from deepmmsearch.language.segmentation import grams, is_run, plain_words
from deepmmsearch.language.sentence_ends import begins_small, cut, split_paragraph
from deepmmsearch.normal_forms import normal_form
from deepmmsearch.reading.wrapping import unwrapped

Encode = Callable[[Sequence[str]], NDArray[np.floating]]
"""Texts [n] -> embeddings [n, dim]; they need not be normalised."""

MAX_SENTENCES = 3
MAX_CHARACTERS = 300
# MMSearch-R1 summarises the first 30,000 characters of a page (arXiv 2506.20670, section 3.2)
PASSAGE_CHARACTERS = 30_000
QUESTION_WEIGHT = 0.3
FURTHER_SENTENCE = 0.7
USEFUL_PASSAGE = 0.3
# A short sentence is seldom about its one term more than a long one is, so length counts for less than in documents
BM25_K1, BM25_B = 1.2, 0.3

_STOP_WORDS_TEXT = """
a about all also an and any are as at be been but by can did do does for from had has have he her him his how i if
in into is it its many may me more most much my no nor not of on or our s she show shown so some such t tell than
that the their them then there these they this those to us was we were what when where which while who whom whose
why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())
_LINE_BREAK = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")
_BULLET = re.compile(r"\s(?=[•‣◦▪]\s)")
_LEADING_MARK = re.compile(r"(?:[-*+•‣◦▪–—>#]+|\d{1,2}[.)])\s+(?=\S)")


def plain(text: str) -> str:
    """`text` with runs of white space as one blank and without control, format or unpaired surrogate characters."""
    return " ".join(_visible(text).split())


def _visible(text: str) -> str:
    return "".join(c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def split_sentences(text: str) -> list[str]:
    """The sentences of `text` in order, each a part of `plain(text)` and at most 300 characters long.

    Lines and bullets end a sentence, except where a line is evidently continued: in a wrapped paragraph of a PDF or a
    mail, or long, without a full stop, before one that begins in lower case. Longer sentences come as several pieces.
    """
    lines: list[list[str]] = []
    length = 0
    for raw in _LINE_BREAK.split(unwrapped(_visible(text))):
        line = " ".join(raw.split())
        if lines and begins_small(line) and length >= 40 and lines[-1][-1][-1] not in ".!?…:;":
            lines[-1].append(line)
            length += 1 + len(line)
        elif line:
            lines.append([line])
            length = len(line)
    pieces = [piece for line in lines for item in _BULLET.split(" ".join(line)) for piece in split_line(item)]
    return [part for piece in pieces for part in cut(piece, MAX_CHARACTERS)]


def split_line(line: str) -> list[str]:
    """The sentences of one line of `plain` text, however long, without a bullet or number before it."""
    mark = _LEADING_MARK.match(line)
    return split_paragraph(line[mark.end() :] if mark else line)


def terms(text: str) -> list[str]:
    """Words without case, accents, stop words and plural endings; of runs without word ends what they are found by."""
    found: list[str] = []
    for word in plain_words(text):
        if is_run(word):
            found += grams(word)
            continue
        folded = word if word.isascii() else normal_form("NFKD", word)
        folded = "".join(c for c in folded if not unicodedata.combining(c)).casefold()
        if folded not in STOP_WORDS:
            found.append(_singular(folded))
    return found


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "sses", "xes", "zes")) else word[:-1]


class ExtractiveSummarizer:
    """Keeps of each passage the one to `sentences` (at most 3) sentences that serve the query best, in their order.

    With `encode`, cosine similarity to query and question counts as much as the words do; it is called once per
    search with all sentences, in a thread of its own.
    """

    def __init__(self, sentences: int = 2, encode: Encode | None = None) -> None:
        if not 1 <= sentences <= MAX_SENTENCES:
            raise UserError(f"The summariser keeps 1 to {MAX_SENTENCES} sentences of a passage, not {sentences}.")
        self._sentences = sentences
        self._encode = encode

    async def summarize(self, question: str, query: str, passages: Sequence[str]) -> list[str]:
        """One text per passage, in order; "" where nothing serves the query as well as other passages do."""
        split = [split_sentences(passage[:PASSAGE_CHARACTERS]) for passage in passages]
        flat = [sentence for sentences in split for sentence in sentences]
        scores = _lexical(flat, query, question)
        if self._encode is not None and flat:
            semantic = await asyncio.to_thread(_semantic, self._encode, flat, query, question)
            scores = (scores / (scores.max() or 1.0) + semantic) / 2
        return self._choose(split, scores)

    def _choose(self, split: list[list[str]], scores: NDArray[np.float64]) -> list[str]:
        useful = USEFUL_PASSAGE * max(scores, default=0.0)
        taken: set[str] = set()
        texts: list[str] = []
        offset = 0
        for sentences in split:
            own = scores[offset : offset + len(sentences)]
            offset += len(sentences)
            best = max(own, default=0.0)
            chosen: list[int] = []
            if best > 0 and best >= useful:
                # a repeated sentence is left out but still sets the bar: its passage offers no second-rate substitute
                for i in sorted(range(len(sentences)), key=lambda i: (-own[i], i)):
                    if len(chosen) == self._sentences or own[i] < FURTHER_SENTENCE * best:
                        break
                    if sentences[i].casefold() not in taken:
                        taken.add(sentences[i].casefold())
                        chosen.append(i)
            texts.append(" ".join(sentences[i] for i in sorted(chosen)))
        return texts


def _lexical(sentences: list[str], query: str, question: str) -> NDArray[np.float64]:
    """BM25 of each sentence [n], with document frequencies over just these sentences."""
    weights = dict.fromkeys(terms(question), QUESTION_WEIGHT) | dict.fromkeys(terms(query), 1.0)
    counts = [Counter(terms(sentence)) for sentence in sentences]
    frequency = Counter(term for count in counts for term in count if term in weights)
    idf = {t: math.log(1 + (len(counts) - df + 0.5) / (df + 0.5)) for t, df in frequency.items()}
    mean = sum(c.total() for c in counts) / len(counts) if counts else 0.0
    scores = np.zeros(len(counts))
    for i, count in enumerate(counts):
        norm = BM25_K1 * (1 - BM25_B + BM25_B * count.total() / (mean or 1.0))
        # summed in a fixed order: the same passages must give the same text in every process
        scores[i] = sum(weights[t] * idf[t] * n * (BM25_K1 + 1) / (n + norm) for t, n in count.items() if t in idf)
    return scores


def _semantic(encode: Encode, sentences: list[str], query: str, question: str) -> NDArray[np.float64]:
    """Cosine similarity [n] to the query and, with its weight, to the question; dissimilar counts as 0."""
    vectors = np.asarray(encode([query, question, *sentences]), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(sentences) + 2:
        raise UserError(f"The encoder gave an array of shape {vectors.shape} for {len(sentences) + 2} texts.")
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosine = np.nan_to_num(vectors[2:] @ vectors[:2].T)
    target = np.array([1.0, QUESTION_WEIGHT]) / (1 + QUESTION_WEIGHT)
    similarity: NDArray[np.float64] = np.maximum(cosine, 0.0) @ target
    return similarity
