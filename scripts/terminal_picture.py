"""Draw a recorded terminal session as SVG, as the picture in the README.

    script -qc 'stty cols 100 rows 50; seq2seq demo' demo.typescript
    python scripts/terminal_picture.py demo.typescript docs/demo.svg --command 'seq2seq demo' --head 22 --tail 34

Lines between the first `--head` and the last `--tail` are left out, and a line says so.
"""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

_FRAME = re.compile(r"^Script (started|done).*$", re.MULTILINE)
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]")  # all but colours, which end in m


def shown_lines(recording: str) -> list[str]:
    """The lines as they stand on the screen in the end: of a line written several times (a progress bar) the last."""
    lines = []
    for line in _CONTROLS.sub("", _FRAME.sub("", recording)).replace("\r\n", "\n").split("\n"):
        shown = ""
        for written in line.split("\r"):
            shown = written + shown[len(written) :]  # a shorter text leaves the end of the longer one
        lines.append(shown.rstrip())
    return "\n".join(lines).strip("\n").split("\n")


def main() -> None:
    """Read a recording, write a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--command", default="seq2seq demo", help="what stands behind the prompt")
    parser.add_argument("--head", type=int, default=20)
    parser.add_argument("--tail", type=int, default=40)
    parser.add_argument("--width", type=int, default=100)
    options = parser.parse_args()

    lines = shown_lines(options.recording.read_bytes().decode("utf-8"))  # carriage returns matter
    if len(lines) > options.head + options.tail:
        left_out = len(lines) - options.head - options.tail
        lines = [*lines[: options.head], f"\x1b[2m[... {left_out} lines ...]\x1b[0m", *lines[-options.tail :]]
    console = Console(record=True, width=options.width, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(f"\x1b[1;32m$\x1b[0m \x1b[1m{options.command}\x1b[0m"))
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="ellipsis", crop=True)
    options.picture.write_text(console.export_svg(title=options.command), encoding="utf-8")


if __name__ == "__main__":
    main()
