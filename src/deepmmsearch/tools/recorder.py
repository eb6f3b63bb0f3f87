"""Record and replay: one wrapper around any tool (`tools.recorded`), one file (`tools.cassette`).

Three modes. `live` asks the tool and touches no file. `cache` asks only what the cassette does not hold, and records
it: N equal calls at once, in one process or many, reach the tool once. `replay` never asks: what is not on the cassette
is an error that names it.

An entry holds its calls (`types.Call`), so a replay gives every episode their seconds, bytes, prices and errors as they
were recorded. To tell whose call reached the tool and whose was answered from the cassette, an entry keeps its `owner`:
question, rollout and turn (`metering.asker`). An error is kept for the one who got it; `cache` asks again.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.agent import metering
from deepmmsearch.agent.metering import BudgetSpent, Meter
from deepmmsearch.codec import PLAIN, Decoder, no_picture
from deepmmsearch.errors import ToolError, UnknownName, UserError
from deepmmsearch.notation import parse_json
from deepmmsearch.redaction import Redaction, without_secrets
from deepmmsearch.tools.cassette import (
    Busy,
    Cassette,
    CassetteEntry,
    Failure,
    Statement,
    disown,
    forget_failure,
    hash_key,
    put_entry,
    put_failure,
    put_image,
    read_calls,
)
from deepmmsearch.types import Call

T = TypeVar("T")
Mode = Literal["live", "cache", "replay"]
MODES: tuple[Mode, ...] = ("live", "cache", "replay")
# Pictures with more pixels are hashed and decoded in a thread.
LARGE = 250_000
# Seconds between two looks at a key that another process holds: from, to.
POLL = (0.002, 0.05)

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|COOKIE|CREDENTIAL|AUTH", re.IGNORECASE)


class ReplayMiss(ToolError):
    """The cassette does not hold what was asked."""


class Asked(NamedTuple):
    """One call. `text`: canonical JSON of tool, identity and arguments, from which the key comes; `asker`: who asks
    (`metering.asker`), with a number where the same turn asks the same again."""

    tool: str
    provider: str
    text: str
    key: bytes
    asker: str

    @property
    def sentence(self) -> str:
        arguments = json.dumps(json.loads(self.text)["arguments"], ensure_ascii=False)
        short = arguments if len(arguments) <= 300 else f"{arguments[:300]}…"
        return f"{self.tool} {short} by {self.provider}"


@dataclass(frozen=True)
class RecordedTool:
    """A tool as the recorder sees it. `identity`: the provider and whatever of its configuration changes what it
    answers, never a key. `answer`: the type of its answers. `upstream`: the tool, None where replay goes without."""

    tool: str
    identity: Mapping[str, Any]
    answer: Any
    upstream: object | None = None

    @cached_property
    def provider(self) -> str:
        return str(self.identity.get("provider", self.tool))

    @cached_property
    def key_tail(self) -> str:
        return f',"identity":{canonical(self.identity)},"tool":{canonical(self.tool)}}}'

    @cached_property
    def read(self) -> Decoder:
        return PLAIN.decoder(self.answer)


class _Memory:
    """The answers decoded last, up to `most` bytes: rollouts of one question ask the same again and again, and pictures
    take long to decode. Whether an answer still holds is told by its time in the cassette."""

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._kept: OrderedDict[bytes, tuple[float, Any, int]] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return key in self._kept

    def get(self, key: bytes, created: float) -> Any:
        kept = self._kept.get(key)
        if kept is None or kept[0] != created:
            return None
        self._kept.move_to_end(key)
        # values are frozen, lists of them are not
        return kept[1].copy() if isinstance(kept[1], list) else kept[1]

    def put(self, key: bytes, created: float, value: Any, size: int) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self._size -= old[2]
        self._kept[key] = created, value.copy() if isinstance(value, list) else value, size
        self._size += size
        while self._size > self._most and self._kept:
            self._size -= self._kept.popitem(last=False)[1][2]


class Recorder:
    """What the recorded tools of one run share: a cassette, a mode, and for how long answers hold.

    `ttl`: seconds by tool, after which `cache` asks again (a tool that is not named: for ever). `patience`: seconds to
    wait for another process that makes the same call, before making it too. `memory`: bytes of decoded answers to keep.
    """

    def __init__(
        self,
        cassette: Cassette | None,
        mode: Mode = "cache",
        ttl: Mapping[str, float] | None = None,
        patience: float = 300.0,
        memory: int = 64_000_000,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        if mode not in MODES:
            raise UnknownName("mode", mode, MODES)
        if cassette is None and mode != "live":
            raise UserError(f"Mode {mode} needs a cassette. Give it a path such as runs/cache.sqlite.")
        self._cassette, self.mode, self.ttl, self.patience = cassette, mode, dict(ttl or {}), patience
        self._redaction, self._memory = Redaction(named_secrets(environ)), _Memory(memory)
        self._flights: (
            tuple[asyncio.AbstractEventLoop, dict[bytes, asyncio.Future[CassetteEntry | Failure | None]]] | None
        )
        self._flights = None

    @property
    def cassette(self) -> Cassette:
        assert self._cassette is not None
        return self._cassette

    def close(self) -> None:
        if self._cassette is not None:
            self._cassette.close()

    async def recall(self, source: RecordedTool, arguments: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What `ask` gives, from the tool or from the cassette. `arguments`: canonical JSON (`canonical`).

        Raises what `ask` raises, as ToolError; ReplayMiss.
        """
        if self.mode == "live":
            with metering.using(source.tool, source.upstream):
                return await ask()
        meter = metering.current() or Meter()
        slot = meter.slot()
        text = self._clean(f'{{"arguments":{arguments}{source.key_tail}')
        key = hash_key(text)
        asker = meter.asker_of(key)
        entry = self._ready(source.tool, key, asker) if self.mode == "cache" else None
        if entry is not None:
            slot.calls = (Call(source.tool, entry.provider, 0.0, 0, True),)
        else:
            asked = Asked(source.tool, source.provider, text, key, asker)
            if self.mode == "replay":
                found, slot.calls = await self._replay(asked, meter)
            else:
                found, slot.calls = await self._cached(asked, lambda: self._lead(asked, source, meter, ask))
            if isinstance(found, Failure):
                raise _error_of(found)
            entry = found
        value = self._memory.get(key, entry.created)
        return value if value is not None else await self._decoded(source, key, entry)

    # Replay

    async def _replay(self, asked: Asked, meter: Meter) -> tuple[CassetteEntry | Failure, tuple[Call, ...]]:
        found = await self._look(lambda: self._own(asked))
        own = found is not None and (isinstance(found, Failure) or found.owner == asked.asker)
        if found is None:
            found = await self._look(lambda: self.cassette.latest_failure(asked.key))
        if found is None:
            message = f"{self.cassette.path} holds no answer to {asked.sentence}. Record it with mode cache."
            return Failure("miss", message, "", 0.0), (Call(asked.tool, asked.provider, 0.0, error=message),)
        try:
            calls = read_calls(found.calls) if own else (_from_cassette(asked, found),)
        except UserError as error:
            raise ToolError(str(error)) from error
        meter.charge([call for call in calls if not call.cached])
        return found, calls

    def _own(self, asked: Asked) -> CassetteEntry | Failure | None:
        return self.cassette.failure(asked.key, asked.asker) or self.cassette.find(asked.key, asked.asker)

    # Cache

    def _ready(self, tool: str, key: bytes, asker: str) -> CassetteEntry | None:
        """An answer that can be given at once. Read where it stands, which takes microseconds; None where that cannot
        be done either."""
        try:
            entry = self._fresh(tool, key, asker)
        except UserError:
            return None
        if entry is not None and (entry.failed_before or entry.owner == asker):
            self._reuse(entry, key, asker)
        return entry

    def _reuse(self, entry: CassetteEntry, key: bytes, asker: str) -> None:
        """The one who asked in an earlier run asks again: a replay gives what the last run got."""
        if entry.owner == asker:
            self.cassette.write([disown(key)])
        if entry.failed_before:
            self.cassette.write([forget_failure(key, asker)])

    def _fresh(self, tool: str, key: bytes, asker: str) -> CassetteEntry | None:
        """Without what was answered, where that is remembered: to be looked up there at once."""
        entry = self.cassette.head(key, asker) if key in self._memory else None
        if entry is None or self._memory.get(key, entry.created) is None:
            entry = self.cassette.find(key, asker)
        return entry if entry is not None and self._holds(tool, entry) else None

    def _holds(self, tool: str, entry: CassetteEntry) -> bool:
        lifetime = self.ttl.get(tool)
        return lifetime is None or time.time() < entry.created + lifetime

    async def _cached(self, asked: Asked, lead: _Lead) -> tuple[CassetteEntry | Failure, tuple[Call, ...]]:
        outcome, calls = await self._share(asked, lead)
        if calls is None:
            calls = (_from_cassette(asked, outcome),)
            if isinstance(outcome, Failure):
                await self._keep([self._failed(asked, replace(outcome, calls=_write_calls(calls)))])
            else:
                self._reuse(outcome, asked.key, asked.asker)
        return outcome, calls

    async def _share(self, asked: Asked, lead: _Lead) -> tuple[CassetteEntry | Failure, tuple[Call, ...] | None]:
        """The outcome of the one call that is made for all who ask now, and its calls for the one who makes it.

        When that one is cancelled, or its own budget is used up, the next in line makes the call.
        """
        flights, began = self._in_flight(), time.time()
        while (other := flights.get(asked.key)) is not None:
            # shielded: who gives up waiting must not end it for the others
            if (outcome := await asyncio.shield(other)) is not None:
                return outcome, None
        mine = flights[asked.key] = asyncio.get_running_loop().create_future()
        shared: CassetteEntry | Failure | None = None
        locked = False
        try:
            locked = await self._lock(asked.key)
            shared = await self._look(lambda: self._done(asked, began))
            if shared is not None:
                return shared, None
            outcome, calls = await lead()
            shared = None if isinstance(outcome, Failure) and outcome.kind == "budget" else outcome
            return outcome, calls
        finally:
            if locked:
                self.cassette.unlock(asked.key)
            del flights[asked.key]
            mine.set_result(shared)

    def _done(self, asked: Asked, began: float) -> CassetteEntry | Failure | None:
        """What another process got while this one waited for it."""
        entry = self.cassette.find(asked.key, asked.asker)
        if entry is not None and self._holds(asked.tool, entry):
            return entry
        failure = self.cassette.latest_failure(asked.key)
        return failure if failure is not None and failure.created >= began else None

    async def _lock(self, key: bytes) -> bool:
        delay, deadline = POLL[0], time.monotonic() + self.patience
        while not (locked := self.cassette.try_lock(key)) and time.monotonic() < deadline:
            await asyncio.sleep(delay)
            delay = min(1.5 * delay, POLL[1])
        return locked

    async def _lead(
        self, asked: Asked, source: RecordedTool, meter: Meter, ask: Callable[[], Awaitable[Any]]
    ) -> tuple[CassetteEntry | Failure, tuple[Call, ...]]:
        part = meter.part(prepaid=False)
        try:
            with part.open(), metering.using(asked.tool, source.upstream):
                value = await ask()
            calls = read_calls(self._clean(_write_calls(part.calls)))
            entry, statements = await self._encode(asked, value, calls)
        # the border to a provider's code: what it raises is recorded as the episode will see it, and so is an answer
        # that is none
        except Exception as error:
            made = self._clean(_write_calls(part.calls))
            failure = Failure(_kind(error), self._clean(_say(error)), made, time.time())
            await self._keep([self._failed(asked, failure)])
            return failure, read_calls(made)
        await self._keep([*statements, forget_failure(asked.key, asked.asker)])
        return entry, calls

    async def _encode(self, asked: Asked, value: Any, calls: tuple[Call, ...]) -> tuple[CassetteEntry, list[Statement]]:
        pictures: dict[str, Image] = {}

        def keep(picture: Image) -> str:
            sha = images.digest(picture)
            pictures[sha] = picture
            return sha

        plain = PLAIN.encode(value, keep)
        result = self._clean(json.dumps(plain, separators=(",", ":")))
        provider = next((c.provider for c in reversed(calls) if c.error is None), asked.provider)
        owner = asked.asker or None
        entry = CassetteEntry(provider, owner, time.time(), False, result, " ".join(pictures), _write_calls(calls))
        stored = await asyncio.to_thread(_put_images, pictures) if pictures else []
        return entry, [*stored, put_entry(asked.key, asked.tool, asked.text, entry)]

    def _failed(self, asked: Asked, failure: Failure) -> Statement:
        return put_failure(asked.key, asked.asker, asked.tool, asked.provider, asked.text, failure)

    async def _keep(self, statements: Sequence[Statement]) -> None:
        try:
            await asyncio.wrap_future(self.cassette.write(statements))
        except UserError as error:
            raise ToolError(f"The call was made but not recorded: {error}") from error

    # Both

    async def _look(self, read: Callable[[], T]) -> T:
        """What `read` gives, once it does: another process may be repairing the file."""
        deadline = time.monotonic() + self.cassette.wait
        while True:
            try:
                return read()
            except Busy as error:
                if time.monotonic() > deadline:
                    raise ToolError(str(error)) from None
            except UserError as error:
                raise ToolError(str(error)) from error
            await asyncio.sleep(POLL[1])

    async def _decoded(self, source: RecordedTool, key: bytes, entry: CassetteEntry) -> Any:
        try:
            if entry.images or len(entry.result) > LARGE:
                value, size = await asyncio.to_thread(self._decode, source, entry)
            else:
                value, size = self._decode(source, entry)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ToolError(f"{self.cassette.path} holds an answer that this version cannot read ({error}).") from error
        except UserError as error:
            raise ToolError(str(error)) from error
        self._memory.put(key, entry.created, value, size)
        return value

    def _decode(self, source: RecordedTool, entry: CassetteEntry) -> tuple[Any, int]:
        """The answer and about how many bytes it takes."""
        size = len(entry.result)

        def load(sha: str) -> Image:
            nonlocal size
            picture = self.cassette.image(sha)
            size += 3 * picture.width * picture.height
            return picture

        return source.read(parse_json(entry.result), load), size

    async def picture(self, image: Image) -> dict[str, str]:
        """A picture as an argument: by its hash."""
        if image.width * image.height <= LARGE:
            return {"sha256": images.digest(image)}
        return {"sha256": await asyncio.to_thread(images.digest, image)}

    def _in_flight(self) -> dict[bytes, asyncio.Future[CassetteEntry | Failure | None]]:
        # futures belong to a loop, and a toolbox may serve several `asyncio.run` one by one
        loop = asyncio.get_running_loop()
        if self._flights is None or self._flights[0] is not loop:
            self._flights = loop, {}
        return self._flights[1]

    def _clean(self, text: str) -> str:
        """Without what the environment names a secret: neither a provider's error nor a page may bring one in."""
        return self._redaction.text(text)


