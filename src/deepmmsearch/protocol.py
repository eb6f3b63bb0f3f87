"""Tags <-> actions: the only place that knows the tags of the two dialects.

DeepMMSearch-R1 (arXiv 2510.12801, section 3): a reason, then exactly one of an image search (whole image or a
referring expression), a text search or an answer. MMSearch-R1 (arXiv 2506.20670): the same, image search of the
whole image only. What comes back stands in `<information>`. `docs/protocol.md` has the table of every odd case.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from deepmmsearch.errors import UnknownName
from deepmmsearch.types import Action, Answer, ImageSearch, Malformed, TextSearch


@dataclass(frozen=True)
class Dialect:
    """`image_tag` names the image search; `regions`: may it hold a referring expression?"""

    name: str
    image_tag: str
    regions: bool

    @property
    def actions(self) -> tuple[str, ...]:
        return (self.image_tag, "text_search", "answer")


DEEPMMSEARCH_R1 = Dialect("deepmmsearch-r1", "img_search", regions=True)
MMSEARCH_R1 = Dialect("mmsearch-r1", "search", regions=False)
DIALECTS = {d.name: d for d in (DEEPMMSEARCH_R1, MMSEARCH_R1)}

_NAMES = ("information", "reason", "answer", "text_search", "img_search", "search", "img")
_TAG = re.compile(rf"<(/?)({'|'.join(_NAMES)})\s*/?>", re.IGNORECASE)
_REASON = re.compile(r"\s*<reason\s*>(.*?)(?:</reason\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_REASON_CLOSE = re.compile(r"</reason\s*>", re.IGNORECASE)
_WHOLE_IMAGE = re.compile(r"<img\b[^<>]*>\s*(?:</img\s*>)?|img", re.IGNORECASE)
_IMG = re.compile(r"</?img\b", re.IGNORECASE)
_CHAT_TOKEN_AT_END = re.compile(r"<\|\w{1,40}\|>\Z|</s>\Z")

# A tag is disarmed by its opening bracket alone: a closing one may stand anywhere, and white space within the tag
# must not hide it. Chat tokens of the common families; the renderer adds those of its own tokenizer.
_LOOKALIKE = "‹"
_LOOKALIKES = {"<": _LOOKALIKE, "[": "⁅"}
_FORGED_TAG = re.compile(rf"<(?=[\s/\\]*(?:{'|'.join(_NAMES)}))", re.IGNORECASE)
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
# Kept, but no tag may hide behind them: joiners, marks that stand on a letter, letters that show nothing.
_SKIPPED = re.compile(
    _INVISIBLE.pattern + "|[\u034f\u115f\u1160\u17b4\u17b5\u200c\u200d\u2800\u3164\ufe00-\ufe0f\uffa0]"
)
_PIECE = re.compile(r"&(?:amp;){0,4}(?:[a-zA-Z]{2,8}|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});?|.", re.DOTALL)
# Without one of these there is nothing to disarm: what normalises to a bracket, an entity, `[` before no digit.
_SUSPECT = re.compile(r"[<&\u226e\ufe64\uff1c\ufe47\uff3b]|\[(?!\d)")
# Letters of other scripts that look like those of the tags.
_LETTERS = str.maketrans("асԁеɡһіјӏопрԛѕтυνѡхузаοιρεɪᴀгмʀ", "acdeghijlonpqstuvwxyzaoipeiarmr")


def find_dialect(name: str) -> Dialect:
    if name not in DIALECTS:
        raise UnknownName("dialect", name, DIALECTS)
    return DIALECTS[name]


def parse_action(text: str, dialect: str = "deepmmsearch-r1", *, ended: bool = True) -> Action:
    """The one action of a turn, or `Malformed` with a problem that the policy can act upon. Never raises for a text.

    `ended`: the model stopped by itself, so a missing close tag at the very end is forgiven; in a turn that was cut
    off (finish "length" or "context") it is not, because the query or answer may be half of what was meant.
    """
    spec = find_dialect(dialect)
    choices = _either(spec.actions)
    body = _without_end_tokens(text)
    if not body:
        return Malformed(f"The turn is empty. Write a reason, then exactly one of {choices}.")
    reason = _REASON.match(body)
    if reason is None:
        if re.search(r"<reason\s*>", body, re.IGNORECASE):
            return Malformed("There is text before the reason. Start the turn with the reason tag.")
        return Malformed(f"The reason is missing. Write a reason first, then exactly one of {choices}.")
    if not _REASON_CLOSE.match(body, reason.end(1)):
        return Malformed(f"The reason is not closed. Close it, then write exactly one of {choices}.")
    if not reason.group(1).strip():
        return Malformed(f"The reason is empty. Say in a sentence why, then write exactly one of {choices}.")
    return _parse_call(body[reason.end() :], spec, ended)


def parse_reason(text: str) -> str:
    """What the turn gives as its reason, closed or not; "" where there is none."""
    found = _REASON.match(text)
    return found.group(1).strip() if found else ""


def write_turn(reason: str, action: Action, dialect: str = "deepmmsearch-r1") -> str:
    """The turn in the dialect's tags, so that `parse_action` gives the action back.

    Raises ValueError for what the dialect cannot say: a malformed action, a region in MMSearch-R1, an empty reason or
    query, a tag within a query.
    """
    spec = find_dialect(dialect)
    match action:
        case TextSearch(query):
            call = f"<text_search>{query}</text_search>"
        case ImageSearch(region):
            call = f"<{spec.image_tag}>{'<img>' if region is None else region}</{spec.image_tag}>"
        case Answer(answer):
            call = f"<answer>{answer}</answer>"
        case Malformed(problem):
            raise ValueError(f"A malformed action cannot be written as a turn ({problem}).")
    text = f"<reason>{_FORGED_TAG.sub(_LOOKALIKE, reason.strip())}</reason>{call}"
    read = parse_action(text, dialect)
    if read != action:
        raise ValueError(f"{action!r} cannot be written in the dialect {dialect}: it would be read as {read!r}.")
    return text


def escape_chat_tokens(text: str) -> str:
    """The text with every special token of a chat template disarmed: `<|im_end|>` becomes `‹|im_end|>`. Idempotent."""
    return _disarm(text, _CHAT_TOKEN)


def escape_observation(text: str) -> str:
    """Untrusted text that can neither close `<information>` nor forge a tag or a chat token. Idempotent.

    The opening bracket becomes a look-alike (‹), so that the policy can still read what was there. Full-width letters,
    HTML entities and characters that show nothing hide no tag.
    """
    visible = _INVISIBLE.sub("", text)
    return _disarm(visible, _FORGED_TAG, _CHAT_TOKEN)


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


def information(text: str, clean: Callable[[str], str] | None = None) -> str:
    """What the policy reads after a call: the escaped text in its tag. `clean` comes last: what it disarms must not
    come back when invisible characters are dropped."""
    escaped = escape_observation(text)
    return f"<information>{clean(escaped) if clean else escaped}</information>"


def _parse_call(rest: str, spec: Dialect, ended: bool) -> Action:
    """The action in what follows the reason."""
    choices = _either(spec.actions)
    tags = [t for t in _TAG.finditer(rest) if t.group(2).lower() in (*spec.actions, "information", "reason")]
    opened = [t for t in tags if not t.group(1) and t.group(2).lower() in spec.actions]
    if not opened:
        return Malformed(f"There is no action after the reason. Write exactly one of {choices}.")
    if len(opened) > 1:
        return Malformed(f"There are {len(opened)} actions in one turn. Write exactly one of {choices}, then stop.")
    start, name = opened[0], opened[0].group(2).lower()
    if rest[: start.start()].strip():
        return Malformed("There is text between the reason and the action. Put all thoughts inside the reason.")
    close = next((t for t in tags if t.group(1) and t.group(2).lower() == name and t.start() >= start.end()), None)
    if close is None and not ended:
        return Malformed(f"The turn was cut off inside {name}. Write a shorter turn.")
    end = close.start() if close else len(rest)
    if any(start.end() <= t.start() < end for t in tags):
        return Malformed(f"There is another tag inside {name}. Write plain text in it.")
    if close and rest[close.end() :].strip():
        return Malformed(f"There is text after the action. End the turn right after closing {name}.")
    content = rest[start.end() : end]
    return _interpret(name, (content if close else _without_half_close(content, name)).strip(), spec)


def _interpret(name: str, content: str, spec: Dialect) -> Action:
    if not content:
        return Malformed(f"The {name} is empty. Write its text between the tags.")
    if name == "answer":
        return Answer(content)
    one_line = " ".join(content.split())
    if name == "text_search":
        return TextSearch(one_line)
    if _WHOLE_IMAGE.fullmatch(one_line):
        return ImageSearch(None)
    if not spec.regions:
        return Malformed(f"The {name} takes the whole image only. Write the img tag alone in it.")
    if _IMG.search(one_line):
        return Malformed(f"The {name} takes either the img tag alone or a referring expression, not both.")
    return ImageSearch(one_line)


def _without_end_tokens(text: str) -> str:
    """Some servers leave the end-of-turn token in the text; it is not part of what the model says."""
    text = text.strip()
    while found := _CHAT_TOKEN_AT_END.search(text, max(0, len(text) - 48)):
        text = text[: found.start()].rstrip()
    return text


def _without_half_close(content: str, name: str) -> str:
    """A turn may end within its close tag (`</text_sea`): the start of the tag is not part of the query."""
    at = content.rfind("</")
    return content[:at] if at >= 0 and f"</{name}".startswith(content[at:].strip().lower()) else content


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
