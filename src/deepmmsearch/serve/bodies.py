"""Bodies of requests as JSON, and what is wrong with a request as a reply."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from deepmmsearch.errors import UserError
from deepmmsearch.notation import parse_json
from deepmmsearch.serve.callers import Spent
from deepmmsearch.serve.openai_api import status_of


def refused(error: UserError) -> JSONResponse:
    """What is wrong, with HTTP's number for it."""
    headers = {"Retry-After": f"{max(1, round(error.wait))}"} if isinstance(error, Spent) else {}
    return JSONResponse({"error": str(error)}, status_of(error), headers)


async def read_json(request: Request) -> dict[str, Any]:
    """The body. Raises UserError where it is no object of JSON, or does not say that it is."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UserError("The body is not application/json, which is all that is taken here.")
    try:
        body = parse_json((await request.body() or b"{}").decode("utf-8"))
    except ValueError as error:
        raise UserError(f"The body is not JSON ({error}).") from None
    if not isinstance(body, dict):
        raise UserError("The body is not a JSON object.")
    return body
