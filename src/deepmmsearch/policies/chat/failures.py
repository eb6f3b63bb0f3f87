"""What went wrong with an endpoint, as a sentence that says what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from deepmmsearch.errors import Failed
from deepmmsearch.redaction import Redaction, without_secrets


class EndpointError(Failed):
    """The endpoint could not be used: down, slow, refusing, or answering something else than a completion."""


class Nonsense(Exception):
    """A reply that parses but is not a chat completion."""


class ToldInReply(Exception):
    """An error that stands where a completion belongs, under the status 200 or in the middle of a stream. `status` is
    the one that the server gives with it, 0 where it gives none."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status

    @property
    def passes(self) -> bool:
        """Is it worth asking again?"""
        return self.status in (408, 409, 429) or self.status >= 500


_FULL = re.compile(
    r"context (length|window|size)|maximum context|max_model_len|exceed_context_size"
    r"|(prompt|input|messages?|conversation|sequence|request).{0,40}too (long|many tokens)|too many (input )?tokens"
    r"|longer than the (model|maximum)|reduce the length",
    re.I | re.S,
)
# vLLM's window may be smaller than the reply that was asked for, whatever stands in it
_ASKS_TOO_MUCH = re.compile(r"max(_completion)?_tokens=\d+ cannot be greater than", re.I)
_TOO_MANY_PICTURES = re.compile(r"(at most|up to|maximum|more than|too many|only|limit).{0,60}\b(image|picture)", re.I)
_TOO_LARGE = re.compile(
    r"(image|picture|dimension|pixel).{0,60}(too (large|big)|exceed|max(imum)? \d)|max \d+ pixels", re.I
)
_NO_PROJECTOR = re.compile(r"mmproj", re.I)
_BLIND = re.compile(
    r"(not|n't|no|non)[ -].{0,40}(multi-?modal|vision|image|picture|visual)"
    r"|(image|picture|vision).{0,60}(not|n't|un)[ -]?(support|allow|accept)|image_url|text[- ]only",
    re.I,
)
_NO_MODEL = re.compile(r"model", re.I)
# that it loads now: not that it could not, was overloaded or unloaded, or that something happened while it did
_LOADING = re.compile(
    r"(\A|[.:;,!(-]\s*|\b(is|are|still|currently|now|busy|server)\s+)(re)?loading\b[^.;:]{0,40}\b(model|weights|checkpoint)"
    r"|\bmodel\b.{0,80}\b((is|are|still|currently|now)\s+((still|currently|now)\s+)*(re)?loading|being (re)?loaded)\b"
    r"|\A(the )?model( \S+)? loading( in progress|\s*([,.;!…]|\Z))|\bwarming up\b",
    re.I | re.S,
)
_NOT_LOADED = re.compile(
    r"out of memory|\boom\b|no such file"
    r"|(loading|loaded|warming up)\b.{0,80}\b(fail\w*|disabled|abort\w*|cancel\w*|error(?! \d))\b"
    r"|(loading|loaded)\b.{0,80}\bnot (found|allowed|supported|permitted)",
    re.I | re.S,
)
_FILTERED = re.compile(r"content[_ ](filter|management)|responsible ?ai|safety (system|filter)", re.I)


def is_full(said: str) -> bool:
    """Does a server say that the model's window has no room for the request?"""
    return bool(_FULL.search(said)) and not _ASKS_TOO_MUCH.search(said)


def is_loading(said: str) -> bool:
    """Does a server say that it will answer once its model is loaded?"""
    return bool(_LOADING.search(said)) and not _NOT_LOADED.search(said)


def is_filtered(said: str, code: str | None) -> bool:
    """Does a server say that its content filter refused the request?"""
    return code in ("content_filter", "content_policy_violation") or bool(_FILTERED.search(said))


