"""Files that can be resumed: what is damaged of them is found, and what is whole is kept."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from seq2seq.decoding.text_batches import Line
from seq2seq.errors import UsageError
from seq2seq.resumable_output import Output, _entry, open_output

LINES = [Line(f"source {number}") for number in range(8)]
EXPECTED = "".join(f"Übersetzung {number}\n" for number in range(8)).encode()


def write(output: Output, count: int) -> None:
    """Write the translations of the next lines up to `count`, two at a time, as `translate` does."""
    source: Iterator[Line] = iter(LINES)
    output.skip_translated(source)
    while output.lines < count:
        chunk = [next(source), next(source)]
        text = "".join(f"Übersetzung {number}\n" for number in range(output.lines, output.lines + 2))
        output.write(text, chunk, {"cut": output.lines})


def begin(path: Path, lines: int = 6) -> tuple[Path, Path]:
    """An output that was interrupted; returns the unfinished file and its record."""
    with suppress(KeyboardInterrupt), open_output(path, {"beam": 5}) as output:
        write(output, lines)
        raise KeyboardInterrupt
    return path.with_name(f".partial-{path.name}"), path.with_name(f".partial-{path.name}.json")


def resumed(path: Path) -> int:
    """Resume the output to its end; returns how many lines were kept."""
    with open_output(path, {"beam": 5}, resume=True) as output:
        kept = output.lines
        write(output, len(LINES))
    assert path.read_bytes() == EXPECTED
    assert [left.name for left in path.parent.iterdir()] == [path.name]
    return kept


@pytest.mark.fault(56)
def test_a_flipped_bit_is_never_resumed(tmp_path: Path) -> None:
    """A flipped bit of the kept lines went into the output, and one in the record changed the number of lines."""
    path = tmp_path / "out.de"
    kept = []
    for which, stride in ((0, 17), (1, 67)):
        for place in range(0, begin(path)[which].stat().st_size, stride):
            damaged = begin(path)[which]
            content = bytearray(damaged.read_bytes())
            content[place] ^= 1 << place % 8
            damaged.write_bytes(content)
            kept.append(resumed(path))
            assert kept[-1] < 6
    assert {0, 2, 4} == set(kept)  # the lines before the damage are kept


@pytest.mark.fault(56)
def test_a_shortened_file_is_resumed_from_what_is_whole(tmp_path: Path) -> None:
    """14,333 lines for 14,336 were a success; a record that was cut ended in an error."""
    path = tmp_path / "out.de"
    kept = []
    for which, stride in ((0, 19), (1, 89)):
        for size in range(0, begin(path)[which].stat().st_size, stride):
            os.truncate(begin(path)[which], size)
            kept.append(resumed(path))
    assert {0, 2, 4} == set(kept)


@pytest.mark.fault(56)
def test_records_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.de"
    for content in (b"", b"{}", b"[]\n", b"\xff\n", b'{"format": 1, "identity": {}, "lines": 4, "bytes": 9}\n'):
        begin(path)[1].write_bytes(content)
        assert resumed(path) == 0
        assert "all of it is translated again" in capsys.readouterr().err
    begin(path)[1].write_bytes(_entry({"format": 2, "identity": {"beam": 5}}) + _entry([math.inf, 0, "", "", {}]))
    assert resumed(path) == 0


def test_a_whole_one_is_resumed_with_its_options_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.de"
    partial, record = begin(path)
    with partial.open("ab") as file:
        file.write(b"half a li")
    with record.open("ab") as file:  # a kill in the middle of an entry
        file.write(b'{"entry": [8, ')
    with pytest.raises(UsageError, match="beam: 5 -> 4"), open_output(path, {"beam": 4}, resume=True):
        pass
    capsys.readouterr()
    assert resumed(path) == 6
    assert capsys.readouterr().err == f"6 lines of {path} are already translated\n"


def test_the_permissions_of_the_old_file_are_kept(tmp_path: Path) -> None:
    """A file that only its owner could read became one that everybody could."""
    path = tmp_path / "out.de"
    path.write_text("old\n")
    path.chmod(0o600)
    begin(path)
    assert path.read_text() == "old\n"
    resumed(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """`.partial-out.de` as a link to another file had that file emptied."""
    other = tmp_path / "other"
    other.write_text("precious\n")
    (tmp_path / ".partial-out.de").symlink_to(other)
    with pytest.raises(UsageError, match="cannot write"), open_output(tmp_path / "out.de", {}):
        pass
    assert other.read_text() == "precious\n"


def test_a_command_that_always_resumes_names_no_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`distill` told its user to repeat the command with --resume, which it does not have."""
    with suppress(RuntimeError), open_output(tmp_path / "out", {}, resumes_itself=True) as output:
        output.write("a\n", [Line("a")], {})
        raise RuntimeError
    assert "1 lines are kept; the same command goes on from there" in capsys.readouterr().err
