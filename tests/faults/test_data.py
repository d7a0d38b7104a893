"""Rows 31 to 39: what bad text does, seen as a user sees it: the message, the exit code, the count, the pairing."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from seq2seq.data import archives
from seq2seq.data import files as lines
from seq2seq.data.files import read_lines
from seq2seq.errors import DataError
from tests.children import command
from tests.cli.conftest import Outcome, run_command

PAIRS = [(f"source {n} text", f"ziel {n} text") for n in range(40)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def write(name: str, lines: list[str | bytes]) -> str:
    raw = [line if isinstance(line, bytes) else line.encode() for line in lines]
    Path(name).write_bytes(b"".join(line + b"\n" for line in raw))
    return name


def write_pairs(pairs: list[tuple[str, str]] = PAIRS, name: str = "a") -> tuple[str, str]:
    return write(f"{name}.en", [left for left, _ in pairs]), write(f"{name}.de", [right for _, right in pairs])


def prepare(*settings: str, train: str = "{source: a.en, target: a.de}") -> Outcome:
    return run_command("data", "prepare", f"data.train=[{train}]", "tokenizer.kind=word", *settings)


def counts(outcome: Outcome) -> dict[str, int]:
    """The table of what was dropped."""
    assert outcome.code == 0, outcome.err
    rows = (re.fullmatch(r"(\S.*?)  +([\d,]+)", line) for line in outcome.out.splitlines()[1:])
    return {row[1]: int(row[2].replace(",", "")) for row in rows if row}


def refused(outcome: Outcome, code: int, *said: str) -> None:
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    assert outcome.err.count("error:") == 1
    assert "Traceback" not in outcome.err
    for text in said:
        assert text in outcome.err


@pytest.mark.fault(31)
@pytest.mark.parametrize("short", [0, 1])
@pytest.mark.parametrize("command", ["train", "config"])
def test_line_counts_that_differ(command: str, short: int) -> None:
    """One line lost on one side shifts every pair after it; whoever zips the files trains on nonsense, in silence."""
    for number, name in enumerate(write_pairs()):
        if number == short:
            write(name, [pair[number] for pair in PAIRS[:-1]])
    train = ("train", "--source", "a.en", "--target", "a.de", "-o", "run")
    outcome = run_command(*train) if command == "train" else prepare()
    refused(outcome, 3, f"a.en has {39 if short == 0 else 40} lines", f"a.de has {40 if short == 0 else 39}", "hint:")
    assert not Path("run").exists()
    assert not [path for path in Path("cache").glob("*") if path.is_dir()]


@pytest.mark.fault(31)
def test_line_counts_of_a_validation_set() -> None:
    """Told before an hour of training, not at its first validation."""
    write_pairs()
    write_pairs(PAIRS[:3], "v")
    write("v.de", ["only one"])
    refused(prepare("data.valid=[{source: v.en, target: v.de}]"), 3, "v.en has 3 lines, but v.de has 1")


@pytest.mark.fault(32)
@pytest.mark.parametrize("blank", ["", " ", "\u3000", "\t", "\u2028"])
def test_a_blank_line_never_shifts_a_pair(blank: str) -> None:
    """Dropped on each side by itself, one blank line pairs every later sentence with its neighbour's translation."""
    pairs = [*PAIRS[:10], (blank, "leer"), *PAIRS[10:20], ("blank", blank), (blank, blank), *PAIRS[20:]]
    write_pairs(pairs)
    outcome = prepare()
    assert counts(outcome) | {"read": 43, "empty side": 3, "kept": 40} == counts(outcome)
    again = run_command("data", "prepare", "data.train=[{source: a.en, target: a.de}]", "tokenizer.kind=word", "--json")
    folder = Path("cache") / json.loads(again.out)["fingerprint"]
    from seq2seq.data.store import Store
    from seq2seq.tokenizers.pair import TokenizerPair

    store, tokenizers = Store(folder / "train.arrow"), TokenizerPair.load(folder / "tokenizer")
    sources, targets = store.rows(range(len(store)))
    texts = zip(tokenizers.source.decode(sources), tokenizers.target.decode(targets), strict=True)
    assert list(texts) == PAIRS


