"""An ordered list of providers: the first that answers, each within its own limits, a failing one left alone a while.

Retries, rate limits and back-off live here and nowhere else, so a provider is only its request and its parser.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from deepmmsearch.agent.metering import BudgetSpent, calling
from deepmmsearch.errors import ToolError
from deepmmsearch.tools.http import BadStatus, Refused, TimedOut, TooLarge, Unreachable
from deepmmsearch.types import Hit

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]
ToolName = Literal["text_search", "image_search"]


class SearchTool(Protocol):
    """A text or an image search: `wanted` is a query or a picture."""

    async def search(self, wanted: Any, k: int, /) -> list[Hit]: ...


@dataclass(frozen=True)
class Pace:
    """How one provider may be asked, and how long it is left alone.

    `per_second`: requests a second, evenly spaced (None: no limit); `concurrency`: at once. `first_rest`: seconds after
    the first refusal, doubled with each further one, up to `longest_rest`; a Retry-After is kept to, up to the same
    bound. `setback`: seconds for a provider without a valid key or without credit. `patience`: failures in a row of a
    provider that is not rate-limited before it is left alone.
    """

    per_second: float | None = None
    concurrency: int = 16
    first_rest: float = 1.0
    longest_rest: float = 600.0
    setback: float = 600.0
    patience: int = 3


class Lane:
    """One provider with its pace: requests wait here for their turn, or are refused while it is left alone."""

    def __init__(
        self,
        name: str,
        provider: SearchTool,
        tool: ToolName,
        pace: Pace | None = None,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.name, self.provider, self.tool, self.pace = name, provider, tool, pace or Pace()
        self._clock, self._sleep = clock, sleep
        self._slots: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None
        self._next = 0.0  # when the next request may start
        self._until = 0.0  # when the rest is over
        self._failures = 0
        self.why = ""

    @property
    def rest(self) -> float:
        """Seconds for which the provider is to be left alone; 0.0 when it may be asked."""
        return max(0.0, self._until - self._clock())

    async def search(self, wanted: Any, k: int) -> list[Hit]:
        """Raises ToolError, and remembers what of it concerns the next request."""
        async with self._slot():
            await self._turn()
            if self.rest > 0:  # another request was refused while this one waited
                raise ToolError(self.why)
            try:
                hits = await self._ask(wanted, k)
            except BudgetSpent:
                raise
            except ToolError as error:
                self._remember(error)
                raise
        self._failures, self._until = 0, 0.0
        return hits

    async def _ask(self, wanted: Any, k: int) -> list[Hit]:
        with calling(self.tool, self.name, getattr(self.provider, "price", 0.0)) as bill:
            try:
                return await self.provider.search(wanted, k)
            except (TimedOut, TooLarge):
                raise  # it may well have been carried out, and billed
            except ToolError:
                bill.cost = 0.0
                raise
            # The border to a provider's code: whatever it trips over must not keep the next one from being asked.
            except Exception as error:
                raise ToolError(f"{self.name} failed ({type(error).__name__}).") from error

    def _slot(self) -> asyncio.Semaphore:
        # A semaphore belongs to the loop it first waited in, and a toolbox may serve several `asyncio.run` one by one.
        loop = asyncio.get_running_loop()
        if self._slots is None or self._slots[0] is not loop:
            self._slots = loop, asyncio.Semaphore(self.pace.concurrency)
        return self._slots[1]

    async def _turn(self) -> None:
        if self.pace.per_second is None:
            return
        now = self._clock()
        start = max(now, self._next)
        self._next = start + 1.0 / self.pace.per_second
        if start > now:
            await self._sleep(start - now)

    def _remember(self, error: ToolError) -> None:
        reason, wait = _reason(error), getattr(error, "retry_after", None)
        if reason in ("refused", "answer"):
            return  # it is this request, not the provider
        self._failures += 1
        doubled = self.pace.first_rest * 2.0 ** min(self._failures - 1, 20)
        if reason in ("key", "quota"):
            rest = self.pace.setback
        elif wait is not None:
            rest = min(max(wait, 0.0), self.pace.longest_rest)
        elif reason == "rate" or self._failures >= self.pace.patience:
            rest = min(doubled, self.pace.longest_rest)
        else:
            return
        self._until = max(self._until, self._clock() + rest)
        self.why = str(error)


class FailOver:
    """TextSearchTool or ImageSearchTool over an ordered list of lanes.

    Lanes that rest are passed over. When none answered, the list is gone through again, at most `rounds` times in all
    and only for failures that may pass; before that it waits `pause` seconds, or for the first rest to end where that
    is within `patience` seconds. One search therefore ends, whatever the providers do.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        *,
        rounds: int = 2,
        pause: float = 0.5,
        patience: float = 5.0,
        keep: Callable[[Hit], bool] = lambda _: True,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        assert lanes, "fail-over needs at least one provider"
        self.lanes, self.rounds, self.pause, self.patience = tuple(lanes), rounds, pause, patience
        self._keep, self._sleep = keep, sleep
        self.name = "+".join(dict.fromkeys(lane.name for lane in lanes))

    async def search(self, wanted: Any, k: int) -> list[Hit]:
        """The hits of the first provider that answers, be they none. Raises ToolError that names each with its
        reason, or BudgetSpent."""
        said: dict[str, str] = {}
        for number in range(self.rounds):
            again = False
            for lane in self.lanes:
                if lane.rest > 0:
                    said[lane.name] = f"{_sentence(lane.why)} (left alone for {_span(lane.rest)})"
                    continue
                try:
                    return [hit for hit in await lane.search(wanted, k) if self._keep(hit)]
                except BudgetSpent:
                    raise  # the next one would not be paid for either
                except ToolError as error:
                    said[lane.name] = _sentence(str(error))
                    again = again or _reason(error) in ("rate", "down")
            if number + 1 < self.rounds:
                wait = self._wait(again)
                if wait is None:
                    break
                await self._sleep(wait)
        raise ToolError(_no_answer(said))

    def _wait(self, again: bool) -> float | None:
        """Seconds until another round makes sense, None when it does not."""
        rests = [lane.rest for lane in self.lanes]
        if again and min(rests) == 0.0:
            return self.pause
        nearest = min((rest for rest in rests if rest > 0), default=None)
        return nearest if nearest is not None and nearest <= self.patience else None


def _reason(error: ToolError) -> str:
    """Why it failed, in the words of `providers.api.Reason`; what is unknown is taken for the provider's fault."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, str):
        return reason
    if isinstance(error, BadStatus):
        return "rate" if error.status == 429 else "key" if error.status in (401, 402, 403) else "down"
    if isinstance(error, Refused):
        return "refused"
    return "down" if isinstance(error, TimedOut | Unreachable) else "answer"


def _no_answer(said: dict[str, str]) -> str:
    if len(said) == 1:
        return f"{next(iter(said.values()))}."
    return f"No provider answered: {'; '.join(f'{name}: {why}' for name, why in said.items())}."


def _sentence(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
