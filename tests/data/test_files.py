"""Lines end at the newline byte and nowhere else."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seq2seq.checks.characters import repair
from seq2seq.data import encodings
from seq2seq.data.files import decode_lines, read_lines
from seq2seq.errors import DataError

INSIDE = "a\u2028b\u0085c\rd\x0be\x0cf\x1cg\x1dh\x1ei\u2029j\tk"


def zstd(content: bytes) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(content)
    return packed.getvalue().to_pybytes()


def follow(hint: str | None) -> int:
    """Run the first command of a hint, as a user would."""
    assert hint is not None
    command = next(
        part for part in hint.split("; ") if " " in part and part.split()[0] in ("iconv", "gzip", "tr", "mv")
    )
    return subprocess.run(["bash", "-c", command], check=False).returncode


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
    expected = [raw.rstrip(b"\r").decode() for raw in content.removeprefix(b"\xef\xbb\xbf").split(b"\n")[:-1]]
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
        (b"a\rb\r\r\n", ["a\rb"]),
        (b"\xef\xbb\xbf\r\n", [""]),
    ],
)
def test_ends_and_marks(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    """A byte-order mark goes at the start only, carriage returns at the end only: CR CR LF is CR LF converted twice."""
    assert list(read_lines(write(tmp_path, content))) == expected


@pytest.mark.fault(34)
def test_old_mac_line_ends_are_refused_with_a_remedy(tmp_path: Path) -> None:
    """A text with CR alone was one line, "too few for a model", and nothing said why."""
    path = write(tmp_path, b"one\rtwo\rthree\r", "mac.en")
    with pytest.raises(DataError, match="old Mac") as caught:
        list(read_lines(path))
    assert follow(caught.value.hint) == 0
    assert list(read_lines(tmp_path / "mac.lf.en")) == ["one", "two", "three"]
    # At a pipe, a line in is a line out.
    assert list(decode_lines(io.BytesIO(path.read_bytes()), "stdin")) == ["one\rtwo\rthree"]


def test_windows_1252_read_as_latin_1_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`iconv -f LATIN1` never fails, and left control characters for quotation marks without a word."""
    text = "“Stop”, he said – it’s late…"
    damaged = text.encode("cp1252").decode("latin-1")
    path = write(tmp_path, f"a line\n{damaged}\n{damaged}\n".encode())
    assert list(read_lines(path)) == ["a line", damaged, damaged]
    assert "2 lines (first: 2)" in capsys.readouterr().err
    assert repair(damaged) == text
    assert list(read_lines(write(tmp_path, "naïve “text”\n".encode()))) == ["naïve “text”"]
    assert not capsys.readouterr().err


PACKERS = {"gz": gzip.compress, "XZ": lzma.compress, "bz2": bz2.compress, "Zst": zstd}


@pytest.mark.parametrize(("suffix", "pack"), PACKERS.items())
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
@example(b"\xff\xfea\0\n\0")
def test_any_bytes_give_lines_or_a_place(content: bytes) -> None:
    if content.startswith((*encodings._COMPRESSED, *encodings._MARKS)):
        for errors in ("strict", "replace"):
            with pytest.raises(DataError):
                list(decode_lines(io.BytesIO(content), "x", errors))  # type: ignore[arg-type]
        return
    replaced = list(decode_lines(io.BytesIO(content), "x", "replace"))
    assert len(replaced) == content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    if "\ufffd" in "".join(replaced) and b"\xef\xbf\xbd" not in content:
        with pytest.raises(DataError) as caught:
            list(decode_lines(io.BytesIO(content), "x"))
        assert (caught.value.where or "").startswith("x")
    elif "\ufffd" not in "".join(replaced) and not re.match(rb"[^\n]*(\0|\x1b)|BZh|PK\x03\x04", content):
        assert list(decode_lines(io.BytesIO(content), "x")) == replaced


RUSSIAN = "книга номер семь стоит на полке\nстарик пьёт чай в саду\n"
CHINESE = "女人早上清洁一座小房子。\n他每天早上喝咖啡。\n"


