"""A chat completion as OpenAI writes it, in one piece and streamed.

What the agent does on its way comes as `reasoning_content` (and `reasoning`, as others call it), all of it before the
first word of the answer; sources as `[n]` in the text and as `annotations` with their places.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from deepmmsearch.serve.bodies import error_body
from deepmmsearch.serve.event_streams import event_data
from deepmmsearch.serve.open_webui import crop_of, end_events, turn_events
from deepmmsearch.serve.steps import CitedAnswer, Outcome, told
from deepmmsearch.types import Turn

_DONE = "data: [DONE]\n\n"


@dataclass(frozen=True)
class ChatForm:
    """`events`: Open WebUI's own are understood; `usage`: the stream ends with the tokens."""

    id: str
    model: str
    events: bool
    usage: bool
    made: int = field(default_factory=lambda: int(time.time()))

    def begin(self) -> Iterator[str]:
        yield self._piece({"role": "assistant", "content": ""})

    def turn(self, turn: Turn, dialect: str) -> Iterator[str]:
        if steps := told(turn, dialect):
            yield self._piece({"reasoning_content": steps, "reasoning": steps})
        if self.events:
            for event in turn_events(turn):
                yield event_data({"event": event})

    def end(self, outcome: Outcome) -> Iterator[str]:
        if outcome.unsaved:
            line = f"{outcome.unsaved}\n"
            yield self._piece({"reasoning_content": line, "reasoning": line})
        answer = outcome.answer
        if outcome.last is not None and (crop := crop_of(outcome.last)) is not None:
            yield self._piece({"images": [{"type": "image_url", "image_url": {"url": crop}}]})
        yield self._piece({"content": answer.text})
        if self.events:
            for event in end_events(answer):
                yield event_data({"event": event})
        elif answer.sources:
            yield self._piece({"annotations": _annotations(answer)})
        yield self._piece({}, _finish(outcome))
        if self.usage:
            yield event_data({**self._frame("chat.completion.chunk"), "choices": [], "usage": _usage(outcome)})
        yield _DONE

    def fail(self, message: str) -> Iterator[str]:
        yield event_data(error_body(message, 502))
        yield _DONE

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        answer, steps = outcome.answer, "".join(f"{step}\n" for step in outcome.steps)
        message = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": _annotations(answer)}
        message |= {"reasoning_content": steps, "reasoning": steps} if outcome.last is not None else {}
        choice = {"index": 0, "message": message, "finish_reason": _finish(outcome), "logprobs": None}
        return {**self._frame("chat.completion"), "choices": [choice], "usage": _usage(outcome)}

    def _frame(self, object: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.id}", "object": object, "created": self.made, "model": self.model}

    def _piece(self, delta: dict[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return event_data({**self._frame("chat.completion.chunk"), "choices": [choice]})


def _annotations(answer: CitedAnswer) -> list[dict[str, Any]]:
    return [
        {
            "type": "url_citation",
            "url_citation": {"url": source.url, "title": source.title, "start_index": start, "end_index": end},
        }
        for number, start, end in answer.spans
        if (source := answer.sources[number - 1])
    ]


def _finish(outcome: Outcome) -> str:
    return "length" if outcome.cut else "stop"


def _usage(outcome: Outcome) -> dict[str, int]:
    read, sampled = outcome.tokens
    return {"prompt_tokens": read, "completion_tokens": sampled, "total_tokens": read + sampled}
