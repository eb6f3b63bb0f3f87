"""A tool that lives in the tests alone: it reads a page by its address."""

from __future__ import annotations

from dataclasses import dataclass

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.use import ArgumentTool
from deepmmsearch.errors import ToolError
from deepmmsearch.types import Hit, Observation, Trajectory


@dataclass(frozen=True)
class Address:
    url: str


class Consult(ArgumentTool[Address]):
    """Reads the page at an address."""

    name = "consult"
    arguments = Address
    about = "reads the page at the address between the tags."
    price = 0.002

    def __init__(self, greeting: str = "The page says") -> None:
        self.greeting = greeting

    async def use(self, arguments: Address, trajectory: Trajectory, tools: Toolbox) -> Observation:
        if not arguments.url.startswith("https://"):
            raise ToolError(f"{arguments.url} is not an address.")
        return Observation(f"{self.greeting}: Ferner.", hits=(Hit("A page", arguments.url),))


@dataclass(frozen=True)
class Area:
    left: int
    top: int
    zoom: float = 2.0


class Magnify(ArgumentTool[Area]):
    """Enlarges a part of the picture, which is no search."""

    name = "magnify"
    arguments = Area
    about = 'enlarges the picture around a point: {"left": 10, "top": 20}.'
    search = False

    async def use(self, arguments: Area, trajectory: Trajectory, tools: Toolbox) -> Observation:
        picture = trajectory.pictures[0]
        return Observation("Enlarged.", images=(picture.resize((56, 56)),))
