"""Lines of text as bytes define them: split on the newline byte and nothing else.

`str.splitlines` and text-mode files also break lines at U+0085, U+2028, form feeds or a lone carriage return.
Real corpora contain all of these inside sentences, and one extra line on one side shifts every pair after it.
"""

from __future__ import annotations

import bz2
import difflib
import gzip
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, cast

from seq2seq.errors import DataError

DecodingErrors = Literal["strict", "replace"]

_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


def read_lines(path: str | Path, errors: DecodingErrors = "strict") -> Iterator[str]:
    """The lines of a UTF-8 file (plain, .gz, .xz or .bz2) without their ends; a byte-order mark at the start
    is dropped.

    Raises:
        DataError: the file is missing, unreadable or damaged, or (with errors="strict") holds bytes that are
            not UTF-8.
    """
    path = Path(path)
    with open_binary(path) as stream:
        yield from decode_lines(stream, str(path), errors)


def decode_lines(stream: BinaryIO, name: str, errors: DecodingErrors = "strict") -> Iterator[str]:
    """The same for an open binary stream such as stdin; `name` stands for it in messages."""
    number = 0
    try:
        for number, raw in enumerate(stream, start=1):
            if number == 1:
                raw = raw.removeprefix(_UTF8_BOM)
            raw = raw.removesuffix(b"\n").removesuffix(b"\r")
            try:
                text = raw.decode("utf-8", errors)
            except UnicodeDecodeError as error:
                raise _not_utf8(raw, error, name, number) from None
            yield text
    except _DAMAGED as error:
        raise _damaged(name, number, error) from None
    except OSError as error:
        # bz2 reports damage as a plain OSError without an errno.
        if error.errno is None:
            raise _damaged(name, number, error) from None
        raise DataError(f"cannot read {name}: {error.strerror}", where=f"{name}:{number + 1}") from error


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading bytes, unpacked according to its suffix.

    Raises:
        DataError: there is no such file (near names are suggested), or it cannot be opened.
    """
    try:
        match path.suffix.lower():
            case ".gz":
                return cast(BinaryIO, gzip.open(path, "rb"))
            case ".xz":
                return cast(BinaryIO, lzma.open(path, "rb"))
            case ".bz2":
                return cast(BinaryIO, bz2.open(path, "rb"))
            case _:
                return path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"no such file: {path}", where=str(path), hint=suggest_file(path)) from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not a file", where=str(path)) from None
    except OSError as error:
        raise DataError(f"cannot open {path}: {error.strerror or error}", where=str(path)) from None


def suggest_file(path: Path) -> str:
    """A hint for a missing file: names in its folder that look alike."""
    folder = path.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist either; relative paths start from {Path.cwd()}"
    names = sorted(entry.name for entry in folder.iterdir())
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(str(folder / name) for name in near) + "?"
    return f"{folder} holds " + (", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "no files")


def _not_utf8(raw: bytes, error: UnicodeDecodeError, name: str, number: int) -> DataError:
    replace = "--errors replace" if name == "stdin" else "data.errors=replace (translate: --errors replace)"
    hint = f"{replace} puts U+FFFD there; or convert the text, e.g. iconv -f LATIN1 -t UTF-8"
    if number == 1 and raw.startswith(_UTF16_BOMS):
        hint = "the file looks like UTF-16; convert it: iconv -f UTF-16 -t UTF-8"
    return DataError(
        f"not UTF-8: byte 0x{raw[error.start]:02x} at byte {error.start} of the line",
        where=f"{name}:{number}",
        hint=hint,
    )


def _damaged(name: str, number: int, error: Exception) -> DataError:
    return DataError(
        f"damaged or not a {Path(name).suffix} file: {error}",
        where=f"{name}:{number + 1}",
        hint="fetch or pack the file again",
    )
