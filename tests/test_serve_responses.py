"""OpenAI's Responses API, asked by the real client: in one piece, as events, with pictures, and what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image

from deepmmsearch.errors import UserError
from deepmmsearch.images import data_url
from serving import KNOW, Scripted, house, running

RED = data_url(Image.new("RGB", (40, 30), "red"))
ASKED: Any = [
    {
        "role": "user",
        "content": [{"type": "input_text", "text": "Which capital?"}, {"type": "input_image", "image_url": RED}],
    }
]


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30)


def test_a_response_in_one_piece(tmp_path: Path) -> None:
    policy = Scripted()
    with running(house(tmp_path, policy)) as url:
        done = client(url).responses.create(model="m", input=ASKED, instructions="You are a pirate.")
    assert (done.output_text, done.status, done.object) == ("Orm [1]", "completed", "response")
    reasoning, message = done.output
    assert reasoning.type == "reasoning" and len(reasoning.summary) == 3
    assert "capital of Veld" in reasoning.summary[1].text
    assert message.type == "message" and message.content[0].type == "output_text"
    (told,) = message.content[0].annotations
    assert told.type == "url_citation" and told.url == "https://veld.example/"
    assert done.output_text[told.start_index : told.end_index] == "[1]"
    assert done.usage is not None and (done.usage.input_tokens, done.usage.output_tokens) == (300, 30)
    assert policy.asked[0].question.image.getpixel((0, 0)) == (255, 0, 0)  # type: ignore[union-attr]


def test_a_response_as_events(tmp_path: Path) -> None:
    with running(house(tmp_path, Scripted())) as url:
        events = list(client(url).responses.create(model="m", input=ASKED, stream=True))
        with client(url).responses.stream(model="m", input="Which?") as stream:
            put_together = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    steps = [event.delta for event in events if event.type == "response.reasoning_summary_text.delta"]
    assert len(steps) == 3 and "I look at it." in steps[0]
    words = kinds.index("response.output_text.delta")
    assert all(kind != "response.reasoning_summary_text.delta" for kind in kinds[words:])
    (cited,) = [event.annotation for event in events if event.type == "response.output_text.annotation.added"]
    assert cited.type == "url_citation" and cited.url == "https://veld.example/"
    assert events[-1].response.output_text == put_together.output_text == "Orm [1]"
    assert len(put_together.output) == 2 and put_together.output[0].type == "reasoning"


def test_what_was_answered_goes_along(tmp_path: Path) -> None:
    policy = Scripted([KNOW])
    with running(house(tmp_path, policy)) as url:
        first = client(url).responses.create(model="m", input=ASKED)
        more: Any = [*ASKED, *(item.model_dump() for item in first.output), {"role": "user", "content": "And its sea?"}]
        client(url).responses.create(model="m", input=more, max_output_tokens=50)
    question = policy.asked[-1].question
    assert question.text == "And its sea?" and len(question.images) == 1
    assert [(e.question, e.answer) for e in question.history] == [("Which capital?", first.output_text)]


@pytest.mark.parametrize(
    ("given", "status", "told"),
    [
        ({"input": []}, 400, "no message"),
        ({"input": 3}, 400, "input is neither"),
        ({"input": [3]}, 400, "Message 1"),
        ({"input": " "}, 400, "empty"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]}, 400, "input_file"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}]}, 400, "no url"),
        ({"model": "x"}, 404, "model"),
        ({"previous_response_id": "resp_1"}, 400, "previous_response_id"),
        ({"max_output_tokens": 0}, 400, "max_output_tokens"),
    ],
)
def test_what_is_wrong_with_a_response_is_told(tmp_path: Path, given: Any, status: int, told: str) -> None:
    with running(house(tmp_path)) as url:
        reply = httpx2.post(f"{url}/v1/responses", json={"model": "m", "input": "x", **given})
    assert reply.status_code == status and told in reply.json()["error"]["message"]


def test_a_response_that_fails_on_the_way(tmp_path: Path) -> None:
    with running(house(tmp_path, Scripted(error=UserError("The endpoint is down.")))) as url:
        with pytest.raises(openai.InternalServerError, match="The endpoint is down"):
            client(url).responses.create(model="m", input="x")
        *_, last = client(url).responses.create(model="m", input="x", stream=True)
    assert last.type == "response.failed" and last.response.error is not None
    assert last.response.error.message == "The endpoint is down."
