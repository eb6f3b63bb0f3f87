"""What an answer says: its text without typesetting, without the words that lead up to it, without what it denies.

An answer is read in a few ways, from the whole text to the name that it asserts; none of them is part of a list or of
an alternative, so that an answer that says two things says neither.
"""

from __future__ import annotations

import re
from functools import lru_cache

from deepmmsearch.judge.numerals import plain
from deepmmsearch.judge.places import find_place, is_region
from deepmmsearch.judge.spelling import read
from deepmmsearch.judge.words import ARTICLES_ABROAD, FILLERS, TAKES_BACK

LONGEST = 600
"""Characters that are read; of a longer answer only what stands behind "the answer is"."""

_LATEX = (
    (re.compile(r"\\d?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"\1/\2"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|operatorname)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"(?:\\sqrt|√)\s*(?:\{([^{}]*)\}|(\w))"), r"√\1\2"),
    (re.compile(r"\\(?:times|cdot)\b"), "×"),
    (re.compile(r"\\pi\b"), "π"),
    (re.compile(r"\^\{?\\circ\}?|\\degree\b"), "°"),
    (re.compile(r"\^\{([^{}]*)\}"), r"^\1"),
    (re.compile(r"\\[,;!: ]|~"), " "),
    (re.compile(r"\\([%$#&_{}])"), r"\1"),
    (re.compile(r"\\[()\[\]]"), ""),
    (re.compile(r"\$(?=\S)([^$\n]{1,80}?)(?<=\S)\$(?!\d)"), r"\1"),
    (re.compile(r"\[([^\[\]]*)\]\(https?:[^()\s]*\)"), r"\1"),
    (re.compile(r"(?<=\S)\s*(?:\[\d{1,2}\]|【[^【】]*】)"), ""),
    (re.compile(r"[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}"), ""),
    (re.compile(r"^(?:#{1,6}|[-•>](?= [^\W\d])) ", re.MULTILINE), ""),
)
_SPACES, _LINE_END = re.compile(r"[^\S\n]+"), re.compile(r" ?\n[ \n]*")
_SET = re.compile(r"[\\$*_`#\[【•>~^√]|-\s")
_BOXED = re.compile(r"\\boxed\s*\{")
_INITIAL = re.compile(r"(?:^|\W)[A-Za-z]$")
_QUOTES = "\"'“”‘’«»„`「」『』"
_COPULA = (
    r"(?:is|are|was|were|would be|must be|should be|will be|has to be|remains|ist|lautet|war|sind|est|était|sont|es|"
    r"son|era|è|sono|é|são|является|это)"
)
_ANSWER = re.compile(
    r"(?:(?:the|my|our|so|final|correct|right|best|most likely|accurate|short|direct|die|la|le|richtige|korrekte|"
    r"endgültige|finale?|correcta?|réponse|respuesta)\s+){0,5}"
    r"(?:answer|option|choice|solution|antwort|lösung|réponse|respuesta|risposta|resposta|ответ)"
    r"(?:\s+(?:to|for)\s+(?:the|this|your)\s+question|\s+here)?\s*"
    rf"(?:(?:{_COPULA}|would therefore be|is therefore|is thus)(?:\s+(?:likely|probably|clearly|that|as follows))?\s*:?"
    r"|:|=|—|-(?=\s))\s*"
    r"|(?:最终)?(?:答案|回答)(?:应该|應該)?(?:是|为|為|：|:)\s*|答えは[、\s]*",
    re.IGNORECASE,
)
_NOT_BUT = re.compile(
    r"^(?:.{0,60}?\b)?(?:not|isn't|is not|wasn't|aren't|nicht|no es|n'est pas|不是)\s[^.;!?]{1,80}?,?\s?"
    r"(?:\bbut\s(?:rather\s|instead\s|actually\s)?|\bsondern\b|\bsino\b|\bmais\b|而是|"
    r"[,;.]\s?(?=(?:it|this|that|he|she|they)(?:'s|\sis|\sare|\swas)\s|an?\s|the\s)|[;.]\s(?:rather|instead),?\s)",
    re.IGNORECASE,
)
_CANNOT_BUT = re.compile(
    r"^(?:i(?:'m| am)?|we)\s+(?:[a-z]+\s+)?(?:cannot|can't|can not|could not|couldn't|do not|don't|not)\s"
    r"[^.;!?]{1,120}?,?\s+(?:but|however,?|though,?)\s+",
    re.IGNORECASE,
)
_NOT_THE_OTHER = re.compile(
    r"(?<!\bis)(?<!\bare)(?<!\bwas)(?<!\bdo)(?<!\bdoes)(?<!\bdid)(?<!\bcan)(?<!\bhas),?\s+(?:and\s+)?\(?\bnot\s+(?!only\b)"
    r"[^,.;!?]*$|,?\s+(?:rather than|instead of|as opposed to|unlike)\s[^,.;!?]*$|"
    r",\s+(?:nicht|no|pas|non)\s+[^,.;!?]+$|[,，]?(?:而)?不是[^,.;!?，。]*$",
    re.IGNORECASE,
)
_PREFIX = re.compile(
    r"^(?:based on|according to|judging (?:by|from)|given|considering|looking at|after|from|upon|by|in|on|at|as|using|"
    r"since|for|with|laut|nach|gemäß|auf|d'après|selon|dans|según|en|根据|根據|由|从)\b[^,.;:!?\n，。]{0,160}[,，]\s*"
    r"|^(?:根据|根據|由|从)[^,.;:!?\n，。]{0,80}[,，]\s*",
    re.IGNORECASE,
)
_LEADS = tuple(
    re.compile(lead, re.IGNORECASE)
    for lead in (
        r"^(?:so|thus|therefore|hence|then|well|okay|ok|sure|finally|overall|clearly|certainly|of course|also|"
        r"yes(?!,?\s+(?:no|not|nein|non)\b)|in conclusion|in summary|in short|to sum up|consequently|daher|donc|"
        r"por lo tanto|因此|所以)\s*[,:，]?\s+",
        r"^(?:i|we)(?:'m|\s+am)?\s+(?:(?:can|would|could|must|have|strongly|firmly|fairly|quite|pretty|very|now|therefore|"
        r"thus|also)\s+)*(?:think|believe|conclude[d]?|say|guess|suspect|assume|confirm|determined?|identified|identify|"
        r"found|find|see|know|confident|sure|certain|infer|deduce)(?:\s+that)?[,:]?\s+",
        r"^(?:it|this|that|these|those|they|he|she|here|there)(?:'s|\s+(?:is|are|was|were|looks\s+like|seems\s+to\s+be|"
        r"appears\s+to\s+be|must\s+be|would\s+be|should\s+be))(?:\s+(?:most\s+likely|probably|likely|definitely|clearly|"
        r"certainly|called|named|known\s+as|about|around|approximately|indeed|in\s+fact|actually))*\s+",
        r"^(?:das|dies|dieses|es|er|sie|hier)\s+(?:ist|sind|war|waren|heißt|handelt\s+sich\s+um)\s+",
        r"^(?:c'est|ce\s+sont|il\s+s'agit\s+(?:de\s+|du\s+|d')|il\s+y\s+a|elle\s+est|il\s+est)\s*",
        r"^(?:es|son|se\s+trata\s+de|esta?\s+es|este\s+es|hay|è|sono|questo\s+è|esta\s+é|este\s+é|é)\s+",
        r"^(?:это|it's)\s+|^(?:这|這|图中|圖中|它|那|他|她)[^，。,.\s不没非未]{0,12}?(?:是|为|為|叫做?)\s*|^これは\s*",
    )
)
_HAN_ENDING = re.compile(r"(?:です|でした|だ)$")
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+(?=[A-ZÀ-ÞА-Я\"“(*])|\n+|(?<=[。！？])")
_CLAUSE = re.compile(r"[,;:.!?\n，。；]\s?|\s(?:so|and so|whose|which means(?: that)?)\s", re.IGNORECASE)
_NEXT_STATEMENT = re.compile(r";|,\s*(?:and|while|whereas)\s", re.IGNORECASE)
_POINTERS = frozenset(
    "it its this that these those he she they there here which what who whose is are was in of".split()
)
_DOUBTS = re.compile(
    r"\b(?:not|never|doubt|unlikely|cannot|hardly|neither|nor|no|un(?:clear|sure|certain))\b|n't\b|不", re.IGNORECASE
)
_CLAUSE_END = re.compile(r"[.,;:!?\n，。；]|\bbut\b", re.IGNORECASE)
_YES = re.compile(r"\byes\b", re.IGNORECASE)
_STANDS_FOR_IT = "Qx"
_COPULA_WORD = re.compile(rf"(?<![\w'])(?:{_COPULA}|called|named|means|=)(?![\w'])|'s(?=\s)|是|叫做?|为", re.IGNORECASE)
_SMALL_WORD = re.compile(r"\s?([a-zà-ÿ'-]+)\s")
_HEAD_ENDS = re.compile(
    r"\s?[,(（—，]|\s-\s(?=[a-z])|;\s|\s(?:which|who|whose|that|where|located|situated|built|designed|completed|in|on|at|"
    r"from|by|during|since|because|as|with)\s|\sand\s(?=(?:was|is|has|it|he|she|they|[a-z]+ed)\s)",
    re.IGNORECASE,
)


@lru_cache(maxsize=2048)
def typeset(answer: str) -> str:
    """The text of an answer without its typesetting, its last box alone where it has one."""
    text = _LINE_END.sub("\n", _SPACES.sub(" ", plain(answer)))
    boxes = list(_BOXED.finditer(text))
    if boxes and (inside := _inside(text, boxes[-1].end())):
        text = inside
    if _SET.search(text):
        for pattern, plainly in _LATEX:
            text = pattern.sub(plainly, text)
    return trimmed(text)


def trimmed(text: str) -> str:
    """Without quotes and punctuation around it; the point of .50 stays."""
    text = text.strip(f"{_QUOTES}!?,;:。！？，、 \t\n")
    while text.startswith(".") and not text[1:2].isdigit():
        text = text[1:].lstrip()
    end = text.rstrip(".")
    text = text if _INITIAL.search(end[-2:]) else end
    return text.strip(f"{_QUOTES}!?,; \t\n")


def _inside(text: str, start: int) -> str:
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return text[start:at]
    return ""


def answered(answer: str) -> str:
    """What is said after "the answer is", or all of it; "" of an answer that is too long and has no such words."""
    text = typeset(answer if len(answer) <= LONGEST else answer[-LONGEST:])
    return _behind_mark(text) or ("" if len(answer) > LONGEST else text)


def _behind_mark(text: str) -> str:
    """What follows the last "the answer is", unless that is doubted: "I don't think that the answer is" """
    marks = list(_ANSWER.finditer(text))
    if not marks or _DOUBTS.search(_CLAUSE_END.split(text[: marks[-1].start()])[-1]):
        return ""
    return trimmed(text[marks[-1].end() :])


def undenied(text: str) -> str:
    """The text without what it says it is not."""
    text = _NOT_BUT.sub("", _CANNOT_BUT.sub("", text))
    return trimmed(_NOT_THE_OTHER.sub("", text)) or text


def led(text: str) -> str:
    """The text without what leads up to what it says."""
    before = None
    while before != text:
        before = text
        text = _PREFIX.sub("", text)
        for lead in _LEADS:
            text = lead.sub("", text)
    return trimmed(_HAN_ENDING.sub("", text))


def leads_to(words: str) -> bool:
    """Are these words nothing but what leads up to an answer, which follows?"""
    if len(words) > LONGEST or _YES.search(words):
        return False  # "yes, no" is neither
    text = f"{words}{_STANDS_FOR_IT}"
    return led(_behind_mark(text) or text) == _STANDS_FOR_IT


def adds_only(rest: str) -> bool:
    """Does what follows an answer leave it as it is?"""
    return not TAKES_BACK & set(read(rest).tokens)


def assertion(text: str, context: frozenset[str], head: str) -> str | None:
    """What is said of the thing that is asked about: what follows the verb, to the end of the statement; None where
    nothing is said of it. `head`: what is asked for; the statement about it counts, else the one about most words of
    the question."""
    found: list[tuple[bool, int, str]] = []
    for sentence in _SENTENCE.split(text):
        starts = [0, *(m.end() for m in _CLAUSE.finditer(sentence))]
        for start, end in zip(starts, [*starts[1:], len(sentence)], strict=True):
            verb = _COPULA_WORD.search(sentence, start, end)
            if verb is None or (verb.start() == start and verb.group() not in "是叫为"):
                continue
            subject = read(sentence[start : verb.start()]).words
            if all(w in context or w in FILLERS for w in subject):
                own = len([w for w in subject if w in context and w not in _POINTERS])
                said = _NEXT_STATEMENT.split(sentence[verb.end() :], maxsplit=1)[0]
                found.append((head in subject, own, _complement(said, context)))
    best = max((row[:2] for row in found), default=None)
    return [said for *rank, said in found if tuple(rank) == best][-1] if found else None


def _complement(text: str, context: frozenset[str]) -> str:
    """Without small words, and words of the question, that stand before the name: "designed by the architect" """
    at = 0
    while (found := _SMALL_WORD.match(text, at)) and (
        found[1] in FILLERS
        or found[1] in context
        or found[1] in ("a", "an", "the", "of", "that")
        or found[1] in ARTICLES_ABROAD
    ):
        at = found.end()
    return trimmed(text[at:])


def readings(text: str, context: frozenset[str], head: str) -> list[str]:
    """The ways to read a statement, the whole of it first."""
    found = [text, led(text)]
    first, *others = _SENTENCE.split(text)
    if others and all(map(_describes, others)):
        found += [trimmed(first), led(trimmed(first))]
    if said := assertion(text, context, head):
        found.append(said)
    for one in list(found):
        ends = _HEAD_ENDS.search(one)
        if ends and ends.start() and adds_only(one[ends.start() :]) and not _lists(one, ends.start()):
            found.append(trimmed(one[: ends.start()]))
    for one in list(found):
        article, _, rest = one.partition(" ")
        if rest and article.lower() in ARTICLES_ABROAD:
            found.append(rest)
    return list(dict.fromkeys(one for one in found if one))


_GOES_ON = re.compile(
    r"(?:it|its|this|that|the|these|they|he|she|his|her|in|a|an|located|built|here|you)\b|(?:它|这|该|其)",
    re.IGNORECASE,
)
_NAMES_ANOTHER = re.compile(r"(?i:it|this|that|he|she|the \w+)(?i:'s|\s+(?:is|was))\s+(?i:the\s+)?[A-ZÀ-ÞА-Я]")


def _describes(sentence: str) -> bool:
    """Does a sentence go on about the answer, taking nothing back and naming nothing else in its place?"""
    words = read(sentence).tokens
    return (
        len(words) > 2
        and _GOES_ON.match(sentence) is not None
        and adds_only(sentence)
        and not _NAMES_ANOTHER.match(sentence)
    )


_MORE = re.compile(r",\s(?:an?|the)\s\w+(?:\s\w+)?\s?(?:,|and\b|or\b)", re.IGNORECASE)


def _lists(text: str, end: int) -> bool:
    """Does what follows the comma put another thing beside: ", London", "/ silver"? ", a city in France" does not, nor
    the region where it is."""
    rest = text[end:]
    if text[:1].islower() and _MORE.match(rest):
        return True
    beside = re.match(r"\s*[,/，]\s*((?:and\s+)?[^\s,]+(?:\s+[A-Z]\w*)?)\s*(?:[,/，]|\b(?:and|or)\b|&|$)|\s*/", rest)
    if beside is None:
        return False
    return not (beside[1] and is_region(beside[1]) and find_place(text[:end]) is None)
