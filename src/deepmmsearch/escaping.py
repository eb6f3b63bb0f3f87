"""Text from outside made harmless: it can neither close an observation nor forge a tag or a chat token, and no terminal
obeys anything in it."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

# the tags of the papers' dialects
_TAGS = ("information", "reason", "answer", "text_search", "img_search", "search", "img")

# A tag is disarmed by its opening bracket alone: a closing one may stand anywhere, and white space within the tag
# must not hide it. Chat tokens of the common families; the renderer adds those of its own tokenizer.
_LOOKALIKE = "‹"
_LOOKALIKES = {"<": _LOOKALIKE, "[": "⁅"}
_CHAT_NAMES = (
    "s|bos|eos|pad|unk|mask|image|video|audio|think|tool_call|tool_response|start_of_turn|end_of_turn|"
    "start_of_image|end_of_image|image_soft_token|fake_token_around_image|end_of_utterance|sep|cls|grounding"
)
_BRACKETED = "/?inst|img(?:_break|_end)?|/?available_tools|tool_calls|/?tool_results|/?system_prompt"
_CHAT_TOKEN = re.compile(rf"<(?=\||/?(?:{_CHAT_NAMES})>|</?sys>>)|\[(?=(?:{_BRACKETED})\])", re.IGNORECASE)
# Characters that show nothing and could split a tag in two, carry a hidden text (tag characters, variation selectors),
# or cannot be encoded (halves of surrogate pairs). The joiners that Persian and emoji need are kept.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180b-\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e01ef]"
)
# What a terminal, or what lays out a page, obeys; line ends stay. Halves of surrogate pairs stand for bytes of names.
_OBEYED = re.compile(f"{_INVISIBLE.pattern}|[\r\x85\u2028\u2029]")
_HALVES = re.compile("[\ud800-\udfff]")
# Kept, but no tag may hide behind them: joiners, marks that stand on a letter, letters that show nothing.
_SKIPPED = re.compile(
    _INVISIBLE.pattern + "|[\u034f\u115f\u1160\u17b4\u17b5\u200c\u200d\u2800\u3164\ufe00-\ufe0f\uffa0]"
)
_PIECE = re.compile(r"&(?:amp;){0,4}(?:[a-zA-Z]{2,8}|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});?|.", re.DOTALL)
# Without one of these there is nothing to disarm: what normalises to a bracket, an entity, `[` before no digit.
_SUSPECT = re.compile(r"[<&\u226e\ufe64\uff1c\ufe47\uff3b]|\[(?!\d)")
# Letters of other scripts that look like those of the tags.
_LETTERS = str.maketrans("асԁеɡһіјӏопрԛѕтυνѡхузаοιρεɪᴀгмʀ", "acdeghijlonpqstuvwxyzaoipeiarmr")


def plain(text: str) -> str:
    """The text without what a terminal would obey, what would reorder it and what hides in it; line ends stay, and each
    byte of a file's name that is not UTF-8 becomes U+FFFD. Idempotent."""
    return _OBEYED.sub("", _HALVES.sub("\ufffd", text.replace("\r\n", "\n").replace("\t", " ")))


def one_line(text: str) -> str:
    """The text as `plain` leaves it, with single spaces for its line ends."""
    return plain(" ".join(text.split()))


def escape_chat_tokens(text: str) -> str:
    """The text with every special token of a chat template disarmed: `<|im_end|>` becomes `‹|im_end|>`. Idempotent."""
    return _disarm(text, _CHAT_TOKEN)


def escape_observation(text: str, tags: Iterable[str] = ()) -> str:
    """Untrusted text that can neither close `<information>` nor forge a tag or a chat token. Idempotent. `tags`: those
    of tools beside the papers' two.

    The opening bracket becomes a look-alike (‹), so that the policy can still read what was there. Full-width letters,
    HTML entities and characters that show nothing hide no tag.
    """
    visible = _INVISIBLE.sub("", text)
    return _disarm(visible, _forged_tag(tuple(tags)), _CHAT_TOKEN)


def escape_tags(text: str, tags: Iterable[str] = ()) -> str:
    """A reason in which no tag stands: `<answer>` becomes `‹answer>`."""
    return _forged_tag(tuple(tags)).sub(_LOOKALIKE, text)


@lru_cache
def _forged_tag(tags: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"<(?=[\s/\\]*(?:{'|'.join(map(re.escape, (*_TAGS, *tags)))}))", re.IGNORECASE)


def _disarm(text: str, *patterns: re.Pattern[str]) -> str:
    """`text` with the first character of every match replaced by a look-alike. What matches is sought in the text as a
    tokenizer that normalises, or a reader of HTML, might see it."""
    if not _SUSPECT.search(text):
        return text
    if text.isascii() and "&" not in text:
        for pattern in patterns:
            text = pattern.sub(lambda m: _LOOKALIKES[m.group()], text)
        return text
    folded, spans = _fold(text)
    found = {spans[m.start()]: _LOOKALIKES[m.group()] for pattern in patterns for m in pattern.finditer(folded)}
    pieces, at = [], 0
    for (start, end), lookalike in sorted(found.items()):
        pieces += [text[at:start], lookalike]
        at = end
    return "".join([*pieces, text[at:]])


def _fold(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text in its plainest letters, and for each of them the part of `text` it comes from."""
    letters: list[str] = []
    spans: list[tuple[int, int]] = []
    for piece in _PIECE.finditer(text):
        found = piece.group()
        if len(found) > 1:
            # twice: what was escaped on its way into a page is escaped again in its source
            found = html.unescape(html.unescape(found.replace("&amp;", "&")))
        if not found.isascii():
            marked = unicodedata.normalize("NFKD", found).casefold().translate(_LETTERS)
            found = "".join(c for c in marked if not (unicodedata.combining(c) or _SKIPPED.match(c)))
        letters.append(found)
        spans += [piece.span()] * len(found)
    return "".join(letters), spans
