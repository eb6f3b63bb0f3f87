"""The page's door: the page itself, and what it asks of the server as JSON.

Everything that changes something takes JSON alone, which no form of another site can send; the key travels in a cookie
that no script can read and no other site can send along.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from deepmmsearch import images
from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.compose.serving import ServedModel, at_length, with_tools
from deepmmsearch.errors import UserError
from deepmmsearch.serve.bodies import read_json, read_names, refused
from deepmmsearch.serve.callers import COOKIE, Caller, key_of
from deepmmsearch.serve.event_streams import STILL, event_data, event_stream, with_pauses
from deepmmsearch.serve.examples import Examples
from deepmmsearch.serve.house import House
from deepmmsearch.serve.intake import read_data_uri
from deepmmsearch.serve.languages import choose_language, page_texts
from deepmmsearch.serve.page_kept import kept_routes
from deepmmsearch.serve.page_view import find_picture, view_end, view_run, view_turn
from deepmmsearch.serve.pdf_pages import PdfPages
from deepmmsearch.serve.refusals import NamedRefusal, UnknownRun
from deepmmsearch.serve.room import Run, State
from deepmmsearch.types import Exchange, Trajectory

FOLDER = Path(__file__).parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_MONTH = 30 * 24 * 3600
_NOT_KEPT = {"Cache-Control": "no-store"}

T = TypeVar("T")
Reply = Callable[[Request, Caller], Awaitable[Response]]


def page_routes(house: House) -> list[BaseRoute]:
    """The door's routes; none where the recipe wants no page."""
    if not house.recipe.page.enabled:
        return []
    door = PageDoor(house)
    small = [Middleware(GZipMiddleware)]

    def route(path: str, reply: Reply, *methods: str) -> Route:
        return Route(path, door.answering(reply), methods=methods or ("GET",), middleware=small)

    return [
        Route("/", _page, middleware=small),
        Mount("/page", StaticFiles(directory=FOLDER), middleware=small),
        Route("/api/settings", door.settings, middleware=small),
        Route("/api/login", door.login, methods=["POST"]),
        Route("/api/logout", door.logout, methods=["POST"]),
        route("/api/pdf", door.pdf, "POST"),
        route("/api/questions", door.ask, "POST"),
        route("/api/questions/{id}/events", door.events),
        route("/api/questions/{id}/stop", door.stop, "POST"),
        route("/api/questions/{id}/pictures/{name}", door.picture),
        route("/api/examples/{model}/{number}", door.example),
        *kept_routes(house, route),
    ]


async def _page(request: Request) -> Response:
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "Permissions-Policy": "microphone=()"}
    return FileResponse(FOLDER / "page.html", headers=headers, media_type="text/html; charset=utf-8")


