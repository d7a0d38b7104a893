"""Row 60: text of corpora, names of files and answers of servers cannot control the terminal."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from seq2seq import console
from seq2seq.alignment.matrix import AttentionMatrix, draw_attention
from seq2seq.alignment.pictures import Panel, html_page, svg_picture
from seq2seq.alignment.word_alignment import AlignmentOptions, PairAttention
from seq2seq.alignment.words import Segments
from seq2seq.errors import DataError
from seq2seq.sanitize import presentable
from tests.cli.conftest import Runner

EVIL = "\x1b]0;title\x07 \x9b2J \r \x7f \u202egnp.exe\u2066 \u2028 end"
SHOWN = r"\x1b]0;title\x07 \x9b2J \r \x7f \u202egnp.exe\u2066 \u2028 end"


def test_only_control_characters_are_escaped() -> None:
    assert presentable(EVIL) == SHOWN
    text = "tab\tline\nÄ 中文 עברית\u200f می\u200cخواهم 👩\u200d🚀 \u00a0 \u00ad"
    assert presentable(text) == text


@pytest.mark.fault(60)
def test_messages_logs_bars_and_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence of a corpus with ESC, shown at a validation, set the title of the terminal's window."""
    with console.logging_to(tmp_path / "train.log"):
        console.say(EVIL)
        console.warn(EVIL)
        console.write_stderr(f"error: {DataError(EVIL, where=EVIL, hint=EVIL, code='data.no-file').report()}")
    shown = capsys.readouterr().err
    assert shown.count(SHOWN) == 5
    assert (tmp_path / "train.log").read_text(encoding="utf-8").count(SHOWN) == 2

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with console.Progress(EVIL, 10, "bytes") as bar:
        bar.note(EVIL)
        bar.update(10)
    assert r"\x1b]0;title" in terminal.getvalue()
    for text in (shown, terminal.getvalue()):
        assert not re.search("[\x07\x9b\u202e\u2066\u2028]|\x1b\\]", text)


@pytest.mark.fault(60)
def test_names_of_files(tmp_path: Path, seq2seq: Runner) -> None:
    (tmp_path / EVIL).write_text("a\n")
    for arguments in (["config", "show", tmp_path / (EVIL + "x")], ["doctor", tmp_path / EVIL]):
        outcome = seq2seq(*arguments)
        assert SHOWN in outcome.err
        assert "\x1b" not in outcome.out + outcome.err


@pytest.mark.fault(60)
def test_pictures_are_well_formed_for_any_text() -> None:
    """A form feed inside a word, or U+FFFF, made an SVG that no program opens."""
    words = [chr(code) for code in range(0x20)] + [*"<>&'\"\x7f\x85\u2028\u202e\ufeff\ufffe\uffff\ud800", "\U0001ffff"]
    words += ["]]>", "<!--", "</script>", "&#0;", "<0x00><0x1B>", "<0xEF><0xBF><0xBF>"]
    matrix = AttentionMatrix(words, words, torch.eye(len(words)))
    picture = svg_picture([[Panel("", matrix)]])
    ElementTree.fromstring(picture.encode("utf-8"))
    text = draw_attention(matrix, encoding="utf-8")
    side = Segments(list(range(len(words))), words, words, torch.eye(len(words)))
    page = html_page([PairAttention(side, side, torch.ones(1, 1, len(words) + 1, len(words) + 1))], AlignmentOptions())
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert len(data["pairs"][0]["source"]["pieces"]) == len(words) + 1
    for written in (picture, text, page):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e\ufffe\uffff\ud800]", written)
