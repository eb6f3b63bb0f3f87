"""What a server tells its operator: figures for Prometheus, and one line of JSON for each question. Neither holds a
word of what was asked or answered, unless the recipe says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from deepmmsearch.serve.room import Room, Run
from deepmmsearch.streams import echo_json
from deepmmsearch.types import Trajectory

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320)


class Account:
    """Counts what has ended. `questions`: are they to stand in the log? `write` gets each line of it."""

    def __init__(self, *, questions: bool = False, write: Callable[[Any], None] = echo_json) -> None:
        self._questions, self._write = questions, write
        self._registry = registry = CollectorRegistry()
        self._ended = Counter(
            "deepmmsearch_questions", "Questions that ended, by model and by how.", ("model", "stop"), registry=registry
        )
        self._seconds = Histogram(
            "deepmmsearch_seconds", "Seconds of a question in play.", ("model",), buckets=_SECONDS, registry=registry
        )
        self._calls = Counter(
            "deepmmsearch_tool_calls", "Calls of tools.", ("tool", "provider", "failed"), registry=registry
        )
        self._dollars = Counter("deepmmsearch_dollars", "US dollars for tools.", registry=registry)
        self._tokens = Counter("deepmmsearch_tokens", "Tokens read and sampled.", ("kind",), registry=registry)
        self._present = Gauge("deepmmsearch_present", "Questions in play and waiting.", ("state",), registry=registry)

    def add(self, run: Run, last: Trajectory) -> None:
        """A run that has ended."""
        model, stop = str(run.about.get("model", "")), last.stop or "none"
        self._ended.labels(model, stop).inc()
        self._seconds.labels(model).observe(last.seconds)
        for call in last.calls:
            self._calls.labels(call.tool, call.provider, "yes" if call.error else "no").inc()
        self._dollars.inc(last.cost)
        self._tokens.labels("read").inc(last.prompt_tokens or 0)
        self._tokens.labels("sampled").inc(last.sampled_tokens)
        row = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "run": run.id,
            "owner": run.owner,
            "door": run.about.get("door", ""),
            "model": model,
            "stop": stop,
            "turns": len(last.turns),
            "calls": len(last.calls),
            "failed": sum(call.error is not None for call in last.calls),
            "seconds": round(last.seconds, 3),
            "cost": round(last.cost, 6),
        }
        self._write(row | ({"question": run.question.text, "answer": last.answer} if self._questions else {}))

    def told(self, room: Room) -> bytes:
        """The figures as Prometheus reads them."""
        self._present.labels("playing").set(room.playing)
        self._present.labels("waiting").set(room.waiting)
        return generate_latest(self._registry)
