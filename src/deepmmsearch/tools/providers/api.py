"""What the providers share: asking a JSON API, saying in one sentence why it did not answer, and reading its fields.

A provider's reply is untrusted and changes without notice: a field that is missing or of another kind is left out, and
only a reply without any list of results is an error.
"""

from __future__ import annotations

import html
import json as json_module
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from deepmmsearch.errors import ToolError
from deepmmsearch.redaction import Redaction, without_login, without_secrets
from deepmmsearch.tools.http import BadReply, BadStatus, Response
from deepmmsearch.types import Hit

Reason = Literal["rate", "key", "quota", "refused", "down", "answer"]

LONGEST_TITLE = 300
LONGEST_SNIPPET = 20_000
LONGEST_URL = 2_048
LONGEST_MESSAGE = 160

_MARKUP = re.compile(r"</?(?:b|strong|em|i|mark|u|span)\b[^<>]{0,200}>", re.IGNORECASE)
_BREAK = re.compile(r"</?(?:br|p|li|div)\b[^<>]{0,200}>", re.IGNORECASE)
# no letter has a number of so many digits, and Python refuses to read one of thousands
_LONG_ENTITY = re.compile(r"&#(?=[xX]?[0-9a-fA-F]{9})")
_QUOTA = re.compile(
    r"credit|quota|balance|run out of searches|plan limit|usage limit|pay-as-you-go limit|billing", re.IGNORECASE
)
_KEY = re.compile(r"api.?key|token|unauthori[sz]ed|authenticat", re.IGNORECASE)


class ProviderError(ToolError):
    """A provider did not answer.

    `reason`: its rate limit (rate), no valid key (key), nothing left to spend (quota), it does not take the request
    (refused), it is not working (down), or its reply cannot be read (answer). `retry_after`: seconds for which it asks
    to be left alone.
    """

    def __init__(self, message: str, reason: Reason, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason, self.retry_after = reason, retry_after


class Client(Protocol):
    """What a provider needs of the guarded client (`tools.http.GuardedClient`). `outside`: for addresses in a reply."""

    @property
    def outside(self) -> Client: ...

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: Mapping[str, str] | bytes | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
        timeout: float | None = None,
        accept: Sequence[str] = (),
        max_bytes: int | None = None,
    ) -> Response: ...


@dataclass(frozen=True)
class Api:
    """One HTTP API. `label` names it in messages, `secrets` never stand in one; `key_variable` is where its key comes
    from."""

    label: str
    client: Client
    key_variable: str | None = None
    secrets: tuple[str, ...] = ()

    async def json(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
    ) -> dict[str, Any]:
        """The JSON object it answers. Raises ProviderError, or what the client raises."""
        try:
            response = await self.client.request(
                method, url, params=params, headers=headers, json=json, data=data, files=files
            )
            answer = response.json()
        except BadStatus as error:
            raise self.explain(error) from None
        except BadReply as error:
            raise ProviderError(f"{self.label} did not answer in JSON: {error}", "answer") from None
        # once more: JSON can write any letter of a key as an escape
        answer = Redaction(self.secrets).value(answer)
        if not isinstance(answer, dict):
            raise ProviderError(f"{self.label} answered a {type(answer).__name__}, not a JSON object.", "answer")
        return answer

    def explain(self, error: BadStatus) -> ProviderError:
        """The refusal as the user needs it: what it means for this provider, and what to do."""
        said = self.message(error.body)
        tail = f" It says: {said}" if said else ""
        status, label = error.status, self.label
        where = f" in {self.key_variable}" if self.key_variable else ""
        if status in (402, 432, 433) or (status in (400, 403, 422, 429) and _QUOTA.search(said)):
            return ProviderError(f"{label} has no credit left ({status}). Top it up, or use another.{tail}", "quota")
        if status == 429:
            wait = f", asks to wait {error.retry_after:g} s" if error.retry_after is not None else ""
            return ProviderError(f"{label} is rate-limited ({status}{wait}).", "rate", error.retry_after)
        if status == 401 or (status in (400, 403, 422) and self.key_variable is not None and _KEY.search(said)):
            return ProviderError(f"{label} does not accept the key{where} ({status}). Check it.{tail}", "key")
        if status == 503 and error.retry_after is not None:
            return ProviderError(f"{label} is overloaded ({status}).", "rate", error.retry_after)
        if status >= 500:
            return ProviderError(f"{label} is not working at the moment ({status}).", "down", error.retry_after)
        return ProviderError(f"{label} refused the request ({status}).{tail}", "refused")

    def message(self, body: bytes) -> str:
        """What an error's body says, on one line, without the key; "" where it is no text for people."""
        try:
            said = _sentence(json_module.loads(body))
        except (ValueError, RecursionError):
            text = body.decode("utf-8", "replace")
            said = "" if "<" in text else text
        return self.quoted(said) if said.strip() else ""

    def quoted(self, said: str) -> str:
        """What a service says, as one bounded sentence without the key."""
        sentence = plain(without_secrets(Redaction(self.secrets, least=1).text(said)), LONGEST_MESSAGE)
        return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _sentence(value: Any, depth: int = 0) -> str:
    """The first text under one of the names that APIs give their messages."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and depth < 3:
        for name in ("readableMessage", "message", "detail", "error", "error_message"):
            if name in value and (found := _sentence(value[name], depth + 1)):
                return found
    return ""


def rows(answer: object, *names: str) -> list[Mapping[str, Any]]:
    """The results under the first of these names that holds a list; none where there is no such list, or no object."""
    for name in names:
        found = answer.get(name) if isinstance(answer, dict) else None
        if isinstance(found, list):
            return [row for row in found if isinstance(row, dict)]
    return []


def plain(value: object, longest: int = LONGEST_SNIPPET) -> str:
    """A field as text on one line, without the markup that search engines put around the words they found."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = (value if isinstance(value, str) else str(value))[: 2 * longest]
    bare = _LONG_ENTITY.sub("&amp;#", _MARKUP.sub("", _BREAK.sub(" ", text)))
    return " ".join(html.unescape(bare).split())[:longest]


def web_address(value: object) -> str:
    """An http or https address, "" for anything else."""
    if not isinstance(value, str) or not 8 < len(value) <= LONGEST_URL:
        return ""
    clean = without_login(value.strip())
    allowed = clean.lower().startswith(("http://", "https://"))
    return clean if allowed and not re.search(r"[\s\x00-\x1f\x7f<>\"\\]", clean) else ""


def number(value: object) -> float | None:
    """A finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(float(value)) < 1e12 else None


def ranked(found: Iterator[Hit], k: int) -> list[Hit]:
    """The first k hits that say something, each address once."""
    kept: list[Hit] = []
    seen: set[str] = set()
    for hit in found:
        if len(kept) == k:
            break
        if (hit.title or hit.snippet) and (not hit.url or hit.url not in seen):
            seen.add(hit.url)
            kept.append(hit)
    return kept


def hit(title: object, url: object, snippet: object, rank: int, source: str, score: object = None) -> Hit:
    """One result, cleaned. `rank` counts from 1 and makes the score where the provider gives none."""
    given = number(score)
    return Hit(
        plain(title, LONGEST_TITLE),
        web_address(url),
        plain(snippet),
        1.0 / rank if given is None else given,
        source=source,
    )


def shortened(query: str, characters: int, words: int | None = None) -> str:
    """The query within what a provider takes, cut between words."""
    kept = query.split()[:words]
    text = " ".join(kept)
    if len(text) <= characters:
        return text
    return text[:characters].rsplit(" ", 1)[0] if " " in text[:characters] else text[:characters]
