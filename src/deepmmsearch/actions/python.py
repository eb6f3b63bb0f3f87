"""A small computation: dates, units, arithmetic. The program is isolated from everything (`computing`)."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from deepmmsearch.agent.lines import Line, join, unnumbered
from deepmmsearch.agent.metering import using
from deepmmsearch.agent.toolbox import Toolbox
from deepmmsearch.agent.use import ArgumentTool
from deepmmsearch.errors import ToolMissing
from deepmmsearch.types import Observation, Trajectory, Use

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n", re.IGNORECASE)


@dataclass(frozen=True)
class Program:
    code: str


class RunPython(ArgumentTool[Program]):
    """Runs a program, which is no search. `limit`: how often in an episode; `seconds`: of processor time for one."""

    name = "python"
    arguments = Program
    search = False
    about = (
        "runs a short Python program and shows what it prints and the value of its last line: dates, units, "
        "arithmetic. It has the standard library's modules for these, no files, no network, and keeps nothing for the "
        "next one."
    )

    def __init__(
        self, limit: Annotated[int, Field(ge=1)] | None = 8, seconds: Annotated[int, Field(ge=1, le=60)] = 5
    ) -> None:
        self.limit, self.seconds = limit, seconds

    def read(self, content: str) -> Use:
        try:
            given = json.loads(content)
        # too deep, or numbers of thousands of digits
        except (ValueError, RecursionError):
            given = None
        if isinstance(given, dict) and given.keys() == {"code"}:
            return self.accept(given)
        bare = content.strip()
        fence = _FENCE.match(bare)
        code = bare[fence.end() : -3] if fence and bare.endswith("```") else content
        return self.accept({"code": textwrap.dedent(code).strip()})

    def accept(self, arguments: Mapping[str, Any]) -> Use:
        if not self._checked(arguments).code.strip():
            raise ValueError("takes a program.")
        return super().accept(arguments)

    def write(self, action: Use) -> str:
        plain = str(action.arguments["code"])
        return plain if self.read(plain) == action else json.dumps(dict(action.arguments), ensure_ascii=False)

    async def use(self, arguments: Program, trajectory: Trajectory, tools: Toolbox) -> Observation:
        if tools.interpreter is None:
            raise ToolMissing("Programs cannot be run here. Use another tool or answer.")
        with using("python", tools.interpreter):
            printed = await tools.interpreter.run(arguments.code, self.seconds)
        # each line of it begins with words of ours: what it prints may say "Error:", or what passes for a hit
        lines = [Line(f"Output: {unnumbered(line)}") for line in printed.splitlines() if line.strip()]
        if not lines:
            return Observation("The program printed nothing. End it with the value that you want to see.")
        shown, _ = join(lines, tools.max_text)
        left = len(lines) - len(shown.splitlines())
        return Observation(f"{shown}\n{left} more lines are not shown." if left else shown)
