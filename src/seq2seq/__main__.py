"""`seq2seq`, and `python -m seq2seq`."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.util import find_spec
from typing import NoReturn


def run() -> NoReturn:
    """The command line, from the first import on: Ctrl-C or a lack of memory end it without a traceback."""
    if find_spec("fcntl") is None:  # before anything that needs it is imported
        lack = "this system lacks the file locks and signals of POSIX"
        _end(2, lack, "usage.system", "seq2seq runs on Linux and macOS, and on Windows within WSL 2: wsl --install")
    from seq2seq.allocator import restart_with_mimalloc
    from seq2seq.processes import end_children_with_parent
    from seq2seq.system import OUT_OF_MEMORY_HINT, what_ran_out

    restart_with_mimalloc()
    end_children_with_parent()
    try:
        from seq2seq.cli import main

        main()
    except KeyboardInterrupt:
        os._exit(130)
    except Exception as error:
        if (what := what_ran_out(error)) is None:
            raise
        _end(7, what, "memory.host", OUT_OF_MEMORY_HINT)


def _end(exit_code: int, what: str, code: str, hint: str) -> NoReturn:
    """End with an error, without the parts of the program that report one otherwise."""
    with suppress(OSError):
        os.write(2, f"error: {what}  [{code}]\n  hint: {hint}\n".encode())
    os._exit(exit_code)


if __name__ == "__main__":
    run()
