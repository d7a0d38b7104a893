"""Line charts as inline SVG, without scripts: axes with ticks, the best point named, and every value on hover."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT = 560, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 14, 40, 46
"""Above the curves stand the name of the best point, and higher the value on hover."""
_MOST_POINTS = 300
"""Longer curves are thinned: more points than pixels cost space alone."""
_MOST_DOTS = 60
"""Curves of more points are drawn without dots."""
_HIT_RADIUS = 9

Place = Callable[[float, float], tuple[float, float]]


class Curve(NamedTuple):
    """Named points (x, y) of one line."""

    name: str
    points: Sequence[tuple[float, float]]
    best: tuple[float, float] | None = None
    """A point to mark, with its value."""


def line_chart(title: str, curves: Sequence[Curve]) -> str:
    """SVG element with the curves, and their names below; empty if there is no finite point."""
    kept = [curve._replace(points=_thinned(curve.points)) for curve in curves]
    kept = [curve for curve in kept if curve.points]
    if not kept:
        return ""
    marks = [curve.best for curve in kept if curve.best is not None]
    xs = [x for curve in kept for x, _ in curve.points] + [x for x, _ in marks]
    ys = [y for curve in kept for _, y in curve.points] + [y for _, y in marks]
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">',
        *_axes(x_ticks, y_ticks, place),
    ]
    for number, curve in enumerate(kept):
        parts += _drawn(number, curve, place)
    parts.append("</svg>")
    if len(kept) > 1:
        names = "".join(f'<span class="c{n % 6}">&#9632; {escape(curve.name)}</span> ' for n, curve in enumerate(kept))
        parts.append(f'<p class="legend">{names}</p>')
    return "".join(parts)


def _axes(x_ticks: Sequence[float], y_ticks: Sequence[float], place: Place) -> list[str]:
    parts = []
    for value in y_ticks:
        _, y = place(x_ticks[0], value)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_tick(value)}</text>')
    for value in x_ticks:
        x, y = place(value, y_ticks[0])
        # The last label would be cut at the edge.
        anchor = "end" if value == x_ticks[-1] else "middle"
        edge = x + _RIGHT - 2 if value == x_ticks[-1] else x
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{edge:.1f}" y="{y + 18:.1f}" text-anchor="{anchor}">{_tick(value)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return [*parts, f'<text x="{middle}" y="{_HEIGHT - 5}" text-anchor="middle">step</text>']


def _drawn(number: int, curve: Curve, place: Place) -> list[str]:
    """A curve: its line, its dots, and the value of each, which stands in the upper right corner on hover."""
    places = [place(x, y) for x, y in curve.points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dense = " dense" if len(places) > _MOST_DOTS else ""
    parts = [f'<g class="curve c{number % 6}{dense}"><polyline points="{line}"/>']
    for (x, y), (left, down) in zip(curve.points, places, strict=True):
        told = escape(f"{curve.name} {y:.4g} at step {x:,.0f}")
        at = f'cx="{left:.1f}" cy="{down:.1f}"'
        parts.append(
            f'<g><circle class="hit" {at} r="{_HIT_RADIUS}"/><circle class="dot" {at} r="3"/>'
            f'<text class="value" x="{_WIDTH - _RIGHT}" y="14" text-anchor="end">{told}</text></g>'
        )
    if curve.best is not None:
        left, down = place(*curve.best)
        anchor, side = ("end", -12) if left > _WIDTH / 2 else ("start", 12)
        parts.append(
            f'<circle class="best" cx="{left:.1f}" cy="{down:.1f}" r="6" pointer-events="none"/>'
            f'<text class="name" x="{left + side:.1f}" y="{down - 10:.1f}" text-anchor="{anchor}">'
            f"best {curve.best[1]:.4g}</text>"
        )
    return [*parts, "</g>"]


def ticks(low: float, high: float) -> list[float]:
    """Three to eight round values at equal distances that include the range."""
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-300):
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.999 * rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [point for point in points if all(map(math.isfinite, point))]
    if len(finite) <= _MOST_POINTS:
        return finite
    kept = finite[:: -(-len(finite) // _MOST_POINTS)]
    return kept if kept[-1] == finite[-1] else [*kept, finite[-1]]


def _tick(value: float) -> str:
    """A number in little space: 2,500 and 25k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / min(size, 1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
