"""Texts that commands read: standard input that is a pipe, a terminal, or closed; files of another format."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seq2seq.cli import input as cli_input
from seq2seq.cli.input import InputText, input_text
from seq2seq.errors import DataError
from tests.cli.conftest import run_command


@pytest.fixture
def ends() -> Iterator[list[int]]:
    """The reading and the writing end of a pipe."""
    pair = list(os.pipe())
    yield pair
    for end in pair:
        os.close(end)


def opened(number: int, monkeypatch: pytest.MonkeyPatch) -> InputText:
    """The text of standard input, which is this descriptor. Nothing that is asked for comes later."""
    monkeypatch.setattr(sys, "stdin", os.fdopen(number, closefd=False))
    monkeypatch.setattr(cli_input, "_PAUSE_SECONDS", 0.0)
    return input_text(None, "strict")


def test_a_pipe_tells_whether_more_is_there(ends: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    lines, more = opened(ends[0], monkeypatch)
    assert more is not None
    texts = iter(lines)
    assert not more()
    os.write(ends[1], b"\xef\xbb\xbfone\r\ntwo\nthr")
    assert more()
    assert [next(texts), next(texts)] == ["one", "two"]
    assert not more()  # a line that has not ended
    os.write(ends[1], b"ee\n\nlast")
    assert more()
    assert [next(texts), next(texts)] == ["three", ""]
    os.close(ends.pop())
    assert more()
    assert list(texts) == ["last"]
    assert more()  # the end need not be waited for


def test_the_encoding_of_a_pipe_is_named(ends: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """UTF-16 from a pipe was "is it a text file?", as nothing looked ahead in a stream."""
    os.write(ends[1], "zwölf Äpfel\nmehr\n".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-16") as caught:
        next(iter(opened(ends[0], monkeypatch).lines))
    assert "'zwölf Äpfel'; iconv -f UTF-16 -t UTF-8" in (caught.value.hint or "")


def test_long_lines_of_a_pipe(tmp_path: Path) -> None:
    """A named pipe is read in the same way; a line is as long as it is, up to the limit of files."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    if os.fork() == 0:
        with fifo.open("wb") as file:
            file.write(b"a" * 300_000 + b"\n" + b"b" * (1 << 26) + b"c")
        os._exit(0)
    lines, more = input_text(fifo, "strict")
    assert more is not None
    texts = iter(lines)
    assert next(texts) == "a" * 300_000
    with pytest.raises(DataError, match="64 MiB"):
        next(texts)
    os.wait()


def test_a_closed_stdin_is_an_empty_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """`translate RUN <&-` ended in a bug report."""
    monkeypatch.setattr(sys, "stdin", None)
    assert list(input_text(None, "strict").lines) == []


def test_lines_are_read_from_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A prompt stood in the translations that were sent to a file; without a word, the command seemed to hang."""
    ours, its = os.openpty()
    lines, more = opened(its, monkeypatch)
    assert more is not None
    os.write(ours, b"one\ntwo\n")
    texts = iter(lines)
    assert [next(texts), next(texts)] == ["one", "two"]
    assert capsys.readouterr() == ("", "reading lines from the terminal; Ctrl-D ends\n")
    os.close(ours)
    os.close(its)


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "{run}", "-s", "{text}", "-t", "{table}"),
        ("evaluate", "{run}", "-s", "{table}", "-r", "{table}"),
        ("align", "{run}", "-s", "{text}", "-t", "{table}"),
        ("backtranslate", "{run}", "{table}", "-o", "{folder}/made"),
    ],
)
def test_a_table_is_not_read_as_a_text(arguments: tuple[str, ...], transformer: Path, tmp_path: Path) -> None:
    """Names of columns and numbers of rows were translated."""
    text, table = tmp_path / "two.en", tmp_path / "two.csv"
    text.write_text("a dog\na cat\nno\n", encoding="utf-8")
    table.write_text("id,en\n1,a dog\n2,a cat\n", encoding="utf-8")
    places = {"run": transformer, "table": table, "text": text, "folder": tmp_path}
    outcome = run_command(*(argument.format(**places) for argument in arguments))
    assert outcome.code == 3
    assert f"{table} is a table of 2 columns, not text" in outcome.err
    assert "copy its sentences into a text file" in outcome.err
    assert set(tmp_path.iterdir()) == {text, table}
