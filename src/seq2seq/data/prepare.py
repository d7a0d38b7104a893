"""Data preparation: stores of token ids made from the sources of a config, cached by a fingerprint of the inputs."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq import console
from seq2seq.atomic_files import write_bytes
from seq2seq.config.settings import DataSettings, TokenizerSettings
from seq2seq.config.sources import Source, is_distilled, short_names
from seq2seq.data.augment import Augmentation
from seq2seq.data.cache import Inputs, changes, fingerprint, finish_entry, new_entry, read_entry
from seq2seq.data.cleaning import CleaningReport
from seq2seq.data.corpus import check_sides, read_corpora, tag_symbols, warn_of_copies, warn_of_shared_sources
from seq2seq.data.files import Pair
from seq2seq.data.hold_out import drop_overlap, drop_sources, hold_out, overlap
from seq2seq.data.raw_pairs import RawText
from seq2seq.data.store import Store
from seq2seq.data.tokenized_pairs import write_train, write_valid
from seq2seq.errors import CheckpointError, ConfigError, DataError, ResourceError, UsageError
from seq2seq.tags import TARGET_TAG, corpus_tag
from seq2seq.tokenizers.pair import TokenizerPair, require_tags, train_tokenizers

FORMAT = 4
"""Version of the stored format; to be raised whenever the same inputs and settings give different stored data."""

_TRAIN, _VALID, _PAIRS, _TOKENIZER = "train.arrow", "valid.arrow", "{}.jsonl", "tokenizer"


class Prepared(NamedTuple):
    """Prepared data for training and evaluation."""

    train: Store
    valid: Store | None
    """Validation pairs with tokens on both sides; None without a validation corpus."""
    valid_pairs: list[Pair]
    """Raw text, blank lines included."""
    test_pairs: list[Pair]
    tokenizers: TokenizerPair
    report: CleaningReport
    record: dict[str, Any]
    """For JSON: fingerprint, inputs with sizes and hashes, counts, tokens, overlap with held-out data, and `corpora`,
    the number of pairs of each training source in the store, where the sources follow one another. Noisy copies follow
    them: `copies` has their number by source, and how often an epoch reads each, for each kind (`data.augment`)."""


def prepare(
    data: DataSettings,
    tokenizer: TokenizerSettings,
    *,
    cache: Path,
    tokenizers: TokenizerPair | None = None,
    tell_counts: bool = True,
) -> Prepared:
    """Read, clean, tokenize and store the corpora, or open the result of an earlier call in `cache`.

    If `tokenizers` are given, none are trained. With `tell_counts`, the table of dropped pairs is shown for new data.
    Memory does not grow with the training corpus.

    Raises:
        ConfigError: there is no training corpus, the vocabulary is too small, or a given tokenizer does not know a
            target tag.
        DataError: a corpus is empty or unusable, or cleaning leaves nothing.
        NetworkError: a hub dataset cannot be fetched.
        CheckpointError: a given tokenizer model is damaged.
        ResourceError: the disk is full.
        UsageError: `cache` cannot be written, a corpus is a URL, or one file is both source and target.
        WorkerError: an encoding process died.
    """
    if not data.train:
        raise ConfigError(
            "no training data",
            where="data.train",
            hint="data.train: [{source: FILE, target: FILE}]",
            code="config.no-data",
        )
    for split in ("train", "valid", "test"):
        check_sides(split, getattr(data, split))
    if tokenizers is None:  # an earlier run, whose vocabulary is given, may know further tags
        _warn_of_tags(data)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        key, inputs = _key(data, tokenizer, cache, tokenizers)
        folder = cache / fingerprint(key)
        prepared = open_prepared(folder)
        if prepared is not None:
            console.say(f"using prepared data {folder}")
        else:
            _announce(folder, key)
            with new_entry(folder, lambda: open_prepared(folder) is not None) as temporary:
                record = {"fingerprint": folder.name, "key": key, "inputs": inputs}
                _build(data, tokenizer, temporary, record, tokenizers)
            prepared = open_prepared(folder)
            if prepared is None:
                raise DataError("prepared data changed while it was written", where=str(folder), code="data.prepared")
            if tell_counts:
                console.say(prepared.report.table())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ResourceError(
                "the disk is full", where=str(cache), hint="free some space, or move the cache", code="disk.full"
            ) from error
        raise UsageError(
            f"cannot use the cache of prepared data: {error}",
            where=str(cache),
            hint="set SEQ2SEQ_CACHE to a folder that can be written to",
            code="usage.unwritable",
        ) from error
    warn_of_copies(prepared.report)
    warn_of_shared_sources(prepared.report)
    _warn_of_overlap(prepared)
    return prepared


def _key(
    data: DataSettings, tokenizer: TokenizerSettings, cache: Path, tokenizers: TokenizerPair | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Key of the stored data (inputs and settings), and the facts about the inputs alone."""
    known = Inputs(cache)
    facts = {split: [known.facts(source) for source in getattr(data, split)] for split in ("train", "valid", "test")}
    models = [name for name in (tokenizer.source_model, tokenizer.target_model) if name]
    made_by: dict[str, Any] = tokenizer.model_dump(mode="json")
    if tokenizers is not None:
        made_by = {"given": tokenizers.fingerprint}
    elif models:
        made_by["files"] = [known.file(name) for name in models]
    known.save()
    augmentation = Augmentation.of(data)
    return {
        "format": FORMAT,
        "seed": data.seed,
        "data": {
            **facts,
            # Absent where it is not set, so that data prepared before there was such a key stay valid.
            "cleaning": data.cleaning.model_dump(
                mode="json", exclude=set() if data.cleaning.drop_test_overlap else {"drop_test_overlap"}
            ),
            "errors": data.errors,
            "holdout": data.holdout,
            **({"augment": augmentation.key()} if augmentation.rates else {}),  # absent as above
        },
        "tokenizer": made_by,
    }, facts


