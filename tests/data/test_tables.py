"""Tables as people export them: quoting, delimiters, headers, odd rows, JSON arrays, Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from seq2seq.config.settings import CleaningSettings
from seq2seq.config.sources import Source
from seq2seq.data.cleaning import CleaningReport
from seq2seq.data.corpus import read_pairs
from seq2seq.data.detect import detect_source, languages_of
from seq2seq.data.files import Pair
from seq2seq.errors import DataError, UsageError

NOUNS = ("A dog", "Hund"), ("Snow", "Schnee"), ("The old man", "Opa"), ("My car", "Auto"), ("Everyone", "Alle")
ROWS = [(f"{NOUNS[n % 5][0]} has number {n}.", f"{NOUNS[n % 5][1]} mit Nummer {n}.") for n in range(40)]


def read(folder: Path, form: str, content: str | bytes, **settings: Any) -> list[Pair]:
    path = folder / f"table.{form}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    source = TypeAdapter(Source).validate_python({form: str(path), **settings})
    return list(read_pairs(source, max_unreadable=settings.pop("most", 0.01)))


def tsv(rows: list[Pair]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


@pytest.mark.parametrize("form", ["tsv", "csv"])
def test_cells_are_quoted_as_csv_does(tmp_path: Path, form: str) -> None:
    """A TSV that pandas had written was trained on with its quotation marks; a newline in a cell ended in an error."""
    text = 'en\tde\n"He said ""yes"".\tTwice."\tEr sagte Ja.\nplain\t"zwei\nZeilen, ""ja"""\n' + tsv(ROWS)
    assert read(tmp_path, form, text, source="en", target="de") == [
        ('He said "yes".\tTwice.', "Er sagte Ja."),
        ("plain", 'zwei Zeilen, "ja"'),
        *ROWS,
    ]
    everything = "".join(f'"{left}"\t"{right}"\n' for left, right in ROWS)
    assert read(tmp_path, form, everything) == ROWS


APOSTROPHES = [("It's", "Es ist's"), ("the dogs' bowl", "der Napf"), ("'Tis 5 o'clock, \"now\"", "5"), *ROWS]


@pytest.mark.parametrize("form", ["tsv", "csv"])
@pytest.mark.parametrize("header", ["", "en,de", "'en','de'"])
@pytest.mark.parametrize("inner", ["''", r"\'", "'"])
def test_cells_in_single_quotes(tmp_path: Path, form: str, header: str, inner: str) -> None:
    """They were trained on with the quotes around them."""
    delimiter = "\t" if form == "tsv" else ","
    rows = ["'" + f"'{delimiter}'".join(cell.replace("'", inner) for cell in row) + "'" for row in APOSTROPHES]
    text = "".join(f"{row}\n" for row in [header.replace(",", delimiter), *rows] if row)
    assert read(tmp_path, form, text, **({"source": "en", "target": "de"} if header else {})) == APOSTROPHES


def test_single_quotes_around_cells_that_need_them(tmp_path: Path) -> None:
    text = "".join(
        ",".join(f"'{c.replace(chr(39), chr(39) * 2)}'" if set(c) & set("',\n") else c for c in row) + "\n"
        for row in [*APOSTROPHES, ("a,\nb", "c"), ("so, so", "so"), ("one, two", "eins")]
    )
    assert read(tmp_path, "csv", text) == [*APOSTROPHES, ("a, b", "c"), ("so, so", "so"), ("one, two", "eins")]


@pytest.mark.parametrize("form", ["tsv", "csv"])
def test_an_apostrophe_is_no_quotation_mark(tmp_path: Path, form: str) -> None:
    spoken = [("'Go!' he said.", "'Geh!', sagte er."), ("'Yes, no.'", "'Ja.'"), ("'Well!'", "'Gut!'")]
    rows = [*spoken, *APOSTROPHES]
    if form == "tsv":
        assert read(tmp_path, form, tsv(rows)) == rows
    else:
        quoted = "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows)
        assert read(tmp_path, form, quoted) == rows
        assert read(tmp_path, form, "".join(f"{left};{right}\n" for left, right in rows)) == rows


def test_backslashes_before_quotation_marks(tmp_path: Path) -> None:
    """They were trained on, with the quotation marks around the cells; so MySQL writes."""
    text = "en,de\n" + "".join(f'"He said \\"{left}\\", twice","{right}"\n' for left, right in ROWS)
    text += '"5\\" wide","5 Zoll"\n"C:\\","D:\\"\n'
    assert read(tmp_path, "csv", text, source="en", target="de") == [
        *((f'He said "{left}", twice', right) for left, right in ROWS),
        ('5" wide', "5 Zoll"),
        ("C:\\", "D:\\"),
    ]


def test_quotation_marks_are_text_in_a_published_tsv(tmp_path: Path) -> None:
    """One mark at the beginning of a cell would otherwise take every row up to the next one."""
    rows = [('"Go!" he said.', '"Geh!", sagte er.'), ('He said "yes".', "„Ja“"), ('"open', 'offen"'), *ROWS]
    assert read(tmp_path, "tsv", tsv(rows)) == rows


