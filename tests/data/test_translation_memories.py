"""TMX and XLIFF of the usual tools, and formats that are recognized but not read."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from seq2seq.config.sources import Source
from seq2seq.data.corpus import read_pairs
from seq2seq.data.detect import detect_source, languages_of
from seq2seq.data.encodings import refuse_other_formats
from seq2seq.data.files import Pair
from seq2seq.errors import DataError

TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="de-DE" segtype="sentence"/><body>
<tu><tuv xml:lang="en-US"><seg>Click <bpt i="1" x="1">&lt;b&gt;</bpt>here<ept i="1">&lt;/b&gt;</ept>, <ph x="2"/> \
&amp; go</seg></tuv><tuv lang="DE_de"><seg>Klick <ph x="2"/> <bpt i="3" x="1"/>hier<ept i="3"/></seg></tuv></tu>
<tu><tuv xml:lang="EN"><seg>alone</seg></tuv></tu>
<tu><tuv xml:lang="EN"><prop type="x">no</prop><seg>two
    lines</seg></tuv><tuv xml:lang="de"><seg>zwei <hi>Zeilen</hi><ph type="lb"/>da</seg></tuv></tu>
</body></tmx>"""

SDLXLIFF = """<?xml version="1.0"?><xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2" xmlns:sdl="x">
<file source-language="en-US" target-language="de-DE" original="x"><header><sdl:any>no</sdl:any></header><body><group>
<trans-unit id="1"><source>One. Two.</source><seg-source><mrk mtype="seg" mid="1">One.</mrk>
 <mrk mtype="seg" mid="2"><g id="1">Two</g>.</mrk></seg-source><target><mrk mtype="seg" mid="1">Eins.</mrk>
 <mrk mtype="seg" mid="2"><g id="1">Zwei</g>.</mrk></target></trans-unit>
<trans-unit id="2"><source>Copy</source><target state="new">Copy</target></trans-unit>
<trans-unit id="3"><source>Open</source><target/>
<alt-trans><source>q</source><target>r</target></alt-trans></trans-unit>
<trans-unit id="4" translate="no"><source>X</source><target>X</target></trans-unit>
<trans-unit id="5"><source>A <x id="7"/>dog</source><target>Ein <x id="7"/>Hund</target></trans-unit>
</group></body></file></xliff>"""

XLIFF2 = """<xliff xmlns="urn:oasis:names:tc:xliff:document:2.0" version="2.0" srcLang="en" trgLang="de"><file id="f">
<unit id="1"><segment><source>A <pc id="1">big</pc> <cp hex="0001"/>dog<ph id="2"/></source>
<target>Ein <pc id="1">großer</pc> Hund<ph id="2"/></target></segment><ignorable><source> </source></ignorable>
<segment state="initial"><source>Bye</source><target>Bye</target></segment></unit></file></xliff>"""


def read(folder: Path, form: str, content: str | bytes, name: str = "", **settings: Any) -> list[Pair]:
    path = folder / (name or f"memory.{form}")
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_pairs(TypeAdapter(Source).validate_python({form: str(path), **settings})))


def test_tmx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [("Klick hier", "Click here, & go"), ("zwei Zeilen da", "two lines")]
    assert read(tmp_path, "tmx", TMX) == pairs
    assert "skipped units with text on one side only: 1" in capsys.readouterr().err
    swapped = [(right, left) for left, right in pairs]
    assert read(tmp_path, "tmx", TMX, source="en", target="de") == swapped
    assert read(tmp_path, "tmx", gzip.compress(TMX.encode()), "a.tmx.gz", target="de") == swapped
    wide = TMX.replace('encoding="UTF-8"', 'encoding="UTF-16"').encode("utf-16")
    assert read(tmp_path, "tmx", wide, source="de") == pairs