def _announce(folder: Path, key: dict[str, Any]) -> None:
    if folder.exists():
        console.say(f"rebuilding: prepared data in {folder} is damaged or incomplete")
    elif len(changed := changes(folder.parent, key)) > 6:
        console.say("preparing the data")  # the newest entry is of another corpus
    elif changed:
        names = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        console.say(f"rebuilding: {names} changed")


def _build(
    data: DataSettings,
    settings: TokenizerSettings,
    folder: Path,
    record: dict[str, Any],
    tokenizers: TokenizerPair | None,
) -> None:
    """Fill a new folder of the cache, held-out sets first: they are small, so that their errors appear at once."""
    most = data.cleaning.max_unreadable
    corpora = {
        split: list(map(list, read_corpora(getattr(data, split), data.errors, most))) for split in ("valid", "test")
    }
    held_out = {split: list(chain.from_iterable(found)) for split, found in corpora.items()}
    parts = {split: _sizes(getattr(data, split), found) for split, found in corpora.items()}
    report = CleaningReport()
    corpus_tags = [corpus_tag(source.tag) for source in data.train]
    raw = RawText.write(folder, read_corpora(data.train, data.errors, most, report), report, corpus_tags)
    if data.cleaning.drop_duplicates:
        raw.drop_duplicates(report)
    missing = [split for split in held_out if not getattr(data, split)]
    _require_enough(raw.untagged(), data.holdout, missing)
    taken: list[Pair] = []
    for number, (split, pairs) in enumerate(held_out.items()):
        if split in missing:
            pairs += hold_out(raw, data.holdout, data.seed + number)
            taken += pairs
        write_bytes(folder / _PAIRS.format(split), _dump_pairs(pairs))
    report.held_out += len(taken)
    drop_sources(raw, taken, report)
    if data.cleaning.drop_test_overlap:
        drop_overlap(raw, [*held_out["valid"], *held_out["test"]], report)
    shared = {split: overlap(raw, pairs) for split, pairs in held_out.items()}
    tags = tag_symbols(_sources(data))
    if any(map(is_distilled, data.train)):
        within = {found[0] for source, _ in raw.pairs() if (found := TARGET_TAG.match(source))}
        tags = sorted({*tags, *within})
    augmentation = Augmentation.of(data)
    if tokenizers is None:
        seen = partial(augmentation.tokenizer_pairs, raw) if augmentation.rates else raw.pairs
        tokenizers = train_tokenizers(settings, seen, data.seed, tags)
    else:
        require_tags(tokenizers.source, tags, "the given tokenizer")
    tokenizers.save(folder / _TOKENIZER)
    written = write_train(
        raw, tokenizers, data.cleaning, folder / _TRAIN, report, data.num_processes, held_out, augmentation
    )
    report.require_any_kept()
    raw.remove()
    stored = write_valid(held_out["valid"], tokenizers, folder / _VALID) if held_out["valid"] else 0
    finish_entry(
        folder,
        {
            **record,
            "counts": {**report.as_dict(), **{split: len(pairs) for split, pairs in held_out.items()}},
            "parts": parts,
            "valid_stored": stored,
            "shared_sides": shared,
            **written,
            "vocabulary": {"source": tokenizers.source.size, "target": tokenizers.target.size},
            "tokenizers": tokenizers.fingerprint,
        },
    )