@pytest.mark.parametrize(
    "text",
    [
        "a b, c;d e\nf, g, h;i\n",
        'sep=;\n"a b, c";d e\n"f, g, h";i\n',
        '"a b, c",d e\r\n"f, g, h",i\r\n',
        '"a b, c", "d e"\n"f, g, h", "i"\n',
        "a b, c\td e\nf, g, h\ti\n",
        "en;de;;\na b, c;d e;;\n;;;\nf, g, h;i;;\n",
        'text_en,text_de\n\n"a b, c",d e\n"f, g, h",i\n'.replace("text_", ""),
    ],
)
def test_the_delimiter_is_recognized(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, "csv", text) == [("a b, c", "d e"), ("f, g, h", "i")]


@pytest.mark.parametrize("header", ["en\tde", "source\ttarget", "English\tGerman", "en\tyor", "eng_Latn\tdeu_Latn"])
def test_a_header_is_no_pair(tmp_path: Path, header: str) -> None:
    assert read(tmp_path, "tsv", f"{header}\n{tsv(ROWS)}") == ROWS


def test_a_first_row_of_short_words_is_a_pair(tmp_path: Path) -> None:
    rows = [("cat", "gato"), ("no", "não"), ("dog", "cão")]
    assert read(tmp_path, "tsv", tsv(rows)) == rows


def test_odd_rows_are_dropped_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row without a tab refused a whole corpus, and a tab within a sentence shifted its columns in silence."""
    odd = "no tab\none\ttab\tmore\n\n\t\n"
    text = tsv(ROWS[:20]) + odd + tsv(ROWS[20:])
    assert read(tmp_path, "tsv", text) == ROWS
    said = capsys.readouterr().err
    assert "2 of 42 rows cannot be read: 1 column instead of 2 (1), 3 columns instead of 2 (1)" in said
    assert "table.tsv:21: no tab" in said
    assert "skipped blank rows: 2" in said
    with pytest.raises(DataError, match="5 of 45 rows cannot be read") as caught:
        read(tmp_path, "tsv", "A\tb\tc\n" * 3 + text)
    assert (caught.value.exit_code, caught.value.code) == (3, "data.unreadable")
    share = float((caught.value.hint or "").partition("max_unreadable=")[2].partition(" ")[0])
    source = TypeAdapter(Source).validate_python({"tsv": str(tmp_path / "table.tsv")})
    counts = CleaningReport()
    assert len(list(read_pairs(source, max_unreadable=share, counts=counts))) == 40
    assert (counts.read, counts.unreadable) == (5, 5)


def test_a_share_may_be_a_percentage() -> None:
    assert CleaningSettings.model_validate({"max_unreadable": "2.5 %"}).max_unreadable == 0.025
    with pytest.raises(ValueError, match="less than or equal"):
        CleaningSettings.model_validate({"max_unreadable": "101%"})


def test_a_quotation_mark_without_end_costs_one_row(tmp_path: Path) -> None:
    quoted = "".join(f'{left},"{right} ""ja"""\n' for left, right in ROWS)
    expected = [(left, f'{right} "ja"') for left, right in ROWS]
    assert (
        read(tmp_path, "csv", quoted.replace("Snow has number 6", '"Snow has number 6')) == expected[:6] + expected[7:]
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [(2, "the rows have 2 columns, numbered from 0"), ("dee", "did you mean 'de'"), ("x", "header row holds: en, de")],
)
def test_columns_that_are_not_there(tmp_path: Path, target: int | str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, "csv", "en,de\na,b\n", source=1, target=target)
    assert caught.value.code == "data.column"