@dataclass(frozen=True)
class Failures:
    """Errors of OpenAI's client as EndpointError, without what is secret. `where`: the endpoint's public address."""

    openai: Any
    where: str
    model: str | None
    key: str
    key_variable: str
    timeout: float
    secrets: tuple[str, ...]

    def of(self, error: BaseException, pictured: bool) -> EndpointError:
        o, where = self.openai, self.where
        if isinstance(error, o.APITimeoutError):
            return EndpointError(f"{where} did not answer within {self.timeout:g} s. Try again or raise the timeout.")
        if isinstance(error, o.APIConnectionError):
            cause = self.said(error.__cause__ or error)
            return EndpointError(f"Nothing answers at {where} ({cause}). Start the server or correct --base-url.")
        if isinstance(error, o.AuthenticationError | o.PermissionDeniedError):
            state = "refuses the key in" if self.key else "wants a key, and there is none in"
            return EndpointError(f"{where} {state} {self.key_variable}. Set it to a key of that endpoint.")
        if isinstance(error, o.APIStatusError | ToldInReply):
            return self._of_status(
                error, error.status_code if isinstance(error, o.APIStatusError) else error.status, pictured
            )
        if isinstance(error, o.APIError):  # what a stream tells in an event of its own
            return EndpointError(f"{where} broke off its reply: {self.said(error)}.")
        return EndpointError(
            f"{where} answered something that is not a chat completion ({self.said(error)}). "
            "Check that it is an OpenAI-compatible endpoint."
        )

    def _of_status(self, error: BaseException, status: int, pictured: bool) -> EndpointError:
        where, said = self.where, self.said(error)
        if isinstance(error, ToldInReply) and not status:
            return EndpointError(f"{where} answered with an error: {said}.")
        if status == 429:
            wait = self._asked_to_wait(error)
            return EndpointError(f"{where} refuses more requests for now (HTTP 429): {said}.{wait}")
        if status < 400:
            return EndpointError(
                f"{where} answers that it is at another address (HTTP {status}). Give that one, or set "
                "redirects: true for this endpoint."
            )
        if status == 413:
            return EndpointError(
                f"{where} takes no request of this size (HTTP 413: {said}). Lower max_pixels of this endpoint, or "
                "raise the server's limit."
            )
        if pictured and (picture := self._of_pictures(said)):
            return EndpointError(picture)
        return EndpointError(f"{where} refused the request (HTTP {status}): {said}.")

    def _of_pictures(self, said: str) -> str | None:
        who = f"{self.model} at {self.where}"
        if _NO_PROJECTOR.search(said):
            return f"{who} was started without its projector for pictures ({said}). Start llama.cpp with --mmproj FILE."
        if _TOO_LARGE.search(said):
            return f"{who} takes no picture of this size ({said}). Lower max_pixels of this endpoint."
        if _TOO_MANY_PICTURES.search(said):
            return (
                f"{who} takes fewer pictures in one request than this episode has ({said}). Raise the server's limit "
                "(vLLM: --limit-mm-per-prompt), or lower limits.image_searches."
            )
        if _BLIND.search(said):
            return f"{who} refuses the picture ({said}). Use a vision-language model."
        return None

    def _asked_to_wait(self, error: BaseException) -> str:
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        after = str(headers.get("retry-after", ""))
        return f" It asks to wait {after} s." if re.fullmatch(r"\d{1,6}", after) else ""

    def loading(self, error: BaseException, waited: float) -> EndpointError:
        """For a model that did not come in `waited` seconds."""
        return EndpointError(
            f"{self.where} was still loading its model after {waited:.0f} s ({self.said(error)}). Try again later, or "
            "raise the timeout."
        )

    def not_found(self, error: Exception) -> EndpointError:
        """Where no other model of that endpoint is known."""
        if _NO_MODEL.search(str(error)):
            return EndpointError(f"{self.where} does not serve the model {self.model!r}: {self.said(error)}.")
        return EndpointError(
            f"{self.where} has no chat completions (HTTP 404). Give the address up to and with its /v1."
        )

    def said(self, error: BaseException) -> str:
        """The error's own words in one short line, without the key, which some servers repeat."""
        line = " ".join(words(error).split()) or type(error).__name__
        return without_secrets(Redaction(self.secrets, least=1).text(line))[:240].rstrip(".")


def words(error: BaseException) -> str:
    """What a server says of an error, as it stands."""
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        error_of = body.get("error")
        inner = error_of if isinstance(error_of, dict) else body
        said = inner.get("message") or inner.get("detail") or inner.get("error")
        if said:
            return said if isinstance(said, str) else str(said)
    if isinstance(body, str) and body.strip() and "<" not in body[:20]:
        return body
    # Gemini answers with a list of one error
    if isinstance(body, list) and body and isinstance(body[0], dict):
        inner = body[0].get("error", body[0])
        return str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    return str(error)


def failed_generation(error: BaseException) -> str | None:
    """What the model wrote where the server could not read its call of a function: an error, of Groq's."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    found = inner.get("failed_generation") if isinstance(inner, dict) else None
    return found if isinstance(found, str) and found.strip() else None


def told(error: Any) -> ToldInReply:
    """An error object of a reply: OpenAI's form, or a text."""
    if not isinstance(error, dict):
        return ToldInReply(0, str(error))
    codes = (str(error.get(name)) for name in ("code", "status", "status_code"))
    status = next((int(code) for code in codes if re.fullmatch(r"\d{3}", code)), 0)
    details = error.get("metadata")
    raw = details.get("raw") if isinstance(details, dict) else None
    said = str(error.get("message") or error.get("detail") or error)
    return ToldInReply(status, f"{said} ({raw})" if isinstance(raw, str) and raw.strip() else said)
