"""Passwords and keys do not get into what is shown and stored, whoever says them and however they are written."""

from __future__ import annotations

import asyncio
import base64
import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

pytest.importorskip("httpx2")
pytest.importorskip("openai")

import lxml.html

from deepmmsearch.actions.visit import Visit
from deepmmsearch.agent import Toolbox, play
from deepmmsearch.agent.protocols import Page
from deepmmsearch.agent.runner import AgentWorkflow, play_safely
from deepmmsearch.compose.recipe import read_settings
from deepmmsearch.compose.tool_settings import NetworkSettings, ProviderSettings, ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox, make_provider
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.policies.chat import ChatPolicy
from deepmmsearch.prompts import load_prompt
from deepmmsearch.reading.page_links import links_of
from deepmmsearch.redaction import (
    Redaction,
    public_address,
    public_settings,
    secrets_in,
    without_login,
    without_secrets,
)
from deepmmsearch.settings import EndpointSettings, decisive
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.testing import ScriptedPolicy
from deepmmsearch.testing.services import ServiceReply, ServiceRequest, as_json, site
from deepmmsearch.tools.http import BadStatus, GuardedClient
from deepmmsearch.tools.providers.api import hit
from deepmmsearch.types import Hit, Limits, Question, Trajectory
from endpoints import endpoint, error, said, streamed

KEY = 'Zx/9q+ä"secret\\0123456789'  # letters that every encoding writes in its own way
PLAIN = "Zx9q-secret-0123456789"
SEARCH = "<reason>r</reason><text_search>capital of Veld</text_search>"
ANSWER = "<reason>r</reason><answer>Moru</answer>"


def base64_at(offset: int) -> Callable[[str], str]:
    return lambda key: base64.b64encode(b"a" * offset + key.encode() + b"tail").decode()


WRITINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "quoted": lambda key: quote(key, safe=""),
    "quoted in part": quote,
    "quoted in small letters": lambda key: quote(key, safe="").replace("%2F", "%2f").replace("%C3%A4", "%c3%a4"),
    "quoted as a form": quote_plus,
    "quoted twice": lambda key: quote(quote(key, safe=""), safe=""),
    "JSON": lambda key: json.dumps(key)[1:-1],
    "JSON, slashes escaped": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "JSON, all escaped": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "HTML": html.escape,
    **{f"base64 at {offset}": base64_at(offset) for offset in range(3)},
    "base64 for addresses": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "quoted letter by letter": lambda key: "".join(f"%{b:02X}" for b in key.encode()),
    "HTML, all escaped": lambda key: "".join(f"&#x{ord(c):X};" for c in key),
    "HTML, in numbers": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "hexadecimal": lambda key: key.encode().hex(),
}


def holds(text: str) -> bool:
    """A piece of the key that could be of use, in any of its writings."""
    return any(written(KEY)[3:-3] in text or written(PLAIN)[3:-3] in text for written in WRITINGS.values())


@pytest.mark.parametrize("writing", WRITINGS)
def test_a_key_is_found_however_it_is_written(writing: str) -> None:
    text = f"before {WRITINGS[writing](KEY)} after"
    assert holds(text)
    for found in (Redaction([KEY]).text(text), Redaction([KEY]).content(text.encode()).decode()):
        assert not holds(found) and found.startswith("before ") and found.endswith(" after")


def test_what_is_no_key_stays() -> None:
    text = "The capital of Veld is Moru; see https://a.example/veld?page=2&lang=en and user@mail.example."
    assert Redaction([KEY, "Moru", ""]).text(text) == text == without_secrets(text)
    assert Redaction(["short"]).text("a short one") == "a short one"
    assert Redaction(["short"], least=1).text("a short one") == "a *** one"