def test_a_column_that_is_not_text_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Columns counted from 1: a model was trained to translate German into licences."""
    rows = [(*row, f"CC-BY 2.0 (somewhere) #{n} (someone)", f"{n / 7:.3f}") for n, row in enumerate(ROWS)]
    text = "".join("\t".join(row) + "\n" for row in rows)
    read(tmp_path, "tsv", text, source=1, target=2)
    assert "target column 2 holds the same beginning in nearly every row (CC-BY 0.0" in capsys.readouterr().err
    read(tmp_path, "tsv", text, source=0, target=3)
    assert "target column 3 holds numbers" in capsys.readouterr().err
    read(tmp_path, "tsv", text)
    assert "column" not in capsys.readouterr().err


NUMBERED = "id\tde\ten\n" + "".join(f"{n}\t{b}\t{a}\n" for n, (a, b) in enumerate(ROWS))
RECORDS = [{"id": n, "translation": {"en": left, "de": right}} for n, (left, right) in enumerate(ROWS[:3])]
JSON = {
    "lines": "\n".join(map(json.dumps, RECORDS)) + "\n\n",
    "array": json.dumps(RECORDS),
    "indented": json.dumps(RECORDS, indent=2),
    "wrapped": json.dumps({"data": RECORDS}),
    "objects": "\n".join(json.dumps(record, indent=1) for record in RECORDS),
    "mark": "\ufeff" + json.dumps(RECORDS),
}


@pytest.mark.parametrize("form", JSON)
@pytest.mark.parametrize("key", ["json", "jsonl"])
def test_forms_of_json(tmp_path: Path, form: str, key: str) -> None:
    assert read(tmp_path, key, JSON[form], source="translation.en", target="translation.de") == ROWS[:3]


def test_an_array_longer_than_a_chunk(tmp_path: Path) -> None:
    texts = [f"{'long ' * 30_000}{number}" for number in range(30)]
    found = read(tmp_path, "json", json.dumps([[text, text[-2:]] for text in texts]), source=0, target=1)
    assert [left for left, _ in found] == texts


@pytest.mark.parametrize(
    "content", ['[{"a": "x", "b": "y"}, {"a": "', '[{"a": "x", "b": "y"} x', '[{"a": "x", "b": "y"},']
)
def test_an_array_that_is_cut(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="not JSON after 1 records"):
        read(tmp_path, "json", content, source="a", target="b")


def test_null_is_an_empty_cell(tmp_path: Path) -> None:
    assert read(tmp_path, "jsonl", '{"a": null, "b": "y"}\n{"a": "x", "b": "y"}\n', source="a", target="b")[0] == (
        "",
        "y",
    )


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"translation": [{"en": "a", "de": "b"}, {"en": None, "de": "c"}], "id": [1, 2], "text": ["x", "y"]}
    pq.write_table(pa.table(columns), path)
    content = path.read_bytes()
    nested = {"source": "translation.en", "target": "translation.de"}
    assert read(tmp_path, "parquet", content, **nested) == [("a", "b"), ("", "c")]
    for settings, message in (
        ({"source": "id", "target": "text"}, "'id' is a number, not text"),
        ({"source": "txt", "target": "text"}, "did you mean 'text'"),
    ):
        with pytest.raises(DataError, match=message):
            read(tmp_path, "parquet", content, **settings)
    for damaged in (b"", content[:-20], content[:20] + b"\0" * 40 + content[60:], b"hello"):
        with pytest.raises(DataError):
            read(tmp_path, "parquet", damaged, **nested)


@pytest.mark.parametrize(
    ("name", "content", "columns", "languages"),
    [
        ("a.tsv", NUMBERED, ("de", "en"), ("de", "en")),
        ("a.en-de.txt", tsv(ROWS), (0, 1), ("en", "de")),
        ("a.txt", "".join(f"{n};{a};{b}\n" for n, (a, b) in enumerate(ROWS)), (1, 2), (None, None)),
        ("a.csv", "target,source\nein Hund,a dog\n", ("source", "target"), (None, None)),
        ("a.json", JSON["indented"], ("translation.en", "translation.de"), ("en", "de")),
        ("a.ndjson", '{"n": 1, "src": "x", "trg": "y"}\n', ("src", "trg"), (None, None)),
    ],
)  # fmt: skip
def test_columns_are_detected(
    tmp_path: Path,
    name: str,
    content: str,
    columns: tuple[str | int, str | int],
    languages: tuple[str | None, str | None],
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    source = detect_source(str(tmp_path / name))
    assert (source.source, source.target) == columns
    assert languages_of(source) == languages


def test_a_null_in_the_first_record_does_not_swap_the_sides(tmp_path: Path) -> None:
    records = [{"id": 1, "en": None, "de": "Hund"}, *({"id": 2, "en": left, "de": right} for left, right in ROWS)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    found = detect_source(str(tmp_path / "a.jsonl"))
    assert (found.source, found.target) == ("en", "de")


@pytest.mark.parametrize(("text", "message", "hint"), [("a\nb\n", "between columns", "--valid"), ("", "is empty", "")])
def test_a_text_or_an_empty_file_is_no_table(tmp_path: Path, text: str, message: str, hint: str) -> None:
    """`--valid dev.en` alone was told of semicolons, and an empty file asked which of its no columns to take."""
    (tmp_path / "dev.en").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        detect_source(str(tmp_path / "dev.en"))
    assert hint in (caught.value.hint or "")


def test_more_than_two_languages_must_be_chosen_from(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("en,de,fr\na dog,ein Hund,un chien\n")
    with pytest.raises(UsageError, match="--source en --target de"):
        detect_source(str(path))
    assert detect_source(str(path), "fr", "de-AT").model_dump(include={"source", "target"}) == {
        "source": "fr",
        "target": "de",
    }
    with pytest.raises(UsageError, match="has no column 'es'"):
        detect_source(str(path), "es", "de")


def test_a_quoted_cell_may_be_long(tmp_path: Path) -> None:
    """Above 128 KiB it was dropped as a cell with an unclosed quotation mark."""
    long = ("x " * 100_000 + '"', "lang")
    text = "".join(f'"{one.replace(chr(34), chr(34) * 2)}","{other}"\n' for one, other in [*ROWS, long])
    assert read(tmp_path, "csv", text)[-1] == (long[0], "lang")
