"""Bytes of packed files: what opens one, and views of the unpacked stream that are safe to hand on."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

_LARGEST_HEADER = 1 << 20
_BZIP2_BLOCK, _BZIP2_END = bytes.fromhex("314159265359"), bytes.fromhex("177245385090")


class Careful:
    """An unpacked tar stream in which no header can ask for gigabytes of memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        if size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._stream.read(size)

    def seek(self, place: int) -> int:
        """Go to a place."""
        return self._stream.seek(place)

    def tell(self) -> int:
        """The place."""
        return self._stream.tell()


class Part(io.RawIOBase):
    """Some bytes of a stream, which is closed with it."""

    def __init__(self, stream: BinaryIO, start: int, size: int) -> None:
        self._stream, self._left = stream, size
        stream.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(min(len(buffer), self._left))
        if not piece and self._left:
            raise EOFError("the archive ends too early")
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        return len(piece)

    def close(self) -> None:
        self._stream.close()
        super().close()


def packing(path: Path) -> Callable[[Path, str], BinaryIO]:
    """What opens a file for reading its bytes unpacked, by what it begins with."""
    with path.open("rb") as file:
        begin = file.read(10)
    if begin.startswith(b"\x1f\x8b"):
        return cast(Callable[[Path, str], BinaryIO], gzip.open)
    if begin.startswith(b"BZh") and begin[4:] in (_BZIP2_BLOCK, _BZIP2_END):
        return cast(Callable[[Path, str], BinaryIO], bz2.open)
    if begin.startswith(b"\xfd7zXZ\0"):
        return cast(Callable[[Path, str], BinaryIO], lzma.open)
    return cast(Callable[[Path, str], BinaryIO], open)
