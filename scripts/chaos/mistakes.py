"""What a user may get wrong, command by command, by the real command: is the answer one error with a remedy?

Rows: 9, 15, 21, 31, 33, 37, 40, 48

    python scripts/chaos/mistakes.py --json mistakes.json        # all of tests/cli/mistakes.py, under a minute

Each is run in a folder of its own with a trained run beside it. Promised: the exit code of the catalogue, one line that
names what is wrong, its code, a hint, no traceback, nothing on stdout, and every file as it was.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
from pathlib import Path

from common import ROOT, SHORT, TINY, Trial, arguments, conclude, corpus, run, warm_up


def main() -> int:
    """Run them all; the exit code."""
    options = arguments(__doc__)
    import sys

    sys.path.insert(0, str(ROOT))
    from tests.cli.mistakes import MISTAKES, WITH_A_RUN, lay_out

    mistakes = [*MISTAKES, *WITH_A_RUN]
    if options.quick:
        mistakes = random.Random(options.seed).sample(mistakes, 15)
    warm_up()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"SEQ2SEQ_CACHE": str(folder / "cache"), "TMPDIR": name, "HF_HUB_OFFLINE": "1"}
        trained = folder / "trained"
        steps = ("training.max_steps=4", "training.validate_every=2")
        command = ("train", *corpus(folder / "corpus"), *TINY["gru"], *SHORT, *steps, "-o", trained)
        made = run(command, log=folder / "train.log")
        if made.code:
            return conclude(options, [Trial("training", False, made.said)])
        trials = []
        for code, text, typed in mistakes:
            place = folder / "place"
            place.mkdir()
            os.chdir(place)
            lay_out()
            trials.append(_try(typed, code, text, place, trained, folder / "said.log"))
            os.chdir(folder)
            shutil.rmtree(place)
        return conclude(options, trials)


def _try(typed: tuple[str, ...], code: int, text: str, place: Path, trained: Path, log: Path) -> Trial:
    before = _content(place) | _content(trained)
    words = [word.replace("RUN", str(trained)) for word in typed]
    outcome = run(words, log=log)
    errors = [line for line in outcome.said.splitlines() if line.startswith("error: ")]
    wrong = [
        f"exit code {outcome.code}, not {code}" if outcome.code != code else "",
        "" if text in outcome.said or text.replace("RUN", str(trained)) in outcome.said else f"{text!r} is not said",
        "a traceback" if "Traceback" in outcome.said else "",
        f"{len(errors)} errors" if len(errors) != 1 else "",
        "no code at the end" if errors and not re.search(r"  \[[\w.-]+\]$", errors[0]) else "",
        "no hint" if "\n  hint: " not in outcome.said else "",
        "files have changed" if _content(place) | _content(trained) != before else "",
        f"{outcome.seconds:.0f} s" if outcome.seconds > 20 else "",
    ]
    found = "; ".join(filter(None, wrong))
    return Trial(f"{typed[0]}: {' '.join(typed)}", not found, f"{found}\n{outcome.said}" if found else "")


def _content(folder: Path) -> dict[str, bytes]:
    """Every file but the log, where a mistake may be noted, and the lock, which names the process."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log" and path.name != ".lock")
    return {str(path): path.read_bytes() for path in files}


if __name__ == "__main__":
    raise SystemExit(main())
