"""What tool calls cost, and how much of it is allowed.

`Toolbox.execute` opens a `Meter` for one observation; whoever makes a call within reports to it, through a context
variable, because the five tool protocols say nothing of prices and calls of one observation run side by side. Without
an open meter nothing is counted and everything works.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from deepmmsearch.errors import ToolError
from deepmmsearch.redaction import without_secrets
from deepmmsearch.types import Call, Trajectory

_METER: ContextVar[Meter | None] = ContextVar("deepmmsearch_meter", default=None)
_BILL: ContextVar[Bill | None] = ContextVar("deepmmsearch_bill", default=None)


class BudgetSpent(ToolError):
    """The call was not made: it would have gone over the budget."""


@dataclass(frozen=True)
class Budget:
    """What may be spent on calls that reach a provider; None is without limit. `money` is in US dollars."""

    calls: int | None = None
    money: float | None = None


class Purse:
    """What is left of a budget, for `owner` ("question" or "run"). Safe to share between threads."""

    def __init__(self, budget: Budget, owner: str, calls: int = 0, money: float = 0.0) -> None:
        self.budget, self.owner = budget, owner
        self.calls, self.money = calls, money
        self._lock = threading.Lock()

    @property
    def spent(self) -> bool:
        """Nothing more that costs anything can be done."""
        calls, money = self.budget.calls, self.budget.money
        return (calls is not None and self.calls >= calls) or (money is not None and self.money >= money)

    def take(self, calls: int, price: float) -> None:
        """Raises BudgetSpent instead of going over the budget."""
        with self._lock:
            most, money = self.budget.calls, self.budget.money
            if most is not None and self.calls + calls > most:
                raise BudgetSpent(f"The budget of this {self.owner} is used up ({self.calls} of {most} calls). Answer.")
            # a rounding error must not cost the last call that fits
            if money is not None and price > 0 and self.money + price > money * (1 + 1e-9):
                raise BudgetSpent(
                    f"The budget of this {self.owner} is used up (${self.money:.4g} of ${money:.4g}). Answer."
                )
            self.calls += calls
            self.money += price

    def correct(self, calls: int, money: float) -> None:
        """What was taken turned out to be too little, or too much."""
        with self._lock:
            self.calls += calls
            self.money += money


@dataclass
class Bill:
    """One call while it is made: whoever makes it adds what it received, and may set what it cost."""

    cost: float
    bytes: int = 0


@dataclass
class Slot:
    """The place of a call in its meter; taken when it begins, so that the order does not depend on who is faster."""

    calls: tuple[Call, ...] = ()


class Meter:
    """The calls of one observation. `asker` names the question, rollout and turn it is for; `prices` (US dollars a
    call, by provider) override the providers' own."""

    def __init__(
        self, asker: str = "", prices: Mapping[str, float] = MappingProxyType({}), purses: tuple[Purse, ...] = ()
    ) -> None:
        self.asker, self.prices, self.purses = asker, prices, purses
        self.opened = time.perf_counter()
        self._slots: list[Slot] = []
        self._asked: dict[bytes, int] = {}
        self._prepaid = False

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(call for slot in self._slots for call in slot.calls)

    def slot(self) -> Slot:
        slot = Slot()
        self._slots.append(slot)
        return slot

    @contextmanager
    def open(self) -> Iterator[None]:
        """Calls made within, and in tasks and threads started within, are reported here."""
        token = _METER.set(self)
        try:
            yield
        finally:
            _METER.reset(token)

    def take(self, price: float) -> None:
        """One call at that price. Raises BudgetSpent when one of the purses is empty; then none of them has paid."""
        calls = 0 if self._prepaid else 1
        self._prepaid = False
        paid: list[Purse] = []
        try:
            for purse in self.purses:
                purse.take(calls, price)
                paid.append(purse)
        except BudgetSpent:
            for purse in paid:
                purse.correct(-calls, -price)
            raise

    def asker_of(self, key: bytes) -> str:
        """The asker, with a number where the same was asked before in this observation."""
        times = self._asked[key] = self._asked.get(key, 0) + 1
        return self.asker if times == 1 else f"{self.asker}#{times}"

    def charge(self, calls: Sequence[Call]) -> None:
        """Calls that were paid for when they were recorded count as they did then."""
        self.correct(len(calls), sum(call.cost for call in calls))

    def correct(self, calls: int, money: float) -> None:
        for purse in self.purses:
            purse.correct(calls, money)

    def part(self, prepaid: bool) -> Meter:
        """A meter of its own for what one tool does; `prepaid`: its first call is counted already."""
        part = Meter(self.asker, self.prices, self.purses)
        part._prepaid, part._asked, part.opened = prepaid, self._asked, self.opened
        return part

    def give_back(self) -> None:
        """The call that was paid ahead was not made."""
        if self._prepaid:
            self._prepaid = False
            self.correct(-1, 0.0)


def current() -> Meter | None:
    """The meter that is open here."""
    return _METER.get()


