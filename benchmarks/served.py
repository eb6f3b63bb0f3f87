"""The chat policy against a real server: the same checkpoint behind `transformers serve` and in this process.

Both play the same questions of an atlas greedily, through the same tools; what is compared is the answer and every
turn.

    deepmmsearch atlas make world --seed 1 --questions 50
    deepmmsearch index build world/sites --out world-index
    python benchmarks/served.py --atlas world --index world-index

Needs: pip install 'deepmmsearch[local,chat,engine]' 'transformers[serving]'
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import AgentWorkflow, run_all
from deepmmsearch.atlas.play import correct
from deepmmsearch.atlas.world_files import load_questions
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.compose.endpoints import seeing_model
from deepmmsearch.compose.policies import ChatPolicySettings
from deepmmsearch.compose.tool_settings import LocalToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.environment import environment
from deepmmsearch.policies.agent_card import read_card
from deepmmsearch.policies.local import LocalPolicy
from deepmmsearch.prompts import load_prompt
from deepmmsearch.types import Policy, Question, Trajectory

START_SECONDS = 300.0
PLAIN_REPLY = {
    "defaults": {"role": "assistant"},
    "start_anchor_pattern": r"<\|im_start\|>\s*assistant\s*",
    "fields": {"content": {"close_pattern": r"\s*(?:<\|im_end\|>|<\|endoftext\|>)", "content": "text"}},
}


def serve(model: str, port: int) -> None:
    """`transformers serve MODEL` with a processor that needs no torchvision: Qwen's own brings a video processor, and
    that torchvision, which has no build for every torch. Registered through AutoProcessor's public door."""
    from transformers import AutoConfig, AutoProcessor
    from transformers.cli.serve import Serve
    from transformers.processing_utils import ProcessorMixin

    class PictureProcessor(ProcessorMixin):
        return_mm_token_type_ids = True

        def __init__(
            self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None
        ) -> None:
            self.image_token_id = config.image_token_id
            self.image_token = tokenizer.convert_ids_to_tokens(config.image_token_id)
            # The server's own looks for "<|im_start|>assistant\n" in the decoded prompt; word-level tokenizers decode
            # it with other blanks, and it would then hand out the prompt's end as part of the reply.
            tokenizer.response_template = tokenizer.response_template or PLAIN_REPLY
            super().__init__(image_processor, tokenizer, chat_template=chat_template)

        def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **_: Any) -> str:
            cells = int(image_inputs["image_grid_thw"][image_idx].prod()) // self.image_processor.merge_size**2
            return str(self.image_token * cells)

    config = AutoConfig.from_pretrained(model)
    AutoProcessor.register(type(config), PictureProcessor, exist_ok=True)
    # float32 on both sides: half precision chooses differently where two tokens are near
    Serve(force_model=model, host="127.0.0.1", port=port, device="cpu", dtype="float32")


@contextmanager
def server(model: str) -> Iterator[str]:
    """The address of a server of its own, which ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryFile() as log:
        # /v1/models scans the cache folder, which must exist
        variables = {**environment(), "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": cache}
        command = [sys.executable, __file__, "--model", model, "--serve", str(port)]
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT)
        try:
            if not _wait(port, process):
                log.seek(0)
                raise SystemExit(f"The server did not start:\n{log.read().decode(errors='replace')[-3000:]}")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> bool:
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < START_SECONDS:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    return False


async def play(policy: Policy, tools: Toolbox, questions: list[Question], prompt: str) -> dict[str, Trajectory]:
    agent = AgentWorkflow(policy, load_prompt(prompt), lambda _: tools)
    return {t.question.id: t async for t in run_all(questions, agent, concurrency=4)}


def compare(chat: dict[str, Trajectory], local: dict[str, Trajectory]) -> bool:
    """Prints what differs; tells whether all answers are the same."""
    turns = same_turns = 0
    different: list[str] = []
    for name, here in local.items():
        there = chat[name]
        if there.error:
            different.append(f"{name}: the endpoint failed: {there.error}")
        elif there.answer != here.answer:
            different.append(f"{name}: {there.answer!r} by chat, {here.answer!r} by local")
        texts = [[t.completion.text.strip() for t in x.turns] for x in (there, here)]
        turns += len(texts[1])
        same_turns += sum(a == b for a, b in zip(*texts, strict=False))
    for line in different:
        print(f"  {line}")
    right = {name: sum(map(correct, played.values())) for name, played in (("chat", chat), ("local", local))}
    print(f"the same answer: {len(local) - len(different)} of {len(local)}; the same turn: {same_turns} of {turns}")
    print(f"right answers: {right['chat']} by chat, {right['local']} by local")
    return not different


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default=str(BUNDLED), help="checkpoint folder (default: the bundled one)")
    parser.add_argument("--atlas", type=Path, help="folder of `deepmmsearch atlas make`")
    parser.add_argument("--index", type=Path, help="index of its sites")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--max-new-tokens", type=int, help="of one turn (default: the checkpoint's own)")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.model, options.serve)
    if not options.atlas or not options.index:
        parser.error("--atlas and --index are needed")
    questions = load_questions(options.atlas)[: options.questions]
    local = LocalPolicy.load(options.model, dtype="float32", device="cpu", max_new_tokens=options.max_new_tokens)
    card = read_card(options.model)
    prompt = card.prompt or "deepmmsearch-r1"
    settings = LocalToolSettings(index=options.index)
    began = time.perf_counter()
    here = asyncio.run(play(local, build_toolbox(settings, local), questions, prompt))
    print(f"local: {len(here)} questions in {time.perf_counter() - began:.1f} s")
    with server(options.model) as url:
        named = ChatPolicySettings(
            model=options.model, base_url=url, max_new_tokens=local.max_new_tokens, timeout=600, lossless=True
        )
        # bounds and form of boxes are found as for everybody; a stop string needs a tokenizer that transformers serve
        # does not hand on
        chat = seeing_model(named, lossless=True, stop=())
        began = time.perf_counter()
        there = asyncio.run(play(chat, build_toolbox(settings, chat), questions, prompt))
        print(f"chat, transformers serve: {len(there)} questions in {time.perf_counter() - began:.1f} s")
    sys.exit(0 if compare(there, here) else 1)


if __name__ == "__main__":
    main()
