"""What the page asks about what was kept: conversations, the history, exports, and links to share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from deepmmsearch.errors import UserError
from deepmmsearch.serve.bodies import read_json
from deepmmsearch.serve.callers import Caller
from deepmmsearch.serve.exports import MEDIA, Kept, export, file_name
from deepmmsearch.serve.history import History, HistoryEntry
from deepmmsearch.serve.house import House
from deepmmsearch.serve.page_view import view_entry, view_question
from deepmmsearch.serve.refusals import NamedRefusal, UnknownRun
from deepmmsearch.serve.shares import Shares

AT_ONCE, MOST = 100, 100_000
"""Conversations of the history: how many are told where nothing else is asked for, and how many may be."""


def kept_routes(house: House, route: Callable[..., Route]) -> list[Route]:
    """`route` makes one with the caller."""
    door = _Kept(house)
    routes = [
        route("/api/history", door.history),
        route("/api/history/{id}", door.change, "PATCH", "DELETE"),
        route("/api/conversations/{id}", door.conversation),
        route("/api/conversations/{id}/export.{kind}", door.exported),
    ]
    if house.recipe.page.share:
        routes.append(route("/api/conversations/{id}/share", door.share, "POST"))
        routes.append(Route("/shared/{token}", door.shared))
    return routes


class _Kept:
    def __init__(self, house: House) -> None:
        self._house, self._shares = house, Shares(house.recipe.store)

    async def history(self, request: Request, caller: Caller) -> Response:
        """Conversations, the latest first; with `search` those in which a question or answer has all its words; `most`:
        so many."""
        search, wanted = request.query_params.get("search", ""), request.query_params.get("most", "")
        most = min(MOST, int(wanted)) if re.fullmatch(r"[1-9]\d{0,8}", wanted, re.ASCII) else AT_ONCE

        def read(kept: History) -> list[list[HistoryEntry]]:
            all_: dict[str, list[HistoryEntry]] = {}
            for entry in kept.entries():
                all_.setdefault(entry.conversation, []).insert(0, entry)
            found = {entry.conversation for entry in kept.entries(search)}
            return [rows for id, rows in all_.items() if id in found]

        rows = await self._in_thread(caller, read)
        shown = [view_entry(each) for each in rows[:most]]
        return JSONResponse({"conversations": shown, "more": len(rows) > most}, headers=_NOT_KEPT)

    async def change(self, request: Request, caller: Caller) -> Response:
        """PATCH gives the conversation another title, DELETE deletes it with the links to it."""
        body, id = await read_json(request), request.path_params["id"]
        entries = await self._entries(id, caller)
        if request.method == "PATCH":
            title = body.get("title")
            await self._in_thread(caller, lambda kept: kept.rename(entries[0].id, str(title or "")))
            return JSONResponse({})
        for entry in entries:
            if entry.stop is None:
                await self._stop(entry, caller)
        ids = [entry.id for entry in entries]
        await asyncio.to_thread(self._shares.remove, caller.name, ids)
        await self._in_thread(caller, lambda kept: kept.remove(ids))
        return JSONResponse({})

    async def conversation(self, request: Request, caller: Caller) -> Response:
        entries = await self._entries(request.path_params["id"], caller)

        def views(kept: History) -> list[dict[str, Any]]:
            return [view_question(kept.get(entry.id), entry) for entry in entries]

        views_ = await self._in_thread(caller, views)
        return JSONResponse({"title": entries[0].title, "questions": views_}, headers=_NOT_KEPT)

    async def exported(self, request: Request, caller: Caller) -> Response:
        kind = request.path_params["kind"]
        if kind not in MEDIA:
            raise UserError(f"An export is one of: {', '.join(MEDIA)}.")
        entries = await self._entries(request.path_params["id"], caller)
        text = await self._in_thread(caller, lambda kept: export(_all(kept, entries), kind))
        name = file_name(entries[0].title, kind)
        headers = {"Content-Disposition": f'attachment; filename="{name}"', **_NOT_KEPT, **_SANDBOX}
        return Response(text.encode("utf-8", "replace"), media_type=f"{MEDIA[kind]}; charset=utf-8", headers=headers)

    async def share(self, request: Request, caller: Caller) -> Response:
        await read_json(request)
        entries = await self._entries(request.path_params["id"], caller)
        finished = [entry.id for entry in entries if entry.stop is not None]
        if not finished:
            raise NamedRefusal("There is no answer to share yet. Wait until it is there.", "nothing_to_share")
        token = await asyncio.to_thread(self._shares.add, caller.name, finished)
        return JSONResponse({"path": f"/shared/{token}"})

    async def shared(self, request: Request) -> Response:
        """For everybody: the HTML file of what was shared."""
        try:
            owner, ids = self._shares.find(request.path_params["token"])
            history = await asyncio.to_thread(self._house.histories.of, owner)
            text = await asyncio.to_thread(lambda: export(_all(history, [history.entry(id) for id in ids]), "html"))
        except UserError as error:
            return PlainTextResponse(str(error), 404)
        headers = {**_NOT_KEPT, **_SANDBOX, "X-Robots-Tag": "noindex"}
        return Response(text.encode("utf-8", "replace"), media_type="text/html; charset=utf-8", headers=headers)

    async def _entries(self, id: str, caller: Caller) -> list[HistoryEntry]:
        found = await self._in_thread(caller, lambda kept: kept.conversation(id))
        if not found:
            raise UnknownRun(
                f"There is no conversation {id[:40]!r} in the history. It may have been deleted.", "no_conversation"
            )
        return found

    async def _in_thread(self, caller: Caller, read: Callable[[History], Any]) -> Any:
        return await asyncio.to_thread(lambda: read(self._house.histories.of(caller.name)))

    async def _stop(self, entry: HistoryEntry, caller: Caller) -> None:
        try:
            run = self._house.room.find(entry.id, caller.name)
        except UnknownRun:
            return
        await self._house.room.stop(run)


_NOT_KEPT = {"Cache-Control": "no-store"}
# opened in a browser, it has no rights on this site
_SANDBOX = {"Content-Security-Policy": "sandbox allow-popups allow-popups-to-escape-sandbox; frame-ancestors 'none'"}


def _all(history: History, entries: list[HistoryEntry]) -> list[Kept]:
    return [Kept(entry, history.get(entry.id)) for entry in entries]
