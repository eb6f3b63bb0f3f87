"""vLLM's two doors over a tiny model, which answer as vLLM 0.30 does: `vllm_protocol.py` asks both the same.

The server speaks `/v1/models`, `/v1/chat/completions/render`, `/inference/v1/generate`
(vllm/entrypoints/scale_out/token_in_token_out/protocol.py) and what exchanges weights; `FakeLLM` is
`vllm.LLM.generate`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from tests.checkpoints import tiny_model, tiny_processor

from deepmmsearch.testing import tiny_tokenizer

WINDOW = 4096


class Refused(Exception):
    """What vLLM would answer instead."""

    def __init__(self, said: str, status: int = 400) -> None:
        super().__init__(said)
        self.status = status


@dataclass
class Engine:
    """The model behind both doors."""

    tokenizer: Any = field(default_factory=tiny_tokenizer)
    model: Any = None

    def __post_init__(self) -> None:
        self.model = self.model or tiny_model(self.tokenizer)
        self.image_id = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.lock = threading.Lock()

    def cells(self, picture: Image.Image) -> int:
        grid = tiny_processor()(images=[picture], return_tensors="pt")["image_grid_thw"]
        return int(grid.prod()) // 4

    def sample(self, ids: list[int], pictures: list[Image.Image], wanted: dict[str, Any]) -> dict[str, Any]:
        """After expanded ids."""
        vocabulary = self.model.config.text_config.vocab_size
        if len(ids) >= WINDOW:
            raise Refused(f"The decoder prompt is longer than the maximum model length of {WINDOW}.")
        if unknown := [i for i in ids if not 0 <= i < vocabulary]:
            raise Refused(f"Token id {unknown[0]} is out of vocabulary")
        temperature = float(wanted["temperature"])
        if temperature < 0 or (temperature == 0 and wanted["n"] != 1):
            raise Refused("temperature must be non-negative, and n must be 1 when using greedy sampling")
        # more than there is room for is not refused
        most = min(wanted["max_tokens"], WINDOW - len(ids))
        pixels = tiny_processor()(images=pictures, return_tensors="pt") if pictures else {}
        bias = torch.zeros(vocabulary)
        for token, value in (wanted.get("logit_bias") or {}).items():
            bias[int(token)] = value
        chance = torch.Generator().manual_seed(wanted["seed"] % 2**63)
        out, logprobs, reason = [], [], "length"
        with torch.no_grad(), self.lock:
            while len(out) < most:
                row = torch.tensor([[*ids, *out]])
                kinds = {"mm_token_type_ids": (row == self.image_id).int()} if pixels else {}
                logits = self.model(input_ids=row, **pixels, **kinds).logits[0, -1].float() + bias
                spread = torch.log_softmax(logits / (temperature or 1.0), -1)
                drawn = torch.multinomial(spread.exp(), 1, generator=chance) if temperature else spread.argmax()
                out.append(int(drawn))
                logprobs.append(float(spread[out[-1]]))
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
    development: bool = True  # started with VLLM_SERVER_DEV_MODE=1
    logprobs: str = "processed_logprobs"
    busy: bool = False  # with the requests of another
    misplaced: int = 0  # requests whose pictures were not where their placeholders are
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: list[tuple[int, Any]] = field(default_factory=list)  # given instead of the next ones

    def paths(self, ending: str) -> list[dict[str, Any]]:
        return [body for path, body in self.asked if path.endswith(ending)]

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.asked.append((path, body))
        if self.answers:
            return self.answers.pop(0)
        try:
            if self.development and path.startswith(("/collective_rpc", "/reset_")):
                return self.change(path, body)
            if path == "/v1/chat/completions/render":
                return 200, self.render(body)
            if path == "/inference/v1/generate":
                if not self.scale_out:
                    return 403, {"error": {"message": "scale out is not enabled", "type": "Forbidden", "code": 403}}
                return 200, self.generate(body)
        except Refused as error:
            return error.status, {"error": {"message": str(error), "type": "Error", "code": error.status}}
        return 404, {"detail": "Not Found"}

    def change(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """New weights, and an end of what the former ones made."""
        if path != "/collective_rpc":
            return 200, {"success": not self.busy} if "prefix" in path else b""
        assert body["method"] == "reload_weights"
        files = sorted(Path(body["kwargs"]["weights_path"]).glob("*.safetensors"))
        if not files:
            raise Refused("Cannot find any model weights", 500)
        weights = {name: weight for file in files for name, weight in load_file(file).items()}
        self.engine.model.load_state_dict(weights, strict=True)
        return 200, {"results": [None]}

    def render(self, body: dict[str, Any]) -> dict[str, Any]:
        self.refuse_others(body)
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

    def refuse_others(self, body: dict[str, Any]) -> None:
        if body["model"] != "vlm":
            raise Refused(f"The model `{body['model']}` does not exist.", 404)

    def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        self.refuse_others(body)
        ids, features, pictures = body["token_ids"], body.get("features"), []
        if not ids:
            raise Refused("List should have at least 1 item after validation, not 0")
        if features is not None:
            hashes, places = features["mm_hashes"]["image"], features["mm_placeholders"]["image"]
            if len(hashes) != len(places):
                raise Refused("image mm_hashes and mm_placeholders must have the same length")
            if any(place["offset"] + place["length"] > len(ids) for place in places):
                raise Refused("mm_placeholders must remain within the token_ids sequence")
            if features["kwargs_data"] is None:
                raise Refused("metadata-only multimodal items require ec_transfer_params")
            try:
                pictures = [open_(base64.b64decode(item)) for item in features["kwargs_data"]["image"]]
            except Refused:
                raise Refused("'int' object has no attribute 'items'", 500) from None
            spans = [ids[p["offset"] : p["offset"] + p["length"]] for p in places]
            whole = [[self.engine.image_id] * self.engine.cells(picture) for picture in pictures]
            # vLLM puts pictures wherever it is told to, and answers nonsense
            if spans != whole or ids.count(self.engine.image_id) != sum(map(len, whole)):
                self.misplaced += 1
                pictures = []
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
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except OSError:
        raise Refused("Failed to load image") from None


@contextmanager
def server(engine: Engine, **settings: Any) -> Iterator[Server]:
    state = Server(engine, **settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            try:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            except ValueError:
                return self.send(400, {"error": {"message": "JSON decode error", "code": 400}})
            self.send(*state.reply(self.path, body))

        def do_GET(self) -> None:
            known = {"object": "list", "data": [{"id": "vlm", "object": "model", "max_model_len": WINDOW}]}
            given = {"/v1/models": known}
            if state.development:
                info = {"vllm_config": {"model_config": {"logprobs_mode": state.logprobs}}}
                given["/server_info?config_format=json"] = info
            self.send(*((200, given[self.path]) if self.path in given else (404, {"detail": "Not Found"})))

        def send(self, status: int, value: Any) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            if data:
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
    """`vllm.LLM` with its own expansion of placeholders; `batches` are the sizes of its calls. `take` gets new weights,
    `said` what else it is told."""

    def __init__(
        self,
        engine: Engine,
        window: int = WINDOW,
        take: Callable[[Any], None] | None = None,
        said: Callable[[str], None] = lambda what: None,
    ) -> None:
        self.engine, self.batches, self.threads = engine, [], []  # type: ignore[var-annotated]
        self.failing = False
        load = take or (lambda weights: engine.model.load_state_dict(dict(weights)))
        runner = SimpleNamespace(reload_weights=lambda weights_iterator: load(weights_iterator))
        self.llm_engine = SimpleNamespace(
            model_executor=SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner)),
            model_config=SimpleNamespace(max_model_len=window),
            reset_mm_cache=lambda: said("forget pictures"),
            reset_encoder_cache=lambda: said("forget features"),
        )
        self.wake_up = lambda tags: said(f"wake {tags[0]}")
        self.sleep = lambda level: said(f"sleep {level}")
        self.reset_prefix_cache = lambda: said("forget prompts")

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
