"""The column of a table, or the key of records, that is translated, and the name of the new one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from seq2seq.data.columns import names_source
from seq2seq.errors import UsageError, closest
from seq2seq.languages import language_of, language_of_column


def choose_column(names: Sequence[str], wanted: str | None, language: str, where: str) -> str:
    """The wanted name, or the one that says the language or that it holds the source text.

    Raises:
        UsageError: there is no such name, or several or none say it.
    """
    listed = ", ".join(names)
    if wanted is not None:
        found = [name for name in names if name == wanted] or [
            name for name in names if name.casefold() == wanted.casefold()
        ]
        if len(found) == 1:
            return found[0]
        near = closest(wanted, names)
        hint = f"did you mean {near!r}?" if near else f"it has {listed}"
        raise UsageError(f"no column {wanted!r} in {where}", where="--column", hint=hint, code="usage.value")
    by_language = [name for name in names if language_of_column(name) == (language_of(language) or language)]
    by_name = [name for name in names if names_source(name) and language_of_column(name) is None]
    for found in (by_language, by_name, list(names)):
        if len(found) == 1:
            return found[0]
    raise UsageError(
        f"which column of {where} is to be translated? It has {listed}",
        hint=f"add --column {names[0]}",
        code="usage.needs",
    )


def new_name(names: Collection[str], language: str) -> str:
    """Name for the translations: the target language, or another one where there is such a column."""
    candidates = (language, f"{language}_translation", *(f"{language}_translation{number}" for number in range(2, 99)))
    return next(name for name in candidates if name not in names)
