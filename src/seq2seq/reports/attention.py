"""Attention of a translation on a page, without scripts: words that light up on hover, and a matrix as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from seq2seq.alignment.pictures import sentence_grid, svg_elements
from seq2seq.sealed_records import SentenceAttention

_LEAST = 5
"""Smaller weights, in percent, are not shown."""


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
    source, target = ([*words[:-1], "end"] for words in (found.source_words, found.target_words))
    grid = sentence_grid(found.model_copy(update={"source_words": source, "target_words": target}))
    elements, width, height = svg_elements(grid, _LEAST / 100)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" role="img"'
    return "".join([f'{head} aria-label="attention">', *elements, "</svg>"])
