"""Any OpenAI-compatible endpoint: vLLM, SGLang, Ollama, transformers serve, hosted ones."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from PIL.Image import Image
from PIL.Image import new as new_picture

from deepmmsearch import images
from deepmmsearch.errors import Failed, MissingExtra, UnknownName, UserError
from deepmmsearch.policies.agent_card import AgentCard
from deepmmsearch.policies.connection import OFFICIAL, checked_proxy, connect
from deepmmsearch.redaction import Redaction, public_address, secrets_in, without_secrets
from deepmmsearch.renderer import Message, messages
from deepmmsearch.types import Completion, Finish, Trajectory

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEY_VARIABLE = "OPENAI_API_KEY"
# Qwen2.5-VL's own bounds: a picture within them is not resized again by the server, so boxes are in pixels of what was
# sent.
MIN_PIXELS, MAX_PIXELS = 56 * 56, 1280 * 28 * 28
# Models that were not trained for the protocol like to go on and invent the result of their own search.
STOP = ("<information>",)

_TOO_LONG = re.compile(r"context (length|window|size)|maximum context|max_model_len|too (long|many tokens)", re.I)
_NO_IMAGES = re.compile(r"image|vision|multi-?modal|picture", re.I)
_NO_MODEL = re.compile(r"model", re.I)


class EndpointError(Failed):
    """The endpoint could not be used: down, slow, refusing, or answering something else than a completion."""


class ChatPolicy:
    """Writes turns through `POST {base_url}/chat/completions`.

    `model` None takes the endpoint's only model. The key comes from the environment variable `key_variable` and from
    nowhere else; endpoints of one's own need none. `lossless` sends pictures as PNG, pixel by pixel, instead of JPEG of
    quality 95. `tokens` asks for token ids and logprobs (vLLM gives both); servers
    that do not know the question may refuse it. `on_text` is called with each piece of a turn as it is written.
    `timeout` is in seconds, for one request; `retries` are the client's, with growing pauses. `min_pixels`,
    `max_pixels`: the bounds within which the server's model takes pictures as they are; `card`: what else is known of
    it. `proxy`, `redirects`: as in `connection.connect`.
    """

    def __init__(
        self,
        model: str | None = None,
        base_url: str | None = None,
        *,
        key_variable: str = KEY_VARIABLE,
        max_new_tokens: int = 1024,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = STOP,
        lossless: bool = False,
        tokens: bool = False,
        timeout: float = 120.0,
        retries: int = 2,
        proxy: str | None = None,
        redirects: bool = False,
        min_pixels: int = MIN_PIXELS,
        max_pixels: int = MAX_PIXELS,
        card: AgentCard | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise MissingExtra("An OpenAI-compatible endpoint", "chat") from None
        self._address = _checked_url(base_url or OFFICIAL)
        self.base_url = public_address(self._address)
        self._key = os.environ.get(key_variable, "")
        self._secrets = [self._key, *secrets_in(self._address), *secrets_in(proxy)]
        self._redaction = Redaction(self._secrets)
        if not self._key and self.base_url == OFFICIAL:
            raise UserError(
                f"No key for {OFFICIAL}. Set {key_variable}, or give --base-url of an endpoint of your own."
            )
        self._openai, self._key_variable = openai, key_variable
        self.model, self.max_new_tokens, self.temperature, self.seed = model, max_new_tokens, temperature, seed
        self.stop, self.tokens, self.timeout, self.retries = tuple(stop), tokens, timeout, retries
        self._proxy, self._redirects = checked_proxy(proxy), redirects
        self.bounds, self.card = (min_pixels, max_pixels), card or AgentCard()
        self.view = partial(images.model_view, min_pixels=min_pixels, max_pixels=max_pixels)
        self._format: Literal["PNG", "JPEG"] = "PNG" if lossless else "JPEG"
        self.on_text = on_text
        self._client: tuple[asyncio.AbstractEventLoop, AsyncOpenAI] | None = None

    @property
    def name(self) -> str:
        return f"{self.model or 'model'} at {self.base_url}"

    @property
    def model_type(self) -> str:
        """What tells how the model writes boxes."""
        return self.model or ""

    async def prompt_tokens(self, size: tuple[int, int]) -> int | None:
        """How many tokens the endpoint reads of a question with a white picture of (width, height), if it tells."""
        parts = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
        blank = new_picture("RGB", size, "white")
        told = await self._ask([{"role": "user", "content": parts}], [blank], stop=(), budget=1)
        return told.prompt_tokens

    async def act(self, trajectory: Trajectory) -> Completion:
        """The next turn. Raises EndpointError, or UnknownName for a model that the endpoint does not serve."""
        return await self._ask(*messages(trajectory), stop=self.stop, on_text=self.on_text)

    async def complete(self, conversation: Sequence[Message], pictures: Sequence[Image] = ()) -> Completion:
        """The reply to a conversation in transformers' format, whose `image` parts stand for `pictures` in order."""
        return await self._ask(list(conversation), list(pictures), stop=())

    async def check(self) -> None:
        """Raises EndpointError when nothing answers at the address; chooses the model where none was named."""
        served = await self._served()
        if self.model is None:
            if len(served) != 1:
                found = f"{len(served) or 'no'} models ({', '.join(served[:8])})"
                raise EndpointError(f"{self.base_url} serves {found}. Name one with --model.")
            self.model = served[0]

    async def close(self) -> None:
        """Ends the connections of the running event loop."""
        if self._client is not None and self._client[0] is asyncio.get_running_loop():
            await self._client[1].close()
            self._client = None

    async def _ask(
        self,
        conversation: list[Message],
        pictures: list[Image],
        stop: Sequence[str],
        budget: int | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        if self.model is None:
            await self.check()
        # encoding pictures takes longer than everything else here, and must not hold up other episodes
        urls = await asyncio.to_thread(self._encoded, pictures) if pictures else []
        request = self._request(conversation, urls, stop, budget or self.max_new_tokens)
        try:
            if on_text is not None:
                reply = await self._stream(request, on_text)
            else:
                reply = _read_reply(await self._connected().chat.completions.create(**request))
        except self._openai.BadRequestError as error:
            if _TOO_LONG.search(str(error)):
                return Completion("", finish="context")
            raise self._explain(error, bool(pictures)) from None
        except self._openai.NotFoundError as error:
            raise await self._not_found(error) from None
        except (self._openai.OpenAIError, _Nonsense, ValueError, TypeError, AttributeError) as error:
            raise self._explain(error, bool(pictures)) from None
        return self._redacted(reply)

    def _redacted(self, reply: Completion) -> Completion:
        said = self._redaction.text(reply.text)
        # its tokens would say the key again
        return reply if said == reply.text else replace(reply, text=said, ids=None, logprobs=None)

    def _encoded(self, pictures: Sequence[Image]) -> list[str]:
        return [images.data_url(self.view(p), self._format) for p in pictures]

    def _request(
        self, conversation: list[Message], urls: list[str], stop: Sequence[str], budget: int
    ) -> dict[str, Any]:
        budget_name = "max_completion_tokens" if self.base_url == OFFICIAL else "max_tokens"
        request: dict[str, Any] = {
            "model": self.model,
            "messages": _openai_messages(conversation, urls),
            "temperature": self.temperature,
            budget_name: budget,
        }
        if stop:
            request["stop"] = list(stop)
        if self.seed is not None:
            request["seed"] = self.seed
        if self.tokens:
            request |= {"logprobs": True, "extra_body": {"return_token_ids": True}}
        return request

    async def _stream(self, request: dict[str, Any], on_text: Callable[[str], None]) -> Completion:
        text = held = ""
        ids: list[int] = []
        logprobs: list[float] = []
        finish: str | None = None
        usage: tuple[int | None, int | None] = None, None
        async for chunk in await self._connected().chat.completions.create(
            **request, stream=True, stream_options={"include_usage": True}
        ):
            if getattr(chunk, "error", None):
                raise _Nonsense(str(chunk.error))
            usage = _usage(chunk) if getattr(chunk, "usage", None) else usage
            for choice in chunk.choices or ():
                piece = choice.delta.content if choice.delta else None
                if piece:
                    text += piece
                    # what may be the beginning of a key waits for what follows
                    held += piece
                    ready = len(held) - self._redaction.begun(held)
                    on_text(self._redaction.text(held[:ready]))
                    held = held[ready:]
                ids += getattr(choice, "token_ids", None) or []
                logprobs += _logprobs(choice) or []
                finish = choice.finish_reason or finish
        if held:
            on_text(self._redaction.text(held))
        if finish is None:
            raise _Nonsense("the stream ended in the middle of the reply")
        return _completion(text, ids or None, logprobs or None, finish, *usage)

    def _connected(self) -> AsyncOpenAI:
        """The client of the running event loop: connections must not be used in another."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._client[0] is not loop:
            client = connect(
                self._address,
                self._key,
                timeout=self.timeout,
                retries=self.retries,
                proxy=self._proxy,
                redirects=self._redirects,
            )
            self._client = (loop, client)
        return self._client[1]

    async def _served(self) -> list[str]:
        """The models the endpoint lists; none where it lists nothing."""
        try:
            page = await self._connected().models.list()
            return [str(m.id) for m in page.data]
        except (self._openai.APIConnectionError, self._openai.AuthenticationError) as error:
            raise self._explain(error, False) from None
        except self._openai.APIStatusError as error:
            if error.status_code < 400:
                raise self._explain(error, False) from None
            return []
        # Many servers answer completions but list no models, each in its own way.
        except Exception:
            return []

    async def _not_found(self, error: Exception) -> UserError:
        served = await self._served()
        if self.model is not None and served and self.model not in served:
            return UnknownName(f"model at {self.base_url}", self.model, served)
        if _NO_MODEL.search(str(error)):
            return EndpointError(f"{self.base_url} does not serve the model {self.model!r}: {self._said(error)}.")
        return EndpointError(
            f"{self.base_url} has no chat completions (HTTP 404). Give the address up to and with its /v1."
        )

    def _explain(self, error: Exception, pictured: bool) -> EndpointError:
        o, where = self._openai, self.base_url
        if isinstance(error, o.APITimeoutError):
            return EndpointError(f"{where} did not answer within {self.timeout:g} s. Try again or raise the timeout.")
        if isinstance(error, o.APIConnectionError) and not isinstance(error, o.APITimeoutError):
            cause = self._said(error.__cause__ or error)
            return EndpointError(f"Nothing answers at {where} ({cause}). Start the server or correct --base-url.")
        if isinstance(error, o.AuthenticationError | o.PermissionDeniedError):
            state = "refuses the key in" if self._key else "wants a key, and there is none in"
            return EndpointError(f"{where} {state} {self._key_variable}. Set it to a key of that endpoint.")
        if isinstance(error, o.RateLimitError):
            return EndpointError(f"{where} refuses more requests for now (HTTP 429): {self._said(error)}.")
        if isinstance(error, o.APIStatusError) and error.status_code < 400:
            return EndpointError(
                f"{where} answers that it is at another address (HTTP {error.status_code}). Give that one, or set "
                "redirects: true for this endpoint."
            )
        if isinstance(error, o.APIStatusError):
            said = self._said(error)
            if pictured and error.status_code < 500 and _NO_IMAGES.search(said):
                return EndpointError(
                    f"{self.model} at {where} refuses the picture ({said}). Use a vision-language model."
                )
            return EndpointError(f"{where} refused the request (HTTP {error.status_code}): {said}.")
        return EndpointError(
            f"{where} answered something that is not a chat completion ({self._said(error)}). "
            "Check that it is an OpenAI-compatible endpoint."
        )

    def _said(self, error: BaseException) -> str:
        """The error's own words in one short line, without the key, which some servers repeat."""
        body = getattr(error, "body", None)
        said = body.get("message") or body.get("detail") or body.get("error") if isinstance(body, dict) else None
        line = " ".join(str(said or error or type(error).__name__).split()) or type(error).__name__
        return without_secrets(Redaction(self._secrets, least=1).text(line))[:240].rstrip(".")


class _Nonsense(Exception):
    """A reply that parses but is not a chat completion."""


@dataclass(frozen=True)
class _Pictures:
    urls: list[str]

    def parts(self, content: Any) -> Any:
        """OpenAI's parts for transformers'; a single text becomes a plain string, which every server takes."""
        if isinstance(content, str):
            return content
        if len(content) == 1 and content[0]["type"] == "text":
            return content[0]["text"]
        return [self._part(p) for p in content]

    def _part(self, part: dict[str, Any]) -> dict[str, Any]:
        if part["type"] != "image":
            return {"type": "text", "text": part["text"]}
        return {"type": "image_url", "image_url": {"url": self.urls.pop(0)}}


def _openai_messages(conversation: Sequence[Message], urls: list[str]) -> list[dict[str, Any]]:
    pictures = _Pictures(list(urls))
    told = [{"role": m["role"], "content": pictures.parts(m["content"])} for m in conversation]
    if pictures.urls:
        raise ValueError(f"{len(urls)} pictures were given, but {len(pictures.urls)} of them have no image part.")
    return told


def _read_reply(reply: Any) -> Completion:
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise _Nonsense(f"it begins {str(reply)[:60]!r}")
    choice = choices[0]
    text = choice.message.content
    # Some servers say null for an empty reply.
    if text is not None and not isinstance(text, str):
        raise _Nonsense(f"its content is a {type(text).__name__}")
    ids = getattr(choice, "token_ids", None)
    return _completion(text or "", ids, _logprobs(choice), choice.finish_reason, *_usage(reply))


def _completion(
    text: str,
    ids: list[int] | None,
    logprobs: list[float] | None,
    finish: str | None,
    read: int | None,
    sampled: int | None,
) -> Completion:
    ended: Finish = "length" if finish == "length" else "stop"
    known = tuple(int(i) for i in ids) if ids else None
    # Logprobs without ids, or of another length, belong to nothing.
    paired = tuple(logprobs) if logprobs and (known is None or len(known) == len(logprobs)) else None
    return Completion(text, known, paired, ended, read, tokens=sampled)


def _logprobs(choice: Any) -> list[float] | None:
    content = getattr(getattr(choice, "logprobs", None), "content", None)
    return [float(token.logprob) for token in content] if content else None


def _usage(reply: Any) -> tuple[int | None, int | None]:
    """Tokens that were read and sampled, as far as the endpoint tells."""
    usage = getattr(reply, "usage", None)
    counts = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
    read, sampled = (count if isinstance(count, int) else None for count in counts)
    return read, sampled


def _checked_url(url: str) -> str:
    try:
        known = bool(re.match(r"https?://[^/\s]+", url)) and urlsplit(url).port != 0
    except ValueError:
        known = False
    if not known:
        raise UserError(
            f"{public_address(url)!r} is not the address of an endpoint. Give one such as http://127.0.0.1:8000/v1."
        )
    return url.rstrip("/")
