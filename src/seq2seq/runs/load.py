"""Loading of a trained run for use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, overload

import torch

from seq2seq.alignment.matrix import AttentionMatrix
from seq2seq.alignment.word_alignment import AlignmentOptions, WordAligner
from seq2seq.checkpoints.checkpoint import MODEL, Checkpoint, load_checkpoint, load_model_tensors
from seq2seq.checkpoints.folder import CheckpointFolder
from seq2seq.checkpoints.manifest import read_manifest
from seq2seq.config import Config
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.ensemble import EnsembleModel, check_vocabularies
from seq2seq.decoding.forced_decoding import EncodedTexts, Scorer
from seq2seq.decoding.kept_text import check_kinds
from seq2seq.decoding.target_tags import TargetTags
from seq2seq.decoding.translator import TranslationOptions, Translator, translation_options
from seq2seq.decoding.workers import Parallelism, can_fork
from seq2seq.distributed.placement import choose_device, usable_cores
from seq2seq.errors import CheckpointError, UsageError, UserError
from seq2seq.export.folder import find_export, is_export, open_export
from seq2seq.export.requirements import require_transformer_kind
from seq2seq.models import build_model
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.run_config import load_run_config
from seq2seq.system import keep_freed_memory
from seq2seq.tokenizers.pair import TokenizerPair

Precision = Literal["auto", "fp32", "bf16", "fp16"]
EngineName = Literal["native", "ctranslate2"]

# CTranslate2 splits each call into batches of its own and distributes those of all calls among its workers.
_CALLS_AT_ONCE, _SENTENCES_OF_A_CALL = 2, 1024


class LoadedRun:
    """A trained run, loaded for use.

    Attributes:
        config: the run's complete settings.
        directory: the run directory.
        checkpoint: name of the checkpoint that was loaded.
        translator: translates and scores text.
        weights: SHA-256 of the model's weights, followed by those of the other members of an ensemble.
    """

    def __init__(
        self,
        directory: RunDirectory,
        config: Config,
        checkpoint: str,
        translator: Translator,
        weights: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.config = config
        self.checkpoint = checkpoint
        self.translator = translator
        self.weights = tuple(weights)

    @property
    def target_tags(self) -> TargetTags:
        """The target tags that the model knows, required if it was trained with one before every text."""
        tags = self.translator.tags
        return tags._replace(required=bool(tags.tags) and all(source.target_tag for source in self.config.data.train))

    @overload
    def translate(  # type: ignore[overload-overlap]  # a string is a sequence of strings, too
        self,
        texts: str,
        *,
        target_tag: str | None = None,
        n_best: None = None,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        keep: str | Iterable[str] | None = None,
    ) -> str: ...

    @overload
    def translate(
        self,
        texts: Iterable[str],
        *,
        target_tag: str | None = None,
        n_best: None = None,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        keep: str | Iterable[str] | None = None,
    ) -> list[str]: ...

    @overload
    def translate(  # type: ignore[overload-overlap]
        self,
        texts: str,
        *,
        target_tag: str | None = None,
        n_best: int,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        keep: str | Iterable[str] | None = None,
    ) -> list[str]: ...

    @overload
    def translate(
        self,
        texts: Iterable[str],
        *,
        target_tag: str | None = None,
        n_best: int,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        keep: str | Iterable[str] | None = None,
    ) -> list[list[str]]: ...

    def translate(
        self,
        texts: str | Iterable[str],
        *,
        target_tag: str | None = None,
        n_best: int | None = None,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        keep: str | Iterable[str] | None = None,
    ) -> str | list[str] | list[list[str]]:
        """The best translation of each text, in order; a blank text gives a blank one.

        Args:
            texts: one text, which gives one translation, or several texts.
            target_tag: target language of a run that was trained with target tags, `de`.
            n_best: return a list of up to this many translations of each text, best first.
            beam_size: hypotheses kept; 1 is greedy. The run's own by default, as the length penalty.
            length_penalty: alpha in score = log P(target | source) / length^alpha.
            max_length: longest output in tokens, however long the source is.
            keep: kinds of text that stay as they are, `["urls", "numbers"]` or `"urls,numbers"`; see `decoding.keep`.

        Raises:
            TypeError: an argument has another type.
            UsageError: a value is impossible, or the target tag is missing or unknown.
        """
        lines = self.target_tags.add(_checked_texts(texts), _checked_tag(target_tag), "target_tag")
        options = self._options(n_best, beam_size, length_penalty, max_length)
        if keep is not None:
            options = options._replace(keep=check_kinds(keep, "keep"))
        found = [[item.text for item in translations] for translations in self.translator.stream(lines, options)]
        results = found if n_best is not None else [translations[0] for translations in found]
        return results[0] if isinstance(texts, str) else results

    def _options(
        self, n_best: int | None, beam_size: int | None, length_penalty: float | None, max_length: int | None
    ) -> TranslationOptions:
        _check_number("n_best", n_best, Integral, 1)
        _check_number("beam_size", beam_size, Integral, 1)
        _check_number("length_penalty", length_penalty, Real, 0)
        _check_number("max_length", max_length, Integral, 1)
        if n_best is not None and beam_size is not None and beam_size < n_best:
            raise UsageError(
                f"a beam of {beam_size} cannot give {n_best} translations",
                where="n_best",
                hint=f"beam_size={n_best}, or leave beam_size out",
                code="usage.conflict",
            )
        options = translation_options(self.translator.settings)
        search = options.search
        search = search._replace(
            beam_size=max(n_best or 1, beam_size or search.beam_size),
            n_best=n_best or 1,
            length_penalty=search.length_penalty if length_penalty is None else length_penalty,
        )
        if max_length is not None:
            search = search._replace(max_length_ratio=0.0, max_length_offset=max_length)
        return options._replace(search=search)

    def score(self, pairs: Iterable[tuple[str, str]], *, target_tag: str | None = None) -> list[float]:
        """log P(target | source) of each pair, in nats, end mark included. Raises as `translate`."""
        chosen = list(pairs)
        if not all(isinstance(pair, (tuple, list)) and list(map(type, pair)) == [str, str] for pair in chosen):
            raise TypeError('give a list of pairs of strings: run.score([("a source", "its target")])')
        sources = self.target_tags.add([source for source, _ in chosen], _checked_tag(target_tag), "target_tag")
        scored = self.translator.scorer.score(list(zip(sources, [target for _, target in chosen], strict=True)))
        return [score.log_probability for score in scored]

    def encode(self, texts: str | Iterable[str], *, target_tag: str | None = None) -> EncodedTexts:
        """The encoder's states [B S D] and their mask [B S], for use downstream; one row for one text.

        Raises as `translate`.
        """
        lines = self.target_tags.add(_checked_texts(texts), _checked_tag(target_tag), "target_tag")
        return self.translator.scorer.encode(list(lines))

    def attention(self, source: str, target: str | None = None, *, target_tag: str | None = None) -> AttentionMatrix:
        """Cross-attention [T S] of the layer that aligns best, while `target` is written.

        Rows are target pieces, columns source pieces, both with the end mark last. The target defaults to the best
        translation. Raises `UsageError` for a model without attention, and as `translate`.
        """
        if not isinstance(source, str) or not isinstance(target, str | None):
            raise TypeError('give one text, and its translation or None: run.attention("a source", "its target")')
        [line] = self.target_tags.add([source], _checked_tag(target_tag), "target_tag")
        written = self.translate(line) if target is None else target
        return self.aligner().attention([(line, written)])[0].matrix(AlignmentOptions(), words=False)

    def aligner(self) -> WordAligner:
        """Word alignments from this model's attention. Raises `UsageError` for an export and for a model without it."""
        scorer = self.translator.scorer
        return WordAligner(scorer.model, scorer.tokenizers, scorer.settings, scorer.device)


