"""A vLLM server of one's own: pictures go to it once, then tokens in and tokens out.

Chat completions would render and tokenise the conversation again, so that sampled ids would not be kept. This speaks
the two endpoints that TRL 1.16 uses too: `/v1/chat/completions/render` makes the features of a picture, and
`/inference/v1/generate` samples after ids that hold as many placeholders as the picture has tokens.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.policies.chat import EndpointError
from deepmmsearch.policies.connection import connect
from deepmmsearch.policies.vllm.sampling import CountTokens, Sampling, full_window, refuse_other_size
from deepmmsearch.redaction import Redaction, public_address, secrets_in
from deepmmsearch.renderer import Renderer
from deepmmsearch.types import Completion, Trajectory

if TYPE_CHECKING:
    from openai import AsyncOpenAI

FEATURE_BYTES = 2 * 2**30
PROCESSED = "processed_logprobs"
START = (
    f"VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out --logprobs-mode {PROCESSED} --max-logprobs -1 "
    """(for weights over NCCL also --weight-transfer-config '{"backend": "nccl"}')"""
)
# what a server keeps that the former weights made; prompts that are being read are read again
_FORGET = ("/reset_mm_cache", "/reset_encoder_cache", "/reset_prefix_cache?reset_running_requests=true")
_RETRY_SECONDS = 2.0
KEY_VARIABLE = "VLLM_API_KEY"


@dataclass(frozen=True)
class _Feature:
    """A picture as the server made it: `data` are its pixels, encoded, and `tokens` how many placeholders it fills."""

    hash: str
    data: str
    tokens: int


class VllmServerPolicy:
    """Samples turns on a vLLM server (0.22 or later; from 0.30 with --enable-scale-out), many at once.

    `renderer` is the trainer's, with its view of pictures. `image_tokens` says how many tokens the trainer makes of a
    picture; where it is given, a server that makes another number is refused. The key, if the server wants one, comes
    from VLLM_API_KEY. `timeout` is in seconds, for one request; `retries` are the client's, with growing pauses.
    """

    def __init__(
        self,
        renderer: Renderer,
        base_url: str,
        sampling: Sampling,
        *,
        model: str | None = None,
        image_tokens: CountTokens | None = None,
        timeout: float = 600.0,
        retries: int = 3,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise MissingExtra("A vLLM server", "chat") from None
        self._openai = openai
        self.renderer, self.sampling, self.model = renderer, sampling, model
        self._address = base_url.rstrip("/").removesuffix("/v1")
        self.base_url = public_address(self._address)
        self.image_tokens, self.timeout, self.retries = image_tokens, timeout, retries
        self._client: tuple[asyncio.AbstractEventLoop, AsyncOpenAI] | None = None
        self._features: OrderedDict[str, _Feature] = OrderedDict()
        self._rendering: dict[str, asyncio.Task[_Feature]] = {}

    @property
    def name(self) -> str:
        return f"{self.model or 'model'} at {self.base_url}"

    async def check(self) -> None:
        """Takes the model's name and window from the server. Raises EndpointError when none answers."""
        try:
            reply = await self._connected().get("/v1/models", cast_to=object)
            served = {str(m["id"]): m for m in reply["data"]}  # type: ignore[index]
        except (self._openai.OpenAIError, ValueError, KeyError, TypeError) as error:
            raise self._explain(error, "/v1/models") from None
        if self.model is None:
            if len(served) != 1:
                raise EndpointError(f"{self.base_url} serves {', '.join(served) or 'no model'}. Name one of them.")
            self.model = next(iter(served))
        elif self.model not in served:
            raise EndpointError(f"{self.base_url} serves {', '.join(served) or 'no model'}, not {self.model}.")
        longest = served[self.model].get("max_model_len")
        if isinstance(longest, int) and longest < self.sampling.context:
            self.sampling = replace(self.sampling, context=longest)

    async def wait(self, seconds: float) -> None:
        """Until a server answers that gives the log probabilities that are trained with. Raises EndpointError when none
        does in time, or one was not started as it must be."""
        until = time.monotonic() + seconds
        while True:
            try:
                await self.check()
                break
            except EndpointError:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)
        path = "/server_info?config_format=json"
        try:
            info: Any = await self._connected().get(path, cast_to=object)
            mode = info["vllm_config"]["model_config"]["logprobs_mode"]
        except (self._openai.OpenAIError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise self._explain(error, path) from None
        if mode != PROCESSED:
            raise EndpointError(
                f"{self.base_url} gives {mode}, which are not those of its samples. Restart it: {START}"
            )

    async def load_weights(self, folder: Path) -> None:
        """The server takes the weights of its model from `folder`, safetensors that it sees under this path, and drops
        what the former ones made. Raises EndpointError where it cannot."""
        path = "/collective_rpc"
        request = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        try:
            await self._connected().with_options(max_retries=0).post(path, cast_to=object, body=request)
        except self._openai.InternalServerError as error:
            raise EndpointError(
                f"{self.base_url} could not load the weights in {folder} ({self._said(error)}). It must see the folder "
                "under this path (rollouts.weights), and serve the model that is trained. Start it again."
            ) from None
        except (self._openai.OpenAIError, json.JSONDecodeError) as error:
            raise self._explain(error, path) from None
        for path in _FORGET:
            reply = await self._post(path, {})
            if isinstance(reply, dict) and reply.get("success") is False:
                raise EndpointError(
                    f"{self.base_url} keeps what former weights made ({path}). Let it serve this run alone."
                )

    async def act(self, trajectory: Trajectory) -> Completion:
        """The next turn. Raises EndpointError when the server cannot be used, UserError when it sees pictures
        otherwise than the trainer."""
        if self.model is None:
            await self.check()
        sequence = self.renderer.sequence(trajectory)
        features = await asyncio.gather(*(self._feature(picture) for picture in sequence.images))
        ids = self.renderer.expand(sequence.ids, [f.tokens for f in features])
        budget = self.sampling.budget(len(ids))
        if budget <= 0:
            return full_window(len(ids))
        # 2 is FINAL_ONLY: without it the server answers with what finished last.
        parameters = {**self.sampling.parameters(trajectory, budget), "output_kind": 2}
        request = {"model": self.model, "token_ids": ids, "sampling_params": parameters}
        if features:
            request["features"] = _placed(features, ids, self.renderer.image_id)
        reply = await self._post("/inference/v1/generate", request)
        try:
            return self._read(reply, len(ids))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise self._explain(error, "/inference/v1/generate") from None

    def _read(self, reply: Any, prompt: int) -> Completion:
        choice = reply["choices"][0]
        ids = [int(i) for i in choice["token_ids"]]
        content = choice["logprobs"]["content"]
        # Up to 0.30 a token is called "token_id:7", later there is a number.
        named = [int(e["token_id"] if "token_id" in e else str(e["token"]).removeprefix("token_id:")) for e in content]
        if named != ids:
            raise ValueError("its logprobs are of other tokens than it sampled")
        logprobs = [float(e["logprob"]) for e in content]
        return self.sampling.completion(self.renderer, ids, logprobs, str(choice["finish_reason"]), prompt)

    async def _feature(self, picture: Image) -> _Feature:
        """What the server makes of a picture; asked once, however many rollouts show it at the same time."""
        key = images.digest(picture)
        if found := self._features.get(key):
            self._features.move_to_end(key)
            return found
        task = self._rendering.get(key)
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            task = self._rendering[key] = asyncio.create_task(self._render(picture))
            task.add_done_callback(lambda _: self._rendering.pop(key, None))
        # A rollout that is cancelled must not take the picture from the others.
        found = await asyncio.shield(task)
        self._features[key] = found
        while len(self._features) > 1 and sum(len(f.data) for f in self._features.values()) > FEATURE_BYTES:
            self._features.popitem(last=False)
        return found

    async def _render(self, picture: Image) -> _Feature:
        part = {"type": "image_url", "image_url": {"url": images.data_url(picture)}}
        request = {"model": self.model, "messages": [{"role": "user", "content": [part]}], "max_tokens": 1}
        path = "/v1/chat/completions/render"
        reply = await self._post(path, request)
        try:
            features = reply["features"]
            (hash_,), (data,) = features["mm_hashes"]["image"], (features["kwargs_data"] or {"image": [None]})["image"]
            (place,) = features["mm_placeholders"]["image"]
            tokens = int(place["length"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._explain(error, path) from None
        if data is None:
            raise EndpointError(
                f"{self.base_url} keeps the features of pictures to itself. Restart it with --mm-processor-cache-gb 0."
            )
        if self.image_tokens is not None:
            refuse_other_size(picture, tokens, self.image_tokens(picture))
        return _Feature(str(hash_), str(data), tokens)

    async def _post(self, path: str, request: dict[str, Any]) -> Any:
        try:
            return await self._connected().post(path, cast_to=object, body=request)
        except (self._openai.OpenAIError, json.JSONDecodeError) as error:
            raise self._explain(error, path) from None

    def _connected(self) -> AsyncOpenAI:
        """The client of the running event loop: connections must not be used in another."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._client[0] is not loop:
            key = os.environ.get(KEY_VARIABLE, "")
            client = connect(self._address, key, timeout=self.timeout, retries=self.retries)
            self._client = (loop, client)
        return self._client[1]

    def _explain(self, error: Exception, path: str) -> UserError:
        o, where = self._openai, self.base_url
        if isinstance(error, o.APITimeoutError):
            return EndpointError(f"{where} did not answer within {self.timeout:g} s. Lower the number of rollouts.")
        if isinstance(error, o.APIConnectionError):
            return EndpointError(f"No vLLM server answers at {where}. Start it: {START}")
        if isinstance(error, o.NotFoundError) and "does not exist" in str(error):
            return EndpointError(f"{where} does not serve {self.model}. Give the name that GET /v1/models lists.")
        if isinstance(error, o.NotFoundError):
            return EndpointError(f"{where} has no {path}. Restart it: {START}")
        if isinstance(error, o.PermissionDeniedError) and path.startswith("/inference"):
            return EndpointError(f"{where} was started without --enable-scale-out (HTTP 403). Restart it: {START}")
        if isinstance(error, o.AuthenticationError | o.PermissionDeniedError):
            return EndpointError(f"{where} refuses the key in {KEY_VARIABLE}. Set it to the server's --api-key.")
        said = self._said(error)
        return EndpointError(f"{where}{path} answered what cannot be used ({said}). It must be vLLM 0.22 or later.")

    def _said(self, error: Exception) -> str:
        """Its words, without what is secret."""
        hidden = Redaction([os.environ.get(KEY_VARIABLE, ""), *secrets_in(self._address)], least=1)
        return hidden.text(" ".join(str(error).split()))[:240].rstrip(".")


def _placed(features: list[_Feature], ids: list[int], image_id: int | None) -> dict[str, Any]:
    """The features of all pictures at their places in the expanded ids."""
    places, start = [], 0
    for feature in features:
        start = ids.index(image_id, start)  # type: ignore[arg-type]
        places.append({"offset": start, "length": feature.tokens})
        start += feature.tokens
    return {
        "mm_hashes": {"image": [f.hash for f in features]},
        "mm_placeholders": {"image": places},
        "kwargs_data": {"image": [f.data for f in features]},
    }
