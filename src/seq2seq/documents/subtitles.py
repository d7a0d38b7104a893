"""Subtitles (SubRip and WebVTT): numbers, times and notes stay, and the lines of a cue are one text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from seq2seq.documents.markup import every_element, markup_pieces
from seq2seq.documents.pieces import Piece

_TIMES = re.compile(r"\s*(?:\d+:)?\d+:\d+[,.]\d+\s+-->\s")
_SPEAKER = re.compile(r"\s*(?:[-\u2013\u2014]|<v\b)")
_STYLE = re.compile(r"(?:\{\\[^{}]*\})+")
"""Position and style, as in SubStation Alpha: `{\\an8}`."""


def subtitle_pieces(lines: Iterable[str], *, escaped: bool, inline_tags: bool = False) -> Iterator[Piece]:
    """Pieces of subtitles; `escaped` says whether they have character references, as WebVTT does.

    The lines of a cue become one line, unless each begins with a dash or a name, as where two persons speak.
    """
    before = ""
    cue: list[str] | None = None
    for line in chain(lines, [""]):
        if cue is not None and line.strip():
            cue.append(line)
            continue
        if cue:
            for text in cue if all(map(_SPEAKER.match, cue)) else ["\n".join(cue)]:
                if style := _STYLE.match(text):
                    before, text = before + style[0], text[style.end() :]
                for piece in markup_pieces(text, escaped=escaped, is_inline=every_element if inline_tags else None):
                    yield piece._replace(before=before + piece.before)
                    before = ""
                before += "\n"
        before += line + "\n"
        cue = [] if _TIMES.match(line) else None
    yield Piece(before[:-1])
