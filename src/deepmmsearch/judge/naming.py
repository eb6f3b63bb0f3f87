"""When a name is the same as another that holds more or fewer words: what may be left out, and what may be added.

When in doubt, it is not the same: what is meant but not written is for the accepted answers, or for a language model.
"""

from __future__ import annotations

import re
from itertools import pairwise

from deepmmsearch.judge.dates import month_of
from deepmmsearch.judge.places import find_place
from deepmmsearch.judge.spelling import Phrase, read, same_name, singular, stem
from deepmmsearch.judge.synonyms import are_synonyms
from deepmmsearch.judge.words import ARTICLES_ABROAD, COMMON_WORDS, FILLERS, HEDGES, PARTICLES, SILENT, SUFFIXES, TITLES

# Such a word in a name says that it is no person's.
_NOT_PERSONS = frozenset(
    "bank of company corporation motors electric airlines airways group foundation trust museum university college "
    "school church cathedral party army navy force club united city town county council government ministry department "
    "agency association union league federation republic kingdom state states islands island records pictures studios "
    "entertainment productions press books media news times post journal magazine institute society order knights "
    "brothers sons partners associates systems technologies software games energy oil gas steel railway railways hotel "
    "hotels stores foods beverages tower bridge building palace castle house hall park street square river lake mount "
    "mountain mountains bay beach valley dog cat bird tree car sports football hockey baseball fc afc team band "
    "orchestra series show film award prize cup for and in at to the on & dynasty empire people nation tribe family "
    "street avenue road station airport stadium arena hospital library theatre center centre market shop store brand "
    "international national royal american british german french chinese japanese general global world new south north "
    "east west old great saint mouse duck bunny bear pig panda monster spider bird fish "
    "man woman boy girl".split()
) - {"to", "on"}
# Known by the first name alone.
_FIRST_NAMES = frozenset(
    "rembrandt michelangelo leonardo raphael dante galileo napoleon titian caravaggio beyonce madonna pele ronaldinho "
    "hirohito voltaire moliere confucius tutankhamun cleopatra".split()
)
_GENERIC_PART = frozenset("episode part volume vol chapter season book series no number issue act edition".split())
_SUBTITLE = re.compile(r": | - ")


def same_thing(reference: Phrase, given: Phrase) -> str:
    """How the two are one thing by name; "" where they are not."""
    if same_name(reference, given):
        return "same name"
    if (month := month_of(reference.text)) is not None and month == month_of(given.text):
        return "same month"
    place = find_place(reference.text)
    if place is not None and place == find_place(given.text):
        return "same place"
    one, other = (" ".join(stem(w) for w in phrase.words) for phrase in (reference, given))
    return "synonym" if are_synonyms(one, other) else ""


def covers(reference: Phrase, given: Phrase, asked: frozenset[str], context: frozenset[str]) -> bool:
    """Does `given` hold every word of the reference that distinguishes, and nothing but words that say nothing more?

    `asked`: words of the question, which may be missing (Fuji for Mount Fuji), as may titles, and middle initials, all
    or none. `context`: these and the words of the other accepted answers, which may be added.
    """
    wanted, found = singular(reference, reference), singular(given, reference)
    asked, context = (words | {stem(w) for w in words} for words in (asked, context))
    kept = [w for w in wanted if w in found]
    if len(kept) == 1 < len(wanted) and kept[0] in COMMON_WORDS:
        return False
    hedged = HEDGES & (set(found) - set(wanted)) or ("'s" in given.tokens and "'s" not in reference.tokens)
    if hedged or _numbers(wanted) != [n for n in _numbers(found) if n in wanted]:
        return False
    missing = [w for w in wanted if w not in found]
    if 2 * len(missing) > len(wanted) > 3:
        return False
    extra = [w for w in found if w not in wanted]
    for initial in [w for w in extra if len(w) == 1]:
        whole = next((w for w in missing if w.startswith(initial)), None)
        if whole is not None and whole != wanted[-1]:
            missing.remove(whole)
            extra.remove(initial)
    letters = [w for w in wanted if len(w) == 1 and w.isalpha()]
    if letters and all(w in missing for w in letters):
        missing = [w for w in missing if w not in letters]
    # King is a title before a name, a name behind one
    titles = {w for w in wanted[:1] if w in TITLES | {"fc"}} | {w for w in wanted[-1:] if w in SUFFIXES}
    # Museum of Modern Art is not Modern Art
    heads = {w for w, after in pairwise(reference.tokens) if after == "of"}
    if any(w not in asked - heads | titles for w in missing) or not any(w in found and w not in asked for w in wanted):
        return False
    if given.words and given.words[-1] in TITLES - context and given.words[-1] not in wanted:
        return False
    return all(w in FILLERS | context | TITLES | SUFFIXES | SILENT | ARTICLES_ABROAD for w in extra)