def received(count: int) -> None:
    """Adds bytes from outside to the call that is being made here, if one is."""
    bill = _BILL.get()
    if bill is not None:
        bill.bytes += count


@contextmanager
def calling(tool: str, provider: str, price: float = 0.0) -> Iterator[Bill]:
    """One call of a provider: timed, counted, paid for. For providers, around each request they make.

    `price`: the provider's own, in US dollars a call. Raises BudgetSpent before anything is asked for.
    """
    meter = _METER.get()
    if meter is not None:
        price = meter.prices.get(provider, price)
        meter.take(price)
    slot = meter.slot() if meter else Slot()
    bill, error = Bill(price), None
    token = _BILL.set(bill)
    began = time.perf_counter()
    try:
        yield bill
    except BaseException as failure:
        error = explain(failure)
        raise
    finally:
        _BILL.reset(token)
        seconds, after = time.perf_counter() - began, began - meter.opened if meter is not None else 0.0
        slot.calls = (Call(tool, provider, seconds, bill.bytes, False, bill.cost, error, after),)
        if meter is not None:
            meter.correct(0, bill.cost - price)


@contextmanager
def using(tool: str, of: object) -> Iterator[None]:
    """One use of the tool `of`, whatever it is made of: what it reports through `calling` is kept, and where it reports
    nothing (a local tool, someone's own class) the use itself is one call at its `price`.

    Raises BudgetSpent when no call is left, except for a tool with `pays_itself` (a recorder), which may know the
    answer without a call.
    """
    meter = _METER.get()
    if meter is None:
        yield
        return
    provider = provider_name(of)
    prepaid = not getattr(of, "pays_itself", False)
    if prepaid:
        meter.take(0.0)
    slot, part = meter.slot(), meter.part(prepaid)
    failure: BaseException | None = None
    token = _METER.set(part)
    began = time.perf_counter()
    try:
        yield
    except BaseException as error:
        failure = error
        raise
    finally:
        _METER.reset(token)
        slot.calls = part.calls
        if slot.calls or isinstance(failure, BudgetSpent):
            part.give_back()
        else:
            price = meter.prices.get(provider, getattr(of, "price", 0.0))
            why, seconds = explain(failure) if failure is not None else None, time.perf_counter() - began
            slot.calls = (Call(tool, provider, seconds, cost=price, error=why, began=began - meter.opened),)
            meter.correct(0, price)


def provider_name(tool: object) -> str:
    name = getattr(tool, "name", None)
    return name if isinstance(name, str) and name else type(tool).__name__


def explain(failure: BaseException) -> str:
    """The error as a `Call` keeps it: one line, never empty, without keys."""
    if isinstance(failure, asyncio.CancelledError):
        return "It was not waited for any longer."
    said = " ".join(str(failure).split()) if isinstance(failure, ToolError) else ""
    return without_secrets(said)[:300] or type(failure).__name__


@dataclass
class Ledger:
    """Budgets of one run: `question` holds for each of its questions, `run` for all of them together. `prices` (US
    dollars a call, by provider) override the providers' own."""

    prices: Mapping[str, float] = field(default_factory=dict)
    question: Budget = Budget()
    run: Purse = field(default_factory=lambda: Purse(Budget(), "run"))

    def meter(self, trajectory: Trajectory) -> Meter:
        """For the next observation of the trajectory."""
        paid = [call for call in trajectory.calls if not call.cached]
        own = Purse(self.question, "question", len(paid), sum(call.cost for call in paid))
        return Meter(asker(trajectory), self.prices, (own, self.run))


def asker(trajectory: Trajectory) -> str:
    """Who asks next: question, rollout, prompt, policy, and the number of the observation."""
    rollout = trajectory.question.metadata.get("rollout", 0)
    number = len(trajectory.context) + len(trajectory.turns) + 1
    return f"{trajectory.question.id}/{rollout}/{trajectory.prompt.name}/{trajectory.policy}/{number}"


@dataclass(frozen=True)
class Tally:
    """Several calls together. `succeeded` is a share of those made, 1.0 where there were none."""

    calls: int = 0
    cached: int = 0
    failed: int = 0
    seconds: float = 0.0
    bytes: int = 0
    cost: float = 0.0

    @property
    def succeeded(self) -> float:
        return 1.0 - self.failed / self.calls if self.calls else 1.0

    def plus(self, call: Call) -> Tally:
        return replace(
            self,
            calls=self.calls + 1,
            cached=self.cached + call.cached,
            failed=self.failed + (call.error is not None),
            seconds=self.seconds + call.seconds,
            bytes=self.bytes + call.bytes,
            cost=self.cost + call.cost,
        )


def tally(calls: Iterable[Call]) -> Tally:
    total = Tally()
    for call in calls:
        total = total.plus(call)
    return total


def tally_by_tool(calls: Iterable[Call]) -> dict[str, Tally]:
    """By tool, in the order in which they were first called."""
    tallies: dict[str, Tally] = {}
    for call in calls:
        tallies[call.tool] = tallies.get(call.tool, Tally()).plus(call)
    return tallies
