"""The table of actions: what the rest of the system asks of an action is looked up here, and nowhere else.

What the policy may use is a tool: one class in one file, found through the entry-point group `deepmmsearch.actions`,
the papers' two searches among them. An answer and a malformed turn are actions without a tool.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, assert_never, runtime_checkable

from deepmmsearch.arguments import check_settings
from deepmmsearch.errors import UserError
from deepmmsearch.registry import Registry
from deepmmsearch.types import Action, Answer, ImageSearch, Limits, Malformed, Observation, TextSearch, Trajectory, Use

if TYPE_CHECKING:
    from deepmmsearch.agent.toolbox import Toolbox

TEXT_SEARCH, IMAGE_SEARCH = "text_search", "image_search"
PAPER_TOOLS = (TEXT_SEARCH, IMAGE_SEARCH)
SERVED = "mcp_"
"""With what the names and tags of servers' tools begin."""


@dataclass(frozen=True)
class Shown:
    """An action for people and programs. `line`: what the policy does, in one line; `name` and `detail`: the same as a
    heading and its text; `fields`: as plain JSON values."""

    line: str
    name: str
    detail: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Tool(Protocol):
    """What the policy may use, without arguments of its own (their class: `agent.use.ArgumentTool`) or with.

    `name`: what records, prices and figures call it. `tag`: its tag, where a dialect has no other for it. `state`: the
    state text that follows it (`Prompt.after`), and the word by which a person types it. `about`: what the prompt says
    of it; "" where the papers' prompts do.
    """

    @property
    def name(self) -> str: ...
    @property
    def tag(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def about(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]:
        """The arguments as a JSON schema, for dialects in which a call is one of a function."""
        ...

    def accept(self, arguments: Mapping[str, Any]) -> Action:
        """The action with these arguments. Raises ValueError as `read` does."""
        ...

    def arguments_of(self, action: Any) -> Mapping[str, Any]:
        """The inverse of `accept`. Raises ValueError for what the arguments cannot say."""
        ...

    def read(self, content: str) -> Action:
        """The action that stands between the tags. Raises ValueError with a problem that the policy can act upon,
        written to follow the tag's name ("takes one address.")."""
        ...

    def write(self, action: Any) -> str:
        """The inverse of `read`. Raises ValueError for what cannot be said between tags."""
        ...

    def figure(self, action: Any) -> str:
        """The name under which such actions are counted."""
        ...

    def shown(self, action: Any) -> Shown: ...

    async def run(self, action: Any, trajectory: Trajectory, tools: Toolbox, limits: Limits) -> Observation:
        """What comes back. Raises ToolError, which the policy reads."""
        ...


TOOLS: Registry[type[Tool]] = Registry(
    "deepmmsearch.actions",
    "tool",
    lambda found: isinstance(found, type) and callable(getattr(found, "run", None)),
    "a class with the methods of a tool. docs/extending.md shows one",
)


def make_tool(name: str, settings: Mapping[str, Any]) -> Tool:
    """The tool; `settings` are its constructor's arguments. Raises UnknownName for an unknown tool or setting,
    UserError for a setting that is missing or of another kind, and for a class that is not a tool."""
    found = TOOLS.find(name)
    tool = found(**check_settings(f"tool {name}", found, settings, ()))
    if not isinstance(tool, Tool) or tool.name != name:
        raise UserError(f"The tool {name!r} of {TOOLS.origin(name)} lacks a method, or calls itself by another name.")
    return tool


def find_tool(name: str) -> Tool:
    """The tool as it is without settings. Raises as `make_tool` does."""
    return _plain_tool(name, tuple(sys.path))


@cache
def _plain_tool(name: str, path: tuple[str, ...]) -> Tool:
    # asked for each turn of each episode; what a name means depends on the path alone
    return make_tool(name, {})


def paper_tools() -> tuple[Tool, ...]:
    return tuple(find_tool(name) for name in PAPER_TOOLS)


def installed_tools() -> tuple[Tool, ...]:
    """The papers' two, then the others by name."""
    return (*paper_tools(), *(find_tool(name) for name in TOOLS.names() if name not in PAPER_TOOLS))


def extra_tags() -> tuple[str, ...]:
    """The tags of all installed tools beside the papers' two."""
    return tuple(tool.tag for tool in installed_tools()[len(PAPER_TOOLS) :])


def tool_name(action: Action) -> str | None:
    """The name of the tool that carries the action out; None for an answer and a malformed turn."""
    match action:
        case TextSearch():
            return TEXT_SEARCH
        case ImageSearch():
            return IMAGE_SEARCH
        case Use(tool):
            return tool
        case Answer() | Malformed():
            return None
    assert_never(action)


def tool_of(action: Action, offered: Sequence[Tool] | None = None) -> Tool | None:
    """The action's tool among those offered, or else among the installed ones; None where it is not there, and for
    actions without one."""
    name = tool_name(action)
    if offered is not None:
        return next((tool for tool in offered if tool.name == name), None)
    return find_tool(name) if name in TOOLS.names() else None


def figure(action: Action) -> str:
    """The name under which the action is counted: text, image, crop, another tool's, answer or malformed."""
    if isinstance(action, Answer | Malformed):
        return "answer" if isinstance(action, Answer) else "malformed"
    tool = tool_of(action)
    return tool.figure(action) if tool is not None else str(tool_name(action))


def state(action: Action) -> str:
    """The key of the state text that follows the action's observation; "" after an answer."""
    if isinstance(action, Answer | Malformed):
        return "malformed" if isinstance(action, Malformed) else ""
    tool = tool_of(action)
    return tool.state if tool is not None else str(tool_name(action))


def picture_of(action: Action) -> int:
    """The number of the picture of the episode that is looked at, where one is."""
    number = action.arguments.get("picture", 1) if isinstance(action, Use) else getattr(action, "picture", 1)
    return number if isinstance(number, int) else 1


def shown(action: Action) -> Shown:
    match action:
        case Answer(text, formed):
            how = "answers" if formed else "answers without the form"
            return Shown(f"{how}: {text}", "answer", text, {"action": "answer", "answer": text, "formed": formed})
        case Malformed(problem):
            fields = {"action": "malformed", "problem": problem}
            return Shown(f"no valid action: {problem}", "no action", "", fields)
    tool = tool_of(action)
    if tool is None and isinstance(action, Use):
        return shown_use(action)
    assert tool is not None, "the papers' tools are installed"
    return tool.shown(action)


def shown_use(action: Use) -> Shown:
    """By its arguments alone."""
    said = ", ".join(f"{name} {value}" for name, value in action.arguments.items())
    fields = {"action": action.tool, "arguments": dict(action.arguments)}
    return Shown(f"uses {action.tool}: {said}", action.tool.replace("_", " "), said, fields)
