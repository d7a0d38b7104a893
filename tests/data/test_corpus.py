"""Every form of parallel text gives the same pairs, or a place where it does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seq2seq.config.sources import BuiltinSource, JsonlSource, TextSource, TsvSource
from seq2seq.console import counted
from seq2seq.data.corpus import read_pairs
from seq2seq.errors import DataError

PAIRS = [
    ("a b", "x y"),
    ("", "leer"),
    ("blank", ""),
    ("two\u2028halves", "zwei\u0085Hälften"),
    ("end", "Ende"),
]


def text_source(folder: Path, left: str, right: str) -> TextSource:
    (folder / "s.txt").write_bytes(left.encode())
    (folder / "t.txt").write_bytes(right.encode())
    return TextSource(source=str(folder / "s.txt"), target=str(folder / "t.txt"))


def tsv_source(folder: Path, content: str, source: int | str = 0, target: int | str = 1) -> TsvSource:
    (folder / "a.tsv").write_bytes(content.encode())
    return TsvSource(tsv=str(folder / "a.tsv"), source=source, target=target)


def jsonl_source(folder: Path, lines: Sequence[str], source: str = "s", target: str = "t") -> JsonlSource:
    (folder / "a.jsonl").write_bytes("".join(line + "\n" for line in lines).encode())
    return JsonlSource(jsonl=str(folder / "a.jsonl"), source=source, target=target)


@pytest.mark.fault(32)
def test_text_pairs_keep_blanks_and_places(tmp_path: Path) -> None:
    """JoeyNMT dropped blank lines on each side by itself: one blank shifted every later pair."""
    source = text_source(tmp_path, *("".join(pair[side] + "\n" for pair in PAIRS) for side in (0, 1)))
    assert list(read_pairs(source)) == PAIRS


@pytest.mark.fault(31)
@pytest.mark.parametrize(("left", "right"), [(3, 5), (5, 3), (0, 1), (1, 0)])
def test_different_lengths_are_told(tmp_path: Path, left: int, right: int) -> None:
    """OpenNMT-py and eole zip the files, which cuts the longer one silently."""
    source = text_source(tmp_path, "l\n" * left, "r\n" * right)
    with pytest.raises(DataError) as caught:
        list(read_pairs(source))
    assert f"s.txt has {counted(left, 'line')}" in caught.value.what
    assert f"t.txt has {right}" in caught.value.what


def test_a_missing_last_newline_is_no_difference(tmp_path: Path) -> None:
    assert len(list(read_pairs(text_source(tmp_path, "a\nb", "c\nd\n")))) == 2


def test_tsv_by_number_and_by_name(tmp_path: Path) -> None:
    rows = 'id\tde\ten\n1\t"Ja\tyes"\n2\t\t\n'
    assert list(read_pairs(tsv_source(tmp_path, rows, "en", "de"))) == [('yes"', '"Ja'), ("", "")]
    assert next(read_pairs(tsv_source(tmp_path, rows, 2, 0))) == ('yes"', "1")


def test_tsv_faults_have_a_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(read_pairs(tsv_source(tmp_path, "a\tb\nalone\n"))) == [("a", "b")]
    assert "a.tsv:2: alone" in capsys.readouterr().err
    with pytest.raises(DataError, match="did you mean 'english'"):
        list(read_pairs(tsv_source(tmp_path, "english\tgerman\na\tb\n", "englisch", "german")))
    with pytest.raises(ValueError, match="greater"):
        tsv_source(tmp_path, "a\tb\n", -1, 0)


def test_jsonl_reaches_inside(tmp_path: Path) -> None:
    lines = [
        json.dumps({"translation": {"en": "a", "de": "b\r\nc\nd\ve"}}),
        json.dumps({"translation.en": "x", "y": "z"}),
    ]
    source = jsonl_source(tmp_path, lines[:1], "translation.en", "translation.de")
    assert list(read_pairs(source)) == [("a", "b c d\ve")]
    assert list(read_pairs(jsonl_source(tmp_path, lines[1:], "translation.en", "y"))) == [("x", "z")]


@pytest.mark.parametrize(
    "bad",
    ["{", "[]", '"s"', "[" * 100_000, '{"s": "a"}', '{"s": 1, "t": "b"}', r'{"s": "\ud800", "t": "b"}', "NaN"],
)
def test_jsonl_faults_have_a_place(tmp_path: Path, bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = jsonl_source(tmp_path, ['{"s": "a", "t": "b"}', bad])
    assert list(read_pairs(source)) == [("a", "b")]
    assert "a.jsonl:2: " in capsys.readouterr().err
    with pytest.raises(DataError) as caught:
        list(read_pairs(source, max_unreadable=0))
    assert (caught.value.where or "").endswith("a.jsonl:2")


def test_a_lone_surrogate_is_no_text(tmp_path: Path) -> None:
    """JSON can write half of a surrogate pair; nothing after the reader could encode it."""
    source = jsonl_source(tmp_path, [r'{"s": "a\ud800b\ud83d\ude00", "t": "c"}'])
    with pytest.raises(DataError, match="surrogate"):
        list(read_pairs(source))
    assert list(read_pairs(source, "replace")) == [("a\ufffdb😀", "c")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=8)] * 2)))
def test_jsonl_keeps_every_pair_on_one_line(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    source = jsonl_source(tmp_path, [json.dumps({"s": left, "t": right}) for left, right in pairs])
    found = list(read_pairs(source))
    assert found == [tuple(side.replace("\r\n", "\n").replace("\n", " ") for side in pair) for pair in pairs]


def test_builtin_tasks_can_be_reversed() -> None:
    forth = list(read_pairs(BuiltinSource(builtin="names", split="test")))
    back = list(read_pairs(BuiltinSource(builtin="names", split="test", reverse=True)))
    assert forth
    assert [(right, left) for left, right in forth] == back


def test_real_corpus_against_plain_python(shared_data: Path) -> None:
    files = [shared_data / "multi30k" / f"train.{language}" for language in ("en", "de")]
    sides = [path.read_bytes().decode().split("\n")[:-1] for path in files]
    source = TextSource(source=str(files[0]), target=str(files[1]))
    assert list(read_pairs(source)) == list(zip(*sides, strict=True))


def test_tags_go_before_text_that_shows(tmp_path: Path) -> None:
    """A blank line with a tag would no longer be blank: it could be trained on, and would get a translation."""
    source = text_source(tmp_path, "a b\n\n \u200b\nc\n", "x\ny\nz\n\n").model_copy(update={"target_tag": "pt-BR"})
    assert [left for left, _ in read_pairs(source)] == ["<2pt-BR> a b", "", " \u200b", "<2pt-BR> c"]
    both = source.model_copy(update={"tag": "BT"})
    assert [left for left, _ in read_pairs(both)] == ["<2pt-BR> <BT> a b", "", " \u200b", "<2pt-BR> <BT> c"]
    for key, value in (("target_tag", "no spaces"), ("tag", "no spaces"), ("tag", "s"), ("tag", "2de")):
        with pytest.raises(ValueError, match=key):
            TextSource.model_validate({"source": "s", "target": "t", key: value})
