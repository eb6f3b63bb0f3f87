"""What holds for every search provider, tried against its service on this machine."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from deepmmsearch.errors import ToolError
from deepmmsearch.testing.contract.checks import Check, raised
from deepmmsearch.testing.services import (
    KEY,
    ROWS,
    Service,
    ServiceReply,
    ServiceRequest,
    ServiceRow,
    Site,
    as_json,
    site,
)
from deepmmsearch.types import Hit

PICTURE = Image.effect_noise((64, 48), 60).convert("RGB")
QUERIES = ("Größe & Höhe? 東京 \U0001f6a2", "a" * 5000, "word " * 200, '"quoted" -minus site:x', "100% #1 a+b")


class ProviderCase:
    """An installed provider before its service. `timeout`: seconds of its client; `settings`: beside the service's."""

    def __init__(self, server: Site, service: Service, timeout: float = 60.0, **settings: Any) -> None:
        from deepmmsearch.tools.http import GuardedClient
        from deepmmsearch.tools.providers import catalog

        self.server, self.service = server, service
        server.asked.clear()
        self.answers(self.rows)
        self.variable = catalog.listing(service.name).key_variable
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the system's certificates take long to load
        client = GuardedClient(allow_private=[server.host], timeout=timeout, verify=context)
        options = {**service.settings(server.url), **settings}
        environment = {self.variable or "": KEY}
        self.tool = catalog.make(service.name, service.kind, options, lambda *_: client, environment)

    def rows(self, asked: ServiceRequest) -> ServiceReply:
        return self.service.answer(asked, ROWS)

    def answers(self, reply: Callable[[ServiceRequest], ServiceReply]) -> None:
        self.server.reply = reply

    @property
    def wanted(self) -> Any:
        return PICTURE if self.service.kind == "image" else "capital of Veld"

    def search(self, wanted: Any = None, k: int = 5) -> list[Hit]:
        hits: list[Hit] = asyncio.run(self.tool.search(wanted or self.wanted, k))
        return hits

    def fails(self, reply: ServiceReply | Callable[[ServiceRequest], ServiceReply]) -> ToolError:
        """The one error that a search ends with when the service, not the hosts beside it, replies so."""
        beside = self.service.elsewhere
        self.answers(reply if callable(reply) else lambda a: self.rows(a) if a.path.startswith(beside) else reply)
        error = raised(ToolError, self.search)
        message = str(error)
        assert KEY not in message, "the message holds the key"
        assert "\n" not in message and message.endswith((".", "…")), f"not one sentence: {message!r}"
        return error


@contextmanager
def running(service: Service, **settings: Any) -> Iterator[ProviderCase]:
    """The provider before a server of its own."""
    with site() as server:
        yield ProviderCase(server, service, **settings)


def hits_are_the_services_in_its_order(case: ProviderCase) -> None:
    hits = case.search()
    assert [h.title for h in hits] == [r.title for r in ROWS]
    if case.service.addresses:
        assert [h.url for h in hits] == [r.url for r in ROWS]
    assert [h.snippet for h in hits] == [r.text for r in ROWS]
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert {h.source for h in hits} == {case.service.name}
    assert all(h.matched is None for h in hits), "no provider says whether a picture shows the same thing"


def there_are_at_most_k_hits(case: ProviderCase) -> None:
    assert [h.title for h in case.search(k=2)] == [r.title for r in ROWS[:2]]
    assert len(case.search(k=1)) == 1
    case.answers(lambda asked: case.service.answer(asked, ROWS * 50))
    found = case.search(k=100)
    assert len(found) <= 100 and len({h.url for h in found}) == len(found), "each address once"


def nothing_found_is_not_an_error(case: ProviderCase) -> None:
    case.answers(lambda asked: case.service.answer(asked, ()))
    assert case.search() == []


