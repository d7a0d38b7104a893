"""Files of text: names, compression, and lines.

Lines end at the newline byte and nothing else. `str.splitlines` and text-mode files also break lines at U+0085, U+2028,
form feeds or a lone carriage return. Real corpora contain all of these inside sentences, and one extra line on one side
shifts every pair after it.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import re
import shlex
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast
from urllib.parse import unquote, urlsplit

from seq2seq import console
from seq2seq.atomic_files import suggest_file
from seq2seq.data.archives import ARCHIVE, limit_size, member_names, open_member, split_member
from seq2seq.data.encodings import SAMPLE_BYTES, not_utf8, refuse_other_formats
from seq2seq.errors import CheckpointError, DataError, UsageError

DecodingErrors = Literal["strict", "replace"]
Pair = tuple[str, str]

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
"""An address such as `https://host/file`. A `Path` has lost one of the two slashes."""

_LINE_ENDS = re.compile(r"\r*\n")
_UTF8_BOM = b"\xef\xbb\xbf"
_C1_CONTROL = re.compile(rb"\xc2[\x80\x82-\x84\x86-\x8c\x8e\x91-\x9c\x9e\x9f]")
"""Where Windows-1252 has characters, but for U+0085, which ends lines elsewhere."""
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile)

LONGEST_LINE = 1 << 26
"""In bytes. A file with longer lines is not a text of sentences, and reading it would fill the memory."""


def read_lines(
    path: str | Path, errors: DecodingErrors = "strict", *, option: str = "", silent: bool = False
) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their ends; a byte-order mark at the start is dropped.

    `option` is the setting that asks for errors="replace" where this file is read, for the hint; empty if none. With
    `silent`, nothing is said about what is stripped.

    Raises:
        DataError: the file is missing, unreadable, damaged or compressed under another name, has the line ends of an
            old Mac or a line of more than 64 MiB, or (with errors="strict") holds bytes that are not UTF-8.
        NetworkError, UsageError: as `open_binary`.
    """
    path = Path(path)
    with open_binary(path) as stream:
        yield from decode_lines(stream, str(path), errors, option=option, whole=True, silent=silent)


def decode_lines(
    stream: BinaryIO,
    name: str,
    errors: DecodingErrors = "strict",
    *,
    option: str = "--errors replace",
    whole: bool = False,
    silent: bool = False,
) -> Iterator[str]:
    """Yield the lines of an open binary stream such as stdin, as `read_lines`; `name` stands for it in messages.

    With `whole`, the stream is a file: more of it may be read for a message, and carriage returns alone are refused as
    line ends, which in a stream are part of the one line. Messages at the end count the carriage returns that were
    stripped and, in a file, the lines with C1 controls.
    """
    number = returns = controls = first_control = 0
    mark = False
    try:
        head = _head(stream)
        refuse_other_formats(head, name, by_signature=errors == "replace")
        for number, raw in enumerate(iter(partial(stream.readline, LONGEST_LINE), b""), start=1):
            if whole and number == 1 and not raw.endswith(b"\n") and raw.rstrip(b"\r").count(b"\r") > 1:
                raise _old_mac(name)
            if len(raw) == LONGEST_LINE:
                raise DataError(
                    f"a line of more than {LONGEST_LINE / 2**20:.0f} MiB: not a text of sentences",
                    where=f"{name}:{number}",
                    hint="check that it is the right file",
                    code="data.line-length",
                )
            if number == 1:
                if not head:  # a pipe cannot look further than its first line
                    refuse_other_formats(raw, name, by_signature=errors == "replace")
                mark = raw.startswith(_UTF8_BOM)
                raw = raw.removeprefix(_UTF8_BOM)
            raw = raw.removesuffix(b"\n")
            if raw.endswith(b"\r"):
                returns += len(raw)
                raw = raw.rstrip(b"\r")  # CR CR LF is what a second conversion makes of CR LF
                returns -= len(raw)
            try:
                text = raw.decode("utf-8", errors)
            except UnicodeDecodeError as error:
                sample = raw + b"\n" + stream.read(SAMPLE_BYTES) if whole else raw
                raise not_utf8(raw, error, name, number, sample, option) from None
            if whole and b"\xc2" in raw and _C1_CONTROL.search(raw):
                controls += 1
                first_control = first_control or number
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
    if (mark or returns) and not silent:
        stripped = ["a byte-order mark"] if mark else []
        stripped += [console.counted(returns, "carriage return")] if returns else []
        console.say_once(f"{name}: stripped {' and '.join(stripped)}")
    if controls:
        console.warn_once(
            f"{name}: {console.counted(controls, 'line')} (first: {first_control:,}) with control characters: UTF-8 "
            "or Windows-1252 was read as Latin-1; `seq2seq data check --fix` puts them right"
        )


def paired(left: Iterable[str], right: Iterable[str], names: tuple[str, str]) -> Iterator[Pair]:
    """Yield the pairs of lines of two texts.

    Raises:
        DataError: one of the texts, which `names` names, has more lines.
    """
    counts = [0, 0]
    for source, target in zip_longest(left, right):
        counts[0] += source is not None
        counts[1] += target is not None
        if source is not None and target is not None:
            yield source, target
    if counts[0] != counts[1]:
        raise DataError(
            f"{names[0]} has {console.counted(counts[0], 'line')}, but {names[1]} has {counts[1]:,}",
            where=" | ".join(names),
            hint="line i of one must translate line i of the other; look for lines missing from one side",
            code="data.line-counts",
        )