@pytest.mark.parametrize(
    ("address", "shown", "secrets"),
    [
        ("https://me:pa55word@host.example/v1", "https://host.example/v1", {"pa55word"}),
        ("https://me:p@ss:w0rd@host.example:8443/v1", "https://host.example:8443/v1", {"p@ss:w0rd"}),
        ("https://me:p%40ssword@host.example", "https://host.example", {"p%40ssword", "p@ssword"}),
        ("https://tokentoken@host.example", "https://host.example", {"tokentoken"}),
        ("https://a.example/v1?key=abc&lang=en", "https://a.example/v1?key=***&lang=en", {"abc"}),
        ("https://a.example/?X-Amz-Signature=ff&sig=x", "https://a.example/?X-Amz-Signature=***&sig=***", {"ff", "x"}),
        ("https://a.example/?access_token=abc#top", "https://a.example/?access_token=***#top", {"abc"}),
        (
            "https://a.example/0a1b2c3d4e5f6a7b8c9d0e1f/search",
            "https://a.example/***/search",
            {"0a1b2c3d4e5f6a7b8c9d0e1f"},
        ),
        ("http://me:pa'ss\"55<w0rd@host.example/v1", "http://host.example/v1", {"pa'ss\"55<w0rd"}),
        ("http://a.example/v1?pass=abc", "http://a.example/v1?pass=***", {"abc"}),
        ("http://a.example/v1#access_token=abc", "http://a.example/v1#access_token=***", {"abc"}),
        ("http://a.example/@me", "http://a.example/@me", set()),
        ("http://127.0.0.1:8888/searx/search?q=a", "http://127.0.0.1:8888/searx/search?q=a", set()),
        ("https://a.example/openai/deployments/gpt-4o-2024-07-18/v1", "", set()),
        ("https://[::1", "https://[::1", set()),
    ],
)
def test_an_address_is_shown_without_what_is_secret_in_it(address: str, shown: str, secrets: set[str]) -> None:
    assert public_address(address) == (shown or address) and secrets <= set(secrets_in(address))
    assert public_address(public_address(address)) == public_address(address)
    given = EndpointSettings(base_url=address)
    assert decisive(given)["base_url"] == (shown or address)
    assert public_settings({"a": [{"url": address, "n": 1}]}) == {"a": [{"url": shown or address, "n": 1}]}


@pytest.mark.parametrize(
    "key",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAY34FZKBOKMUTVV7A",
        "GOOGTS7C7FUP3AIRVJTE2BCD",
        "GOOG1EXAMPLE234567ABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGHIJKL",
    ],
)
def test_an_access_key_id_is_hidden(key: str) -> None:
    assert without_secrets(f"<AWSAccessKeyId>{key}</AWSAccessKeyId>") == "<AWSAccessKeyId>***</AWSAccessKeyId>"
    assert without_secrets(f"Credential={key}/20260101/auto") == "Credential=***/20260101/auto"


def test_an_address_that_was_taken_for_a_path_holds_no_password() -> None:
    given = f"There is nothing at {Path('https://me:pa55word@h/x')}, nor at s3:/a/b@c, nor at https:/h/@me."
    assert without_secrets(given) == "There is nothing at https:/h/x, nor at s3:/a/b@c, nor at https:/h/@me."


def test_words_are_not_access_key_ids() -> None:
    text = "ASIA, AKIA, GOOGLE, GOOGLECLOUDSTORAGEBUCKET, GOOGLE_APPLICATION_CREDENTIALS, NAKIAIOSFODNN7EXAMPLE"
    assert without_secrets(text) == text


# Services that repeat what they were sent


def echoing(asked: ServiceRequest) -> ServiceReply:
    key = asked.headers.get("x-api-key", "")
    texts = [f"{name}: {write(key)}" for name, write in WRITINGS.items()]
    rows = [{"title": text[:200], "link": f"https://a.example/{n}", "snippet": text} for n, text in enumerate(texts)]
    return as_json({"organic": rows})


def tools(url: str, recorder: dict[str, Any] | None = None) -> Any:
    given = {"text": [{"name": "serper", "url": url}], "reader": "none", "summarizer": "none", "text_hits": 20}
    settings = read_settings(given | ({"recorder": recorder} if recorder else {}), ToolSettings, "tools")
    return build_toolbox(settings, ScriptedPolicy(), {"SERPER_API_KEY": PLAIN})


