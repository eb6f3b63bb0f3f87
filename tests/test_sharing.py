"""What is slow, of one site or one tool, keeps nobody else waiting: names, connections, pages, searches."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("httpx2")

from deepmmsearch.errors import ToolError
from deepmmsearch.reading.document import Document
from deepmmsearch.tools.addresses import site_of
from deepmmsearch.tools.http import GuardedClient, TimedOut, Unreachable
from deepmmsearch.tools.index_tools import LocalTextSearch
from deepmmsearch.tools.lookups import Lookups
from deepmmsearch.tools.matching import PictureMatcher
from deepmmsearch.tools.page_reader import WebReader
from deepmmsearch.tools.turns import Turns
from ssrf import OTHER, PUBLIC, Internet, Request, reply

ANSWER = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, 80))]


@pytest.fixture
def end() -> Iterator[threading.Event]:
    """What is slow ends with the test."""
    event = threading.Event()
    yield event
    event.set()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_whose_a_name_is() -> None:
    names = ("www.shop.co.uk", "a.github.io", "a.b.example", "localhost", "10.0.0.1", "2606:2800::1")
    assert [site_of(name) for name in names] == [
        *("shop.co.uk", "a.github.io", "b.example", "localhost", "10.0.0.1", "2606:2800::1"),
    ]


# Names


async def test_names_that_never_resolve_stop_nothing(end: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(host: str, *_: Any, **__: Any) -> Any:
        if "slow" in host:
            end.wait(60)
            raise socket.gaierror
        return ANSWER

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    async with Internet() as internet, GuardedClient(backend=internet.backend) as web:
        stuck = [asyncio.create_task(web.get(f"http://slow{n}.example/")) for n in range(30)]
        stuck += [asyncio.create_task(web.get(f"http://a.slow{n}.com/")) for n in range(40)]
        await asyncio.sleep(0.05)
        # neither another name nor what else works in threads
        assert (await asyncio.wait_for(web.get("http://public.example/"), 20)).status == 200
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 20) == 1
        for task in stuck:
            task.cancel()
        assert all(isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*stuck, return_exceptions=True))


async def test_a_lookup_counts_in_the_time_for_a_connection(end: threading.Event) -> None:
    lookups = Lookups(lambda *_: [str(end.wait(60))])
    async with GuardedClient(resolve=lookups, connect_timeout=0.05) as web:
        with pytest.raises(Unreachable, match="not made in time"):
            await asyncio.wait_for(web.get("http://slow.example/"), 20)


async def test_lookups_are_shared_and_counted_by_site(end: threading.Event) -> None:
    asked: list[str] = []

    def look(host: str, port: int) -> list[str]:
        asked.append(host)
        if host.endswith("slow.example"):
            end.wait(60)
        if host == "nowhere.example":
            raise socket.gaierror
        return [PUBLIC]

    lookups = Lookups(look, at_once=5, of_a_site=3)
    waiting = [asyncio.create_task(lookups(f"{n}.slow.example", 80)) for n in range(9)]
    waiting += [asyncio.create_task(lookups("0.slow.example", 80)) for _ in range(9)]
    await settled()
    assert sorted(asked) == ["0.slow.example", "1.slow.example", "2.slow.example"]
    assert await lookups("public.other", 80) == [PUBLIC]
    with pytest.raises(Exception, match="no such host"):
        await lookups("nowhere.example", 80)
    # who gives up frees no thread, and takes nothing from who still waits
    waiting[0].cancel()
    await settled()
    assert len(asked) == 5
    end.set()
    assert await asyncio.gather(*waiting[1:]) == [[PUBLIC]] * 17 and asked.count("0.slow.example") == 1
    assert not lookups._running and len(lookups._sites) == 0


async def test_a_lookup_that_outlives_its_loop_is_no_error(end: threading.Event) -> None:
    def once() -> None:
        async def give_up() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(Lookups(lambda *_: [str(end.wait(60))])("a.example", 80), 0.01)

        asyncio.run(give_up())

    await asyncio.to_thread(once)
    before = threading.active_count()
    end.set()
    while threading.active_count() >= before and any(t.name == "lookup" for t in threading.enumerate()):
        await asyncio.sleep(0.01)


# Connections


async def test_a_slow_site_leaves_connections_to_the_others() -> None:
    hold = asyncio.Event()

    async def handler(request: Request) -> bytes:
        if "slow" in request.headers["host"]:
            await hold.wait()
        return reply(b"done")

    names = {"a.slow.example": [[PUBLIC]], "b.slow.example": [[PUBLIC]], "public.other": [[OTHER]]}
    async with (
        Internet(names, handler) as internet,
        GuardedClient(
            resolve=internet.resolve, backend=internet.backend, connections=4, of_a_site=2, timeout=60
        ) as web,
    ):
        stuck = [asyncio.create_task(web.get(f"http://{'ab'[n % 2]}.slow.example/")) for n in range(6)]
        while internet.accepted < 2:
            await asyncio.sleep(0.01)
        assert (await web.get("http://public.other/")).content == b"done" and internet.accepted == 3
        with pytest.raises(TimedOut):  # waiting counts
            await web.get("http://a.slow.example/", timeout=0.05)
        hold.set()
        assert [r.content for r in await asyncio.gather(*stuck)] == [b"done"] * 6


# Places


async def test_places_are_shared_between_sites() -> None:
    turns, order = Turns(2, 1), list[str]()
    waiting = {
        name: asyncio.create_task(turns.take(name.rstrip("0123456789"))) for name in ("a1", "a2", "a3", "b1", "c1")
    }
    for name, task in waiting.items():
        task.add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
    await settled()
    assert order == ["a1", "b1"], "one place for each site, however many of its pages were there before"
    waiting["b1"].result()()
    await settled()
    assert order == ["a1", "b1", "c1"]
    waiting["a1"].result()()
    waiting["c1"].result()()
    await settled()
    waiting["a2"].result()()
    await settled()
    assert order == ["a1", "b1", "c1", "a2", "a3"]
    waiting["a3"].result()()
    assert not turns._waiting and not turns._seconds and turns._free == 2


async def test_who_gives_up_waiting_leaves_the_place_to_the_next() -> None:
    turns = Turns(1, 1)
    first = await turns.take("a")
    second, third = (asyncio.create_task(turns.take(site)) for site in "ab")
    await settled()
    second.cancel()
    first()
    third_place = await asyncio.wait_for(third, 20)
    fourth = asyncio.create_task(turns.take("a"))
    await settled()
    third_place()
    fourth.cancel()  # with the turn given, but not yet taken
    with pytest.raises(asyncio.CancelledError):
        await fourth
    assert callable(await asyncio.wait_for(turns.take("a"), 20))


async def test_the_queue_is_bounded() -> None:
    turns = Turns(1, 1, at_most=3, of_a_site=2)
    await turns.take("a")
    waiting = [asyncio.create_task(turns.take(site)) for site in "aab"]
    await settled()
    for site, said in (("a", "Too many pages of a are"), ("c", "Too many pages are")):
        with pytest.raises(ToolError, match=said):
            await turns.take(site)
    waiting[0].cancel()
    await settled()
    waiting.append(asyncio.create_task(turns.take("c")))
    await settled()
    assert not waiting[-1].done()
    for task in waiting:
        task.cancel()


# Pages


class Parsing:
    """Stands where a process takes pages apart; those with "hostile" in them take until `end`."""

    def __init__(self, end: threading.Event) -> None:
        self.end, self.read_pages = end, list[str]()

    def read(self, origin: Any, content: bytes) -> Document:
        self.read_pages.append(origin.address)
        if b"hostile" in content:
            self.end.wait(60)
        return Document("A page", content.decode())

    def close(self) -> None:
        pass


async def _reader(end: threading.Event, work: Callable[[WebReader, Parsing], Any], timeout: float = 60.0) -> None:
    names = {f"{n}.evil.example": [[PUBLIC]] for n in range(20)} | {
        "public.other": [[OTHER]],
        "evil.example": [[PUBLIC]],
    }

    def handler(request: Request) -> bytes:
        hostile = "evil" in request.headers["host"]
        return reply(b"<p>hostile</p>" if hostile else b"<p>healthy</p>", Content_Type="text/html")

    async with Internet(names, handler) as internet:
        client = GuardedClient(resolve=internet.resolve, backend=internet.backend, timeout=60)
        reader, parsing = WebReader(client, timeout=timeout, workers=2), Parsing(end)
        while not reader._extractors.empty():
            reader._extractors.get().close()
        for _ in range(2):
            reader._extractors.put(parsing)  # type: ignore[arg-type]
        try:
            await work(reader, parsing)
        finally:
            end.set()
            await client.aclose()
            await asyncio.to_thread(reader.close)


async def test_hostile_pages_of_a_site_do_not_keep_a_healthy_one_waiting(end: threading.Event) -> None:
    async def work(reader: WebReader, parsing: Parsing) -> None:
        hostile = [asyncio.create_task(reader.read(f"http://{n}.evil.example/")) for n in range(12)]
        while not parsing.read_pages:
            await asyncio.sleep(0.01)
        for _ in range(3):
            assert "healthy" in (await asyncio.wait_for(reader.read("http://public.other/"), 20)).text
        assert len(parsing.read_pages) == 4 and not any(task.done() for task in hostile)
        end.set()
        assert [("hostile" in page.text) for page in await asyncio.gather(*hostile)] == [True] * 12

    await _reader(end, work)


async def test_waiting_to_be_read_counts_in_the_time_limit(end: threading.Event) -> None:
    async def work(reader: WebReader, parsing: Parsing) -> None:
        first = asyncio.create_task(reader.read("http://evil.example/"))
        while not parsing.read_pages:
            await asyncio.sleep(0.01)
        with pytest.raises(TimedOut, match="no turn to be read within"):
            await asyncio.wait_for(reader.read("http://evil.example/again"), 20)
        first.cancel()  # its process is busy all the same
        with pytest.raises(TimedOut):
            await asyncio.wait_for(reader.read("http://evil.example/again"), 20)
        end.set()
        assert "hostile" in (await asyncio.wait_for(reader.read("http://evil.example/again"), 20)).text

    await _reader(end, work, timeout=0.5)


# Tools


async def test_a_tool_has_threads_of_its_own(end: threading.Event) -> None:
    class Slow:
        def search_text(self, *_: Any) -> Any:
            end.wait(60)
            return []

    search = LocalTextSearch(Slow())  # type: ignore[arg-type]
    stuck = [asyncio.create_task(search.search("x", 1)) for _ in range(80)]
    await asyncio.sleep(0.05)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 20) == 1
    end.set()
    assert await asyncio.gather(*stuck) == [[]] * 80
    assert isinstance(PictureMatcher(lambda *_: [])._threads, type(search._threads))
