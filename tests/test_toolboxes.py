"""A recipe's tools, put together: against the providers' mocks, with keys that are none."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from deepmmsearch.agent import Toolbox, play
from deepmmsearch.compose.recipe import load_recipe, read_settings
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox, make_provider
from deepmmsearch.errors import MissingExtra, ToolError, UnknownName, UserError
from deepmmsearch.policies.human import HumanPolicy
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing import ScriptedPolicy
from deepmmsearch.testing.services import KEY, ROWS, ServiceReply, ServiceRequest, Site, as_json, site
from deepmmsearch.tools.providers.catalog import MissingKey
from deepmmsearch.tools.providers.pictures import with_address
from deepmmsearch.types import Hit, Question, Trajectory
from provider_mocks import searxng, serper

pytest.importorskip("httpx2")
RECIPES = sorted((Path(__file__).parent.parent / "recipes" / "tools").glob("*.yaml"))
KEYS = {f"{name}_API_KEY": KEY for name in ("SERPER", "SERPAPI", "BRAVE", "TAVILY", "EXA", "JINA")}
NAMES = {
    "searxng",
    "serper",
    "serpapi",
    "brave",
    "tavily",
    "exa",
    "jina",
    "ddgs",
    "retrieve",
    "local",
    "failover",
    "more",
    "wikipedia",
    "picimagesearch",
}
POLICY = ScriptedPolicy(
    "<reason>r</reason><text_search>capital of Veld</text_search>", "<reason>r</reason><answer>Moru</answer>"
)


@pytest.fixture
def server() -> Iterator[Site]:
    with site() as running:
        running.reply = lambda asked: searxng(asked, ROWS)
        yield running


def settings(**given: Any) -> ToolSettings:
    made: ToolSettings = read_settings({"reader": "none", **given}, ToolSettings, "tools")
    return made


def episode(tools: Toolbox) -> Trajectory:
    start = Trajectory(Question("q", "What is the capital of Veld?"), load_prompt("deepmmsearch-r1"))
    return asyncio.run(play(start, POLICY, tools))


def test_the_recipes_are_those_of_the_docs() -> None:
    assert {path.stem for path in RECIPES} == NAMES


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_becomes_a_toolbox(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load_recipe(path, ToolSettings)
    if path.stem in ("local", "more"):
        pytest.importorskip("tantivy")
        from deepmmsearch.engine import Index

        (tmp_path / "pages").mkdir()
        (tmp_path / "pages" / "veld.md").write_text("# Veld\n\nThe capital of Veld is Moru.\n")
        Index.build(tmp_path / "pages", tmp_path / "index")
    try:
        tools = build_toolbox(loaded, POLICY, KEYS)
    except MissingExtra as error:
        assert path.stem in ("ddgs", "more", "picimagesearch"), error
        return
    assert tools.text_search is not None
    assert (tools.image_search is not None) == (path.stem in ("serpapi", "failover", "local", "more", "picimagesearch"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_without_keys_a_recipe_says_which_one_to_set(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    needed = {"serper", "serpapi", "brave", "tavily", "exa", "jina"} & {path.stem}
    if not needed:
        pytest.skip("needs no key")
    with pytest.raises(MissingKey, match=f"No key for {path.stem}. Set {path.stem.upper()}_API_KEY, or run offline"):
        build_toolbox(load_recipe(path, ToolSettings), POLICY, {})


def test_a_recipe_plays_an_episode(server: Site) -> None:
    tools = build_toolbox(settings(text=[{"name": "searxng", "url": server.url}]), POLICY, {})
    done = episode(tools)
    seen = done.turns[0].observation
    assert done.answer == "Moru" and seen is not None and seen.error is None
    assert [h.url for h in seen.hits] == [r.url for r in ROWS] and "[1] The capital of Veld is Moru." in seen.text
    assert [(c.tool, c.provider, c.error) for c in seen.calls[:1]] == [("text_search", "searxng", None)]
    assert seen.calls[0].bytes > 0


def test_the_next_provider_answers_and_both_calls_are_kept(server: Site) -> None:
    server.reply = lambda asked: (
        ServiceReply(500) if asked.path == "/search" and asked.method == "GET" else serper(asked, ROWS)
    )
    listed = [{"name": "searxng", "url": server.url}, {"name": "serper", "url": f"{server.url}/search"}]
    done = episode(build_toolbox(settings(text=listed), POLICY, KEYS))
    seen = done.turns[0].observation
    assert seen is not None and [h.source for h in seen.hits] == ["serper"] * 3
    assert [(c.provider, c.cost, c.error is None) for c in seen.calls[:2]] == [
        ("searxng", 0.0, False),
        ("serper", 0.001, True),
    ]
    assert done.cost == 0.001


def test_prices_and_budgets_of_the_recipe_hold(server: Site) -> None:
    server.reply = lambda asked: serper(asked, ROWS)
    listed = [{"name": "serper", "url": f"{server.url}/search"}]
    given = settings(text=listed, prices={"serper": 0.5}, budget={"run_money": 0.6})
    tools = build_toolbox(given, POLICY, KEYS)
    first, second = episode(tools), episode(tools)
    assert first.cost == 0.5 and second.cost == 0.0 and len(server.asked) == 1
    seen = second.turns[0].observation
    assert seen is not None and "budget of this run is used up" in (seen.error or "")


def test_a_recorded_run_replays_without_keys_or_connections(server: Site, tmp_path: Path) -> None:
    server.reply = lambda asked: serper(asked, ROWS)
    listed = [{"name": "serper", "url": f"{server.url}/search"}, {"name": "brave", "optional": True}]

    def tools(mode: str, environ: dict[str, str]) -> Toolbox:
        recorder = {"mode": mode, "cassette": str(tmp_path / "calls.sqlite")}
        return build_toolbox(settings(text=listed, recorder=recorder), POLICY, environ)

    recorded = episode(tools("cache", KEYS))
    again = episode(tools("cache", {"SERPER_API_KEY": KEY}))
    assert len(server.asked) == 1 and recorded.cost == 0.001 and again.cost == 0.0
    replayed = episode(tools("replay", {}))
    assert len(server.asked) == 1 and replayed.turns[0].observation is not None
    assert replayed.turns[0].observation.text == recorded.turns[0].observation.text  # type: ignore[union-attr]
    assert KEY.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("calls.sqlite*"))


def test_a_private_address_is_allowed_to_its_provider_alone(server: Site) -> None:
    given = read_settings({"text": [{"name": "searxng", "url": server.url}]}, ToolSettings, "tools")
    tools = build_toolbox(given, POLICY, {})
    assert tools.text_search is not None and tools.reader is not None
    assert asyncio.run(tools.text_search.search("x", 3))
    with pytest.raises(ToolError, match="refused"):
        asyncio.run(tools.reader.read(f"{server.url}/search"))
    named = given.model_copy(update={"network": given.network.model_copy(update={"allow_private": (server.host,)})})
    server.reply = lambda _: ServiceReply(
        200, b"<p>The capital of Veld is Moru, it lies at the sea.</p>", kind="text/html"
    )
    reader = build_toolbox(named, POLICY, {}).reader
    assert reader is not None and "Moru" in asyncio.run(reader.read(f"{server.url}/page")).text


def test_a_thumbnail_does_not_reach_the_providers_private_address(server: Site) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(picture, "PNG")

    def reply(asked: ServiceRequest) -> ServiceReply:
        if asked.path != "/lens":
            return ServiceReply(200, picture.getvalue(), kind="image/png")
        place = f"{server.url}/admin?reboot=1"
        return as_json({"organic": [{"title": "A flag", "link": "https://a.example/flag", "thumbnailUrl": place}]})

    server.reply = reply
    lens = {"name": "serper-lens", "url": f"{server.url}/lens"}
    image = with_address(Image.new("RGB", (40, 30)), "https://a.example/asked.png")

    def hits(**network: Any) -> list[Hit]:
        tools = build_toolbox(settings(image=[lens], matcher="rank", network=network), POLICY, KEYS)
        assert tools.image_search is not None
        return asyncio.run(tools.image_search.search(image, 3))

    assert [(h.title, h.image) for h in hits()] == [("A flag", None)]
    assert [asked.path for asked in server.asked] == ["/lens"]
    # also where the provider's host has to be let through a list of allowed domains
    assert [h.image for h in hits(allow_hosts=["a.example"])] == [None]
    shown = hits(allow_private=[server.host])[0].image
    assert shown is not None and shown.size == (40, 30)


@pytest.mark.parametrize("url", ["http://me:pa55word@127.0.0.1:99999", "http://[::1", "http://:8888"])
def test_a_providers_address_that_is_none_is_told_before(url: str) -> None:
    with pytest.raises(UserError, match="not the address of a provider") as caught:
        build_toolbox(settings(text=[{"name": "searxng", "url": url}]), POLICY, {})
    assert "pa55word" not in str(caught.value)


def test_a_list_of_allowed_domains_leaves_the_providers_in_reach(server: Site) -> None:
    network = {"allow_hosts": ["almanac.example"], "block_hosts": ["blocked.example"]}
    given = settings(text=[{"name": "searxng", "url": server.url}, {"name": "serper"}], network=network)
    tools = build_toolbox(given, POLICY, KEYS)
    assert tools.text_search is not None and asyncio.run(tools.text_search.search("x", 3))
    for lane, host in zip(tools.text_search.lanes, ("127.0.0.1", "google.serper.dev"), strict=True):  # type: ignore[attr-defined]
        rules = lane.provider._api.client.rules
        assert rules.allow == ("almanac.example", host) and rules.block == ("blocked.example",)
        assert bool(rules.private) == (host == "127.0.0.1")


def test_hits_on_blocked_domains_are_not_told_of(server: Site) -> None:
    for network, left in (
        ({"block_hosts": ["travel.example"]}, [0, 2]),
        ({"allow_hosts": ["almanac.example", "other.example"]}, [0, 2]),
        ({"block_hosts": ["example"]}, []),
    ):
        tools = build_toolbox(settings(text=[{"name": "searxng", "url": server.url}], network=network), POLICY, {})
        hits = asyncio.run(tools.text_search.search("x", 5))  # type: ignore[union-attr]
        assert [h.url for h in hits] == [ROWS[n].url for n in left]


def test_a_provider_without_its_key_is_left_out_where_it_is_optional(server: Site) -> None:
    listed = [{"name": "serper", "optional": True}, {"name": "searxng", "url": server.url}]
    tools = build_toolbox(settings(text=listed), POLICY, {})
    assert tools.text_search is not None and tools.text_search.name == "searxng"  # type: ignore[attr-defined]
    both = settings(text=listed[:1], image=[{"name": "serpapi-lens", "optional": True}])
    with pytest.raises(
        UserError, match=r"None of the providers can be used\. No key for serper.*No key for serpapi-lens"
    ):
        build_toolbox(both, POLICY, {})
    tools = build_toolbox(both, POLICY, {"SERPER_API_KEY": KEY})
    assert tools.text_search is not None and tools.image_search is None and tools.matcher is None


def test_one_index_is_opened_once_for_words_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tantivy")
    from deepmmsearch.engine import Index

    (tmp_path / "pages").mkdir()
    Image.effect_noise((64, 48), 60).convert("RGB").save(tmp_path / "pages" / "flag.png")
    Index.build(tmp_path / "pages", tmp_path / "index")
    listed = [{"name": "local", "index": str(tmp_path / "index")}]
    for given in (settings(text=listed, image=listed), settings(text="local", image="local", index=tmp_path / "index")):
        tools = build_toolbox(given, POLICY, {})
        assert tools.text_search.lanes[0].provider is tools.image_search.lanes[0].provider  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"text": ["serpr"]}, UnknownName, "Did you mean 'serper'"),
        ({"text": [{"name": "serper", "contry": "us"}]}, UnknownName, "Did you mean 'country'"),
        ({"text": ["serpapi-lens"]}, UserError, "Name it under image:"),
        ({"text": ["serper"], "reader": "wbe"}, UnknownName, "Did you mean 'web'"),
        ({"text": ["serper"], "reader": {"kind": "web", "timout": 3}}, UnknownName, "Did you mean 'timeout'"),
        ({"text": ["serper"], "summarizer": "extractiv"}, UnknownName, "Did you mean 'extractive'"),
        ({"text": ["serper"], "summarizer": "own"}, UserError, "no model that could summarise"),
        ({"text": ["serper"], "summarizer": "chat"}, UserError, "summarizer.base_url: Field required"),
        ({"text": ["serper"], "grounding": {"kind": "dnio"}}, UnknownName, "Did you mean 'dino'"),
        ({"text": ["serper"], "grounding": "chat"}, UserError, "grounding.base_url: Field required"),
        ({"text": ["serper"], "grounding": "qwen4"}, UnknownName, "kind of grounding"),
        ({"text": ["serper"], "matcher": "rnk"}, UnknownName, "Did you mean 'rank'"),
        ({"image": ["serpapi-lens"], "matcher": "encoder"}, UserError, "matcher.model: Field required"),
        ({"text": ["serper"], "recorder": {"mode": "cach", "cassette": "x"}}, UnknownName, "Did you mean 'cache'"),
        ({"text": ["serper"], "recorder": {"mode": "cache"}}, UserError, "recorder.cassette: Field required"),
        ({"text": ["serper"], "prices": {"serpr": 1}}, UnknownName, "Did you mean 'serper'"),
        ({"kind": "providers"}, UserError, "no provider is named"),
        ({"kind": "provider"}, UnknownName, "Did you mean 'providers'"),
        ({"text": ["local"]}, UserError, "local needs the setting index"),
    ],
)
def test_mistakes_are_told_with_what_to_do(given: dict[str, Any], kind: type[UserError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        build_toolbox(settings(**given), HumanPolicy(), KEYS)
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"txt": ["serper"]}, "Did you mean 'text'"),
        ({"budget": {"run_monney": 1}}, r"Did you mean 'budget\.run_money'"),
        ({"recorder": {"cassete": "x"}}, r"Did you mean 'recorder\.cassette'"),
        ({"network": {"alow_hosts": []}}, r"Did you mean 'network\.allow_hosts'"),
        ({"text": [{"url": "http://x"}]}, "name: Field required"),
        ({"text": 7}, "text"),
        ({"text": [{"name": "serper", "per_second": 0}]}, "per_second: Input should be greater than 0"),
    ],
)
def test_a_recipe_with_a_typing_error_is_none(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = tmp_path / "tools.yaml"
    path.write_text(yaml.safe_dump(row))
    with pytest.raises(UserError, match=message):
        load_recipe(path, ToolSettings)


def test_grounding_may_be_a_dialect_alone() -> None:
    assert settings(grounding="qwen3-vl").grounding.dialect == "qwen3-vl"
    assert settings(grounding="none").grounding.kind == "none" and settings(grounding=None).grounding.kind == "own"


def test_a_summariser_behind_an_endpoint_writes_one_summary_or_one_of_each_page(server: Site) -> None:
    pytest.importorskip("openai")
    told = {"kind": "chat", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    listed = [{"name": "searxng", "url": server.url}]
    whole = build_toolbox(settings(text=listed, summarizer=told), POLICY, {})
    assert whole.condenser is not None and whole.summarizer is None and whole.stand_in is not None
    pages = build_toolbox(settings(text=listed, summarizer={**told, "per_page": True}), POLICY, {})
    assert pages.condenser is None and pages.summarizer is not None and pages.stand_in is not None


def test_one_provider_alone(server: Site) -> None:
    from deepmmsearch.compose.tool_settings import NetworkSettings, ProviderSettings

    provider = ProviderSettings.model_validate({"name": "searxng", "url": server.url})
    tool = make_provider(provider, "text", NetworkSettings(), environ={})
    assert len(asyncio.run(tool.search("x", 2))) == 2


def test_faults_at_any_rate_end_every_episode(server: Site) -> None:
    """Errors of a provider reach the policy in its observation, and every episode ends."""
    faults = [
        ServiceReply(500),
        as_json({}, 429),
        ServiceReply(200, b"<html>"),
        ServiceReply(200, b'{"res'),
        ServiceReply(body=None),
        ServiceReply(200, b""),
    ]
    for share in (0.0, 0.3, 1.0):
        count = [0]

        def reply(asked: ServiceRequest, share: float = share, count: list[int] = count) -> ServiceReply:
            count[0] += 1
            due = int(count[0] * share) > int((count[0] - 1) * share)
            return faults[count[0] % len(faults)] if due else searxng(asked, ROWS)

        server.reply = reply
        tools = build_toolbox(settings(text=[{"name": "searxng", "url": server.url}]), POLICY, {})
        for lane in tools.text_search.lanes:  # type: ignore[union-attr]
            lane._sleep = _no_sleep
        tools.text_search._sleep = _no_sleep  # type: ignore[union-attr]
        for _ in range(6):
            done = episode(tools)
            seen = done.turns[0].observation
            assert done.stop == "answer" and seen is not None and bool(seen.hits) != bool(seen.error)


async def _no_sleep(_: float) -> None:
    await asyncio.sleep(0)


def test_nothing_but_the_guarded_client_opens_a_connection(server: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the one way out closed, a provider can reach nothing."""
    tools = build_toolbox(settings(text=[{"name": "searxng", "url": server.url}]), POLICY, {})
    monkeypatch.setattr("deepmmsearch.tools.transport.CheckedBackend.connect_tcp", _closed)
    before = len(server.asked)
    with pytest.raises(ToolError):
        asyncio.run(tools.text_search.search("x", 3))  # type: ignore[union-attr]
    assert len(server.asked) == before


async def _closed(*_: Any, **__: Any) -> Any:
    from deepmmsearch.tools.addresses import Refused

    raise Refused("closed")
