"""The fault matrix: every fault that the tool promises to survive or to name is held by a test or by a script.

A test holds rows by `@pytest.mark.fault(N, ...)`, a script under scripts/chaos by a line `Rows: N, ...` in its
docstring.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = {
    1: "SIGKILL in a step: the same command resumes, to the bit",
    2: "SIGKILL in a save: what is unfinished is removed, and that is said",
    3: "SIGKILL while pruning: two checkpoints are left at any time",
    4: "power loss: write, fsync, rename, fsync of the folder",
    5: "SIGTERM: the step is saved; exit 143",
    6: "Ctrl-C once saves, twice stops; exit 130",
    7: "SIGUSR1, as SLURM sends it: saved; exit 138",
    8: "SIGHUP: saved; exit 129",
    9: "two runs in one directory: the second is told who holds it; exit 2",
    10: "a rank is killed: named, and no process is left; exit 8",
    11: "a rank hangs: named after a time-out; exit 8",
    12: "a loader process dies: cause and num_workers: 0; exit 8",
    13: "the disk is full at a save: needed and free space, and a warning at the start; exit 7",
    14: "the disk is full for the log: one warning, training goes on",
    15: "the output cannot be written: told before training; exit 2",
    16: "the disk fails for a moment: three tries, then exit 7",
    17: "the newest checkpoint is cut: the one before is taken",
    18: "one bit of a checkpoint is flipped: the one before is taken",
    19: "a file of a checkpoint is missing: named, the one before is taken",
    20: "all checkpoints are damaged: a list, and nothing begins anew in silence; exit 5",
    21: "the config was changed since: the difference, key by key; exit 2",
    22: "a newer version made it; exit 5",
    23: "the tokenizer is damaged or swapped: both hashes; exit 5",
    24: "a pickle lies where a checkpoint should be: nothing runs; exit 5",
    25: "a hostile sentencepiece model: the tool survives; exit 5",
    26: "NaN or infinity: no update is taken; exit 6",
    27: "divergence: figures and advice; exit 6",
    28: "the memory of the GPU runs out: tokens and a smaller value; exit 7",
    29: "the memory of the machine runs out; exit 7",
    30: "another number of ranks on resuming: a warning, the same order of data",
    31: "files of different length: both counts, before training; exit 3",
    32: "an empty line on one side: the pair goes, pairing never shifts",
    33: "bytes that are not UTF-8: file, line, byte; exit 3, or replaced",
    34: "BOM, CRLF, lone CR, U+2028, U+0085: never a line break",
    35: "NUL and text without width: dropped, or an empty line out",
    36: "a line that is too long: dropped and counted, or translated in pieces",
    37: "nothing is left after cleaning: a table of filters; exit 3",
    38: "training text in the test set: a warning with the count",
    39: "a stale or unfinished cache: made again, and why",
    40: "offline: what, where, and how to go on; exit 4",
    41: "a download breaks off: it goes on from there",
    42: "wrong bytes, or a web page in place of a file: refused; exit 4",
    43: "429 and 503: the server's pause is kept, five tries; exit 4",
    44: "an archive that would write elsewhere: the member is named; exit 4",
    45: "a dataset that wants to run code: refused; exit 4",
    46: "`translate | head`: quiet",
    47: "translate is killed: whole lines only, the old output stays",
    48: "traps of YAML and slips in a config: file, line, remedy; exit 2",
    49: "secrets are neither printed nor stored",
    50: "the corpus, tokenizer or revision changed between stop and resume: named, ways on, nothing written; exit 2",
    51: "a kill in averaging, test scoring or export: the same best model and scores after the rerun",
    52: "the parent of several ranks is killed: they end within 5 s, the same command goes on",
    53: "`best` is damaged before a resume: told at the start, or the next best used",
    54: "`best` and `last` lost by a copy, or with other line ends: works",
    55: "two trainings, one cold cache; a read-only cache; a damaged record: both run, and it is rebuilt",
    56: "`translate --resume` with damaged lines or record: begins again from what is whole",
    57: "held-out text or results of a run are damaged: named; exit 5",
    58: "cached machine code is damaged: compiled again",
    59: "links, FIFOs, devices in a run folder from elsewhere: refused, nothing outside touched; exit 5",
    60: "control characters in text, names and server answers: shown as escapes",
    61: "a redirect to another scheme: refused; exit 4; secrets in URLs: redacted everywhere",
    62: "a compressed corpus that explodes: the limit is named; exit 3",
    63: "a validation score that cannot move: another metric before step 1, said",
}


def _marked(tree: ast.AST) -> Iterator[int]:
    """The rows of every `pytest.mark.fault(...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fault":
            yield from (value.value for value in node.args if isinstance(value, ast.Constant))


def _scripted(path: Path) -> Iterator[int]:
    """The rows that the docstring of a script names: `Rows: 1-3, 5`."""
    document = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    for line in re.findall(r"^Rows?: ([\d, -]+)", document, flags=re.MULTILINE):
        for part in line.replace(" ", "").strip(",.").split(","):
            first, _, last = part.partition("-")
            yield from range(int(first), int(last or first) + 1)


def holders() -> dict[int, set[str]]:
    """Row -> the files that hold it."""
    found: dict[int, set[str]] = {row: set() for row in ROWS}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for row in _marked(ast.parse(path.read_text(encoding="utf-8"))):
            found[row].add(str(path.relative_to(ROOT)))
    for path in sorted((ROOT / "scripts" / "chaos").glob("*.py")):
        for row in _scripted(path):
            found[row].add(str(path.relative_to(ROOT)))
    return found


def test_every_row_of_the_matrix_is_held() -> None:
    empty = {row: ROWS[row] for row, files in holders().items() if not files}
    assert not empty, f"no test and no script for {empty}"
