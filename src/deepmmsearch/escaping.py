"""Text from outside made harmless: it cannot close an observation, pass for a line of one, or forge a tag or a chat
token, and no terminal obeys anything in it."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from urllib.parse import unquote

# the tags of the papers' dialects
_TAGS = ("information", "reason", "answer", "text_search", "img_search", "search", "img")

# A tag is disarmed by its opening bracket alone: a closing one may stand anywhere, and white space within the tag
# must not hide it.
_LOOKALIKES = {"<": "‹", ">": "›", "[": "⁅", "]": "⁆", "|": "¦"}

# Control tokens of the model families, whose tokenizer an endpoint does not tell; the renderer knows its own
# tokenizer's. Where a word is also one of ordinary text (`List<Object>`, `[prefix]`), its case counts.
_NAMES = (
    r"s|bos|eos|pad|unk|mask|sep|cls|sop|eop|eod|eot|eom|eoh|eoa|eoc|eor|eoss|[bse]oi|(?:so|eo)(?:im|mu|sp)|img|"
    r"imgpad|ImageHere|think|tool_\w+|tool-?calls?|function_calls?|available_tools|grounding|global-img|"
    r"fake_token_around_image|(?:begin|beginning|start|end|delimiter)_of_\w+|fim-\w+|s_\w+|vila/\w+|"
    r"(?:im|so|ovis|longcat|asr|tts|fim|jupyter|tile|image|img|video|vid|audio|vision)_\w+|"
    r"\w+_(?:start|end|begin|bos|eos|sep|pad|patch|newline|placeholder|tokens?|soft_token)|"
    r"(?:seed|minimax|racm3|steptml|spk|lang|emo|mask|co):[^<>‹]{1,40}|(?:function|parameter)=[^<>‹]{1,60}|"
    r"0x[0-9a-f]{2}|[a-z]+(?:_[a-z]+)*_\d+(?:_col_\d+)?|"
    r"(?:reserved|unused|special|extra|ctrl|loc|seg|madeupword|ent|image|img|audio|video|unk)_?-?\d+"
)
_WORDS = (
    r"image|video|audio|IMAGE|VIDEO|AUDIO|thought|role|human|bot|Bot|_user|_bot|_system|_start|_end|用户|tools?|"
    r"functions?|arg_key|arg_value|response|ref|box|bbox|quad|point|poly|object|phrase|slice|unit|work|"
    r"placeholder|predict|blank|pos|od|ocr|[nd]?cap|region_\w+|proposal|seg|open_vocabulary_detection|"
    r"commit_\w+|issue_(?:comment|closed)|pr|pr_\w+|gh_stars|repo_?name|"
    r"file_?name|empty_output|code_to_intermediate|intermediate_to_code|2[a-z]{2,5}|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|PRE|"
    r"SUF|MID|AI|OD|OCR|TOOLCALL|BLOCK|NL|SP|FASTA|SMILES|SELFIES|IUPAC|MOLFORMULA"
)
_ANGLED = rf"\||[^<>‹\s|]{{2,60}}\|>|</?sys>>|/?(?:{_NAMES}|(?-i:{_WORDS}))/?>"
_BRACKETED = (
    r"\|\w{2,40}\||/?(?:inst|img(?:_break|_end)?|available_tools|tool_calls|tool_results|tool_content|system_prompt|"
    r"model_settings|call_id|gmask|smask|unused_?(?:token_)?\d+|control_\d+|@\w{1,20}@|toxicity=\d|multimodal|lang:\w+|"
    r"(?-i:(?:BEGIN|START|END|BOS|EOS|IMG|IMAGE|AUDIO|VIDEO|TOOLS?)_\w+|[BE]OS|EO[DTMP]|PAD|UNK|CLS|SEP|MASK\d*|NL|"
    r"IMAGE|AUDIO|VIDEO|THINK|ARGS|PREFIX|MIDDLE|SUFFIX|TRANSCRIBE|USER|BOT|SEG\d*|DET|DEC|ENC|NL[UG]|S2S|NEXT_WORD|"
    r"REPEAT_AUDIO_TEXT|(?:AUD|VID|IMG)\d+))"
)
_OTHERS = (
    r"\[(?=e~\[)|\](?=~!?b[\]\[])|(?-i:\|(?=(?:ENDOFTEXT|SPEAKER|NEWLINE|UNUSED)\|)|"
    r">(?=>(?:TITLE|ABSTRACT|INTRODUCTION|SUMMARY|COMMENT|ANSWER|QUESTION|DOMAIN|PREFIX|SUFFIX|MIDDLE)<<))"
)
_CHAT_TOKEN = re.compile(rf"<(?={_ANGLED})|\[(?=(?:{_BRACKETED})\])|{_OTHERS}", re.IGNORECASE)

_WEB = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# what is escaped in ASCII has a meaning of its own in an address
_ESCAPED_LETTERS = re.compile(r"(?:%[89a-f][0-9a-f])+", re.IGNORECASE)

# The number of a line, in brackets of any kind.
_NUMBER = re.compile(r"[\[【〔〖⟦❲](?=\s*\d{1,3}\s*[\]】〕〗⟧❳])")

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
_PIECE = re.compile(r"([\0-%'-\x7f]+)|&(?:amp;){0,4}(?:[a-zA-Z]{2,8}|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});?|.", re.DOTALL)
# Without one of these there is nothing to disarm: what normalises to a bracket, an entity, `[` before no digit.
_SUSPECT = re.compile(r"[<&\u226e\ufe47\ufe48\ufe64\ufe65\uff1c\uff1e\uff3b\uff3d\uff5c]|\[(?!\d)|\]~|>>|\|[A-Z]")
# Letters of other scripts that look like those of the tags, bars that look like that of chat tokens, and the mark by
# which tokenizers write a blank.
_LETTERS = str.maketrans("асԁеɡһіјӏопрԛѕтуνѡхузаοιρεɪᴀгмʀ│∣ǀ❘¦▁", "acdeghijlonpqstuvwxyzaoipeiarmr||||| ")


def plain(text: str) -> str:
    """The text without what a terminal would obey, what would reorder it and what hides in it; line ends stay, and each
    byte of a file's name that is not UTF-8 becomes U+FFFD. Idempotent."""
    return _OBEYED.sub("", _HALVES.sub("\ufffd", text.replace("\r\n", "\n").replace("\t", " ")))