def _checked_texts(texts: str | Iterable[str]) -> list[str]:
    """The texts as a list: of one for a string, which is not a list of characters."""
    if isinstance(texts, str):
        return [texts]
    listed = isinstance(texts, Iterable) and not isinstance(texts, (Mapping, Set, bytes, bytearray))
    chosen = list(texts) if listed else None
    if chosen is None or not all(isinstance(text, str) for text in chosen):
        odd = texts if chosen is None else next(text for text in chosen if not isinstance(text, str))
        raise TypeError(f'give a string or a list of strings, as in run.translate(["a text"]), not {_shown(odd)}')
    return chosen


def _checked_tag(target_tag: str | None) -> str | None:
    if not isinstance(target_tag, str | None):
        raise TypeError(f'target_tag must be a string, as in target_tag="de", not {_shown(target_tag)}')
    return target_tag


def _check_number(name: str, value: Any, kind: type, least: int) -> None:
    """Check an optional number as the command line does."""
    if value is None:
        return
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number:
        number = "a whole number" if kind is Integral else "a number"
        raise TypeError(f"{name} must be {number}, as in {name}={max(least, 1)}, not {_shown(value)}")
    if not value >= least:  # NaN too
        raise UsageError(
            f"{name} must be {least} or more, not {value}", hint=f"{name}={max(least, 1)}", code="usage.value"
        )


