"""What is taken from TRL 1.16 where it feeds vLLM: it may move with a new release, and must not move unnoticed."""

from __future__ import annotations

import inspect
import random
import re
import urllib.error
import urllib.request
from json import dumps, loads
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from deepmmsearch.train import colocated
from fake_vllm import Engine, server

trl = pytest.importorskip("trl")
generation = pytest.importorskip("trl.generation.vllm_generation")
client = pytest.importorskip("trl.generation.vllm_client")


class Session:
    """As much of a `requests.Session` as TRL's client uses."""

    def post(self, url: str, json: Any) -> Any:
        asked = urllib.request.Request(url, dumps(json).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=60) as reply:
                status, text = reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return SimpleNamespace(status_code=status, text=text, json=lambda: loads(text))


def test_how_weights_are_sent() -> None:
    source = inspect.getsource(generation.VLLMGeneration)
    for name in ("accelerator", "vllm_client"):
        assert re.search(rf"self\.{name} = ", source), f"VLLMGeneration has no {name}"
    # what `send_weights` does in place of TRL's own
    sent = inspect.getsource(generation.VLLMGeneration.sync_weights)
    for line in (
        "self.vllm_client.update_named_params(",
        'str(param.dtype).removeprefix("torch.")',
        "self.vllm_client.reset_prefix_cache()",
    ):
        assert line in sent
    assert list(inspect.signature(client.VLLMClient.update_named_params).parameters) == [
        "self",
        "metadata",
        "named_params",
    ]
    asked = set(inspect.signature(generation.VLLMGeneration.__init__).parameters)
    assert {"model", "accelerator", "processing_class", "mode", "server_base_url", "group_port"} <= asked


def test_how_an_engine_in_the_process_is_started() -> None:
    """Ours is TRL's, with a dtype, and prompts that are read at once on a CPU."""
    theirs = inspect.getsource(generation.VLLMGeneration._init_vllm)
    (call,) = re.findall(r"LLM\((.*?)\n            \)", theirs, re.S)
    asked = set(re.findall(r"^ +(\w+)=", call, re.M))
    (call,) = re.findall(r"LLM\((.*?)\n            \)", inspect.getsource(colocated.colocated_engine), re.S)
    ours = set(re.findall(r"^ +(\w+)=", call, re.M))
    assert ours - asked == {"dtype", "enable_chunked_prefill"}
    assert asked - ours == {"tensor_parallel_size", "quantization", "trust_remote_code"}
    # the rest of what ours does for a round
    rounds = inspect.getsource(generation.VLLMGeneration)
    for line in (
        'self.llm.wake_up(tags=["weights"])',
        'self.llm.wake_up(tags=["kv_cache"])',
        "self.llm.sleep(level=2)",
        "self.llm.reset_prefix_cache()",
        "self.llm.llm_engine.model_executor.driver_worker.model_runner",
        '"prompt_token_ids": ids',
        '"multi_modal_data"] = {"image":',
    ):
        assert line in rounds


def test_trl_and_we_speak_the_same_protocol() -> None:
    """TRL's own client against the server that our policy is tested with."""
    engine = Engine()
    with server(engine) as vllm:
        # Its constructor wants vLLM itself, and requests.
        theirs: Any = client.VLLMClient.__new__(client.VLLMClient)
        theirs.session, theirs.base_url, theirs.model = Session(), vllm.url, "vlm"
        picture = Image.frombytes("RGB", (84, 56), random.Random(1).randbytes(84 * 56 * 3))
        (features,) = theirs.image_features([[picture]])
        cells = engine.cells(picture)
        prompt = [7, *[engine.image_id] * cells, 8]
        features["mm_placeholders"]["image"] = [{"offset": 1, "length": cells}]
        found = theirs.generate(
            prompts=[prompt],
            features=[features],
            temperature=0,
            max_tokens=3,
            generation_kwargs={"seed": 0, "logit_bias": None, "stop_token_ids": []},
        )
    assert len(found["completion_ids"][0]) == 3 and len(found["logprobs"][0]) == 3
    assert found["completion_ids"][0] == [ids[0] for ids in found["logprob_token_ids"][0]]
    assert [path for path, _ in vllm.asked] == ["/v1/chat/completions/render", "/inference/v1/generate"]
