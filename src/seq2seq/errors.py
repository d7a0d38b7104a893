"""Every error that is the user's to mend: what happened, where, and what to do about it.

The command line prints a `UserError` in three lines and exits with its `exit_code`; any other exception is our bug.
"""

from __future__ import annotations


class UserError(Exception):
    """A fault with a remedy. `where` is a place such as `config.yaml:12`; `hint` is a command or a value to try."""

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  --> {self.where}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class UsageError(UserError):
    """A command was given something that it cannot use."""


class ConfigError(UserError):
    """A setting is unknown, of the wrong type, or impossible beside another."""


class DataError(UserError):
    """A corpus is missing, unreadable or unusable."""

    exit_code = 3


class NetworkError(UserError):
    """Something could not be fetched."""

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