@pytest.mark.fault(33)
@pytest.mark.parametrize(
    ("codec", "encoding", "name", "text"),
    [
        ("cp1252", "CP1252", "c.txt", "„Die Straße“ ist schön – für 5 €\nDer Bäcker geht über den Fluß.\n"),
        ("cp1251", "CP1251", "c.txt", RUSSIAN),
        ("koi8_r", "KOI8-R", "c.txt", RUSSIAN),
        ("gb18030", "GB18030", "c.txt", CHINESE),
        ("big5", "BIG5", "c.txt", "今天天氣很好,我們去公園散步。\n這本書很有意思。\n"),
        ("shift_jis", "CP932", "c.txt", "この本の第一章は長い\n私は毎朝コーヒーを飲みます\n"),
        ("euc_kr", "UHC", "c.txt", "안녕하세요, 오늘은 날씨가 매우 좋습니다.\n나는 학교에 갑니다.\n"),
        *(
            (codec, codec.upper(), "c.txt", text)
            for codec in ("utf-16", "utf-32")
            for text in ("plain text\nmore\n", CHINESE)
        ),
        *(
            (f"utf-{width}", f"UTF-{width.upper()}", "c.txt", text)
            for width in ("16le", "16be", "32le")
            for text in ("a b\nc\n", RUSSIAN)
        ),
        # The language in the name decides: these were proposed to be read as Big5 and Windows-1252, or were ASCII.
        ("cp874", "CP874", "c.th", "เด็กดื่มนมร้อนในสวน\nแมวนอนบนโต๊ะ\n"),
        ("euc_jp", "EUC-JP", "train.ja.txt", "この本の第一章は長い\n私は毎朝コーヒーを飲みます\n"),
        ("cp1250", "CP1250", "c_pl", "Żółta łódź płynie wzdłuż brzegu\nChłopiec je jabłko\n"),
        ("iso8859_5", "ISO-8859-5", "c.ru", RUSSIAN),
        ("iso2022_jp", "ISO-2022-JP", "c.txt", "この本の第一章は長い\n私は毎朝コーヒーを飲みます\n"),
    ],
)
def test_the_encoding_is_recognised_and_the_hint_converts(
    tmp_path: Path, codec: str, encoding: str, name: str, text: str
) -> None:
    """Every text was advised `iconv -f LATIN1`, which reads any bytes without an error, and most of them wrongly."""
    path = write(tmp_path, text.encode(codec), name)
    with pytest.raises(DataError) as caught:
        list(read_lines(path))
    hint = caught.value.hint or ""
    assert f"'{text.splitlines()[0]}'; iconv -f {encoding} -t UTF-8" in hint
    assert follow(hint) == 0
    (converted,) = set(tmp_path.iterdir()) - {path}
    assert list(read_lines(converted)) == text.splitlines()


@pytest.mark.fault(33)
def test_an_unsure_guess_shows_two_readings_and_binary_none(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress("Voilà le café où j’ai été déçu.".encode("cp1252")), "c.fr.GZ")
    with pytest.raises(DataError) as caught:
        list(read_lines(path))
    hint = caught.value.hint or ""
    assert "Windows-1252: 'Voilà le café où j’ai été déçu.'" in hint
    assert "Windows-1250 (-f CP1250): 'Voilŕ le café oů" in hint
    assert follow(hint) == 0
    assert list(read_lines(tmp_path / "c.utf8.fr")) == ["Voilà le café où j’ai été déçu."]
    with pytest.raises(DataError, match="is it a text file") as caught:
        list(read_lines(write(tmp_path, bytes(range(256)) * 9, "b")))
    assert "iconv" not in (caught.value.hint or "")
    nul = write(tmp_path, b"one NUL\0 here\nand text\n", "nul")
    assert list(read_lines(nul)) == ["one NUL\0 here", "and text"]


@pytest.mark.fault(33)
@pytest.mark.parametrize(("suffix", "pack"), PACKERS.items())
def test_compressed_files_under_other_names_are_named(tmp_path: Path, suffix: str, pack) -> None:
    path = write(tmp_path, pack(b"hello\n"), "c.en")
    with pytest.raises(DataError, match="is compressed by") as caught:
        list(read_lines(path))
    assert follow(caught.value.hint) == 0
    assert list(read_lines(tmp_path / f"c.en.{suffix.lower()}")) == ["hello"]


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
