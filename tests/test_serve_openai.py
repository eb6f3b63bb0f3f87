"""The OpenAI-compatible door, asked by the real client: conversations, pictures, streams, errors, Open WebUI."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image

from deepmmsearch.compose.serving import CallerLimits, UploadSettings
from deepmmsearch.errors import UserError
from deepmmsearch.images import data_url
from deepmmsearch.serve.callers import Caller
from deepmmsearch.serve.conversations import read_conversation
from deepmmsearch.serve.refusals import STOPPED
from serving import KNOW, LOOK, READ, Scripted, house, running

RED, BLUE = (data_url(Image.new("RGB", (40, 30), colour)) for colour in ("red", "blue"))


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def asked(text: str, *pictures: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*map(image, pictures), {"type": "text", "text": text}]}]


def client(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30)


def test_an_answer_in_one_piece(tmp_path: Path) -> None:
    policy = Scripted()
    with running(served := house(tmp_path, policy)) as url:
        assert [m.id for m in client(url).models.list()] == ["m", "m-openwebui"]
        assert client(url).models.retrieve("m").id == "m"
        done = client(url).chat.completions.create(model="m", messages=asked("Which capital?", RED))  # type: ignore[arg-type]
    said = done.choices[0].message
    assert said.content == "Orm [1]" and done.choices[0].finish_reason == "stop"
    (told,) = said.annotations or []
    cited = told.url_citation
    assert (cited.url, cited.title) == ("https://veld.example/", "Veld")
    assert said.content[cited.start_index : cited.end_index] == "[1]"
    steps = said.reasoning_content  # type: ignore[attr-defined]
    assert "I look at it." in steps and "capital of Veld" in steps and "https://veld.example/" in steps
    assert "answer>" not in steps and "<reason" not in steps
    assert done.usage is not None and (done.usage.prompt_tokens, done.usage.completion_tokens) == (300, 30)
    assert policy.asked[0].question.image.getpixel((0, 0)) == (255, 0, 0)  # type: ignore[union-attr]
    assert [e.answer for e in served.histories.of("local").entries()] == ["Orm"]
    served.histories.close()


def test_a_stream_tells_all_steps_before_the_first_word(tmp_path: Path) -> None:
    with running(house(tmp_path, Scripted(seconds=0.2))) as url:
        began = time.monotonic()
        stream = client(url).chat.completions.create(
            model="m",
            messages=asked("Which?", RED),
            stream=True,
            stream_options={"include_usage": True},  # type: ignore[arg-type]
        )
        chunks = [(time.monotonic() - began, chunk) for chunk in stream]
    deltas = [(t, c.choices[0].delta) for t, c in chunks if c.choices]
    steps = [(t, d.reasoning_content) for t, d in deltas if getattr(d, "reasoning_content", None)]
    words = [(t, d.content) for t, d in deltas if d.content]
    assert "".join(w for _, w in words) == "Orm [1]"
    assert len(steps) == 3 and steps[-1][0] <= words[0][0] and steps[0][0] < steps[-1][0] - 0.2
    assert [d.annotations[0]["url_citation"]["url"] for _, d in deltas if getattr(d, "annotations", None)] == [
        "https://veld.example/"
    ]
    assert chunks[-1][1].usage.total_tokens == 330
    assert [c.choices[0].finish_reason for _, c in chunks if c.choices][-1] == "stop"


async def test_the_client_that_waits_differently(tmp_path: Path) -> None:
    with running(house(tmp_path)) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as waiting:
            stream = await waiting.chat.completions.create(model="m", messages=asked("Which?"), stream=True)  # type: ignore[arg-type]
            said = [c.choices[0].delta.content or "" async for c in stream]
    assert "".join(said) == "Orm [1]"


def test_a_conversation_goes_along(tmp_path: Path) -> None:
    policy = Scripted([KNOW])
    earlier = [
        {"role": "system", "content": "You are a pirate."},
        *asked("Which country?", RED),
        {"role": "assistant", "content": "Veld [1]"},
        {"role": "user", "content": "And its capital?"},
    ]
    with running(house(tmp_path, policy)) as url:
        done = client(url).chat.completions.create(model="m", messages=earlier)  # type: ignore[arg-type]
    assert done.choices[0].message.content == "Orm [1]" or done.choices[0].message.content == "Orm"
    question = policy.asked[0].question
    assert question.text == "And its capital?" and len(question.images) == 1
    assert [(e.question, e.answer) for e in question.history] == [("Which country?", "Veld [1]")]


def test_stop_and_budget(tmp_path: Path) -> None:
    with running(house(tmp_path, Scripted([KNOW.replace("Orm", "Orm. And more")]))) as url:
        done = client(url).chat.completions.create(model="m", messages=asked("?"), stop=["."], max_completion_tokens=5)  # type: ignore[arg-type]
        assert done.choices[0].message.content.startswith("Orm") and "more" not in done.choices[0].message.content  # type: ignore[operator, union-attr]


@pytest.mark.parametrize(
    ("request_", "status", "told"),
    [
        ({"model": "x"}, 404, "model"),
        ({"messages": []}, 400, "no message"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "last message"),
        ({"messages": asked(" ")}, 400, "empty"),
        ({"messages": asked("x" * 101)}, 413, "101 characters"),
        ({"messages": asked("x", RED, RED, RED)}, 413, "3 pictures"),
        ({"messages": asked("x", "file:///etc/passwd")}, 400, "data URI"),
        ({"messages": asked("x", "data:image/png;base64,AAAA")}, 400, "picture 1"),
        ({"messages": asked("x", "http://169.254.169.254/latest")}, 400, "could not be fetched"),
        ({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}, 400, "video_url"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": {"a": 1}}]}]}, 400, "has no text"),
        ({"n": 2}, 400, "n is not 1"),
        ({"max_tokens": -1}, 400, "max_tokens"),
        ({"stop": 5}, 400, "stop is neither"),
    ],
)
def test_what_is_wrong_is_told_in_the_clients_form(tmp_path: Path, request_: Any, status: int, told: str) -> None:
    bounds = UploadSettings(pictures=2, characters=100)
    with running(house(tmp_path, uploads=bounds)) as url, pytest.raises(openai.APIStatusError) as caught:
        client(url).chat.completions.create(**{"model": "m", "messages": asked("x"), **request_})
    assert caught.value.status_code == status and told in caught.value.message
    assert caught.value.body["type"] and "Traceback" not in caught.value.message  # type: ignore[index]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"null", b'{"model": "m", "messages": 3}'])
def test_bodies_that_are_no_requests(tmp_path: Path, body: bytes) -> None:
    with running(house(tmp_path)) as url:
        reply = httpx2.post(f"{url}/v1/chat/completions", content=body)
    assert reply.status_code == 400 and reply.json()["error"]["message"]


def test_a_key_is_needed_where_there_are_keys(tmp_path: Path) -> None:
    import hashlib

    known = {hashlib.sha256(b"k1").hexdigest(): Caller("anna", CallerLimits(per_minute=1, concurrent=None))}
    with running(served := house(tmp_path, Scripted([KNOW]), known)) as url:
        for key in ("none", "k2"):
            with pytest.raises(openai.AuthenticationError):
                client(url, key).models.list()
        client(url, "k1").chat.completions.create(model="m", messages=asked("x"))  # type: ignore[arg-type]
        with pytest.raises(openai.RateLimitError, match="1 questions in a minute") as caught:
            client(url, "k1").chat.completions.create(model="m", messages=asked("x"))  # type: ignore[arg-type]
        assert int(caught.value.response.headers["retry-after"]) > 0
        assert httpx2.get(f"{url}/health").status_code == 200
        assert len(served.histories.of("anna").entries()) == 1


def test_what_fails_on_the_way_is_told(tmp_path: Path) -> None:
    broken = Scripted(error=UserError("The endpoint is down."))
    with running(house(tmp_path, broken)) as url:
        with pytest.raises(openai.InternalServerError, match="The endpoint is down") as caught:
            client(url).chat.completions.create(model="m", messages=asked("x"))  # type: ignore[arg-type]
        assert caught.value.status_code == 502
        with pytest.raises(openai.APIError, match="The endpoint is down"):
            list(client(url).chat.completions.create(model="m", messages=asked("x"), stream=True))  # type: ignore[arg-type]


def test_without_an_answer_it_is_said_why(tmp_path: Path) -> None:
    with running(house(tmp_path, Scripted([READ]))) as url:
        done = client(url).chat.completions.create(model="m", messages=asked("x"))  # type: ignore[arg-type]
    assert done.choices[0].message.content == "No answer: the policy used all its turns."


def test_who_hangs_up_stops_the_run(tmp_path: Path) -> None:
    served = house(tmp_path, Scripted(seconds=5))
    with running(served) as url:
        stream = client(url).chat.completions.create(model="m", messages=asked("x"), stream=True)  # type: ignore[arg-type]
        next(iter(stream))
        stream.close()
        until = time.monotonic() + 10
        while served.room.playing and time.monotonic() < until:
            time.sleep(0.05)
        assert served.room.playing == 0
        (entry,) = served.histories.of("local").entries()
        assert entry.error and entry.error != STOPPED and "hung up" in entry.error
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{url}/v1/chat/completions", json={"model": "m", "messages": asked("x")}, timeout=0.5)
        while served.room.playing and time.monotonic() < until + 10:
            time.sleep(0.05)
        assert served.room.playing == 0


# Open WebUI


def test_open_webui_sees_steps_sources_and_the_crop(tmp_path: Path) -> None:
    crop = LOOK.replace("<img></img_search>", "the flag</img_search>")
    with running(house(tmp_path, Scripted([crop, READ, KNOW]))) as url:
        body = {
            "model": "m-openwebui",
            "messages": asked("Which?", RED),
            "stream": True,
            "tools": [{"type": "function"}],
        }
        lines = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=30).text.splitlines()
    rows = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    events = [row["event"] for row in rows if "event" in row]
    searches = [e["data"] for e in events if e["type"] == "status"]
    assert searches[-1]["query"] == "capital of Veld" and searches[-1]["urls"] == [
        "https://veld.example/",
        "https://other.example/",
    ]
    (source,) = (e["data"] for e in events if e["type"] == "source")
    assert source["source"]["url"] == "https://veld.example/" and "Orm" in source["document"][0]
    assert lines[-2] == "data: [DONE]" or "data: [DONE]" in lines


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ('### Task:\nGenerate a concise title ... JSON format: { "title": ... }\nUSER: Which flag is this?', "title"),
        ('### Task:\nSuggest 3-5 follow-up ... { "follow_ups": [...] }', "follow_ups"),
        ('### Task:\nGenerate 1-3 broad tags ... { "tags": [...] }', "tags"),
    ],
)
def test_tasks_of_open_webui_are_answered_without_searching(tmp_path: Path, task: str, key: str) -> None:
    policy = Scripted()
    with running(served := house(tmp_path, policy)) as url:
        body = {"model": "m-openwebui", "messages": [{"role": "user", "content": task}]}
        reply = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=30).json()
    assert key in json.loads(reply["choices"][0]["message"]["content"])
    assert policy.asked == [] and served.histories.of("local").entries() == []
    served.histories.close()


def test_many_messages_of_one_speaker_take_no_longer_than_one() -> None:
    """Each was once copied as often as others followed: 32 MB kept the server busy for a minute."""
    many = [{"role": "user", "content": "x" * 10_000}] * 1_998
    began = time.process_time()
    read = read_conversation([*many, {"role": "assistant", "content": "Yes."}, *asked("Why?")])
    assert [(e.question, e.answer) for e in read.history] == [("\n\n".join(["x" * 10_000] * 1_998), "Yes.")]
    assert time.process_time() - began < 5


def test_what_open_webui_puts_before_the_words_is_taken_off() -> None:
    content = '<attached_files>\n<file type="image" url="x"/>\n</attached_files>\n\nWhich flag?'
    read = read_conversation([{"role": "user", "content": [{"type": "text", "text": content}, image(BLUE)]}])
    assert read.text == "Which flag?" and read.pictures == (BLUE,) and not read.task
