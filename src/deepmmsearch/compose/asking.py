"""The Python interface: an agent that is asked questions about pictures.

from deepmmsearch import Agent

with Agent.load("Qwen/Qwen2.5-VL-7B-Instruct", index="my-index") as agent:
    reply = agent.ask("Whose flag is on the tower?", "photo.jpg")
    print(reply.answer)
    for number, source in enumerate(reply.sources, 1):
        print(number, source.title, source.url, source.sentence)
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.dialect import find_dialect
from deepmmsearch.agent.runner import AgentWorkflow, guarded
from deepmmsearch.compose.policies import PolicySettings, build_policy, prompt_to_ask, translation
from deepmmsearch.compose.recipe import load_recipe, read_settings
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.errors import ToolError, UnknownName, UserError
from deepmmsearch.show.citations import Source, find_sources, read_sources
from deepmmsearch.show.terminal import as_json
from deepmmsearch.types import Exchange, Limits, Policy, Question, Trajectory

T = TypeVar("T")
Picture = str | Path | bytes | Image
"""A file, a web address, the bytes of a file, or a picture."""
LONGEST_QUESTION = 20_000


@dataclass(frozen=True)
class Reply:
    """What came of a question. `trajectory` is the whole episode, which a `TrajectoryStore` keeps."""

    trajectory: Trajectory

    @property
    def answer(self) -> str | None:
        return self.trajectory.answer

    @property
    def error(self) -> str | None:
        """What ended the episode from outside; what was played before is kept."""
        return self.trajectory.error

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the answer rests on, word for word."""
        return tuple(find_sources(self.trajectory))

    @property
    def read(self) -> tuple[Source, ...]:
        """Everything that was read on the way."""
        return tuple(read_sources(self.trajectory))

    def json(self) -> dict[str, Any]:
        """As `deepmmsearch ask --json` prints it."""
        return as_json(self.trajectory)


