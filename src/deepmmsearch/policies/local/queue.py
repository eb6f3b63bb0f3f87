"""Requests of many episodes, gathered into batches and decoded in threads."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deepmmsearch.policies.local.vision import PictureFeatures
from deepmmsearch.types import Completion, Finish

# How long a batch waits for others to join it: event loops release many episodes one after the other.
LINGER_SECONDS = 0.003
SMALL_BATCH = 8


@dataclass
class BatchRow:
    """A prompt in a batch, and what is sampled after it. `out_of` says what it means when `budget` runs out;
    `episode` is empty where the row belongs to none."""

    ids: list[int]
    features: list[PictureFeatures]
    budget: int
    out_of: Finish
    episode: str = ""
    positions: Tensor = field(default_factory=lambda: torch.zeros(1, 0))
    draws: Tensor = field(default_factory=lambda: torch.zeros(0))
    sampled: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None

    def take(self, token: int, logprob: float, ends: frozenset[int]) -> None:
        if self.finish is not None:
            return
        self.sampled.append(token)
        self.logprobs.append(logprob)
        if token in ends:
            self.finish = "stop"
        elif len(self.sampled) >= self.budget:
            self.finish = self.out_of


class Request:
    """A row and who waits for it."""

    def __init__(self, row: BatchRow, future: Future[Completion]) -> None:
        self.row, self.future, self.answered = row, future, False

    @property
    def over(self) -> bool:
        return self.answered or self.future.cancelled()

    def answer(self, completion: Completion) -> None:
        self.answered = True
        # False when the episode was cancelled meanwhile
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(completion)


class Queue:
    """Gathers requests and decodes them in threads, which live only while there is work.

    `decode` gets a batch as a list of its own. It may `join` more rows while it works; it appends them to that list,
    because whatever stands in it is answered with the error if `decode` fails.
    """

    def __init__(self, decode: Callable[[list[Request]], None], max_batch: int, workers: int, threads: int) -> None:
        self._decode, self._max_batch, self._most, self._threads = decode, max_batch, workers, threads
        self._lock = threading.Lock()
        self._waiting: list[tuple[Callable[[], BatchRow], Future[Completion]]] = []
        self._ready: list[Request] = []
        self._workers = 0
        self._going: dict[int, int] = {}

    async def ask(self, prepare: Callable[[], BatchRow]) -> Completion:
        future: Future[Completion] = Future()
        with self._lock:
            self._waiting.append((prepare, future))
            self._hire()
        return await asyncio.wrap_future(future)

    def _hire(self) -> None:
        if self._workers < self._most:
            self._workers += 1
            threading.Thread(target=self._work, name="local-policy").start()

    def _work(self) -> None:
        # Only this thread's setting in effect: OpenMP keeps the number for each thread that calls it.
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            while batch := self._next():
                try:
                    self._decode(batch)
                # A batch that fails (out of memory, a broken checkpoint) must not leave its episodes waiting.
                except Exception as error:
                    for asked in batch:
                        _fail(asked.future, error)
        finally:
            torch.set_num_threads(before)

    def join(self, going: int) -> list[Request]:
        """What a worker takes up beside the `going` rows of its batch: no more than its share of all there is."""
        me = threading.get_ident()
        with self._lock:
            self._going[me] = going
            if not self._waiting and not self._ready:
                return []
            arrived, self._waiting = self._waiting, []
        prepared = _prepare(arrived)
        with self._lock:
            self._ready = [a for a in (*self._ready, *prepared) if not a.future.cancelled()]
            room = self._share(len(self._ready) + sum(self._going.values())) - going
            taken, self._ready = self._ready[: max(0, room)], self._ready[max(0, room) :]
            self._going[me] = going + len(taken)
            if self._ready:
                self._hire()
            return taken

    def _share(self, rows: int) -> int:
        return min(self._max_batch, max(SMALL_BATCH, math.ceil(rows / self._most)))

    def _next(self) -> list[Request]:
        """The next batch; none when there is nothing left to do, and the worker is then no longer counted."""
        while True:
            time.sleep(LINGER_SECONDS)
            with self._lock:
                arrived, self._waiting = self._waiting, []
            prepared = _prepare(arrived)
            with self._lock:
                self._ready = [a for a in (*self._ready, *prepared) if not a.future.cancelled()]
                if batch := self._take():
                    if self._ready:
                        self._hire()
                    self._going[threading.get_ident()] = len(batch)
                    return batch
                if not self._waiting:
                    self._workers -= 1
                    self._going.pop(threading.get_ident(), None)
                    return []

    def _take(self) -> list[Request]:
        """The longest waiting row and others of similar length: padding costs as much as text."""
        if not self._ready:
            return []
        first = len(self._ready[0].row.ids)
        similar = sorted(self._ready, key=lambda a: abs(len(a.row.ids) - first))[: self._share(len(self._ready))]
        batch = [a for a in similar if first / 2 <= len(a.row.ids) <= first * 2]
        chosen = set(map(id, batch))
        self._ready = [a for a in self._ready if id(a) not in chosen]
        return batch


def _prepare(arrived: list[tuple[Callable[[], BatchRow], Future[Completion]]]) -> list[Request]:
    """What can be decoded; what cannot is answered at once."""
    ready = []
    for prepare, future in arrived:
        if future.cancelled():
            continue
        try:
            with torch.inference_mode():
                asked = Request(prepare(), future)
        except Exception as error:
            _fail(future, error)
            continue
        if asked.row.budget <= 0:
            asked.answer(Completion("", (), (), "context", len(asked.row.ids)))
        else:
            ready.append(asked)
    return ready


def _fail(future: Future[Completion], error: Exception) -> None:
    if not future.done() and future.set_running_or_notify_cancel():
        future.set_exception(error)
