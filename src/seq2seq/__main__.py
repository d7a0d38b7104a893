"""`seq2seq`, and `python -m seq2seq`."""

from __future__ import annotations

import os
from typing import NoReturn


def run() -> NoReturn:
    """The command line, from the first import on: Ctrl-C ends it without a traceback."""
    try:
        from seq2seq.cli import main

        main()
    except KeyboardInterrupt:
        os._exit(130)


if __name__ == "__main__":
    run()
