"""What holds for every tool that the policy may use."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from PIL.Image import new as new_image

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.dialect import DIALECTS
from deepmmsearch.agent.table import PAPER_TOOLS, Tool
from deepmmsearch.errors import ToolError
from deepmmsearch.testing import HOSTILE_TEXTS
from deepmmsearch.testing.contract.checks import Check
from deepmmsearch.types import Action, Limits, Observation, Prompt, Question, Trajectory

_WORD = re.compile(r"[a-z][a-z0-9_-]*")


def _start() -> Trajectory:
    return Trajectory(Question("q", "Whose flag is it?", (new_image("RGB", (64, 48), "red"),)), Prompt("p", "d", ""))


@dataclass(frozen=True)
class ToolCase:
    """A tool with some of its actions, such as a policy may ask for, and what it needs to carry them out: the toolbox
    (made anew for each check) and the episode so far."""

    tool: Tool
    actions: tuple[Action, ...]
    toolbox: Callable[[], Toolbox] = Toolbox
    trajectory: Trajectory = field(default_factory=_start)


def its_names_are_words(case: ToolCase) -> None:
    tool = case.tool
    assert isinstance(tool, Tool)
    assert all(_WORD.fullmatch(word) for word in (tool.name, tool.tag, tool.state)), (tool.name, tool.tag, tool.state)
    assert tool.about == tool.about.strip()


def what_is_written_is_read_back(case: ToolCase) -> None:
    assert case.actions, "a contract needs some of the tool's actions"
    for action in case.actions:
        assert case.tool.read(case.tool.write(action)) == action


def some_dialect_can_say_it(case: ToolCase) -> None:
    for action in case.actions:
        said = []
        for dialect in DIALECTS.all().values():
            try:
                text = dialect.write("I look.", action, (case.tool,))
            except ValueError:
                continue
            assert dialect.parse(text, (case.tool,), True) == action
            said.append(dialect.name)
        assert said, f"no dialect can say {action!r}"


def any_content_is_read_or_refused_in_words(case: ToolCase) -> None:
    written = [case.tool.write(action) for action in case.actions]
    for content in (*HOSTILE_TEXTS, "x", "{}", "[]", "null", '{"a": 1}', "[" * 5000, *(w[:-1] for w in written)):
        try:
            case.tool.read(content)
        except ValueError as problem:
            assert str(problem).strip().endswith("."), f"not a sentence to act upon: {problem}"


def it_is_shown_in_one_line_and_as_json(case: ToolCase) -> None:
    for action in case.actions:
        shown = case.tool.shown(action)
        assert shown.line and "\n" not in shown.line and shown.name
        assert json.loads(json.dumps(dict(shown.fields))) == dict(shown.fields), "not plain JSON"
        assert shown.fields["action"] == case.tool.name
        assert case.tool.figure(action)


def what_comes_back_is_an_observation(case: ToolCase) -> None:
    """Through the toolbox, which counts its calls."""
    for action in case.actions:
        tools = case.toolbox()
        if case.tool.name not in PAPER_TOOLS:
            tools = replace(tools, extra=(case.tool,))
        seen = asyncio.run(tools.execute(action, case.trajectory, Limits()))
        assert isinstance(seen, Observation) and seen.error is None, seen.error
        assert seen.text or seen.images


def without_what_it_needs_it_says_so(case: ToolCase) -> None:
    for action in case.actions:
        try:
            seen = asyncio.run(case.tool.run(action, case.trajectory, Toolbox(), Limits()))
        except ToolError as error:
            assert str(error).strip()
        else:
            assert isinstance(seen, Observation) and (seen.text or seen.error or seen.images)


TOOL: tuple[Check[ToolCase], ...] = (
    its_names_are_words,
    what_is_written_is_read_back,
    some_dialect_can_say_it,
    any_content_is_read_or_refused_in_words,
    it_is_shown_in_one_line_and_as_json,
    what_comes_back_is_an_observation,
    without_what_it_needs_it_says_so,
)