@pytest.mark.parametrize("mode", ["live", "cache"])
def test_a_key_that_a_service_repeats_reaches_neither_episode_nor_cassette(mode: str, tmp_path: Path) -> None:
    cassette = tmp_path / "calls.sqlite"
    with site() as server:
        server.reply = echoing
        box = tools(
            f"{server.url}/search?token=tok-0123456789",
            {"mode": mode, "cassette": str(cassette)} if mode == "cache" else None,
        )
        start = Trajectory(Question("q", "What?"), load_prompt("deepmmsearch-r1"))
        played = asyncio.run(play(start, ScriptedPolicy(SEARCH, ANSWER), box))
        assert server.asked[0].headers["x-api-key"] == PLAIN and server.asked[0].query == {"token": "tok-0123456789"}
    TrajectoryStore(tmp_path / "stored").append(played, "q")
    assert len(played.turns[0].observation.hits) == len(WRITINGS)  # type: ignore[union-attr]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()).decode("latin-1")
    assert not holds(written) and "tok-0123456789" not in written


def test_a_key_in_an_error_or_a_header_is_told_to_nobody() -> None:
    with site() as server:
        search = make_provider(
            ProviderSettings(name="serper", url=f"{server.url}/search"),  # type: ignore[call-arg]
            "text",
            NetworkSettings(),
            environ={"SERPER_API_KEY": PLAIN},
        )
        for write in WRITINGS.values():
            body = f'{{"message": "No access with {write(PLAIN)}"}}'.encode()
            for status in (400, 401, 403, 429, 500):
                server.reply = lambda _, s=status, b=body, w=write: ServiceReply(s, b, {"X-Echo": w(PLAIN)})  # type: ignore[misc]
                with pytest.raises(ToolError) as caught:
                    asyncio.run(search.search("x", 3))
                assert not holds(str(caught.value)), status
            for status in (200, 500):
                server.reply = lambda _, s=status, b=body, w=write: ServiceReply(s, b, {"X-Echo": w(PLAIN)})  # type: ignore[misc]
                asyncio.run(_straight(f"{server.url}/", server.host))


async def _straight(url: str, host: str) -> None:
    async with GuardedClient(allow_private=[host], secrets=[PLAIN]) as client:
        try:
            found = await client.get(f"{url}?key={PLAIN}")
        except BadStatus as failure:
            assert not holds(failure.body.decode())
        else:
            assert not holds(f"{found.content!r} {found.headers} {found.url}")


async def test_an_error_that_is_cut_off_within_a_key_keeps_no_half_of_it() -> None:
    with site() as server:
        server.reply = lambda _: ServiceReply(500, b"x" * 1_990 + PLAIN.encode() * 9)
        async with GuardedClient(allow_private=[server.host], secrets=[PLAIN]) as client:
            with pytest.raises(BadStatus) as caught:
                await client.get(server.url)
    assert caught.value.body == b"x" * 1_990


