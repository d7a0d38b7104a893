"""Text inside zip and tar archives, read where it lies: nothing is ever unpacked to disk by us.

An archive from elsewhere may name files outside of its folder, link to them, hold devices, or unpack to a size that
fills any disk. Every member is looked at before a byte of one is read; an archive with one such member is refused.
"""

from __future__ import annotations

import difflib
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from seq2seq.data.unpacking import Careful, Part, packing
from seq2seq.errors import DataError, NetworkError

ARCHIVE = re.compile(r".+\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))", re.IGNORECASE)
_PACKED = re.compile(r".+\.(gz|bz2|xz|zst|7z|rar|zip|tar|tgz|tbz2?|txz)", re.IGNORECASE)

_HARMLESS_BYTES = 1 << 28
_LARGEST_RATIO = 200
"""Text packs three to ten times smaller. An archive that unpacks to more than 256 MiB and this many times its own size
is a bomb."""
_MOST_MEMBERS = 1_000_000

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


class _Member(NamedTuple):
    """What the archive says of one of its files."""

    name: str
    size: int
    fault: str | None
    """Why it must not be unpacked."""
    is_file: bool
    open: Callable[[], BinaryIO]


def split_member(name: str) -> tuple[str, str | None]:
    """`corpus.zip/folder/train.de` as archive and member; a name that leads through no archive has no member."""
    parts = name.split("/")
    for number, part in enumerate(parts[:-1], start=1):
        if ARCHIVE.fullmatch(part) and any(parts[number:]):
            return "/".join(parts[:number]), "/".join(parts[number:])
    return name, None


def check_archive(path: Path) -> None:
    """Refuse what is not safe to unpack: an archive, or one packed file. Any other file passes.

    Raises:
        NetworkError: names the member and what is wrong with it.
        DataError: the archive is damaged.
    """
    with _damage_told(path):
        if _is_archive(path):
            with _members(path):
                pass
        elif packing(path) is not open:
            with packing(path)(path, "rb") as stream:
                _measure(stream, path)


def member_names(path: Path) -> list[str]:
    """The files in an archive. Raises as `check_archive`."""
    with _damage_told(path), _members(path) as members:
        return [_shown(member.name) for member in members if member.is_file]


def open_member(path: Path, member: str) -> BinaryIO:
    """A file of an archive as a stream of bytes.

    Raises:
        DataError: the archive is damaged, or the member missing, damaged, encrypted, or packed again.
        NetworkError: the archive is not safe.
    """
    where = f"{path}/{member}"
    if _PACKED.fullmatch(member):
        hint = f"unpack {path.name} by hand and name the file"
        raise DataError(f"{member} is packed again inside its archive", where=where, hint=hint, code="data.compression")
    with _damage_told(path), _members(path) as members:
        files = {_plain(each.name): each for each in members if each.is_file}
        if (found := files.get(_plain(member))) is None:
            near = difflib.get_close_matches(_plain(member), files, n=3, cutoff=0.5) or list(files)[:8]
            hint = "it holds " + (", ".join(map(_shown, near)) or "no files")
            raise DataError(f"no file {member} in {path}", where=where, hint=hint, code="data.no-file")
        return found.open()


@contextmanager
def _members(path: Path) -> Iterator[list[_Member]]:
    """Every member, after all have been found safe. A stream of one may outlive the block."""
    with _zip_members(path) if _is_zip(path) else _tar_members(path) as members:
        limit, unpacked = _most_bytes(path), 0
        seen: dict[str, _Member] = {}
        for number, member in enumerate(members, start=1):
            unpacked += member.size
            fault = member.fault or _fault_of_name(member.name)
            if unpacked > limit or number > _MOST_MEMBERS:
                fault = f"with it {path.stat().st_size:,} bytes unpack to {unpacked:,}: a bomb"
            elif member.is_file and _plain(member.name) in seen:
                fault = "there twice"
            if fault:
                raise _unsafe(path, f"{_shown(member.name)}: {fault}")
            if member.is_file:
                seen[_plain(member.name)] = member
        yield list(seen.values())