@pytest.mark.fault(33)
@pytest.mark.parametrize(
    "bad", [b"\xff", b"Gr\xfc\xdfe", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82"]
)
def test_invalid_utf8_is_told_with_its_place(bad: bytes) -> None:
    """Latin-1 in one of a million lines: read as is, it ends training hours later; guessed, it trains on rubbish."""
    write_pairs()
    write("a.de", [*(right for _, right in PAIRS[:16]), b"gut " + bad, *(right for _, right in PAIRS[17:])])
    refused(prepare(), 3, "--> a.de:17", "at byte ", "data.errors=replace", "iconv")
    assert counts(prepare("data.errors=replace"))["kept"] == 40


@pytest.mark.fault(34)
def test_marks_and_carriage_returns_are_stripped_and_counted() -> None:
    """A file from Windows: the mark would become part of the first word, each return part of the last one."""
    write("a.en", [b"\xef\xbb\xbf" + PAIRS[0][0].encode() + b"\r", *(left + "\r" for left, _ in PAIRS[1:])])
    write("a.de", [*(right for _, right in PAIRS[:-1]), PAIRS[-1][1] + "\r"])
    outcome = prepare()
    assert counts(outcome)["kept"] == 40
    assert "a.en: stripped a byte-order mark and 40 carriage returns" in outcome.err
    assert "a.de: stripped 1 carriage return\n" in outcome.err
    encoded = run_command("tokenizer", "encode", next(Path("cache").glob("*/tokenizer")), stdin=b"source 0 text\r\n")
    assert (
        encoded.out
        == run_command("tokenizer", "encode", next(Path("cache").glob("*/tokenizer")), stdin=b"source 0 text").out
    )
    assert "3" not in encoded.out.split()  # none of them is unknown


@pytest.mark.fault(34)
@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e"])
def test_other_line_ends_are_no_line_ends(mark: str) -> None:
    """Python's splitlines() makes two lines of one at each of these; newstest2009.de really holds U+0085."""
    write_pairs([*PAIRS, (f"a{mark}b c", f"d{mark}e f")])
    assert counts(prepare())["kept"] == 41


@pytest.mark.fault(35)
@pytest.mark.parametrize("text", ["nul\0inside", "\u200b", "\ufeff\u2060", "\u00ad\u200e", "\x01\x02"])
def test_text_that_shows_nothing_is_dropped_and_counted(text: str) -> None:
    write_pairs([*PAIRS[:20], (text, "x"), ("y", text), *PAIRS[20:]])
    assert counts(prepare()) | {"NUL or zero-width only": 2, "kept": 40} == counts(prepare())


@pytest.mark.fault(36)
def test_a_line_of_a_megabyte_is_dropped_and_counted() -> None:
    """A file without line ends, pasted into a corpus: memory and the length of every batch would follow it."""
    write_pairs([*PAIRS, ("word " * 200_000, "x"), ("x", "y" * 1_000_000 + " z" * 300)])
    assert counts(prepare()) | {"too long": 2, "kept": 40} == counts(prepare())


@pytest.mark.fault(36)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress], ids=["", ".gz", ".xz", ".bz2"])
def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]) -> None:
    """/dev/zero, or a packed file of a kilobyte that is one line of gigabytes: memory must not follow it."""
    monkeypatch.setattr(lines, "LONGEST_LINE", 1 << 16)
    name = "a.en" + {gzip.compress: ".gz", lzma.compress: ".xz", bz2.compress: ".bz2"}.get(pack, "")  # type: ignore[dict-item]
    Path(name).write_bytes(pack(b"fine\n" + b"x" * (1 << 20)))
    with pytest.raises(DataError, match=r"(?s)a line of more than .* MiB.*a\.en.*:2"):
        list(read_lines(name))


@pytest.mark.fault(62)
@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, ".gz"), (lzma.compress, ".xz"), (bz2.compress, ".bz2")])
def test_a_compressed_corpus_that_explodes(
    monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes], suffix: str
) -> None:
    """Short lines pass every limit of a line, and fill the disk on their way; a million blank lines are honest."""
    monkeypatch.setattr(archives, "_HARMLESS_BYTES", 1 << 17)
    name = Path(f"a.en{suffix}")
    for text in (b"\n" * 100_000, b"".join(b"%d honest words\n" % number for number in range(20_000))):
        name.write_bytes(pack(text))
        with lines.open_binary(name) as stream:
            assert stream.read() == text
    name.write_bytes(pack(b"word\n" * 60_000))
    with pytest.raises(DataError, match=r"bytes unpack to more than 1\d\d,\d\d\d") as error:
        list(lines.read_lines(name))
    assert error.value.where == str(name)


