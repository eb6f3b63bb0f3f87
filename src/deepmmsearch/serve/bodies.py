"""Bodies of requests as JSON, and what is wrong with a request as a reply."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from deepmmsearch.errors import Failed, UnknownName, UserError
from deepmmsearch.notation import parse_json
from deepmmsearch.serve.refusals import NoKey, NoPlace, Spent, TooMuch, UnknownRun, named

_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 503: "server_error"}
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


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
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": _CODES.get(status)}}


def retry_after(error: UserError) -> dict[str, str]:
    """The header that says when it is worth trying again."""
    return {"Retry-After": f"{max(1, round(error.wait))}"} if isinstance(error, Spent) else {}


def reply_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """As JSON in ASCII, which can hold halves of surrogate pairs."""
    return Response(json.dumps(value), status, headers, "application/json")


def refused(error: UserError) -> Response:
    """What is wrong, with HTTP's number for it, and what the page says in its own language."""
    return reply_json({"error": str(error), **named(error)}, status_of(error), retry_after(error))


async def read_json(request: Request) -> dict[str, Any]:
    """As `parse_body`, and where it says that it is JSON, which no form of another site can say."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UserError("The body is not application/json, which is all that is taken here.")
    return await parse_body(request)


async def parse_body(request: Request) -> dict[str, Any]:
    """The body. Raises UserError where it is not an object of JSON."""
    try:
        # a request that is streamed an answer would hold its body as long
        body = parse_json((b"".join([piece async for piece in request.stream()]) or b"{}").decode("utf-8"))
    except ValueError as error:
        raise UserError(f"The body is not JSON ({error}).") from None
    if not isinstance(body, dict):
        raise UserError("The body is not a JSON object.")
    return body


def read_names(body: Mapping[str, Any], field: str) -> list[str] | None:
    """The texts of a list that may be missing. Raises UserError."""
    given = body.get(field)
    if given is not None and not (isinstance(given, list) and all(isinstance(each, str) for each in given)):
        raise UserError(f"{field} is not a list of texts.")
    return given
