"""Members of zip and tar archives, read without unpacking the archive to disk.

An archive from elsewhere may name files outside of its folder, link to them, hold devices, or unpack to a size that
fills any disk. All members are checked before the first byte of one is read; one unsafe member refuses the archive. A
link to a member is read as that member.
"""

from __future__ import annotations

import bz2
import difflib
import gzip
import io
import lzma
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from seq2seq.data.unreadable_rows import show
from seq2seq.errors import DataError, NetworkError

ARCHIVE = re.compile(r".+\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))", re.IGNORECASE)
_PACKED = re.compile(r".+\.(gz|bz2|xz|zst|7z|rar|zip|tar|tgz|tbz2?|txz)", re.IGNORECASE)

_HARMLESS_BYTES = 1 << 28
_LARGEST_RATIO = 200
"""Text compresses three to ten times. An archive or a compressed file that unpacks to more than 256 MiB, and to
more than this multiple of its own size, is refused as a decompression bomb."""
_BUFFER_BYTES = 1 << 17
_MOST_MEMBERS = 1_000_000
_LARGEST_HEADER = 1 << 20
_BZIP2_BLOCK, _BZIP2_END = bytes.fromhex("314159265359"), bytes.fromhex("177245385090")

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    struct.error,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    OSError,
)

_shown = partial(show, limit=120)


class _Member(NamedTuple):
    """Entry of an archive's directory."""

    name: str
    size: int
    fault: str | None
    """Why the member must not be unpacked."""
    is_file: bool
    open: Callable[[], BinaryIO]
    link: str | None = None
    """For a link: the path in the archive that it leads to."""


def split_member(name: str) -> tuple[str, str | None]:
    """Split `corpus.zip/folder/train.de` into archive and member; the member is None if the path has no archive."""
    parts = name.split("/")
    for number, part in enumerate(parts[:-1], start=1):
        if ARCHIVE.fullmatch(part) and any(parts[number:]):
            return "/".join(parts[:number]), "/".join(parts[number:])
    return name, None


def file_on_disk(path: Path) -> Path:
    """The file that a name stands for: the archive for a path through one."""
    return path if path.exists() else Path(split_member(path.as_posix())[0])


def check_archive(path: Path) -> None:
    """Refuse an archive or a compressed file that is not safe to unpack; any other file passes.

    Raises:
        NetworkError: names the member and what is wrong with it.
        DataError: the archive is damaged.
    """
    with _explain_damage(path):
        if _is_archive(path):
            with _members(path):
                pass
        elif _opener(path) is not open:
            with _opener(path)(path, "rb") as stream:
                _measure(stream, path)


def member_names(path: Path) -> list[str]:
    """List the files in an archive. Raises as `check_archive`."""
    with _explain_damage(path), _members(path) as members:
        return [_shown(member.name) for member in members if member.is_file]


def open_member(path: Path, member: str) -> BinaryIO:
    """Open a member of an archive for reading bytes.

    Raises:
        DataError: the archive is damaged, or the member is missing, damaged, encrypted, or compressed again.
        NetworkError: the archive is not safe.
    """
    where = f"{path}/{member}"
    if _PACKED.fullmatch(member):
        hint = f"unpack {path.name} by hand and name the file"
        raise DataError(
            f"{member} is compressed again inside its archive", where=where, hint=hint, code="data.compression"
        )
    with _explain_damage(path), _members(path) as members:
        files = {_plain(each.name): each for each in members if each.is_file}
        if (found := files.get(_plain(member))) is None:
            near = difflib.get_close_matches(_plain(member), files, n=3, cutoff=0.5) or list(files)[:8]
            hint = "it holds " + (", ".join(map(_shown, near)) or "no files")
            raise DataError(f"no file {member} in {path}", where=where, hint=hint, code="data.no-file")
        return found.open()


@contextmanager
def _members(path: Path) -> Iterator[list[_Member]]:
    """Yield the files of an archive after checking all members. A stream of one may outlive the block."""
    with _zip_members(path) if _is_zip(path) else _tar_members(path) as members:
        limit, unpacked = _most_bytes(path), 0
        seen: dict[str, _Member] = {}
        links: dict[str, _Member] = {}
        for number, member in enumerate(members, start=1):
            unpacked += member.size
            fault = member.fault or _fault_of_name(member.name)
            if unpacked > limit or number > _MOST_MEMBERS:
                fault = f"with it {path.stat().st_size:,} bytes unpack to {unpacked:,}: a bomb"
            elif member.is_file and _plain(member.name) in seen:
                fault = "there twice"
            if fault:
                raise _unsafe(path, f"{_shown(member.name)}: {fault}")
            if member.link is not None:
                links[_plain(member.name)] = member
            elif member.is_file:
                seen[_plain(member.name)] = member
        for name, link in links.items():
            # What is written through a link to a folder may land elsewhere.
            if through := next((each for each in (*seen, *links) if each.startswith(name + "/")), None):
                raise _unsafe(path, f"{_shown(through)}: lies behind a link")
            if (target := seen.get(str(link.link))) is not None and name not in seen:
                seen[name] = target._replace(name=link.name)
        yield list(seen.values())


@contextmanager
def _zip_members(path: Path) -> Iterator[Iterator[_Member]]:
    with zipfile.ZipFile(path) as archive:
        yield (_zip_member(archive, info) for info in archive.infolist())


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    kind, fault = stat.S_IFMT(mode), None
    # Most archives made on other systems have no mode at all.
    if kind == stat.S_IFLNK:
        fault = "a link"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "neither a file nor a folder"
    name = info.orig_filename  # `filename` ends at a NUL
    return _Member(name, info.file_size, fault, not info.is_dir(), lambda: cast(BinaryIO, archive.open(info)))


