"""VQA accuracy as the authors' script computes it (Antol et al. 2015, arXiv 1505.00468; OK-VQA), and A-OKVQA's direct
answers: ten people answered, and an answer that three of them gave is right.

What looks odd is the script's: texts are made comparable only where the people differ, a point is taken away unless a
digit follows it (32 of them at most), and other punctuation becomes a space unless it stands beside one.
"""

from __future__ import annotations

import re

from deepmmsearch.judge.verdict import Verdict
from deepmmsearch.types import Question

_DIGITS = {word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine ten".split())}
_DIGITS["none"] = "0"
_ARTICLES = ("a", "an", "the")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_POINT = re.compile(r"\.(?!\d)")
_MOST_POINTS = 32
_CONTRACTED = (
    "'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't "
    "haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've "
    "mustn't needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've "
    "somebody'll somebody's somebodyd someone'd someone'd've someone'll someone's something'd something'd've "
    "something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've wasn't we'd've "
    "we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've "
    "why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're "
    "you've"
).split()
# each is recognised without one of its apostrophes
_CONTRACTIONS = {
    word[:at] + word[at + 1 :]: word for word in _CONTRACTED for at, letter in enumerate(word) if letter == "'"
} | {"somebody'd": "somebodyd"}


def normalize_vqa(text: str) -> str:
    """Lower case, digits for zero to ten, no articles, contractions with apostrophes, little punctuation."""
    joined = _THOUSANDS.search(text) is not None
    gone = {ord(p): "" if joined or f"{p} " in text or f" {p}" in text else " " for p in _PUNCTUATION}
    words = _POINT.sub("", text.translate(gone), count=_MOST_POINTS).lower().split()
    kept = [word for word in (_DIGITS.get(w, w) for w in words) if word not in _ARTICLES]
    return " ".join(_CONTRACTIONS.get(word, word) for word in kept)


def judge_vqa(question: Question, answer: str) -> Verdict:
    """`question.metadata["direct_answers"]`: what all people answered, else `question.answers` with repetitions. Of
    fewer than three different people any match is right."""
    votes = [_one_line(vote) for vote in _votes(question)]
    given = _one_line(answer)
    if len(set(votes)) > 1:
        votes, given = [normalize_vqa(vote) for vote in votes], normalize_vqa(given)
    same = votes.count(given)
    if len(votes) < 3:
        return Verdict(float(same > 0), f"{same} of {len(votes)} agree")
    # Leaving out one who agrees leaves same - 1, which happens `same` times.
    score = (same * min(1.0, (same - 1) / 3) + (len(votes) - same) * min(1.0, same / 3)) / len(votes)
    return Verdict(score, f"{same} of {len(votes)} agree")


def judge_direct(question: Question, answer: str) -> Verdict:
    """A-OKVQA (arXiv 2206.01718): min(1, n / 3) for an answer that n people gave, letter by letter the same. Of fewer
    than three different people any match is right."""
    votes = _votes(question)
    same = votes.count(answer)
    return Verdict(min(1.0, same / min(3, len(votes) or 1)), f"{same} of {len(votes)} agree")


def _votes(question: Question) -> list[str]:
    return [str(vote) for vote in question.metadata.get("direct_answers") or question.answers]


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
