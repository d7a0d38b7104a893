"""Store of token ids: Arrow files with two list columns, memory-mapped, so that a corpus may exceed memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seq2seq.errors import DataError

_SCHEMA = pa.schema([("source", pa.list_(pa.int32())), ("target", pa.list_(pa.int32()))])
_BATCH_ROWS = 65_536

Ids = npt.NDArray[np.int32]


class Store:
    """Pairs of token ids by row number. Opening reads the index only; rows are views of the mapped file.

    Lengths do not count EOS. The rows of `more` files follow those of the first.

    Raises:
        DataError: a file is missing or damaged.
    """

    def __init__(self, path: Path, *more: Path) -> None:
        self.path, self._more = path, more
        table = pa.concat_tables([_open_table(file) for file in (path, *more)])
        self._source, self._target = _Column(table["source"]), _Column(table["target"])

    def __len__(self) -> int:
        return self._source.rows

    @cached_property
    def source_lengths(self) -> Ids:
        """Source length of every pair; 4 bytes a pair stay in memory."""
        return self._source.all_lengths()

    @cached_property
    def target_lengths(self) -> Ids:
        """Target length of every pair; 4 bytes a pair stay in memory."""
        return self._target.all_lengths()

    def lengths(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> tuple[Ids, Ids]:
        """Source and target lengths of the given pairs, in the given order."""
        rows = np.asarray(indices, dtype=np.int64)
        return self._source.lengths(rows), self._target.lengths(rows)

    def longest(self) -> tuple[int, int]:
        """Row of the longest source and of the longest target (the first of several); a pass over the index.

        Raises:
            ValueError: the store is empty.
        """
        return self._source.longest(), self._target.longest()

    def rows(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> tuple[list[Ids], list[Ids]]:
        """Source and target ids of the given pairs, in the given order, as read-only views."""
        rows = np.asarray(indices, dtype=np.int64)
        return self._source.take(rows), self._target.take(rows)

    def followed_by(self, other: Store) -> Store:
        """This store followed by the rows of another."""
        return Store(self.path, *self._more, other.path, *other._more)

    def __reduce__(self) -> tuple[type[Store], tuple[Path, ...]]:
        # Each loader process maps the files for itself.
        return Store, (self.path, *self._more)


def _open_table(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as mapped:
            table = pa.ipc.open_file(mapped).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"cannot open prepared data: {error}", where=str(path), code="data.prepared") from None
    if table.schema != _SCHEMA:
        raise DataError("not a file of prepared data", where=str(path), code="data.prepared")
    return table


class StoreWriter:
    """Writer of a new store, table by table, in constant memory."""

    def __init__(self, path: Path) -> None:
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._file, _SCHEMA)

    def write(self, table: pa.Table) -> None:
        """Append a table with list columns `source` and `target`."""
        for batch in table.select(["source", "target"]).cast(_SCHEMA).combine_chunks().to_batches(_BATCH_ROWS):
            self._writer.write_batch(batch)

    def write_rows(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> None:
        """Append rows of ids."""
        self.write(pa.table({"source": list(sources), "target": list(targets)}, schema=_SCHEMA))

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._file.close()


def _view(array: pa.Array) -> Ids:
    """The numbers of an array without nulls, not copied. `Array.to_numpy` would import pandas."""
    return np.frombuffer(array.buffers()[1], dtype=np.int32, count=len(array), offset=4 * array.offset)


class _Column:
    """List column: flat values and offsets of each record batch, both views of the file."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._values = [_view(chunk.values) for chunk in chunks]
        self._offsets = [_view(chunk.offsets) for chunk in chunks]
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        self.rows = int(self._starts[-1])

    def all_lengths(self) -> Ids:
        lengths = [np.diff(offsets) for offsets in self._offsets]
        return np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int32)

    def longest(self) -> int:
        best, row = -1, -1
        for start, offsets in zip(self._starts.tolist(), self._offsets, strict=False):
            lengths = np.diff(offsets)
            place = int(lengths.argmax())
            if lengths[place] > best:
                best, row = int(lengths[place]), start + place
        if row < 0:
            raise ValueError("an empty store has no longest row")
        return row

    def lengths(self, rows: npt.NDArray[np.int64]) -> Ids:
        chunks, inside = self._places(rows)
        lengths = np.empty(len(rows), dtype=np.int32)
        # Rows are read chunk by chunk, in the order of the index on disk.
        order = np.argsort(chunks, kind="stable")
        bounds = np.searchsorted(chunks[order], np.arange(len(self._offsets) + 1))
        for chunk in np.unique(chunks).tolist():
            mine = order[bounds[chunk] : bounds[chunk + 1]]
            offsets, places = self._offsets[chunk], inside[mine]
            lengths[mine] = offsets[places + 1] - offsets[places]
        return lengths

    def _places(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Chunk of each row, and row within the chunk."""
        if rows.size and (rows.min() < 0 or rows.max() >= self.rows):
            raise IndexError(f"row out of range 0 to {self.rows - 1}")
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        return chunks, rows - self._starts[chunks]

    def take(self, rows: npt.NDArray[np.int64]) -> list[Ids]:
        chunks, inside = self._places(rows)
        taken = []
        for chunk, row in zip(chunks.tolist(), inside.tolist(), strict=True):
            offsets = self._offsets[chunk]
            taken.append(self._values[chunk][offsets[row] : offsets[row + 1]])
        return taken