def one_line(text: str) -> str:
    """The text as `plain` leaves it, with single spaces for its line ends."""
    return plain(" ".join(text.split()))


def readable_address(url: str) -> str:
    """As people write it: a file's path without `%20` and `%C3%A9`, an address of the web with its letters. For the eye
    alone, and left as it is where that would show nothing or turn around what is beside it."""
    if _WEB.match(url):
        return _ESCAPED_LETTERS.sub(lambda found: _shown(found[0]), url)
    return _shown(url.removeprefix("file://"))


def _shown(escaped: str) -> str:
    try:
        shown = unquote(escaped, errors="strict")
    except UnicodeDecodeError:
        return escaped
    return shown if shown.isprintable() else escaped


def escape_chat_tokens(text: str, keep: Iterable[str] = ()) -> str:
    """The text with every control token of a known family disarmed: `<|im_end|>` becomes `‹|im_end|>`. Idempotent.
    `keep`: tags that stay although some family has a token of that name."""
    return _disarm(text, _chat_token(tuple(keep)))


def escape_observation(text: str, tags: Iterable[str] = ()) -> str:
    """Untrusted text that can neither close `<information>` nor forge a tag or a chat token. Idempotent. `tags`: those
    beside the papers'.

    The opening bracket becomes a look-alike (‹), so that the policy can still read what was there. Full-width letters,
    HTML entities and characters that show nothing hide no tag.
    """
    visible = _INVISIBLE.sub("", text)
    return _disarm(visible, _forged_tag(tuple(tags)), _chat_token(()))


