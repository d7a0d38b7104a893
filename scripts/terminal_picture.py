"""Run commands in a terminal and draw what is seen there, as SVG: the picture in the README.

scripts/demo        # trains runs/demo-transformer
python scripts/terminal_picture.py docs/terminal.svg
"""

from __future__ import annotations

import argparse
import io
import os
import pty
import re
import subprocess
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMANDS = [
    "seq2seq evaluate runs/demo-transformer",
    'echo "The old man drinks a cup of tea." | seq2seq translate runs/demo-transformer --n-best 2 --scores',
    'echo "Does the woman see the big dog?" | seq2seq align runs/demo-transformer --picture -',
    "seq2seq train configs/demo.yaml training.max_step=100",
]
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]")  # all but colours, which end in m
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # fetched from elsewhere; any monospaced font will do


def run_in_terminal(command: str, width: int) -> str:
    """Everything that a shell command writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm-256color"}
    process = subprocess.Popen(command, shell=True, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:  # how Linux says that the other side is closed
        pass
    process.wait()
    os.close(ours)
    return written.decode("utf-8")


def shown_lines(written: str) -> list[str]:
    """The lines that stand on the screen in the end: of a line written several times (a progress bar) the last."""
    lines = []
    for line in _CONTROLS.sub("", written).replace("\r\n", "\n").split("\n"):
        shown = ""
        for version in line.split("\r"):
            shown = version + shown[len(version) :]  # a shorter text leaves the end of the longer one
        lines.append(shown.rstrip())
    return "\n".join(lines).strip("\n").split("\n")


def main() -> None:
    """Run the commands, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("commands", nargs="*", default=COMMANDS)
    parser.add_argument("--width", type=int, default=118)
    options = parser.parse_args()

    console = Console(record=True, width=options.width, file=io.StringIO(), force_terminal=True)
    for number, command in enumerate(options.commands):
        if number:
            console.print()
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        for line in shown_lines(run_in_terminal(command, options.width)):
            console.print(Text.from_ansi(line))
    console.print()  # or some programs cut off the lower edge of the last line
    picture = _FONTS.sub("", console.export_svg(title="seq2seq", unique_id="terminal"))
    options.picture.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
