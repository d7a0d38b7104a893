"""Monolingual text to translate for training, without the lines that cannot become training pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from seq2seq.data.files import DecodingErrors
from seq2seq.data.formats import read_text
from seq2seq.fixed_text import has_letter, is_blank
from seq2seq.runs.loaded_run import LoadedRun

_BLOCK = 1000


class Original(NamedTuple):
    """A line of genuine text."""

    place: str
    """Name of the file or corpus."""
    line: int
    """Its number there, counted from 1."""
    text: str
    reference: str = ""
    """Its human translation, where there is one."""
    tokens: int = 0


Drop = Callable[[Original, str, str], None]
"""Notes a dropped line: (line, reason, detail)."""


def file_lines(files: Sequence[str], errors: DecodingErrors, option: str) -> Iterator[Original]:
    """The lines of several files, one after the other. Raises as `read_text`."""
    for name in files:
        for number, text in enumerate(read_text(name, errors, option=option), start=1):
            yield Original(name, number, text)


class Originals:
    """Usable lines of a text, the same in every pass over it.

    Lines are dropped that are `empty`, have `no letter` (a run copies them), are a `duplicate` of an earlier line, are
    `held out` (a text of the validation or test set), or are `too long`.

    Args:
        loaded: the run that translates the lines.
        lines: starts a new pass over all lines.
        tagged: whether the lines have the target tags of the run, as its training text has.

    Attributes:
        genuine: the validation and test pairs of the run.
    """

    def __init__(self, loaded: LoadedRun, lines: Callable[[], Iterable[Original]], *, tagged: bool) -> None:
        self._lines, self._tokenizer = lines, loaded.translator.tokenizers.source
        self._max_tokens = loaded.config.data.cleaning.max_tokens
        self.genuine = [pair for split in ("valid", "test") for pair in loaded.directory.load_pairs(split)]
        if not tagged:
            self.genuine = [(loaded.target_tags.split(source)[1], target) for source, target in self.genuine]
        self._held_out = frozenset(_folded(source) for source, _ in self.genuine)

    def read(self, drop: Drop | None = None) -> Iterator[Original]:
        """Yield the usable lines; `drop` is called with the others."""
        seen: set[bytes] = set()
        lines = iter(self._lines())
        while block := list(islice(lines, _BLOCK)):
            rows = self._tokenizer.encode([line.text for line in block])
            for line, row in zip(block, rows, strict=True):
                if (fault := self._fault(line.text, len(row), seen)) is None:
                    yield line._replace(tokens=len(row))
                elif drop is not None:
                    drop(line, *fault)

    def _fault(self, text: str, tokens: int, seen: set[bytes]) -> tuple[str, str] | None:
        if "\0" in text or is_blank(text):
            return "empty", ""
        if not has_letter(text):
            return "no letter", ""
        if tokens > self._max_tokens:
            return "too long", f"{tokens:,} tokens"
        folded = _folded(text)
        if folded in self._held_out:
            return "held out", ""
        digest = hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if digest in seen:
            return "duplicate", ""
        seen.add(digest)
        return None


def _folded(text: str) -> str:
    return " ".join(text.split())
