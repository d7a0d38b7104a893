"""Tokenized pairs: the text of a corpus, encoded in slices by several processes, filtered by length and stored."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seq2seq import console
from seq2seq.config.settings import CleaningSettings
from seq2seq.data.augment import Augmentation
from seq2seq.data.cleaning import CleaningReport, hash_pairs, judge_lengths, text_fault
from seq2seq.data.files import Pair
from seq2seq.data.raw_pairs import RawText
from seq2seq.data.store import StoreWriter
from seq2seq.errors import WorkerError
from seq2seq.special_tokens import UNK
from seq2seq.system import available_cores
from seq2seq.tokenizers.pair import TokenizerPair

if TYPE_CHECKING:
    import datasets

PARALLEL_PAIRS = 100_000
"""With fewer pairs, starting processes costs more than it saves."""

_WRITE_ROWS = 10_000
_SLICE_ROWS = 20_000
_PARALLEL_SLICE_ROWS = 500_000


def write_train(
    raw: RawText,
    tokenizers: TokenizerPair,
    cleaning: CleaningSettings,
    path: Path,
    report: CleaningReport,
    processes: int,
    held_out: Mapping[str, Sequence[Pair]],
    augmentation: Augmentation,
) -> dict[str, Any]:
    """Encode the training pairs, filter them by length, and store them, followed by their noisy copies.

    Returns entries of the record: `tokens` of both sides, pairs of each of the `corpora`, the `overlap`, the number of
    pairs of each held-out set that are stored too, and `copies`. Only the last counts copies.
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
        copies = {
            kind: _write_copies(raw, tokenizers, cleaning, writer, path.parent, processes, augmentation, kind)
            for kind in augmentation.rates
        }
    return {
        "tokens": tokens,
        "corpora": corpora.tolist(),
        "overlap": {split: int(found.sum()) for split, found in seen.items()},
        **({"copies": copies} if copies else {}),
    }


def _write_copies(
    raw: RawText,
    tokenizers: TokenizerPair,
    cleaning: CleaningSettings,
    writer: StoreWriter,
    folder: Path,
    processes: int,
    augmentation: Augmentation,
    kind: str,
) -> dict[str, Any]:
    """Store the noisy copies of one kind; returns their number by corpus, and how often an epoch reads each."""
    noise = Noise(augmentation, kind, augmentation.share(kind, len(raw)))
    stored = np.zeros(len(raw.sizes), dtype=np.int64)
    for rows, table in _encoded(raw, tokenizers, folder, processes, noise):
        sources, targets = (pc.list_value_length(table[side]).to_numpy() for side in ("source", "target"))
        keep = judge_lengths(sources, targets, cleaning, CleaningReport())
        writer.write(table.filter(pa.array(keep)))
        stored += np.bincount(raw.corpus_of(rows[keep]), minlength=len(stored))
    return {"pairs": stored.tolist(), "rate": augmentation.rates[kind] / noise.share}


class Noise(NamedTuple):
    """One kind of noisy copies."""

    augmentation: Augmentation
    kind: str
    share: float
    """Share of the pairs that have one."""


def _encoded(
    raw: RawText, tokenizers: TokenizerPair, folder: Path, processes: int, noise: Noise | None = None
) -> Iterator[tuple[Any, pa.Table]]:
    """Yield the row numbers and the token ids of each slice in order; `folder` takes temporary files.

    With `noise`, the ids are those of noisy copies of a part of the rows; without ids where there is no copy.

    Raises:
        WorkerError: an encoding process died.
    """
    processes = processes or available_cores()
    parallel = processes > 1 and len(raw) > PARALLEL_PAIRS
    for rows, part in raw.slices(_PARALLEL_SLICE_ROWS if parallel else _SLICE_ROWS):
        if noise is not None:
            chosen = np.flatnonzero(noise.augmentation.chosen(noise.kind, raw.hashes[rows], noise.share))
            if not len(chosen):
                continue
            rows, part = rows[chosen], part.select(chosen)
        yield rows, _encode_slice(part, tokenizers, folder, processes if parallel else None, noise)
        for file in folder.glob("slice*.arrow"):
            file.unlink()


def write_valid(pairs: Sequence[Pair], tokenizers: TokenizerPair, path: Path) -> int:
    """Store the validation pairs that have tokens on both sides; returns their number."""
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


def _encode_slice(
    part: datasets.Dataset, tokenizers: TokenizerPair, folder: Path, processes: int | None, noise: Noise | None
) -> pa.Table:
    import datasets  # see `RawText`

    features = datasets.Features({side: datasets.List(datasets.Value("int32")) for side in ("source", "target")})
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of a fork with running threads (of Arrow and torch); the children call neither.
            warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
            encoded = part.map(
                _encode_rows,
                batched=True,
                fn_kwargs={"tokenizers": tokenizers, "noise": noise},
                remove_columns=part.column_names,
                features=features,
                num_proc=processes,
                cache_file_name=str(folder / "slice.arrow"),
                load_from_cache_file=False,
                new_fingerprint="0" * 16,  # so that the library does not hash the tokenizers
            )
    except RuntimeError as error:
        if "subprocess" not in str(error):
            raise
        raise WorkerError(
            f"an encoding process died: {error}", hint="data.num_processes=1", code="worker.loader"
        ) from error
    finally:
        if not bars:
            datasets.enable_progress_bars()
    return encoded.data.table


def _encode_rows(
    rows: dict[str, list[str]], tokenizers: TokenizerPair, noise: Noise | None
) -> dict[str, list[list[int]]]:
    if noise is not None:
        return _encode_copies(rows, tokenizers, noise)
    return {
        "source": tokenizers.source.encode(rows["source"]),
        "target": tokenizers.target.encode(rows["target"]),
    }


def _encode_copies(rows: dict[str, list[str]], tokenizers: TokenizerPair, noise: Noise) -> dict[str, list[list[int]]]:
    """Encode noisy copies. A copy with more unknown tokens than its pair is left out: a vocabulary of words cannot
    write it, and a model of it would learn to write `<unk>`."""
    pairs = list(zip(rows["source"], rows["target"], strict=True))
    copies = [noise.augmentation.copy(noise.kind, pair) or ("", "") for pair in pairs]
    ids: dict[str, list[list[int]]] = {}
    unfit = np.zeros(len(pairs), dtype=np.bool_)
    for number, (side, tokenizer) in enumerate(zip(("source", "target"), tokenizers, strict=True)):
        ids[side] = tokenizer.encode([copy[number] for copy in copies])
        unknown = np.flatnonzero([UNK in row for row in ids[side]])
        before = tokenizer.encode([pairs[place][number] for place in unknown])
        for place, row in zip(unknown.tolist(), before, strict=True):
            unfit[place] |= ids[side][place].count(UNK) > row.count(UNK)
    return {side: [[] if no else row for row, no in zip(rows, unfit, strict=True)] for side, rows in ids.items()}
