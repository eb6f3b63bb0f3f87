"""Plays the scripts of the field's checkpoints against our dialects on a scripted endpoint.

    python benchmarks/peers.py --checkout sensenova-mars=../SenseNova-MARS --checkout mmsearch-r1-7b=../mmsearch-r1

A checkout is a clone of the model's public repository at the commit that its dialect names. Its own code is run, its
engine and tools replaced by ones that say what they are told and note what they are asked; packages that it imports for
other work are empty stand-ins. Read it before you run it.

Two things are compared: what each turn of `tests/peer_turns.jsonl` is taken for (`--write` keeps what the scripts say),
and, for MMSearch-R1 and SenseNova-MARS, the whole conversation that the model reads before each turn of an episode.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import io
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from PIL import Image

from deepmmsearch.agent import play
from deepmmsearch.agent.dialect import find_dialect
from deepmmsearch.agent.table import find_tool, installed_tools
from deepmmsearch.compose.prompt_texts import fetch_texts
from deepmmsearch.dialects import loose_json
from deepmmsearch.dialects.calls import PlainEnd, WrittenCall
from deepmmsearch.policies.chat.requests import openai_messages
from deepmmsearch.prompts import FOLDER, load_prompt, source_of
from deepmmsearch.renderer import messages
from deepmmsearch.testing import FakeTools, ScriptedPolicy
from deepmmsearch.types import Answer, Hit, Limits, Question, Trajectory

TURNS = Path(__file__).parent.parent / "tests" / "peer_turns.jsonl"
ASKED = "What is the capital of the land whose flag this is?"
PICTURE = Image.new("RGB", (640, 480), "green")
SEEN = Image.new("RGB", (448, 448), "red")
HITS = [
    Hit("The flag of Veld", "https://a.example/flag", image=SEEN, matched=True),
    Hit("Flags of islands", "https://a.example/islands", image=SEEN, matched=True),
]
PAGES = [
    Hit("Veld", "https://a.example/veld", "Ferner is the capital of Veld."),
    Hit("Ferner", "https://a.example/ferner", "A town with a harbour."),
]
VISION = "<|vision_start|><|image_pad|><|vision_end|>"
Outcome = list[Any]
"""["call", name, arguments], ["answer", text], ["end"] without an answer, or ["error"], after which it goes on."""


class Over(Exception):
    """The scripted endpoint has nothing more to say."""


@contextlib.contextmanager
def importing(folder: Path, *absent: str) -> Iterator[None]:
    """Modules of the folder can be imported; `absent` packages are stood in for."""
    before, path = dict(sys.modules), list(sys.path)
    sys.path[:] = [str(folder), *(place for place in path if Path(place) != Path(__file__).parent)]
    for name in absent:
        parts = name.split(".")
        # of a package of the checkout, the module alone
        for end in range(len(parts) if (folder / parts[0]).is_dir() else 1, len(parts) + 1):
            sys.modules[".".join(parts[:end])] = MagicMock(name=name)
    try:
        # what the scripts print is theirs
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            file = "" if isinstance(module, MagicMock) else getattr(module, "__file__", None) or str(folder)
            if name not in before and (not file or file.startswith(str(folder))):
                del sys.modules[name]
        sys.modules.update(before)


# -- what a turn is taken for, by the scripts


def mars(checkout: Path, texts: Sequence[str]) -> Iterator[Outcome]:
    with importing(checkout / "inference", "aiohttp", "playwright.async_api"):
        script = importlib.import_module("eval")
        for text in texts:
            try:
                call = script.parse_tool_call(text)
                known = call and call.get("name", "") in ("image_zoom_in_tool", "text_search_tool", "image_search_tool")
                if call:
                    yield ["call", call["name"], dict(call.get("arguments", {}))] if known else ["error"]
                    continue
            except (AttributeError, KeyError, TypeError, ValueError):
                yield ["error"]
                continue
            said = script.re.split(r"</think(?:ing)?>", text)[-1]
            answered = re.search(r"<answer>(.*?)</answer>", said, re.DOTALL)
            yield ["answer", script.extract_answer_allow_no_tag(text)] if answered else ["end"]


def opensearch(checkout: Path, texts: Sequence[str]) -> Iterator[Outcome]:
    with importing(checkout / "opensearch_vl", "cv2", "qcloud_cos"):
        tools = importlib.import_module("opensearch_infer.tools")
        judge = importlib.import_module("eval_with_gpt4o")
        for text in texts:
            if tools.has_response_tag(text):
                yield ["answer", judge.extract_final_answer(text)]
                continue
            call = tools.extract_tool_call(text)
            row = json.loads(call) if call else None
            unknown = row and row["name"] not in find_dialect("opensearch-vl").readings  # type: ignore[attr-defined]
            yield ["error"] if unknown else ["call", row["name"], row["parameters"]] if row else ["end"]


def mm_deepresearch(checkout: Path, texts: Sequence[str]) -> Iterator[Outcome]:
    absent = ("qwen_vl_utils", "llm_judge", "tool_image_search_lens", "tool_image_search_text_query")
    with importing(checkout / "eval", *absent, "tool_text_search", "datasets", "openai", "serpapi", "mllm_infer"):
        script = importlib.import_module("eval")
        for text in texts:
            said, called, _ = text.partition("</tool_call>")  # where its server stops
            if called:
                name, query = script.get_tool(said + called)
                known = name in ("search", "text_search", "image_search_by_lens", "image_search_by_text_query")
                yield ["call", name, {"query_list": query}] if known else ["error"]
            else:
                answered = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
                yield ["answer", script.extract_solution(text)] if answered else ["end"]


def vision_deepresearch(checkout: Path, texts: Sequence[str]) -> Iterator[Outcome]:
    with importing(checkout / "rllm", "json5", "rllm.engine.rollout"):
        sys.modules["json5"].loads = loose_json.loads  # type: ignore[attr-defined]
        script = importlib.import_module("eval.deepresearch_agent")
        for text in texts:
            asked: list[Outcome] = []
            said = iter([text])

            async def respond(said: Iterator[str] = said, **_: Any) -> Any:
                for each in said:
                    return SimpleNamespace(text=each)
                raise Over

            async def call(name: str, given: Any, asked: list[Outcome] = asked) -> str:
                asked.append(["call", name, {k: v for k, v in dict(given).items() if k != "image_id"}])
                return ""

            async def python(code: str, asked: list[Outcome] = asked) -> str:
                asked.append(["call", "PythonInterpreter", {"code": code}])
                return ""

            agent = script.MultiTurnReactAgent(SimpleNamespace(get_model_response=respond))
            agent.custom_call_tool, agent.execute_python = call, python
            done = asyncio.run(agent.run(ASKED, images=["x"]))
            known = ("search", "crop_and_search", "visit", "PythonInterpreter")
            if asked:
                yield asked[0] if asked[0][1] in known else ["error"]
            else:
                yield ["answer", done["prediction"].strip()] if done["termination"] == "answer" else ["error"]


def webwatcher(checkout: Path, texts: Sequence[str]) -> Iterator[Outcome]:
    folder = checkout / "WebAgent/WebWatcher/infer/scripts_eval"
    with importing(folder, "mmrag_r1.llm_agent.qwen_tool_call", "openai"), tempfile.TemporaryDirectory() as kept:
        sys.modules["transformers"] = MagicMock()
        script = importlib.import_module("agent_eval")
        PICTURE.save(Path(kept) / "p.png")
        os.environ["IMAGE_DIR"] = kept
        script.os.makedirs = lambda *_, **__: None
        for text in texts:
            agent, asked, said = script.OmniSearch(), list[Outcome](), [text]

            def create(said: list[str] = said, **_: Any) -> Any:
                if not said:
                    raise SystemExit  # it tries again after every other exception
                message = SimpleNamespace(content=said.pop())
                return SimpleNamespace(choices=[SimpleNamespace(message=message)])

            def call(name: str, given: Any, asked: list[Outcome] = asked, **_: Any) -> str:
                asked.append(["call", name, given])
                return ""

            agent.client.chat.completions.create, agent.qwen_agent._call_tool = create, call
            done = None
            with contextlib.suppress(SystemExit):
                done = agent.run_main({"file_path": "p.png", "prompt": ASKED})
            known = ("web_search", "VLSearchImage", "vlsearchimage", "visit", "Visit", "code_interpreter")
            known += ("Code_Interpreter", "PythonInterpreter")
            if done is not None:
                yield ["answer", done[2]]
            else:
                yield asked[0] if asked and asked[0][1] in known and isinstance(asked[0][2], dict) else ["error"]


def deepeyes(checkout: Path, texts: Sequence[str]) -> Iterator[Outcome]:
    absent = ("autopep8", "verl.workers.agent.tool_envs", "verl.workers.agent.envs.deepeyesv2.prompt")
    folder = checkout / "reinforcement_learning/verl/workers/agent/envs/deepeyesv2"
    with importing(folder, *absent, "verl.workers.agent.envs.deepeyesv2.search_utils"):
        sys.modules["verl.workers.agent.tool_envs"].ToolBase = object  # type: ignore[attr-defined]
        script = importlib.import_module("deepeyesv2")
        script.fix_python_indentation = lambda code: code
        for text in texts:
            asked: list[Outcome] = []
            env = object.__new__(script.DeepEyesV2_ENV)
            env.data_index = 0
            env.request_jupyter_execution = lambda code, a=asked: a.append(["call", "python", {"code": code}])
            env.request_search = lambda name, given, a=asked: a.append(["call", name, given or {}])
            _, _, done, _ = env.execute(text)
            if asked:
                yield asked[0]
            elif done:
                answer = env.extract_answer(text)
                yield ["answer", answer.strip()] if answer else ["end"]
            else:
                yield ["error"]


class Letters:
    """A tokenizer of single characters, with Qwen's mark for the end of a turn."""

    END = 151645

    def encode(self, text: str) -> list[int]:
        return [id for piece in re.split(r"(<\|im_end\|>)", text) for id in self._ids(piece)]

    def _ids(self, piece: str) -> list[int]:
        return [self.END] if piece == "<|im_end|>" else [ord(c) for c in piece]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        text = "".join("<|im_end|>" if i == self.END else chr(i) for i in ids)
        return re.sub(r"<\|\w+\|>", "", text) if skip_special_tokens else text


