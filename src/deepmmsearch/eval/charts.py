"""Small charts as SVG within the page: no script, no font, nothing from outside. Every text in them is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABEL, ROW = 760, 230, 30


@dataclass(frozen=True)
class Dot:
    """A figure with its interval, in [0, 1] or signed in [-1, 1]."""

    label: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bar:
    """Shares side by side, each with its name, in [0, 1]."""

    label: str
    parts: tuple[tuple[str, float], ...]


def forest(dots: Sequence[Dot], title: str, signed: bool = False) -> str:
    """Points with whiskers on one axis; with `signed` around a line at 0."""
    if not dots:
        return ""
    low, high = (min(-0.05, *(d.low for d in dots)), max(0.05, *(d.high for d in dots))) if signed else (0.0, 1.0)
    height = ROW * len(dots) + 34
    ticks = _ticks(low, high)

    def x(value: float) -> float:
        return LABEL + (value - low) / (high - low) * (WIDTH - LABEL - 70)

    parts = [
        f"<line class=grid x1={x(t):.1f} x2={x(t):.1f} y1=6 y2={height - 26} />"
        f"<text class=tick x={x(t):.1f} y={height - 8} text-anchor=middle>{100 * t:+.0f}</text>"
        if signed
        else f"<line class=grid x1={x(t):.1f} x2={x(t):.1f} y1=6 y2={height - 26} />"
        f"<text class=tick x={x(t):.1f} y={height - 8} text-anchor=middle>{100 * t:.0f}</text>"
        for t in ticks
    ]
    if signed:
        parts.append(f"<line class=zero x1={x(0):.1f} x2={x(0):.1f} y1=6 y2={height - 26} />")
    for row, dot in enumerate(dots):
        y = ROW * row + 20
        said = f"{100 * dot.value:+.1f}" if signed else f"{100 * dot.value:.1f}"
        parts.append(
            f"<text class=name x={LABEL - 12} y={y + 4} text-anchor=end>{escape(_short(dot.label))}</text>"
            f"<line class=whisker x1={x(dot.low):.1f} x2={x(dot.high):.1f} y1={y} y2={y} />"
            f"<circle class=dot cx={x(dot.value):.1f} cy={y} r=5 />"
            f"<text class=value x={x(dot.high) + 8:.1f} y={y + 4}>{said}</text>"
        )
    return _svg(parts, height, title)


def bars(rows: Sequence[Bar], title: str = "") -> str:
    """One thin bar for each part, on a common axis from 0 to 100."""
    if not rows:
        return ""
    parts = []
    y = 8
    scale = WIDTH - LABEL - 170
    for row in rows:
        parts.append(f"<text class=name x={LABEL - 12} y={y + 12} text-anchor=end>{escape(_short(row.label))}</text>")
        for number, (name, value) in enumerate(row.parts):
            parts.append(
                f"<rect class='bar c{number % 4}' x={LABEL} y={y} width={max(1.0, scale * value):.1f} height=12 rx=2 />"
                f"<text class=value x={LABEL + scale * value + 8:.1f} y={y + 10}>"
                f"{100 * value:.0f} % {escape(name)}</text>"
            )
            y += 16
        y += 8
    return _svg(parts, y + 4, title)


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    caption = f"<figcaption>{escape(title)}</figcaption>" if title else ""
    return (
        f"<figure><svg viewBox='0 0 {WIDTH} {height:.0f}' role=img aria-label='{escape(title, quote=True)}'>"
        f"{''.join(parts)}</svg>{caption}</figure>"
    )


def _ticks(low: float, high: float) -> list[float]:
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / s <= 10.5)
    first = int(low / step) - 1
    return [t * step for t in range(first, int(high / step) + 2) if low - 1e-9 <= t * step <= high + 1e-9]


def _short(label: str, longest: int = 30) -> str:
    return label if len(label) <= longest else f"{label[: longest - 1]}…"