def _shown(value: object) -> str:
    return f"{type(value).__name__} {value!r:.60}"


def load(
    run: str | Path,
    *,
    device: str = "auto",
    checkpoint: str | None = None,
    threads: int = 0,
    workers: int | None = None,
    precision: Precision | None = None,
    ensemble: Sequence[str | Path] = (),
    engine: EngineName | None = None,
) -> LoadedRun:
    """Load the best model of a run directory, or an exported one.

    From then on the process returns no freed memory to the system (`seq2seq.system.keep_freed_memory`).

    Args:
        run: the run directory, or the folder of a CTranslate2 export.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        checkpoint: a name under `checkpoints/`, e.g. `last`; the best if None.
        threads: CPU threads of torch; 0 uses every core, but one for a short text.
        workers: single-threaded processes that translate in parallel on a CPU; `decoding.workers` of the run if None.
        precision: number format of the computation; `decoding.precision` of the run if None.
        ensemble: further runs with the same vocabulary; the probabilities of all best models are averaged.
        engine: `native`, or `ctranslate2` for an export in the run; None is `native` for a run, `ctranslate2` for an
            export.

    Raises:
        CheckpointError: there is no run or export, or it is damaged.
        ConfigError: there is no such device.
        UsageError: the runs of an ensemble have different vocabularies, or the engine cannot carry the model.
    """
    keep_freed_memory()  # every search step frees memory that the next one takes
    if engine == "native" and is_export(Path(run)):
        raise UsageError(
            f"{run} is an export, which only ctranslate2 reads",
            where="--engine native",
            hint="give the run itself",
            code="export.exported",
        )
    if engine == "ctranslate2" or is_export(Path(run)):
        if ensemble or precision not in (None, "auto"):
            raise UsageError(
                "an export is one model, with the numbers it was exported with",
                hint="give the run, and --engine native",
                code="export.exported",
            )
        return _load_export(Path(run), device, checkpoint, threads if workers is None else workers)
    directory = RunDirectory(Path(run))
    config = load_run_config(directory)
    chosen = choose_device(device)
    cores = threads or usable_cores()
    torch.set_num_threads(cores)
    tokenizers = load_tokenizers(directory)
    model, path = load_model(directory, config, tokenizers, checkpoint)
    weights = [_weights(path)]
    if ensemble:
        model, others = _with_others(model, (str(run), tokenizers), [Path(other) for other in ensemble])
        weights += others
    model.to(chosen).eval()
    translator = Translator(
        NativeEngine(model, chosen, config.decoding.precision if precision is None else precision),
        tokenizers,
        config.decoding,
        scorer=Scorer(model, tokenizers, config.decoding, chosen),
        parallelism=_parallelism(chosen, config.decoding.workers if workers is None else workers, cores)._replace(
            short_text_threads=threads or 1
        ),
    )
    return LoadedRun(directory, config, path.name, translator, weights)


def load_model(
    directory: RunDirectory, config: Config, tokenizers: TokenizerPair, checkpoint: str | None
) -> tuple[Seq2SeqModel, Path]:
    """Load the model of a run on the CPU, from its best checkpoint unless another is named.

    Returns:
        The model and the folder of its checkpoint.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged or belongs to another model.
    """
    if checkpoint is None:
        loaded = load_best(directory)
    else:
        loaded = load_checkpoint(find_checkpoint(directory, checkpoint), with_training=False)
    model = build_model(config.model, tokenizers.source.size, tokenizers.target.size)
    try:
        load_model_tensors(model, loaded.model, str(loaded.path))
    except CheckpointError as error:
        error.hint = error.hint or f"{directory.config} or this checkpoint is of another run; put back its own"
        raise
    return model, loaded.path


