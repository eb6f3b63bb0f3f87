"""The page's door as the page asks it: questions, their events, pictures, history, exports, links and keys."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.testclient import TestClient

from deepmmsearch.agent import Toolbox, play
from deepmmsearch.compose.serving import LONG, CallerLimits, PageSettings, UploadSettings
from deepmmsearch.errors import MissingExtra, ToolError
from deepmmsearch.images import data_url
from deepmmsearch.prompts import load_prompt
from deepmmsearch.serve import page_kept, pdf_drawing
from deepmmsearch.serve.app import make_app
from deepmmsearch.serve.callers import COOKIE, Caller, read_callers
from deepmmsearch.serve.history import History
from deepmmsearch.serve.languages import LANGUAGES, choose_language, page_texts
from deepmmsearch.serve.page_api import FOLDER, POLICY
from deepmmsearch.serve.page_view import view_turn
from deepmmsearch.serve.refusals import STOPPED, why_ended
from deepmmsearch.testing import ScriptedPolicy
from deepmmsearch.types import Completion, Question, Trajectory
from serving import KNOW, LOOK, READ, Scripted, house

RED = data_url(Image.new("RGB", (400, 300), "red"))
KEYS = "anna:0123456789abcdef ben:fedcba9876543210"


@contextmanager
def page(folder: Path, policy: Any = None, known: dict[str, Caller] | None = None, **settings: Any) -> Iterator[Any]:
    served = house(folder, policy, known, **settings)
    with TestClient(make_app(served), base_url="http://127.0.0.1:8400") as client:
        yield client


def ask(client: TestClient, text: str = "What is its capital?", **more: Any) -> dict[str, Any]:
    reply = client.post("/api/questions", json={"text": text, **more})
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


def events(client: TestClient, id: str) -> list[dict[str, Any]]:
    with client.stream("GET", f"/api/questions/{id}/events") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: ")]


def answered(client: TestClient, text: str = "What is its capital?", **more: Any) -> dict[str, Any]:
    asked = ask(client, text, **more)
    events(client, asked["id"])
    return asked


def conversation(client: TestClient, id: str) -> list[dict[str, Any]]:
    return list(client.get(f"/api/conversations/{id}").json()["questions"])


# The page itself


def test_the_page_is_small_and_takes_nothing_from_elsewhere(tmp_path: Path) -> None:
    with page(tmp_path) as client:
        reply = client.get("/")
        assert reply.headers["content-security-policy"] == POLICY and "unsafe" not in POLICY
        sent = 0
        for path in (
            "/",
            "/api/settings",
            *(f"/page/{p.name}" for p in FOLDER.iterdir() if p.suffix in (".js", ".css")),
        ):
            with client.stream("GET", path) as asked:
                assert asked.status_code == 200 and asked.headers["content-encoding"] == "gzip", path
                sent += sum(len(piece) for piece in asked.iter_raw())
        assert sent < 20_000
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8")
        assert "innerHTML" not in text and "outerHTML" not in text and "insertAdjacentHTML" not in text
        assert "http://" not in text.replace("https:// or http://", "") or file.suffix == ".json"


def test_a_page_that_is_not_wanted_is_not_there(tmp_path: Path) -> None:
    with page(tmp_path, page=PageSettings(enabled=False)) as client:
        assert client.get("/").status_code == 404 and client.get("/api/settings").status_code == 404


def test_every_text_is_there_in_every_language() -> None:
    for row in json.loads((FOLDER / "texts.json").read_text(encoding="utf-8")).values():
        assert tuple(row) == LANGUAGES and all(row.values())
    used = " ".join(p.read_text(encoding="utf-8") for p in FOLDER.iterdir() if p.suffix in (".js", ".html"))
    assert [
        name
        for name in page_texts("en")
        if not name.startswith(("none_", "action ", "tool ", "error ")) and f'"{name}"' not in used
    ] == []


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "fr,de-CH;q=0.7,en;q=0.8", "en"),
        (None, "zh-Hans-CN, de;q=0.9", "zh"),
        (None, "fr", "en"),
        (None, "de;q=x, ;q=, zh;q=0", "en"),
        ("de", "zh", "de"),
        ("xx", "zh", "zh"),
    ],
)
def test_the_language_is_chosen_or_accepted(chosen: str | None, accepted: str, language: str) -> None:
    assert choose_language(chosen, accepted, "en") == language


# Ask and watch


def test_a_question_is_told_turn_by_turn_to_its_end(tmp_path: Path) -> None:
    with page(tmp_path) as client:
        asked = ask(client, pictures=[RED])
        told = events(client, asked["id"])
        turns = [event["turn"] for event in told if "turn" in event]
        assert [turn["number"] for turn in turns] == [1, 2, 3]
        assert turns[0]["reason"] == "I look at it." and turns[0]["hits"][0]["picture"] == "1-1"
        assert turns[1]["detail"] and "Orm" in turns[1]["text"] and turns[1]["calls"][0]["provider"] == "Shelf"
        end = told[-1]["end"]
        assert end["parts"] == ["Orm ", 1, ""] and end["sources"][0]["url"] == "https://veld.example/"
        assert "Orm" in end["sources"][0]["sentence"] and end["read"] and not end["unfounded"]
        # whoever comes back sees the whole again, from the room and from the history
        assert [event["turn"] for event in events(client, asked["id"]) if "turn" in event] == turns
        kept = conversation(client, asked["conversation"])[0]
        assert kept["turns"] == turns and kept["end"] == end and kept["sizes"] == [[400, 300]]


def test_thoughts_stand_apart_from_what_was_said() -> None:
    said = "<reason>I know.</reason><answer>Veld</answer>"
    for completion in (Completion(f"<think>So \u202e<b>.</think>{said}"), Completion(said, thoughts="So \u202e<b>.")):
        start = Trajectory(Question("q", "Where?"), load_prompt("deepmmsearch-r1"))
        played = asyncio.run(play(start, ScriptedPolicy(completion), Toolbox()))
        row = view_turn(played, 1)
        assert row["reason"] == "I know." and row["thoughts"] == "So <b>."


def test_what_is_being_written_is_told_in_pieces(tmp_path: Path) -> None:
    with page(tmp_path, Scripted(seconds=0.2)) as client:
        told = events(client, ask(client)["id"])
        pieces = [event for event in told if "writing" in event]
        assert pieces and pieces[0]["from"] == 0 and LOOK.startswith(pieces[0]["writing"])


def test_a_run_is_stopped_and_says_so(tmp_path: Path) -> None:
    with page(tmp_path, Scripted(seconds=30.0)) as client:
        asked = ask(client)
        assert client.post(f"/api/questions/{asked['id']}/stop", json={}).status_code == 200
        end = events(client, asked["id"])[-1]["end"]
        assert end["parts"] is None and end["error"].startswith("Stopped")


def test_a_search_that_fails_is_told_with_its_provider(tmp_path: Path) -> None:
    class Broken:
        async def search(self, query: Any, k: int) -> list[Any]:
            raise ToolError("503 from search.example")

    with page(tmp_path, tools=Toolbox(Broken(), Broken())) as client:
        told = events(client, ask(client, pictures=[RED])["id"])
        first = next(event["turn"] for event in told if "turn" in event)
        assert first["error"] and first["calls"][0]["provider"] == "Broken" and first["calls"][0]["error"]
        assert told[-1]["end"]["unfounded"]


def test_a_follow_up_knows_what_went_before(tmp_path: Path) -> None:
    policy = Scripted()
    with page(tmp_path, policy) as client:
        first = answered(client, pictures=[RED])
        second = answered(client, "And its flag?", conversation=first["conversation"])
        assert second["conversation"] == first["id"] != second["id"]
        question = policy.asked[-1].question
        assert [(e.question, e.answer) for e in question.history] == [("What is its capital?", "Orm")]
        assert question.images[0].size == (400, 300)
        other = data_url(Image.new("RGB", (40, 30), "blue"))
        answered(client, "And this?", conversation=first["conversation"], pictures=[other])
        assert [image.size for image in policy.asked[-1].question.images] == [(40, 30)]
        assert len(conversation(client, first["conversation"])) == 3
        wrong = client.post("/api/questions", json={"text": "x", "conversation": "nothing"})
        assert wrong.status_code == 400 and "history" in wrong.json()["error"]


def test_users_change_what_they_may(tmp_path: Path) -> None:
    policy = Scripted()
    with page(tmp_path / "a", policy) as client:
        end = events(client, ask(client, calls=0, length="long")["id"])[-1]["end"]
        assert end["stop"] == "turns" and policy.asked[-1].prompt.user.endswith(LONG)
        assert client.get("/api/settings").json()["models"][0]["long"] is True
        assert client.post("/api/questions", json={"text": "x", "model": "other"}).status_code == 404
        assert client.post("/api/questions", json={"text": "x", "calls": "many"}).status_code == 400
    with page(tmp_path / "b", policy, page=PageSettings(may_choose=())) as client:
        end = events(client, ask(client, calls=0, length="long", model="other")["id"])[-1]["end"]
        assert end["stop"] == "answer" and LONG not in policy.asked[-1].prompt.user


def test_pictures_are_drawn_anew(tmp_path: Path) -> None:
    info, buffer = PngInfo(), io.BytesIO()
    info.add_text("Comment", "<script>alert(1)</script>")
    Image.new("RGB", (3000, 30), "red").save(buffer, "PNG", pnginfo=info)
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue() + b"<script>").decode()
    with page(tmp_path) as client:
        id = answered(client, pictures=[uri])["id"]
        for name in ("1", "1-1"):
            reply = client.get(f"/api/questions/{id}/pictures/{name}")
            assert reply.headers["content-type"] == "image/jpeg" and b"script" not in reply.content
            assert max(Image.open(io.BytesIO(reply.content)).size) <= 1280
        for name in ("0", "99", "1-0", "1-9", "9-1", "-1", "x", "1-", "²"):
            assert client.get(f"/api/questions/{id}/pictures/{name}").status_code == 400, name


def pdf(pages: int) -> str:
    """Without text; the pages have different sizes."""
    import pypdf

    writer, buffer = pypdf.PdfWriter(), io.BytesIO()
    for number in range(pages):
        writer.add_blank_page(200 + 100 * number, 300)
    writer.write(buffer)
    return "data:application/pdf;base64," + base64.b64encode(buffer.getvalue()).decode()


def test_a_page_of_a_pdf_becomes_a_picture(tmp_path: Path) -> None:
    with page(tmp_path) as client:
        told = client.post("/api/pdf", json={"pdf": pdf(2), "page": 2}).json()
        assert told["pages"] == 2
        id = answered(client, pictures=[told["uri"]])["id"]
        ((width, height),) = conversation(client, id)[0]["sizes"]
        assert width == height == 2000
        for given, number, why in (
            (pdf(2), 3, "2 pages"),
            (pdf(1), 0, "1 page,"),
            (RED, 1, "format"),
            ("data:application/pdf;base64,AAAA", 1, "format"),
            ("x", 1, "begins"),
            (pdf(1), "1", "whole number"),
        ):
            reply = client.post("/api/pdf", json={"pdf": given, "page": number})
            assert reply.status_code == 400 and why in reply.json()["error"], reply.text


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 400, "text"),
        ({"text": " "}, 400, "empty"),
        ({"text": "x" * 100_000}, 413, "100000 characters"),
        ({"text": "x", "pictures": [RED] * 30}, 413, "30 pictures"),
        ({"text": "x", "pictures": ["/etc/passwd"]}, 400, "begins"),
        ({"text": "x", "pictures": ["data:image/png;base64,AAAA"]}, 400, "picture 1"),
        ({"text": "x", "pictures": "data:"}, 400, "list"),
        ([], 400, "object"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(tmp_path: Path, body: Any, status: int, told: str) -> None:
    with page(tmp_path) as client:
        reply = client.post("/api/questions", json=body)
        assert reply.status_code == status and told.lower() in reply.json()["error"].lower(), reply.text
        assert client.get("/api/history").json()["conversations"] == []


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_only_json_changes_something(tmp_path: Path, media: str) -> None:
    with page(tmp_path) as client:
        id = answered(client)["id"]
        for method, path in (
            ("POST", "/api/questions"),
            ("POST", f"/api/questions/{id}/stop"),
            ("PATCH", f"/api/history/{id}"),
            ("DELETE", f"/api/history/{id}"),
            ("POST", "/api/login"),
        ):
            reply = client.request(method, path, content='{"text": "x"}', headers={"content-type": media})
            assert reply.status_code == 400 and "application/json" in reply.json()["error"], path
        assert len(client.get("/api/history").json()["conversations"]) == 1


def test_an_answer_that_cannot_be_kept_is_told_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with page(tmp_path) as client:

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(History, "keep", full)
        asked = ask(client, pictures=[RED])
        assert asked["sizes"] == [[400, 300]] and asked["question"] == "What is its capital?"
        end = events(client, asked["id"])[-1]["end"]
        assert end["parts"][0] == "Orm " and "No space left" in end["unsaved"]


# Keep


def test_history_is_searched_renamed_and_deleted(tmp_path: Path) -> None:
    with page(tmp_path) as client:
        first = answered(client, "Which country is this?")
        answered(client, "And who rules it?", conversation=first["conversation"])
        second = answered(client, "What bird is this?")
        lines = client.get("/api/history").json()["conversations"]
        assert [line["id"] for line in lines] == [second["id"], first["id"]] and lines[1]["questions"] == 2
        # what a follow-up holds finds its conversation, under its own title
        (found,) = client.get("/api/history", params={"search": "RULES"}).json()["conversations"]
        assert found["title"] == "Which country is this?"
        assert client.patch(f"/api/history/{first['id']}", json={"title": "Veld"}).status_code == 200
        assert client.get(f"/api/conversations/{first['id']}").json()["title"] == "Veld"
        assert client.patch(f"/api/history/{first['id']}", json={"title": " "}).status_code == 400
        assert client.request("DELETE", f"/api/history/{first['id']}", json={}).status_code == 200
        assert [line["id"] for line in client.get("/api/history").json()["conversations"]] == [second["id"]]
        assert client.get(f"/api/conversations/{first['id']}").status_code == 404


def test_titles_that_are_no_unicode_spoil_nothing(tmp_path: Path) -> None:
    with page(tmp_path) as client:
        first, second = answered(client, "Which country?"), answered(client, "What bird?")
        title = {"content": b'{"title": "\\ud800"}', "headers": {"content-type": "application/json"}}
        assert client.patch(f"/api/history/{first['id']}", **title).status_code == 200
        assert client.patch(f"/api/history/{second['id']}", json={"title": "Veld"}).status_code == 200
        assert client.request("DELETE", f"/api/history/{first['id']}", json={}).status_code == 200
        assert client.get(f"/api/conversations/{second['id']}").json()["title"] == "Veld"


@pytest.mark.parametrize("number", ["-1", "x", "0" * 3, "9" * 5_000])
def test_examples_that_are_none(tmp_path: Path, number: str) -> None:
    with page(tmp_path) as client:
        assert client.get(f"/api/examples/m/{number}").status_code in (400, 404)


def test_what_is_in_play_can_be_deleted(tmp_path: Path) -> None:
    with page(tmp_path, Scripted(seconds=30.0)) as client:
        asked = ask(client)
        assert client.request("DELETE", f"/api/history/{asked['id']}", json={}).status_code == 200
        assert client.get("/api/history").json()["conversations"] == []
        assert client.get("/health").json()["playing"] == 0


HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(1)> [a](javascript:alert(1)) \"'`\u202e"


def test_exports_hold_everything_and_run_nothing(tmp_path: Path) -> None:
    answer = f"<answer>Orm {HOSTILE}</answer>".replace("</title>", "")
    with page(tmp_path, Scripted((LOOK, READ, answer))) as client:
        asked = answered(client, HOSTILE, pictures=[RED])
        kept = {kind: client.get(f"/api/conversations/{asked['id']}/export.{kind}") for kind in ("md", "json", "html")}
        for kind, reply in kept.items():
            assert reply.status_code == 200
            assert (
                reply.headers["content-disposition"].startswith("attachment; filename=")
                and kind in reply.headers["content-disposition"]
            )
        html = kept["html"].text
        assert "<script" not in html and "<img src=x" not in html and "data:image/jpeg;base64," in html
        assert "default-src 'none'" in html and "\u202e" not in html
        assert "\\<script\\>" in kept["md"].text and "[a](javascript" not in kept["md"].text
        (row,) = json.loads(kept["json"].text)["questions"]
        assert row["question"] == HOSTILE and row["turns"]
        assert client.get(f"/api/conversations/{asked['id']}/export.exe").status_code == 400


def test_markdown_names_its_sources(tmp_path: Path) -> None:
    with page(tmp_path) as client:
        text = client.get(f"/api/conversations/{answered(client)['id']}/export.md").text
        assert "1. [Veld](<https://veld.example/>)" in text and "notes/veld.md" in text.replace("\\", "")


def test_a_link_shows_what_was_shared_and_no_more(tmp_path: Path) -> None:
    known = read_callers(None, CallerLimits(), {"DEEPMMSEARCH_SERVE_KEYS": KEYS})
    with page(tmp_path, known=known, page=PageSettings(share=True)) as client:
        client.headers["authorization"] = "Bearer 0123456789abcdef"
        first = answered(client, pictures=[RED])
        path = client.post(f"/api/conversations/{first['id']}/share", json={}).json()["path"]
        answered(client, "A secret follow-up?", conversation=first["id"])
        del client.headers["authorization"]
        reply = client.get(path)
        assert "capital" in reply.text and "secret" not in reply.text
        assert "sandbox" in reply.headers["content-security-policy"]
        assert client.get("/shared/nothing").status_code == 404
    # a restart does not break it; deleting the conversation does
    with page(tmp_path, known=known, page=PageSettings(share=True)) as client:
        assert client.get(path).status_code == 200
        headers = {"authorization": "Bearer 0123456789abcdef"}
        client.request("DELETE", f"/api/history/{first['id']}", json={}, headers=headers)
        assert client.get(path).status_code == 404


def test_nothing_is_shared_where_it_is_not_allowed(tmp_path: Path) -> None:
    with page(tmp_path) as client:
        id = answered(client)["id"]
        assert client.post(f"/api/conversations/{id}/share", json={}).status_code == 404


# Keys


def test_a_key_becomes_a_cookie_that_no_script_reads(tmp_path: Path) -> None:
    known = read_callers(None, CallerLimits(), {"DEEPMMSEARCH_SERVE_KEYS": KEYS})
    with page(tmp_path, known=known) as client:
        assert client.get("/").status_code == 200
        told = client.get("/api/settings", headers={"accept-language": "de"}).json()
        assert told["known"] is False and told["texts"]["send"] == "Fragen" and "models" not in told
        assert client.post("/api/questions", json={"text": "x"}).status_code == 401
        assert client.post("/api/login", json={"key": "wrong"}).status_code == 401
        reply = client.post("/api/login", json={"key": "0123456789abcdef"})
        cookie = reply.headers["set-cookie"].lower()
        assert COOKIE in cookie and "httponly" in cookie and "samesite=strict" in cookie
        assert client.get("/api/settings").json()["caller"] == "anna"
        id = answered(client, pictures=[RED])["id"]
        # another one sees nothing of it
        other = {"authorization": "Bearer fedcba9876543210"}
        for path in (f"questions/{id}/events", f"questions/{id}/pictures/1", f"conversations/{id}"):
            assert client.get(f"/api/{path}", headers=other).status_code in (400, 404), path
        assert client.get("/api/history", headers=other).json()["conversations"] == []
        client.post("/api/logout", json={})
        assert client.get("/api/history").status_code == 401


# Tools that are chosen


async def test_tools_are_left_out_on_the_page_and_in_v1_where_the_recipe_allows_it(tmp_path: Path) -> None:
    policy = Scripted()
    with page(tmp_path / "a", policy) as client:
        (model,) = client.get("/api/settings").json()["models"]
        assert model["tools"] == ["text_search", "image_search"], "it has nothing that finds parts"
        asked = answered(client, pictures=[RED], tools=["text_search"])
        looked, read = conversation(client, asked["id"])[0]["turns"][:2]
        assert "not available" in looked["error"] and read["hits"]
        assert read["hits"][0]["excerpt"][1::2] == ["Veld", "capital"], "the words that were searched for stand apart"
        assert "Do without: image search." in policy.asked[-1].prompt.user
        for given, told in ((["nothing"], "search tool"), ("text_search", "not a list")):
            reply = client.post("/api/questions", json={"text": "?", "tools": given})
            assert reply.status_code == 400 and told in reply.json()["error"]
        body = {"model": "m", "messages": [{"role": "user", "content": "Which?"}], "search_tools": []}
        said = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
        assert said["reasoning_content"].count("not available") + said["reasoning_content"].count("no image") == 2
        assert client.post("/v1/responses", json={"model": "m", "input": "?", "search_tools": [3]}).status_code == 400
    with page(tmp_path / "b", policy, page=PageSettings(may_choose=("model",))) as client:
        asked = answered(client, pictures=[RED], tools=[])
        assert conversation(client, asked["id"])[0]["turns"][1]["hits"]
        assert client.post("/v1/chat/completions", json=body).status_code == 400


# What is wrong, in the page's language


def told(client: TestClient, **body: Any) -> tuple[str, dict[str, Any]]:
    reply = client.post("/api/questions", json={"text": "Which?"} | body).json()
    assert reply["error"] and all(f"error {reply['code']}" in page_texts(language) for language in LANGUAGES)
    return reply["code"], reply["given"]


def test_what_is_wrong_has_a_name_for_which_the_page_has_a_sentence(tmp_path: Path) -> None:
    uploads = UploadSettings(pictures=2, bytes=20_000, pixels=200_000, characters=50)
    with page(tmp_path, uploads=uploads) as client:
        assert told(client, text="x" * 51) == ("long_question", {"most": 50})
        assert told(client, text=" ") == ("no_question", {})
        assert told(client, pictures=[RED] * 3) == ("too_many", {"most": 2})
        assert told(client, pictures=["data:image/png;base64," + "A" * 40_000]) == ("large_file", {"most": 0.02})
        large = data_url(Image.new("RGB", (500, 500)))
        for picture in ("data:image/png;base64,aaaa", "data:image/png;base64,!", "/etc/passwd", large):
            code, given = told(client, pictures=[RED, picture])
            assert code == "bad_picture" and given["number"] == 2 and given["why"]
        assert told(client, conversation="gone") == ("no_conversation", {})
        assert client.get("/api/questions/none/events").json()["code"] == "no_run"
        asked = answered(client)
        renamed = client.patch(f"/api/history/{asked['id']}", json={"title": " "}).json()
        assert renamed["code"] == "no_title"
        assert (
            client.post("/api/pdf", json={"pdf": RED.replace("image/png", "application/pdf")}).json()["code"]
            == "bad_pdf"
        )
        # programs read English
        body = {"model": "m", "messages": [{"role": "user", "content": "x" * 51}]}
        assert "51 characters" in client.post("/v1/chat/completions", json=body).json()["error"]["message"]


def test_limits_and_keys_have_sentences_too(tmp_path: Path) -> None:
    known = read_callers(None, CallerLimits(per_minute=1), {"DEEPMMSEARCH_SERVE_KEYS": KEYS})
    with page(tmp_path, known=known) as client:
        assert client.post("/api/questions", json={"text": "?"}).json()["code"] == "no_key"
        assert client.post("/api/login", json={"key": "x"}).json()["code"] == "unknown_key"
        client.headers["authorization"] = "Bearer 0123456789abcdef"
        answered(client)
        code, given = told(client)
        assert code == "too_often" and given["count"] == 1 and 0 < given["wait"] <= 60
        large = client.post("/api/questions", content=b"x", headers={"content-length": str(10**10)})
        assert f"error {large.json()['error']['code']}" in page_texts("de")


def test_how_an_episode_ended_has_a_name() -> None:
    assert why_ended(None) is None and why_ended(STOPPED) == {"code": "stopped", "given": {}}
    assert why_ended("No answer within 0.05 s.") == {"code": "late", "given": {"seconds": "0.05"}}
    assert why_ended("boom") == {"code": "failed", "given": {"why": "boom"}}
    for code in (
        "stopped",
        "interrupted",
        "late",
        "failed",
        "no_place",
        "own_places",
        "stopping",
        "no_money",
        "slow_body",
    ):
        assert f"error {code}" in page_texts("zh")


def test_older_conversations_are_told_when_they_are_asked_for(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(page_kept, "AT_ONCE", 2)
    with page(tmp_path, Scripted([KNOW])) as client:
        for text in ("a tower", "b", "c", "d tower"):
            answered(client, text)

        def listed(**query: Any) -> tuple[list[str], bool]:
            found = client.get("/api/history", params=query).json()
            return [each["title"] for each in found["conversations"]], found["more"]

        assert listed() == (["d tower", "c"], True) and listed(most=3) == (["d tower", "c", "b"], True)
        assert listed(most=4) == (["d tower", "c", "b", "a tower"], False)
        assert listed(search="tower") == (["d tower", "a tower"], False)
        for odd in ("0", "-1", "x", "9" * 30, "\u0663"):
            assert len(listed(most=odd)[0]) == 2


def test_a_missing_package_for_pdfs_is_named_with_its_line(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'deepmmsearch\[serve\]'"):
        pdf_drawing.draw({"page": 1}, b"%PDF-1.4")
