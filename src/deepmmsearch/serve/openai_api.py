"""The OpenAI-compatible door: `/v1/models` and `/v1/chat/completions`, in one piece and streamed.

What the agent does on its way comes as `reasoning_content` (and `reasoning`, as others call it), all of it before the
first word of the answer; sources as `[n]` in the text and as `annotations` with their places.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.compose.serving import ServedModel
from deepmmsearch.errors import Failed, UnknownName, UserError
from deepmmsearch.notation import parse_json
from deepmmsearch.serve.callers import Caller, NoKey, Spent, key_of
from deepmmsearch.serve.conversations import Conversation, read_conversation
from deepmmsearch.serve.house import House
from deepmmsearch.serve.intake import TooMuch
from deepmmsearch.serve.open_webui import SUFFIX, crop_of, end_events, task_words, turn_events
from deepmmsearch.serve.room import NoPlace, Run, UnknownRun
from deepmmsearch.serve.steps import CitedAnswer, cited, told
from deepmmsearch.types import Trajectory

ALIVE_SECONDS = 10.0
HUNG_UP = "Whoever asked has hung up."
_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 503: "server_error"}


@dataclass(frozen=True)
class ChatRequest:
    """What of a request counts. `events`: the caller understands Open WebUI's own. `stop`: the answer ends before any
    of these; `tokens`: what the episode may sample."""

    model: ServedModel
    name: str
    conversation: Conversation
    stream: bool
    usage: bool
    events: bool
    stop: tuple[str, ...]
    tokens: int | None

    @property
    def workflow(self) -> AgentWorkflow:
        made = self.model.workflow
        if self.tokens is None:
            return made
        return replace(made, limits=replace(made.limits, tokens=min(self.tokens, made.limits.tokens)))


def openai_routes(house: House) -> list[Route]:
    """The door's routes."""
    door = _Door(house)
    return [
        Route("/v1/models", door.answering(door.models)),
        Route("/v1/models/{name}", door.answering(door.model)),
        Route("/v1/chat/completions", door.answering(door.complete), methods=["POST"]),
    ]


class _Door:
    def __init__(self, house: House) -> None:
        self._house = house
        self._began = int(time.time())

    def answering(self, reply: Callable[[Request, Caller], Awaitable[Response]]) -> Callable[[Request], Any]:
        """With the caller; what is wrong is told in OpenAI's form."""

        async def answered(request: Request) -> Response:
            try:
                return await reply(request, self._house.callers.find(key_of(request.headers, request.cookies)))
            except UserError as error:
                status = status_of(error)
                headers = {"Retry-After": f"{max(1, round(error.wait))}"} if isinstance(error, Spent) else {}
                return JSONResponse(error_body(str(error), status), status, headers)

        return answered

    async def models(self, request: Request, caller: Caller) -> Response:
        names = [name for each in self._house.models for name in (each, each + SUFFIX)]
        return JSONResponse({"object": "list", "data": [self._described(name) for name in names]})

    async def model(self, request: Request, caller: Caller) -> Response:
        name = request.path_params["name"]
        self._house.model(name.removesuffix(SUFFIX))
        return JSONResponse(self._described(name))

    def _described(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._began, "owned_by": "deepmmsearch"}

    async def complete(self, request: Request, caller: Caller) -> Response:
        try:
            body = parse_json((await request.body()).decode("utf-8"))
        except ValueError as error:
            raise UserError(f"The body is not JSON ({error}).") from None
        asked = self.read(body)
        if asked.conversation.task:
            self._house.callers.admit(caller)
            words = await task_words(asked.conversation.text, asked.model.workflow.policy)
            return self._at_once(asked, words)
        run = await self._house.begin(
            asked.workflow,
            asked.conversation.text,
            asked.conversation.pictures,
            asked.conversation.history,
            caller,
            asked.model.name,
            door="openai",
        )
        if asked.stream:
            return StreamingResponse(self._streamed(asked, run), media_type="text/event-stream", headers=_UNCACHED)
        last = await self._finished(request, run)
        if last.error is not None:
            raise Failed(last.error)
        return JSONResponse(whole(asked, run, last))

    def read(self, body: Any) -> ChatRequest:
        """Raises UserError, UnknownName."""
        if not isinstance(body, Mapping):
            raise UserError("The body is not a JSON object. Give model and messages.")
        name = body.get("model")
        if not isinstance(name, str):
            raise UserError(f"model is missing. Give one of: {', '.join(self._house.models)}.")
        if body.get("n") not in (None, 1):
            raise UserError("n is not 1. Each question has one answer here.")
        stop = body.get("stop") or ()
        options = body.get("stream_options")
        return ChatRequest(
            self._house.model(name.removesuffix(SUFFIX)),
            name,
            read_conversation(body.get("messages")),
            bool(body.get("stream")),
            isinstance(options, Mapping) and bool(options.get("include_usage")),
            name.endswith(SUFFIX),
            (stop,) if isinstance(stop, str) else tuple(word for word in stop if isinstance(word, str)),
            _tokens(body),
        )

    async def _finished(self, request: Request, run: Run) -> Trajectory:
        """The episode, which ends when whoever asked hangs up."""
        finished = asyncio.ensure_future(self._house.room.finish(run))
        try:
            while not (await asyncio.wait([finished], timeout=1.0))[0]:
                if await request.is_disconnected():
                    await self._house.room.stop(run, HUNG_UP)
            return finished.result()
        finally:
            finished.cancel()

    def _at_once(self, asked: ChatRequest, words: str) -> Response:
        message = {"role": "assistant", "content": words}
        frame = _frame("chatcmpl-task", asked.name)
        if not asked.stream:
            choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
            return JSONResponse({**frame, "object": "chat.completion", "choices": [choice], "usage": _usage(0, 0)})

        async def pieces() -> AsyncIterator[str]:
            yield _piece(frame, message)
            yield _piece(frame, {}, "stop")
            yield "data: [DONE]\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream", headers=_UNCACHED)

    async def _streamed(self, asked: ChatRequest, run: Run) -> AsyncIterator[str]:
        frame, shown = _frame(f"chatcmpl-{run.id}", asked.name), 0
        yield _piece(frame, {"role": "assistant", "content": ""})
        try:
            async for state in with_pauses(self._house.room.watch(run)):
                if state is None:
                    yield ": still at work\n\n"
                    continue
                for number in range(shown, len(state.trajectory.turns)):
                    for piece in _turn_pieces(frame, asked, state.trajectory, number):
                        yield piece
                shown = len(state.trajectory.turns)
            for piece in _end_pieces(frame, asked, run.trajectory, run.unsaved):
                yield piece
        finally:
            await self._house.room.stop(run, HUNG_UP)


