"""The chat policy against a server on this machine, through the real client."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from deepmmsearch import images
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.policies.chat import ChatPolicy, EndpointError
from deepmmsearch.policies.connection import OFFICIAL
from deepmmsearch.policies.vllm import Sampling, VllmServerPolicy
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing.services import ServiceReply, site
from deepmmsearch.types import Completion, Observation, Question, TextSearch, Trajectory, Turn
from endpoints import Answer, as_json, endpoint, error, late, said, streamed

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def start(text: str = "What is it?") -> Trajectory:
    image = Image.effect_noise((200, 130), 60).convert("RGB")
    return Trajectory(Question("q", text, (image,) if image is not None else ()), load_prompt("atlas"))


def ask(url: str, trajectory: Trajectory | None = None, **settings: Any) -> Completion:
    policy = ChatPolicy(**{"model": "vlm", "base_url": url, "retries": 0, **settings})
    return asyncio.run(policy.act(trajectory or start()))


def fails(reply: Answer, **settings: Any) -> str:
    with endpoint(lambda _: reply) as server, pytest.raises(UserError) as caught:
        ask(server.url, **settings)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 500
    return sentence


def test_a_turn_and_what_was_asked() -> None:
    first = Turn(Completion("<reason>r</reason><text_search>x</text_search>"), TextSearch("x"), Observation("[1] A."))
    trajectory = replace(start(), turns=(first,))
    with endpoint(lambda _: said("<answer>Veld</answer>")) as server:
        completion = ask(server.url, trajectory, temperature=0.5, seed=3, max_new_tokens=77)
    assert completion == Completion("<answer>Veld</answer>", finish="stop", prompt_tokens=7, tokens=3)
    request = server.asked[0]
    assert (request["model"], request["temperature"], request["seed"], request["max_tokens"]) == ("vlm", 0.5, 3, 77)
    assert request["stop"] == ["<information>"] and "logprobs" not in request
    system, user, said_before, found = request["messages"]
    assert system == {"role": "system", "content": trajectory.prompt.system}
    assert [p["type"] for p in user["content"]] == ["image_url", "text"]
    assert said_before == {"role": "assistant", "content": first.completion.text}
    assert found["content"].startswith("<information>[1] A.</information>")


@pytest.mark.parametrize(("lossless", "format"), [(True, "png"), (False, "jpeg")])
def test_the_picture_arrives_as_the_model_sees_it(lossless: bool, format: str) -> None:
    trajectory = start()
    with endpoint(lambda _: said("x")) as server:
        ask(server.url, trajectory, max_pixels=84 * 56, min_pixels=784, lossless=lossless)
    url = server.asked[0]["messages"][1]["content"][0]["image_url"]["url"]
    picture = Image.open(io.BytesIO(base64.b64decode(url.removeprefix(f"data:image/{format};base64,"))))
    assert picture.size == images.view_size((200, 130), 784, 84 * 56) != (200, 130)
    assert trajectory.question.image is not None
    seen = images.model_view(trajectory.question.image, 784, 84 * 56)
    assert (images.digest(picture) == images.digest(seen)) is lossless


@pytest.mark.parametrize("streams", [False, True])
def test_a_reply_that_a_stop_string_ended_has_no_ids(streams: bool) -> None:
    """vLLM takes the string out of the text, not its tokens out of the ids."""
    tokens = [{"token": "a", "logprob": -0.5}, {"token": "<information>", "logprob": -0.25}]
    whole = {"token_ids": [4, 5], "logprobs": {"content": tokens}}
    shown: list[str] = []
    for reason, ids in (("<information>", None), (2, (4, 5)), (None, (4, 5))):
        answer = said("a", **whole, stop_reason=reason)
        if streams:
            row = json.loads(answer[2])
            (choice,) = row["choices"]
            row["choices"] = [{**choice, "delta": choice["message"]}]
            answer = 200, "text/event-stream", f"data: {json.dumps(row)}\n\ndata: [DONE]\n\n".encode()
        with endpoint(lambda _, answer=answer: answer) as server:  # type: ignore[misc]
            policy = ChatPolicy("vlm", server.url, tokens=True, on_text=shown.append if streams else None)
            written = asyncio.run(policy.act(start()))
        assert (written.text, written.ids, written.finish) == ("a", ids, "stop")
        assert (written.logprobs is None) == (ids is None)


def test_a_prompt_that_fills_vllms_window_is_not_asked_again_and_again() -> None:
    def reply(body: dict[str, Any]) -> Any:
        asked = body.get("max_tokens")
        read = f"at least {2049 - asked} input tokens" if asked else "3600 input tokens"
        return error(f"This model's maximum context length is 2048 tokens. However, your request has {read}.")

    with endpoint(reply) as server:
        written = asyncio.run(ChatPolicy("vlm", server.url).act(start()))
    assert written.finish == "context" and len(server.asked) == 2


def test_token_ids_and_logprobs_where_the_server_gives_them() -> None:
    tokens = [{"token": t, "logprob": p, "bytes": None, "top_logprobs": []} for t, p in (("a", -0.5), ("b", -1.5))]
    reply = said("ab", token_ids=[4, 5], logprobs={"content": tokens})
    with endpoint(lambda _: reply) as server:
        completion = ask(server.url, tokens=True)
    assert server.asked[0]["return_token_ids"] is True and server.asked[0]["logprobs"] is True
    assert (completion.ids, completion.logprobs) == ((4, 5), (-0.5, -1.5))
    with endpoint(lambda _: said("ab", token_ids=[4, 5, 6], logprobs={"content": tokens})) as server:
        assert ask(server.url, tokens=True).logprobs is None


def test_finish_reasons() -> None:
    with endpoint(lambda _: said("abc", "length")) as server:
        assert ask(server.url).finish == "length"
    long = error("This model's maximum context length is 4096 tokens. However, you requested 5000.")
    with endpoint(lambda _: long) as server:
        assert ask(server.url) == Completion("", finish="context")


def test_streaming_gives_the_pieces_and_the_whole() -> None:
    pieces: list[str] = []
    with endpoint(lambda _: streamed("<answer>", "Ve", "ld</answer>")) as server:
        completion = ask(server.url, on_text=pieces.append)
    assert pieces == ["<answer>", "Ve", "ld</answer>"] and completion.text == "<answer>Veld</answer>"
    assert server.asked[0]["stream"] is True
    with endpoint(lambda _: streamed("<answer>", finish=None)) as server, pytest.raises(EndpointError, match="middle"):
        ask(server.url, on_text=pieces.append)
    with endpoint(lambda _: streamed("x", finish="length")) as server:
        assert ask(server.url, on_text=pieces.append).finish == "length"


def test_complete_serves_grounding() -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "Locate the ship."}]
    with endpoint(lambda _: said("[1, 2, 3, 4]")) as server:
        policy = ChatPolicy("vlm", server.url)
        picture = Image.new("RGB", (56, 56))
        done = asyncio.run(policy.complete([{"role": "user", "content": parts}], [picture]))
        assert done.text == "[1, 2, 3, 4]" and "stop" not in server.asked[0]
        with pytest.raises(ValueError, match="no image part"):
            asyncio.run(policy.complete([{"role": "user", "content": "x"}], [picture]))


def test_the_only_model_is_taken() -> None:
    with endpoint(lambda _: said("x")) as server:
        ask(server.url, model=None)
        assert server.asked[0]["model"] == "vlm"
        server.models = ["a", "b"]
        with pytest.raises(EndpointError, match=r"2 models \(a, b\)"):
            ask(server.url, model=None)


def test_the_client_retries() -> None:
    replies = [error("busy", 503), said("x")]
    with endpoint(lambda _: replies.pop(0)) as server:
        assert ask(server.url, retries=1).text == "x"


def test_the_key_comes_from_the_environment_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with endpoint(lambda _: said("x")) as server:
        ask(server.url, key_variable="MY_KEY")
    assert server.keys == [f"Bearer {KEY}"]
    for status in (400, 401, 429, 500):
        assert KEY not in fails(error(f"Incorrect key provided: {KEY}", status), key_variable="MY_KEY")
    assert "refuses the key in MY_KEY" in fails(error("no", 401), key_variable="MY_KEY")
    assert "there is none in OPENAI_API_KEY" in fails(error("no", 401))
    with pytest.raises(UserError, match="Set OPENAI_API_KEY"):
        ChatPolicy("gpt")


def test_endpoints_that_are_down_or_slow() -> None:
    with endpoint(lambda _: said("x")) as server:
        gone = server.url
    with pytest.raises(EndpointError, match="Nothing answers at"):
        ask(gone)
    with pytest.raises(EndpointError, match="Nothing answers at"):
        ask(gone, model=None)
    with endpoint(lambda _: late()) as server, pytest.raises(EndpointError, match=r"within 0\.2 s"):
        ask(server.url, timeout=0.2)
    with pytest.raises(UserError, match="is not the address"):
        ask("127.0.0.1:8000")


def test_endpoints_that_refuse() -> None:
    assert "refuses the picture" in fails(error("vlm is not a multimodal model"))
    assert "refuses the picture" in fails(error("unknown content type image_url", 422))
    assert "HTTP 400" in fails(error("temperature must be positive"))
    assert "HTTP 500" in fails(error("out of memory", 500))
    assert "HTTP 429" in fails(error("slow down", 429))


def test_an_unknown_model_gets_the_nearest_name() -> None:
    missing = error("The model `vln` does not exist.", 404)
    with endpoint(lambda _: missing) as server, pytest.raises(UnknownName, match="Did you mean 'vlm'"):
        ask(server.url, model="vln")
    with endpoint(lambda _: missing) as server, pytest.raises(EndpointError, match="does not serve the model 'vln'"):
        server.models = []
        ask(server.url, model="vln")
    with endpoint(lambda _: said("x")) as server, pytest.raises(EndpointError, match="has no chat completions"):
        server.models = []
        ask(f"{server.url}/v2")


@pytest.mark.parametrize(
    "reply",
    [
        (200, "text/html", b"<html>Welcome!</html>"),
        (200, "application/json", b"{not json"),
        as_json([]),
        as_json({"choices": []}),
        as_json({"choices": [{"message": {"content": 3}, "finish_reason": "stop"}]}),
        as_json({"choices": "many"}),
        as_json({"choices": [None]}),
        as_json(None),
    ],
)
def test_nonsense_is_one_sentence(reply: Answer) -> None:
    assert "not a chat completion" in fails(reply)


@pytest.mark.parametrize("reply", [(200, "text/html", b"<html>"), as_json({"error": {"message": "boom"}})])
def test_nonsense_in_a_stream(reply: Answer) -> None:
    assert fails(reply, on_text=lambda _: None)


# Where a request goes


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint(lambda _: said("direct")) as server, endpoint(lambda _: said("through")) as proxy:
        address = proxy.url.removesuffix("/v1")
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
            monkeypatch.setenv(name.lower(), address)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert ask(server.url).text == "direct" and not proxy.asked
        # one that is named is gone through
        assert ask("http://endpoint.example/v1", proxy=address).text == "through"
        assert proxy.paths == ["http://endpoint.example/v1/chat/completions"]
        renderer: Any = None
        asyncio.run(VllmServerPolicy(renderer, server.url, Sampling(context=100)).check())
        assert server.paths[-1] == "/v1/models" and len(proxy.paths) == 1


@pytest.mark.parametrize("proxy", ["127.0.0.1:3128", "ftp://user:pa55@proxy.example", "", "http://user:pa55@[::1"])
def test_a_proxy_that_is_none_is_told_without_its_password(proxy: str) -> None:
    with pytest.raises(UserError, match="The proxy cannot be used") as caught:
        ask("http://127.0.0.1:9/v1", proxy=proxy or "://")
    assert "pa55" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_an_endpoint_does_not_send_us_elsewhere(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with endpoint(lambda _: said("elsewhere")) as other, moved(status, other.url) as server:
        with pytest.raises(EndpointError, match=f"another address \\(HTTP {status}\\)"):
            ask(server)
        with pytest.raises(EndpointError, match="another address"):
            ask(server, model=None)
        assert not other.asked
        if status in (307, 308):  # by others a request loses its body
            assert ask(server, redirects=True).text == "elsewhere"
            assert other.keys == [""], "the key does not go along"


@contextmanager
def moved(status: int, goal: str) -> Iterator[str]:
    with site() as server:
        path = "/v1"
        server.reply = lambda asked: ServiceReply(status, headers={"Location": goal.removesuffix(path) + asked.path})
        yield f"{server.url}{path}"


def test_an_endpoint_below_a_path_is_asked_there() -> None:
    with endpoint(lambda _: said("yes")) as server:
        assert ask(server.url.replace("/v1", "/team/a/v1/")).text == "yes"
    assert server.paths == ["/team/a/v1/chat/completions"]


def test_what_openais_own_client_finds_in_the_environment_goes_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-private")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: private\nAuthorization: Bearer private")
    with endpoint(lambda _: said("x")) as server:
        ask(server.url)
    assert server.keys == [f"Bearer {KEY}"] and "private" not in str(server.headers)
    assert ChatPolicy("x").base_url == OFFICIAL
