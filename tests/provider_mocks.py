"""The search APIs as their documentation describes them, on 127.0.0.1: what they take, answer and refuse.

Each mock checks the request as the real service does (method, path, key, parameters) and answers in its format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deepmmsearch.testing.services import KEY, Service, ServiceReply, ServiceRequest, ServiceRow, as_json


def _bad(message: str) -> ServiceReply:
    return as_json({"error": message}, 400)


def searxng(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    if asked.method != "GET" or asked.path != "/search" or asked.query.get("format") != "json":
        return ServiceReply(404, b"<h1>Not Found</h1>", kind="text/html")
    results = [
        {
            "url": r.url,
            "title": r.title,
            "content": r.text,
            "engine": "almanac",
            "template": "default.html",
            "parsed_url": ["https", "almanac.example", "/", "", "", ""],
            "engines": ["almanac"],
            "positions": [n],
            "score": 1.0 / n,
            "category": "general",
            "publishedDate": None,
        }
        for n, r in enumerate(rows, 1)
    ]
    return as_json(
        {
            "query": asked.query["q"],
            "number_of_results": 0,
            "results": results,
            "answers": [],
            "corrections": [],
            "infoboxes": [],
            "suggestions": [],
            "unresponsive_engines": [],
        }
    )


SERPER_UNAUTHORISED = as_json({"message": "Unauthorized.", "statusCode": 403}, 403)


def serper(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    if asked.method != "POST" or asked.path != "/search":
        return ServiceReply(404)
    if asked.headers.get("x-api-key") != KEY:
        return SERPER_UNAUTHORISED
    if not isinstance(asked.json.get("q"), str):
        return as_json({"message": "Missing query parameter", "statusCode": 400}, 400)
    organic = [{"title": r.title, "link": r.url, "snippet": r.text, "position": n} for n, r in enumerate(rows, 1)]
    return as_json({"searchParameters": {**asked.json, "type": "search"}, "organic": organic, "credits": 1})


def serper_lens(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    if asked.method == "GET" and asked.path.startswith("/thumb/"):
        return ServiceReply(200, thumbnail(), kind="image/png")
    if asked.path == "/upload":
        return (
            as_json({"url": "https://pictures.example/1.jpg"})
            if asked.form["file"][:2] == b"\xff\xd8"
            else ServiceReply(400)
        )
    if asked.method != "POST" or asked.path != "/lens":
        return ServiceReply(404)
    if asked.headers.get("x-api-key") != KEY:
        return SERPER_UNAUTHORISED
    if not str(asked.json.get("url", "")).startswith("https://"):
        return as_json({"message": "Missing url parameter", "statusCode": 400}, 400)
    host = asked.headers["host"]
    organic = [
        {
            "title": r.title,
            "source": r.text,
            "link": r.url,
            "imageUrl": "https://pictures.example/large.jpg",
            "thumbnailUrl": f"http://{host}/thumb/{n}",
        }
        for n, r in enumerate(rows, 1)
    ]
    return as_json({"searchParameters": {"type": "lens"}, "organic": organic, "credits": 3})


SERPAPI_UNAUTHORISED = as_json(
    {"error": "Invalid API key. Your API key should be here: serpapi.com/manage-api-key"}, 401
)
SERPAPI_EXHAUSTED = as_json({"error": "Your account has run out of searches."}, 429)


def serpapi(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    if asked.query.get("api_key") != KEY:
        return SERPAPI_UNAUTHORISED
    if asked.method != "GET" or asked.path != "/search.json" or asked.query.get("engine") != "google":
        return _bad("Unsupported `engine`.")
    if not asked.query.get("q"):
        return _bad("Missing query `q` parameter.")
    head = {"search_metadata": {"id": "1", "status": "Success"}, "search_parameters": {"engine": "google"}}
    if not rows:
        return as_json({**head, "error": "Google hasn't returned any results for this query."})
    organic = [
        {"position": n, "title": r.title, "link": r.url, "displayed_link": "x", "snippet": r.text}
        for n, r in enumerate(rows, 1)
    ]
    return as_json({**head, "organic_results": organic})


def serpapi_lens(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    if asked.method == "GET" and asked.path.startswith("/thumb/"):
        return ServiceReply(200, thumbnail(), kind="image/png")
    if asked.method == "POST" and asked.path == "/image":
        form = asked.form
        if form.get("api_key") != KEY.encode():
            return SERPAPI_UNAUTHORISED
        if form.get("image", b"")[:2] != b"\xff\xd8" or len(form["image"]) > 500_000:
            return _bad("Unsupported image.")
        return as_json({"image_id": "f00d-cafe"})
    if asked.query.get("api_key") != KEY:
        return SERPAPI_UNAUTHORISED
    if asked.path != "/search.json" or asked.query.get("engine") != "google_lens":
        return _bad("Unsupported `engine`.")
    if asked.query.get("image_id") != "f00d-cafe" and not asked.query.get("url", "").startswith("https://"):
        return _bad("Missing `url` parameter.")
    if not rows:
        return as_json({"error": "Google Lens hasn't returned any results for this query."})
    host = asked.headers["host"]
    matches = [
        {
            "position": n,
            "title": r.title,
            "link": r.url,
            "source": r.text,
            "source_icon": "https://icons.example/1.png",
            "thumbnail": f"http://{host}/thumb/{n}",
            "image": "https://pictures.example/large.jpg",
        }
        for n, r in enumerate(rows, 1)
    ]
    return as_json({"search_metadata": {"status": "Success"}, "visual_matches": matches})


def _brave_error(code: str, detail: str, status: int) -> ServiceReply:
    return as_json(
        {"type": "ErrorResponse", "error": {"id": "1", "status": status, "code": code, "detail": detail}}, status
    )


def brave(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    if asked.method != "GET" or asked.path != "/res/v1/web/search":
        return ServiceReply(404)
    if asked.headers.get("x-subscription-token") != KEY:
        return BRAVE_UNAUTHORISED
    q, count = asked.query.get("q", ""), int(asked.query.get("count", "20"))
    if not q or len(q) > 400 or len(q.split()) > 50 or not 1 <= count <= 20:
        return _brave_error("VALIDATION", "Unable to validate request parameter(s)", 422)
    results = [
        {
            "title": r.title,
            "url": r.url,
            "is_source_local": False,
            "description": r.text.replace("Moru", "<strong>Moru</strong>"),
            "language": "en",
            "family_friendly": True,
            "type": "search_result",
        }
        for r in rows
    ]
    head = {"type": "search", "query": {"original": q}}
    return as_json({**head, "web": {"type": "search", "results": results}} if results else head)


BRAVE_UNAUTHORISED = _brave_error("SUBSCRIPTION_TOKEN_INVALID", "The provided subscription token is invalid.", 422)


def tavily(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    if asked.method != "POST" or asked.path != "/search":
        return ServiceReply(404)
    if asked.headers.get("authorization") != f"Bearer {KEY}":
        return TAVILY_UNAUTHORISED
    body = asked.json
    if not body.get("query") or len(body["query"]) > 400 or not 0 <= body.get("max_results", 5) <= 20:
        return as_json({"detail": {"error": "Query is invalid."}}, 400)
    results = [
        {"title": r.title, "url": r.url, "content": r.text, "score": 1 - n / 10, "raw_content": None}
        for n, r in enumerate(rows)
    ]
    return as_json(
        {
            "query": body["query"],
            "answer": None,
            "images": [],
            "results": results,
            "response_time": 0.5,
            "request_id": "1",
        }
    )


TAVILY_UNAUTHORISED = as_json({"detail": {"error": "Unauthorized: missing or invalid API key."}}, 401)
TAVILY_EXHAUSTED = as_json({"detail": {"error": "This request exceeds your plan's set usage limit."}}, 432)


def exa(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    if asked.method != "POST" or asked.path != "/search":
        return ServiceReply(404)
    if asked.headers.get("x-api-key") != KEY:
        return EXA_UNAUTHORISED
    body = asked.json
    if not body.get("query") or not 1 <= body.get("numResults", 10) <= 100 or set(body) & {"text", "highlights"}:
        return as_json({"requestId": "1", "error": "Invalid request body", "tag": "INVALID_REQUEST_BODY"}, 400)
    texts: Callable[[ServiceRow], dict[str, Any]] = (
        (lambda r: {"text": r.text})
        if "text" in body["contents"]
        else lambda r: {"highlights": r.text.split("/"), "highlightScores": [0.9]}
    )
    results = [
        {"id": r.url, "title": r.title, "url": r.url, "publishedDate": None, "author": "", **texts(r)} for r in rows
    ]
    return as_json(
        {"requestId": "1", "resolvedSearchType": "neural", "results": results, "costDollars": {"total": 0.007}}
    )


EXA_UNAUTHORISED = as_json({"requestId": "1", "error": "Invalid API key", "tag": "INVALID_API_KEY"}, 401)
EXA_EXHAUSTED = as_json({"requestId": "1", "error": "Credits exhausted", "tag": "NO_MORE_CREDITS"}, 402)


def jina(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    if asked.method != "POST" or asked.path != "/":
        return ServiceReply(404)
    if asked.headers.get("authorization") != f"Bearer {KEY}":
        return JINA_UNAUTHORISED
    if asked.headers.get("accept") != "application/json":
        return ServiceReply(200, b"[1] Title: ...", kind="text/plain")
    if not rows:
        return as_json(
            {
                "data": None,
                "code": 422,
                "name": "AssertionFailureError",
                "status": 42206,
                "message": "No search results available for query",
                "readableMessage": "AssertionFailureError: No search results available for query x",
            },
            422,
        )
    bare = asked.headers.get("x-respond-with") == "no-content"
    data = [
        {
            "title": r.title,
            "url": r.url,
            "description": r.text,
            **({} if bare else {"content": r.text}),
            "usage": {"tokens": 1000},
        }
        for r in rows
    ]
    return as_json({"code": 200, "status": 20000, "data": data, "meta": {"usage": {"tokens": 10000}}})


JINA_UNAUTHORISED = as_json(
    {"data": None, "code": 401, "name": "AuthenticationFailedError", "status": 40103, "message": "Invalid API key"}, 401
)
JINA_EXHAUSTED = as_json(
    {
        "data": None,
        "code": 402,
        "name": "InsufficientBalanceError",
        "message": "Account balance not enough to run this query, please recharge.",
    },
    402,
)


def retrieve(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    if asked.method != "POST" or asked.path != "/retrieve":
        return ServiceReply(404)
    if "query" in asked.json:
        return ServiceReply(422, b'{"detail": [{"loc": ["body", "queries"], "msg": "field required"}]}')
    documents = [{"id": r.url, "contents": f'"{r.title}"\n{r.text}'} for r in rows]
    scored = [{"document": d, "score": 10.0 - n} for n, d in enumerate(documents)]
    return as_json(
        {"result": [scored if asked.json.get("return_scores") else documents for _ in asked.json["queries"]]}
    )


def retrieve_one(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    if asked.method != "POST" or asked.path != "/retrieve" or not isinstance(asked.json.get("query"), str):
        return ServiceReply(422, b'{"detail": [{"loc": ["body", "query"], "msg": "field required"}]}')
    return as_json({"result": [{"id": r.url, "contents": f'"{r.title}"\n{r.text}'} for r in rows]})


def thumbnail() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, "PNG")
    return buffer.getvalue()


def wikipedia(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    """https://www.mediawiki.org/wiki/API:Search as a generator, with TextExtracts; pages come in no order."""
    wanted = {"action": "query", "format": "json", "formatversion": "2", "generator": "search", "gsrnamespace": "0"}
    if asked.method != "GET" or asked.path != "/w/api.php" or not wanted.items() <= asked.query.items():
        return as_json({"error": {"code": "badvalue", "info": "Unrecognized value for parameter.", "docref": ""}})
    if int(asked.query["gsrlimit"]) > 20 or len(asked.query["gsrsearch"]) > 300:
        return as_json({"error": {"code": "cirrussearch-query-too-long", "info": "Search request is longer."}})
    if "deepmmsearch/" not in asked.headers["user-agent"]:
        return ServiceReply(403, b"Please set a user-agent", kind="text/plain")
    pages = [
        {"pageid": 7 * n, "ns": 0, "title": r.title, "index": n, "extract": r.text, "canonicalurl": r.url}
        for n, r in enumerate(rows, 1)
    ]
    return as_json({"batchcomplete": True, "query": {"pages": pages[::-1]}} if pages else {"batchcomplete": True})


