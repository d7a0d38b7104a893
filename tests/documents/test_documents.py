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


def translated(document: Document, prefix: str = "") -> str:
    """The document with each text as its own translation, behind a prefix."""
    texts = list(document.texts())
    before = len(prefix.split())

    def align(numbers: Sequence[int]) -> list[list[tuple[int, int]]]:
        return [[(word, word + before) for word in range(len(texts[number].split()))] for number in numbers]

    return document.written([prefix + text if text else "" for text in texts], align)


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


@pytest.mark.parametrize(
    ("page", "texts"),
    [
        ('<p>One <span translate="no">two <span>x</span></span> three</p>', ["One three"]),
        ('<div class="a notranslate"><div>One</div> two</div><p>Three</p>', ["Three"]),
        ("<p>One <!-- no --> two</p>", ["One two"]),
        ('<p>One <img class="notranslate" src="x"> two</p>', ["One two"]),
    ],
)
def test_text_that_is_not_to_be_translated(page: str, texts: list[str], tmp_path: Path) -> None:
    assert [text for text in opened(tmp_path / "page.html", page + "\n").texts() if text] == texts
    assert translated(opened(tmp_path / "page.html", page + "\n")) == page + "\n"


@pytest.mark.parametrize("name", ["page.html", "film.srt", "film.vtt", "strings.xliff", "records.jsonl", "table.csv"])
def test_line_ends_and_a_byte_order_mark_are_kept(name: str, tmp_path: Path) -> None:
    cue = "00:00:01.000 --> 00:00:02.000\nOne\n"
    content = {
        "html": "<p>One</p>\n<p>Two</p>\n",
        "srt": "1\n" + cue.replace(".", ","),
        "vtt": "WEBVTT\n\n" + cue,
        "xliff": XLIFF_1.format(*range(6)).replace("en-GB", "en").replace("<file", '<file target-language="de"'),
        "jsonl": '{"en": "One"}\n{"en": "Two"}\n',
        "csv": "sep=;\nen;id\nOne;1\nTwo;2\n",
    }[name.rpartition(".")[2]]
    plain = translated(opened(tmp_path / name, content))
    marked = translated(opened(tmp_path / name, "\ufeff" + content.replace("\n", "\r\n")))
    assert marked == "\ufeff" + plain.replace("\n", "\r\n")


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
    assert translated(document) == cues.format("and\n")
    texts = [text for text in opened(tmp_path / f"film.{form}", cues.format("\n")).texts() if text]
    assert texts == ["One two", "Three & four", "Five", "Six"]


