"""Lines of text as bytes define them: split on the newline byte and nothing else.

`str.splitlines` and text-mode files also break lines at U+0085, U+2028, form feeds or a lone carriage return.
Real corpora contain all of these inside sentences, and one extra line on one side shifts every pair after it.
"""

from __future__ import annotations

import bz2
import difflib
import gzip
import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

from seq2seq import console
from seq2seq.data.archives import ARCHIVE, member_names, open_member, split_member
from seq2seq.errors import DataError

DecodingErrors = Literal["strict", "replace"]

_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile)

_LONGEST_LINE = 1 << 26
"""Bytes. Whatever has longer lines is no text of sentences, and reading it would fill the memory."""


def read_lines(path: str | Path, errors: DecodingErrors = "strict", *, option: str = "") -> Iterator[str]:
    """The lines of a UTF-8 file (plain, .gz, .xz or .bz2) without their ends; a byte-order mark at the start is
    dropped. The file may be a URL, or a member of an archive: see `locate`. `option` is how the user may ask for
    errors="replace" where this file is read, for the hint; empty where there is no way.

    Raises:
        DataError: the file is missing, unreadable or damaged, has a line of more than 64 MiB, or (with
            errors="strict") holds bytes that are not UTF-8.
        NetworkError, ResourceError, UsageError: as `open_binary`.
    """
    path = Path(path)
    with open_binary(path) as stream:
        yield from decode_lines(stream, str(path), errors, option=option)


def decode_lines(
    stream: BinaryIO, name: str, errors: DecodingErrors = "strict", *, option: str = "--errors replace"
) -> Iterator[str]:
    """The same for an open binary stream such as stdin; `name` stands for it in messages.

    How many lines had a carriage return at their end, or a byte-order mark, is told at the end.
    """
    number = returns = 0
    mark = False
    try:
        for number, raw in enumerate(iter(partial(stream.readline, _LONGEST_LINE), b""), start=1):
            if len(raw) == _LONGEST_LINE:
                raise DataError(
                    f"a line of more than {_LONGEST_LINE / 2**20:.0f} MiB: not a text of sentences",
                    where=f"{name}:{number}",
                    hint="check that it is the right file",
                    code="data.line-length",
                )
            if number == 1:
                mark = raw.startswith(_UTF8_BOM)
                raw = raw.removeprefix(_UTF8_BOM)
            raw = raw.removesuffix(b"\n")
            if raw.endswith(b"\r"):
                raw = raw[:-1]
                returns += 1
            try:
                text = raw.decode("utf-8", errors)
            except UnicodeDecodeError as error:
                raise _not_utf8(raw, error, f"{name}:{number}", option, first=number == 1) from None
            yield text
    except _DAMAGED as error:
        raise _damaged(name, number, error) from None
    except OSError as error:
        # bz2 reports damage as a plain OSError without an errno.
        if error.errno is None:
            raise _damaged(name, number, error) from None
        raise DataError(
            f"cannot read {name}: {error.strerror}",
            where=f"{name}:{number + 1}",
            hint="check the disk, and that it is a file of text",
            code="data.no-file",
        ) from error
    if mark or returns:
        found = ["a byte-order mark"] if mark else []
        found += [f"{returns:,} carriage return{'s'[: returns - 1]}"] if returns else []
        console.say(f"{name}: stripped {' and '.join(found)}")


def digest(path: Path) -> tuple[int, str]:
    """Bytes and SHA-256 of what `open_binary` reads. Raises as `read_lines`."""
    sha256, size = hashlib.sha256(), 0
    with open_binary(path) as stream:
        try:
            while piece := stream.read(1 << 20):
                sha256.update(piece)
                size += len(piece)
        except (*_DAMAGED, OSError) as error:
            raise _damaged(str(path), 0, error) from None
    return size, sha256.hexdigest()


class Located(NamedTuple):
    """Where bytes lie on this machine: a file, or a member of an archive."""

    file: Path
    member: str | None = None


