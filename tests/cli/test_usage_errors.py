"""What the parser of the command line says of values, in our words, whichever version of typer said it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from seq2seq.cli.usage_errors import in_our_words


class SaidError(Exception):
    """An error as typer raises it."""

    def __init__(self, message: str, *names: str) -> None:
        super().__init__(message)
        self.message, self.ctx = message, None
        self.param = SimpleNamespace(opts=list(names)) if names else None

    def format_message(self) -> str:
        return f"Invalid value: {self.message}"


@pytest.mark.parametrize(
    ("message", "what", "hint"),
    [
        ("Input should be greater than or equal to 1", "must be 1 or more", "--top-p 1"),
        ("Input should be less than or equal to 1", "must be 1 or less", "--top-p 1"),
        ("0 is not in the range x>=1.", "must be 1 or more, not 0", "--top-p 1"),
        ("7 is not in the range x<=5.", "must be 5 or less, not 7", "--top-p 5"),
        ("2.0 is not in the range 0.01<=x<=1.0.", "must be from 0.01 to 1.0, not 2.0", "--top-p 0.01"),
        ("'five' is not a valid integer range.", "must be a whole number, not five", "seq2seq translate --help"),
        ("'five' is not a valid integer.", "must be a whole number, not five", "seq2seq translate --help"),
        ("'much' is not a valid float range.", "must be a number, not much", "seq2seq translate --help"),
    ],
)
def test_values(message: str, what: str, hint: str) -> None:
    """Old versions of typer use click's words, new ones those of pydantic, which the user has never heard of."""
    error = in_our_words(SaidError(message, "--top-p", "-p"), ["translate", "run"])
    assert error.what == f"invalid value for '--top-p': {what}"
    assert error.hint == hint
    assert error.where == "seq2seq translate"
    assert error.exit_code == 2


def test_other_mistakes_keep_their_words() -> None:
    assert (
        in_our_words(SaidError("0 is not in the range x>=1."), []).what == "invalid value: 0 is not in the range x>=1"
    )
    assert in_our_words(SaidError("The sky is green.", "--sky"), []).what == "invalid value: The sky is green"