@contextmanager
def _zip_members(path: Path) -> Iterator[Iterator[_Member]]:
    with zipfile.ZipFile(path) as archive:
        yield (_zip_member(archive, info) for info in archive.infolist())


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    kind, fault = stat.S_IFMT(mode), None
    # Most archives of other systems carry no mode at all.
    if kind == stat.S_IFLNK:
        fault = "a link"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "neither a file nor a folder"
    name = info.orig_filename  # `filename` is cut at a NUL
    return _Member(name, info.file_size, fault, not info.is_dir(), lambda: cast(BinaryIO, archive.open(info)))


@contextmanager
def _tar_members(path: Path) -> Iterator[Iterator[_Member]]:
    with (
        packing(path)(path, "rb") as stream,
        tarfile.TarFile(fileobj=cast(BinaryIO, Careful(stream)), mode="r") as archive,
    ):
        yield _whole(stream, archive, path)


def _whole(stream: BinaryIO, archive: tarfile.TarFile, path: Path) -> Iterator[_Member]:
    """The members, and then the rest of the stream: the check sum of a packed one stands at its end."""
    for info in archive:
        yield _tar_member(path, info)
    _measure(stream, path)


def _tar_member(path: Path, info: tarfile.TarInfo) -> _Member:
    fault = None
    if info.issym() or info.islnk():
        fault = f"a link to {_shown(info.linkname)}"
    elif info.issparse() or not (info.isreg() or info.isdir()):
        fault = "neither a file nor a folder"
    return _Member(
        info.name,
        info.size,
        fault,
        info.isreg(),
        lambda: cast(BinaryIO, io.BufferedReader(Part(packing(path)(path, "rb"), info.offset_data, info.size))),
    )


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(4) in (b"PK\3\4", b"PK\5\6", b"PK\7\x08"):
            return True
    # The mark of an end may stand in any file by chance.
    try:
        with zipfile.ZipFile(path):
            return True
    except _DAMAGED:
        return False


def _is_archive(path: Path) -> bool:
    if _is_zip(path):
        return True
    with packing(path)(path, "rb") as stream:
        try:
            tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return False
    return True


def _measure(stream: BinaryIO, path: Path) -> None:
    """Read to the end, which must come in good time."""
    limit, unpacked = _most_bytes(path), stream.tell()
    while piece := stream.read(1 << 20):
        unpacked += len(piece)
        if unpacked > limit:
            raise _unsafe(path, f"{path.name}: {path.stat().st_size:,} bytes unpack to more than {limit:,}: a bomb")


def _most_bytes(path: Path) -> int:
    """What it may unpack to."""
    return max(_HARMLESS_BYTES, _LARGEST_RATIO * path.stat().st_size)


def _fault_of_name(name: str) -> str | None:
    parts = name.replace("\\", "/").split("/")
    if ".." in parts:
        return "leads out of the archive"
    if name[:1] in ("/", "\\") or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    return "a NUL in its name" if "\0" in name else None


def _plain(name: str) -> str:
    """A name as others may write it too: without `./` before it."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _shown(name: str) -> str:
    """A name that cannot write to the terminal: control characters and broken Unicode are escaped."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)
    return shown if len(shown) <= 120 else shown[:117] + "..."


def _unsafe(path: Path, fault: str) -> NetworkError:
    return NetworkError(
        f"refused: {fault}",
        where=str(path),
        hint="an archive that does this may mean harm; look into it with unzip -l or tar -tvf",
        code="network.archive",
    )


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Whatever the libraries raise of an archive that they cannot read becomes a `DataError`."""
    try:
        yield
    except _DAMAGED as error:
        raise DataError(
            f"cannot read the archive: {error or type(error).__name__}",
            where=str(path),
            hint="fetch or pack it again",
            code="data.compression",
        ) from None