class Agent:
    """A policy with its tools, prompt and limits, asked as often as you like, from any thread.

    `ask` and `stream` wait in the caller's thread (also within a notebook, whose own loop is left alone); `play` is for
    a program with an event loop of its own. Close it, or use it in a `with` block: its loop runs in a thread.
    """

    def __init__(
        self, policy: Policy, tools: Toolbox | None = None, *, prompt: str | None = None, limits: Limits | None = None
    ) -> None:
        """`prompt`: a prompt set by name or folder, else the policy's own. `limits`: else those of its dialect. Raises
        UnknownName, UserError."""
        box = tools if tools is not None else Toolbox()
        chosen = prompt_to_ask(policy, box, prompt)
        allowed = limits or find_dialect(chosen.dialect).limits
        spoken = translation(policy, box, prompt)
        label = getattr(policy, "name", "")
        self.workflow = AgentWorkflow(policy, chosen, lambda _: box, allowed, label, lenient=True, translate=spoken)
        self._loop = _Loop()

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        base_url: str | None = None,
        index: str | Path | None = None,
        tools: str | Path | Mapping[str, Any] | None = None,
        prompt: str | None = None,
        limits: Limits | None = None,
        **settings: Any,
    ) -> Self:
        """An agent from what a recipe would say.

        `model`: a checkpoint folder, a name on the Hub, or what the endpoint at `base_url` calls it; without both, the
        bundled model. `index`: your own documents (`deepmmsearch index build`). `tools`: a file as in recipes/tools,
        or its settings. Without index and tools it answers without searching. `settings`: other settings of the
        policy, such as adapter, device, dtype, temperature, key_variable. Raises UserError, UnknownName, MissingExtra.
        """
        given: dict[str, Any] = {"kind": "local"} if base_url is None else {"kind": "chat", "base_url": base_url}
        given |= {"model": str(model)} if model is not None else {}
        policy = build_policy(read_settings(given | settings, PolicySettings, "Agent.load"))
        return cls(policy, build_toolbox(_tools(index, tools), policy), prompt=prompt, limits=limits)

    def ask(self, question: str, *pictures: Picture, history: Sequence[tuple[str, str]] = ()) -> Reply:
        """Plays the episode to its end. `history`: earlier questions with their answers, oldest first.

        Raises UserError for a picture or question that cannot be used; whatever fails later is the reply's `error`.
        """
        *_, last = self.stream(question, *pictures, history=history)
        return last

    def stream(self, question: str, *pictures: Picture, history: Sequence[tuple[str, str]] = ()) -> Iterator[Reply]:
        """The reply as it grows, once after each turn; the last one is finished. Raises as `ask` does."""
        asked = self._loop.run(read_question(question, pictures, history))
        return self._loop.iterate(self.play(asked))

    async def play(self, question: Question) -> AsyncIterator[Reply]:
        """As `stream`, in the caller's own event loop."""
        async for trajectory in guarded(self.workflow, question, fatal=(UnknownName,)):
            yield Reply(trajectory)

    def close(self) -> None:
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def read_question(
    text: str, pictures: Sequence[Picture] = (), history: Sequence[tuple[str, str]] = ()
) -> Question:
    """The question with its pictures loaded; its id tells equal questions. Raises UserError."""
    if not text.strip():
        raise UserError('The question is empty. Give one in quotes, such as "Whose flag is this?".')
    if len(text) > LONGEST_QUESTION:
        raise UserError(f"The question has {len(text)} characters, at most {LONGEST_QUESTION} are taken. Shorten it.")
    if not all(isinstance(e, tuple | list) and len(e) == 2 and all(isinstance(s, str) for s in e) for e in history):
        raise UserError("history holds something else than pairs of texts. Give (question, answer) for each exchange.")
    loaded = tuple([await _picture(picture) for picture in pictures])
    seen = "|".join([*map(images.digest, loaded), text])
    name = hashlib.sha256(seen.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return Question(name, text.strip(), loaded, history=tuple(Exchange(*earlier) for earlier in history))


async def _picture(given: Picture) -> Image:
    if isinstance(given, Image):
        return given
    if isinstance(given, str) and given.startswith(("https://", "http://")):
        return await _fetched(given)
    return await asyncio.wrap_future(images.loading(given))


async def _fetched(address: str) -> Image:
    """The picture at a public address, which it remembers: some image searches take nothing else."""
    from deepmmsearch.tools.http import GuardedClient
    from deepmmsearch.tools.providers.pictures import with_address
    from deepmmsearch.tools.thumbnails import fetch

    try:
        async with GuardedClient() as client:
            reply = await fetch(client, address)
    except ToolError as error:
        raise UserError(f"The picture could not be fetched: {error}") from None
    loading = images.loading(
        reply.content, max_pixels=images.WEB_PIXELS, formats=images.WEB_FORMATS, name="the picture at that address"
    )
    return with_address(await asyncio.wrap_future(loading), reply.url)


def _tools(index: str | Path | None, tools: str | Path | Mapping[str, Any] | None) -> Any:
    if isinstance(tools, str | Path):
        return load_recipe(Path(tools), ToolSettings, [f"index={index}"] if index is not None else [])
    given = dict(tools) if tools is not None else {"kind": "none" if index is None else "local"}
    return read_settings(given | ({"index": index} if index is not None else {}), ToolSettings, "Agent.load")


class _Loop:
    """An event loop in a thread of its own, started when it is first needed: clients keep their connections from one
    question to the next, and a caller within another loop is not in the way."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._lock = threading.Lock()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._closed:
                work.close()
                raise UserError("The agent is closed. Ask within its `with` block, or load it again.")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="deepmmsearch", daemon=True).start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C in the waiting thread ends the work as well
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        end = object()

        async def following() -> Any:
            return await anext(items, end)

        try:
            while (item := self.run(following())) is not end:
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                self.run(close())

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._loop = None
