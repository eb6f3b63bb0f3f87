"""Tools beside the papers' two searches: what is the same for all of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from deepmmsearch.agent.metering import using
from deepmmsearch.agent.table import Shown, shown_use
from deepmmsearch.errors import ToolError
from deepmmsearch.types import Limits, Observation, Trajectory, Use

if TYPE_CHECKING:
    from deepmmsearch.agent.toolbox import Toolbox

A = TypeVar("A")


class ArgumentTool(Generic[A]):
    """A `Tool` with typed arguments. A subclass gives its `name`, its `arguments` (a frozen dataclass), what the prompt
    says of it (`about`), and does its work in `use`.

    An argument that is a text and the only one stands alone between the tags; otherwise they are a JSON object.
    `search`: does it count as a search? `price`: US dollars a use. `limit`: how often an episode may use it (None: as
    often as it may act); a use that failed does not count.
    """

    name: str
    arguments: ClassVar[type]
    search: ClassVar[bool] = True
    about: str = ""
    price: float = 0.0
    limit: int | None = None

    @property
    def tag(self) -> str:
        return self.name

    @property
    def state(self) -> str:
        return self.name

    async def use(self, arguments: A, trajectory: Trajectory, tools: Toolbox) -> Observation:
        """What comes back. Raises ToolError, which the policy reads."""
        raise NotImplementedError

    def read(self, content: str) -> Use:
        if self._alone is not None:
            given: Any = {self._alone: " ".join(content.split())}
        else:
            try:
                given = json.loads(content)
            # too deep, or numbers of thousands of digits
            except (ValueError, RecursionError):
                given = None
            if not isinstance(given, dict):
                raise ValueError(f"takes a JSON object with {self._known}.")
        return self.accept(given)

    @property
    def parameters(self) -> Mapping[str, Any]:
        return self._adapter.json_schema()

    def accept(self, arguments: Mapping[str, Any]) -> Use:
        self._checked(arguments)
        return Use(self.name, dict(arguments), self.search)

    def arguments_of(self, action: Use) -> Mapping[str, Any]:
        return action.arguments

    def write(self, action: Use) -> str:
        if self._alone is not None:
            return str(action.arguments[self._alone])
        return json.dumps(dict(action.arguments), ensure_ascii=False)

    def figure(self, action: Use) -> str:
        return self.name

    def shown(self, action: Use) -> Shown:
        return shown_use(action)

    async def run(self, action: Use, trajectory: Trajectory, tools: Toolbox, limits: Limits) -> Observation:
        if self.limit is not None and len(uses(trajectory, self.name)) >= self.limit:
            times = "once" if self.limit == 1 else f"{self.limit} times"
            raise ToolError(f"{self.name} may be used {times} in an episode. Use another tool or answer.")
        with using(self.name, self):
            return await self.use(self._checked(action.arguments), trajectory, tools)

    def _checked(self, given: Mapping[str, Any]) -> A:
        """The arguments as their class. Raises ValueError."""
        names = [f.name for f in dataclasses.fields(self.arguments)]
        for name in given:
            if name not in names:
                raise ValueError(f"has no argument {name}. It takes {self._known}.")
        try:
            made: A = self._adapter.validate_python(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"takes {self._known}; {place}: {first['msg']}.") from None
        return made

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.arguments)

    @cached_property
    def _alone(self) -> str | None:
        """The only argument, where it is a text."""
        fields = dataclasses.fields(self.arguments)
        return fields[0].name if len(fields) == 1 and fields[0].type in (str, "str") else None

    @property
    def _known(self) -> str:
        return ", ".join(f.name for f in dataclasses.fields(self.arguments))


def uses(trajectory: Trajectory, tool: str) -> tuple[Observation, ...]:
    """What came back from a tool so far, without what failed."""
    seen = (t.observation for t in trajectory.turns if isinstance(t.action, Use) and t.action.tool == tool)
    return tuple(observation for observation in seen if observation is not None and observation.error is None)
