"""Loading of a trained run for use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Literal, get_args

import torch

from seq2seq.checkpoints.checkpoint import MODEL, Checkpoint, load_checkpoint, load_model_tensors
from seq2seq.checkpoints.folder import CheckpointFolder
from seq2seq.checkpoints.manifest import read_manifest
from seq2seq.config import Config
from seq2seq.config.settings import DecodingPrecision
from seq2seq.console import warn
from seq2seq.decoding.engine import NativeEngine, precision_fault
from seq2seq.decoding.ensemble import EnsembleModel, check_vocabularies
from seq2seq.decoding.forced_decoding import Scorer
from seq2seq.decoding.reranking import WEIGHT
from seq2seq.decoding.translator import Translator
from seq2seq.decoding.workers import Parallelism, can_fork
from seq2seq.devices import choose_device
from seq2seq.distributed.placement import usable_cores
from seq2seq.errors import CheckpointError, UsageError, UserError
from seq2seq.export.folder import find_export, is_export, open_export
from seq2seq.export.requirements import require_transformer_kind
from seq2seq.models import build_model
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.loaded_run import LoadedRun, check_number
from seq2seq.runs.run_config import load_run_config
from seq2seq.system import keep_freed_memory
from seq2seq.tokenizers.pair import TokenizerPair

EngineName = Literal["native", "ctranslate2"]

# CTranslate2 splits each call into batches of its own and distributes those of all calls among its workers.
_CALLS_AT_ONCE, _SENTENCES_OF_A_CALL = 2, 1024


def load(
    run: str | Path,
    *,
    device: str = "auto",
    checkpoint: str | None = None,
    threads: int = 0,
    workers: int | None = None,
    precision: DecodingPrecision | None = None,
    ensemble: str | Path | Sequence[str | Path] = (),
    engine: EngineName | None = None,
    many_texts: bool = False,
    shortlist: bool = False,
    rerank: str | Path | None = None,
    rerank_weight: float | None = None,
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
        ensemble: a further run with the same vocabulary, or several; the probabilities of all best models are averaged.
        engine: `native`, or `ctranslate2` for an export in the run; None is `native` for a run, `ctranslate2` for an
            export.
        many_texts: optimize for many calls with a short text each on a CPU. The first call loads the compiled loops of
            long texts, which takes a second; later ones take a third of the time with a Transformer, on one thread
            each.
        shortlist: search among the likely translations of each sentence's tokens alone, with nearly the same
            translations: faster on a CPU for long texts, and with `many_texts`. They are learned once from the run's
            training text.
        rerank: a run of the opposite direction, which reranks the hypotheses of a beam.
        rerank_weight: weight of its scores, see `decoding.reranking`; 0.2 if None.

    Raises:
        CheckpointError: there is no run or export, or it is damaged.
        ConfigError: there is no such device.
        DataError: the shortlist is to be learned, and the training text is gone or has changed.
        UsageError: the runs of an ensemble have different vocabularies, the engine cannot carry the model, or the run
            for reranking has another direction; a number is negative, or there is no such engine or precision.
        TypeError: a number is none.
    """
    check_number("threads", threads, Integral, 0)
    check_number("workers", workers, Integral, 0)
    check_number("rerank_weight", rerank_weight, Real, 0)
    if rerank_weight is not None and rerank is None:
        raise UsageError("rerank_weight without rerank", hint='rerank="runs/back"', code="usage.needs")
    if engine not in (None, *get_args(EngineName)):
        raise UsageError(
            f"unknown engine {engine!r}", hint=f"one of {', '.join(get_args(EngineName))}", code="usage.choice"
        )
    if isinstance(ensemble, (str, Path)):
        ensemble = (ensemble,)
    if engine == "native" and is_export(Path(run)):
        raise UsageError(
            f"{run} is an export, which only ctranslate2 reads",
            where="--engine native",
            hint="give the run itself",
            code="export.exported",
        )
    if shortlist and (ensemble or engine == "ctranslate2" or is_export(Path(run))):
        raise UsageError(
            "a shortlist serves a single run, with the native engine",
            where="--shortlist",
            hint="leave out the shortlist, or the ensemble and the export",
            code="usage.conflict",
        )
    if engine == "ctranslate2" or is_export(Path(run)):
        if ensemble or precision not in (None, "auto"):
            raise UsageError(
                "an export is one model, with the numbers it was exported with",
                hint="give the run itself (to `translate` with --engine native)",
                code="export.exported",
            )
        keep_freed_memory()
        loaded = _load_export(Path(run), device, checkpoint, threads if workers is None else workers)
    else:
        loaded = _load_run(
            RunDirectory(Path(run)), device, checkpoint, threads, workers, precision, ensemble, many_texts, shortlist
        )
    if rerank is not None:
        weight = WEIGHT if rerank_weight is None else rerank_weight
        loaded.rerank_with(load(rerank, device=device, threads=threads, precision=precision), weight)
    return loaded


