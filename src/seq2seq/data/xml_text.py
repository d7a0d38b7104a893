"""XML of any encoding, read as UTF-8."""

from __future__ import annotations

import codecs
import re
from typing import BinaryIO

from seq2seq.errors import DataError

_HEAD = 1024
_DECLARED = re.compile(r"""(\s*<\?xml[^>]*?\sencoding\s*=\s*["'])([\w.:-]+)""")
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
}
"""Encodings by the first bytes of a file."""


class Utf8Xml:
    """A stream of XML that declares UTF-8, whatever encoding the file has.

    The parser of Python's library knows UTF-8, UTF-16 and encodings of one byte a character, but not Shift_JIS or
    GB18030, for instance.

    Raises:
        DataError: there is no such encoding, or (by `read`) the text is not in it.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream, self._name = stream, name
        head = stream.read(_HEAD)
        encoding = next((found for mark, found in _MARKS.items() if head.startswith(mark)), "")
        declared = _DECLARED.match(head.decode(encoding or "latin-1", "replace"))
        self.encoding = encoding or (declared[2].lower() if declared else "utf-8")
        try:
            "".encode(self.encoding)  # `zip` and others are codecs, but encodings of no text
            self._decoder = codecs.getincrementaldecoder(self.encoding)()
        except (LookupError, UnicodeError):
            raise self._error(f"the encoding {self.encoding!r}, which it declares, is not known") from None
        text = _DECLARED.sub(r"\1UTF-8", self._decoded(head, is_last=len(head) < _HEAD), count=1)
        self._ahead = text.encode("utf-8", "surrogatepass")

    def read(self, size: int = -1) -> bytes:
        """The next bytes, about as many as asked for; none at the end."""
        ahead, self._ahead = self._ahead, b""
        while not ahead or size < 0:
            piece = self._stream.read(size)
            ahead += self._decoded(piece, is_last=not piece).encode("utf-8", "surrogatepass")
            if not piece:
                break
        return ahead

    def _decoded(self, piece: bytes, *, is_last: bool) -> str:
        try:
            return self._decoder.decode(piece, is_last)
        except UnicodeError as error:
            raise self._error(f"it is not in {self.encoding}, as it declares: {error}") from None

    def _error(self, what: str) -> DataError:
        return DataError(what, where=self._name, hint="export the file again, in UTF-8", code="data.encoding")