class PageDoor:
    """What the page asks, except about what was kept."""

    def __init__(self, house: House) -> None:
        self._house, self._may = house, house.recipe.page.may_choose
        self._examples, self._pdfs = Examples(house.models), PdfPages()

    def answering(self, reply: Reply) -> Callable[[Request], Any]:
        """With the caller; what is wrong is told in one sentence."""

        async def answered(request: Request) -> Response:
            try:
                return await reply(request, self._house.callers.find(key_of(request.headers, request.cookies)))
            except UserError as error:
                return refused(error)

        return answered

    async def settings(self, request: Request) -> Response:
        """What the page needs to begin: for everybody the texts, for those who may ask also the models."""
        recipe = self._house.recipe
        asked = request.headers.get("accept-language", "")
        language = choose_language(request.query_params.get("language"), asked, recipe.page.language)
        told: dict[str, Any] = {"language": language, "texts": page_texts(language), "known": True}
        try:
            caller = self._house.callers.find(key_of(request.headers, request.cookies))
        except UserError:
            return JSONResponse(told | {"known": False}, headers=_NOT_KEPT)
        models = [self._described(model) for model in self._house.models.values()]
        told["caller"] = None if self._house.callers.keyless else caller.name
        told |= {"models": models if "model" in self._may else models[:1], "may": self._may}
        told |= {"uploads": recipe.uploads.model_dump(), "share": recipe.page.share}
        return JSONResponse(told, headers=_NOT_KEPT)

    def _described(self, model: ServedModel) -> dict[str, Any]:
        tools = model.workflow.limits
        row = {
            "name": model.name,
            "about": model.about,
            "calls": tools.calls,
            "long": model.free,
            "tools": model.search_tools,
        }
        return row | {"examples": self._examples.texts(model.name)}

    async def login(self, request: Request) -> Response:
        try:
            key = (await read_json(request)).get("key")
            self._house.callers.find(key if isinstance(key, str) else None)
        except UserError as error:
            return refused(error)
        reply = JSONResponse({})
        secure = request.url.scheme == "https"
        reply.set_cookie(COOKIE, str(key), _MONTH, path="/", secure=secure, httponly=True, samesite="strict")
        return reply

    async def logout(self, request: Request) -> Response:
        reply = JSONResponse({})
        reply.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return reply

    async def ask(self, request: Request, caller: Caller) -> Response:
        """A question, its pictures as data URIs or addresses; `conversation`: that of an earlier one it follows."""
        body = await read_json(request)
        pictures = body.get("pictures") or []
        if not isinstance(pictures, list) or not all(isinstance(each, str) for each in pictures):
            raise UserError("pictures is not a list of texts. Give data URIs or addresses.")
        model, workflow = self._chosen(body)
        history: list[Exchange] = []
        about: dict[str, Any] = {"door": "page"}
        taken: list[Any] = pictures
        if (conversation := body.get("conversation")) is not None:
            about["conversation"] = str(conversation)
            history, earlier = await self._before(str(conversation), caller)
            taken = pictures or earlier
        text = body.get("text")
        if not isinstance(text, str):
            raise UserError("text is missing. Give the question.")
        run = await self._house.begin(workflow, text, taken, history, caller, model.name, **about)
        # so that the history has it, too, for who reloads at once
        await self._house.room.on_disk(run)
        return JSONResponse(view_run(run), 201)

    def _chosen(self, body: Mapping[str, Any]) -> tuple[ServedModel, AgentWorkflow]:
        """The model and its workflow, as far as those who ask may choose."""
        name, calls = body.get("model"), body.get("calls")
        model = self._house.model(name if isinstance(name, str) and "model" in self._may else None)
        if isinstance(calls, bool) or not isinstance(calls, int | None):
            raise UserError(f"calls is {calls!r}, but a whole number is expected.")
        workflow = model.limited(calls if "calls" in self._may else None)
        if "tools" in self._may and (tools := read_names(body, "tools")) is not None:
            workflow = with_tools(model, workflow, tools)
        long = body.get("length") == "long" and "length" in self._may and model.free
        return model, at_length(workflow) if long else workflow

    async def _before(self, conversation: str, caller: Caller) -> tuple[list[Exchange], list[Any]]:
        """What was asked and answered, and the latest pictures. Raises UserError where there was nothing."""

        def read() -> tuple[list[Exchange], list[Any]]:
            kept = self._house.histories.of(caller.name)
            entries = kept.conversation(conversation)
            if not entries:
                raise NamedRefusal(
                    "This conversation is not in the history. It may have been deleted.", "no_conversation"
                )
            shown = next((entry for entry in reversed(entries) if entry.pictures), None)
            pictures = list(kept.get(shown.id).question.images) if shown is not None else []
            return [Exchange(e.question, e.answer) for e in entries if e.answer is not None], pictures

        return await asyncio.to_thread(read)

    async def pdf(self, request: Request, caller: Caller) -> Response:
        """A page of a PDF (a data URI) as a picture to ask with."""
        body = await read_json(request)
        number, most = body.get("page", 1), self._house.recipe.uploads.bytes
        if isinstance(number, bool) or not isinstance(number, int):
            raise UserError(f"page is {str(number)[:20]!r}, but a whole number is expected.")
        content = read_data_uri(str(body.get("pdf")), "the PDF", most)
        page = await self._pdfs.draw(content, number)
        return JSONResponse({"uri": await asyncio.to_thread(images.data_url, page.image), "pages": page.pages})

    async def events(self, request: Request, caller: Caller) -> Response:
        """A run as it goes on, from its first turn, whenever one comes."""
        run = self._house.room.find(request.path_params["id"], caller.name)
        return event_stream(self._told(run))

    async def _told(self, run: Run) -> AsyncIterator[str]:
        shown, written = 0, ""
        position: int | None = -1
        async for state in with_pauses(self._house.room.watch(run)):
            if state is None:
                yield STILL
                continue
            if state.position != position:
                yield event_data({"position": (position := state.position)})
            for event in _news(state, shown, written):
                yield event_data(event)
            shown, written = len(state.trajectory.turns), state.writing

    async def stop(self, request: Request, caller: Caller) -> Response:
        await read_json(request)
        await self._house.room.stop(self._house.room.find(request.path_params["id"], caller.name))
        return JSONResponse({})

    async def picture(self, request: Request, caller: Caller) -> Response:
        id = request.path_params["id"]
        try:
            last = self._house.room.find(id, caller.name).trajectory
        except UnknownRun:
            last = await asyncio.to_thread(lambda: self._house.histories.of(caller.name).get(id))
        content = await asyncio.to_thread(find_picture, last, request.path_params["name"])
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    async def example(self, request: Request, caller: Caller) -> Response:
        found = self._examples.picture(request.path_params["model"], request.path_params["number"])
        return Response(await asyncio.to_thread(found), media_type="image/png")


def _news(state: State, shown: int, written: str) -> Iterator[dict[str, Any]]:
    """What is new to who has seen so many turns, and of the present one so much."""
    last: Trajectory = state.trajectory
    for number in range(shown + 1, len(last.turns) + 1):
        yield {"turn": view_turn(last, number)}
    if len(last.turns) > shown or not state.writing.startswith(written):
        written = ""
    if len(state.writing) > len(written):
        yield {"from": len(written), "writing": state.writing[len(written) :]}
    if state.ended:
        yield {"end": view_end(last, state.unsaved)}