def one_line(text: str, place: str, errors: DecodingErrors) -> str:
    """Turn a cell of a table into one line of valid Unicode: newlines become spaces.

    Raises:
        DataError: the text holds a lone surrogate (JSON can write one, UTF-8 cannot) and errors="strict".
    """
    if "\n" in text:
        text = _LINE_ENDS.sub(" ", text)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            if errors == "strict":
                raise DataError(
                    f"not valid Unicode: a lone surrogate at character {error.start}",
                    where=place,
                    hint="data.errors=replace puts U+FFFD there",
                    code="data.encoding",
                ) from None
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def open_binary(path: Path) -> BinaryIO:
    """Open a file (plain, .gz, .xz, .bz2 or .zst), or a member of an archive (`corpus.zip/train.de`), to read bytes.

    Raises:
        DataError: there is no such file (similar names are suggested), it cannot be opened, or (while it is read) it
            unpacks to more than `archives.limit_size` allows.
        NetworkError: the archive is not safe to read.
        UsageError: the name is an address, which must be downloaded first.
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
        opener = _OPENERS.get(file.suffix.lower())
        return limit_size(opener(file), file) if opener else file.open("rb")
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


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Open a file as `open_binary`; damage that is found while it is read, or text that is not UTF-8, is an error.

    Raises:
        DataError: as `read_lines`.
    """
    with open_binary(path) as stream:
        try:
            yield stream
        except UnicodeDecodeError as error:
            sample = error.object[max(0, error.start - 100) :]
            raise not_utf8(error.object, error, str(path), 1, sample, "data.errors=replace") from None
        except (*_DAMAGED, OSError) as error:
            raise _damaged(str(path), 0, error) from None


def _open_zstd(file: Path) -> BinaryIO:
    import pyarrow as pa

    file.open("rb").close()  # raises OSError with its number, which Arrow's own lack
    stream: Any = pa.input_stream(str(file), compression="zstd")
    return cast(BinaryIO, io.BufferedReader(stream))


_OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open, ".zst": _open_zstd}


def is_compressed(path: Path) -> bool:
    """Whether a file is read as compressed text, by its name."""
    return path.suffix.lower() in _OPENERS


def locate(path: Path) -> tuple[Path, str | None]:
    """Split a name into the file on disk and, for a path through an archive, the member.

    Raises:
        UsageError: the name is an address.
    """
    if path.exists():
        return path, None
    _refuse_address(str(path))
    file, member = split_member(path.as_posix())
    return Path(file), member


def require_local(folder: Path) -> None:
    """Raise `CheckpointError` if the folder of a run is named by an address (`https://`, `hf://`)."""
    if (match := _ADDRESS.fullmatch(str(folder))) is None or folder.exists():
        return
    raise CheckpointError(
        f"{match[1]}://{match[2]} is an address, and a run is a folder here",
        hint="download it first, and name the folder that holds its config.yaml",
        code="run.missing",
    )


def digest_file(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return _digest(stream, path, path.stat().st_size)[1]


def digest_content(path: Path) -> tuple[int, str]:
    """Count and hash (SHA-256) the bytes that `open_binary` reads. Raises as `read_lines`."""
    with reading(path) as stream:
        return _digest(stream, path, None)


def _digest(stream: BinaryIO, path: Path, total: int | None) -> tuple[int, str]:
    sha256, size = hashlib.sha256(), 0
    with console.Progress(f"hashing {path.name}", total, "bytes", delay=1.0) as progress:
        while piece := stream.read(1 << 20):
            sha256.update(piece)
            size += len(piece)
            progress.update(len(piece))
    return size, sha256.hexdigest()


def url_file_name(url: str) -> str:
    """Choose the name for the file of a URL."""
    name = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
    return re.sub(r"[^\w.+-]+", "_", name)[-120:].lstrip(".") or "file"


def _refuse_address(name: str) -> None:
    """Raise `UsageError` for an address: corpora are files on this machine, and `data download` fetches them."""
    if (match := _ADDRESS.fullmatch(name)) is None:
        return
    scheme, rest = match[1].lower(), match[2]
    address = f"{scheme}:///{rest}" if scheme == "file" else f"{scheme}://{rest}"
    match scheme:
        case "http" | "https":
            url, mark, fragment = address.partition("#")
            file, member = split_member(url)
            name = f"data/{url_file_name(file)}" + (f"/{member}" if member else "")
            hint = f"seq2seq data download {shlex.quote(file + mark + fragment)} -o data/; then name {name}"
        case "file":
            hint = f"name the file itself: /{rest}"
        case "hf":
            hint = "a dataset of the hub is a source of its own: {hub: ID, source: COLUMN, target: COLUMN}"
        case _:
            hint = "download the file by hand and name it; `seq2seq data download` fetches http:// and https://"
    raise UsageError(f"{address} is an address, not a file on this machine", hint=hint, code="usage.value")


def _head(stream: BinaryIO) -> bytes:
    """The first bytes of a stream, which it yields again; none if it cannot look ahead."""
    peek = getattr(stream, "peek", None)
    return bytes(peek(SAMPLE_BYTES)[:SAMPLE_BYTES]) if peek is not None else b""


def _old_mac(name: str) -> DataError:
    new = shlex.quote(str(Path(name).with_suffix(".lf" + Path(name).suffix)))
    return DataError(
        "one line, with carriage returns inside: the line ends of an old Mac",
        where=f"{name}:1",
        hint=f"tr '\\r' '\\n' < {shlex.quote(name)} > {new}",
        code="data.line-ends",
    )


def _damaged(name: str, number: int, error: Exception) -> DataError:
    return DataError(
        f"damaged or not a {Path(name).suffix} file: {error}",
        where=f"{name}:{number + 1}",
        hint="download or compress the file again",
        code="data.compression",
    )
