"""Where sentences end, in any script.

Rules and no model, because the same text must be cut the same way in every process. They are told no language: a full
stop is judged by what stands before and after it, with the abbreviations of several languages.
"""

from __future__ import annotations

import re
import unicodedata

_CLOSING = "\"'”’“‘»›)\\]}」』】〉》）］｝〕"
_OPENING = "\"'“‘«‹([{「『【〈《（［｛〔¿¡*_"
_BETWEEN = _OPENING + " \t\n\u00a0-–—"  # between a mark and the letter that tells whether the sentence goes on
# Unicode's Sentence_Terminal, and Tibetan's shad: the first kind stands before a blank, the second also without one
_SPACED = (
    ".!?…:;\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u166e\u1735\u1736\u1803\u1809\u1944\u1945\u1aa8-\u1aab"
    "\u1b5a\u1b5b\u1b5e\u1b5f\u1c3b\u1c3c\u1c7e\u1c7f\u203c\u203d\u2047-\u2049\u2cf9-\u2cfb\u2e2e\u2e3c\u2e53\u2e54"
    "\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d-\uaa5f\uaaf0\uaaf1\uabeb\uff0e"
)
_UNSPACED = "。！？｡\ufe12\u0589\u061d-\u061f\u06d4\u0964\u0965\u0f0d\u0f0e\u104a\u104b\u1362\u1367\u1368\u17d4\u17d5"
_SENTENCE_END = re.compile(
    rf"(?<=[{_SPACED}{_UNSPACED}])[{_CLOSING}]{{0,4}}(?: ?\[\d{{1,3}}\]){{0,3}}(?=\s)"
    rf"|(?<=[{_UNSPACED}])(?=[^\s{_SPACED}{_UNSPACED}{_CLOSING}])"
    rf"|(?<=[{_UNSPACED}])[{_CLOSING}]{{1,4}}(?=[「『【〈《（“‘])"
)
_AMBIGUOUS = ".!?…:;"
_AFTER_LETTERS_OF = {";": re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]"), ":": re.compile(r"[\u0531-\u0587]")}
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+|(?:[^\W\d_]{1,2}\.){2,}")
_ITEM = re.compile(r"(?:\d{1,2}|[^\W\d_])\.")
_ORDINAL = re.compile(r"\d{1,3}\.")
_NUMERAL = re.compile(r"[\d(§]|[IVXLC]+\b")
_LETTERS = re.compile(r"[^\W\d_]*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# titles, and what else stands before what it belongs to
_BOUND = _words(
    "adj adm adv approx aprox asst avv bldg brig bzgl bzw ca capt cf cfr cmdr col comdr cpl dept dhr dipl dir "
    "doc dott dr dra drs ed eds ee eng esp evtl exc fa fr ft gen ggf gov hl hon hr hrn ing inkl insp ir kath lic "
    "lt ltda maj med messrs mevr mgr mio mlle mme mmes mr mrd mrs ms msgr mt mult např nr n° op orig pan ph pl "
    "prof pvt párrf psicol rep reps rev rs rt sen sens sgt sig sigg skt sog sr sra srta st sta std ste supt tel "
    "tzn tzv ul univ usw vgl viz vs zz акад букв гг гр доц зам им млн млрд напр обл пл просп проф рис род св см "
    "ср тел тов тыс ул"
)
# what a sentence may end with too
_ENDING = _words(
    "al assn ave blvd bros cm co corp dec dist est etc feb inc jan jr jul jun kg km ltd max mar min mm nov oct "
    "apr aug rd sep sept sq sr usw г д др п пр"
)
# what is an abbreviation where a number follows
_NUMBERED = _words(
    "abb abs ago art arts bd chap ch ec eq eqs ex fig figs kap lun mar no nn nos nr nrs num núm op p par para "
    "pag pg pgs pp pág págs s sec sect str tab v ver vol vols vv ziff č čl рис с ст стр"
)
_STARTERS = _words(
    "A An And As At But By For From He Her His How However I If In It Its My Now On One Our She So Some That The "
    "Their Then There These They This Those We What When Where While Who Why You Your Der Die Das Er Sie Es Ein "
    "Eine Im Am Und Aber Auch Bei Mit Nach Seit Wenn Wir Ich Doch Dies Diese Dieser Le La Les Il Elle Ils Un Une "
    "Ce Cette En Dans Mais El Los Las Se Su Pero Nel Nella Он Она Оно Они В На По Это Но И А Из Для При"
)
# German, the Nordic languages and Dutch write ordinal numbers with a full stop
_BEFORE_ORDINAL = _words(
    "ab als am bis d das dem den der des det die ein eine einem einen einer eines fra i ihr ihre ihren ihrer im "
    "jedem jeder oder og på sein seine seinen seiner seit til und unser unsere vom zum zur"
)
_AFTER_ORDINAL = _words(
    "Januar Jänner Februar Feber März April Mai Juni Juli August September Oktober November Dezember Marts Maj "
    "Oktober December Jahrhundert Jahrhunderts Jh Jhd Jahrtausend Weltkrieg Weltkriegs Klasse Auflage Etage "
    "Stock Platz Geburtstag Bundesliga"
)


def split_paragraph(text: str) -> list[str]:
    """The sentences of one paragraph, nothing lost but the white space between them."""
    found: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        mark, end = match.start(), match.end()
        before = text[max(start, mark - 60) : mark].lstrip()
        if _ends_sentence(before, text[end : end + 30], closes=mark < end):
            found.append(text[start:end].strip())
            start = end
    return [sentence for sentence in (*found, text[start:].strip()) if sentence]


def _ends_sentence(before: str, after: str, closes: bool) -> bool:
    """`before` ends with the mark; quotes and brackets that it `closes` stand between the two."""
    mark, following = before[-1:], after.lstrip(_BETWEEN)
    if mark not in _AMBIGUOUS:
        return True
    if begins_small(following):
        return False
    if mark in _AFTER_LETTERS_OF:
        return bool(_AFTER_LETTERS_OF[mark].match(before[-2:-1]))
    return mark != "." or _is_full_stop(before, following, closes)


def begins_small(text: str) -> bool:
    """With a small letter, where the script has capitals for the beginning of a sentence: Georgian's letters count as
    small ones, and its sentences begin with them."""
    return text[:1].islower() and not "\u10d0" <= text[0] <= "\u10ff"


def _is_full_stop(before: str, following: str, closes: bool) -> bool:
    *rest, word = re.split(r"[\s—/'’]", before)
    word = word.lstrip(_OPENING)
    next_word = _LETTERS.match(following)[0]  # type: ignore[index]  # it matches anything
    is_initial = following[len(next_word) : len(next_word) + 1] == "."
    starts = next_word in _STARTERS and not is_initial
    bare = word[:-1].lower()
    if not any(rest) and _ITEM.fullmatch(word):
        return False
    if _ORDINAL.fullmatch(word):
        return next_word not in _AFTER_ORDINAL and (starts or not rest or rest[-1] not in _BEFORE_ORDINAL)
    if bare in _NUMBERED and _NUMERAL.match(following):
        return False
    if bare in _ENDING or _INITIALS.fullmatch(word):
        return starts or closes
    return bare not in _BOUND


def cut(text: str, size: int) -> list[str]:
    """Pieces of at most `size` characters, each cut at its last blank, else after its last comma, else between two
    letters; nothing is lost but the white space at the cuts."""
    pieces = []
    at = 0
    while len(text) - at > size:
        end = _end_of_piece(text, at, at + size)
        pieces.append(text[at:end].strip())
        at = end
        while at < len(text) and text[at].isspace():
            at += 1
    return [piece for piece in (*pieces, text[at:].strip()) if piece]


def _end_of_piece(text: str, start: int, end: int) -> int:
    blank = text.rfind(" ", start + 1, end + 1)
    if blank > 0:
        return blank
    comma = max(text.rfind(mark, (start + end) // 2, end) for mark in ",;:，；：、،؛၊")
    if comma > 0:
        return comma + 1
    # an accent stays with its letter, and what a joiner joins stays whole
    for near in range(end, max(start, end - 32), -1):
        if unicodedata.category(text[near])[0] != "M" and "\u200d" not in text[near - 1 : near + 1]:
            return near
    return end
