"""`data check`: faults put into a small corpus are found with their lines, and cleaned."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import run_command
from tests.parallel_text import write_pairs

from seq2seq.checks.corpus import CorpusCheck, _numbers
from seq2seq.checks.findings import SourceReport
from seq2seq.config.sources import TextSource
from seq2seq.data.clean_copy import clean_copy
from seq2seq.data.demo import builtin_pairs
from seq2seq.reports.corpus_page import corpus_page
from seq2seq.reports.page import to_text

Pairs = list[list[str]]


@pytest.fixture(autouse=True)
def without_py3langid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests mean the same whether it is installed or not."""
    monkeypatch.setitem(sys.modules, "py3langid", None)


@pytest.fixture
def pairs() -> Pairs:
    return [list(pair) for pair in dict.fromkeys(builtin_pairs("demo", "train")[:900])][:600]


def write(pairs: Pairs, folder: Path, name: str = "corpus") -> TextSource:
    source, target = write_pairs(folder, pairs, name)
    return TextSource(source=str(source), target=str(target))


def report_of(pairs: Pairs, folder: Path, *held_out: TextSource) -> SourceReport:
    return CorpusCheck(("en", "de"), held_out).check(write(pairs, folder))


def lines(report: SourceReport, kind: str) -> list[int]:
    return list(report.findings[kind].lines) if kind in report.findings else []


def test_a_clean_corpus_has_no_findings(pairs: Pairs, tmp_path: Path) -> None:
    report = report_of(pairs, tmp_path)
    assert report.pairs == len(pairs)
    assert report.findings == {}
    assert not report.failed
    assert to_text(corpus_page([report])).endswith("Nothing found")


def test_faults_are_found_with_their_lines(pairs: Pairs, tmp_path: Path) -> None:
    held_out = write([pairs[400]], tmp_path, "test")
    changes = {
        10: ("blank", ["", pairs[10][1]]),
        20: ("duplicate", pairs[5]),
        30: ("copy", [pairs[30][0], pairs[30][0]]),
        40: ("swapped", pairs[40][::-1]),
        50: ("language", [pairs[50][0], "Это предложение написано по-русски."]),
        60: ("length", [pairs[60][0], pairs[60][1] * 8]),
        70: ("encoding", [pairs[70][0] + " \ufffd", pairs[70][1]]),
        80: ("mojibake", [pairs[80][0], "für Öl über".encode().decode("latin-1") + " " + pairs[80][1]]),
        90: ("tags", [f"<b>{pairs[90][0]}</b>", pairs[90][1]]),
        100: ("entities", [pairs[100][0] + " &amp; tea", pairs[100][1]]),
        110: ("controls", [pairs[110][0] + "\x1b[2J", pairs[110][1]]),
        120: ("bidi", [pairs[120][0] + "\u202e", pairs[120][1]]),
        130: ("bom", [pairs[130][0], "\ufeff" + pairs[130][1]]),
        140: ("invisible", [pairs[140][0] + "\u200b", pairs[140][1]]),
        150: ("numbers", [pairs[150][0] + " in 1984", pairs[150][1] + " um 1985"]),
    }
    for number, (_, pair) in changes.items():
        pairs[number] = list(pair)
    report = report_of(pairs, tmp_path, held_out)
    found = {kind: list(finding.lines) for kind, finding in report.findings.items()}
    assert found == {"leaked": [401], **{kind: [number + 1] for number, (kind, _) in changes.items()}}
    assert report.failed  # leaked pairs are always an error
    assert [finding.verdict(600) for finding in report.sorted()][:2] == ["error", "error"]  # leaked, mojibake
    assert not set("\x1b\u202e\ufeff") & set(to_text(corpus_page([report])))
    assert all(example["line"] for finding in report.as_dict()["findings"] for example in finding["examples"])


