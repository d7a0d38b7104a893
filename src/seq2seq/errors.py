"""Errors that the user can fix: what happened, where, and a hint.

The command line prints a `UserError` in three lines and exits with its `exit_code`; any other exception is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from seq2seq.sanitize import presentable


def closest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """The choice most like a name, for hints such as "did you mean ...?"; empty if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(choices), n=1, cutoff=cutoff)), "")


class UserError(Exception):
    """Base class of all expected errors; the text has its secrets redacted and its control characters escaped.

    `where` is a place such as `config.yaml:12`; `hint` is a command or a value to try; `code` is a key of
    `seq2seq.error_catalogue.CATALOGUE`, explained by `seq2seq help errors CODE`.
    """

    exit_code = 2
    code = ""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None, code: str = "") -> None:
        self.what = presentable(what)
        self.where = where and presentable(where)
        self.hint = hint and presentable(hint)
        self.code = code or type(self).code
        super().__init__(self.what)

    def report(self) -> str:
        """Text for the command line: `__str__` with the code at the end of the first line."""
        first, newline, rest = str(self).partition("\n")
        return f"{first}  [{self.code}]{newline}{rest}" if self.code else str(self)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  --> {self.where}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class UsageError(UserError):
    """A command cannot use one of its arguments."""


class ConfigError(UserError):
    """A setting is unknown, has the wrong type, or contradicts another one."""


class DataError(UserError):
    """A corpus is missing, unreadable or unusable."""

    exit_code = 3


class NetworkError(UserError):
    """A download failed."""

    exit_code = 4


class CheckpointError(UserError):
    """A checkpoint, run directory or tokenizer is missing, damaged, or made by another version."""

    exit_code = 5


class DivergenceError(UserError):
    """The loss or a gradient is no longer a finite number."""

    exit_code = 6


class ResourceError(UserError):
    """Disk or memory ran out."""

    exit_code = 7


class WorkerError(UserError):
    """A helper process (a loader worker or a rank) died."""

    exit_code = 8
