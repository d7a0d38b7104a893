"""Documents: with each text as its own translation they come back as they were, whatever the format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from seq2seq.config.sources import XliffSource
from seq2seq.data.translation_memories import read_xliff
from seq2seq.data.unreadable_rows import RowReport
from seq2seq.documents.formats import document_format
from seq2seq.documents.opening import open_document
from seq2seq.documents.pieces import Document
from seq2seq.errors import DataError, UserError

LANGUAGES = ("en", "de")


def opened(file: Path, content: str, *, column: str | None = None, inline_tags: bool = True) -> Document:
    file.write_text(content, encoding="utf-8", newline="")
    form = document_format(file)
    assert form is not None
    return open_document(file, form, LANGUAGES, column=column, inline_tags=inline_tags)


def align(pairs: Sequence[tuple[str, str]]) -> list[list[tuple[int, int]]]:
    return [[(number, number) for number in range(len(source.split()))] for source, _ in pairs]


def translated(document: Document, prefix: str = "") -> str:
    """The document with each text as its own translation, behind a prefix."""
    texts = list(document.texts())
    return document.written([(text, prefix + text if text else "") for text in texts], align)


HTML = """<!DOCTYPE html>
<html><head><title>A title</title><style>b { x: "<p>" }</style></head>
<!-- <p>no text</p> -->
<body><p class="a>b">One <b>two</b> &lt;three&gt; <a href='#'><i>four</i> five</a>.</p><br>
  <p>&nbsp;</p><pre> as  it  is </pre>1 < 2 &amp; 3<img src="x"> six</body></html>
"""


@pytest.mark.parametrize("inline_tags", [True, False])
def test_a_web_page(inline_tags: bool, tmp_path: Path) -> None:
    page = HTML.replace("1 < 2", "1 &lt; 2")
    document = opened(tmp_path / "page.html", HTML, inline_tags=inline_tags)
    assert translated(document) == page
    texts = [text for text in opened(tmp_path / "page.html", HTML, inline_tags=inline_tags).texts() if text]
    if inline_tags:
        assert texts == ["A title", "One two <three> four five.", "1 < 2 & 3 six"]
    else:
        assert texts == ["A title", "One", "two", "<three>", "four", "five", ".", "1 < 2 & 3", "six"]


def test_a_part_of_a_page_is_known_by_its_name(tmp_path: Path) -> None:
    assert translated(opened(tmp_path / "part.htm", "<p>One</p>\n"), "x") == "<p>xOne</p>\n"
    (tmp_path / "part.txt").write_text("<p>One</p>\n")
    assert document_format(tmp_path / "part.txt") is None


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles(form: str, tmp_path: Path) -> None:
    point = "," if form == "srt" else "."
    head = "" if form == "srt" else "WEBVTT\n\nNOTE not a text\n\n"
    mark = "&" if form == "srt" else "&amp;"
    times = f"00:00:01{point}000 --> 00:00:02{point}500"
    speakers = f"{times}\n- Three {mark} four\n- Five\n"
    cues = f"{head}1\n{times}\nOne {{}}<i>two</i>\n\n2\n{speakers}\n3\n{times}\n\n4\n{times}\nSix\n"
    document = opened(tmp_path / f"film.{form}", cues.format("and\n"))
    assert translated(document) == cues.format("and ")
    texts = [text for text in opened(tmp_path / f"film.{form}", cues.format("\n")).texts() if text]
    assert texts == ["One two", "- Three & four", "- Five", "Six"]


def test_a_table_keeps_its_rows(tmp_path: Path) -> None:
    rows = ["id,en,note", '1,"One, two",x', '2,"say ""three""\nfour",', "3,,y", "4,five,z"]
    document = opened(tmp_path / "table.csv", "\r\n".join(rows) + "\r\n")
    cells = ["de", '"x One, two"', '"x say ""three"" four"', "", "x five"]
    expected = "".join(f"{row},{cell}\n" for row, cell in zip(rows, cells, strict=True))
    assert translated(document, "x ") == expected


def test_columns_are_chosen_by_name_by_number_and_by_language(tmp_path: Path) -> None:
    text = "source\tde\tid\n" + "".join(f"One {n}\tEins {n}\t{n}\n" for n in range(30))
    first = translated(opened(tmp_path / "a.tsv", text), "x ").split("\n")[:2]
    assert first == ["source\tde\tid\tde_translation", "One 0\tEins 0\t0\tx One 0"]
    assert translated(opened(tmp_path / "a.tsv", text, column="DE"), "x ").split("\n")[1].endswith("\tx Eins 0")
    bare = text.partition("\n")[2]
    assert translated(opened(tmp_path / "b.tsv", bare, column="1"), "x ").split("\n")[0].endswith("\tx Eins 0")
    for name, content, column, message in (
        ("a.tsv", text, "fr", "no column 'fr'"),
        ("b.tsv", bare, None, "which column"),
        ("b.tsv", bare, "3", "no column '3'"),
        ("c.jsonl", '{"a": "x", "b": "y"}\n', None, "which column"),
        ("c.jsonl", '[{"a": "x", "b": "y"}]\n', None, "not JSON lines"),
    ):
        with pytest.raises(UserError, match=message) as raised:
            translated(opened(tmp_path / name, content, column=column))
        assert raised.value.hint


def test_records_keep_their_fields(tmp_path: Path) -> None:
    lines = [
        {"id": 1, "translation": {"en": "One\ntwo", "fr": "Un"}, "ü": [1.5, None]},
        {"id": 2, "translation": {"en": ""}},
        {"id": 3},
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines) + "broken\n\n"
    document = opened(tmp_path / "records.jsonl", content)
    *written, broken, blank, end = translated(document, "x ").split("\n")
    assert (broken, blank, end) == ("broken", "", "")
    lines[0]["translation"]["de"] = "x One two"  # type: ignore[index]
    lines[1]["translation"]["de"] = ""  # type: ignore[index]
    assert list(map(json.loads, written)) == lines


XLIFF_1 = """<?xml version="1.0"?>
<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2"><!-- <source>no</source> -->
  <file original="a>b" source-language="en-GB" datatype="x"><header><note>No</note></header><body>
    <trans-unit id="1">
      <source>One <g id="1">two</g> &amp; <ph id="2">&lt;br&gt;</ph>three</source>{1}
    </trans-unit>
    <trans-unit id="2"><source>Four</source><target state="final">Vier</target></trans-unit>
    <trans-unit id="3"><source>Five</source>{3}<alt-trans><source>a</source><target>b</target></alt-trans></trans-unit>
    <group translate="no"><trans-unit id="4"><source>Six</source></trans-unit></group>
    <trans-unit id="5"><source><![CDATA[<p>Seven <b>eight</b> &lt; nine</p>]]></source>{5}</trans-unit>
    <trans-unit id="6"><source> </source></trans-unit>
  </body></file>
