"""What is secret stays so: in addresses, and wherever a service repeats a key that it was sent."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "***"
LEAST = 8
"""Characters from which a secret is looked for in what a service says: a shorter one may well be a word."""

LONGEST = 256

_NAMES = "key|token|secret|sig|auth|pass|pwd|credential|session|jwt|sas"
# a path has one slash less
_USER = re.compile(r"(?:(?<=//)|(?<=http:/)|(?<=https:/))[^/\s\"'<>]*@")
_PARAMETER = re.compile(rf"([?&;#][\w.%-]{{0,40}}(?:{_NAMES})[\w.%-]{{0,40}}=)[^&\s\"'#]+", re.IGNORECASE)
_SPOKEN = re.compile(
    r"(\s(?:api[_-]?key|key|token|access_token|auth|password|signature|sig)\s*[=:]\s*|\bbearer\s+)[^&\s\"']+",
    re.IGNORECASE,
)
# of an address that stands by itself: a password may hold quotes, also a slash that nobody quoted
_OWN_USER = re.compile(
    r"\A(\s*[a-z][a-z\d+.-]+:/{1,3}|)(?:(?<=/)[^/?#]*|[^/?#@:\[\]\\]{1,99}:(?![/\\]|\d*(?:[/?#]|\Z))\S*)@",
    re.IGNORECASE,
)
# of one from outside, where everybody who opens it ends its host
_LOGIN = re.compile(r"\A(\s*(?:https?:[/\\]*|[a-z][a-z\d+.-]*://|//))[^/?#\\]*@", re.IGNORECASE)
# keys of services by how they begin, and signed tokens
_KEY = re.compile(
    r"(?<![\w-])(?:(?:sk|pk|hf|tvly|xai|gsk|ghp|jina)[-_][\w-]{16,}|AIza[\w-]{20,}|eyJ[\w-]{10,}\.[\w.-]{20,}"
    # access key ids of AWS and of Google's HMAC; GOOG with letters alone may begin a word
    r"|A[KS]IA[A-Z\d]{12,}|GOOG(?=[A-Z]*\d)[A-Z\d]{16,})"
)
# a part of an address that no person chose
_RANDOM = re.compile(
    r"(?<=[/=])(?:(?=[a-z]*\d)(?=\d*[a-z])[a-z\d]{24,}|[a-f\d]{8}(?:-[a-f\d]{4}){3}-[a-f\d]{12})(?=[/?#&]|\Z)",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """The text without passwords and keys in the addresses in it, and without what looks like a key."""
    text = _USER.sub("", text)
    for named in (_PARAMETER, _SPOKEN):
        text = named.sub(rf"\1{HIDDEN}", text)
    return _KEY.sub(HIDDEN, text)


def without_login(address: str) -> str:
    """An address from outside without the user and the password before its host."""
    return _LOGIN.sub(r"\1", address)


def public_address(address: str) -> str:
    """One that the user set, as it may be shown and stored."""
    return _RANDOM.sub(HIDDEN, without_secrets(_OWN_USER.sub(r"\1", address)))


def public_settings(value: Any) -> Any:
    """Plain values with every address as it may be shown and stored."""
    if isinstance(value, dict):
        return {name: public_settings(within) for name, within in value.items()}
    if isinstance(value, list | tuple):
        return [public_settings(within) for within in value]
    return public_address(value) if isinstance(value, str) and "://" in value[:12] else value


def secrets_in(address: str | None) -> tuple[str, ...]:
    """What `public_address` takes out of it."""
    text = address or ""
    users = [user.removesuffix("@") for user in _USER.findall(text)]
    users += [m.group().removeprefix(m[1]).removesuffix("@") for m in _OWN_USER.finditer(text)]
    found = [*users, *(user.partition(":")[2] for user in users), *_RANDOM.findall(text)]
    found += [m.group().removeprefix(m[1]) for m in _PARAMETER.finditer(text)]
    return tuple(dict.fromkeys(filter(None, (*found, *map(unquote, found)))))


class Redaction:
    """Takes secrets out of what those say who were sent them: as they are, and as addresses, JSON, HTML, base64 and
    hexadecimal digits write them, letter by letter. Those of fewer than `least` characters are left alone."""

    def __init__(self, secrets: Iterable[str], least: int = LEAST) -> None:
        # a longer one first: it may hold another
        kept = sorted({secret for secret in secrets if len(secret) >= max(1, least)}, key=lambda s: (-len(s), s))
        self._patterns = _patterns(tuple(kept)) if kept else None
        self._plain = [written for secret in kept for written in _plainly(secret)]

    def text(self, text: str) -> str:
        return self._patterns[0].sub(HIDDEN, text) if self._patterns else text

    def content(self, content: bytes) -> bytes:
        return self._patterns[1].sub(HIDDEN.encode(), content) if self._patterns else content

    def value(self, value: Any, levels: int = 50) -> Any:
        """Of JSON; what nests deeper than `levels` is left out."""
        if self._patterns is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(n): self.value(v, levels - 1) for n, v in value.items()} if levels else None
        if isinstance(value, list):
            return [self.value(v, levels - 1) for v in value] if levels else None
        return value

    def begun(self, text: str) -> int:
        """How many characters at the end may be the beginning of a secret."""
        lengths = ((secret, min(len(secret) - 1, len(text))) for secret in self._plain)
        return max((n for secret, most in lengths for n in range(most, 0, -1) if text.endswith(secret[:n])), default=0)


@lru_cache
def _patterns(secrets: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[bytes]]:
    """Kept: a provider asks for those of its key with every reply, and making them takes 10 ms."""
    source = "|".join(dict.fromkeys(written for secret in secrets for written in _writings(secret)))
    return re.compile(source), re.compile(source.encode("utf-8", "surrogatepass"))


def _plainly(secret: str) -> tuple[str, ...]:
    """The ways in which it is mostly written."""
    quoted = quote(secret, safe="", errors="surrogatepass")
    return (secret, quoted, json.dumps(secret)[1:-1], *_in_base64(secret))


def _writings(secret: str) -> Iterator[str]:
    """Patterns for all ways; of a long one, such as a private key, for the usual ones."""
    if len(secret) > LONGEST:
        yield from map(re.escape, _plainly(secret))
        return
    yield "".join(map(_letter, secret))
    yield f"(?i:{secret.encode('utf-8', 'surrogatepass').hex()})"
    yield from (core.replace("+", "[+-]").replace("/", "[/_]") for core in _in_base64(secret))


def _in_base64(secret: str) -> Iterator[str]:
    """It depends on where a secret begins; characters at its ends, which hold bits of its neighbours, are left out."""
    data = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + data).decode()
        core = whole[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        if len(core) >= LEAST:
            yield core


def _letter(letter: str) -> str:
    """As itself, quoted (also more than once) for an address, and escaped for JSON and HTML."""
    code = ord(letter)
    plain = r"\\{1,4}" if letter == "\\" else rf"\\{{0,4}}{letter}" if letter in "\"'/" else re.escape(letter)
    in_address = "".join(rf"%(?:25){{0,3}}{byte:02x}" for byte in letter.encode("utf-8", "surrogatepass"))
    in_json = rf"\\{{1,4}}u{code:04x}" if code < 0x10000 else r"\\{1,4}u".join(["", *_halves(code)])
    named = [html.escape(letter)[1:-1]] if letter in "&<>\"'" else []
    in_html = rf"&(?:amp;){{0,3}}(?:{'|'.join([*named, rf'#0{{0,5}}{code}', rf'#x0{{0,5}}{code:x}'])});?"
    form = r"|\+" if letter == " " else ""
    return rf"(?:{plain}{form}|(?i:{in_address}|{in_json}|{in_html}))"


def _halves(code: int) -> tuple[str, str]:
    """Of the surrogate pair by which JSON writes it."""
    return f"{0xD800 + (code - 0x10000 >> 10):04x}", f"{0xDC00 + (code - 0x10000 & 0x3FF):04x}"
