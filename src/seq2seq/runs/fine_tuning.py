"""Fine-tuning: training that starts from the weights and vocabulary of an earlier run, some of them frozen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from seq2seq.checkpoints.checkpoint import Checkpoint, load_checkpoint, load_model_tensors
from seq2seq.config import Config, ModelSettings, TokenizerSettings
from seq2seq.config.differences import as_yaml
from seq2seq.console import say, warn
from seq2seq.data.corpus import read_corpora, tag_symbols
from seq2seq.data.prepare import Prepared
from seq2seq.errors import CheckpointError, ConfigError
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.load import check_tokenizer, find_checkpoint, load_best
from seq2seq.runs.run_config import load_run_config
from seq2seq.special_tokens import UNK
from seq2seq.tags import language_of
from seq2seq.tokenizers.base import BYTE_PIECE, Tokenizer
from seq2seq.tokenizers.pair import TokenizerPair
from seq2seq.tokenizers.sentencepiece import read_model

# Settings that may differ from the earlier run: they act during training only.
_FREE_SETTINGS = ("dropout", "attention_dropout", "ff_dropout", "word_dropout", "teacher_forcing")
# Model files are compared by content, and sampling acts on a given vocabulary too.
_EFFECTIVE_TOKENIZER_SETTINGS = ("source_model", "target_model", "sampling", "extend")

_SAMPLE_PAIRS = 2_000
_SHOWN_ENTRIES = 12
_NOTABLE_UNKNOWN, _MOST_UNKNOWN = 0.05, 0.4
"""Shares of unknown tokens from which a warning and a refusal are due. A run on text of its own kind has far fewer."""
_NOTABLE_BYTES = 0.15


class InitialModel(NamedTuple):
    """Weights and vocabulary that training starts from."""

    tokenizers: TokenizerPair
    """The run's own, and the tags of the new data after its entries."""
    tensors: dict[str, Tensor]
    """The run's parameters by name, for `load_initial_weights`."""
    model: ModelSettings
    """Settings that the weights were trained with."""
    name: str
    """The checkpoint's folder, for messages."""
    directory: RunDirectory
    test_pairs: list[tuple[str, str]]
    """The run's own test set; empty if it has none."""


def initial_weights(path: str, config: Config) -> InitialModel:
    """Load the weights that `training.init_from` names, checked against the config of the new run.

    `path` is a run directory, whose best checkpoint is taken, or a checkpoint within one
    (`runs/x/checkpoints/step-00000500`, also `.../best` and `.../last`). Tags that the
    vocabulary of that run does not know are added to it. A warning names tokenizer settings that
    have no effect with it. With `tokenizer.extend`, what it does not know in the new training text is added, too.

    Raises:
        CheckpointError: there is no run or checkpoint, or a file is damaged.
        ConfigError: the config describes another model, or names another vocabulary.
    """
    directory, name = find_run(Path(path))
    before = load_run_config(directory)
    checkpoint = _load(directory, name)
    _check_model(before.model, config.model, directory.path)
    tokenizers = TokenizerPair.load(directory.tokenizer)
    check_tokenizer(directory, tokenizers)
    _check_vocabulary(tokenizers, config, directory.path)
    _warn_about_unused_settings(before.tokenizer, config.tokenizer, tokenizers, directory.path)
    extended = _extended(tokenizers, config)
    for old, new in zip(tokenizers, extended, strict=True):
        added = new.pieces(range(old.size, new.size))
        if added or config.tokenizer.extend:
            shown = " ".join(added[:_SHOWN_ENTRIES]) + (" ..." if len(added) > _SHOWN_ENTRIES else "")
            said = f"{len(added):,} entries are new in the vocabulary of {directory.path}"
            say(f"{said}: {shown} (its other entries and weights stay)" if added else said)
        if extended.joint:
            break
    test_pairs = directory.load_pairs("test")
    return InitialModel(extended, checkpoint.model, before.model, str(checkpoint.path), directory, test_pairs)


def _extended(tokenizers: TokenizerPair, config: Config) -> TokenizerPair:
    """The tokenizers with the tags and, with `tokenizer.extend`, the new text of a config."""
    data = config.data
    extended = tokenizers.with_tags(tag_symbols([*data.train, *data.valid, *data.test]))
    if not config.tokenizer.extend:
        return extended
    corpora = read_corpora(data.train, data.errors, data.cleaning.max_unreadable)
    return extended.extended(config.tokenizer, chain.from_iterable(corpora), data.seed)


