"""Attention of a translation on a page, without scripts: words that light up on hover, and a matrix as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rich.cells import cell_len

from seq2seq.alignment.matrix import readable_label
from seq2seq.sealed_records import SentenceAttention

_LEAST = 5
"""Smaller weights, in percent, are not shown."""
_CELL, _CHARACTER, _GAP = 18, 7.4, 6
_LONGEST_LABEL = 18


def hover_rules(name: str, found: SentenceAttention) -> str:
    """CSS that shades the words of one side while a word of the other is hovered or tapped, in the element `name`."""
    rules = []
    for row, weights in enumerate(found.weights):
        rules += [_rule(name, f"t{row}", f"s{column}", weight) for column, weight in enumerate(weights)]
    for column in range(len(found.source_words)):
        rules += [_rule(name, f"s{column}", f"t{row}", weights[column]) for row, weights in enumerate(found.weights)]
    return "".join(rules)


def _rule(name: str, pointed: str, shaded: str, weight: int) -> str:
    return f"#{name}:has(.{pointed}:is(:hover,:focus)) .{shaded}{{--w:{weight}}}\n" if weight >= _LEAST else ""


def hover_words(text: str, words: Sequence[str], side: str) -> str | None:
    """A text whose words can be hovered, and its end mark; None if they are not its words, apart from a target tag.

    Args:
        words: the end mark last.
        side: `s` or `t`, as the rules name them.
    """
    found = text.split()
    tag = found[: -len(words) + 1] if len(words) > 1 else found
    if len(tag) > 1 or [*tag, *words[:-1]] != found:
        return None
    # Words can be tapped, but the tab key passes them by.
    marked = [f'<span class="{side}{n}" tabindex="-1">{escape(word)}</span>' for n, word in enumerate(words[:-1])]
    end = f'<span class="{side}{len(words) - 1} end" tabindex="-1">end</span>'
    return " ".join([*map(escape, tag), *marked, end])


def matrix(found: SentenceAttention) -> str:
    """SVG of the weights: source words across, target words down, deeper colour for more attention."""
    sources, targets = ([readable_label(word, _LONGEST_LABEL) for word in side] for side in _sides(found))
    left, top = (_CHARACTER * max(map(cell_len, side)) + 2 * _GAP for side in (targets, sources))
    width, height = left + _CELL * len(sources), top + _CELL * len(targets)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + _GAP:.0f}" height="{height + _GAP:.0f}" role="img" '
        'aria-label="attention">',
        f'<rect class="frame" x="{left:.0f}" y="{top:.0f}" width="{width - left:.0f}" height="{height - top:.0f}"/>',
    ]
    for column, word in enumerate(sources):
        x = left + (column + 0.5) * _CELL + 4
        turn = f'transform="rotate(-90 {x:.0f} {top - _GAP:.0f})"'
        parts.append(f'<text x="{x:.0f}" y="{top - _GAP:.0f}" {turn}>{escape(word)}</text>')
    for row, (word, weights) in enumerate(zip(targets, found.weights, strict=True)):
        y = top + row * _CELL
        parts.append(f'<text x="{left - _GAP:.0f}" y="{y + 13:.0f}" text-anchor="end">{escape(word)}</text>')
        for column, weight in enumerate(weights):
            if weight >= _LEAST:
                told = f"{escape(word)} ← {escape(sources[column])}: {weight} %"
                parts.append(
                    f'<rect x="{left + column * _CELL:.0f}" y="{y:.0f}" width="{_CELL}" height="{_CELL}" '
                    f'fill-opacity="{weight / 100:.2f}"><title>{told}</title></rect>'
                )
    return "".join([*parts, "</svg>"])


def _sides(found: SentenceAttention) -> tuple[list[str], list[str]]:
    """Words of both sides, with `end` in place of the end mark."""
    return [*found.source_words[:-1], "end"], [*found.target_words[:-1], "end"]
