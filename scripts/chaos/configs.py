"""Bad configs by the real command: every trap of tests/faults/bad_configs.py, and slips in every key of the tree.

Row: 48

    python scripts/chaos/configs.py --json configs.json         # 76 traps and 300 slips, under a minute

Promised for each: exit code 2, one line that names what is wrong, its code, file and line, a hint, no traceback, an
answer within five seconds.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from common import ROOT, Trial, arguments, conclude, run


def main() -> int:
    """Try them all; the exit code."""
    options = arguments(__doc__, lambda parser: parser.add_argument("--slips", type=int, default=300))
    sys.path.insert(0, str(ROOT))
    from tests.faults.bad_configs import TRAPS, BadConfig, mutations

    import seq2seq.cli  # noqa: F401  children are forked from here

    def attempt(bad: BadConfig, folder: Path) -> Trial:
        path = folder / "my.yaml"
        path.write_bytes(bad.content)
        outcome = run(("config", "show", path), log=folder / "said.log", seconds=30.0)
        lines = outcome.said.splitlines()
        hints = [line for line in lines if line.startswith("  hint: ")]
        wrong = [
            f"exit code {outcome.code}" if outcome.code != 2 else "",
            f"{bad.what!r} is not said" if not lines or bad.what not in lines[0] else "",
            "no code at the end" if not lines or not lines[0].endswith("]") else "",
            f"not line {bad.line}" if bad.line is not None and f"  --> {path}:{bad.line}" not in lines else "",
            f"no hint with {bad.hint!r}" if len(hints) != 1 or bad.hint not in hints[0] else "",
            "a traceback" if "Traceback" in outcome.said else "",
            f"{outcome.seconds:.1f} s" if outcome.seconds > 5 else "",
        ]
        found = "; ".join(filter(None, wrong))
        kind = "trap" if bad in TRAPS else "slip"
        return Trial(f"{kind}: {bad.name}", not found, f"{found}\n{outcome.said[:500]}" if found else "")

    slips = mutations(options.seed, 20 if options.quick else options.slips)
    with tempfile.TemporaryDirectory() as name:
        os.environ["SEQ2SEQ_CACHE"] = name
        return conclude(options, [attempt(bad, Path(name)) for bad in [*TRAPS, *slips]])


if __name__ == "__main__":
    raise SystemExit(main())
