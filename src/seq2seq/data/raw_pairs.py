"""Raw training pairs, kept on disk between reading and tokenizing so that memory does not grow with the corpus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seq2seq import console
from seq2seq.data.cleaning import CleaningReport, hash_pairs, text_fault
from seq2seq.data.files import Pair
from seq2seq.tags import TARGET_TAG

if TYPE_CHECKING:
    import datasets

Rows = npt.NDArray[np.int64]

READ_ROWS = 10_000
_SCANNED = 2**20
"""Number of rows whose hashes or flags are processed together."""

_FILES = _TEXT, _HASHES, _MARKS, _AGAIN = "raw.arrow", "raw.hashes", "raw.kept", "raw.again"


class RawText:
    """Pairs in three files of a folder: text (an Arrow stream), hashes, and flags of the pairs to keep."""

    def __init__(self, folder: Path, sizes: Sequence[int], tags: Sequence[str] = ()) -> None:
        self.folder = folder
        self.tags = _Tags(tags)
        self._is_tagged = np.array([bool(tag) for tag in tags] or [False] * len(sizes), dtype=np.bool_)
        self.sizes = tuple(sizes)
        """Number of usable pairs of each corpus."""
        self.rows = sum(sizes)
        self._ends = np.cumsum(self.sizes)
        self._kept_count = self.rows
        self.hashes: npt.NDArray[np.uint64] = np.memmap(folder / _HASHES, dtype="<u8", mode="r")
        self._kept: npt.NDArray[np.bool_] = np.memmap(folder / _MARKS, dtype=np.bool_, mode="w+", shape=(self.rows,))
        for start in range(0, self.rows, _SCANNED):
            self._kept[start : start + _SCANNED] = True
        import datasets  # takes most of a second with pandas; data that are prepared already do without

        self._data = datasets.Dataset.from_file(str(folder / _TEXT))

    @classmethod
    def write(
        cls, folder: Path, corpora: Iterable[Iterable[Pair]], report: CleaningReport, tags: Sequence[str] = ()
    ) -> RawText:
        """Write pairs to disk; pairs with an empty or invisible side are counted and dropped.

        `tags` has the tag before the source texts of each corpus (`<BT>`), an empty string for none.

        Raises:
            DataError: no pair is left.
        """
        known = _Tags(tags)
        schema = pa.schema([("source", pa.string()), ("target", pa.string())])
        sizes = []
        with (
            console.Progress("reading", None, "pairs") as progress,
            pa.OSFile(str(folder / _TEXT), "wb") as file,
            pa.ipc.new_stream(file, schema) as writer,
            (folder / _HASHES).open("wb") as hashes,
        ):
            for corpus in corpora:
                rows, size = iter(corpus), 0
                while block := list(islice(rows, READ_ROWS)):
                    usable = _usable(block, report, known)
                    if usable:
                        hashes.write(hash_pairs(usable).tobytes())
                        sources, targets = zip(*usable, strict=True)
                        writer.write_table(pa.table([sources, targets], schema=schema))
                    size += len(usable)
                    progress.update(len(block))
                sizes.append(size)
        if not sum(sizes):
            report.require_any_kept()
        return cls(folder, sizes, tags)

    def remove(self) -> None:
        """Delete the files."""
        del self._data
        for name in _FILES:
            (self.folder / name).unlink(missing_ok=True)

    def __len__(self) -> int:
        return self._kept_count

    def corpus_of(self, rows: Rows) -> Rows:
        """Number of the corpus of each row."""
        corpora: Rows = np.searchsorted(self._ends, rows, side="right")
        return corpora

    def drop_duplicates(self, report: CleaningReport) -> None:
        """Keep the first of equal pairs. Hashes are compared in portions, chosen by their upper bits."""
        portions = -(-self.rows // _SCANNED)
        with self.progress("looking for duplicates") as progress:
            for portion in range(portions):
                values, rows = self._portion(portion, portions)
                _, first = np.unique(values, return_index=True)
                repeated = np.delete(rows, first)
                self._kept[repeated] = False
                self._kept_count -= len(repeated)
                report.duplicate += len(repeated)
                progress.update(len(rows))

    def _portion(self, portion: int, portions: int) -> tuple[npt.NDArray[np.uint64], Rows]:
        """Hashes whose upper bits fall into one of `portions` equal ranges, and their rows in ascending order."""
        values, rows = [], []
        for start in range(0, self.rows, _SCANNED):
            hashes = self.hashes[start : start + _SCANNED]
            upper = (hashes >> np.uint64(32)) * np.uint64(portions) >> np.uint64(32)
            found = np.flatnonzero(upper == portion)
            values.append(hashes[found])
            rows.append(found + start)
        return np.concatenate(values), np.concatenate(rows)

    def untagged(self) -> int:
        """Number of kept pairs of the corpora without a tag: those that may be held out."""
        if not self._is_tagged.any():
            return len(self)
        return sum(len(rows) for _, rows in self.untagged_rows())

    def untagged_rows(self) -> Iterator[tuple[int, Rows]]:
        """Yield the start of each part of the rows, and the kept pairs without a corpus tag in it."""
        for start in range(0, self.rows, _SCANNED):
            rows = np.flatnonzero(self._kept[start : start + _SCANNED])
            yield start, rows[~self._is_tagged[self.corpus_of(start + rows)]] if self._is_tagged.any() else rows

    def progress(self, description: str) -> console.Progress:
        """A progress bar over the kept pairs."""
        return console.Progress(description, len(self), "pairs", delay=1.0)

    def take(self, rows: Rows) -> list[Pair]:
        """Remove kept pairs, and return them in the order of `rows`."""
        self._kept[rows] = False
        self._kept_count -= len(rows)
        texts = self._data.select(rows)[:]
        return list(zip(texts["source"], texts["target"], strict=True))

    def mark(self, sources: set[str], targets: set[str]) -> tuple[npt.NDArray[np.bool_], int]:
        """Flags of the kept pairs with one of these texts, source texts without tags, and their number."""
        marks = np.memmap(self.folder / _AGAIN, dtype=np.bool_, mode="w+", shape=(self.rows,))
        found = 0
        with self.progress("looking for held-out sources") as progress:
            for rows, part in self.slices(READ_ROWS):
                texts = part[:]
                pairs = zip(texts["source"], texts["target"], strict=True)
                matches = (self.tags.strip(source) in sources or target in targets for source, target in pairs)
                mine = rows[np.fromiter(matches, np.bool_, len(rows))]
                marks[mine] = True
                found += len(mine)
                progress.update(len(part))
        return marks, found

    def drop(self, marks: npt.NDArray[np.bool_], found: int) -> None:
        """Drop the `found` pairs that `mark` has marked."""
        for start in range(0, self.rows, _SCANNED):
            self._kept[start : start + _SCANNED] &= ~marks[start : start + _SCANNED]
        self._kept_count -= found

    def slices(self, size: int) -> Iterator[tuple[Rows, datasets.Dataset]]:
        """Yield row numbers and texts of the kept pairs, `size` rows at a time."""
        for start in range(0, self.rows, size):
            end = min(start + size, self.rows)
            rows = np.flatnonzero(self._kept[start:end])
            if not len(rows):
                continue
            part = self._data.select(range(start, end))
            yield start + rows, part if len(rows) == end - start else part.select(rows)

    def pairs(self) -> Iterator[Pair]:
        """Yield all kept pairs; a new pass at each call."""
        for _, part in self.slices(READ_ROWS):
            texts = part[:]
            yield from zip(texts["source"], texts["target"], strict=True)


class _Tags:
    """The tags that may stand before a source text: target tags, and those of the training corpora."""

    def __init__(self, tags: Sequence[str]) -> None:
        corpus_tags = sorted({tag for tag in tags if tag})
        own = rf"(?:(?:{'|'.join(corpus_tags)})\s*)?" if corpus_tags else ""
        self._pattern = re.compile(rf"^(?:{TARGET_TAG.pattern}\s*)?{own}")

    def strip(self, source: str) -> str:
        """The source text without its tags."""
        return self._pattern.sub("", source, count=1) if source.startswith("<") else source

    def is_copy(self, left: str, right: str) -> bool:
        """Whether both sides are the same text, apart from tags."""
        return left == right or self.strip(left) == right


def _usable(block: Sequence[Pair], report: CleaningReport, tags: _Tags) -> list[Pair]:
    usable = []
    for pair in block:
        match text_fault(*pair):
            case "empty":
                report.empty += 1
            case "invisible":
                report.invisible += 1
            case _:
                usable.append(pair)
    report.read += len(block)
    report.copies += sum(tags.is_copy(left, right) for left, right in usable)
    return usable