def escape_tags(text: str, tags: Iterable[str] = ()) -> str:
    """A reason in which no tag stands: `<answer>` becomes `‹answer>`."""
    return _forged_tag(tuple(tags)).sub(_LOOKALIKES["<"], text)


def escape_numbers(text: str) -> str:
    """Untrusted text within a line of an observation, which cannot pass for another line: `[2] match` becomes
    `⁅2] match`. Idempotent."""
    return _replace(text, (_NUMBER,), lambda bracket, _: _LOOKALIKES["["])


def is_control(token: str) -> bool:
    """Is an added token more than a word, or blanks, by which a vocabulary was extended?"""
    return not all(c.isalnum() or c.isspace() or c == "▁" for c in token)


def token_pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """What `break_tokens` looks for: the beginnings of these tokens, as `_fold` reads them."""
    folded = sorted({_fold(token)[0].strip() for token in tokens}, key=len, reverse=True)
    rests: dict[str, list[str]] = {}
    for token in folded:
        if token[1:]:
            rests.setdefault(token[0], []).append(re.escape(token[1:]))
    found = (f"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in rests.items())
    return re.compile("|".join(found) or r"(?!)", re.IGNORECASE)


def break_tokens(text: str, pattern: re.Pattern[str]) -> str:
    """The text with a blank behind the first character of each token, in whatever case, width or accents."""
    return _replace(text, (pattern,), lambda _, written: f"{written} ")


@lru_cache
def _forged_tag(tags: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"<(?=[\s/\\]*(?:{'|'.join(map(re.escape, (*_TAGS, *tags)))}))", re.IGNORECASE)


@lru_cache
def _chat_token(keep: tuple[str, ...]) -> re.Pattern[str]:
    if not keep:
        return _CHAT_TOKEN
    kept = "|".join(map(re.escape, keep))
    return re.compile(rf"(?!</?(?:{kept})[\s/>])(?:{_CHAT_TOKEN.pattern})", re.IGNORECASE)


def _disarm(text: str, *patterns: re.Pattern[str]) -> str:
    """`text` with the first character of every match replaced by a look-alike."""
    return _replace(text, patterns, lambda bracket, _: _LOOKALIKES[bracket]) if _SUSPECT.search(text) else text


def _replace(text: str, patterns: Iterable[re.Pattern[str]], instead: Callable[[str, str], str]) -> str:
    """`text` with another text for every match of a single character (as it reads, as it is written). What matches is
    sought in the text as a tokenizer that normalises, or a reader of HTML, might see it."""
    if text.isascii() and "&" not in text:
        for pattern in patterns:
            text = pattern.sub(lambda m: instead(m.group(), m.group()), text)
        return text
    folded, spans = _fold(text)
    found = {spans[m.start()]: m.group() for pattern in patterns for m in pattern.finditer(folded)}
    pieces, at = [], 0
    for (start, end), read in sorted(found.items()):
        pieces += [text[at:start], instead(read, text[start:end])]
        at = end
    return "".join([*pieces, text[at:]])


def _fold(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text in its plainest letters, and for each of them the part of `text` it comes from."""
    letters: list[str] = []
    spans: list[tuple[int, int]] = []
    for piece in _PIECE.finditer(text):
        found = piece.group()
        if piece[1]:
            letters.append(found)
            spans += [(at, at + 1) for at in range(*piece.span())]
            continue
        if len(found) > 1:
            # twice: what was escaped on its way into a page is escaped again in its source
            found = html.unescape(html.unescape(found.replace("&amp;", "&")))
        if not found.isascii():
            marked = unicodedata.normalize("NFKD", found)
            plain = marked.casefold().translate(_LETTERS)
            found = "".join(c for c in plain if not (unicodedata.combining(c) or _SKIPPED.match(c)))
            found = found.upper() if marked.isupper() else found
        letters.append(found)
        spans += [piece.span()] * len(found)
    return "".join(letters), spans