@pytest.mark.parametrize("shift", [1, -1, 3])
def test_a_shift_in_the_middle_is_found_where_it_begins_and_ends(pairs: Pairs, shift: int, tmp_path: Path) -> None:
    targets = [pair[1] for pair in pairs]
    for number in range(200, 300):
        pairs[number][1] = targets[number - shift]
    report = report_of(pairs, tmp_path)
    (first, last), *others = report.findings["misaligned"].ranges()
    assert not others
    assert abs(first - 201) <= 4
    assert abs(last - 300) <= 4
    # The first or the last lines have lost their translation, and their targets belong to other lines.
    if abs(shift) == 1:
        assert first == 201 if shift < 0 else last == 300
    assert ("before" if shift < 0 else "further") in report.findings["misaligned"].examples[1]["why"]


def test_a_missing_line_is_found_although_the_files_differ_in_length(pairs: Pairs, tmp_path: Path) -> None:
    """Training refuses two files of different length, and said nothing about where the line is missing."""
    source = write(pairs, tmp_path)
    target = Path(source.target)
    text = target.read_text(encoding="utf-8").split("\n")
    target.write_text("\n".join(text[:300] + text[301:]), encoding="utf-8")
    report = CorpusCheck(("en", "de")).check(source)
    assert "600 lines" in report.findings["line-counts"].examples[0]["why"]
    assert abs(report.findings["misaligned"].ranges()[0][0] - 301) <= 4


@pytest.mark.parametrize(
    ("source", "target", "differ"),
    [
        ("It costs 1,000.50 dollars", "Es kostet 1.000,50 Dollar", False),
        ("at 2:30 pm", "um 14:30 Uhr", False),
        ("2.5 million people", "2.500.000 Menschen", False),
        ("the 1990s", "die 90er", False),
        ("two dogs", "2 Hunde", False),
        ("March 3, 2020", "3. März 2020", False),
        ("in 2024", "ใน พ.ศ. 2567", False),
        ("in 2024", "令和6年に", False),
        ("in 2024", "ใน พ.ศ. 2566", True),
        ("in 1984", "um 1985", True),
        ("36 men and 4 dogs", "63 Männer und 5 Hunde", True),
        (" ".join(map(str, range(10_000, 10_900))), " ".join(map(str, range(20_000, 20_901))), True),  # one number
        ("; ".join(map(str, range(20_000))), "; ".join(map(str, range(90_000, 110_000))), True),
    ],
)
def test_numbers_are_compared_as_numbers(source: str, target: str, differ: bool) -> None:
    assert bool(_numbers(source, target)) is differ


def test_the_cleaned_copy_repairs_drops_and_says_why(pairs: Pairs, tmp_path: Path) -> None:
    clean = [list(pair) for pair in pairs]
    pairs[10] = ["", pairs[10][1]]
    pairs[40] = pairs[40][::-1]
    pairs[80] = [pairs[80][0], pairs[80][1] + " Grüße".encode().decode("cp1252")]
    pairs[90] = [f"<b>{pairs[90][0]}</b>", "\ufeff" + pairs[90][1]]
    clean[80][1] += " Grüße"
    del clean[10]
    source = write(pairs, tmp_path)
    options = ("--source", source.source, "--target", source.target, "--fix", tmp_path / "clean")
    outcome = run_command("data", "check", *options, "--json")
    (report,) = json.loads(outcome.out)
    assert {finding["kind"]: finding["lines"] for finding in report["findings"]} == {
        "blank": [[11, 11]],
        "swapped": [[41, 41]],
        "mojibake": [[81, 81]],
        "tags": [[91, 91]],
        "bom": [[91, 91]],
    }
    assert outcome.code == 3, outcome.err  # mojibake
    for side, language in enumerate(("en", "de")):
        written = (tmp_path / f"clean.{language}").read_text(encoding="utf-8").split("\n")
        assert written == [*(pair[side] for pair in clean), ""]
    rows = (tmp_path / "clean.receipt.tsv").read_text(encoding="utf-8").splitlines()
    assert [row.split("\t")[1:4] for row in rows] == [
        ["line", "action", "kinds"],
        ["11", "dropped", "blank"],
        ["41", "repaired", "swapped"],
        ["81", "repaired", "mojibake"],
        ["91", "repaired", "tags, bom"],
    ]
    assert run_command("data", "check", *options).code == 2  # never over existing files