_Lead = Callable[[], Awaitable[tuple[CassetteEntry | Failure, tuple[Call, ...]]]]
canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode
quoted = json.encoder.encode_basestring_ascii


def _write_calls(calls: Sequence[Call]) -> str:
    return json.dumps(PLAIN.encode(calls, no_picture), separators=(",", ":"))


def _from_cassette(asked: Asked, found: CassetteEntry | Failure) -> Call:
    if isinstance(found, Failure):
        return Call(asked.tool, asked.provider, 0.0, cached=True, error=found.message)
    return Call(asked.tool, found.provider, 0.0, cached=True)


def _put_images(pictures: Mapping[str, Image]) -> list[Statement]:
    return [put_image(picture)[1] for picture in pictures.values()]


def _error_of(failure: Failure) -> ToolError:
    return {"budget": BudgetSpent, "miss": ReplayMiss}.get(failure.kind, ToolError)(failure.message)


def _kind(error: Exception) -> str:
    return "budget" if isinstance(error, BudgetSpent) else "error"


def _say(error: Exception) -> str:
    """What the policy will read: an exception that is no ToolError says nothing it should see."""
    if not isinstance(error, ToolError):
        return f"The tool failed ({type(error).__name__}). Try another query or answer."
    return without_secrets(str(error))


def named_secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Values of variables that are named like keys."""
    return tuple(value for name, value in environ.items() if _SECRET_NAME.search(name))