def any_query_arrives(case: ProviderCase) -> None:
    """Whole, or cut where the service takes no longer ones."""
    if case.service.kind == "image":
        return
    for query in QUERIES:
        assert case.search(query), query
        asked = case.server.asked[-1]
        sent = [*asked.query.values(), *_texts(asked.json if asked.body else None)]
        assert query in sent or (len(query) > 400 and any(_cut(query, text) for text in sent)), (query, sent)


def _cut(query: str, text: str) -> bool:
    return bool(text.strip()) and (query.startswith(text.strip()) or query.split() == text.split())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def the_key_goes_nowhere_else(case: ProviderCase) -> None:
    if case.service.unauthorised is None:
        return
    case.search()
    assert KEY not in repr(case.tool)
    for asked in case.server.asked:
        if asked.path.startswith(case.service.elsewhere):
            assert KEY not in f"{asked.path}{asked.query}{asked.headers}" and KEY.encode() not in asked.body


def fields_that_are_missing_or_odd_are_left_out(case: ProviderCase) -> None:
    case.answers(lambda asked: _with_rows(case, asked, _odd))
    hits = case.search(k=50)
    assert {ROWS[0].title, ROWS[2].title} <= {h.title for h in hits}
    assert all(isinstance(h.title, str) and isinstance(h.snippet, str) and isinstance(h.score, float) for h in hits)
    assert all(h.title or h.snippet for h in hits)


def _odd(rows: list[Any]) -> list[Any]:
    """The results with further ones between them that lack fields or have them of another kind."""
    broken: list[Any] = [None, "text", 7, [], {}, {"title": None, "url": None, "link": None, "content": None}]
    for value in (None, 7, True, [], {}, ["x"], {"a": 1}):
        broken.append(dict.fromkeys(rows[0], value))
    kept = ("title", "url", "link", "document", "id", "contents")
    return [*broken, {name: value for name, value in rows[0].items() if name in kept}, *rows]


def _with_rows(case: ProviderCase, asked: ServiceRequest, change: Callable[[list[Any]], list[Any]]) -> ServiceReply:
    """The service's answer with its list of results changed."""
    reply = case.rows(asked)
    assert reply.body is not None
    if reply.status != 200 or not reply.body.startswith(b"{"):
        return reply
    *outer, last = case.service.results
    answer = inner = json.loads(reply.body)
    for name in outer:
        inner = inner.get(name, {})
    if last in inner:
        found = inner[last]
        nested = bool(found) and isinstance(found[0], list)
        inner[last] = [change(found[0])] if nested else change(found)
    return as_json(answer)


def results_of_another_kind_are_none_or_an_error(case: ProviderCase) -> None:
    from deepmmsearch.tools.providers.api import ProviderError

    first = case.service.results[0]

    def reply(asked: ServiceRequest, value: Any) -> ServiceReply:
        answer = case.rows(asked)
        body = json.loads(answer.body or b"{}") if (answer.body or b"").startswith(b"{") else {}
        return as_json({**body, first: value}) if first in body else answer

    others: tuple[Any, ...] = (None, "text", 7, {"a": 1}, [[]], [None])
    for value in others:
        case.answers(lambda asked, value=value: reply(asked, value))  # type: ignore[misc]
        try:
            assert case.search() == [], value
        except ProviderError as error:
            assert error.reason == "answer", error


def only_web_addresses_are_addresses(case: ProviderCase) -> None:
    if not case.service.addresses:
        return
    places = (
        "javascript:alert(1)",
        "file:///etc/passwd",
        "//x",
        "http://a b",
        "https://x/\ny",
        "https://" + "x" * 3000,
    )
    for place in places:
        case.answers(lambda asked, url=place: case.service.answer(asked, (ServiceRow("Veld", url, "text"),)))  # type: ignore[misc]
        assert [(h.title, h.url) for h in case.search()] == [("Veld", "")], place


