"""SIGKILL in the middle of a translation: whole lines only, the old output stays, `--resume` ends in the same bytes,
also if a bit of what is kept was flipped or its end was cut off.

    python scripts/chaos/translations.py --json translations.json     # 40 kills of each architecture, about 5 minutes
    python scripts/chaos/translations.py --quick                      # 4

A translation of many windows is killed at random times and taken up again until it ends. A trial passes if the old
output stands until the new one is whole, if what is kept for `--resume` is a beginning of what an undisturbed
translation writes, and if the end is the same to the byte.

Rows: 47, 56
"""

from __future__ import annotations

import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from common import SHORT, TINY, Child, Trial, arguments, conclude, corpus, run, warm_up

LINES = ["The old man drinks a cup of tea.", "", "I am here.", "The man is old. I am here!"]
OLD = b"the old one\n"


class Translations:
    """One translation that is killed again and again."""

    def __init__(self, folder: Path, kind: str, dice: random.Random) -> None:
        self.kind, self.dice, self.folder = kind, dice, folder
        self.log, self.text = folder / "log", folder / "input.en"
        train = ["train", *corpus(folder), "-o", folder / "run", *TINY[kind], *SHORT, "training.max_steps=20"]
        made = run(train, log=self.log)
        assert made.code == 0, made.said
        # Mostly blank lines, so that many windows (1,024 lines, and 8,192 empty ones) take little time.
        lines = [LINES[place % 4] if place % 2048 < 3 else "" for place in range(16 * 9216 + 7)]
        self.text.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        started = time.monotonic()
        whole = self.child(folder / "whole.de").end()
        assert whole.code == 0, whole.said
        self.seconds, self.expected = time.monotonic() - started, (folder / "whole.de").read_bytes()

    def child(self, output: Path, *options: str) -> Child:
        """The command, started."""
        command = ["translate", self.folder / "run", self.text, "-o", output, "--max-length", 3, "-b", 1, *options]
        return Child(command, log=self.log)

    def kills(self, count: int) -> list[Trial]:
        """As many kills; whenever the translation ends, the next one begins from nothing."""
        folder = self.folder / "output"
        folder.mkdir()
        output, options, trials = folder / "out.de", [], list[Trial]()
        output.write_bytes(OLD)
        while len(trials) < count:
            child = self.child(output, *options)
            moment = self.dice.uniform(0.0, 0.5 * self.seconds)
            time.sleep(moment)
            child.send(signal.SIGKILL)
            end = child.end()
            faults = self.faults(folder, output, end.code)
            trials.append(Trial(f"{self.kind}: {moment:.3f} s", not faults, f"{faults}: {end.said[-1000:]}"))
            output.write_bytes(OLD)
            # Without a beginning, --resume would take the old output for a finished one.
            options = ["--resume"] if (folder / ".partial-out.de").exists() else []
        output.unlink()
        end = self.child(output, "--resume").end()
        same = end.code == 0 and output.read_bytes() == self.expected and list(folder.iterdir()) == [output]
        return [*trials, Trial(f"{self.kind}, end: bytes", same, end.said[-1000:])]

    def damages(self, count: int) -> list[Trial]:
        """As many translations that are killed, damaged and taken up again."""
        trials = []
        for number in range(count):
            folder = self.folder / f"damaged-{number}"
            folder.mkdir()
            output = folder / "out.de"
            child = self.child(output)
            time.sleep(self.dice.uniform(0.3, 0.8) * self.seconds)
            child.send(signal.SIGKILL)
            child.end()
            kept = [path for path in sorted(folder.iterdir()) if path != output and path.stat().st_size]
            what = "nothing is kept"
            if kept:
                damaged = self.dice.choice(kept)
                content = bytearray(damaged.read_bytes())
                place = self.dice.randrange(len(content))
                cut = self.dice.random() < 0.5
                content[place] ^= 1 << self.dice.randrange(8)
                damaged.write_bytes(content[:place] if cut else content)
                what = f"{damaged.name}: byte {place:,} {'and all after it cut off' if cut else 'flipped'}"
            end = self.child(output, "--resume").end()
            same = end.code == 0 and output.read_bytes() == self.expected and list(folder.iterdir()) == [output]
            trials.append(Trial(f"{self.kind}: {what}", same, end.said[-1000:]))
        return trials

    def faults(self, folder: Path, output: Path, code: int) -> str:
        """What is wrong with what a killed translation has left."""
        if code == 0:
            return "" if output.read_bytes() == self.expected else "the output differs"
        if output.read_bytes() != OLD:
            return "" if output.read_bytes() == self.expected else "the old output is gone"
        record = folder / ".partial-out.de.json"
        if not record.exists():
            return ""
        # The last line may be torn.
        entries = [line for line in record.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]
        length = json.loads(entries[-1])["entry"][1] if len(entries) > 1 else 0
        kept = (folder / ".partial-out.de").read_bytes()[:length]
        return "" if self.expected.startswith(kept) and kept[-1:] in (b"", b"\n") else "other lines are kept"


def main() -> int:
    """See the module."""
    options = arguments(__doc__)
    warm_up()
    dice, trials = random.Random(options.seed), list[Trial]()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        for kind in list(TINY)[: 1 if options.quick else 2]:
            translations = Translations(Path(folder) / kind, kind, dice)
            trials += translations.kills(4 if options.quick else 40)
            trials += translations.damages(2 if options.quick else 20)
    return conclude(options, trials)


if __name__ == "__main__":
    sys.exit(main())
