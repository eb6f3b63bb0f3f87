"""Models that call functions: the same actions and the same record, in the server's own form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from data_players import FakeTools
from deepmmsearch.agent.loop import play
from deepmmsearch.agent.toolbox import Toolbox
from deepmmsearch.compose.policies import choose_prompt
from deepmmsearch.dialects.functions import DIALECT
from deepmmsearch.errors import UserError
from deepmmsearch.policies.chat import ChatPolicy
from deepmmsearch.policies.chat.calling import with_calls
from deepmmsearch.testing import contract
from deepmmsearch.types import Answer, ImageSearch, Limits, Malformed, Question, TextSearch, Trajectory
from endpoints import Answer as Sent
from endpoints import as_json, endpoint, streamed
from toy_tools import Magnify


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.parametrize("check", contract.DIALECT, ids=lambda check: check.__name__)
def test_it_is_a_dialect(check: Callable[[Any], None]) -> None:
    check(DIALECT)


def called(*calls: tuple[str, Any], said: str | None = None) -> Sent:
    made = [
        {"id": f"x{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": said, "tool_calls": made}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return as_json({"id": "1", "object": "chat.completion", "created": 0, "model": "vlm", "choices": [choice]})


def written(text: str) -> Sent:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return as_json({"id": "1", "object": "chat.completion", "created": 0, "model": "vlm", "choices": [choice]})


def played(*replies: Sent, tools: Toolbox | None = None, **settings: Any) -> tuple[Trajectory, list[dict[str, Any]]]:
    box = tools or replace(FakeTools().toolbox(), thumbnails=True)
    with endpoint(lambda body: replies[sum(m["role"] == "assistant" for m in body["messages"])]) as server:
        policy = ChatPolicy("vlm", server.url, **settings)
        question = Question("q", "Whose flag is it?", (Image.new("RGB", (64, 48), "red"),))
        start = Trajectory(question, choose_prompt(policy, box, "functions"))
        return asyncio.run(play(start, policy, box, Limits(calls=4))), server.asked


def test_an_episode_in_calls() -> None:
    last, asked = played(
        called(("image_search", "{}"), said="I look at the flag."),
        called(("text_search", json.dumps({"query": "capital of Veld"}))),
        written("Oru"),
    )
    assert [turn.action for turn in last.turns] == [ImageSearch(), TextSearch("capital of Veld"), Answer("Oru")]
    assert last.stop == "answer"
    names = [offered["function"]["name"] for offered in asked[0]["tools"]]
    assert names == ["text_search", "image_search"]
    messages = asked[2]["messages"]
    roles = [message["role"] for message in messages]
    assert roles[:4] == ["system", "user", "assistant", "tool"] and roles[-2:] == ["assistant", "tool"]
    first = messages[2]
    assert first["content"] == "I look at the flag." and first["tool_calls"][0]["function"]["name"] == "image_search"
    assert messages[3]["tool_call_id"] == first["tool_calls"][0]["id"] and messages[3]["content"]
    pictures = [message for message in messages[4:] if isinstance(message["content"], list)]
    shown = last.turns[0].observation
    assert shown is not None and len(shown.images) == sum(len(message["content"]) - 1 for message in pictures)


def test_what_cannot_be_carried_out_is_not_offered() -> None:
    tools = FakeTools().toolbox()
    only = Toolbox(text_search=tools.text_search, extra=(Magnify(),))
    _, asked = played(written("Oru"), tools=only)
    offered = {row["function"]["name"]: row["function"] for row in asked[0]["tools"]}
    assert offered.keys() == {"text_search", "magnify"}
    assert offered["magnify"]["parameters"]["required"] == ["left", "top"]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (("text_search", "{broken"), "not JSON"),
        (("text_search", '{"query": 3}'), "takes one argument, query"),
        (("text_search", '{"query": "x", "k": 3}'), "takes one argument, query"),
        (("image_search", '{"picture": 0}'), "counted from 1"),
        (("image_search", '{"url": "x"}'), "takes region"),
        (("get_weather", "{}"), "There is no function 'get_weather'"),
    ],
)
def test_a_call_that_is_wrong_is_told(call: tuple[str, str], problem: str) -> None:
    last, asked = played(called(call), written("Oru"))
    first = last.turns[0].action
    assert isinstance(first, Malformed) and problem in first.problem
    assert last.answer == "Oru"
    assert any(problem in str(message["content"]) for message in asked[1]["messages"])


def test_several_calls_at_once_and_arguments_as_an_object() -> None:
    call = ("text_search", {"query": "capital of Veld"})
    last, _ = played(called(call, ("image_search", "{}")), written("Oru"))
    assert last.turns[0].action == TextSearch("capital of Veld")
    assert "2 functions at once" in last.turns[0].completion.remark


def test_a_stream_tells_a_call_in_pieces() -> None:
    def piece(delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        row = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "vlm", "choices": [choice]}
        return f"data: {json.dumps(row)}\n\n"

    def part(**function: str) -> str:
        return piece({"tool_calls": [{"index": 0, "function": function}]})

    lines = [part(name="text_search", arguments=""), part(arguments='{"query": '), part(arguments='"Veld"}')]
    body = "".join([*lines, piece({}, "tool_calls"), "data: [DONE]\n\n"]).encode()
    last, _ = played((200, "text/event-stream", body), streamed("Or", "u"), on_text=lambda text: None)
    assert [turn.action for turn in last.turns] == [TextSearch("Veld"), Answer("Oru")]


def test_a_turn_without_a_call_stays_as_it_is() -> None:
    told = [{"role": "assistant", "content": "Oru"}, {"role": "user", "content": "Write it again."}]
    assert with_calls(told) == told


def test_a_model_in_this_process_cannot_be_offered_functions() -> None:
    class Local:
        def view(self, image: Image.Image) -> Image.Image:
            return image

        async def complete(self, conversation: object, pictures: object = ()) -> None: ...

        async def act(self, trajectory: Trajectory) -> None: ...

    with pytest.raises(UserError, match="for models behind an endpoint"):
        choose_prompt(Local(), FakeTools().toolbox(), "functions")  # type: ignore[arg-type]
