"""A response as OpenAI's newer API (`/v1/responses`) writes it, in one piece and as events.

Steps are the parts of a reasoning item's summary, the answer is a message with `url_citation` annotations.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from deepmmsearch.serve.steps import CitedAnswer, Outcome, told
from deepmmsearch.types import Turn


@dataclass
class ResponseForm:
    """One answer; events are numbered from 0."""

    id: str
    model: str
    made: int = field(default_factory=lambda: int(time.time()))
    _numbers: Iterator[int] = field(default_factory=count)
    _steps: list[str] = field(default_factory=list)

    def begin(self) -> Iterator[str]:
        response = self._response("in_progress", [])
        yield self._event("response.created", response=response)
        yield self._event("response.in_progress", response=response)
        yield self._event("response.output_item.added", output_index=0, item=self._reasoning([]))

    def turn(self, turn: Turn, dialect: str) -> Iterator[str]:
        if step := told(turn, dialect).strip():
            yield from self._step(step)

    def end(self, outcome: Outcome) -> Iterator[str]:
        if outcome.unsaved:
            yield from self._step(outcome.unsaved)
        reasoning = self._reasoning(self._steps)
        yield self._event("response.output_item.done", output_index=0, item=reasoning)
        message = self._message(outcome.answer)
        yield from self._written(outcome.answer, message)
        ended = self._ended(outcome, [reasoning, message])
        yield self._event(f"response.{ended['status']}", response=ended)

    def fail(self, message: str) -> Iterator[str]:
        error = {"code": "server_error", "message": message}
        yield self._event("response.failed", response=self._response("failed", [], error=error))

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        return self._ended(outcome, [self._reasoning(outcome.steps), self._message(outcome.answer)])

    def _step(self, text: str) -> Iterator[str]:
        place = {"item_id": f"rs_{self.id}", "output_index": 0, "summary_index": len(self._steps)}
        self._steps.append(text)
        yield self._event("response.reasoning_summary_part.added", **place, part=_summary(""))
        yield self._event("response.reasoning_summary_text.delta", **place, delta=text)
        yield self._event("response.reasoning_summary_text.done", **place, text=text)
        yield self._event("response.reasoning_summary_part.done", **place, part=_summary(text))

    def _written(self, answer: CitedAnswer, message: dict[str, Any]) -> Iterator[str]:
        (part,) = message["content"]
        empty = {**message, "status": "in_progress", "content": []}
        yield self._event("response.output_item.added", output_index=1, item=empty)
        place = {"item_id": message["id"], "output_index": 1, "content_index": 0}
        yield self._event("response.content_part.added", **place, part={**part, "text": "", "annotations": []})
        yield self._event("response.output_text.delta", **place, delta=answer.text, logprobs=[])
        for number, each in enumerate(part["annotations"]):
            told_ = {"annotation_index": number, "annotation": each}
            yield self._event("response.output_text.annotation.added", **place, **told_)
        yield self._event("response.output_text.done", **place, text=answer.text, logprobs=[])
        yield self._event("response.content_part.done", **place, part=part)
        yield self._event("response.output_item.done", output_index=1, item=message)

    def _ended(self, outcome: Outcome, output: list[dict[str, Any]]) -> dict[str, Any]:
        read, sampled = outcome.tokens
        usage = {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": sampled,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + sampled,
        }
        cut = {"incomplete_details": {"reason": "max_output_tokens"}} if outcome.cut else {}
        return self._response("incomplete" if outcome.cut else "completed", output, usage=usage, **cut)

    def _response(self, status: str, output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": f"resp_{self.id}",
            "object": "response",
            "created_at": self.made,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": self.model,
            "output": output,
            "parallel_tool_calls": False,
            "temperature": None,
            "tool_choice": "none",
            "tools": [],
            "top_p": None,
            "usage": None,
            **more,
        }

    def _reasoning(self, steps: list[str]) -> dict[str, Any]:
        return {"id": f"rs_{self.id}", "type": "reasoning", "summary": [_summary(step) for step in steps]}

    def _message(self, answer: CitedAnswer) -> dict[str, Any]:
        cited = [
            {"type": "url_citation", "url": source.url, "title": source.title, "start_index": start, "end_index": end}
            for number, start, end in answer.spans
            if (source := answer.sources[number - 1])
        ]
        part = {"type": "output_text", "text": answer.text, "annotations": cited, "logprobs": []}
        row = {"id": f"msg_{self.id}", "type": "message", "role": "assistant", "status": "completed"}
        return {**row, "content": [part]}

    def _event(self, kind: str, **more: Any) -> str:
        row = {"type": kind, "sequence_number": next(self._numbers), **more}
        return f"event: {kind}\ndata: {json.dumps(row)}\n\n"


def _summary(text: str) -> dict[str, str]:
    return {"type": "summary_text", "text": text}
