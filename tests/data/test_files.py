"""Lines end at the newline byte and nowhere else."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.data.files import decode_lines, read_lines
from seq2seq.errors import DataError

INSIDE = "a\u2028b\u0085c\rd\x0be\x0cf\x1cg\x1dh\x1ei\u2029j\tk"


def write(folder: Path, content: bytes, name: str = "text.txt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.fault(34)
def test_unicode_line_separators_stay_inside(tmp_path: Path) -> None:
    """JoeyNMT read with splitlines(), which made two lines of one at U+2028; newstest2009.de holds U+0085."""
    path = write(tmp_path, f"{INSIDE}\nnext\n".encode())
    assert list(read_lines(path)) == [INSIDE, "next"]
    assert len(INSIDE.splitlines()) > 5


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=8)))
def test_as_many_lines_as_newlines(texts: list[str]) -> None:
    content = "".join(text + "\n" for text in texts).encode()
    expected = [raw.removesuffix(b"\r").decode() for raw in content.removeprefix(b"\xef\xbb\xbf").split(b"\n")[:-1]]
    assert list(decode_lines(io.BytesIO(content), "stdin")) == expected
    assert len(expected) == len(texts)


@pytest.mark.fault(34)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
        (b"a\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\rb\r\r\n", ["a\rb\r"]),
        (b"\xef\xbb\xbf\r\n", [""]),
    ],
)
def test_ends_and_marks(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    """A byte-order mark goes at the start only, one carriage return at the end only."""
    assert list(read_lines(write(tmp_path, content))) == expected


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress)])
def test_packed_files(tmp_path: Path, suffix: str, pack) -> None:
    text = f"{INSIDE}\r\n\nzwei\n".encode()
    packed = pack(text)
    assert list(read_lines(write(tmp_path, packed, f"a.{suffix}"))) == [INSIDE, "", "zwei"]
    for broken in (packed[: len(packed) // 2], b"no archive\n" * 9):
        with pytest.raises(DataError, match="damaged"):
            list(read_lines(write(tmp_path, broken, f"b.{suffix}")))


@pytest.mark.fault(33)
def test_invalid_utf8_names_line_and_byte(tmp_path: Path) -> None:
    path = write(tmp_path, b"fine\nGr\xfc\xdfe\n")
    with pytest.raises(DataError) as caught:
        list(read_lines(path))
    assert caught.value.where == f"{path}:2"
    assert "0xfc at byte 2" in caught.value.what
    assert "replace" not in (caught.value.hint or "")  # a glossary, say, has no such option
    with pytest.raises(DataError) as caught:
        list(read_lines(path, option="--errors replace"))
    assert "or --errors replace puts" in (caught.value.hint or "")
    assert list(read_lines(path, "replace")) == ["fine", "Gr\ufffd\ufffde"]


@pytest.mark.fault(33)
@given(st.binary(max_size=200))
def test_any_bytes_give_lines_or_a_place(content: bytes) -> None:
    replaced = list(decode_lines(io.BytesIO(content), "x", "replace"))
    assert len(replaced) == content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    if "\ufffd" in "".join(replaced) and b"\xef\xbf\xbd" not in content:
        with pytest.raises(DataError) as caught:
            list(decode_lines(io.BytesIO(content), "x"))
        assert (caught.value.where or "").startswith("x:")
    elif "\ufffd" not in "".join(replaced):
        assert list(decode_lines(io.BytesIO(content), "x")) == replaced


def test_utf16_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="UTF-16"):
        list(read_lines(write(tmp_path, "Grüße\n".encode("utf-16"))))


def test_missing_file_suggests_a_near_name(tmp_path: Path) -> None:
    write(tmp_path, b"x", "train.en")
    with pytest.raises(DataError, match=r"did you mean .*train\.en"):
        list(read_lines(tmp_path / "tain.en"))
    with pytest.raises(DataError, match="does not exist either"):
        list(read_lines(tmp_path / "no" / "train.en"))
    with pytest.raises(DataError, match="folder"):
        list(read_lines(tmp_path))


def test_a_missing_archive_suggests_a_near_name(tmp_path: Path) -> None:
    """A text beside it was suggested, of an archive only "check the path" was said."""
    write(tmp_path, b"x", "corpus.zip")
    with pytest.raises(DataError, match=r"no such file: .*corpsu\.zip\n.*\n.*did you mean .*corpus\.zip\?"):
        list(read_lines(tmp_path / "corpsu.zip" / "train.en"))
    (tmp_path / "folder.zip").mkdir()
    write(tmp_path / "folder.zip", b"x", "train.en")
    with pytest.raises(DataError, match=r"did you mean .*folder\.zip/train\.en"):
        list(read_lines(tmp_path / "folder.zip" / "tain.en"))


def test_a_million_bytes_in_a_line(tmp_path: Path) -> None:
    assert [len(line) for line in read_lines(write(tmp_path, b"x" * 1_000_000 + b"\ny"))] == [1_000_000, 1]


def test_real_corpus(shared_data: Path) -> None:
    """multi30k train.de line 7366 holds a TAB; the counts are the published ones."""
    path = shared_data / "multi30k" / "train.de"
    lines = list(read_lines(path))
    assert len(lines) == 29000
    assert "\t" in lines[7365]
    assert "".join(line + "\n" for line in lines).encode() == path.read_bytes()
