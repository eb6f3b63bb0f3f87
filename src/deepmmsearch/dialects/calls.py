"""Turns of the field's released checkpoints: thoughts in marks, then a call as JSON in `<tool_call>`, or an answer.

Each reads turns as its model's own script does, so that a call means here what it means there (docs/peers.md). What a
script takes for the end without an answer in its form is an answer without form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from deepmmsearch.agent.dialect import CallResult
from deepmmsearch.agent.table import Tool, tool_of
from deepmmsearch.dialects.functions import write_call
from deepmmsearch.escaping import escape_tags
from deepmmsearch.notation import parse_json
from deepmmsearch.prompt_sources import PromptSource
from deepmmsearch.types import Action, Answer, ImageSearch, Limits, Malformed, TextSearch, Use

Reading = Callable[[Mapping[str, Any]], Action]
"""What the arguments of a call mean. Raises ValueError with a problem that follows the call's name."""

MOST_QUERIES = 5
"""Of one call: each is a search that is paid for."""
_THOUGHTS = re.compile(r"</think(?:ing)?>")
_NUMBERED = re.compile(r"\s*(?:img|image)?[_ ]?(\d{1,3})\s*", re.IGNORECASE)


class WrittenCall(NamedTuple):
    name: str
    arguments: Mapping[str, Any]


class PlainEnd(NamedTuple):
    """The turn ends the episode in the script, without an answer in its form; `text` is what then counts as one."""

    text: str


Read = WrittenCall | Answer | PlainEnd | Malformed


@dataclass(frozen=True)
class CallDialect:
    """`readings`: the calls that the model was taught, by name. `source`: where its prompts lie. `search_name`,
    `query_argument`, `image_call`: how a search is written. A tool of ours that the model was not taught is called by
    our name for it."""

    name: str
    limits: Limits
    readings: Mapping[str, Reading]
    source: PromptSource | None = None
    pictures: Literal["before", "after"] = "before"
    boxes: str | None = None
    thinks: bool = True
    query_argument: str = field(default="query", kw_only=True)
    search_name: str = field(default="search", kw_only=True)
    image_call: WrittenCall | None = field(default=None, kw_only=True)

    thought: ClassVar[str] = "think"
    answered: ClassVar[str] = "answer"
    opens: ClassVar[str] = "<tool_response>\n"
    closes: ClassVar[str] = "\n</tool_response>"

    def read(self, text: str) -> Read:
        """The turn as the model's script reads it."""
        raise NotImplementedError

    def parse(self, text: str, tools: Sequence[Tool], ended: bool) -> Action:
        if not text.strip():
            return Malformed(f"The turn is empty. {self._choices(tools)}")
        if text.lstrip().startswith(self.opens.strip()):
            return Malformed(f"The turn begins with what a tool says. {self._choices(tools)}")
        found = self.read(text)
        if isinstance(found, WrittenCall):
            return self._action(found, tools)
        if isinstance(found, PlainEnd):
            if not ended:
                return Malformed("The turn was cut off. Write a shorter turn.")
            found = Answer(found.text, formed=False)
        if isinstance(found, Answer) and not found.text.strip():
            return Malformed(f"The answer is empty. {self._choices(tools)}")
        return found

    def reason(self, text: str) -> str:
        opened = re.match(rf"\s*(?:<{self.thought}>)?", text)
        rest = text[opened.end() :] if opened else text
        at = rest.find(f"</{self.thought}>")
        return rest[:at].strip() if at >= 0 else ""

    def write(self, reason: str, action: Action, tools: Sequence[Tool]) -> str:
        tags = (self.thought, self.answered, "tool_call", "tool_response", "search", "text_search", "code")
        thought = f"<{self.thought}>{escape_tags(reason.strip(), tags)}</{self.thought}>"
        text = f"{thought}\n{self._said(action, tools)}"
        if (read := self.parse(text, tools, True)) != action:
            raise ValueError(f"{action!r} cannot be written in the dialect {self.name}: it would be read as {read!r}.")
        return text

    def observation(self, text: str) -> str:
        return f"{self.opens}{text}{self.closes}"

    def place(self, reply: CallResult) -> tuple[str | None, ...]:
        """The text, then the pictures."""
        return (self.observation(reply.text), *(None,) * reply.pictures)

    def about(self, tool: Tool) -> str:
        return ""  # the model was taught its calls, and its prompt tells of them

    def numbering(self, pictures: int) -> str:
        return f"\nThe {pictures} pictures are numbered in their order." if pictures > 1 else ""

    def _said(self, action: Action, tools: Sequence[Tool]) -> str:
        if isinstance(action, Answer):
            return f"<{self.answered}>{action.text}</{self.answered}>"
        tool = tool_of(action, tools)
        if tool is None:
            raise ValueError(f"{action!r} cannot be written as a turn.")
        arguments = tool.arguments_of(action)
        if isinstance(action, TextSearch):
            return self._said_search(action.query.split("\n"))
        if isinstance(action, ImageSearch) and self.image_call is not None:
            return self._said_image_search()  # what it cannot say is read back as something else
        return write_call(tool.name, arguments)

    def _said_search(self, queries: Sequence[str]) -> str:
        return write_call(self.search_name, self._query_arguments(queries))

    def _said_image_search(self) -> str:
        assert self.image_call is not None
        return write_call(*self.image_call)

    def _query_arguments(self, queries: Sequence[str]) -> Mapping[str, Any]:
        return {self.query_argument: queries[0] if len(queries) == 1 else list(queries)}

    def _action(self, call: WrittenCall, tools: Sequence[Tool]) -> Action:
        tool = next((tool for tool in tools if tool.name == call.name), None)
        known = self.readings.get(call.name)
        if known is None and tool is None:
            return Malformed(f"There is no function {call.name[:60]!r}. {self._choices(tools)}")
        problem = ""
        for read in (known, tool.accept if tool is not None else None):
            if read is not None:
                try:
                    return _accepted(read(call.arguments), tools)
                except ValueError as error:
                    problem = problem or str(error)
        return Malformed(f"The {call.name} {problem}")

    def _choices(self, tools: Sequence[Tool]) -> str:
        names = [*self.readings, *(t.name for t in tools if t.name not in self.readings and t.about)]
        return f"Call one of {', '.join(names)} in <tool_call>, or write <{self.answered}>."


