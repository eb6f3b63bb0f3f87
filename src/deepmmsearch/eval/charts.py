"""Small charts, as the page's template draws them: where what stands, in units of the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

WIDTH, LABEL = 760, 230


@dataclass(frozen=True)
class Dot:
    """A figure with its interval, in [0, 1] or signed in [-1, 1]."""

    label: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Forest:
    """Points with whiskers on one axis; with `signed` around a line at 0."""

    dots: Sequence[Dot]
    title: str
    signed: bool = False
    kind: ClassVar[str] = "forest"
    width: ClassVar[int] = WIDTH
    label: ClassVar[int] = LABEL
    row: ClassVar[int] = 30

    @property
    def height(self) -> int:
        return self.row * len(self.dots) + 34

    @property
    def ticks(self) -> list[float]:
        low, high = self._range
        step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / s <= 10.5)
        first = int(low / step) - 1
        return [t * step for t in range(first, int(high / step) + 2) if low - 1e-9 <= t * step <= high + 1e-9]

    def x(self, value: float) -> float:
        low, high = self._range
        return round(self.label + (value - low) / (high - low) * (self.width - self.label - 70), 1)

    def said(self, value: float, digits: int) -> str:
        return f"{100 * value:{'+' if self.signed else ''}.{digits}f}"

    @property
    def _range(self) -> tuple[float, float]:
        if not self.signed:
            return 0.0, 1.0
        return min(-0.05, *(dot.low for dot in self.dots)), max(0.05, *(dot.high for dot in self.dots))


@dataclass(frozen=True)
class Bar:
    """Shares side by side, each with its name, in [0, 1]."""

    label: str
    parts: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class BarChart:
    """One thin bar for each part of each row, on a common axis from 0 to 100."""

    bars: Sequence[Bar]
    title: str = ""
    kind: ClassVar[str] = "bars"
    width: ClassVar[int] = WIDTH
    label: ClassVar[int] = LABEL
    row: ClassVar[int] = 16

    @property
    def height(self) -> int:
        return self.top(len(self.bars)) + 4

    def top(self, number: int) -> int:
        """Where the bars of a row begin."""
        return 8 + sum(self.row * len(bar.parts) + 8 for bar in self.bars[:number])

    def length(self, value: float) -> float:
        return round((self.width - self.label - 170) * value, 1)
