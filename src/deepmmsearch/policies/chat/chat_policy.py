"""A policy behind an endpoint: each turn is one request."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from PIL.Image import Image
from PIL.Image import new as new_picture

from deepmmsearch import images
from deepmmsearch.agent.dialect import find_dialect
from deepmmsearch.agent.folding import folded
from deepmmsearch.errors import MissingExtra, UnknownName, UserError
from deepmmsearch.policies.agent_card import AgentCard
from deepmmsearch.policies.chat.calling import with_calls
from deepmmsearch.policies.chat.failures import (
    EndpointError,
    Failures,
    Nonsense,
    ToldInReply,
    failed_generation,
    is_filtered,
    is_full,
    is_loading,
    words,
)
from deepmmsearch.policies.chat.replies import EndpointReply, begun, cut_at
from deepmmsearch.policies.chat.requests import BUDGETS, THOUGHTS, Fit, Wish, openai_messages, smaller
from deepmmsearch.policies.connection import KEY_VARIABLE, OFFICIAL, checked_proxy, connect
from deepmmsearch.redaction import Redaction, public_address, secrets_in
from deepmmsearch.renderer import Message, messages
from deepmmsearch.types import Completion, Trajectory

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# Qwen2.5-VL's own bounds: a picture within them is not resized again by the server, so boxes are in pixels of what was
# sent.
MIN_PIXELS, MAX_PIXELS = 56 * 56, 1280 * 28 * 28
# Models that were not trained for the protocol like to go on and invent the result of their own search.
STOP = ("<information>",)
# so often a request is made to fit: each parameter that a server may refuse, once
_MOST_REFUSALS = 10
# with which a server says that it does not take a request as it is; 500 is llama.cpp's, 0 an error without a status
_REFUSED = (0, 400, 404, 413, 422, 500, 501)
_LONGEST_PAUSE = 8.0


class ChatPolicy:
    """Writes turns through `POST {base_url}/chat/completions`.

    `model` None takes the endpoint's only model. The key comes from the environment variable `key_variable` and from
    nowhere else; endpoints of one's own need none. What a server refuses (`max_tokens`, `temperature`, `stop`, ...) is
    renamed or left out, and asked again. `temperature` None is the server's own; `effort`: how long a reasoning model
    thinks; `extra`: further fields of each request. `lossless` sends pictures as PNG, pixel by pixel, instead of JPEG
    of quality 95. `tokens` asks for token ids and logprobs (vLLM gives both). `on_text` is called with each piece of a
    turn as it is written. `timeout` is in seconds, for one request; `retries` are made with growing pauses, or those
    that the server asks for. `min_pixels`, `max_pixels`: the bounds within which the server's model takes pictures as
    they are; `card`: what else is known of it. `fold`: about how many tokens of an episode it is sent; older
    observations are folded beyond that (`agent.folding`). `proxy`, `redirects`: as in `connection.connect`.
    """

    def __init__(
        self,
        model: str | None = None,
        base_url: str | None = None,
        *,
        key_variable: str = KEY_VARIABLE,
        max_new_tokens: int = 1024,
        temperature: float | None = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = STOP,
        effort: str | None = None,
        extra: Mapping[str, Any] | None = None,
        lossless: bool = False,
        tokens: bool = False,
        timeout: float = 120.0,
        retries: int = 2,
        proxy: str | None = None,
        redirects: bool = False,
        min_pixels: int = MIN_PIXELS,
        max_pixels: int = MAX_PIXELS,
        card: AgentCard | None = None,
        fold: int | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise MissingExtra("An OpenAI-compatible endpoint", "chat") from None
        self._address = _checked_url(base_url or OFFICIAL)
        self.base_url = public_address(self._address)
        self._key = os.environ.get(key_variable, "")
        self._secrets = (self._key, *secrets_in(self._address), *secrets_in(proxy))
        self._redaction = Redaction(self._secrets)
        if not self._key and self.base_url == OFFICIAL:
            raise UserError(
                f"No key for {OFFICIAL}. Set {key_variable}, or give --base-url of an endpoint of your own."
            )
        self._openai, self._key_variable = openai, key_variable
        self.model, self.timeout, self.retries = model, timeout, retries
        self.max_new_tokens = max_new_tokens
        self._wish = Wish(max_new_tokens, temperature, tuple(stop), seed, tokens, effort, dict(extra or {}))
        self._fit = Fit(BUDGETS[1] if self.base_url == OFFICIAL else BUDGETS[0])
        self._proxy, self._redirects = checked_proxy(proxy), redirects
        self.bounds, self.card, self._room = (min_pixels, max_pixels), card or AgentCard(), fold
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
        wish = replace(self._wish, budget=1, stop=(), tokens=False)
        return (await self._ask([{"role": "user", "content": parts}], [blank], wish)).prompt_tokens

    async def act(self, trajectory: Trajectory) -> Completion:
        """The next turn. Raises EndpointError, also for the second empty reply in a row, or UnknownName for a model
        that the endpoint does not serve."""
        thinks = find_dialect(trajectory.prompt.dialect).thinks
        wish = replace(self._wish, functions=trajectory.prompt.functions)
        read = trajectory if self._room is None else folded(trajectory, self._room, self.bounds[1])
        conversation, pictures = messages(read)
        turns = [message for message in conversation if message["role"] == "assistant"][-len(read.turns) :]
        for message, turn in zip(turns, read.turns, strict=False):
            message |= {THOUGHTS: turn.completion.thoughts}
        written = await self._ask(conversation, pictures, wish, self.on_text, thinks)
        before = trajectory.turns[-1].completion if trajectory.turns else None
        if before is not None and _is_empty(written) and _is_empty(before):
            raise EndpointError(f"{self.name} wrote nothing twice in a row. {_instead(written)}")
        return written

    async def complete(self, conversation: Sequence[Message], pictures: Sequence[Image] = ()) -> Completion:
        """The reply to a conversation in transformers' format, whose `image` parts stand for `pictures` in order."""
        return await self._ask(list(conversation), list(pictures), replace(self._wish, stop=()))

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
        wish: Wish,
        on_text: Callable[[str], None] | None = None,
        thinks: bool = False,
    ) -> Completion:
        if self.model is None:
            await self.check()
        # encoding pictures takes longer than everything else here, and must not hold up other episodes
        urls = await asyncio.to_thread(self._encoded, pictures) if pictures else []
        told = openai_messages(conversation, urls)
        told = with_calls(told) if wish.functions else told
        try:
            return self._redacted(await self._fitted(told, wish, on_text, thinks))
        except self._openai.NotFoundError as error:
            raise await self._not_found(error) from None
        except (self._openai.OpenAIError, *_FAILS) as error:
            raise self._failures.of(error, bool(pictures)) from None

    async def _fitted(
        self,
        told: list[Message],
        wish: Wish,
        on_text: Callable[[str], None] | None,
        thinks: bool,
    ) -> Completion:
        """Asked until the request is one that the server takes, or it is clear that there is none."""
        small = False
        for _ in range(_MOST_REFUSALS):
            body = self._fit.body(self.model, told, wish, on_text is not None)
            try:
                reply = await self._patiently(body, wish.stop, on_text)
            except (self._openai.APIStatusError, ToldInReply) as error:
                status = error.status if isinstance(error, ToldInReply) else error.status_code
                if status not in _REFUSED:
                    raise
                said = words(error)
                if (fewer := smaller(said, wish, self._fit.most)) is not None:
                    wish, small = fewer, True
                    continue
                if (text := failed_generation(error)) is not None:
                    return Completion(text, remark=f"{self._failures.said(error)}.")
                if is_full(said):
                    return Completion("", finish="context")
                if is_filtered(said, getattr(error, "code", None)):
                    return Completion("", finish="filter", remark=f"{self._failures.said(error)}.")
                if self._fit.learn(body, said, getattr(error, "param", None)):
                    continue
                raise
            written = reply.completion(wish.stop, thinks, bool(wish.functions))
            # as where the model is one's own: no room was left in its window
            return replace(written, finish="context") if small and written.finish == "length" else written
        raise EndpointError(f"{self.base_url} refused {_MOST_REFUSALS} forms of the request. Name another endpoint.")

    async def _patiently(
        self, body: dict[str, Any], stop: Sequence[str], on_text: Callable[[str], None] | None
    ) -> EndpointReply:
        """One reply; an error that stands in it is asked again like one that stands in the status, unless a part of the
        reply was shown already. Where the model is being loaded, it is asked for up to `timeout` seconds."""
        shown = False

        def show(piece: str) -> None:
            nonlocal shown
            shown = True
            assert on_text is not None
            on_text(piece)

        attempt, began = 0, monotonic()
        while True:
            try:
                if on_text is not None:
                    return await self._stream(body, stop, show)
                reply = EndpointReply()
                reply.fill(await self._connected().chat.completions.create(**body))
                return reply
            except (ToldInReply, self._openai.InternalServerError) as error:
                told = error if isinstance(error, ToldInReply) else None
                status = error.status if isinstance(error, ToldInReply) else error.status_code
                pause = min(0.5 * 2 ** min(attempt, 9), _LONGEST_PAUSE)
                if status == 503 and not shown and is_loading(words(error)):
                    # a model takes longer to load than retries last
                    waited = monotonic() - began
                    if waited >= self.timeout:
                        raise self._failures.loading(error, waited) from None
                    pause = min(pause, self.timeout - waited)
                elif told is None or attempt >= self.retries or shown or not told.passes:
                    raise
            await asyncio.sleep(pause)
            attempt += 1

    async def _stream(self, body: dict[str, Any], stop: Sequence[str], show: Callable[[str], None]) -> EndpointReply:
        reply, held, stopped = EndpointReply(), "", False
        request = self._connected().chat.completions.with_streaming_response.create(**body)
        async with request as response:
            if "event-stream" not in (response.headers.get("content-type") or "event-stream"):
                # a server that does not stream
                reply.fill(self._openai.types.chat.ChatCompletion.construct(**await response.json()))
                show(self._redaction.text(cut_at(reply.text, stop)[0]))
                return reply
            async for chunk in await response.parse():
                piece = reply.add(chunk)
                if stopped:
                    continue
                held, stopped = cut_at(held + piece, stop)
                # what may be the beginning of a key, or of what ends the turn, waits for what follows
                waits = 0 if stopped else max(self._redaction.begun(held), begun(held, stop))
                if ready := held[: len(held) - waits]:
                    show(self._redaction.text(ready))
                    held = held[len(ready) :]
        if held:
            show(self._redaction.text(held))
        if reply.finish is None:
            raise Nonsense("the stream ended in the middle of the reply")
        return reply

    def _redacted(self, reply: Completion) -> Completion:
        clean = self._redaction.text
        shown = replace(reply, text=clean(reply.text), thoughts=clean(reply.thoughts), remark=clean(reply.remark))
        # its tokens would say the key again
        return reply if shown == reply else replace(shown, ids=None, logprobs=None)

    def _encoded(self, pictures: Sequence[Image]) -> list[str]:
        return [images.data_url(self.view(p), self._format) for p in pictures]

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

    @property
    def _failures(self) -> Failures:
        return Failures(
            self._openai, self.base_url, self.model, self._key, self._key_variable, self.timeout, self._secrets
        )

    async def _served(self) -> list[str]:
        """The models the endpoint lists; none where it lists nothing."""
        try:
            page = await self._connected().models.list()
            return [str(m.id) for m in page.data]
        except (self._openai.APIConnectionError, self._openai.AuthenticationError) as error:
            raise self._failures.of(error, False) from None
        except self._openai.APIStatusError as error:
            if error.status_code < 400:
                raise self._failures.of(error, False) from None
            return []
        # Many servers answer completions but list no models, each in its own way.
        except Exception:
            return []

    async def _not_found(self, error: Exception) -> UserError:
        served = await self._served()
        if self.model is not None and served and self.model not in served:
            return UnknownName(f"model at {self.base_url}", self.model, served)
        return self._failures.not_found(error)


_FAILS = (Nonsense, ToldInReply, ValueError, TypeError, AttributeError)


def _is_empty(completion: Completion) -> bool:
    return completion.finish == "stop" and not completion.text.strip()


def _instead(completion: Completion) -> str:
    if completion.remark:
        return completion.remark
    return (
        "It thought, and said nothing: give it more tokens, or less effort."
        if completion.thoughts
        else ("Its chat template may not fit, or its server holds the reply back.")
    )


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
