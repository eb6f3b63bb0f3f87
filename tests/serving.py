"""A server on this machine for tests: scripted answers, a shelf of hits, real connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.compose.serving import ServedModel, ServedModelSettings, ServeRecipe
from deepmmsearch.prompts import load_prompt
from deepmmsearch.serve.app import make_app
from deepmmsearch.serve.callers import Caller
from deepmmsearch.serve.house import House
from deepmmsearch.serve.room import on_text
from deepmmsearch.serve.running import ImpatientProtocol, listen
from deepmmsearch.types import Completion, Hit, Trajectory

LOOK = "<reason>I look at it.</reason><img_search><img></img_search>"
READ = "<reason>I read.</reason><text_search>capital of Veld</text_search>"
KNOW = "<reason>I know.</reason><answer>Orm</answer>"


@dataclass
class Scripted:
    """Says `texts` in turn, in pieces, each after `seconds`; what it was asked is kept."""

    texts: Sequence[str] = (LOOK, READ, KNOW)
    seconds: float = 0.0
    asked: list[Trajectory] = field(default_factory=list)
    error: Exception | None = None

    async def act(self, trajectory: Trajectory) -> Completion:
        import asyncio

        self.asked.append(trajectory)
        if self.error is not None:
            raise self.error
        text = self.texts[min(len(trajectory.turns), len(self.texts) - 1)]
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
            on_text(piece)
            await asyncio.sleep(self.seconds / 2)
        return Completion(text, prompt_tokens=100, tokens=10)


class Shelf:
    """Three hits, one of which says the answer."""

    async def search(self, query: Any, k: int) -> list[Hit]:
        thumbnail = Image.new("RGB", (64, 48), "green") if not isinstance(query, str) else None
        return [
            Hit("Veld", "https://veld.example/", "Veld is a country. Its capital is Orm.", 3.0, thumbnail, True),
            Hit("Other", "https://other.example/", "Something else.", 2.0, thumbnail, False),
            Hit("A file", "notes/veld.md", "No address.", 1.0),
        ][:k]


def house(
    folder: Path,
    policy: Any = None,
    known: dict[str, Caller] | None = None,
    *,
    tools: Toolbox | None = None,
    examples: Path | None = None,
    **settings: Any,
) -> House:
    """With one model, `m`, that `policy` plays."""
    tools = tools or Toolbox(Shelf(), Shelf())
    workflow = AgentWorkflow(policy or Scripted(), load_prompt("deepmmsearch-r1"), lambda _: tools, label="scripted")
    recipe = ServeRecipe(models={"m": ServedModelSettings()}, store=folder / "store", **settings)
    return House(recipe, {"m": ServedModel("m", workflow, True, "A scripted model.", examples)}, known or {})


@contextmanager
def running(served: House) -> Iterator[str]:
    """Its address."""
    bound = listen("127.0.0.1", 0)
    config = uvicorn.Config(make_app(served), http=ImpatientProtocol, lifespan="on", log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