def load_initial_weights(model: nn.Module, initial: InitialModel) -> None:
    """Copy the weights into a model; rows of new vocabulary entries stay as the model has drawn them.

    Raises:
        CheckpointError: names or shapes differ.
    """
    tensors = dict(initial.tensors)
    sizes = {side.size for side in initial.tokenizers}
    for name, parameter in model.named_parameters():
        rows = len(tensors[name]) if name in tensors and tensors[name].dim() else 0
        # Embeddings and the output have one row per entry, and new entries come last.
        if rows and rows < len(parameter) and len(parameter) in sizes:
            whole = parameter.detach().clone()
            whole[:rows] = tensors[name]
            tensors[name] = whole
    load_model_tensors(model, tensors, initial.name)


def check_new_text(prepared: Prepared, run: str) -> None:
    """Check on a sample of the training pairs that the vocabulary of an earlier run fits the new text.

    Warnings count unknown tokens, and characters that are spelled in bytes.

    Raises:
        ConfigError: most of a side is unknown, or the run has target tags and the text has none.
    """
    store, tokenizers = prepared.train, prepared.tokenizers
    pairs = sum(prepared.record["corpora"])  # noisy copies follow them
    sample = np.unique(np.linspace(0, pairs - 1, min(pairs, _SAMPLE_PAIRS)).astype(np.int64))
    sources, targets = store.rows(sample)
    if tags := tokenizers.source.tags:
        numbers = [number for number, piece in _entries(tokenizers.source) if piece in tags]
        # A word boundary may stand before the tag.
        if untagged := sum(not np.isin(row[:2], numbers).any() for row in sources):
            raise ConfigError(
                f"{run} was trained with target tags ({', '.join(tags)}), and "
                f"{untagged / len(sources):.0%} of the new training pairs have none",
                where="data.train",
                hint=f"data.train: [{{source: FILE, target: FILE, target_tag: {language_of(tags[0])}}}]; another tag "
                "is added to the vocabulary",
                code="config.init-from",
            )
    for side, tokenizer, rows in (("source", tokenizers.source, sources), ("target", tokenizers.target, targets)):
        _check_side(side, tokenizer, np.concatenate(rows), run)


def _check_side(side: str, tokenizer: Tokenizer, ids: np.ndarray[tuple[int], np.dtype[np.int32]], run: str) -> None:
    unknown = float(np.mean(ids == UNK))
    if unknown >= _MOST_UNKNOWN:
        raise ConfigError(
            f"{unknown:.0%} of the {side} tokens are unknown to the vocabulary of {run}",
            where="training.init_from",
            hint="tokenizer.extend=true adds its words; or leave training.init_from out, or start from a run with "
            "subwords (tokenizer.kind unigram or bpe), which spell any text",
            code="config.init-from",
        )
    if unknown >= _NOTABLE_UNKNOWN:
        warn(
            f"{unknown:.0%} of the {side} tokens are unknown to the vocabulary of {run} (training.init_from); "
            "tokenizer.extend=true adds frequent ones"
        )
    if tokenizer.kind == "sentencepiece":
        spelled = float(
            np.mean(np.isin(ids, [number for number, piece in _entries(tokenizer) if BYTE_PIECE.fullmatch(piece)]))
        )
        if spelled >= _NOTABLE_BYTES:
            warn(
                f"{spelled:.0%} of the {side} tokens are single bytes, since the vocabulary of {run} "
                "(training.init_from) does not know these characters: training and translation take longer, and need "
                "more text, than with entries for them, which tokenizer.extend=true adds"
            )


def _entries(tokenizer: Tokenizer) -> Iterator[tuple[int, str]]:
    return enumerate(tokenizer.pieces(range(tokenizer.size)))


def find_run(path: Path) -> tuple[RunDirectory, str | None]:
    """The run that `training.init_from` names, and the name of a checkpoint in it; None for the best one.

    Raises:
        CheckpointError: a link or a special file stands in the run.
    """
    # A link to a checkpoint is followed, but a run keeps the name that the user gave it.
    within = path if path.parent.name == "checkpoints" else path.resolve()
    if within.parent.name == "checkpoints" and (within.parent.parent / "config.yaml").exists():
        return RunDirectory(within.parent.parent), within.name
    if path.name == "checkpoints" and (path.parent / "config.yaml").exists():
        path = path.parent
    return RunDirectory(path), None


def _load(directory: RunDirectory, name: str | None) -> Checkpoint:
    if name is None:
        return load_best(directory)
    try:
        return load_checkpoint(find_checkpoint(directory, name), with_training=False)
    except CheckpointError as error:
        error.where = error.where or "training.init_from"
        raise


