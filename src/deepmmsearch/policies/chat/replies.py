"""What comes back from an endpoint, whole or in pieces, as a completion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from deepmmsearch.policies.chat.calling import turn_of
from deepmmsearch.policies.chat.failures import Nonsense, ToldInReply, told
from deepmmsearch.thoughts import part_thoughts
from deepmmsearch.types import Completion, Finish

# how servers name the end of a reply; what none of these is, is no end of its own
_ENDS: dict[str, Finish] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "complete"), "stop"),
    **dict.fromkeys(("tool_calls", "function_call", "tool_use"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length"), "length"),
    **dict.fromkeys(("content_filter", "content_filtered", "safety", "recitation", "blocklist"), "filter"),
    **dict.fromkeys(("prohibited_content", "spii", "image_safety", "guardrail_intervened", "sensitive"), "filter"),
    "model_context_window_exceeded": "context",
    "refusal": "refusal",
}


@dataclass
class EndpointReply:
    """One reply as it is read. `finish`: the server's word for its end; `shortened`: it ended
    the text at a stop string, whose tokens were sampled; `functions`: name and arguments of the
    functions that the model called, by their place."""

    text: str = ""
    thoughts: str = ""
    refusal: str = ""
    finish: str | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    shortened: bool = False
    functions: dict[int, tuple[str, str]] = field(default_factory=dict)
    read: int | None = None
    sampled: int | None = None

    def add(self, chunk: Any) -> str:
        """The text that a piece of a stream adds. Raises ToldInReply."""
        if getattr(chunk, "error", None):
            raise told(chunk.error)
        self._count(chunk)
        # choices beside the first are not what was asked for
        choice = next((c for c in getattr(chunk, "choices", None) or () if not getattr(c, "index", 0)), None)
        return self._add_choice(choice, getattr(choice, "delta", None)) if choice is not None else ""

    def fill(self, whole: Any) -> None:
        """With a reply that came in one piece. Raises ToldInReply, Nonsense."""
        choices = getattr(whole, "choices", None)
        if not isinstance(choices, list) or not choices:
            if getattr(whole, "error", None):
                raise told(whole.error)
            raise Nonsense(f"it begins {str(whole)[:60]!r}")
        self._count(whole)
        self._add_choice(choices[0], choices[0].message)
        if self.finish is None:
            self.finish = "stop"  # it came to its end; some servers do not say how

    def completion(self, stop: Sequence[str], thinks: bool, offered: bool = False) -> Completion:
        """`stop`: what was to end the reply; some servers keep it in the text, or go on behind it. `thinks`: thoughts
        are a part of the turn, between marks. `offered`: functions were, so that a call of one is the turn."""
        ends = _ENDS.get((self.finish or "").lower().removeprefix("finish_reason_"), "cut")
        text, stopped = cut_at(self.text, stop)
        if stopped:
            ends = "stop"
        parted = part_thoughts(text, self.thoughts or None)
        said, thoughts = parted.said, parted.thoughts
        if thinks:
            said, thoughts = (f"<think>\n{self.thoughts.strip()}\n</think>\n{text}" if self.thoughts else text), ""
        if self.refusal and not said.strip():
            said, ends = self.refusal, "refusal"
        calls = [call for _, call in sorted(self.functions.items())]
        remark = self._remark(ends, said, [] if offered else calls)
        if offered and ends == "stop":
            said = turn_of(said, calls)
            if len(calls) > 1:
                remark = f"It called {len(calls)} functions at once; the first counts."
        verbatim = not (stopped or self.shortened or offered)
        ids = tuple(self.ids) if self.ids and verbatim else None
        # logprobs without ids, or of another length, belong to nothing
        paired = self.logprobs and verbatim and (ids is None or len(ids) == len(self.logprobs))
        return Completion(
            text if said == text.strip() else said,
            ids,
            tuple(self.logprobs) if paired else None,
            ends,
            self.read,
            tokens=self.sampled,
            thoughts=thoughts,
            remark=remark,
        )

    def _remark(self, ends: Finish, said: str, calls: Sequence[tuple[str, str]]) -> str:
        if ends == "cut":
            return f"The endpoint ended the turn with {str(self.finish)[:40]!r}."
        if said.strip() or not calls:
            return ""
        names = ", ".join(sorted({name[:60] for name, _ in calls if name}))
        return f"The model called functions instead of writing a turn ({names or 'without a name'})."

    def _add_choice(self, choice: Any, message: Any) -> str:
        piece = ""
        if message is not None:
            piece, thoughts = _parted(getattr(message, "content", None))
            self.text += piece
            # several of these names stand in one reply of some servers, with the same text
            apart = (_thought(getattr(message, f"reasoning{end}", None)) for end in ("_content", "", "_details"))
            self.thoughts += thoughts + next(filter(None, apart), "")
            refusal = getattr(message, "refusal", None)
            self.refusal += refusal if isinstance(refusal, str) else ""
            self._add_functions(message)
        self.ids += [int(i) for i in getattr(choice, "token_ids", None) or ()]
        content = getattr(getattr(choice, "logprobs", None), "content", None)
        self.logprobs += [float(token.logprob) for token in content or ()]
        self.finish = getattr(choice, "finish_reason", None) or self.finish
        # vLLM tells the string, or the number of the token, that ended a reply
        self.shortened = self.shortened or isinstance(getattr(choice, "stop_reason", None), str)
        if self.finish == "load":  # Ollama's, which has just read the model
            raise ToldInReply(503, "it was still loading the model")
        if self.finish == "error":
            raise told(getattr(choice, "error", None) or "it ended the reply with an error of its own")
        return piece

    def _add_functions(self, message: Any) -> None:
        called = list(enumerate(getattr(message, "tool_calls", None) or ()))
        if (old := getattr(message, "function_call", None)) is not None:
            self._add_function(0, old)
        for place, call in called:
            at = getattr(call, "index", None)
            self._add_function(place if at is None else at, getattr(call, "function", None))

    def _add_function(self, place: int, function: Any) -> None:
        """A stream tells a call in pieces."""
        name, arguments = self.functions.get(place, ("", ""))
        given = getattr(function, "arguments", None)
        given = given if isinstance(given, str | None) else json.dumps(given)
        self.functions[place] = name + (getattr(function, "name", None) or ""), arguments + (given or "")

    def _count(self, told: Any) -> None:
        """Tokens that were read and sampled, as far as the endpoint tells."""
        usage = getattr(told, "usage", None)
        counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        if usage is not None:
            self.read, self.sampled = (count if isinstance(count, int) else None for count in counts)


def cut_at(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the first of the stop strings, and whether there was one."""
    places = [at for words in stop if words and (at := text.find(words)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def begun(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of a stop string."""
    longest = max(map(len, stop), default=0)
    lengths = range(min(len(text), longest - 1), 0, -1)
    return next((n for n in lengths if any(words.startswith(text[-n:]) for words in stop)), 0)


def _thought(given: Any) -> str:
    """Thoughts in a field of their own: a text, or parts of a text or its summary. What is encrypted says nothing."""
    if isinstance(given, str):
        return given
    parts = [part for part in given if isinstance(part, dict)] if isinstance(given, list) else []
    said = (part.get("text") or part.get("summary") for part in parts)
    return "".join(text for text in said if isinstance(text, str))


def _parted(content: Any) -> tuple[str, str]:
    """Text and thoughts of a content: a text, nothing, or a list of parts. Raises Nonsense."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list):
        raise Nonsense(f"its content is a {type(content).__name__}")
    said, thought = [], []
    for part in content:
        if isinstance(part, str):
            said.append(part)
        elif isinstance(part, dict) and part.get("type") == "thinking":
            thought.append(_parted(part.get("thinking"))[0])
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            said.append(part["text"])
    return "".join(said), "".join(thought)
