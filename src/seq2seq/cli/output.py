"""Output files of the commands, written at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from seq2seq.atomic_files import write_bytes
from seq2seq.cli.input import REPLACE
from seq2seq.console import counted
from seq2seq.errors import DataError
from seq2seq.resumable_output import partial_file

if TYPE_CHECKING:
    from seq2seq.data.files import DecodingErrors


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file that the user named, at once and atomically; `-` is stdout, for a text.

    A device or a named pipe, such as /dev/stdout, is written to: it must not be replaced by a file.
    """
    if str(path) == "-":
        sys.stdout.write(str(content))
        return
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        with path.open("wb") as special:
            special.write(data)
    else:
        write_bytes(path, data)


def is_finished(output: Path, source: Path | None, errors: DecodingErrors, rows: int) -> bool:
    """Whether the output is complete, with `rows` lines for each source line, and no other output is in progress.

    Standard input and pipes are not counted.

    Raises:
        DataError: the output has another length: it belongs to another text or other options.
    """
    if not output.is_file() or partial_file(output).exists():
        return False
    if source is not None and not (str(source) == "-" or source.is_fifo() or source.is_char_device()):
        from seq2seq.data.files import read_lines

        expected = rows * sum(1 for _ in read_lines(source, errors, option=REPLACE))
        with output.open("rb") as file:
            count = sum(1 for _ in file)
        if count != expected:
            complete = f"{output} is complete with {counted(count, 'line')}"
            raise DataError(
                f"{complete}, but {source} with these options makes {expected:,}",
                where="--resume",
                hint="leave out --resume to replace it, or choose another file with -o",
                code="data.resume",
            )
    return True
