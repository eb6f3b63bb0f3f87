"""The OpenAI-compatible door: `/v1/models`, `/v1/chat/completions` and `/v1/responses`, in one piece and streamed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.compose.serving import ServedModel, with_tools
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.serve.bodies import error_body, parse_body, read_names, reply_json, retry_after, status_of
from deepmmsearch.serve.callers import Caller, key_of
from deepmmsearch.serve.chat_form import ChatForm
from deepmmsearch.serve.conversations import Conversation, read_conversation, read_input
from deepmmsearch.serve.event_streams import STILL, event_stream, with_pauses
from deepmmsearch.serve.house import House
from deepmmsearch.serve.open_webui import SUFFIX, task_words
from deepmmsearch.serve.response_form import ResponseForm
from deepmmsearch.serve.room import Run
from deepmmsearch.serve.steps import CitedAnswer, Outcome, cited
from deepmmsearch.types import Trajectory

MOST_STOPS = 16
DISK_SECONDS = 0.5
HUNG_UP = "Whoever asked has hung up."
OpenAIForm = ChatForm | ResponseForm


@dataclass(frozen=True)
class OpenAIRequest:
    """What of a request counts. `stop`: the answer ends before any of these; `tokens`: what the episode may sample;
    `tools`: the search tools it may use, None for all."""

    model: ServedModel
    name: str
    stream: bool
    stop: tuple[str, ...]
    tokens: int | None
    tools: list[str] | None = None

    @property
    def workflow(self) -> AgentWorkflow:
        made = self.model.workflow
        made = made if self.tools is None else with_tools(self.model, made, self.tools)
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
        Route("/v1/responses", door.answering(door.respond), methods=["POST"]),
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
                return reply_json(error_body(str(error), status), status, retry_after(error))

        return answered

    async def models(self, request: Request, caller: Caller) -> Response:
        names = [name for each in self._house.models for name in (each, each + SUFFIX)]
        return reply_json({"object": "list", "data": [self._described(name) for name in names]})

    async def model(self, request: Request, caller: Caller) -> Response:
        name = request.path_params["name"]
        self._house.model(name.removesuffix(SUFFIX))
        return reply_json(self._described(name))

    def _described(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._began, "owned_by": "deepmmsearch"}

    async def complete(self, request: Request, caller: Caller) -> Response:
        body = await parse_body(request)
        if body.get("n") not in (None, 1):
            raise UserError("n is not 1. Each question has one answer here.")
        options = body.get("stream_options")
        usage = isinstance(options, Mapping) and bool(options.get("include_usage"))
        conversation = read_conversation(body.get("messages"))
        asked = self._read(body, "max_completion_tokens", "max_tokens")
        events = asked.name.endswith(SUFFIX)
        return await self._reply(
            request, caller, asked, conversation, lambda id: ChatForm(id, asked.name, events, usage)
        )

    async def respond(self, request: Request, caller: Caller) -> Response:
        body = await parse_body(request)
        for name in ("previous_response_id", "conversation", "background", "prompt"):
            if body.get(name):
                raise UserError(f"{name} is not taken here. Send the whole conversation as input, and wait or stream.")
        conversation, asked = read_input(body.get("input")), self._read(body, "max_output_tokens")
        return await self._reply(request, caller, asked, conversation, lambda id: ResponseForm(id, asked.name))

    async def _reply(
        self,
        request: Request,
        caller: Caller,
        asked: OpenAIRequest,
        said: Conversation,
        form_of: Callable[[str], OpenAIForm],
    ) -> Response:
        if said.task:
            self._house.callers.admit(caller)
            words = await task_words(said.text, asked.model.workflow.policy)
            return _at_once(asked, form_of("task"), Outcome(CitedAnswer(words)))
        model = asked.model.name
        run = await self._house.begin(
            asked.workflow, said.text, said.pictures, said.history, caller, model, door="openai"
        )
        form = form_of(run.id)
        if asked.stream:
            return event_stream(self._streamed(asked, form, run))
        last = await self._finished(request, run)
        if last.error is not None:
            raise Failed(last.error)
        return reply_json(form.whole(_outcome(asked, run)))

    def _read(self, body: Mapping[str, Any], *tokens: str) -> OpenAIRequest:
        """Raises UserError, UnknownName. `tokens`: the names under which a limit of tokens is told."""
        name = body.get("model")
        if not isinstance(name, str):
            raise UserError(f"model is missing. Give one of: {', '.join(self._house.models)}.")
        model = self._house.model(name.removesuffix(SUFFIX))
        stop = _stop(body.get("stop"))
        tools = read_names(body, "search_tools")
        if tools is not None and "tools" not in self._house.recipe.page.may_choose:
            raise UserError("search_tools are not chosen by those who ask here. Leave the field out.")
        return OpenAIRequest(model, name, bool(body.get("stream")), stop, _tokens(body, tokens), tools)

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

    async def _streamed(self, asked: OpenAIRequest, form: OpenAIForm, run: Run) -> AsyncIterator[str]:
        shown = 0
        try:
            # who hears that it was taken finds it in the history; where many ask at once, it is played nonetheless
            await self._house.room.on_disk(run, DISK_SECONDS)
            for piece in form.begin():
                yield piece
            async for state in with_pauses(self._house.room.watch(run)):
                if state is None:
                    yield STILL
                    continue
                turns = state.trajectory.turns
                for turn in turns[shown:]:
                    for piece in form.turn(turn, state.trajectory.prompt.dialect):
                        yield piece
                shown = len(turns)
            failed = run.trajectory.error
            for piece in form.end(_outcome(asked, run)) if failed is None else form.fail(failed):
                yield piece
        finally:
            await self._house.room.stop(run, HUNG_UP)


def _outcome(asked: OpenAIRequest, run: Run) -> Outcome:
    return Outcome(cited(run.trajectory, asked.stop), run.trajectory, run.unsaved)


def _at_once(asked: OpenAIRequest, form: OpenAIForm, outcome: Outcome) -> Response:
    if not asked.stream:
        return reply_json(form.whole(outcome))

    async def pieces() -> AsyncIterator[str]:
        for piece in (*form.begin(), *form.end(outcome)):
            yield piece

    return event_stream(pieces())


def _stop(given: Any) -> tuple[str, ...]:
    words = [given] if isinstance(given, str) else given or []
    if not isinstance(words, list) or len(words) > MOST_STOPS or not all(isinstance(word, str) for word in words):
        raise UserError(f"stop is neither a text nor a list of at most {MOST_STOPS} texts.")
    return tuple(words)


def _tokens(body: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        given = body.get(name)
        if given is None:
            continue
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise UserError(f"{name} is {repr(given)[:40]}, but a whole number above 0 is expected.")
        return given
    return None
