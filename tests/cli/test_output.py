"""Output files that are written at once."""

from __future__ import annotations

import os
from pathlib import Path

from seq2seq.cli.output import write_whole


def test_a_page_goes_into_a_pipe_and_does_not_replace_it(tmp_path: Path) -> None:
    """`seq2seq report RUN -o /dev/null` by root put a file in the place of the device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, "a page")
        assert os.read(reader, 100) == b"a page"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