def texts_are_plain_and_bounded(case: ProviderCase) -> None:
    rows = (
        ServiceRow(" Bold <b>and</b> &lt;i&gt; &amp; \n two\tlines ", "https://a.example/1", "x" * 200_000),
        ROWS[1],
    )
    case.answers(lambda asked: case.service.answer(asked, rows))
    first = case.search()[0]
    assert first.title.split("\n")[0].startswith("Bold and") and "<b>" not in first.title
    assert len(first.snippet) <= 20_000 and len(first.title) <= 300


REFUSALS = (
    (ServiceReply(500, b"oops"), "down"),
    (ServiceReply(502, b"<html>Bad Gateway</html>", kind="text/html"), "down"),
    (as_json({}, 429, retry_after="7"), "rate"),
    (as_json({}, 429), "rate"),
    (as_json({}, 503, retry_after="3"), "rate"),
    (as_json({}, 402), "quota"),
    (as_json({}, 401), "key"),
    (as_json({}, 404), "refused"),
    (ServiceReply(200, b"<html>Sign in</html>", kind="text/html"), "answer"),
    (ServiceReply(200, b""), "answer"),
    (ServiceReply(200, b'{"results": [{"title": "Ve'), "answer"),
    (ServiceReply(200, b"[" * 100_000), "answer"),
    (as_json([1, 2]), "answer"),
    (as_json("text"), "answer"),
)


def refusals_have_their_reason(case: ProviderCase) -> None:
    for reply, reason in REFUSALS:
        error = case.fails(reply)
        assert getattr(error, "reason", None) == reason, (error, reason)
        if "retry-after" in reply.headers:
            assert getattr(error, "retry_after", None) == float(reply.headers["retry-after"])


def a_dropped_connection_and_a_slow_answer_are_errors(case: ProviderCase) -> None:
    case.fails(ServiceReply(body=None))
    late = threading.Event()
    hasty = ProviderCase(case.server, case.service, timeout=0.2)
    error = hasty.fails(lambda _: ServiceReply(200, b"{}", wait=late))
    late.set()
    assert "0.2 s" in str(error)


def a_wrong_key_and_an_empty_account_say_what_to_do(case: ProviderCase) -> None:
    if case.service.unauthorised is not None:
        error = case.fails(case.service.unauthorised)
        assert getattr(error, "reason", None) == "key" and f"key in {case.variable}" in str(error)
    if case.service.exhausted is not None:
        error = case.fails(case.service.exhausted)
        assert getattr(error, "reason", None) == "quota" and "no credit left" in str(error)


def a_key_that_the_service_repeats_is_never_shown(case: ProviderCase) -> None:
    if case.service.unauthorised is None:
        return
    for status in (400, 401, 403, 422, 429, 500):
        for text in (f"Invalid API key {KEY}", f"Invalid API key {KEY}" * 20):
            case.fails(as_json({"message": text, "error": {"detail": text}}, status))
            case.fails(ServiceReply(status, text.encode(), kind="text/plain"))


def the_bytes_of_an_answer_are_counted(case: ProviderCase) -> None:
    from deepmmsearch.agent.metering import Meter, calling

    async def metered() -> Meter:
        meter = Meter()
        with meter.open(), calling(f"{case.service.kind}_search", case.service.name):
            await case.tool.search(case.wanted, 3)
        return meter

    (call,) = asyncio.run(metered()).calls
    assert call.bytes > 100 and call.error is None and call.provider == case.service.name


PROVIDER: tuple[Check[ProviderCase], ...] = (
    hits_are_the_services_in_its_order,
    there_are_at_most_k_hits,
    nothing_found_is_not_an_error,
    any_query_arrives,
    the_key_goes_nowhere_else,
    fields_that_are_missing_or_odd_are_left_out,
    results_of_another_kind_are_none_or_an_error,
    only_web_addresses_are_addresses,
    texts_are_plain_and_bounded,
    refusals_have_their_reason,
    a_dropped_connection_and_a_slow_answer_are_errors,
    a_wrong_key_and_an_empty_account_say_what_to_do,
    a_key_that_the_service_repeats_is_never_shown,
    the_bytes_of_an_answer_are_counted,
)