@pytest.mark.fault(37)
@pytest.mark.parametrize(
    ("pairs", "row"),
    [
        ([("", "x")] * 30, "empty side"),
        ([("\u200b", "x")] * 30, "zero-width"),
        ([("a " * 300, "b c")] * 30, "too long"),
        ([("a b", "c")] * 30, "too short"),
    ],
)
def test_nothing_left(pairs: list[tuple[str, str]], row: str) -> None:
    """The table says which of the filters took everything."""
    write_pairs(pairs)
    outcome = prepare("data.cleaning.drop_duplicates=false", "data.cleaning.min_tokens=2")
    refused(outcome, 3, "no training pair is left after cleaning", "hint:")
    assert re.search("kept +0", outcome.err)
    line = next(line for line in outcome.err.splitlines() if row in line)
    assert line.split()[-1] == str(len(pairs))


@pytest.mark.fault(37)
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_an_empty_file_is_named(split: str) -> None:
    """It was told as "nothing left after cleaning" with a table of zeros; an empty validation set not at all."""
    write_pairs()
    write_pairs([], "none")
    both = "{source: a.en, target: a.de}", "{source: none.en, target: none.de}"
    settings = [] if split == "train" else [f"data.{split}=[{both[1]}]"]
    outcome = prepare(*settings, train=both[1] if split == "train" else both[0])
    refused(outcome, 3, "error: none.en is empty  [data.no-lines]", "hint:")
    assert "read" not in outcome.err
    outcome = prepare(*(f"data.{split}=[{both[0]}, {both[1]}]" for split in ["train", split]))
    assert outcome.code == 0
    assert "warning: none.en is empty" in outcome.err
    write("header.tsv", ["en\tde"])
    outcome = prepare(train="{tsv: header.tsv, source: en, target: de}")
    refused(outcome, 3, "header.tsv, below its header, is empty")
    outcome = run_command("init", "--source", "none.en", "--target", "none.de", "-")
    refused(outcome, 3, "none.en is empty")


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("{source: a.en, target: a.en}", "the same file, a.en"),
        ("{source: a.en, target: ./x/../a.en}", "the same file, a.en"),
        ("{source: a.en, target: link.en}", "the same file, a.en"),
        ("{tsv: a.tsv, target: 0}", "the same column, 0"),
        ("{jsonl: a.jsonl, source: en, target: en}", "the same key, en"),
        ("{hub: some/where, source: en, target: en}", "the same column, en"),
    ],
)
def test_one_text_for_both_sides(train: str, said: str) -> None:
    """A slip of the completion key: the model learnt to copy, and its BLEU of 100 was believed."""
    write_pairs()
    Path("x").mkdir()
    Path("link.en").symlink_to("a.en")
    refused(prepare(train=train), 2, "--> data.train.0", said, "hint: name a text and its translation")
    outcome = prepare(f"data.train=[{train}, {{source: a.en, target: a.de}}]", "data.test=[{tsv: none.tsv}]")
    assert f"warning: data.train.0: source and target are {said}" in outcome.err  # copied text beside real pairs


@pytest.mark.parametrize("tag", ["", ", target_tag: de"])
def test_the_same_text_in_two_files(tag: str) -> None:
    """Found by content, not by name; told again where the prepared data are used again."""
    write_pairs([*((left, left) for left, _ in PAIRS), *[("new", "neu")] * 5])
    for _ in range(2):
        outcome = prepare(train=f"{{source: a.en, target: a.de{tag}}}")
        assert outcome.code == 0
        assert "warning: 40 of 45 training pairs are the same text on both sides" in outcome.err
    write_pairs([*((left, left) for left, _ in PAIRS), *PAIRS])
    assert "same text" not in prepare().err


def test_the_table_is_printed_once() -> None:
    """On a terminal it stood there twice: as a notice, and as the result."""
    write_pairs()
    outcome = prepare()
    assert (outcome.out + outcome.err).count("duplicate") == 1


@pytest.mark.fault(38)
def test_train_and_test_overlap() -> None:
    """A test set that was trained on gives a score that no other text will reach."""
    write_pairs()
    write_pairs([*PAIRS[:7], ("new", "neu")], "t")
    write_pairs([("other", "anders")], "v")
    files = "data.test=[{source: t.en, target: t.de}]", "data.valid=[{source: v.en, target: v.de}]"
    for _ in range(2):  # said again where the prepared data is used again
        outcome = prepare(*files)
        assert outcome.code == 0
        assert "warning: 7 of 8 test pairs are also training pairs" in outcome.err
        assert "valid pairs" not in outcome.err


@pytest.mark.fault(39)
def test_an_edited_input_is_noticed_whatever_its_size_and_time() -> None:
    """One word replaced by another as long, and the time stamp put back, as rsync or git may do."""
    write_pairs()
    prepare()
    before = Path("a.en").stat()
    text = Path("a.en").read_bytes()
    Path("a.en").write_bytes(text.replace(b"source 7 ", b"Source 8 "))
    os.utime("a.en", ns=(before.st_atime_ns, before.st_mtime_ns))
    outcome = prepare()
    assert "rebuilding: data.train.0.files.0.sha256 changed" in outcome.err


