"""Line charts as inline SVG: axes with ticks to read values from, and the value of each point as its title."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 40
_MOST_POINTS = 400
"""Longer curves are thinned: more points than pixels cost space alone."""


class Curve(NamedTuple):
    """Named points (x, y) of one line."""

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(title: str, curves: Sequence[Curve], *, x_label: str = "step") -> str:
    """SVG element with the curves; empty if there is no finite point."""
    kept = [Curve(curve.name, _thinned(curve.points)) for curve in curves]
    kept = [curve for curve in kept if curve.points]
    if not kept:
        return ""
    xs = [x for curve in kept for x, _ in curve.points]
    ys = [y for curve in kept for _, y in curve.points]
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">'
    ]
    for value in y_ticks:
        _, y = place(x_ticks[0], value)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    for value in x_ticks:
        x, y = place(value, y_ticks[0])
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{_number(value)}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    for number, curve in enumerate(kept):
        places = [place(x, y) for x, y in curve.points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<g class="curve c{number % 6}"><polyline points="{line}"/>')
        for (x, y), (left, down) in zip(curve.points, places, strict=True):
            told = escape(f"{curve.name}: {y:.4g} at {x_label} {_number(x)}")
            parts.append(f'<circle cx="{left:.1f}" cy="{down:.1f}" r="3"><title>{told}</title></circle>')
        parts.append("</g>")
    parts.append("</svg>")
    if len(kept) > 1:
        names = "".join(f'<span class="c{n % 6}">&#9632; {escape(curve.name)}</span> ' for n, curve in enumerate(kept))
        parts.append(f'<p class="legend">{names}</p>')
    return "".join(parts)


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


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