def _load_run(
    directory: RunDirectory,
    device: str,
    checkpoint: str | None,
    threads: int,
    workers: int | None,
    precision: DecodingPrecision | None,
    ensemble: Sequence[str | Path],
    many_texts: bool,
    shortlist: bool,
) -> LoadedRun:
    """Load a run for the native engine."""
    config = load_run_config(directory)
    chosen = choose_device(device)
    cores = threads or usable_cores()
    torch.set_num_threads(cores)
    tokenizers = load_tokenizers(directory)
    model, path = load_model(directory, config, tokenizers, checkpoint)
    weights = [_weights(path)]
    if ensemble:
        model, others = _with_others(model, (str(directory.path), tokenizers), [Path(other) for other in ensemble])
        weights += others
    model.to(chosen).eval()
    listed = None
    if shortlist:
        from seq2seq.runs.shortlist import load_shortlist

        listed = load_shortlist(directory, config, tokenizers)
    keep_freed_memory()  # every search step frees memory that the next one takes
    translator = Translator(
        NativeEngine(model, chosen, _precision(config, chosen) if precision is None else precision, listed),
        tokenizers,
        config.decoding,
        scorer=Scorer(model, tokenizers, config.decoding, chosen),
        parallelism=_parallelism(chosen, config.decoding.workers if workers is None else workers, cores)._replace(
            short_text_threads=1 if many_texts else threads or 1, many_texts=many_texts
        ),
        languages=config.data.languages,
    )
    return LoadedRun(directory, config, path.name, translator, weights)


def _precision(config: Config, device: torch.device) -> DecodingPrecision:
    """The run's own number format, or fp32 with a warning where this machine does not have it."""
    wanted = config.decoding.precision
    if fault := precision_fault(wanted, device):
        warn(f"{fault}: decoding.precision is {wanted}, and fp32 takes its place")
        return "auto"
    return wanted


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
        export = find_export(folder, _weights(path), checkpoint)
    engine = CTranslate2Engine(export, device=device, workers=workers)
    parallelism = Parallelism(threads=_CALLS_AT_ONCE, call_sentences=_SENTENCES_OF_A_CALL)
    languages = export.config.data.languages
    translator = Translator(
        engine, export.tokenizers, export.config.decoding, parallelism=parallelism, languages=languages
    )
    return LoadedRun(RunDirectory(folder), export.config, export.checkpoint, translator, [export.weights])


def _with_others(
    model: Seq2SeqModel, first: tuple[str, TokenizerPair], others: Sequence[Path]
) -> tuple[Seq2SeqModel, list[str]]:
    """An ensemble of the model and the best models of other runs, and the SHA-256 of their weights."""
    directories = [RunDirectory(path) for path in others]
    counts = Counter(path.resolve() for path in (Path(first[0]), *others))
    if repeated := next((path for path in others if counts[path.resolve()] > 1), None):
        warn(f"{repeated} is in the ensemble {counts[repeated.resolve()]} times, and counts as often")
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
