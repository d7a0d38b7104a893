"""Text on disk to token ids on disk, a slice at a time, in as many processes as pay for themselves."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seq2seq import console
from seq2seq.config.settings import CleaningSettings
from seq2seq.data.cleaning import CleaningReport, first_occurrences, hash_pairs, judge_lengths, text_fault
from seq2seq.data.store import StoreWriter
from seq2seq.data.tokenizer import TokenizerPair
from seq2seq.errors import DataError, WorkerError

Pair = tuple[str, str]
Hashes = npt.NDArray[np.uint64]

PARALLEL_PAIRS = 100_000
"""Below this many pairs, starting processes costs more than it saves."""

_READ_ROWS = 10_000
_SLICE_ROWS = 20_000
_PARALLEL_SLICE_ROWS = 500_000
_FEATURES = datasets.Features({side: datasets.List(datasets.Value("int32")) for side in ("source", "target")})


class RawText:
    """Usable pairs as they were read: an Arrow stream on disk, a hash a pair in memory."""

    def __init__(self, path: Path, hashes: Hashes) -> None:
        self.hashes = hashes
        self._data = datasets.Dataset.from_file(str(path)) if len(hashes) else None

    @classmethod
    def write(cls, path: Path, pairs: Iterable[Pair], report: CleaningReport) -> RawText:
        """Stream pairs to disk; those with an empty or invisible side are counted and left out."""
        schema = pa.schema([("source", pa.string()), ("target", pa.string())])
        hashes: list[Hashes] = []
        rows = iter(pairs)
        with (
            console.Progress("reading", None, "pairs") as progress,
            pa.OSFile(str(path), "wb") as file,
            pa.ipc.new_stream(file, schema) as writer,
        ):
            while block := list(islice(rows, _READ_ROWS)):
                usable = _usable(block, report)
                if usable:
                    hashes.append(hash_pairs(usable))
                    sources, targets = zip(*usable, strict=True)
                    writer.write_table(pa.table([sources, targets], schema=schema))
                progress.update(len(block))
        return cls(path, np.concatenate(hashes) if hashes else np.zeros(0, dtype=np.uint64))

    def drop_duplicates(self, report: CleaningReport) -> None:
        """Keep the first of equal pairs."""
        first = first_occurrences(self.hashes)
        report.duplicate += len(self.hashes) - len(first)
        if self._data is not None and len(first) < len(self.hashes):
            self._data = self._data.select(first)
            self.hashes = self.hashes[first]

    def hold_out(self, count: int, seed: int) -> list[Pair]:
        """Take `count` pairs out, drawn with the seed, and return them in a random order.

        Raises:
            DataError: fewer than twice as many are there.
        """
        if 2 * count > len(self):
            raise DataError(
                f"{count:,} pairs cannot be held out of {len(self):,} for validation or test",
                hint=f"data.holdout={max(1, len(self) // 20)}",
            )
        chosen = np.random.default_rng(seed).choice(len(self), size=count, replace=False)
        if self._data is None or count == 0:
            return []
        rows = self._data.select(chosen)[:]
        kept = np.delete(np.arange(len(self)), chosen)
        self._data, self.hashes = self._data.select(kept), self.hashes[kept]
        return list(zip(rows["source"], rows["target"], strict=True))

    def __len__(self) -> int:
        return len(self.hashes)

    def pairs(self) -> Iterator[Pair]:
        """Every pair again; a new pass at each call."""
        if self._data is not None:
            for rows in self._data.iter(batch_size=_READ_ROWS):
                yield from zip(rows["source"], rows["target"], strict=True)

    def encoded(self, tokenizers: TokenizerPair, folder: Path, processes: int) -> Iterator[pa.Table]:
        """Tables of token ids in order, one for each slice; `folder` takes the work in progress.

        Raises:
            WorkerError: a process died.
        """
        if self._data is None:
            return
        processes = processes or available_cores()
        parallel = processes > 1 and len(self) > PARALLEL_PAIRS
        rows = _PARALLEL_SLICE_ROWS if parallel else _SLICE_ROWS
        for start in range(0, len(self), rows):
            part = self._data.select(range(start, min(start + rows, len(self))))
            yield _encode_slice(part, tokenizers, folder, processes if parallel else None)
            for file in folder.glob("slice*.arrow"):
                file.unlink()


def write_train(
    raw: RawText,
    tokenizers: TokenizerPair,
    cleaning: CleaningSettings,
    path: Path,
    report: CleaningReport,
    processes: int,
) -> tuple[Hashes, int, int]:
    """Encode, drop by length, store; returns the hashes of the kept pairs, their source and target tokens."""
    kept: list[Hashes] = []
    start = tokens_source = tokens_target = 0
    with console.Progress("encoding", len(raw), "pairs") as progress, StoreWriter(path) as writer:
        for table in raw.encoded(tokenizers, path.parent, processes):
            lengths = [pc.list_value_length(table[side]).to_numpy() for side in ("source", "target")]
            keep = judge_lengths(lengths[0], lengths[1], cleaning, report)
            writer.write(table if keep.all() else table.filter(pa.array(keep)))
            kept.append(raw.hashes[start : start + len(table)][keep])
            tokens_source += int(lengths[0][keep].sum())
            tokens_target += int(lengths[1][keep].sum())
            start += len(table)
            progress.update(len(table))
    return np.concatenate(kept) if kept else raw.hashes, tokens_source, tokens_target


def write_valid(pairs: Sequence[Pair], tokenizers: TokenizerPair, path: Path) -> int:
    """Store the validation pairs but for those with a side without tokens; returns how many were stored."""
    pairs = [pair for pair in pairs if text_fault(*pair) != "empty"]
    stored = 0
    with StoreWriter(path) as writer:
        for start in range(0, len(pairs), _READ_ROWS):
            sources, targets = zip(*pairs[start : start + _READ_ROWS], strict=True)
            rows = zip(tokenizers.source.encode(sources), tokenizers.target.encode(targets), strict=True)
            full = [row for row in rows if row[0] and row[1]]
            writer.write_rows([row[0] for row in full], [row[1] for row in full])
            stored += len(full)
    return stored


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _usable(block: Sequence[Pair], report: CleaningReport) -> list[Pair]:
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
    return usable


def _encode_slice(part: datasets.Dataset, tokenizers: TokenizerPair, folder: Path, processes: int | None) -> pa.Table:
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside the threads of Arrow and torch; the children call neither.
            warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
            encoded = part.map(
                _encode_rows,
                batched=True,
                fn_kwargs={"tokenizers": tokenizers},
                remove_columns=part.column_names,
                features=_FEATURES,
                num_proc=processes,
                cache_file_name=str(folder / "slice.arrow"),
                load_from_cache_file=False,
                new_fingerprint="0" * 16,  # the library need not hash the tokenizers: nothing is looked up by it
            )
    except RuntimeError as error:
        if "subprocess" not in str(error):
            raise
        raise WorkerError(f"a process that encodes text died: {error}", hint="data.num_processes=1") from error
    finally:
        if not bars:
            datasets.enable_progress_bars()
    return encoded.data.table


def _encode_rows(rows: dict[str, list[str]], tokenizers: TokenizerPair) -> dict[str, list[list[int]]]:
    return {
        "source": tokenizers.source.encode(rows["source"]),
        "target": tokenizers.target.encode(rows["target"]),
    }
