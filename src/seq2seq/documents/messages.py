"""JSON files of messages, as programs read them: the texts are translated, and all else stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from seq2seq.console import counted, warn
from seq2seq.documents.markup import PLURAL, inline_in_html, markup_pieces
from seq2seq.documents.pieces import Piece
from seq2seq.errors import DataError

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_COLON = re.compile(r"\s*:")
_LINE = re.compile(r"(\n)")


def message_pieces(text: str, name: str, *, inline_tags: bool = False) -> Iterator[Piece]:
    """Pieces of a JSON object whose values, or those of the objects in it, are messages.

    Keys stay, and so does what stands under a key that begins with `@`, as in ARB files. Messages with plural forms
    stay, too; their number is reported.

    Args:
        text: content of the file.
        name: the file, for messages.
        inline_tags: whether tags are put into the translations; else the texts between them are translated apart.

    Raises:
        DataError: it is no JSON.
    """
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"not JSON: {getattr(error, 'msg', 'nested too deeply')}",
            where=f"{name}:{getattr(error, 'lineno', 1)}",
            hint="check it with jq",
            code="data.json",
        ) from None
    path: list[str] = []
    key, last, plural = "", 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in "{[":
            path.append(key)
        elif token[0] in "}]":
            key = path.pop()
        elif _COLON.match(text, token.end()):
            key = json.loads(token[0])
        elif not any(each.startswith("@") for each in (key, *path)):
            message = json.loads(token[0])
            if PLURAL.search(message):
                plural += 1
                continue
            before = text[last : token.start()] + '"'
            for piece in markup_pieces(
                message, escaped=False, is_inline=inline_in_html if inline_tags else None, line_break=_LINE
            ):
                yield _escaped(piece)._replace(before=before + _in_json(piece.before))
                before = ""
            last = token.end()
            yield Piece(before + '"')
    yield Piece(text[last:])
    if plural:
        warn(f"{name}: {counted(plural, 'message')} with plural forms (ICU) stay without a translation")


def _escaped(piece: Piece) -> Piece:
    tags = tuple(tag._replace(markup=_in_json(tag.markup)) for tag in piece.tags)
    return piece._replace(after=_in_json(piece.after), form=_in_json, tags=tags)


def _in_json(text: str) -> str:
    """A text as it stands between the quotation marks of JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