def _numbers(words: list[str]) -> list[str]:
    return [w for w in words if w[0].isdigit()]


def is_person(reference: Phrase) -> bool:
    """Does the name look like a person's: two to five words with capitals, none of an organisation or a place?"""
    words = [w for w in reference.words if w not in SUFFIXES]
    if not 2 <= len(words) <= 5 or any(w[0].isdigit() for w in words[:-1]):
        return False
    if set(reference.tokens) & (_NOT_PERSONS - TITLES) - {words[-1]} or words[-1] in _NOT_PERSONS:
        return False
    return all(w in reference.capitals or w in PARTICLES for w in words)


def personal(reference: Phrase, given: Phrase) -> str:
    """A person by the surname (Einstein for Albert Einstein), by a first name that is enough, or by name and number."""
    full = [w for w in reference.words if w not in SUFFIXES]
    own = [w for w in given.words if w not in SUFFIXES]
    own = [*(w for w in own[:-1] if w not in TITLES), *own[-1:]]  # Dr. King
    if own[:1] == full[:1] and len(own) == 1 and own[0] in _FIRST_NAMES:
        return "first name"
    regnal = next((n for n, w in enumerate(full) if w.isdigit()), 0)
    if regnal and own == full[: regnal + 1]:
        return "name and number"
    if not is_person(reference) or full[-1].isdigit() or set(given.tokens) & HEDGES or "'s" in given.tokens:
        return ""
    if len(own) == 1 and "-" in reference.tokens[-2:-1]:
        return ""  # Lewis is not Day-Lewis
    if own == full[-1:] or (1 < len(own) < len(full) and own == full[-len(own) :] and full[-len(own)] in PARTICLES):
        return "surname"
    # Gabriel García Márquez is García Márquez
    return "surname" if len(full) > 2 and own == full[-2:] and len(full[-2]) > 1 else ""


def subtitle(reference: Phrase, given: Phrase) -> bool:
    """What stands behind the colon of a title, where it says which one: The Return of the King, not Episode V."""
    parts = _SUBTITLE.split(reference.text)
    if len(parts) < 2:
        return False
    tail = read(parts[-1])
    return len(tail.words) > 1 and not set(tail.words) & _GENERIC_PART and same_name(tail, given)


def team(reference: Phrase, given: Phrase) -> bool:
    """A team by its nickname: the Yankees for the New York Yankees. United is nobody's."""
    words = reference.words
    nickname = words[-2:] if words[-1:] == ("sox",) else words[-1:]
    plural = words[-1:] == ("sox",) or (
        words[-1:] != () and words[-1].endswith("s") and words[-1] in reference.capitals
    )
    return len(words) > 1 and plural and given.words == nickname


def without_kind(reference: Phrase, given: Phrase) -> bool:
    """A proper name without the common word behind it: Granny Smith for Granny Smith apple."""
    if "'s" in reference.tokens:
        return False
    proper, kind = reference.words[:-1], reference.words[-1:]
    named = len(proper) > 1 and all(w in reference.capitals for w in proper) and set(kind) <= reference.common
    return named and given.words == proper


def within(reference: str, given: str, anywhere: bool) -> bool:
    """A place with more of where it is: Barcelona, Catalonia, Spain; asked where something is (`anywhere`), also with a
    place within it: Liberty Island, New York City."""
    wanted, found = ([read(part.strip()) for part in text.split(",")] for text in (reference, given))
    if not 1 < len(found) <= 4 or len(found) <= len(wanted) or not all(part.words for part in (*wanted, *found)):
        return False
    if len(wanted) == 1:
        return anywhere and bool(same_thing(wanted[0], found[-1])) and not set(found[0].tokens) & HEDGES
    return bool(same_thing(wanted[0], found[0])) and all(any(same_thing(w, f) for f in found) for w in wanted)