def mmsearch_loop(checkout: Path, turns: Sequence[str], prompt: str) -> tuple[list[str], list[Outcome]]:
    """What its rollout reads before each turn, and what it asks its tools for."""
    absent = ("omegaconf", "tensordict", "verl.third_party.vllm", "verl.utils.torch_functional")
    absent += ("verl.workers.rollout.vllm_rollout.vllm_rollout_spmd", "mmsearch_r1.utils.torch_functional")
    with importing(checkout, *absent):
        import numpy as np
        import torch

        sys.modules["verl.third_party.vllm"].vllm_version = "0.8"  # type: ignore[attr-defined]
        sys.modules["verl.workers.rollout.vllm_rollout.vllm_rollout_spmd"].vLLMRollout = object  # type: ignore[attr-defined]
        script = importlib.import_module("mmsearch_r1.workers.multimodal.rollout.vllm_rollout_spmd")
        read, asked, letters, said = list[str](), list[Outcome](), Letters(), list(turns)

        def generate(prompts: Any, **_: Any) -> Any:
            read.append(letters.decode(prompts[0]["prompt_token_ids"], skip_special_tokens=False))
            if not said:
                raise Over
            ids = [*letters.encode(said.pop(0)), Letters.END]
            return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids)])]

        def text_search(text_query: str) -> Any:
            asked.append(["call", "text_search", {"query": text_query}])
            head = load_prompt("mmsearch-r1-7b").after["head_text"]
            lines = [f"{n}. ({page.url}) {page.snippet}" for n, page in enumerate(PAGES, 1)]
            return "\n".join([head, *lines, ""]), {}

        def image_search(image_url: str) -> Any:
            asked.append(["call", "search", {}])
            head = load_prompt("mmsearch-r1-7b").after["head_image"]
            lines = [f"{n}. image: {VISION}\ntitle: {hit.title}" for n, hit in enumerate(HITS, 1)]
            return "\n".join([head, *lines, ""]), [SEEN] * len(HITS), {}

        script.call_text_search, script.call_image_search = text_search, image_search
        rollout = object.__new__(script.vLLMRollout_MultiTurn_MMSearch_R1)
        after = load_prompt("mmsearch-r1-7b").after
        rollout.tokenizer, rollout.inference_engine = letters, SimpleNamespace(generate=generate)
        rollout.processor, rollout.sampling_params, rollout.pad_token_id = MagicMock(), None, 0
        rollout.update_sampling_params = lambda **_: contextlib.nullcontext()
        rollout.user_prompt_after_text_search = after["text"]
        rollout.user_prompt_after_image_search = after["image"]
        search = SimpleNamespace(image_search_limit=1, text_search_limit=2, parallel_tool_call=False)
        rollout.config = SimpleNamespace(n=1, max_gen_round=3, search=search, free_cache_engine=False)
        rows = np.empty(1, dtype=object)
        rows[0] = letters.encode(prompt)
        pictures = np.empty(1, dtype=object)
        pictures[0] = {"image": [PICTURE]}
        ones = torch.ones((1, 4), dtype=torch.int64)
        given = SimpleNamespace(
            batch={"input_ids": ones, "attention_mask": ones, "position_ids": ones},
            meta_info={"eos_token_id": Letters.END},
            non_tensor_batch={"raw_prompt_ids": rows, "multi_modal_data": pictures, "image_urls": np.array(["x"])},
        )
        # what it makes of the finished conversation for its trainer is not looked at
        with contextlib.suppress(Over, AttributeError, TypeError, ValueError, AssertionError):
            rollout.generate_sequences(given)
        return read, asked


