"""`deepmmsearch tools` and `ask --tools FILE` as a user meets them."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from deepmmsearch import cli
from deepmmsearch.testing.services import KEY, ROWS, ServiceReply, ServiceRequest, ServiceRow, Site, as_json, site
from provider_mocks import brave, searxng, serpapi_lens

pytest.importorskip("httpx2")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("SERPER", "SERPAPI", "BRAVE", "TAVILY", "EXA", "JINA"):
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deepmmsearch", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def server() -> Iterator[Site]:
    with site() as running:
        running.reply = lambda asked: searxng(asked, ROWS)
        yield running


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "ship.png"
    Image.effect_noise((64, 48), 80).convert("RGB").save(path)
    return path


def failed(result: tuple[int, str, str], message: str) -> None:
    code, out, err = result
    assert code == 2 and err.startswith("Error: ") and err.count("\n") == 1 and message in err, (code, out, err)
    assert "Traceback" not in out + err and KEY not in out + err


def test_the_list_says_what_each_needs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERPER_API_KEY", KEY)
    code, out, _ = run("tools")
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert code == 0 and KEY not in out
    assert "SERPER_API_KEY (set)" in rows["serper"] and "SERPER_API_KEY (set)" in rows["serper-lens"]
    assert "BRAVE_API_KEY (not set)" in rows["brave"] and " 5 " in rows["brave"]
    assert "not set, not required" in rows["jina-reader"] and "page" in rows["jina-reader"]
    assert "setting url" in rows["searxng"] and "extra ddgs" in rows["ddgs"]
    assert "text image" in rows["local"]
    listed = {row["name"]: row for row in map(json.loads, run("tools", "--json")[1].splitlines())}
    assert listed.keys() == rows.keys() - {"provider", "Prices"} and KEY not in str(listed)
    assert listed["serper"]["key_set"] and not listed["brave"]["key_set"]
    assert (listed["brave"]["price"], listed["searxng"]["required"]) == (0.005, ["url"])


def test_check_makes_one_call(run: Run, server: Site) -> None:
    code, out, err = run("tools", "check", "searxng", f"url={server.url}", "--query", "capital of Veld", "-k", 2)
    assert code == 0, err
    assert len(server.asked) == 1 and server.asked[0].query["q"] == "capital of Veld"
    assert out.startswith("searxng: 2 hits in 0.") and "kB, no cost" in out
    assert "1. Veld\n   https://almanac.example/veld\n   The capital of Veld is Moru." in out


def test_check_shows_the_cost(run: Run, server: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAVE_API_KEY", KEY)
    server.reply = lambda asked: brave(asked, ROWS)
    code, out, err = run("tools", "check", "brave", f"url={server.url}/res/v1/web/search")
    assert code == 0 and "3 hits" in out and "$0.005" in out, err


def test_check_searches_with_a_picture(
    run: Run, server: Site, monkeypatch: pytest.MonkeyPatch, picture: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("SERPAPI_API_KEY", KEY)
    server.reply = lambda asked: serpapi_lens(asked, ROWS)
    given = (f"url={server.url}/search.json", f"upload_url={server.url}/image")
    code, out, err = run("tools", "check", "serpapi-lens", *given, "--image", picture)
    # what a reply names is fetched by the rules for addresses from outside
    assert code == 0 and "3 hits in" in out, err
    lens = {"name": "serpapi-lens", "url": f"{server.url}/search.json", "upload_url": f"{server.url}/image"}
    recipe = tmp_path / "tools.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {"text": [], "image": [lens], "network": {"allow_private": [server.url.removeprefix("http://")]}}
        )
    )
    code, out, err = run("tools", "check", "serpapi-lens", "--tools", recipe, "--image", picture)
    assert code == 0 and "3 hits, 3 with a picture" in out, err


def test_check_takes_settings_from_a_recipe(run: Run, server: Site, tmp_path: Path) -> None:
    recipe = tmp_path / "tools.yaml"
    recipe.write_text(yaml.safe_dump({"text": [{"name": "searxng", "url": server.url, "language": "de"}]}))
    code, _, err = run("tools", "check", "searxng", "--tools", recipe, "engines=a")
    assert code == 0, err
    assert (server.asked[-1].query["language"], server.asked[-1].query["engines"]) == ("de", "a")


def test_check_reads_a_page(run: Run, server: Site) -> None:
    data = {"title": "Veld", "url": "https://almanac.example/veld", "content": "The capital of Veld is Moru."}
    server.reply = lambda _: as_json({"code": 200, "data": data})
    page = "https://almanac.example/veld"
    code, out, err = run("tools", "check", "jina-reader", f"url={server.url}/", "--page", page)
    assert code == 0 and out.startswith("jina-reader: 28 characters in 0.") and "Veld\nThe capital" in out, err


def test_what_a_service_says_reaches_the_terminal_as_text(run: Run, server: Site) -> None:
    server.reply = lambda asked: searxng(
        asked, (ServiceRow("\x1b[2J[red]Veld[/red]\u202e", "https://a.example/1", "\x07x"),)
    )
    code, out, _ = run("tools", "check", "searxng", f"url={server.url}")
    assert code == 0 and "\x1b" not in out and "\x07" not in out and "[red]Veld[/red]" in out


def test_check_that_fails_is_one_sentence(run: Run, server: Site, picture: Path) -> None:
    failed(run("tools", "check", "serper"), "No key for serper. Set SERPER_API_KEY, or run offline with --tools local.")
    failed(run("tools", "check", "searxgn"), "Did you mean 'searxng'")
    failed(run("tools", "check", "searxng"), "needs the setting url")
    failed(run("tools", "check", "searxng", "ulr=x"), "Did you mean 'url'")
    failed(run("tools", "check", "searxng", "url"), "Write it as name=value")
    failed(run("tools", "check", "searxng", f"url={server.url}", "--image", picture), "Leave --image and --page out")
    failed(run("tools", "check", "serpapi-lens"), "Give --image FILE")
    failed(run("tools", "check", "jina-reader"), "Give --page URL")
    failed(run("tools", "check", "searxng", "url=http://127.0.0.1:9"), "")
    server.reply = lambda _: ServiceReply(403, b"<html>", kind="text/html")
    failed(run("tools", "check", "searxng", f"url={server.url}"), "search.formats in its settings.yml")
    server.reply = lambda _: as_json({}, 429)
    failed(run("tools", "check", "searxng", f"url={server.url}"), "rate-limited")


def test_help_has_examples(run: Run) -> None:
    for arguments in (("tools",), ("tools", "check")):
        code, out, _ = run(*arguments, "--help")
        assert code == 0 and "Example:" in out and "deepmmsearch tools check searxng" in out


def test_ask_with_a_recipe(
    run: Run, server: Site, picture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = tmp_path / "tools.yaml"
    recipe.write_text(yaml.safe_dump({"text": [{"name": "searxng", "url": server.url}], "reader": "none"}))
    monkeypatch.setattr(sys, "stdin", io.StringIO("text: capital of Veld\nanswer: Moru\n"))
    code, out, err = run("ask", picture, "What is the capital?", "--policy", "human", "--tools", recipe)
    assert code == 0, err
    assert "[1] The capital of Veld is Moru." in out and "Answer: Moru" in out and "https://almanac.example/veld" in out
    assert server.asked[0].query["q"] == "capital of Veld"


def test_ask_with_a_bad_recipe(run: Run, picture: Path, tmp_path: Path) -> None:
    ask = ("ask", picture, "Whose?", "--policy", "human", "--tools")
    recipe = tmp_path / "tools.yaml"
    failed(run(*ask, recipe), "There is no recipe")
    failed(run(*ask, "serper"), "Known: FILE.yaml, local, none")
    recipe.write_text("text: [serper]\n")
    failed(run(*ask, recipe), "Set SERPER_API_KEY")
    recipe.write_text("txt: [serper]\n")
    failed(run(*ask, recipe), "Did you mean 'text'")
    recipe.write_text("kind: local\n")
    failed(run(*ask, recipe), "index build")


def test_ask_about_a_picture_at_an_address(
    run: Run, server: Site, picture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Lens is then asked by the address, and nothing is uploaded."""
    from deepmmsearch.tools import http

    monkeypatch.setenv("SERPER_API_KEY", KEY)
    # the test's server stands for a public one
    client = http.GuardedClient
    monkeypatch.setattr(http, "GuardedClient", lambda *_, **__: client(allow_private=[server.host]))
    sent = []

    def reply(asked: ServiceRequest) -> ServiceReply:
        if asked.path == "/ship.png":
            return ServiceReply(200, picture.read_bytes(), kind="image/png")
        if asked.path == "/lens":
            sent.append(asked.json["url"])
            return as_json({"organic": [{"title": "The ship", "link": "https://a.example/ship"}]})
        return ServiceReply(404)

    server.reply = reply
    recipe = tmp_path / "tools.yaml"
    lens = {"name": "serper-lens", "url": f"{server.url}/lens", "pictures": False}
    recipe.write_text(yaml.safe_dump({"image": [lens], "reader": "none", "matcher": "rank"}))
    monkeypatch.setattr(sys, "stdin", io.StringIO("image\nanswer: The ship\n"))
    code, out, err = run("ask", f"{server.url}/ship.png", "What is it?", "--policy", "human", "--tools", recipe)
    assert code == 0 and "The ship" in out and sent == [f"{server.url}/ship.png"], err


