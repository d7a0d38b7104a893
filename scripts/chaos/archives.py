"""Hostile archives, and odd ones, as files of a config.

Full size (under a minute of one core):

    python scripts/chaos/archives.py --json archives.json

Proves: `seq2seq data prepare` on an archive that would write outside of its folder, link there, hold devices, or unpack
to a bomb ends with exit 4, names the member in one message, runs nothing and writes nothing outside of its cache; odd
but harmless archives are read, or refused with exit 3 and one message.
"""

from __future__ import annotations

import gzip
import io
import os
import resource
import stat
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from common import Trial, arguments, conclude, run, warm_up

EN, DE = b"a b\nc d\n" * 40, b"x y\nz w\n" * 40
GOOD = {"train.en": EN, "train.de": DE}


def zipped(members: Mapping[str, bytes], modes: Mapping[str, int] | None = None, method: int = 8) -> bytes:
    """A zip; a `*` at the end of a name is left out, so that names can come twice."""
    content = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, data in members.items():
            info = zipfile.ZipInfo(name.rstrip("*"))
            info.external_attr, info.compress_type = (modes or {}).get(name, 0o100644) << 16, method
            archive.writestr(info, data)
    return content.getvalue()


def tarred(
    members: Mapping[str, bytes | tarfile.TarInfo], packing: str = "gz", form: int = tarfile.PAX_FORMAT
) -> bytes:
    """A tar of files and of special members."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{packing}", format=form) as archive:
        for name, data in members.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name.rstrip("*"))
            info.size = len(data) if isinstance(data, bytes) else info.size
            archive.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return content.getvalue()


def special(kind: bytes, link: str = "", size: int = 0) -> dict[str, tarfile.TarInfo]:
    """A member `evil` of an odd kind."""
    info = tarfile.TarInfo("evil")
    info.type, info.linkname, info.size = kind, link, size
    return {"evil": info}


def shared_bytes(copies: int) -> bytes:
    """A zip whose entries all point to the same packed bytes: none alone is large (Fifield 2019)."""
    whole = bytearray(zipped({"evil0": b"\0" * 40_000_000}))
    begin, end = whole.index(b"PK\1\2"), whole.index(b"PK\5\6")
    entry = bytes(whole[begin:end])
    entries = b"".join(entry.replace(b"evil0", b"evil%d" % (number % 10)) for number in range(copies))
    tail = bytearray(whole[end:])
    tail[8:10] = tail[10:12] = copies.to_bytes(2, "little")
    tail[12:16] = len(entries).to_bytes(4, "little")
    return bytes(whole[:begin]) + entries + bytes(tail)


def hostile(bomb: int) -> Iterator[tuple[str, str, bytes, str]]:
    """Kind, file name, content, and what the message must name."""
    names = ["../evil", "x/../../evil", "..\\evil", "/tmp/evil", "\\evil", "C:\\evil", "c:evil", "..", "a/.."]
    for name in [*names, "\x1b[2J/../evil", "e\u0301/../vil", "x" * 300 + "/../evil"]:
        shown = name.replace("\x1b", "\\x1b")[:100]
        yield "names", "a.zip", zipped({**GOOD, name: b"x"}), shown
        yield "names", "a.tar.gz", tarred({**GOOD, name: b"x"}), shown
    yield "names", "a.tar", tarred({**GOOD, "\udcff\udcfe/../evil": b"x"}, ""), "evil"
    for target in ("/etc/passwd", "../../evil"):
        yield "links", "a.tar.xz", tarred({**GOOD, **special(tarfile.SYMTYPE, target)}, "xz"), f"link to {target}"
        yield "links", "a.tar", tarred({**GOOD, **special(tarfile.LNKTYPE, target)}, ""), f"link to {target}"
    yield "links", "a.zip", zipped({**GOOD, "evil": b"/etc/passwd"}, {"evil": stat.S_IFLNK | 0o777}), "evil: a link"
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE):
        if kind != tarfile.CONTTYPE:
            yield "devices", "a.tar.bz2", tarred({**GOOD, **special(kind)}, "bz2"), "evil"
    for mode in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK):
        yield "devices", "a.zip", zipped({**GOOD, "evil": b""}, {"evil": mode | 0o666}), "evil"
    zeros = b"\0" * bomb
    yield "bombs", "a.zip", zipped({**GOOD, "evil": zeros}), "evil"
    yield "bombs", "a.tar.gz", tarred({**GOOD, "evil": zeros}), "evil"
    yield "bombs", "a.tar.xz", tarred({**GOOD, "evil": zeros}, "xz"), "evil"
    yield "bombs", "a.tar.bz2", tarred({**GOOD, "evil": zeros}, "bz2"), "evil"
    yield "bombs", "a.zip", shared_bytes(10), "evil"
    yield "bombs", "a.tar.gz", gzip.compress(tarred(GOOD, "") + zeros), "a.tar.gz"
    yield "twice", "a.zip", zipped({**GOOD, "train.en*": b"other\n"}), "train.en: there twice"
    yield "twice", "a.tar", tarred({**GOOD, "./train.de": b"other\n"}, ""), "train.de: there twice"


def odd() -> Iterator[tuple[str, str, bytes]]:
    """Archives that mean no harm, or are none."""
    for packing in ("", "gz", "bz2", "xz"):
        yield "good", f"a.tar{packing and '.'}{packing}", tarred(GOOD, packing)
    for link in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        yield "good", "a.tar", tarred({**GOOD, **special(link, "train.en")}, "")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield "good", "a.zip", zipped(GOOD, method=method)
    yield "good", "a.tar", tarred({**GOOD, "ÿ\u2028 name": b"x"}, "", tarfile.GNU_FORMAT)
    yield "good", "a.zip", zipped({**GOOD, "ÿ\u2028 name": b"x", "dir/": b""})
    yield "good", "a.zip", zipped({**GOOD, "nested.zip": zipped({"../evil": b"x"})})
    good = zipped(GOOD)
    for name, content in (("a.zip", good), ("a.tar.gz", tarred(GOOD)), ("a.tar", tarred(GOOD, "")[:1900])):
        for part in (0, 1, 100, len(content) // 2, len(content) - 1):
            yield "cut", name, content[:part]
    yield "none", "a.zip", b"no archive\n" * 99
    yield "none", "a.tar.gz", gzip.compress(b"no archive\n" * 99)
    header = special(tarfile.XHDTYPE, size=1 << 33)["evil"].tobuf(tarfile.GNU_FORMAT)
    yield "header", "a.tar.gz", gzip.compress(header + b"\0" * 5_000_000)
    yield (
        "locked",
        "a.zip",
        good.replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1").replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"),
    )


def attempt(name: str, content: bytes) -> tuple[int, str, list[str]]:
    """The command on an archive: exit code, what it said, and files that should not be there."""
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "a" / "b"
        inside.mkdir(parents=True)
        (inside / name).write_bytes(content)

        def small() -> None:
            os.environ["SEQ2SEQ_CACHE"] = str(inside / "cache")
            resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))

        files = f"{{source: {inside / name}/train.en, target: {inside / name}/train.de}}"
        command = ["data", "prepare", f"data.train=[{files}]", "tokenizer.kind=word"]
        ended = run(command, log=Path(folder) / "log", seconds=60, prepare=small)
        found = [path for path in Path(folder).rglob("*") if "cache" not in path.parts and path.is_file()]
        left = [str(path) for path in found if path.name not in (name, "log")]
        left += [str(path) for path in Path(folder).rglob("*evil*")]
        return (
            ended.code,
            ended.said,
            left + [str(path) for path in (Path("/tmp/evil"), Path("/evil")) if path.exists()],
        )


def main() -> int:
    """Every archive, and the table."""
    options = arguments(__doc__)
    warm_up()
    trials = []
    for kind, name, content, member in hostile((1 << 28) + 1):
        if options.quick and kind == "bombs" and "gz" not in name:
            continue
        code, said, left = attempt(name, content)
        passed = code == 4 and member in said and not left and said.count("error:") == 1 and "Traceback" not in said
        trials.append(Trial(f"hostile {kind}: {name} {member[:40]!r}", passed, f"exit {code} {left}\n{said}"))
    for kind, name, content in odd():
        code, said, left = attempt(name, content)
        passed = code == (0 if kind == "good" else 3) and not left and "Traceback" not in said
        trials.append(Trial(f"odd {kind}: {name}", passed, f"exit {code} {left}\n{said}"))
    return conclude(options, trials)


if __name__ == "__main__":
    raise SystemExit(main())