def test_a_unit_that_is_nested_too_deeply_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was an internal error, and no other unit was read."""
    content = TMX.replace("alone", f"{'<hi>' * 3000}alone{'</hi>' * 3000}</seg></tuv><tuv xml:lang='de'><seg>allein")
    assert len(read(tmp_path, "tmx", content)) == 2
    assert "skipped units whose tags are nested too deeply: 1" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["shift_jis", "gb18030", "utf-16-le", "windows-1251"])
def test_memories_in_other_encodings(encoding: str, tmp_path: Path) -> None:
    """The parser knows no encoding of several bytes: an internal error."""
    letters = "Привет" if encoding == "windows-1251" else "日本"
    content = TMX.replace('encoding="UTF-8"', f'encoding="{encoding}"').replace("two\n    lines", letters * 9000)
    assert read(tmp_path, "tmx", content.encode(encoding))[1] == ("zwei Zeilen da", letters * 9000)
    wrongs = {"nowhere": "is not known", "zip": "is not known", "undefined": "is not known", "ascii": "is not in ascii"}
    for wrong, message in wrongs.items():
        with pytest.raises(DataError, match=message):
            read(tmp_path, "tmx", content.replace(encoding, wrong).encode())


@pytest.mark.parametrize("mark", [b"\x1f", b"&#x1F;", b"&#31;", b"&#x0b;"])
def test_control_characters_in_a_memory(tmp_path: Path, mark: bytes) -> None:
    """XML cannot hold them, but translation tools write them, and one of them refused a whole memory."""
    content = TMX.encode().replace(b"alone", b"x" * 17_000).replace(b"two", b"two" + mark)
    assert read(tmp_path, "tmx", content)[1] == ("zwei Zeilen da", "two lines")
    filler = b" " * (16_384 - content.index(mark) - 2)  # the character at the end of what is read at once
    assert read(tmp_path, "tmx", content.replace(b"<body>", b"<body>" + filler))[1:] == [
        ("zwei Zeilen da", "two lines")
    ]


def test_inline_tags_are_kept_as_placeholders(tmp_path: Path) -> None:
    keep = {"inline_tags": "keep"}
    assert read(tmp_path, "tmx", TMX, source="en", target="de", **keep)[0] == (
        "Click {1}here{/1}, {2} & go",
        "Klick {2} {1}hier{/1}",
    )
    assert read(tmp_path, "xliff", SDLXLIFF, **keep)[1:] == [
        ("{1}Two{/1}.", "{1}Zwei{/1}."),
        ("A {1}dog", "Ein {1}Hund"),
    ]
    assert read(tmp_path, "xliff", XLIFF2, **keep) == [("A {1}big{/1} dog{2}", "Ein {1}großer{/1} Hund{2}")]


def test_xliff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [("One.", "Eins."), ("Two.", "Zwei."), ("A dog", "Ein Hund")]
    assert read(tmp_path, "xliff", SDLXLIFF) == pairs
    said = capsys.readouterr().err
    assert "skipped units with text on one side only: 2" in said
    assert "skipped units that are not to be translated: 1" in said
    swapped = [(right, left) for left, right in pairs]
    assert read(tmp_path, "xliff", SDLXLIFF, source="de", target="en") == swapped
    assert read(tmp_path, "xliff", XLIFF2) == [("A big dog", "Ein großer Hund")]
    with pytest.raises(DataError, match="the languages are en-US and de-DE, not fr and None"):
        read(tmp_path, "xliff", SDLXLIFF, source="fr")


def test_more_than_two_languages(tmp_path: Path) -> None:
    alone = '<tuv xml:lang="EN"><seg>alone'
    third = TMX.replace(alone, f'<tuv xml:lang="fr"><seg>seul</seg></tuv>{alone}')
    with pytest.raises(DataError, match="which languages") as caught:
        read(tmp_path, "tmx", third)
    assert caught.value.code == "data.language"
    assert read(tmp_path, "tmx", third, source="en", target="fr") == [("alone", "seul")]
    with pytest.raises(DataError, match="no units in 'es'"):
        read(tmp_path, "tmx", third, source="en", target="es")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TMX[:-30], "not well-formed XML"),
        (TMX.replace('"tmx14.dtd">', '"tmx14.dtd" [<!ENTITY a "b">]>').replace("alone", "&a;"), "refused"),
        (TMX.replace('"tmx14.dtd">', '"tmx14.dtd" [<!ENTITY a SYSTEM "file:///etc/passwd">]>'), "refused"),
        ("<html></html>", "web page"),
        ("<tmy/>", "first element is <tmy>"),
        ("", "not well-formed XML"),
    ],
)
def test_unusable_memories(tmp_path: Path, content: str, message: str) -> None:
    """Entities could fill the memory with copies of themselves, or read files of this machine."""
    with pytest.raises(DataError, match=message):
        read(tmp_path, "tmx", content)


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return stream.getvalue()


FORMATS = {
    "Word": zipped("[Content_Types].xml", "word/document.xml"),
    "Excel": zipped("[Content_Types].xml", "xl/workbook.xml"),
    "gettext": b'# x\nmsgid ""\nmsgstr ""\n"Language: de\\n"\n\nmsgid "a"\nmsgstr "b"\n',
    "subtitles": b"\xef\xbb\xbf1\r\n00:00:01,000 --> 00:00:02,000\r\nHi\r\n",
    "SGML": b'<srcset setid="x" srclang="any">\n<doc sysid="ref"><seg id="1">a</seg>',
    "PDF": b"%PDF-1.7\n",
    "Parquet": b"PAR1\0",
    "TMX": TMX.encode("utf-16").replace(b"U\0T\0F\0-\08\0", b"U\0T\0F\0-\0001\0006\0"),
    "XLIFF": SDLXLIFF.encode(),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_other_formats_are_named(tmp_path: Path, kind: str) -> None:
    """A .docx was called "not UTF-8", and two TMX files were trained on as lines of text, tags and all."""
    (tmp_path / "a").write_bytes(FORMATS[kind])
    source = TypeAdapter(Source).validate_python({"source": str(tmp_path / "a"), "target": str(tmp_path / "a")})
    with pytest.raises(DataError, match=kind) as caught:
        next(read_pairs(source))
    assert "--pairs" in (caught.value.hint or "") or kind == "PDF"
    if kind in ("Word", "Excel"):  # as the input of a translation
        with pytest.raises(DataError, match=rf"{kind} .*, not a text"):
            refuse_other_formats(FORMATS[kind], str(tmp_path / "a"))


def test_archives_that_are_no_documents_are_compressed_text(tmp_path: Path) -> None:
    """A pipe, which can be read only once, and an archive of a version that no reader has."""
    os.mkfifo(tmp_path / "pipe")
    odd = bytearray(FORMATS["Word"])
    odd[odd.index(b"PK\x01\x02") + 6] = 0xFF
    (tmp_path / "odd").write_bytes(odd)
    for name in ("pipe", "odd"):
        with pytest.raises(DataError, match="is a zip archive, not a text"):
            refuse_other_formats(bytes(odd), str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("a.jsonl", "JSON file", '{"en": "a house", "de": "ein Haus"}\n' * 3),
        ("a.json", "JSON file", '[\n {"en": "a house",\n "de": "ein Haus"}\n]'),
        ("a.csv", "table of 2 columns", "en;de\n" + "a house;ein Haus\n" * 3),
        ("a.tsv", "table of 2 columns", "a house\tein Haus\n" * 3),
    ],
)
def test_a_table_is_no_side_of_a_corpus(tmp_path: Path, name: str, kind: str, content: str) -> None:
    """The lines of a JSON file were trained on as sentences."""
    (tmp_path / name).write_text(content)
    (tmp_path / "b").write_text("ein Haus\n" * 3)
    source = TypeAdapter(Source).validate_python({"source": str(tmp_path / name), "target": str(tmp_path / "b")})
    with pytest.raises(DataError, match=kind) as caught:
        next(read_pairs(source))
    assert f"--pairs {tmp_path / name}" in (caught.value.hint or "")


def test_text_is_no_other_format(tmp_path: Path) -> None:
    for text in ("<b>bold</b> text\n", "1\n2\n", "msgid is a word\n", "%P\n", "[a] b\n", "<p>\n"):
        (tmp_path / "a").write_text(text)
        source = TypeAdapter(Source).validate_python({"source": str(tmp_path / "a"), "target": str(tmp_path / "a")})
        assert next(read_pairs(source))[0] + "\n" == text.partition("\n")[0] + "\n"
    lines = "One, two, three.\nFour.\n{name} is here.\n"
    (tmp_path / "a.csv").write_text(lines)
    source = TypeAdapter(Source).validate_python({"source": str(tmp_path / "a.csv"), "target": str(tmp_path / "a.csv")})
    assert [left for left, _ in read_pairs(source)] == lines.splitlines()


@pytest.mark.parametrize(("name", "languages"), [("a.tmx", ("de", "en")), ("b.mqxliff", ("en", "de"))])
def test_memories_are_detected(tmp_path: Path, name: str, languages: tuple[str, str]) -> None:
    (tmp_path / name).write_text(TMX if name == "a.tmx" else SDLXLIFF)
    assert languages_of(detect_source(str(tmp_path / name))) == languages