@pytest.mark.parametrize(
    ("form", "size", "kind", "said"),
    [
        ("TIFF", (40, 30), "image/tiff", "expected image/jpeg"),
        ("TIFF", (40, 30), "application/octet-stream", "cannot|not a picture"),
        ("BMP", (40, 30), "image/png", "cannot|not a picture"),
        ("PNG", (6_000, 5_000), "image/png", "more than 25 megapixels"),
        (None, (0, 0), "image/svg+xml", "expected image/jpeg"),
    ],
)
def test_a_picture_at_an_address_is_one_from_outside(
    form: str | None,
    size: tuple[int, int],
    kind: str,
    said: str,
    run: Run,
    server: Site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file of one's own may be all of that, except for the last."""
    from deepmmsearch.tools import http

    client = http.GuardedClient
    monkeypatch.setattr(http, "GuardedClient", lambda *_, **__: client(allow_private=[server.host]))
    content = io.BytesIO(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    if form is not None:
        Image.new("1" if form == "PNG" else "RGB", size).save(content, form)
    server.reply = lambda _: ServiceReply(200, content.getvalue(), kind=kind)
    code, _, err = run("ask", f"{server.url}/a", "Whose?", "--policy", "human")
    assert code != 0 and re.search(said, err), err


def test_ask_about_a_picture_at_an_address_that_is_none(run: Run) -> None:
    failed(run("ask", "http://127.0.0.1:9/ship.png", "Whose?", "--policy", "human"), "could not be fetched")