def commons(asked: ServiceRequest, rows: tuple[ServiceRow, ...]) -> ServiceReply:
    """Likewise in namespace 6, with imageinfo; descriptions are HTML."""
    wanted = {"generator": "search", "gsrnamespace": "6", "prop": "imageinfo", "formatversion": "2"}
    if asked.path != "/w/api.php" or not wanted.items() <= asked.query.items():
        return as_json({"error": {"code": "badvalue", "info": "Unrecognized value for parameter."}})
    pages = []
    for n, r in enumerate(rows, 1):
        described = {"ImageDescription": {"value": f'<a href="//x.example" title="x">{r.text}</a>'}}
        info = {"descriptionurl": r.url, "mime": "image/jpeg", "thumburl": None, "extmetadata": described}
        pages.append({"title": f"File:{r.title}.jpg", "index": n, "imageinfo": [info]})
    return as_json({"batchcomplete": True, "query": {"pages": pages[::-1]}} if pages else {"batchcomplete": True})


SERVICES = (
    Service("searxng", "text", searxng, lambda url: {"url": url}, ("results",)),
    Service("wikipedia", "text", wikipedia, lambda url: {"url": f"{url}/w/api.php"}, ("query", "pages")),
    Service("commons", "text", commons, lambda url: {"url": f"{url}/w/api.php"}, ("query", "pages")),
    Service(
        "serper",
        "text",
        serper,
        lambda url: {"url": f"{url}/search"},
        ("organic",),
        SERPER_UNAUTHORISED,
        as_json({"message": "Not enough credits", "statusCode": 400}, 400),
    ),
    Service(
        "serpapi",
        "text",
        serpapi,
        lambda url: {"url": f"{url}/search.json"},
        ("organic_results",),
        SERPAPI_UNAUTHORISED,
        SERPAPI_EXHAUSTED,
    ),
    Service(
        "brave",
        "text",
        brave,
        lambda url: {"url": f"{url}/res/v1/web/search"},
        ("web", "results"),
        BRAVE_UNAUTHORISED,
        _brave_error("QUOTA_LIMITED", "Quota exceeded for plan.", 429),
    ),
    Service(
        "tavily",
        "text",
        tavily,
        lambda url: {"url": f"{url}/search"},
        ("results",),
        TAVILY_UNAUTHORISED,
        TAVILY_EXHAUSTED,
    ),
    Service("exa", "text", exa, lambda url: {"url": f"{url}/search"}, ("results",), EXA_UNAUTHORISED, EXA_EXHAUSTED),
    Service("jina", "text", jina, lambda url: {"url": f"{url}/"}, ("data",), JINA_UNAUTHORISED, JINA_EXHAUSTED),
    Service("retrieve", "text", retrieve, lambda url: {"url": url}, ("result",), addresses=False),
    Service(
        "retrieve",
        "text",
        retrieve_one,
        lambda url: {"url": f"{url}/retrieve", "shape": "query"},
        ("result",),
        addresses=False,
    ),
    Service(
        "serpapi-lens",
        "image",
        serpapi_lens,
        lambda url: {"url": f"{url}/search.json", "upload_url": f"{url}/image"},
        ("visual_matches",),
        SERPAPI_UNAUTHORISED,
        SERPAPI_EXHAUSTED,
        elsewhere=("/thumb/",),
    ),
    Service(
        "serper-lens",
        "image",
        serper_lens,
        lambda url: {"url": f"{url}/lens", "upload_to": f"{url}/upload"},
        ("organic",),
        SERPER_UNAUTHORISED,
        as_json({"message": "Not enough credits", "statusCode": 400}, 400),
        elsewhere=("/thumb/", "/upload"),
    ),
)
