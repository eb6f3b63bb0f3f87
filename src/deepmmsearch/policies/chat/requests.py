"""Requests that fit the server: what it refuses is renamed, lowered or left out, and the next request knows it.

Reasoning models and Azure refuse `max_tokens`, `temperature` and `stop`; other servers do not know `seed`, `logprobs`
or `stream_options`, take no system text, or want roles to alternate. Each of them says so in its own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deepmmsearch.renderer import Message

BUDGETS = ("max_tokens", "max_completion_tokens")
THOUGHTS = "reasoning_content"
"""Where a turn's thoughts stand in a message. Most servers refuse them, some refuse a turn without them."""

# what may be left out: without it a server answers too, if otherwise
_SPARED = ("temperature", "stop", "seed", "logprobs", "return_token_ids", "stream_options", "reasoning_effort")
_REFUSES = re.compile(
    r"unsupported|not (be )?(supported|permitted|allowed|available)|(does|do) not (support|accept|allow)|unknown"
    r"|unrecogni[sz]ed|unexpected|extra (inputs|fields)|cannot find field|no longer|deprecated|invalid (param|arg)"
    r"|not (a )?(valid|known)|remove|must be (1|default|unset|null)",
    re.I,
)
_NO_SYSTEM = re.compile(
    r"(system|developer)[ _-]*(role|messages?|prompts?|instructions?)\b.{0,60}(not|n't|un)[ _-]?(be )?"
    r"(supported|allowed|enabled)|does not support.{0,20}(system|developer)"
    r"|(role|messages?).{0,20}\bsystem\b.{0,40}not supported",
    re.I | re.S,
)
_ALTERNATE = re.compile(r"roles must alternate|alternat\w+ (between )?user|consecutive.{0,30}(role|message)", re.I)
_WANTS_THOUGHTS = re.compile(
    r"(missing|must|required|need)\b.{0,80}\breasoning_content|reasoning_content\b.{0,80}\b(missing|must|required|need)",
    re.I | re.S,
)
_MUST_NOT = re.compile(r"must not|should not|not (be )?(allowed|supported|passed|included)", re.I)
# Gemini's word for calls that were recorded without one
_UNSIGNED = {"google": {"thought_signature": "skip_thought_signature_validator"}}
# "This model's maximum context length is 4096 tokens ... your request has 900 input tokens"
_WINDOW = re.compile(r"(?:context (?:length|window|size)|max_model_len)\D{0,40}?(\d{2,9})", re.I)
_READ = re.compile(r"(\d{1,9})\s+(?:input tokens|(?:tokens )?in (?:the|your) (?:messages|prompt|input))", re.I)
_MOST = re.compile(
    r"(?:at most|up to|maximum(?: value)?(?: (?:of|is|for))?|<=|less than or equal to|cannot be greater than)"
    r"\D{0,60}?(\d{1,9})"
)
# vLLM reads no further than it must to refuse, or counts letters alone
_READ_IN_PART = re.compile(r"(?:at least|upper bound for) \d+ input tokens", re.I)
_MORE_THAN_THE_WINDOW = re.compile(r"cannot be greater than max_model_len", re.I)


@dataclass(frozen=True)
class Wish:
    """What is wanted of a reply. `budget`: tokens, None all that there is room for; `temperature` None is the server's
    own; `extra`: fields of the body that the user named, which are sent as they are; `functions`: what the model may
    call."""

    budget: int | None
    temperature: float | None = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tokens: bool = False
    effort: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    functions: tuple[Mapping[str, Any], ...] = ()