def _sizes(sources: Sequence[Source], corpora: list[list[Pair]]) -> list[dict[str, str | int]]:
    """Names and numbers of pairs of the corpora of a split."""
    named = zip(short_names(sources), corpora, strict=True)
    return [{"name": name, "pairs": len(pairs)} for name, pairs in named]


def _require_enough(pairs: int, holdout: int, splits: Sequence[str]) -> None:
    """Check that at least `holdout` pairs are left for training when as many are held out for each split.

    Raises:
        DataError: they are not; the hint is a number that works, if there is one.
    """
    shares = len(splits) + 1
    if shares * holdout <= pairs:
        return
    most = min(max(1, pairs // 20), pairs // shares)
    files = " and ".join(f"data.{split}" for split in splits)
    raise DataError(
        f"{holdout:,} pairs cannot be held out of {pairs:,} for {' and for '.join(splits)}",
        hint=f"data.holdout={most}" if most else f"give files of their own as {files}, or data.holdout=0",
        code="data.too-few",
    )


def open_prepared(folder: Path) -> Prepared | None:
    """Open an entry of the cache; None if it is missing or damaged."""
    record = read_entry(folder)
    if record is None:
        return None
    try:
        return Prepared(
            train=Store(folder / _TRAIN),
            valid=Store(folder / _VALID) if (folder / _VALID).exists() else None,
            valid_pairs=_load_pairs(folder / _PAIRS.format("valid")),
            test_pairs=_load_pairs(folder / _PAIRS.format("test")),
            tokenizers=TokenizerPair.load(folder / _TOKENIZER),
            report=CleaningReport.from_dict(record["counts"]),
            record={name: value for name, value in record.items() if name not in ("sha256", "key")},
        )
    except (DataError, CheckpointError, OSError, ValueError, KeyError):
        return None


def _sources(data: DataSettings) -> Sequence[Source]:
    return [*data.train, *data.valid, *data.test]


def _warn_of_tags(data: DataSettings) -> None:
    """Warn of corpora without a target tag beside others that have one, and of held-out text with a tag of its own.

    Distilled text has its tags within.
    """
    trained = {source.target_tag for source in data.train}
    if trained == {None} or any(map(is_distilled, data.train)):
        return
    known = ", ".join(sorted(filter(None, trained)))
    if None in trained:
        console.warn_once(f"some training corpora have no target_tag, and others have one of {known}")
    for split in ("valid", "test"):
        for tag in dict.fromkeys(source.target_tag for source in getattr(data, split)):
            if tag is None and None not in trained:
                console.warn_once(f"data.{split}: a corpus has no target_tag, which all training corpora have: {known}")
            elif tag not in trained:
                console.warn_once(f"data.{split}: no training corpus has the target_tag {tag}; they have {known}")


def _warn_of_overlap(prepared: Prepared) -> None:
    """Warn of held-out pairs that occur in training, counted as pairs and by each side."""
    for split, pairs in (("valid", prepared.valid_pairs), ("test", prepared.test_pairs)):
        count = prepared.record["overlap"][split]
        # Absent in data prepared by an earlier version.
        shared = prepared.record.get("shared_sides", {}).get(split, {"source": 0, "target": 0})
        if not (count or shared["source"]):
            if shared["target"]:
                console.say(f"{shared['target']:,} of {len(pairs):,} {split} targets also occur in training")
            continue
        what = f"{count:,} of {len(pairs):,} {split} pairs are also training pairs"
        if any(shared.values()):
            what += f", {shared['source']:,} sources and {shared['target']:,} targets also occur in training"
        if shared["source"] == len(pairs):
            what = f"every source of the {split} set also occurs in training: {what}"
        console.warn(f"{what}, which flatters the scores (data.cleaning.drop_test_overlap=true drops them there)")


def _dump_pairs(pairs: list[Pair]) -> bytes:
    return "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs).encode()


def _load_pairs(path: Path) -> list[Pair]:
    return [(left, right) for left, right in map(json.loads, path.read_bytes().split(b"\n")[:-1])]