def test_a_cue_keeps_its_number_of_lines(tmp_path: Path) -> None:
    """Two lines of a film became one, twice as long."""
    cue = "00:00:01.000 --> 00:00:02.000\n"
    content = f"WEBVTT\n\n{cue}One two <c.a b>three\nfour</c> five\n\n{cue}One\ntwo\n"
    document = opened(tmp_path / "film.vtt", content)
    texts = list(document.texts())
    links = [[(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]]
    written = document.written([text and f"{text}{' six seven' * (len(text) > 9)}" for text in texts], lambda _: links)
    assert written == f"WEBVTT\n\n{cue}One two <c.a b>three four</c>\nfive six seven\n\n{cue}One\ntwo\n"
    (tmp_path / "film.vtt").write_text(f"WEBVTT\n\n{cue}One two\nthree\nfour\n")
    one = open_document(tmp_path / "film.vtt", "vtt", LANGUAGES)
    assert one.written(["一二三" for _ in one.texts()], lambda _: []).endswith("一二三\n")


@pytest.mark.parametrize(
    ("form", "cue", "texts"),
    [
        ("srt", "{\\an8}One <font color='red'>two</font>", ["One two"]),
        ("vtt", "<v Ann>One <00:00:01.500><c.loud>two</c></v>", ["One two"]),
        ("vtt", "<v Ann>One</v>\n<v Bob>Two</v>", ["One", "Two"]),
        ("vtt", "-5 degrees", ["-5 degrees"]),
    ],
)
def test_styles_of_subtitles(form: str, cue: str, texts: list[str], tmp_path: Path) -> None:
    content = "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n" + cue + "\n"
    assert [text for text in opened(tmp_path / f"film.{form}", content).texts() if text] == texts
    assert translated(opened(tmp_path / f"film.{form}", content)) == content


def test_a_table_keeps_its_rows(tmp_path: Path) -> None:
    rows = ["id,en,note", '1,"One, two",x', '2,"say ""three""\nfour",', "3,,y", "4,five,z"]
    document = opened(tmp_path / "table.csv", "\r\n".join(rows) + "\r\n")
    cells = ["de", '"x One, two"', '"x say ""three"" four"', "", "x five"]
    expected = "".join(f"{row},{cell}\r\n" for row, cell in zip(rows, cells, strict=True))
    assert translated(document, "x ") == expected


def test_short_rows_and_long_ones(tmp_path: Path) -> None:
    """A row without its last cells was not translated; one with too many has a delimiter in a text, and stays."""
    usual = "".join(f"{number},One,a,b\n" for number in range(3))
    document = opened(tmp_path / "table.csv", "id,en,x,y\n" + usual + "4,Two\n5\n6,Three, four,a,b\n7,Five,a,b\n")
    written = translated(document, "x ").splitlines()[4:]
    assert written == ["4,Two,,,x Two", "5", "6,Three, four,a,b", "7,Five,a,b,x Five"]


def test_a_single_column_is_a_table_if_its_header_says_so(tmp_path: Path) -> None:
    content = 'en\n"One, two"\nThree\n'
    assert translated(opened(tmp_path / "a.csv", content), "x ") == 'en,de\n"One, two","x One, two"\nThree,x Three\n'
    (tmp_path / "b.csv").write_text("One\nTwo\n")
    assert document_format(tmp_path / "b.csv") is None


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


def test_records_are_written_as_they_were(tmp_path: Path) -> None:
    """Numbers were written anew: 1.50 as 1.5, and 1e400 as Infinity, which is no JSON."""
    first = ' {"n": 1.50, "m": 1e400, "\\u00fc": {"t": [{"en": 0}, "}"], "en": "One", "x": {} } , "k":"\\/"} '
    document = opened(tmp_path / "records.jsonl", first + '\n{"\u00fc": {"en": "Two", "de": "Zwei"}}\n' * 1)
    written = translated(document, "x ").split("\n")
    new = [name for name in json.loads(written[0])["ü"] if name not in ("t", "en", "x")]
    assert written[0] == first.replace('"x": {}', f'"x": {{}}, "{new[0]}": "x One"')
    assert json.loads(written[1]) == {"ü": {"en": "Two", "de": "Zwei", new[0]: "x Two"}}


def test_messages_of_a_program(tmp_path: Path) -> None:
    content = """{
  "@@locale": "en", "one": "One <b>\\"two\\"</b> {name}", "n": 1.50,
  "inner": {"two": ["Three\\nfour", "\\u00e9"], "@two": {"description": "no"}, "one": "Five"},
  "items": "{n, plural, one {a} other {b}}", "six" : "Six"
}
"""
    document = opened(tmp_path / "en.json", content)
    expected = content.replace('"One', '"x One').replace("Three\\nfour", "x Three\\nx four").replace("\\u00e9", "x é")
    assert translated(document, "x ") == expected.replace('"Five', '"x Five').replace('"Six"', '"x Six"')
    assert document_format(tmp_path / "en.json") == "json"
    (tmp_path / "en.json").write_text('{"en": "One"}\n{"en": "Two"}\n')
    assert document_format(tmp_path / "en.json") == "jsonl"
    with pytest.raises(DataError, match="not JSON"):
        translated(opened(tmp_path / "en.json", content.replace("1.50", "1.50.")))


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


def unit(inside: str) -> str:
    head = '<xliff version="1.2"><file source-language="en" target-language="de" original="x"><body>'
    return f'{head}<trans-unit id="1">{inside}</trans-unit></body></file></xliff>\n'


@pytest.mark.parametrize(
    ("source", "before", "after"),
    [
        pytest.param(
            '<source>One. Two.</source><seg-source><g id="9"><mrk mtype="seg" mid="1">One.</mrk> '
            '<mrk mtype="seg" mid="2">Two <x id="3"/>.</mrk></g></seg-source>',
            "",
            f'{TARGET}<g id="9"><mrk mtype="seg" mid="1">x One.</mrk> '
            '<mrk mtype="seg" mid="2">x Two <x id="3"/>.</mrk></g></target>',
            id="segments of Trados",
        ),
        pytest.param(
            '<source>One. Two.</source><seg-source><mrk mtype="seg" mid="1">One.</mrk> '
            '<mrk mtype="seg" mid="2">Two.</mrk></seg-source>',
            '<target><mrk mtype="seg" mid="1">Eins.</mrk> <mrk mtype="seg" mid="2"/></target>',
            f'{TARGET}<mrk mtype="seg" mid="1">Eins.</mrk> <mrk mtype="seg" mid="2">x Two.</mrk></target>',
            id="a segment of Trados that is translated",
        ),
        pytest.param(
            "<source>One</source>",
            "<target xml:space='preserve' state='new' x='1'></target>",
            "<target xml:space='preserve' x='1' state=\"needs-review-translation\">x One</target>",
            id="attributes of an empty target, as of memoQ",
        ),
        pytest.param(
            "<source><![CDATA[AT&T]]></source>",
            '<target state="needs-translation"><![CDATA[AT&T]]></target>',
            f"{TARGET}<![CDATA[x AT&T]]></target>",
            id="text of WPML that is no HTML",
        ),
        pytest.param(
            '<source xml:space="preserve">One\n two\n\nthree</source>',
            "",
            '<target xml:space="preserve" state="needs-review-translation">x One\n x two\n\nx three</target>',
            id="lines",
        ),
        pytest.param(
            "<source>One\n two\n\nthree</source>", "", f"{TARGET}x One two\n\nx three</target>", id="paragraphs"
        ),
        pytest.param(
            '<source>One <bpt id="1">(</bpt>two<ept id="1">)</ept> <mrk mtype="protected">a b</mrk></source>',
            "",
            f'{TARGET}x One <bpt id="1">(</bpt>two<ept id="1">)</ept> <mrk mtype="protected">a b</mrk></target>',
            id="native tags and protected text",
        ),
        pytest.param("<source>{n, plural, one {a} other {b}}</source>", "", "", id="plural forms"),
    ],
)
def test_xliff_of_other_tools(source: str, before: str, after: str, tmp_path: Path) -> None:
    written = translated(opened(tmp_path / "a.xlf", unit(source + before)), "x ")
    assert written == unit(source + after)
    assert not any(opened(tmp_path / "a.xlf", written).texts())  # nothing is left to translate


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "windows-1252", "shift_jis"])
def test_xliff_in_another_encoding(encoding: str, tmp_path: Path) -> None:
    letters = "日本" if encoding in ("utf-16", "shift_jis") else "é"
    content = f'<?xml version="1.0" encoding="{encoding}"?>\n' + unit(f"<source>One {letters}</source>")
    file = tmp_path / "a.xlf"
    file.write_bytes(content.encode(encoding))
    written = translated(open_document(file, "xliff", LANGUAGES))
    assert written.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    assert f"{TARGET}One {letters}</target>" in written
    file.write_bytes(content.replace(encoding, "nowhere").encode("utf-8"))
    with pytest.raises(DataError, match="'nowhere', which it declares, is not known"):
        open_document(file, "xliff", LANGUAGES)


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
    assert document.written(rest, lambda numbers: []) == "Two,2,Two\nThree,3,Three\n"
