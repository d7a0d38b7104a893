"""`--notify`: a command of the user that runs when a training ends, fails or is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from seq2seq.console import warn
from seq2seq.errors import UserError
from seq2seq.signals import Interrupted
from seq2seq.system import is_first_rank

_SECONDS = 20.0
"""Time limit of the command, so that a hanging one does not delay the end of the run."""

Notify = Annotated[
    str | None,
    typer.Option(
        "--notify",
        metavar="COMMAND",
        envvar="SEQ2SEQ_NOTIFY",
        help="Shell command to run at the end, with $SEQ2SEQ_STATE, _RUN, _SCORE and _MESSAGE.",
    ),
]


@dataclass
class Outcome:
    """Result of a run, as far as it is known."""

    run: Path
    score: str = ""
    """Name and value of the first test score, such as `BLEU 38.90`; empty without a test set."""


@contextmanager
def notifying(command: str | None, run: Path) -> Iterator[Outcome]:
    """Context manager that runs a command at its end; a failure of the command is only a warning.

    The command gets SEQ2SEQ_STATE (`finished`, `failed` or `stopped`), SEQ2SEQ_RUN (an absolute path), SEQ2SEQ_SCORE,
    and SEQ2SEQ_MESSAGE, which says all of it in one line.
    """
    outcome = Outcome(run)
    try:
        yield outcome
    except (Interrupted, KeyboardInterrupt) as error:
        _notify(command, outcome, "stopped", str(error))
        raise
    except Exception as error:
        what = error.what if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        _notify(command, outcome, "failed", what)
        raise
    _notify(command, outcome, "finished", outcome.score)


def _notify(command: str | None, outcome: Outcome, state: str, details: str) -> None:
    if not command or not is_first_rank():
        return
    first = details.partition("\n")[0].replace("\0", "")
    facts = {
        "SEQ2SEQ_STATE": state,
        "SEQ2SEQ_RUN": str(outcome.run.absolute()),
        "SEQ2SEQ_SCORE": outcome.score,
        "SEQ2SEQ_MESSAGE": f"{outcome.run} {state}" + (f": {first}" if first else ""),
    }
    nowhere = subprocess.DEVNULL  # results of the run are alone on stdout
    try:
        process = subprocess.Popen(
            command,
            shell=True,
            env={**os.environ, **facts},
            stdin=nowhere,
            stdout=nowhere,
            stderr=nowhere,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # ValueError: a NUL
        warn(f"--notify: {error}")
        return
    try:
        code = process.wait(_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        warn(f"--notify: the command was ended after {_SECONDS:g} seconds")
        return
    if code:
        warn(f"--notify: the command ended with exit code {code}")