def whole(asked: ChatRequest, run: Run, last: Trajectory) -> dict[str, Any]:
    """A completion in one piece."""
    answer = cited(last, asked.stop)
    steps = "".join((*(told(turn, last.prompt.dialect) for turn in last.turns), *_lines(run.unsaved)))
    message = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": _annotations(answer)}
    message |= {"reasoning_content": steps, "reasoning": steps}
    choice = {"index": 0, "message": message, "finish_reason": _finish(last), "logprobs": None}
    usage = _usage(last.prompt_tokens or 0, last.sampled_tokens)
    return {
        **_frame(f"chatcmpl-{run.id}", asked.name),
        "object": "chat.completion",
        "choices": [choice],
        "usage": usage,
    }


def _turn_pieces(frame: dict[str, Any], asked: ChatRequest, trajectory: Trajectory, number: int) -> Iterator[str]:
    turn = trajectory.turns[number]
    steps = told(turn, trajectory.prompt.dialect)
    if steps:
        yield _piece(frame, {"reasoning_content": steps, "reasoning": steps})
    if asked.events:
        for event in turn_events(turn):
            yield _data({"event": event})


def _end_pieces(frame: dict[str, Any], asked: ChatRequest, last: Trajectory, unsaved: str | None) -> Iterator[str]:
    if last.error is not None:
        yield _data(error_body(last.error, 502))
        yield "data: [DONE]\n\n"
        return
    for line in _lines(unsaved):
        yield _piece(frame, {"reasoning_content": line, "reasoning": line})
    answer = cited(last, asked.stop)
    crop = crop_of(last)
    if crop is not None:
        yield _piece(frame, {"images": [{"type": "image_url", "image_url": {"url": crop}}]})
    yield _piece(frame, {"content": answer.text})
    if asked.events:
        for event in end_events(answer):
            yield _data({"event": event})
    elif answer.sources:
        yield _piece(frame, {"annotations": _annotations(answer)})
    yield _piece(frame, {}, _finish(last))
    if asked.usage:
        yield _data({**frame, "choices": [], "usage": _usage(last.prompt_tokens or 0, last.sampled_tokens)})
    yield "data: [DONE]\n\n"


async def with_pauses(states: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The states, and None whenever nothing came for a while, so that nobody between hangs up."""
    following: asyncio.Future[Any] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(anext(states))
            done, _ = await asyncio.wait([following], timeout=ALIVE_SECONDS)
            if not done:
                yield None
                continue
            try:
                state = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield state
    finally:
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await following


def status_of(error: UserError) -> int:
    """HTTP's number for what is wrong."""
    match error:
        case NoKey():
            return 401
        case UnknownName() | UnknownRun():
            return 404
        case TooMuch():
            return 413
        case Spent():
            return 429
        case NoPlace():
            return 503
        case Failed():
            return 502
    return 400


def error_body(message: str, status: int) -> dict[str, Any]:
    """An error in OpenAI's form."""
    codes = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": codes.get(status)}}


_UNCACHED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def _frame(id: str, name: str) -> dict[str, Any]:
    return {"id": id, "object": "chat.completion.chunk", "created": int(time.time()), "model": name}


def _piece(frame: dict[str, Any], delta: dict[str, Any], finish: str | None = None) -> str:
    return _data({**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]})


def _data(value: Any) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _annotations(answer: CitedAnswer) -> list[dict[str, Any]]:
    return [
        {
            "type": "url_citation",
            "url_citation": {"url": source.url, "title": source.title, "start_index": start, "end_index": end},
        }
        for source, (start, end) in zip(answer.sources, answer.spans, strict=True)
    ]


def _lines(text: str | None) -> tuple[str, ...]:
    return (f"{text}\n",) if text else ()


def _finish(last: Trajectory) -> str:
    return "length" if last.stop in ("length", "context") else "stop"


def _usage(read: int, sampled: int) -> dict[str, int]:
    return {"prompt_tokens": read, "completion_tokens": sampled, "total_tokens": read + sampled}


def _tokens(body: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        given = body.get(name)
        if given is None:
            continue
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise UserError(f"{name} is {given!r}, but a whole number above 0 is expected.")
        return given
    return None
