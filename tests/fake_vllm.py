"""vLLM's two doors over a tiny model: the requests and replies of its documented protocol, checked as it checks them.

The server speaks `/v1/models`, `/v1/chat/completions/render` and `/inference/v1/generate`
(vllm/entrypoints/scale_out/token_in_token_out/protocol.py); `FakeLLM` is `vllm.LLM.generate`. Greedy only.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image

from checkpoints import tiny_model, tiny_processor
from deepmmsearch.testing import tiny_tokenizer

WINDOW = 4096


class Refused(Exception):
    """What vLLM would answer with status 400."""


@dataclass
class Engine:
    """The model behind both doors."""

    tokenizer: Any = field(default_factory=tiny_tokenizer)

    def __post_init__(self) -> None:
        self.model = tiny_model(self.tokenizer)
        self.image_id = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.lock = threading.Lock()

    def cells(self, picture: Image.Image) -> int:
        grid = tiny_processor()(images=[picture], return_tensors="pt")["image_grid_thw"]
        return int(grid.prod()) // 4

    def sample(self, ids: list[int], pictures: list[Image.Image], wanted: dict[str, Any]) -> dict[str, Any]:
        """Greedy, after expanded ids."""
        if len(ids) + wanted["max_tokens"] > WINDOW:
            raise Refused(f"the window is {WINDOW} tokens")
        if wanted["n"] != 1 or wanted["logprobs"] != 0 or wanted["temperature"] != 0 or not wanted["seed"] < 2**63:
            raise Refused("unexpected sampling parameters")
        pixels = tiny_processor()(images=pictures, return_tensors="pt") if pictures else {}
        bias = torch.zeros(self.model.config.text_config.vocab_size)
        for token, value in (wanted["logit_bias"] or {}).items():
            bias[int(token)] = value
        out, logprobs, reason = [], [], "length"
        with torch.no_grad(), self.lock:
            while len(out) < wanted["max_tokens"]:
                row = torch.tensor([[*ids, *out]])
                kinds = {"mm_token_type_ids": (row == self.image_id).int()} if pixels else {}
                logits = self.model(input_ids=row, **pixels, **kinds).logits[0, -1] + bias
                out.append(int(logits.argmax()))
                logprobs.append(float(torch.log_softmax(logits, -1)[out[-1]]))
                if out[-1] in wanted["stop_token_ids"]:
                    reason = "stop"
                    break
        return {"token_ids": out, "logprobs": logprobs, "finish_reason": reason}


@dataclass
class Server:
    engine: Engine
    url: str = ""
    named: bool = True  # logprobs name their token "token_id:7", as vLLM did up to 0.30
    scale_out: bool = True  # without, vLLM refuses its door for token ids
    hoards: bool = False  # keeps features in its own cache and hands out none
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: list[tuple[int, Any]] = field(default_factory=list)  # given instead of the next ones

    def paths(self, ending: str) -> list[dict[str, Any]]:
        return [body for path, body in self.asked if path.endswith(ending)]

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.asked.append((path, body))
        if self.answers:
            return self.answers.pop(0)
        try:
            if path == "/v1/chat/completions/render":
                return 200, self.render(body)
            if path == "/inference/v1/generate":
                if not self.scale_out:
                    return 403, {"error": {"message": "scale out is not enabled", "type": "Forbidden", "code": 403}}
                return 200, self.generate(body)
        except Refused as error:
            return 400, {"error": {"message": str(error), "type": "BadRequestError", "code": 400}}
        return 404, {"detail": "Not Found"}

    def render(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["model"] != "vlm":
            raise Refused("no such model")
        urls = [part["image_url"]["url"] for part in body["messages"][0]["content"]]
        files = [base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in urls]
        places, offset = [], 5
        for data in files:
            places.append({"offset": offset, "length": self.engine.cells(open_(data))})
            offset += places[-1]["length"] + 2
        features = {
            "mm_hashes": {"image": [hashlib.sha256(data).hexdigest() for data in files]},
            "mm_placeholders": {"image": places},
            "kwargs_data": None if self.hoards else {"image": [base64.b64encode(data).decode() for data in files]},
        }
        return {"request_id": "chatcmpl-1", "token_ids": [1, 2, 3], "features": features, "sampling_params": {}}

    def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        ids, features, pictures = body["token_ids"], body.get("features"), []
        if features is not None:
            hashes, places = features["mm_hashes"]["image"], features["mm_placeholders"]["image"]
            items = [base64.b64decode(item) for item in features["kwargs_data"]["image"]]
            if not len(hashes) == len(places) == len(items):
                raise Refused("image mm_hashes and mm_placeholders must have the same length")
            for place, item, name in zip(places, items, hashes, strict=True):
                span = ids[place["offset"] : place["offset"] + place["length"]]
                if span != [self.engine.image_id] * self.engine.cells(open_(item)):
                    raise Refused("mm_placeholders must remain within the token_ids sequence")
                if hashlib.sha256(item).hexdigest() != name:
                    raise Refused("the hash is of another item")
            pictures = [open_(item) for item in items]
            if ids.count(self.engine.image_id) != sum(p["length"] for p in places):
                raise Refused("more placeholders than features")
        elif self.engine.image_id in ids:
            raise Refused("placeholders without features")
        if body["sampling_params"]["output_kind"] != 2:
            raise Refused("unexpected sampling parameters")
        said = self.engine.sample(ids, pictures, body["sampling_params"])
        content = [
            {"token": f"token_id:{i}", "logprob": value, "bytes": None, "top_logprobs": []}
            if self.named
            else {"token_id": i, "logprob": value, "rank": 1, "top_logprobs": []}
            for i, value in zip(said["token_ids"], said["logprobs"], strict=True)
        ]
        choice = {"index": 0, "logprobs": {"content": content}, "finish_reason": said["finish_reason"]}
        return {"request_id": "generate-tokens-1", "choices": [{**choice, "token_ids": said["token_ids"]}]}


def open_(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


@contextmanager
def server(engine: Engine, **settings: Any) -> Iterator[Server]:
    state = Server(engine, **settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send(*state.reply(self.path, body))

        def do_GET(self) -> None:
            known = {"object": "list", "data": [{"id": "vlm", "object": "model", "max_model_len": WINDOW}]}
            self.send(*((200, known) if self.path == "/v1/models" else (404, {})))

        def send(self, status: int, value: Any) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    try:
        yield state
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


class FakeLLM:
    """`vllm.LLM` with its own expansion of placeholders; `batches` are the sizes of its calls."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.batches, self.threads = engine, [], []  # type: ignore[var-annotated]
        self.failing = False

    def generate(self, prompts: list[Any], sampling_params: list[Any], *, use_tqdm: bool) -> list[Any]:
        assert len(prompts) == len(sampling_params) and not use_tqdm
        self.batches.append(len(prompts))
        self.threads.append(threading.current_thread().name)
        if self.failing:
            raise RuntimeError("CUDA out of memory")
        return [self._one(p, w) for p, w in zip(prompts, sampling_params, strict=True)]

    def _one(self, prompt: dict[str, Any], wanted: dict[str, Any]) -> Any:
        pictures = prompt.get("multi_modal_data", {"image": []})["image"]
        ids, left = [], list(pictures)
        for i in prompt["prompt_token_ids"]:
            ids += [i] * self.engine.cells(left.pop(0)) if i == self.engine.image_id else [i]
        said = self.engine.sample(ids, pictures, wanted)
        logprobs = [
            {i: SimpleNamespace(logprob=value, rank=1, decoded_token="x")}
            for i, value in zip(said["token_ids"], said["logprobs"], strict=True)
        ]
        output = SimpleNamespace(token_ids=said["token_ids"], logprobs=logprobs, finish_reason=said["finish_reason"])
        return SimpleNamespace(prompt_token_ids=ids, outputs=[output], finished=True)