def load_best(directory: RunDirectory) -> Checkpoint:
    """Load the best checkpoint of a run; see `CheckpointFolder.best`.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    return CheckpointFolder(directory.checkpoints).load_best(_result_checkpoint(directory))


def best_checkpoint(directory: RunDirectory) -> tuple[Path, str]:
    """The best checkpoint of a run, and a warning or ""; see `CheckpointFolder.best`.

    Raises:
        CheckpointError: there is none.
    """
    return CheckpointFolder(directory.checkpoints).best(_result_checkpoint(directory))


def _result_checkpoint(directory: RunDirectory) -> str:
    """Name of the checkpoint that a finished run was scored with."""
    try:
        results = directory.load_results()
    except UserError:
        return ""
    return "" if results is None else results.checkpoint


def find_checkpoint(directory: RunDirectory, name: str) -> Path:
    """The checkpoint of this name, `best` and `last` included. Raises `CheckpointError` if there is none."""
    if name == "best":
        return best_checkpoint(directory)[0]
    if path := CheckpointFolder(directory.checkpoints).find(name):
        return path
    names = ", ".join(sorted(found.name for found in directory.checkpoints.glob("[!.]*")))
    raise CheckpointError(
        f"no checkpoint {directory.checkpoints / name}", hint=f"there are: {names}", code="checkpoint.missing"
    )


def _weights(path: Path) -> str:
    """SHA-256 of the weights of a checkpoint, from its manifest."""
    files = read_manifest(path)
    if MODEL not in files:
        raise CheckpointError(
            f"{path} is not a complete checkpoint",
            hint="choose another one: --checkpoint step-N",
            code="checkpoint.damaged",
        )
    return files[MODEL].sha256


def _load_export(folder: Path, device: str, checkpoint: str | None, workers: int) -> LoadedRun:
    """Load an export for CTranslate2: a folder of its own, or the one in a run."""
    from seq2seq.export.engine import CTranslate2Engine

    if is_export(folder):
        if checkpoint is not None:
            raise UsageError(
                "an export holds one checkpoint",
                where="--checkpoint",
                hint="leave the option out",
                code="export.exported",
            )
        export = open_export(folder)
    else:
        directory = RunDirectory(folder)
        require_transformer_kind(load_run_config(directory).model)
        path = find_checkpoint(directory, checkpoint or "best")
        export = find_export(folder, _weights(path))
    engine = CTranslate2Engine(export, device=device, workers=workers)
    parallelism = Parallelism(threads=_CALLS_AT_ONCE, call_sentences=_SENTENCES_OF_A_CALL)
    translator = Translator(engine, export.tokenizers, export.config.decoding, parallelism=parallelism)
    return LoadedRun(RunDirectory(folder), export.config, export.checkpoint, translator, [export.weights])


def _with_others(
    model: Seq2SeqModel, first: tuple[str, TokenizerPair], others: Sequence[Path]
) -> tuple[Seq2SeqModel, list[str]]:
    """An ensemble of the model and the best models of other runs, and the SHA-256 of their weights."""
    directories = [RunDirectory(path) for path in others]
    configs = [load_run_config(directory) for directory in directories]
    vocabularies = [load_tokenizers(directory) for directory in directories]
    check_vocabularies([first, *zip(map(str, others), vocabularies, strict=True)])
    members = [
        load_model(directory, config, tokenizers, None)
        for directory, config, tokenizers in zip(directories, configs, vocabularies, strict=True)
    ]
    return EnsembleModel([model, *(member for member, _ in members)]), [_weights(path) for _, path in members]


def _parallelism(device: torch.device, workers: int, cores: int) -> Parallelism:
    """One thread for a GPU; on a CPU, processes that share the cores."""
    if device.type != "cpu":
        return Parallelism(threads=1)
    return Parallelism(processes=(workers or cores) if can_fork() else 1, always_fork=workers > 0)


def load_tokenizers(directory: RunDirectory) -> TokenizerPair:
    """Load the tokenizers of a run. Raises `CheckpointError` if they are not those that its model was trained with."""
    tokenizers = TokenizerPair.load(directory.tokenizer)
    check_tokenizer(directory, tokenizers)
    return tokenizers


def check_tokenizer(directory: RunDirectory, tokenizers: TokenizerPair) -> None:
    """Raise `CheckpointError` if the tokenizer of a run is not the one that its model was trained with."""
    record = directory.load_data_record()
    expected = None if record is None else record.tokenizer
    if expected is not None and expected != tokenizers.fingerprint:
        raise CheckpointError(
            f"the tokenizer in {directory.tokenizer} is not the one that the model was trained with "
            f"(expected {expected[:12]}, found {tokenizers.fingerprint[:12]})",
            hint="put the run's own tokenizer folder back",
            code="tokenizer.swapped",
        )
