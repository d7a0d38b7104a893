"""Text on disk to token ids on disk, a slice at a time, in as many processes as pay for themselves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seq2seq import console
from seq2seq.config.settings import CleaningSettings
from seq2seq.cpu import available_cores
from seq2seq.data.cleaning import CleaningReport, hash_pairs, judge_lengths, text_fault
from seq2seq.data.raw import Pair, RawText
from seq2seq.data.store import StoreWriter
from seq2seq.data.tokenizer import TokenizerPair
from seq2seq.errors import WorkerError

PARALLEL_PAIRS = 100_000
"""Below this many pairs, starting processes costs more than it saves."""

_WRITE_ROWS = 10_000
_SLICE_ROWS = 20_000
_PARALLEL_SLICE_ROWS = 500_000
_FEATURES = datasets.Features({side: datasets.List(datasets.Value("int32")) for side in ("source", "target")})


def write_train(
    raw: RawText,
    tokenizers: TokenizerPair,
    cleaning: CleaningSettings,
    path: Path,
    report: CleaningReport,
    processes: int,
    held_out: Mapping[str, Sequence[Pair]],
) -> dict[str, Any]:
    """Encode, drop by length, store.

    Returns what the record says of it: `tokens` of both sides, pairs of each of the `corpora`, and the `overlap` with
    each of the held-out sets (pairs of it that are stored too).
    """
    corpora = np.zeros(len(raw.sizes), dtype=np.int64)
    held = {split: hash_pairs(pairs) for split, pairs in held_out.items()}
    seen = {split: np.zeros(len(hashes), dtype=bool) for split, hashes in held.items()}
    tokens = {"source": 0, "target": 0}
    with console.Progress("encoding", len(raw), "pairs") as progress, StoreWriter(path) as writer:
        for rows, table in _encoded(raw, tokenizers, path.parent, processes):
            lengths = {side: pc.list_value_length(table[side]).to_numpy() for side in tokens}
            keep = judge_lengths(lengths["source"], lengths["target"], cleaning, report)
            writer.write(table if keep.all() else table.filter(pa.array(keep)))
            for side in tokens:
                tokens[side] += int(lengths[side][keep].sum())
            corpora += np.bincount(raw.corpus_of(rows[keep]), minlength=len(corpora))
            for split, hashes in held.items():
                seen[split] |= np.isin(hashes, raw.hashes[rows[keep]])
            progress.update(len(table))
    return {
        "tokens": tokens,
        "corpora": corpora.tolist(),
        "overlap": {split: int(found.sum()) for split, found in seen.items()},
    }


def _encoded(raw: RawText, tokenizers: TokenizerPair, folder: Path, processes: int) -> Iterator[tuple[Any, pa.Table]]:
    """Row numbers and a table of token ids, in order, for each slice; `folder` takes the work in progress.

    Raises:
        WorkerError: a process died.
    """
    processes = processes or available_cores()
    parallel = processes > 1 and len(raw) > PARALLEL_PAIRS
    for rows, part in raw.slices(_PARALLEL_SLICE_ROWS if parallel else _SLICE_ROWS):
        yield rows, _encode_slice(part, tokenizers, folder, processes if parallel else None)
        for file in folder.glob("slice*.arrow"):
            file.unlink()


def write_valid(pairs: Sequence[Pair], tokenizers: TokenizerPair, path: Path) -> int:
    """Store the validation pairs but for those with a side without tokens; returns how many were stored."""
    pairs = [pair for pair in pairs if text_fault(*pair) != "empty"]
    stored = 0
    with StoreWriter(path) as writer:
        for start in range(0, len(pairs), _WRITE_ROWS):
            sources, targets = zip(*pairs[start : start + _WRITE_ROWS], strict=True)
            rows = zip(tokenizers.source.encode(sources), tokenizers.target.encode(targets), strict=True)
            full = [row for row in rows if row[0] and row[1]]
            writer.write_rows([row[0] for row in full], [row[1] for row in full])
            stored += len(full)
    return stored


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
        raise WorkerError(
            f"a process that encodes text died: {error}", hint="data.num_processes=1", code="worker.loader"
        ) from error
    finally:
        if not bars:
            datasets.enable_progress_bars()
    return encoded.data.table


def _encode_rows(rows: dict[str, list[str]], tokenizers: TokenizerPair) -> dict[str, list[list[int]]]:
    return {
        "source": tokenizers.source.encode(rows["source"]),
        "target": tokenizers.target.encode(rows["target"]),
    }