@pytest.mark.fault(15)
@pytest.mark.parametrize("cache", ["file", "file/cache"])
def test_a_cache_that_cannot_be_made_is_told_with_its_variable(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home, as services are, was not told how to go on."""
    write_pairs()
    write("file", [""])
    monkeypatch.setenv("SEQ2SEQ_CACHE", cache)
    refused(prepare(), 2, f"cannot use the cache {cache}", "hint: set SEQ2SEQ_CACHE to a folder")


@pytest.mark.fault(39)
def test_a_flipped_bit_in_prepared_data_is_noticed() -> None:
    """An Arrow file has no check sum: other token ids would be trained on in silence."""
    write_pairs()
    prepare()
    (store,) = Path("cache").glob("*/train.arrow")
    content = store.read_bytes()
    for place in range(len(content) // 2, len(content), len(content) // 5):
        store.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        outcome = prepare()
        assert outcome.code == 0
        assert "is damaged or incomplete" in outcome.err
        assert store.read_bytes() == content


@pytest.mark.fault(39)
def test_a_preparation_killed_at_any_place(tmp_path: Path) -> None:
    """kill -9, later and later: the next call starts afresh, and its data is the same."""
    write_pairs()
    arguments = ("data", "prepare", "data.train=[{source: a.en, target: a.de}]", "tokenizer.kind=word")
    for killed in ("write.half=kill@1", "write.before_rename=kill@2", "write.after_rename=kill@3"):
        outcome = command(*arguments, folder=tmp_path / "log", environment={"SEQ2SEQ_FAILPOINTS": killed})
        assert outcome.code == -signal.SIGKILL, outcome.err
    assert list(Path("cache").glob(".making-*"))
    outcome = prepare()
    assert counts(outcome)["kept"] == 40
    assert "removing unfinished" in outcome.err
    assert not list(Path("cache").glob(".making-*"))
    interrupted = next(Path("cache").glob("*/train.arrow")).read_bytes()
    whole = command(*arguments, folder=tmp_path / "log", environment={"SEQ2SEQ_CACHE": str(tmp_path / "other")})
    assert whole.code == 0, whole.err
    assert next(Path("other").glob("*/train.arrow")).read_bytes() == interrupted


def translate(transformer: Path, text: bytes, *options: str) -> Outcome:
    return run_command("translate", transformer, *options, "--beam-size", 1, "--max-length", 5, stdin=text)


@pytest.mark.fault(34)
@pytest.mark.fault(35)
def test_translating_odd_lines(transformer: Path) -> None:
    """One line out for each line in, and a blank one where there is nothing to translate."""
    odd = [
        "the dog",
        "",
        "\0 \0",
        "the\0 dog",
        "\u200b",
        "\ufeff",
        " \t",
        "a\u2028b",
        "c\u0085d",
        "e\rf",
        "the cat\r",
        "\x01",
    ]
    outcome = translate(transformer, b"\xef\xbb\xbf" + "\n".join(odd).encode() + b"\n")
    assert outcome.code == 0, outcome.err
    translated = outcome.out.split("\n")[:-1]
    assert len(translated) == len(odd)
    # This model has learned little: it may well answer words with spaces, of which nothing is left.
    assert not any(line for line, text in zip(translated, odd, strict=True) if not re.search(r"[a-z]", text))
    assert translated[3] == translated[0]  # a NUL is no part of a word
    assert "\0" not in outcome.out
    assert "stdin: stripped a byte-order mark and 1 carriage return" in outcome.err


@pytest.mark.fault(33)
def test_translating_invalid_utf8(transformer: Path) -> None:
    refused(translate(transformer, b"fine\nGr\xfc\xdfe\n"), 3, "--> stdin:2", "--errors replace")
    outcome = translate(transformer, b"fine\nGr\xfc\xdfe\n", "--errors", "replace")
    assert (outcome.code, outcome.out.count("\n")) == (0, 2)


@pytest.mark.fault(36)
def test_translating_an_over_long_line(transformer: Path) -> None:
    """Between sentences a paragraph of a thousand: it is split or cut, its number is told, no other line changes."""
    long = b"the dog is in the house . " * 1000
    alone = translate(transformer, b"the dog\nthe cat\n")
    outcome = translate(transformer, b"the dog\n" + long + b"\nthe cat\n")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.split("\n")[:-1]
    assert len(lines) == 3
    assert lines[::2] == alone.out.split("\n")[:-1]
    assert re.search(r"line 2\b", outcome.err)
