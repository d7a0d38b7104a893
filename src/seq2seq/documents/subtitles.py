"""Subtitles (SubRip and WebVTT): numbers, times and notes stay, and the lines of a cue are one text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import accumulate, chain

from seq2seq.documents.markup import every_element, markup_pieces
from seq2seq.documents.pieces import Piece

_TIMES = re.compile(r"\s*(?:\d+:)?\d+:\d+[,.]\d+\s+-->\s")
_SPEAKER = re.compile(r"\s*(?:[-\u2013\u2014]|<v\b)")
_PARTS = re.compile(r"<[^>]*>| |[^< ]+|<")
_START = re.compile(r"(?:\{\\[^{}]*\})*(?:[-\u2013\u2014](?!\d)\s*)?")
"""Position and style, as in SubStation Alpha (`{\\an8}`), and the dash of a speaker."""


def subtitle_pieces(lines: Iterable[str], *, escaped: bool, inline_tags: bool = False) -> Iterator[Piece]:
    """Pieces of subtitles; `escaped` says whether they have character references, as WebVTT does.

    The lines of a cue are one text, whose translation has as many lines, unless each begins with a dash or a name, as
    where two persons speak.
    """
    before = ""
    cue: list[str] | None = None
    for line in chain(lines, [""]):
        if cue is not None and line.strip():
            cue.append(line)
            continue
        if cue:
            for text in cue if all(map(_SPEAKER.match, cue)) else ["\n".join(cue)]:
                start = _START.match(text)
                before, text = before + start[0], text[start.end() :]  # type: ignore[index, union-attr]
                is_inline = every_element if inline_tags else None
                layout = partial(_in_lines, count=1 + text.count("\n")) if inline_tags or "<" not in text else str
                for piece in markup_pieces(text, escaped=escaped, is_inline=is_inline):
                    yield piece._replace(before=before + piece.before, layout=layout)
                    before = ""
                before += "\n"
        before += line + "\n"
        cue = [] if _TIMES.match(line) else None
    yield Piece(before[:-1])


def _in_lines(text: str, count: int) -> str:
    """A text in lines of about the same length, fewer if it has too few spaces."""
    parts = _PARTS.findall(text)
    widths = [0 if part.startswith("<") else len(part) for part in parts]
    spaces = [number for number, part in enumerate(parts) if part == " "]
    before = list(accumulate(widths, initial=0))
    for line in range(1, count):
        if not spaces:
            break
        place = min(spaces, key=lambda number: abs(before[number] - line * before[-1] / count))
        parts[place] = "\n"
        spaces = [number for number in spaces if number > place]
    return "".join(parts)