@contextmanager
def _tar_members(path: Path) -> Iterator[Iterator[_Member]]:
    with (
        _opener(path)(path, "rb") as stream,
        tarfile.TarFile(fileobj=cast(BinaryIO, _LimitedReads(stream)), mode="r") as archive,
    ):
        yield _read_to_end(stream, archive, path)


def _read_to_end(stream: BinaryIO, archive: tarfile.TarFile, path: Path) -> Iterator[_Member]:
    """Yield the members and then read the rest of the stream, since a compressed one has its check sum at the end."""
    for info in archive:
        yield _tar_member(path, info)
    _measure(stream, path)


def _tar_member(path: Path, info: tarfile.TarInfo) -> _Member:
    fault = link = None
    if info.issym() or info.islnk():
        # A symbolic link starts at its folder, a hard link at the top of the archive.
        start = posixpath.dirname(info.name) if info.issym() else ""
        link = posixpath.normpath(posixpath.join(_plain(start), info.linkname))
        fault = f"a link to {_shown(info.linkname)}" if _fault_of_name(link) else None
    elif info.issparse() or not (info.isreg() or info.isdir()):
        fault = "neither a file nor a folder"
    return _Member(
        info.name,
        info.size,
        fault,
        info.isreg(),
        lambda: cast(BinaryIO, io.BufferedReader(_Slice(_opener(path)(path, "rb"), info.offset_data, info.size))),
        link,
    )


def limit_size(stream: BinaryIO, path: Path) -> BinaryIO:
    """Wrap the decompressed stream of a file; reading it raises `DataError` where it is a decompression bomb."""
    return cast(BinaryIO, io.BufferedReader(_LimitedSize(stream, path), _BUFFER_BYTES))


class _LimitedSize(io.RawIOBase):
    """Stream that fails when more has been read than the file may unpack to; closing it closes the stream."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path
        self._left = self._limit = _most_bytes(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(len(buffer))
        self._left -= len(piece)
        if self._left < 0:
            raise DataError(
                f"{self._path.stat().st_size:,} bytes unpack to more than {self._limit:,}: a decompression bomb",
                where=str(self._path),
                hint="if it is a text after all, unpack it by hand and name the unpacked file",
                code="data.compression",
            )
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _LimitedReads:
    """Tar stream with bounded reads, since a damaged header may ask for gigabytes of memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.seek, self.tell = stream, stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._stream.read(size)


class _Slice(io.RawIOBase):
    """Range of `size` bytes of a stream; closing it closes the stream."""

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


def _opener(path: Path) -> Callable[[Path, str], BinaryIO]:
    """Choose the function that opens a file for reading decompressed bytes, by the file's first bytes."""
    with path.open("rb") as file:
        begin = file.read(10)
    if begin.startswith(b"\x1f\x8b"):
        return cast(Callable[[Path, str], BinaryIO], gzip.open)
    if begin.startswith(b"BZh") and begin[4:] in (_BZIP2_BLOCK, _BZIP2_END):
        return cast(Callable[[Path, str], BinaryIO], bz2.open)
    if begin.startswith(b"\xfd7zXZ\0"):
        return cast(Callable[[Path, str], BinaryIO], lzma.open)
    return cast(Callable[[Path, str], BinaryIO], open)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(4) in (b"PK\3\4", b"PK\5\6", b"PK\7\x08"):
            return True
    # The end-of-directory signature may occur in any file by chance.
    try:
        with zipfile.ZipFile(path):
            return True
    except _DAMAGED:
        return False


def _is_archive(path: Path) -> bool:
    if _is_zip(path):
        return True
    with _opener(path)(path, "rb") as stream:
        try:
            tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return False
    return True


def _measure(stream: BinaryIO, path: Path) -> None:
    """Read a stream to its end, and refuse one that exceeds the size limit."""
    limit, unpacked = _most_bytes(path), stream.tell()
    while piece := stream.read(1 << 20):
        unpacked += len(piece)
        if unpacked > limit:
            raise _unsafe(path, f"{path.stat().st_size:,} bytes unpack to more than {limit:,}: a bomb")


def _most_bytes(path: Path) -> int:
    """Largest size that a file may unpack to."""
    return max(_HARMLESS_BYTES, _LARGEST_RATIO * path.stat().st_size)


def _fault_of_name(name: str) -> str | None:
    parts = name.replace("\\", "/").split("/")
    if ".." in parts:
        return "leads out of the archive"
    if name[:1] in ("/", "\\") or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    return "a NUL in its name" if "\0" in name else None


def _plain(name: str) -> str:
    """Normalize a member's name: `./train.de` and `train.de` are the same file."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _unsafe(path: Path, fault: str) -> NetworkError:
    return NetworkError(
        f"refused: {fault}",
        where=str(path),
        hint="an archive that does this may mean harm; look into it with unzip -l or tar -tvf",
        code="network.archive",
    )


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Turn the exceptions of the archive libraries into `DataError`."""
    try:
        yield
    except _DAMAGED as error:
        raise DataError(
            f"cannot read the archive: {error or type(error).__name__}",
            where=str(path),
            hint="download or pack it again",
            code="data.compression",
        ) from None
