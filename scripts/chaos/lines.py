"""10,000 fuzzed lines to `translate`, for both architectures.

Full size (about five minutes of one core):

    python scripts/chaos/lines.py --json lines.json

Proves: whatever bytes a line holds (not UTF-8, NUL, U+2028, lone marks, a thousand words), and with whatever options,
there are as many lines out as in (times n-best), in their places, blank for blank; no traceback, exit code 0. Without
`--errors replace`, a line that is not UTF-8 ends the command with exit code 3 and its place.
Rows: 33, 34, 35, 36
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from common import SHORT, TINY, Trial, arguments, conclude, corpus, run, warm_up
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from seq2seq.console import set_quiet
from seq2seq.data.files import decode_lines
from seq2seq.fixed_text import is_blank

LINES = 100
"""Lines of one command."""
ODD = "\0\t\r\x0b\x0c\x1c\x85\xa0\xad\u200b\u200d\u2028\u2029\u202e\ufeff\ufffd\u0301\u05d0\u0e01\u4e2d\U0001f469 "
OPTIONS = [
    [],
    ["-b", "1"],
    ["--n-best", "2", "--scores"],
    ["--paragraphs"],
    ["--sample", "--seed", "3"],
    ["--batch-size", "3"],
    ["--workers", "2"],
    ["--alignments"],
]

words = st.text(max_size=12) | st.text(ODD, max_size=8) | st.sampled_from(["The old man drinks tea.", "", "a", "</s>"])
texts = (
    st.lists(words, max_size=12).map(" ".join)
    | st.tuples(words, st.integers(0, 400)).map(lambda pair: pair[0] * pair[1])
    | st.text(max_size=60)
)
lines = (texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=40)).map(
    lambda line: line.replace(b"\n", b" ")
)


def trial(model: Path, name: str, given_lines: Sequence[bytes], options: Sequence[str], folder: Path) -> Trial:
    """One command, and what is wrong with what it wrote."""
    source, target = folder / "in", folder / "out"
    content = b"".join(line + b"\n" for line in given_lines)
    source.write_bytes(content)
    target.unlink(missing_ok=True)
    command = ["translate", model, source, "-o", target, "--errors", "replace", *options]
    outcome = run(command, log=folder / "log", seconds=120)
    said = outcome.said[-600:]
    if outcome.code or "Traceback" in outcome.said:
        return Trial(name, False, f"{' '.join(options)}: exit code {outcome.code}\n{said}\n{given_lines!r}"[:4000])
    rows = target.read_bytes().decode("utf-8").split("\n")
    count = 2 if "--n-best" in options else 1
    if len(rows) != len(given_lines) * count + 1 or rows[-1]:
        return Trial(name, False, f"{' '.join(options)}: {len(rows) - 1} lines out of {len(given_lines)}\n{said}")
    bare = not {"--scores", "--alignments"} & set(options)
    for number, text in enumerate(decode_lines(BytesIO(content), "in", "replace") if bare else ()):
        row = rows[number * count]
        if (is_blank(text) and row) or len(row.splitlines()) > 1:
            return Trial(name, False, f"{' '.join(options)}: line {number + 1}, {text!r} became {row!r}")
    return Trial(name, True)


def strict(model: Path, name: str, line: bytes, folder: Path) -> Trial:
    """The same line without `--errors replace`."""
    (folder / "in").write_bytes(b"I am here.\n" + line + b"\n")
    outcome = run(["translate", model, folder / "in", "-b", "1"], log=folder / "log", seconds=60)
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        passed = outcome.code == 3 and "in:2" in outcome.said
    else:
        passed = outcome.code == 0
    return Trial(name, passed and "Traceback" not in outcome.said, f"{line!r}: {outcome.code}\n{outcome.said[-400:]}")


def fuzzed(model: Path, kind: str, commands: int, number: int, folder: Path) -> list[Trial]:
    """So many commands, each with lines and options of chance."""
    trials: list[Trial] = []
    chance = random.Random(number)

    @seed(number)
    @settings(
        max_examples=commands,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(lines, min_size=LINES, max_size=LINES))
    def fuzz(found: list[bytes]) -> None:
        trials.append(trial(model, f"{kind}: command", found, chance.choice(OPTIONS), folder))
        if len(trials) % 5 == 0:
            trials.append(strict(model, f"{kind} strict: line", found[0], folder))

    fuzz()
    return trials


def main() -> int:
    """Train a model of each kind, and let hypothesis think of lines."""
    options = arguments(__doc__)
    warm_up()
    set_quiet(True)
    trials: list[Trial] = []
    commands = 5 if options.quick else 50
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = corpus(folder / "text", 200)
        for kind, sizes in TINY.items():
            model = folder / kind
            made = run(
                ["train", *files, "-o", model, *sizes, *SHORT, "training.max_steps=20"], log=folder / "log", seconds=300
            )
            if made.code:
                sys.exit(made.said)
            trials += fuzzed(model, kind, commands, options.seed, folder)
    tried = sum(": command" in one.name for one in trials)
    return conclude(options, trials, {"lines": tried * LINES})


if __name__ == "__main__":
    sys.exit(main())