def _accepted(action: Action, tools: Sequence[Tool]) -> Action:
    """As the tool that carries it out takes it. Raises ValueError."""
    tool = tool_of(action, tools)
    if tool is None or (isinstance(action, TextSearch) and "\n" in action.query):
        return action
    return tool.accept(tool.arguments_of(action))


def call_of(text: str, loads: Callable[[str], Any] = parse_json, *, required: bool = False) -> WrittenCall | None:
    """The call that a JSON object says; None where it says none. `required`: its arguments may not be left out."""
    try:
        row = loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        return None
    arguments = row.get("arguments", None if required else {})
    if not isinstance(arguments, dict):
        return None
    return WrittenCall(row["name"], {str(key): value for key, value in arguments.items()})


def between(text: str, tag: str) -> str | None:
    """What stands in the first `tag`; None where it is not both opened and closed."""
    at = text.find(f"<{tag}>")
    end = text.find(f"</{tag}>", at) if at >= 0 else -1
    return text[at + len(tag) + 2 : end] if end >= 0 else None


def last_between(text: str, tag: str) -> str | None:
    """What stands in the last `tag` of those that do not overlap, read from the front."""
    opens, closes, at, found = f"<{tag}>", f"</{tag}>", 0, None
    while (start := text.find(opens, at)) >= 0 and (end := text.find(closes, start + len(opens))) >= 0:
        found, at = text[start + len(opens) : end], end + len(closes)
    return found


def after_thoughts(text: str) -> str:
    return _THOUGHTS.split(text)[-1]


def searched(*names: str) -> Reading:
    """A text search: the query, or the queries, in one of the arguments `names`; others are settings of the model's own
    search and are left aside."""

    def read(arguments: Mapping[str, Any]) -> Action:
        given = next((arguments[name] for name in names if arguments.get(name)), None)
        queries = given if isinstance(given, list) else [given]
        lines = [" ".join(query.split()) for query in queries if isinstance(query, str)]
        kept = list(dict.fromkeys(filter(None, lines)))
        if not kept or len(lines) < len(queries):
            raise ValueError(f"takes {names[0]}, a text or a list of texts.")
        if len(kept) > MOST_QUERIES:
            raise ValueError(f"takes at most {MOST_QUERIES} queries at once.")
        return TextSearch("\n".join(kept))

    return read


def whole_picture(arguments: Mapping[str, Any]) -> Action:
    """The question's picture, whatever the arguments say: the model's own search knows no other."""
    return ImageSearch()


def unavailable(name: str) -> Reading:
    """A tool that we do not have: the toolbox says so, and it is counted under this name."""
    return lambda arguments: Use(name, dict(arguments), search=False)


def computed(arguments: Mapping[str, Any]) -> Action:
    """A program in Python."""
    code = arguments.get("code")
    if not isinstance(code, str) or not code.strip():
        raise ValueError("takes code, a program.")
    return Use("python", {"code": code}, search=False)


def visited(arguments: Mapping[str, Any]) -> Action:
    """A page, by one address and with a goal."""
    given = arguments.get("url")
    addresses = given if isinstance(given, list) else [given]
    goal = arguments.get("goal")
    if not arguments.keys() <= {"url", "goal"} or not all(isinstance(a, str) and a.strip() for a in addresses):
        raise ValueError("takes url, an address, and goal, a text.")
    if len(addresses) != 1:
        raise ValueError("takes one url at a time.")
    if goal is not None and not isinstance(goal, str):
        raise ValueError("takes goal, a text.")
    return Use("visit", {"url": addresses[0]} | ({"goal": goal} if goal and goal.strip() else {}))


def numbers(given: Any, count: int = 4) -> list[float]:
    """So many finite numbers. Raises ValueError."""
    if not isinstance(given, list) or len(given) != count:
        raise ValueError(f"takes {count} numbers.")
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e9 for n in given):
        raise ValueError(f"takes {count} numbers.")
    return list(given)


def picture_number(given: Any) -> int:
    """Of `img_2` and the like. Raises ValueError."""
    found = _NUMBERED.fullmatch(str(given)) if isinstance(given, str | int) else None
    if found is None or int(found[1]) < 1:
        raise ValueError("takes the name of a picture, such as img_1.")
    return int(found[1])


def closeup(picture: int, box: Sequence[float], frame: str) -> Action:
    return Use("zoom", {"picture": picture, "box": list(box), "frame": frame}, search=False)