def locate(path: Path) -> Located:
    """Where a name leads: a URL to its copy in the cache, a path through an archive (`corpus.zip/train.de`) to the
    archive and its member.

    Raises:
        NetworkError, ResourceError, UsageError: a URL cannot be fetched.
    """
    from seq2seq.data.address import is_url, refuse_other_scheme
    from seq2seq.data.fetch import fetch

    if not is_url(path):
        if path.exists():
            return Located(path)
        refuse_other_scheme(path)
        file, member = split_member(path.as_posix())
        return Located(Path(file), member)
    name, mark, fragment = str(path).partition("#")
    file, member = split_member(name)
    return Located(fetch(file + mark + fragment), member)


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading bytes, unpacked according to its suffix; see `locate` for the names that it may have.

    Raises:
        DataError: there is no such file (near names are suggested), or it cannot be opened.
        NetworkError: it is a URL that cannot be fetched, or lies in an archive that is not safe to read.
        ResourceError, UsageError: the cache of fetched files cannot be written.
    """
    file, member = locate(path)
    if member is not None and file.is_file():
        return open_member(file, member)
    if member is not None:
        missing = path if file.is_dir() else file  # a folder may be called corpus.zip, too
        raise DataError(f"no such file: {missing}", where=str(path), hint=suggest_file(missing), code="data.no-file")
    if ARCHIVE.fullmatch(file.name) and file.is_file():
        raise DataError(
            f"{path} is an archive, not a text",
            where=str(path),
            hint="name a file in it: " + ", ".join(f"{path}/{name}" for name in member_names(file)[:4]),
            code="data.no-file",
        )
    try:
        match file.suffix.lower():
            case ".gz":
                return cast(BinaryIO, gzip.open(file, "rb"))
            case ".xz":
                return cast(BinaryIO, lzma.open(file, "rb"))
            case ".bz2":
                return cast(BinaryIO, bz2.open(file, "rb"))
            case _:
                return file.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"no such file: {path}", where=str(path), hint=suggest_file(path), code="data.no-file"
        ) from None
    except IsADirectoryError:
        hint = f"name a file in it: {suggest_file(path / 'x')}"
        raise DataError(f"{path} is a folder, not a file", where=str(path), hint=hint, code="data.no-file") from None
    except OSError as error:
        raise DataError(
            f"cannot open {path}: {error.strerror or error}",
            where=str(path),
            hint="check the path and its permissions",
            code="data.no-file",
        ) from None


def suggest_file(path: Path) -> str:
    """A hint for a missing file: names in its folder that look alike."""
    folder = path.parent
    if str(path).startswith("~") or "$" in str(path):
        return "~ and variables are the shell's: they mean nothing here, write the whole path"
    if folder.exists() and not folder.is_dir():
        return f"{folder} is a file, not a folder"
    if not folder.is_dir():
        return f"the folder {folder} does not exist either; relative paths start from {Path.cwd()}"
    names = sorted(entry.name for entry in folder.iterdir())
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(str(folder / name) for name in near) + "?"
    return f"{folder} holds " + (", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "no files")


def _not_utf8(raw: bytes, error: UnicodeDecodeError, place: str, option: str, *, first: bool) -> DataError:
    hint = "convert the text, e.g. iconv -f LATIN1 -t UTF-8"
    if first and raw.startswith(_UTF16_BOMS):
        hint = "the file looks like UTF-16; convert it: iconv -f UTF-16 -t UTF-8"
    elif option:
        hint = f"{hint}; or {option} puts U+FFFD there"
    return DataError(
        f"not UTF-8: byte 0x{raw[error.start]:02x} at byte {error.start} of the line",
        where=place,
        hint=hint,
        code="data.encoding",
    )


def _damaged(name: str, number: int, error: Exception) -> DataError:
    return DataError(
        f"damaged or not a {Path(name).suffix} file: {error}",
        where=f"{name}:{number + 1}",
        hint="fetch or pack the file again",
        code="data.compression",
    )