def _check_model(trained: ModelSettings, wanted: ModelSettings, run: Path) -> None:
    """Raise `ConfigError` if the config describes another model than the trained one."""
    if trained.kind != wanted.kind:
        raise ConfigError(
            f"model.kind: {wanted.kind}, but {run} has {trained.kind}",
            where="training.init_from",
            hint=f"model.kind={trained.kind}",
            code="config.init-from",
        )
    old, new = trained.model_dump(mode="json"), wanted.model_dump(mode="json")
    free = set(_FREE_SETTINGS)
    if old.get("positions") != "learned" and new.get("positions") != "learned":
        free.add("max_positions")  # the length of a table that these models do not have
    differing = [key for key in old if key not in free and old[key] != new[key]]
    if differing:
        raise ConfigError(
            "; ".join(f"model.{key}: {as_yaml(new[key])}, but {run} has {as_yaml(old[key])}" for key in differing),
            where="training.init_from",
            hint=" ".join(f"model.{key}={as_yaml(old[key])}" for key in differing),
            code="config.init-from",
        )


def _check_vocabulary(tokenizers: TokenizerPair, config: Config, run: Path) -> None:
    """Raise `ConfigError` if a tokenizer file is not the vocabulary of the run: its ids would mean other words."""
    settings = config.tokenizer
    # A joint model file is given once, for both sides.
    sides = [("source_model", tokenizers.source)]
    sides.append(("target_model" if settings.target_model else "source_model", tokenizers.target))
    for key, tokenizer in sides:
        given = getattr(settings, key)
        if given and read_model(Path(given)).to_bytes() != tokenizer.to_bytes():
            raise ConfigError(
                f"tokenizer.{key}: {given} is not the vocabulary that {run} was trained with",
                where="training.init_from",
                hint=f"leave tokenizer.{key} out; the run's own vocabulary is used",
                code="config.init-from",
            )


def _warn_about_unused_settings(
    trained: TokenizerSettings, wanted: TokenizerSettings, tokenizers: TokenizerPair, run: Path
) -> None:
    """Warn about settings that would have made another vocabulary; as errors they would rule out every preset."""
    old, new = trained.model_dump(mode="json"), wanted.model_dump(mode="json")
    given = wanted.model_fields_set
    if len(given) == len(new):  # a complete config, as runs keep it, states the defaults too
        default = TokenizerSettings().model_dump(mode="json")
        given = {key for key in new if new[key] != default[key]}
    idle = [key for key in old if key in given and old[key] != new[key] and key not in _EFFECTIVE_TOKENIZER_SETTINGS]
    # A small corpus may have shrunk the run's vocabulary below its own setting.
    if wanted.vocabulary_size == tokenizers.source.size and "vocabulary_size" in idle:
        idle.remove("vocabulary_size")
    if idle:
        shown = "; ".join(f"tokenizer.{key}: {as_yaml(new[key])} (there: {as_yaml(old[key])})" for key in idle)
        warn(f"the vocabulary is that of {run} (training.init_from), so these settings have no effect: {shown}")


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Freeze the parameters whose names match one of the patterns (`*`, `?`, `[...]`); call it before the optimizer is
    built.

    A tied matrix is one parameter with several names, and freezing it by any of them freezes it everywhere.

    Returns:
        The names of the frozen parameters, each under its first name, in the model's order.

    Raises:
        ConfigError: a pattern matches nothing, or nothing is left to train.
    """
    every = list(model.named_parameters(remove_duplicate=False))
    names = list(dict.fromkeys(name for name, _ in every))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"training.freeze: {pattern} matches no parameter",
                hint=_near_parameters(pattern, names),
                code="config.freeze",
            )
    chosen = {id(parameter) for name, parameter in every if any(fnmatchcase(name, each) for each in patterns)}
    frozen = [name for name, parameter in model.named_parameters() if id(parameter) in chosen]
    if chosen and len(frozen) == len(list(model.parameters())):
        raise ConfigError(
            f"training.freeze: {', '.join(patterns)} freezes every parameter; nothing is left to train",
            hint="freeze a part, such as encoder.*",
            code="config.freeze",
        )
    for parameter in model.parameters():
        if id(parameter) in chosen:
            parameter.requires_grad_(False)
    return frozen


def _near_parameters(pattern: str, names: list[str]) -> str:
    """Parameter names near a pattern that matches nothing."""
    if any(name.startswith(pattern + ".") for name in names):
        return f"{pattern}.*"
    parts = sorted({name.split(".")[0] for name in names})
    bare = pattern.strip("*.")
    inside = [name for name in names if bare and bare.lower() in name.lower()]
    near = get_close_matches(pattern, names, n=3, cutoff=0.5) or inside[:3]
    near += [f"{part}.*" for part in get_close_matches(bare.split(".")[0], parts, n=2)]
    return f"near it: {', '.join(near)}" if near else f"parts of the model: {', '.join(f'{part}.*' for part in parts)}"
