"""`seq2seq`, and `python -m seq2seq`."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NoReturn

from seq2seq.allocator import restart_with_mimalloc
from seq2seq.processes import end_children_with_parent
from seq2seq.system import HINT, what_ran_out


def run() -> NoReturn:
    """The command line, from the first import on: Ctrl-C or a lack of memory end it without a traceback."""
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
        with suppress(OSError):
            os.write(2, f"error: {what}  [memory.host]\n  hint: {HINT}\n".encode())
        os._exit(7)


if __name__ == "__main__":
    run()
