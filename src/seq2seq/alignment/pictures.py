"""Pictures of attention as in figure 3 of Bahdanau et al. 2015: source words across, target words down.

SVG and PNG have the same drawing: a panel for each layer (row) and head (column), with darker cells for higher weights.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich.cells import cell_len

from seq2seq.alignment.matrix import AttentionMatrix, draw_attention, readable_label
from seq2seq.alignment.word_alignment import AlignmentOptions, PairAttention
from seq2seq.alignment.words import Segments
from seq2seq.errors import UsageError
from seq2seq.sealed_records import SentenceAttention
from seq2seq.special_tokens import EOS, SPECIAL_TOKENS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image, ImageFont

_CELL = 20
_FONT = 13
_CHARACTER = 7.6
"""Average width of a character."""
_MARGIN = 24
_LONGEST_LABEL = 30
_MOST_PIXELS = 2**27
# The first font that is installed is used; Pillow has a Latin one.
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "Arial.ttf", "arial.ttf")


class Panel(NamedTuple):
    """A titled matrix."""

    title: str
    matrix: AttentionMatrix


Grid = Sequence[Sequence[Panel]]
"""Rows of panels."""


def attention_grid(
    pair: PairAttention, options: AlignmentOptions, *, all_layers: bool, all_heads: bool, words: bool
) -> Grid:
    """The panel of the layer and head of `options`, or a row for every layer, or a panel for every head.

    Raises:
        UsageError: an unknown layer or head.
    """
    layers, heads = (range(1, count + 1) for count in pair.weights.shape[:2])
    return [
        [
            Panel(_title(chosen), pair.matrix(chosen, words=words))
            for head in (heads if all_heads else [options.head])
            for chosen in [AlignmentOptions(layer, head, options.shift)]
        ]
        for layer in (layers if all_layers else [options.layer])
    ]


def svg_picture(grid: Grid) -> str:
    """The panels as an SVG document; a tooltip on each cell shows its words and weight."""
    elements, width, height = svg_elements(grid)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="{_FONT}">\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(elements) + "\n</svg>\n"
    )


def svg_elements(grid: Grid, least: float = 0.0) -> tuple[list[str], float, float]:
    """The elements of an SVG of the panels, whose colours a style sheet can change, and its width and height.

    Cells with smaller weights than `least` are left out.
    """
    placed, width, height = _layout(grid, lambda text: _CHARACTER * cell_len(text))
    canvas = _Svg(least)
    for panel in placed:
        panel.paint(canvas)
    return canvas.parts, width, height


def png_picture(grid: Grid) -> bytes:
    """The panels as a PNG file, twice the size of the SVG.

    Characters that the font lacks are drawn as boxes; SVG and HTML use the fonts of the browser.

    Raises:
        UsageError: the picture is too large.
    """
    content = io.BytesIO()
    _drawn(grid, 2).save(content, "PNG")
    return content.getvalue()


def attention_picture(sentence: SentenceAttention) -> npt.NDArray[np.uint8]:
    """Grey levels [H W] of the attention of a sentence.

    Raises:
        UsageError: the picture is too large.
    """
    import numpy as np

    return np.asarray(_drawn(sentence_grid(sentence), 1))


def sentence_grid(sentence: SentenceAttention) -> Grid:
    """The single panel of the attention of a sentence."""
    weights = torch.tensor(sentence.weights, dtype=torch.float32) / 100
    return [[Panel("", AttentionMatrix(sentence.source_words, sentence.target_words, weights))]]


def _drawn(grid: Grid, scale: int) -> Image.Image:
    from PIL import Image

    font = _font(_FONT * scale)
    placed, width, height = _layout(grid, lambda text: font.getlength(text) / scale)
    size = round(width * scale), round(height * scale)
    if size[0] * size[1] > _MOST_PIXELS:
        raise UsageError(
            f"a PNG of {size[0]:,} x {size[1]:,} pixels is too large",
            hint="choose .svg, or one --layer and --head",
            code="usage.picture",
        )
    canvas = _Png(Image.new("L", size, 255), font, scale)
    for panel in placed:
        panel.paint(canvas)
    return canvas.image


def text_picture(grid: Grid, *, encoding: str | None = None) -> str:
    """The panels as text, one below the other; `encoding` is by default that of stdout."""
    panels = [panel for row in grid for panel in row]
    drawn = ((panel.title, draw_attention(panel.matrix, encoding=encoding)) for panel in panels)
    return "\n\n".join(f"{title}\n{text}" if title else text for title, text in drawn)


class _Svg:
    """Elements of an SVG document; y grows downward, as in `_Png`."""

    def __init__(self, least: float) -> None:
        self.parts: list[str] = []
        self._least = least

    def text(self, x: float, y: float, text: str, anchor: str) -> None:
        """Text that starts at x, ends at x (`end`), or runs upward from y (`up`); the other one is its middle."""
        place = f'x="{x:.1f}" y="{y:.1f}" dominant-baseline="central"'
        turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if anchor == "up" else ""
        end = ' text-anchor="end"' if anchor == "end" else ""
        if text:
            self.parts.append(f"<text {place}{end}{turn}>{escape(text)}</text>")

    def cell(self, x: float, y: float, weight: float, tip: str) -> None:
        """A shaded square with its upper left corner at (x, y)."""
        if weight >= self._least:
            self.parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{_CELL}" height="{_CELL}" fill-opacity="{weight:.3f}">'
                f"<title>{escape(tip)}</title></rect>"
            )

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        self.parts.append(
            f'<rect class="frame" x="{x:.1f}" y="{y:.1f}" width="{width}" height="{height}" fill="none" stroke="#888"/>'
        )


class _Png:
    """A greyscale image with the same methods."""

    def __init__(self, image: Image.Image, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, scale: int) -> None:
        from PIL import ImageDraw

        self.image, self.font, self.scale = image, font, scale
        self.drawing = ImageDraw.Draw(image)

    def text(self, x: float, y: float, text: str, anchor: str) -> None:
        from PIL import Image, ImageDraw

        x, y = x * self.scale, y * self.scale
        if not text:
            return
        if anchor != "up":
            self.drawing.text((x, y), text, fill=0, font=self.font, anchor="rm" if anchor == "end" else "lm")
            return
        length, height = round(self.font.getlength(text)) + 1, 2 * _FONT * self.scale
        level = Image.new("L", (length, height), 255)
        ImageDraw.Draw(level).text((0, height / 2), text, fill=0, font=self.font, anchor="lm")
        upright = level.rotate(90, expand=True)
        self.image.paste(upright, (round(x - height / 2), round(y - length)), upright.point(lambda grey: 255 - grey))

    def cell(self, x: float, y: float, weight: float, tip: str) -> None:
        left, top, size = round(x * self.scale), round(y * self.scale), _CELL * self.scale
        self.drawing.rectangle((left, top, left + size - 1, top + size - 1), fill=_grey(weight))

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        left, top = round(x * self.scale), round(y * self.scale)
        right, bottom = left + round(width * self.scale), top + round(height * self.scale)
        self.drawing.rectangle((left, top, right, bottom), outline=136)


class _Placed(NamedTuple):
    x: float
    """Left edge of the cells."""
    y: float
    """Upper edge of the cells."""
    top: float
    """Middle of the title."""
    title: str
    sources: list[str]
    targets: list[str]
    weights: list[list[float]]

    def paint(self, canvas: _Svg | _Png) -> None:
        canvas.text(self.x, self.top, self.title, "start")
        for column, source in enumerate(self.sources):
            canvas.text(self.x + (column + 0.5) * _CELL, self.y - 5, source, "up")
        for row, (target, weights) in enumerate(zip(self.targets, self.weights, strict=True)):
            y = self.y + row * _CELL
            canvas.text(self.x - 6, y + 0.5 * _CELL, target, "end")
            for column, (source, weight) in enumerate(zip(self.sources, weights, strict=True)):
                canvas.cell(self.x + column * _CELL, y, weight, f"{target} ← {source}: {weight:.2f}")
        canvas.frame(self.x, self.y, len(self.sources) * _CELL, len(self.targets) * _CELL)


def _layout(grid: Grid, measure: Callable[[str], float]) -> tuple[list[_Placed], float, float]:
    """The placed panels, and the width and height of the picture."""
    placed: list[_Placed] = []
    width = y = float(_MARGIN)
    for row in grid:
        x = float(_MARGIN)
        bottom = y
        for title, matrix in row:
            sources = [readable_label(piece, _LONGEST_LABEL) for piece in matrix.source_pieces]
            targets = [readable_label(piece, _LONGEST_LABEL) for piece in matrix.target_pieces]
            left = x + max(map(measure, targets)) + 6
            above = y + (_FONT + 8 if title else 0)
            top = above + max(map(measure, sources)) + 5
            placed.append(_Placed(left, top, y + _FONT / 2, title, sources, targets, matrix.weights.tolist()))
            x = max(left + len(sources) * _CELL, left + measure(title)) + _MARGIN
            bottom = max(bottom, top + len(targets) * _CELL)
        width, y = max(width, x), bottom + _MARGIN
    return placed, width, y


def _title(options: AlignmentOptions) -> str:
    parts = (("layer", options.layer), ("head", options.head))
    return ", ".join(f"{name} {number}" for name, number in parts if number is not None)


def _grey(weight: float) -> int:
    return 255 - round(255 * min(1.0, max(0.0, weight)))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


_LONGEST_PAGE_LABEL = 40


def html_page(pairs: Sequence[PairAttention], options: AlignmentOptions) -> str:
    """A self-contained page on which pairs, layers and heads can be chosen; `options` are shown first.

    Weights are stored in steps of 1/255. A piece of several words counts for the word with the largest share.

    Raises:
        UsageError: there are no pairs, or an unknown layer or head.
    """
    if not pairs:
        raise UsageError("there is no sentence to show", hint="give some text", code="usage.picture")
    pairs[0].chosen(options)
    data = {
        "layer": options.layer or 0,
        "head": options.head or 0,
        "shift": options.shift,
        "pairs": [_pair(pair) for pair in pairs],
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    template = files("seq2seq.alignment").joinpath("attention_page.html").read_text(encoding="utf-8")
    # A text with `</script>` would end the data.
    return template.replace("@DATA@", text.replace("<", "\\u003c"))


def _pair(pair: PairAttention) -> dict[str, Any]:
    levels = (pair.weights.clamp(0, 1) * 255).round().to(torch.uint8).contiguous()
    return {
        "source": _side(pair.source),
        "target": _side(pair.target),
        "layers": pair.weights.shape[0],
        "heads": pair.weights.shape[1],
        "weights": base64.b64encode(bytes(levels.flatten().tolist())).decode("ascii"),
    }


def _side(segments: Segments) -> dict[str, Any]:
    end = SPECIAL_TOKENS[EOS]
    labels = [readable_label(piece, _LONGEST_PAGE_LABEL) for piece in segments.pieces]
    most, owners = (
        segments.shares.max(dim=1) if segments.words else (torch.zeros(len(labels)), torch.zeros(len(labels)))
    )
    words = [int(word) if share > 0 else -1 for share, word in zip(most.tolist(), owners.tolist(), strict=True)]
    return {
        "pieces": [*labels, end],
        "words": [*(readable_label(word, _LONGEST_PAGE_LABEL) for word in segments.words), end],
        "word": [*words, len(segments.words)],
    }