@pytest.mark.parametrize("stream", [False, True])
def test_an_endpoint_that_repeats_its_key_does_not_get_it_into_a_turn(
    stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", PLAIN)
    text = f"<reason>{PLAIN}</reason><answer>Zx9q {base64_at(1)(PLAIN)} Zx9q-sec</answer>"
    shown: list[str] = []
    reply = streamed(*text) if stream else said(text, token_ids=[1, 2])
    with endpoint(lambda _: reply) as server:
        policy = ChatPolicy("vlm", server.url, retries=0, on_text=shown.append if stream else None)
        played = asyncio.run(policy.act(Trajectory(Question("q", "What?"), load_prompt("atlas"))))
    assert server.keys == [f"Bearer {PLAIN}"]
    assert not holds(played.text) and played.ids is None and played.text.endswith("Zx9q-sec</answer>")
    assert not stream or "".join(shown) == played.text


def test_a_password_in_an_endpoints_address_is_used_and_told_to_nobody(tmp_path: Path) -> None:
    with endpoint(lambda _: error("no such user me:pa55-w0rd-12", 500)) as server:
        address = server.url.replace("//", "//me:pa55-w0rd-12@")
        policy = ChatPolicy("vlm", address, retries=0)
        agent = AgentWorkflow(policy, load_prompt("atlas"), lambda _: None, Limits(), policy.name)  # type: ignore[arg-type, return-value]
        played = asyncio.run(play_safely(agent, Question("q", "What?")))
    basic = base64.b64encode(b"me:pa55-w0rd-12").decode()
    assert server.keys == [f"Basic {basic}"] and policy.base_url == server.url
    TrajectoryStore(tmp_path).append(played, "q")
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert played.error and b"pa55-w0rd" not in stored and server.url.encode() in stored


@pytest.mark.parametrize(
    "address",
    [
        "host.example/v1?key=pa55-w0rd",
        "ftp://me:pa55-w0rd@host.example",
        "://me:pa55-w0rd@x",
        "me:pa55-w0rd@host.example/v1",
        "http:/me:pa55-w0rd@host.example/v1",
        "http://me:pa55-w0rd/x@host.example/v1",
    ],
)
def test_an_address_that_is_none_is_told_without_its_password(address: str) -> None:
    with pytest.raises(UserError, match="not the address") as caught:
        ChatPolicy("vlm", address)
    assert "pa55-w0rd" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://user:pw@host.example/a", "https://host.example/a"),
        ("http://user@host.example:8080", "http://host.example:8080"),
        ("https://a@b:p@ss@host.example/?q=x@y", "https://host.example/?q=x@y"),
        ("HTTPS://user:p%40ss@[::1]/", "HTTPS://[::1]/"),
        ("https:///user:pw@host.example/", "https:///host.example/"),
        ("https:\\\\user:pw@host.example/", "https:\\\\host.example/"),
        ("//user:pw@host.example/", "//host.example/"),
        ("ftp://user:pw@host.example/", "ftp://host.example/"),
        *((same, same) for same in ("https://host.example/@user", "https://host.example?x=a@b", "mailto:a@b.example")),
        *((same, same) for same in ("file:///a@b.txt", "doc:1@2", "a@b", "https://host.example/a//b@c", "")),
    ],
)
def test_an_address_from_outside_keeps_no_login(address: str, kept: str) -> None:
    assert without_login(address) == kept


class Careless:
    """A search, and pages, that tell of addresses with passwords."""

    async def search(self, query: str, k: int) -> list[Hit]:
        return [Hit("Veld", "https://user:hunter22@a.example/", "The capital of Veld is Moru.")]

    async def read(self, url: str) -> Page:
        return Page(url, "Veld", "More: https://user:hunter22@b.example/x and so on.")


def test_no_login_of_a_hit_is_kept() -> None:
    box = Toolbox(text_search=Careless(), reader=Careless(), extra=(Visit(),))  # type: ignore[arg-type]
    steps = (
        SEARCH,
        '<reason>r</reason><visit>{"hit": 1}</visit>',
        '<reason>r</reason><visit>{"link": 2}</visit>',
        ANSWER,
    )
    start = Trajectory(Question("q", "?"), load_prompt("untrained"))
    played = asyncio.run(play(start, ScriptedPolicy(*steps), box))
    urls = [[hit.url for hit in turn.observation.hits] for turn in played.turns if turn.observation is not None]
    assert urls[0] == ["https://a.example/"]
    assert urls[1] == ["https://a.example/", "https://b.example/x"] and urls[2][0] == "https://b.example/x"
    assert [turn.observation.error for turn in played.turns if turn.observation is not None] == [None] * 3


def test_providers_and_pages_tell_addresses_without_login() -> None:
    assert hit("t", " https://u:p@a.example/x ", "s", 1, "x").url == "https://a.example/x"
    page = lxml.html.fromstring("<p><a href='https://u:p@b.example/'>there</a> <a href='//u@c.example/'>here</a></p>")
    assert [link.url for link in links_of(page, "https://a.example/", "")] == [
        "https://b.example/",
        "https://c.example/",
    ]
