"""Cleaned copy of a corpus, with a receipt that names every line that was dropped or changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from seq2seq.atomic_files import new_files
from seq2seq.data.files import Pair
from seq2seq.data.unreadable_rows import show
from seq2seq.errors import UsageError
from seq2seq.languages import language_of


class CleanCopy(NamedTuple):
    """Open files of a cleaned copy and its receipt."""

    source: TextIO
    target: TextIO
    receipt: TextIO

    def write(self, pair: Pair) -> None:
        """Write a pair that is kept."""
        self.source.write(pair[0] + "\n")
        self.target.write(pair[1] + "\n")

    def note(self, name: str, line: int, action: str, faults: Sequence[tuple[str, str]]) -> None:
        """Write one line of the receipt."""
        kinds = ", ".join(kind for kind, _ in faults)
        details = "; ".join(detail for _, detail in faults if detail)
        self.receipt.write("\t".join([show(name, 10_000), str(line), action, kinds, show(details, 1000)]) + "\n")


@contextmanager
def clean_copy(
    output: str, languages: tuple[str, str], *, option: str = "--fix", replace: bool = False
) -> Iterator[CleanCopy]:
    """Context with the files OUTPUT.LANGUAGE, twice, and OUTPUT.receipt.tsv, which appear together at its end.

    `option` names the output, for messages; with `replace`, files of these names are replaced.

    Raises:
        UsageError: a file exists already, or cannot be written.
        ResourceError: the disk is full.
    """
    paths = copy_paths(output, languages)
    for path in paths:
        if path.exists() and not replace:
            raise UsageError(f"{path} exists", hint=f"give another name with {option}", code="usage.exists")
    with new_files(paths) as files:
        files[2].write("corpus\tline\taction\tkinds\tdetails\n")
        yield CleanCopy(*files)


def copy_paths(output: str, languages: tuple[str, str]) -> list[Path]:
    """Names of a cleaned copy and of its receipt."""
    codes = [language_of(language) for language in languages]
    left, right = languages if all(codes) and languages[0] != languages[1] else ("src", "tgt")
    return [Path(f"{output}.{ending}") for ending in (left, right, "receipt.tsv")]
