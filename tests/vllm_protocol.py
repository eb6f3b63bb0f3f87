"""What a vLLM server answers to requests that our policy makes, and to those that it must not make: asked of the fake
(`test_policies_vllm.py`) and of vLLM itself (`tests/real_vllm`)."""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from PIL import Image

RENDER, GENERATE = "/v1/chat/completions/render", "/inference/v1/generate"


@dataclass(frozen=True)
class Served:
    """A server of a model: `prompt` are ids without a picture, `image_id` is its placeholder, `window` its length."""

    url: str
    model: str
    prompt: tuple[int, ...]
    image_id: int
    window: int

    def ask(self, path: str, body: Any) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=120) as reply:
                return reply.status, json.loads(reply.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def rendered(self, url: str, model: str) -> tuple[int, Any]:
        content = [{"type": "image_url", "image_url": {"url": url}}]
        return self.ask(RENDER, {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 1})

    @cached_property
    def features(self) -> dict[str, Any]:
        """Of a picture behind the first id of `prompt`."""
        file = io.BytesIO()
        Image.effect_noise((84, 56), 60).convert("RGB").save(file, "PNG")
        status, reply = self.rendered(f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}", self.model)
        assert status == 200, reply
        found: dict[str, Any] = reply["features"]
        (place,) = found["mm_placeholders"]["image"]
        return {**found, "mm_placeholders": {"image": [{"offset": 1, "length": place["length"]}]}}

    @property
    def pictured(self) -> tuple[int, ...]:
        (place,) = self.features["mm_placeholders"]["image"]
        return (self.prompt[0], *[self.image_id] * place["length"], *self.prompt[1:])

    def request(self, ids: tuple[int, ...] | None = None, **changes: Any) -> dict[str, Any]:
        features = changes.pop("features", None)
        parameters = {"n": 1, "temperature": 0.0, "max_tokens": 3, "seed": 1, "logprobs": 0, "stop_token_ids": []}
        parameters |= {"logit_bias": None, "output_kind": 2, **changes}
        body = {"model": self.model, "token_ids": list(ids or self.prompt), "sampling_params": parameters}
        return body if features is None else {**body, "features": features}


Make = Callable[[Served], dict[str, Any]]

# the status, or those of different versions
ANSWERS: dict[str, tuple[tuple[int, ...], Make]] = {
    "words alone": ((200,), lambda s: s.request()),
    "a picture": ((200,), lambda s: s.request(s.pictured, features=s.features)),
    "a bias": ((200,), lambda s: s.request(logit_bias={str(s.image_id): -100.0})),
    "a setting nobody knows": ((200,), lambda s: s.request(nobody=1)),
    "a seed of 64 bits": ((200,), lambda s: s.request(seed=2**63)),
    "placeholders without a picture": ((200,), lambda s: s.request(s.pictured)),
    "a picture where no placeholder is": ((200,), lambda s: s.request(s.pictured, features=_at(s, 0))),
    "a picture behind the end": ((400,), lambda s: s.request(s.pictured, features=_at(s, 1000))),
    "more names than places": ((400,), lambda s: s.request(s.pictured, features=_named(s, "a", "b"))),
    "a picture by its name alone": (
        (400,),
        lambda s: s.request(s.pictured, features={**s.features, "kwargs_data": None}),
    ),
    "a picture that is none": ((500,), lambda s: s.request(s.pictured, features=_damaged(s))),
    "a token beyond the vocabulary": ((400,), lambda s: s.request((999_999,))),
    "no ids": ((400,), lambda s: {**s.request(), "token_ids": []}),
    "a prompt as long as the window": ((400,), lambda s: s.request((s.prompt * s.window)[: s.window])),
    "two greedy answers": ((400,), lambda s: s.request(n=2)),
    "a temperature below zero": ((400,), lambda s: s.request(temperature=-1.0)),
    "another model": ((404,), lambda s: {**s.request(), "model": "another"}),
}


def check_protocol(served: Served) -> None:
    """Raises AssertionError where a server answers otherwise."""
    found = {name: (served.ask(GENERATE, make(served))[0], wanted) for name, (wanted, make) in ANSWERS.items()}
    assert {name: status for name, (status, wanted) in found.items() if status not in wanted} == {}
    assert served.ask(GENERATE, b"{")[0] == 400 and served.ask("/nowhere", {})[0] == 404
    assert served.rendered("data:image/png;base64,AAAA", served.model)[0] == 400
    assert served.rendered("data:image/png;base64,AAAA", "another")[0] == 404
    _, reply = served.ask(GENERATE, served.request(max_tokens=5, ignore_eos=True))
    (choice,) = reply["choices"]
    assert choice["finish_reason"] == "length" and len(choice["token_ids"]) == 5
    assert len(choice["logprobs"]["content"]) == 5 and all(e["logprob"] <= 0 for e in choice["logprobs"]["content"])
    # more than there is room for is given as far as there is
    long = (served.prompt * served.window)[: served.window - 4]
    _, reply = served.ask(GENERATE, served.request(long, max_tokens=10**6, ignore_eos=True))
    assert [len(c["token_ids"]) for c in reply["choices"]] == [4]
    first = choice["token_ids"][0]
    _, reply = served.ask(GENERATE, served.request(stop_token_ids=[first]))
    (choice,) = reply["choices"]
    assert choice["finish_reason"] == "stop" and choice["token_ids"] == [first]


def check_weights(served: Served, folder: str) -> None:
    """Of a server in development mode: weights of its model from `folder`, and what it keeps is dropped."""
    before = served.ask(GENERATE, served.request())[1]["choices"]
    load = {"method": "reload_weights", "kwargs": {"weights_path": folder}}
    assert served.ask("/collective_rpc", load)[0] == 200
    for path in ("/reset_mm_cache", "/reset_encoder_cache"):
        assert served.ask(path, {})[0] == 200
    assert served.ask("/reset_prefix_cache?reset_running_requests=true", {}) == (200, {"success": True})
    after = replace(served).ask(GENERATE, served.request())[1]["choices"]
    assert [c["token_ids"] for c in after] == [c["token_ids"] for c in before]


def _at(served: Served, offset: int) -> dict[str, Any]:
    (place,) = served.features["mm_placeholders"]["image"]
    return {**served.features, "mm_placeholders": {"image": [{**place, "offset": offset}]}}


def _named(served: Served, *names: str) -> dict[str, Any]:
    return {**served.features, "mm_hashes": {"image": list(names)}}


def _damaged(served: Served) -> dict[str, Any]:
    return {**_named(served, "z"), "kwargs_data": {"image": ["AAAA"]}}