def mmsearch(checkout: Path, texts: Sequence[str]) -> Iterator[Outcome]:
    for text in texts:
        with importing(checkout):
            score = importlib.import_module("mmsearch_r1.utils.reward_score_mm.mmsearch_r1_score")
            answer = score.extract_solution(text)
        asked = mmsearch_loop(checkout, [text], "Here is the image and the question:\n x")[1]
        yield asked[0] if asked else ["end"] if answer is None else ["answer", answer]


SCRIPTS: dict[str, Callable[[Path, Sequence[str]], Iterator[Outcome]]] = {
    "mmsearch-r1-7b": mmsearch,
    "sensenova-mars": mars,
    "opensearch-vl": opensearch,
    "vision-deepresearch": vision_deepresearch,
    "mm-deepresearch": mm_deepresearch,
    "deepeyes-v2": deepeyes,
    "webwatcher": webwatcher,
}


def taken(name: str, text: str) -> Outcome:
    """What our dialect takes the turn for."""
    dialect = find_dialect(name)
    found = dialect.read(text)  # type: ignore[attr-defined]
    if isinstance(found, WrittenCall):
        return ["call", found.name, dict(found.arguments)] if found.name in dialect.readings else ["error"]  # type: ignore[attr-defined]
    if isinstance(found, Answer):
        return ["answer", found.text]
    return ["end"] if isinstance(found, PlainEnd) else ["error"]