</xliff>
"""
TARGET = '<target state="needs-review-translation">'


def test_xliff_1(tmp_path: Path) -> None:
    empty = {"1": "", "3": '<target state="new">Five</target>', "5": "<target/>"}
    content = XLIFF_1
    for unit, target in empty.items():
        content = content.replace(f"{{{unit}}}", target)
    expected = XLIFF_1.replace('original="a>b"', 'target-language="de" original="a>b"')
    for unit, target in {
        "1": f'\n      {TARGET}One <g id="1">two</g> &amp; <ph id="2">&lt;br&gt;</ph>three</target>',
        "3": f"{TARGET}Five</target>",
        "5": f"{TARGET}<![CDATA[<p>Seven <b>eight</b> &lt; nine</p>]]></target>",
    }.items():
        expected = expected.replace(f"{{{unit}}}", target)
    assert translated(opened(tmp_path / "a.xlf", content)) == expected
    assert translated(opened(tmp_path / "b.xlf", expected)) == expected  # nothing is left to translate
    report = RowReport("b.xlf", 1.0)
    pairs = list(read_xliff(XliffSource(xliff=str(tmp_path / "b.xlf")), report))
    assert [source for source, _ in pairs][:3] == ["One two & three", "Four", "Five"]


def test_xliff_2(tmp_path: Path) -> None:
    """With a prefix for its namespace, which the new elements have, too."""
    head = '<x:xliff{} xmlns:x="urn:oasis:names:tc:xliff:document:2.0" version="2.0" srcLang="en"><x:unit id="u">'
    new = '<x:segment{}><x:source>One <x:pc id="1">two</x:pc></x:source>{}</x:segment>'
    done = "<x:segment><x:source>Three</x:source><x:target>Drei</x:target></x:segment></x:unit></x:xliff>\n"
    content = head.format("") + new.format(' state="initial"', "") + done
    target = '<x:target>One <x:pc id="1">two</x:pc></x:target>'
    expected = head.format(' trgLang="de"') + new.format(' state="translated"', target) + done
    assert translated(opened(tmp_path / "a.xlf", content)) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("en-GB", "fr"), "its languages are fr and any, not en and de"),
        (("</xliff>", ""), "not well-formed XML"),
        (("<xliff ", '<!DOCTYPE xliff [<!ENTITY a "b">]><xliff '), "definitions of its own"),
    ],
)
def test_damaged_and_foreign_xliff(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    content = XLIFF_1.format(*[""] * 6).replace(*change)
    with pytest.raises(DataError, match=message):
        translated(opened(tmp_path / "a.xlf", content))


def test_pieces_written_before_an_interruption_are_left_out(tmp_path: Path) -> None:
    content = "en,id\nOne,1\nTwo,2\nThree,3\n"
    texts = list(opened(tmp_path / "a.csv", content).texts())
    document = opened(tmp_path / "a.csv", content)
    stream = document.texts()
    done = [next(stream) for _ in range(2)]
    document.skip(2)
    rest = list(stream)
    assert done + rest == texts
    assert document.written([(text, text) for text in rest], align) == "Two,2,Two\nThree,3,Three\n"