@dataclass
class Fit:
    """What is known of the requests that one endpoint takes for one model. `budget_name`: what it calls the most tokens
    of a reply, None where it takes no such number; `most`: more it does not allow. `signed`: it wants to see its
    signature on each call; `thoughts`: it wants the model's thoughts back."""

    budget_name: str | None = BUDGETS[0]
    most: int | None = None
    spared: set[str] = field(default_factory=set)
    system: bool = True
    alternate: bool = False
    signed: bool = False
    thoughts: bool = False

    def body(self, model: str | None, told: Sequence[Message], wish: Wish, stream: bool) -> dict[str, Any]:
        """The arguments of the client's `chat.completions.create`. `told`: in OpenAI's form."""
        body: dict[str, Any] = {"model": model, "messages": self._messages(told)}
        if self.budget_name is not None and wish.budget is not None:
            body[self.budget_name] = min(wish.budget, self.most or wish.budget)
        given = {
            "temperature": wish.temperature,
            "stop": list(wish.stop) or None,
            "seed": wish.seed,
            "logprobs": wish.tokens or None,
            "reasoning_effort": wish.effort,
            "tools": list(wish.functions) or None,
            "stream": stream or None,
            "stream_options": {"include_usage": True} if stream else None,
        }
        body |= {name: value for name, value in given.items() if value is not None and name not in self.spared}
        extra = dict(wish.extra)
        if wish.tokens and "return_token_ids" not in self.spared:
            extra["return_token_ids"] = True
        return body | ({"extra_body": extra} if extra else {})

    def learn(self, body: Mapping[str, Any], said: str, parameter: str | None) -> bool:
        """Whether the refusal of `body`, with the server's words and the parameter that it names, tells how the request
        is to be made. What is asked again with the same words has told nothing."""
        sent = {*body, *body.get("extra_body", {})}
        if self.system and _NO_SYSTEM.search(said) and body["messages"][0]["role"] == "system":
            self.system = False
            return True
        if not self.alternate and _ALTERNATE.search(said):
            self.alternate = True
            return True
        if not self.signed and "thought_signature" in said:
            self.signed = True
            return True
        if not self.thoughts and _WANTS_THOUGHTS.search(said) and not _MUST_NOT.search(said):
            self.thoughts = True
            return True
        named = self._named(sent, said, parameter)
        if named in BUDGETS:
            return self._learn_budget(named, int(body[named]), said)
        if named is None or not (_REFUSES.search(said) or parameter == named):
            return False
        self.spared.add(named)
        return True

    def _named(self, sent: set[str], said: str, parameter: str | None) -> str | None:
        """The parameter that is refused: the one that the server names apart, else the first in its words."""
        ours = [name for name in (*BUDGETS, *_SPARED) if name in sent]
        if parameter is not None and (own := parameter.rpartition(".")[2]) in ours:
            return own
        places = {name: found.start() for name in ours if (found := re.search(rf"(?<!\w){name}(?!\w)", said))}
        return min(places, key=places.__getitem__, default=None)

    def _learn_budget(self, name: str, asked: int, said: str) -> bool:
        other = BUDGETS[1 - BUDGETS.index(name)]
        most = next((n for n in map(int, _MOST.findall(said)) if 0 < n < asked), None)
        if _MORE_THAN_THE_WINDOW.search(said):
            # all of the window leaves no room for a prompt; without a number there is as much as there is room for
            self.budget_name = None
        elif most is not None and not re.search(r"unsupported|not supported", said, re.I):
            self.most = most
        elif self.budget_name == BUDGETS[0] and (other in said or _REFUSES.search(said)):
            self.budget_name = other
        elif self.budget_name == BUDGETS[1] and _REFUSES.search(said):
            self.budget_name = None
        else:
            return False
        return True

    def _messages(self, told: Sequence[Message]) -> list[Message]:
        if not self.system and told and told[0]["role"] == "system":
            told = [{**told[0], "role": "user"}, *told[1:]]
        told = [self._completed(message) for message in told]
        return told if self.system and not self.alternate else _merged(told)

    def _completed(self, message: Message) -> Message:
        """With what the server wants of the model's own turns beside their words, and without what it does not."""
        thoughts = message.get(THOUGHTS, "")
        message = {name: value for name, value in message.items() if name != THOUGHTS}
        if message["role"] == "assistant" and self.thoughts:
            # an empty text counts as none
            message |= {THOUGHTS: thoughts or " "}
        if self.signed and "tool_calls" in message:
            message |= {"tool_calls": [{**call, "extra_content": _UNSIGNED} for call in message["tool_calls"]]}
        return message


def smaller(said: str, wish: Wish, most: int | None) -> Wish | None:
    """The wish for what is left of the window, where a server refused it because that would overflow and told what the
    request itself takes; None where it did not tell, or nothing is left."""
    window, read = _WINDOW.search(said), _READ.search(said)
    if window is None or read is None or wish.budget is None:
        return None
    if _READ_IN_PART.search(said):
        return replace(wish, budget=None)
    left = int(window[1]) - int(read[1])
    return replace(wish, budget=left) if 0 < left < min(wish.budget, most or wish.budget) else None


def openai_messages(conversation: Sequence[Message], urls: Sequence[str]) -> list[dict[str, Any]]:
    """OpenAI's messages for transformers', whose `image` parts stand for `urls` in order. A single text becomes a plain
    string, which every server takes. Raises ValueError where pictures and parts do not fit."""
    waiting = list(urls)

    def part(given: Mapping[str, Any]) -> dict[str, Any]:
        if given["type"] != "image":
            return {"type": "text", "text": given["text"]}
        return {"type": "image_url", "image_url": {"url": waiting.pop(0)}}

    def content(given: Any) -> Any:
        if isinstance(given, str):
            return given
        if len(given) == 1 and given[0]["type"] == "text":
            return given[0]["text"]
        return [part(p) for p in given]

    told = [
        {"role": m["role"], "content": content(m["content"]), **({THOUGHTS: m[THOUGHTS]} if THOUGHTS in m else {})}
        for m in conversation
    ]
    if waiting:
        raise ValueError(f"{len(urls)} pictures were given, but {len(waiting)} of them have no image part.")
    return told


def _merged(conversation: Sequence[Message]) -> list[Message]:
    """What one role says in a row as one message."""
    merged: list[Message] = []
    for message in conversation:
        if merged and merged[-1]["role"] == message["role"]:
            said = [*_parts(merged[-1]), {"type": "text", "text": "\n\n"}, *_parts(message)]
            merged[-1] = {**merged[-1], "content": said}
        else:
            merged.append(message)
    return merged


def _parts(message: Message) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