# -- what the model reads


def ours(name: str, turns: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Our conversation before each turn, in OpenAI's form; pictures are told by their sizes."""
    tools = FakeTools({"capital of Veld": PAGES}, HITS).toolbox()
    tools = replace(tools, thumbnails=True, extra=(find_tool("zoom"),))
    start = Trajectory(Question("q", ASKED, (PICTURE,)), load_prompt(name))
    whole = asyncio.run(play(start, ScriptedPolicy(*turns), tools, Limits(calls=9, image_searches=9)))
    found = []
    for count in range(len(whole.turns)):
        told, pictures = messages(replace(whole, turns=whole.turns[:count]))
        found.append(openai_messages(told, [f"{p.width} x {p.height}" for p in pictures]))
    return found


def flat(told: Sequence[dict[str, Any]]) -> list[tuple[str, tuple[str, ...]]]:
    """Role and parts; texts that follow each other as one, a picture as a mark."""
    found = []
    for message in told:
        parts: list[str] = []
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            text = part["text"] if part["type"] == "text" else VISION
            if parts and VISION not in (text, parts[-1]):
                parts[-1] += text
            elif text:
                parts.append(text)
        found.append((message["role"], tuple(parts)))
    return found


def mars_messages(checkout: Path, turns: Sequence[str]) -> list[Any]:
    read: list[Any] = []
    with importing(checkout / "inference", "aiohttp", "playwright.async_api"), tempfile.TemporaryDirectory() as folder:
        script = importlib.import_module("eval")
        said = list(turns)

        async def asked(told: list[dict[str, Any]], *_: Any, **__: Any) -> dict[str, Any]:
            read.append(flat(told))
            return {"content": said.pop(0), "error": None}

        async def search(query: str, **_: Any) -> str:
            lines = "\n".join(f"[{n}] {page.snippet}" for n, page in enumerate(PAGES, 1))
            return f"Final summary generated for query: {query}\n{lines}"

        script.call_openai_api, script.call_text_search = asked, search
        for picture, file in ((PICTURE, "p.png"), (SEEN, "s.png")):
            picture.save(Path(folder) / file)
        found = {
            "image_search_title_list": [hit.title for hit in HITS],
            "image_search_thumbnail_list": [str(Path(folder) / "s.png")] * len(HITS),
        }
        asyncio.run(
            script.evaluate_tool(
                "openai",
                "m",
                "",
                "",
                ASKED,
                str(Path(folder) / "p.png"),
                load_prompt("sensenova-mars").system,
                50,
                "key",
                found,
                summarizer_base_url="x",
                summarizer_model="x",
            )
        )
    return read


def conversations(name: str, checkout: Path) -> Iterator[tuple[Any, Any]]:
    """(theirs, ours) before each turn of an episode with every tool."""
    dialect = find_dialect(name)
    if name == "sensenova-mars":
        zoom = '{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [0, 0, 500, 500], "label": "x", "img_idx": 0}}'
        calls = [zoom, '{"name": "image_search_tool", "arguments": {}}']
        calls.append('{"name": "text_search_tool", "arguments": {"query": "capital of Veld"}}')
        turns = [f"<thinking>I look.</thinking>\n<tool_call>\n{call}\n</tool_call>" for call in calls]
        turns.append("<thinking>I know.</thinking>\n<answer>Ferner</answer>")
        theirs = mars_messages(checkout, turns)
        yield from zip(theirs, map(flat, ours(name, turns)), strict=True)
    if name == "mmsearch-r1-7b":
        turns = ["<reason>I look.</reason><search><img></search>"]
        turns.append("<reason>Veld.</reason><text_search>capital of Veld</text_search>")
        turns.append("<reason>I know.</reason><answer>Ferner</answer>")
        mine = ["".join(map(_chatted, flat(told))) + "<|im_start|>assistant\n" for told in ours(name, turns)]
        # its data set begins so: the system text is the chat template's own, and ours sends none
        read, _ = mmsearch_loop(checkout, turns, mine[0])
        # its rollout leaves out the line end after a turn, which the chat template writes
        theirs = [text.replace("<|im_end|><|im_start|>", "<|im_end|>\n<|im_start|>") for text in read]
        yield from zip(theirs, mine, strict=True)
    assert dialect.name == name


def _chatted(message: tuple[str, tuple[str, ...]]) -> str:
    return f"<|im_start|>{message[0]}\n{''.join(message[1])}<|im_end|>\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", metavar="DIALECT=FOLDER", action="append", required=True)
    parser.add_argument("--write", action="store_true", help="keep what the scripts take the turns for")
    options = parser.parse_args()
    rows = [json.loads(line) for line in TURNS.read_text("utf-8").splitlines()]
    wrong = 0
    with tempfile.TemporaryDirectory() as kept:
        os.environ[FOLDER] = kept
        for given in options.checkout:
            name, _, folder = given.partition("=")
            checkout, source = Path(folder).resolve(), source_of(name)
            assert source is not None and name in SCRIPTS, f"{name} is none of {', '.join(SCRIPTS)}"
            asyncio.run(fetch_texts(name, source, checkout))
            mine = [row for row in rows if row["dialect"] == name]
            alike: Counter[bool] = Counter()
            for row, theirs in zip(mine, list(SCRIPTS[name](checkout, [row["text"] for row in mine])), strict=True):
                row["wants"] = theirs if options.write else row["wants"]
                same = theirs == row["wants"] == taken(name, row["text"])
                alike[same] += 1
                if not same:
                    print(f"  {row['text']!r}\n    theirs {theirs}\n    ours   {taken(name, row['text'])}")
            both = [(str(theirs), str(mine)) for theirs, mine in conversations(name, checkout)]
            read = Counter(theirs == mine for theirs, mine in both)
            for theirs, mine in both:
                if theirs != mine:
                    at = next((n for n, (a, b) in enumerate(zip(theirs, mine, strict=False)) if a != b), 0)
                    print(f"  read by theirs ..{theirs[at:][:80]!r}, by ours ..{mine[at:][:80]!r}")
            told = f", {read[True]} of {read.total()} conversations the same" if read else ""
            print(f"{name}: {alike[True]} of {alike.total()} turns taken for the same{told}")
            wrong += alike[False] + read[False]
    if options.write:
        TURNS.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return wrong


if __name__ == "__main__":
    installed_tools()
    sys.exit(main() > 0)