def test_a_config_is_checked_with_its_test_set(pairs: Pairs, tmp_path: Path) -> None:
    train, test = write(pairs, tmp_path), write(pairs[:2], tmp_path, "test")
    config = tmp_path / "mine.yaml"
    sources = {"train": [train.model_dump(exclude_none=True)], "test": [test.model_dump(exclude_none=True)]}
    config.write_text(json.dumps({"data": {"source_language": "en", "target_language": "de", **sources}}))
    outcome = run_command("data", "check", config)
    assert outcome.code == 3
    assert "[leaked]" in outcome.out
    assert run_command("data", "check").code == 2


@pytest.mark.parametrize("as_table", [False, True])
def test_another_encoding_is_named_with_its_conversion(as_table: bool, pairs: Pairs, tmp_path: Path) -> None:
    """The check of Windows-1252 advised `--fix`, which drops all lines with an umlaut, and named no encoding."""
    if as_table:
        file = tmp_path / "corpus.tsv"
        file.write_bytes("".join(f"{source}\t{target}\n" for source, target in pairs).encode("cp1252"))
        options = ("--pairs", file)
    else:
        source, target = write_pairs(tmp_path, pairs)
        file = target
        file.write_bytes(file.read_bytes().decode().encode("cp1252"))
        options = ("--source", source, "--target", target)
    outcome = run_command("data", "check", *options, "--json")
    assert outcome.code == 3
    finding = json.loads(outcome.out)[0]["findings"][0]
    assert finding["kind"] == "encoding"
    command = f"iconv -f CP1252 -t UTF-8 {file} > {file.with_suffix('.utf8' + file.suffix)}"
    assert command in finding["advice"]
    assert "it reads as Windows-1252: '" in finding["advice"]
    assert command in outcome.err
    assert "--fix" not in outcome.err


def test_a_damaged_line_is_no_other_encoding(pairs: Pairs, tmp_path: Path) -> None:
    """Converted from another encoding, all umlauts of the other lines would become mojibake."""
    source, target = write_pairs(tmp_path, [["A dog runs.", "Ein Hund läuft."], *pairs[:50]])
    target.write_bytes(target.read_bytes().replace("ä".encode(), b"\xe4", 1))
    outcome = run_command("data", "check", "--source", source, "--target", target)
    assert "[encoding], 1 of 51" in outcome.out
    assert "iconv" not in outcome.out + outcome.err
    assert "--fix OUT" in outcome.err


def test_what_a_table_holds_is_said_once(pairs: Pairs, tmp_path: Path) -> None:
    """The check reads a corpus three times, and gave each of these lines three times."""
    rows = ["\t".join(pair) for pair in pairs[:200]]
    table = tmp_path / "corpus.tsv"
    table.write_text("\n".join(["en\tde", *rows[:50], "one column", "", *rows[50:]]) + "\n", encoding="utf-8")
    errors = run_command("data", "check", "--pairs", str(table)).err
    for said in ("header: en, de", "1 of 201 rows cannot be read", "skipped blank rows: 1"):
        assert errors.count(said) == 1


def test_a_third_language_and_exchanged_files_are_found_by_py3langid(
    pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    pytest.importorskip("py3langid")
    pairs = pairs[:100]
    pairs[30][1] = "Les enfants jouent dans la rue devant la maison de leur grand-mère."
    report = CorpusCheck(("de", "en")).check(write(pairs, tmp_path))
    assert lines(report, "language") == [31]
    assert report.findings["language"].examples[0]["why"] == "target in fr"
    assert "languages" in report.findings


@pytest.mark.parametrize("shift", [1, -2])
def test_a_misaligned_block_is_put_right(pairs: Pairs, shift: int, tmp_path: Path) -> None:
    """One lost line in the middle cost all pairs after it."""
    whole = [tuple(pair) for pair in pairs]
    targets = [pair[1] for pair in pairs]
    for number in range(200, 300):
        pairs[number][1] = targets[number - shift]
    with clean_copy(str(tmp_path / "clean"), ("en", "de")) as copy:
        CorpusCheck(("en", "de"), copy=copy).check(write(pairs, tmp_path))
    sides = [(tmp_path / f"clean.{side}").read_text(encoding="utf-8").split("\n")[:-1] for side in ("en", "de")]
    kept = list(zip(*sides, strict=True))
    assert set(kept) <= set(whole)
    assert len(kept) > len(whole) - 20
