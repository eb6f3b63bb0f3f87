"""What servers answer, as their users report it (`endpoint_shapes.jsonl`), and what becomes of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.agent.dialect import parse_action
from deepmmsearch.agent.loop import episode
from deepmmsearch.agent.toolbox import Toolbox
from deepmmsearch.policies.chat import ChatPolicy, EndpointError
from deepmmsearch.policies.chat import chat_policy as chat
from deepmmsearch.prompts import load_prompt
from deepmmsearch.types import Answer as Said
from deepmmsearch.types import Completion, Limits, Observation, Question, TextSearch, Trajectory, Turn
from endpoints import Answer, Endpoint, as_json, endpoint

SHAPES = [
    json.loads(line) for line in (Path(__file__).parent / "endpoint_shapes.jsonl").read_text("utf-8").splitlines()
]


def start(shape: dict[str, Any]) -> Trajectory:
    """`called`: it has called a function before, and thought; `functions` are offered then."""
    question = Question("q", "What is the capital of Norway?", (Image.new("RGB", (56, 56), "red"),))
    if "called" not in shape:
        return Trajectory(question, load_prompt("deepmmsearch-r1"))
    offered = ({"type": "function", "function": {"name": "text_search", "parameters": {"type": "object"}}},)
    prompt, call = (
        replace(load_prompt("functions"), functions=offered),
        '{"name": "text_search", "arguments": {"query": "Norway"}}',
    )
    asked = Completion(f"<tool_call>\n{call}\n</tool_call>", thoughts=shape["called"])
    turn = Turn(asked, TextSearch("Norway"), Observation("[1] The capital of Norway is Oslo."))
    return Trajectory(question, prompt, turns=(turn,))


def played(shape: dict[str, Any]) -> Any:
    """The server: it refuses what the shape refuses, then replies."""

    def refused(body: dict[str, Any], what: str) -> bool:
        name, _, most = what.partition(">")
        roles = [message["role"] for message in body["messages"]]
        if what == "twice":
            return any(a == b for a, b in pairwise(roles))
        if what == "system":
            return "system" in roles
        own = [message for message in body["messages"] if message["role"] == "assistant"]
        if what in ("thoughts", "no thoughts"):
            return any(bool(m.get("reasoning_content")) is (what == "thoughts") for m in own)
        if what == "unsigned calls":
            return any("extra_content" not in call for m in own for call in m.get("tool_calls", ()))
        return name in body and (not most or body[name] > int(most))

    def reply(body: dict[str, Any]) -> Answer:
        for what, answer in shape.get("refuses", {}).items():
            if refused(body, what):
                return answer["status"], "application/json", json.dumps(answer["body"]).encode()
        if "events" in shape:
            lines = [e if isinstance(e, str) else f"data: {json.dumps(e)}" for e in shape["events"]]
            lines = ["data: [DONE]" if line == "[DONE]" else line for line in lines]
            return 200, "text/event-stream", "".join(f"{line}\n\n" for line in lines).encode()
        given = shape["body"]
        text = given if isinstance(given, str) else json.dumps(given)
        return shape.get("status", 200), shape.get("type", "application/json"), text.encode()

    return reply


def streams(shape: dict[str, Any]) -> bool:
    return "events" in shape or "stream" in shape.get("headers", {})


def policy(url: str, shape: dict[str, Any], pieces: list[str]) -> ChatPolicy:
    asks = {name for what in shape.get("refuses", {}) for name in [what.partition(">")[0]]}
    return ChatPolicy(
        "vlm",
        url,
        on_text=pieces.append if streams(shape) else None,
        seed=7 if "seed" in asks else None,
        tokens="logprobs" in asks,
        timeout=10,
    )


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    async def at_once(seconds: float) -> None:
        now[0] += seconds

    import openai._base_client as client

    monkeypatch.setattr(chat.asyncio, "sleep", at_once)
    monkeypatch.setattr(chat, "monotonic", lambda: now[0])
    monkeypatch.setattr(client.anyio, "sleep", at_once)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.parametrize(
    "said",
    [
        "Loading model",
        "Model Qwen/Qwen2.5-VL-7B-Instruct is currently loading",
        "The model is still loading, please wait.",
        "llm server loading model",
        "Service unavailable: the model is being loaded (error 503).",
        "Request failed: model m is loading",
        "Model loading in progress",
        "The server is warming up.",
        "Not ready yet: still loading the weights",
    ],
)
def test_who_loads_the_model_is_asked_until_the_time_is_over(said: str) -> None:
    def reply(body: dict[str, Any]) -> Answer:
        return as_json({"error": {"message": said}}, 503)

    with endpoint(reply) as server:
        asked = ChatPolicy("vlm", server.url, timeout=60, retries=0)
        with pytest.raises(EndpointError, match="was still loading its model after 60 s"):
            asyncio.run(asked.act(start({})))
        assert len(server.asked) > 5


@pytest.mark.parametrize(
    "said",
    [
        "Failed loading the model: CUDA out of memory",
        "Servers are overloaded; please try another model.",
        "Error loading model: no such file",
        "Loading the model failed.",
        "The loaded model crashed",
        "No model is loaded. Load one first.",
        "An error occurred while loading the model",
        "Could not finish loading the model",
        "Model loading is disabled on this server",
        "The model was unloaded",
        "Still downloading the model list",
    ],
)
def test_who_cannot_load_the_model_is_not_waited_for(said: str) -> None:
    def reply(body: dict[str, Any]) -> Answer:
        return as_json({"error": {"message": said}}, 503)

    with endpoint(reply) as server:
        with pytest.raises(EndpointError, match=r"refused the request \(HTTP 503\)") as told:
            asyncio.run(ChatPolicy("vlm", server.url, timeout=60, retries=0).act(start({})))
        assert said.rstrip(".") in str(told.value) and len(server.asked) == 1


@pytest.mark.parametrize("shape", SHAPES, ids=[f"{s['server']}: {s['shape']}" for s in SHAPES])
def test_a_shape_is_what_it_is(shape: dict[str, Any]) -> None:
    wants, pieces = shape["wants"], list[str]()
    headers = {k: v for k, v in shape.get("headers", {}).items() if k != "stream"}
    with endpoint(played(shape), headers=headers) as server:
        asked = policy(server.url, shape, pieces)
        if "lenient" in wants:
            return check_lenient(asked, start(shape), wants)
        if "error" in wants:
            with pytest.raises(EndpointError, match=wants["error"]):
                asyncio.run(asked.act(start(shape)))
            assert len(server.asked) == wants.get("requests", len(server.asked))
            return None
        written = asyncio.run(asked.act(start(shape)))
        check(written, wants, server, start(shape).prompt.dialect)
        if streams(shape) and written.text:
            assert "".join(pieces) == written.text
        # what was learnt holds for the next turn
        before = len(server.asked)
        if wants.get("left_out"):
            asyncio.run(asked.act(start(shape)))
            assert len(server.asked) == before + 1


def check(written: Completion, wants: dict[str, Any], server: Endpoint, dialect: str) -> None:
    action = parse_action(written.text, dialect, ended=written.finish == "stop")
    if "answer" in wants:
        assert action == Said(wants["answer"]), written
    if "action" in wants:
        assert type(action).__name__ == wants["action"]
    assert written.finish == wants.get("finish", "stop")
    assert written.text == wants.get("text", written.text)
    assert written.thoughts == wants.get("thoughts", written.thoughts)
    assert wants.get("remark", "") in written.remark
    assert written.tokens == wants.get("tokens", written.tokens)
    last = server.asked[-1]
    assert not set(wants.get("left_out", ())) & last.keys()
    assert wants.get("sent", {}).items() <= last.items()
    assert [m["role"] for m in last["messages"]] == wants.get("roles", [m["role"] for m in last["messages"]])
    assert len(server.asked) == wants.get("requests", len(server.asked))


def check_lenient(asked: ChatPolicy, begun: Trajectory, wants: dict[str, Any]) -> None:
    async def last(lenient: bool) -> Trajectory:
        return [t async for t in episode(begun, asked, Toolbox(), Limits(calls=2), lenient=lenient)][-1]

    found = asyncio.run(last(lenient=True))
    assert found.turns[-1].action == Said(wants["lenient"], wants.get("formed", True))
    # where the form is a part of the score, it is asked for
    assert asyncio.run(last(lenient=False)).answer is None
