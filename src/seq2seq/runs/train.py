"""Training of one run, from its config to its test score."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from seq2seq.atomic_files import remove_partial
from seq2seq.checkpoints.checkpoint import load_checkpoint
from seq2seq.checkpoints.folder import CheckpointFolder
from seq2seq.config import Config, config_to_yaml
from seq2seq.console import counted, log_only, logging_to, say, silence_if_stderr_is_gone, warn
from seq2seq.data.batches import Batch, TrainingBatches
from seq2seq.data.pipes import spool_sources
from seq2seq.data.prepare import Prepared
from seq2seq.distributed.launch import launch
from seq2seq.distributed.placement import Placement, place
from seq2seq.distributed.ranks import Ranks
from seq2seq.distributed.rendezvous import is_rank
from seq2seq.errors import CheckpointError, ResourceError, UserError
from seq2seq.evaluation.metrics import MetricResult
from seq2seq.models import build_model
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.optimization.precision import Precision, PrecisionChoice, choose_precision
from seq2seq.runs.context import RunContext
from seq2seq.runs.corpus_files import corpus_files, require_files
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.environment import log_header
from seq2seq.runs.estimate import compare_with_truth, estimate_run, fitted, replanned_estimate, time_steps
from seq2seq.runs.evaluate import Validator, average_checkpoints, score_start, score_test_set
from seq2seq.runs.fine_tuning import InitialModel, check_new_text, freeze, initial_weights, load_initial_weights
from seq2seq.runs.fine_tuning_recipe import with_recipe
from seq2seq.runs.lock import locked
from seq2seq.runs.replay import training_mixture, with_replay
from seq2seq.runs.run_config import check_run_config, save_run_config, with_data_seed, with_defaults_of_the_start
from seq2seq.runs.run_data import check_data, prepare_data, save_data
from seq2seq.sealed_records import AutoChoices, Estimate, Results, Score, StartScores, TestScores
from seq2seq.signals import Interrupted, interruptible
from seq2seq.special_tokens import EOS
from seq2seq.system import computes_bf16, is_first_rank, keep_freed_memory, limit_generated_code
from seq2seq.tokenizers.sampling import SubwordSampler
from seq2seq.training.batch_size import fit_batch_size, largest_useful
from seq2seq.training.experiment_tracker import require_tracker
from seq2seq.training.failures import is_out_of_memory
from seq2seq.training.metrics_log import Report, RunReport
from seq2seq.training.trainer import OnPace, Trainer

Refresh = Callable[[Path], bool]
"""A function that writes the report of a run directory, and returns whether it could."""


class RunResult(NamedTuple):
    """Result of a finished run."""

    directory: Path
    metrics: list[MetricResult]
    """Test scores of the best model; empty without a test set."""
    by_corpus: dict[str, list[MetricResult]]
    """The same for each corpus of the test set, if there are several."""
    checkpoint: str
    minutes: float
    """Training and validation."""
    steps: int
    start: StartScores | None = None
    """Scores of the model that a fine-tuning has started from."""
    old_test: TestScores | None = None
    """Scores on the test set of the run that a fine-tuning has started from."""


def run_folder(config: Config) -> Path:
    """The run directory of a config."""
    return Path(config.run_directory or f"runs/{config.name or 'run'}")


class Start(NamedTuple):
    """Facts about the start of a run beside its config."""

    refresh: Refresh | None
    reasons: Mapping[str, str]
    time: float | None
    """None: preparation does not count towards a budget."""
    only_estimates: bool = False
    share: float = 1.0


def train(
    config: Config,
    *,
    refresh: Refresh | None = None,
    reasons: Mapping[str, str] | None = None,
    started: float | None = None,
    share: float | None = None,
) -> RunResult:
    """Prepare the data, train (or resume), average, and score the best model on the test set.

    Args:
        refresh: writes the report of the run directory after each validation and at the end; importable, since
            several ranks may be started with it.
        reasons: why the tool has chosen settings, by dotted key: comments of the stored config.
        started: when the command was started, by `time.monotonic`, for estimate and budget; now by default.
        share: for one of several trials: the run pauses at the first validation after this share of its steps, without
            a test score unless it is 1, and a budget does not include the preparation, which differs between trials.

    Raises:
        UserError: an error that the user can mend; see `seq2seq.errors`.
        Interrupted: a signal came; the same call continues.
    """
    directory = RunDirectory(run_folder(config))
    config = with_data_seed(directory, config.model_copy(update={"data": spool_sources(config.data)}))
    require_tracker(config.training.tracker)
    begun = time.monotonic() if started is None and share is None else started
    config, chosen = with_recipe(with_defaults_of_the_start(directory, config), directory)
    try:
        first = Start(refresh, {**chosen, **(reasons or {})}, begun, share=1.0 if share is None else share)
        _run_ranks(config, first)
    except Interrupted as end:
        end.kept = end.kept or _saved_so_far(directory)
        if is_first_rank():
            end.kept += "; run the same command to continue"
        silence_if_stderr_is_gone()  # the signal may be the end of the terminal
        raise
    return _load_result(directory)


def estimate(config: Config, *, started: float | None = None) -> Estimate:
    """The cost of a run, from all that it does before its first step; only the prepared data stay, in the cache.

    Raises:
        UserError: an error that the user can mend; see `seq2seq.errors`.
    """
    with tempfile.TemporaryDirectory(prefix="seq2seq-estimate-") as folder:
        now = time.monotonic() if started is None else started
        config = config.model_copy(update={"run_directory": f"{folder}/run", "data": spool_sources(config.data)})
        config, _ = with_recipe(config, RunDirectory(run_folder(config)))
        _run_ranks(config, Start(None, {}, now, only_estimates=True))
        found = RunDirectory(run_folder(config)).load_estimate()
        assert found is not None, "that is all this run does"
        return found


def _run_ranks(config: Config, start: Start) -> None:
    """Run all ranks of a run on this machine."""
    try:
        placement = place(config)
        if placement.ranks > 1 and not is_rank():
            launch(partial(train_rank, start=start), config, placement)
        else:
            train_rank(config, placement, start=start)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            "out of memory", hint="a smaller model or training.batch_size, or fewer devices", code="memory.host"
        ) from error


def train_rank(config: Config, placement: Placement, *, start: Start) -> None:
    """The whole run, as one rank of several or as the only process."""
    ranks = Ranks.start(placement.device.type)
    # With several ranks a signal before the first step ends each of them, and the parent reports it.
    signals = interruptible() if ranks.size == 1 else nullcontext()
    directory = RunDirectory(run_folder(config))
    with signals, ranks.membership(), ranks.silence_other_ranks(), ExitStack() as held:
        ranks.require_equal("torch", torch.__version__)
        ranks.require_equal("config", config_to_yaml(config))
        with ranks.first_then_others("directory"):
            if ranks.is_first:
                held.enter_context(_opened(directory, config, start.reasons))
        if directory.load_results() is not None:
            say(f"{directory.path} is finished; its results follow (train into another directory to train again)")
            if ranks.is_first:
                _complete_report(directory, start.refresh)
            return
        context = RunContext(config, directory, placement, ranks)
        trainer, data, estimate_later = _set_up(context, start)
        if start.only_estimates:
            return
        state = trainer.fit(data, start.share, estimate_later)
        if start.share < 1.0:
            say(f"paused after {counted(state.step, 'step')}")
            return
        ended = time.monotonic()
        say(
            f"trained {counted(state.step, 'step')}, {state.tokens_seen:,} target tokens, "
            f"{state.seconds / 60:.1f} minutes"
        )
        average_checkpoints(trainer)
        score_test_set(context)
        if (expected := directory.load_estimate()) is not None:
            seconds = expected.preparation_seconds + state.seconds + time.monotonic() - ended
            compare_with_truth(context, expected, seconds)
        if start.refresh is not None and ranks.is_first:
            start.refresh(directory.path)


def _complete_report(directory: RunDirectory, refresh: Refresh | None) -> None:
    """Write the report of a finished run that was killed before its last write."""
    interrupted = []
    with suppress(OSError):  # a read-only folder
        interrupted = remove_partial(directory.path)
    try:
        is_late = directory.report.stat().st_mtime_ns < directory.results.stat().st_mtime_ns
    except OSError:
        is_late = True
    if refresh is not None and (interrupted or is_late):
        refresh(directory.path)


def _saved_so_far(directory: RunDirectory) -> str:
    """The saved state after an interruption outside the steps, for the message."""
    steps = CheckpointFolder(directory.checkpoints).steps()
    try:
        state = load_checkpoint(steps[-1], with_training=False).state if steps else None
    except CheckpointError:
        state = None
    if state is None:
        return "before the first step was saved"
    if state.finished:
        return f"all {state.step:,} steps are saved, their test scores are not"
    return f"step {state.step:,} is saved"


@contextmanager
def _opened(directory: RunDirectory, config: Config, reasons: Mapping[str, str]) -> Iterator[None]:
    """Context that holds the run directory; a new one is removed if the run fails before it has figures to keep."""
    if directory.results.exists():  # nothing is written but a lost config, and the folder may be read-only
        check_run_config(directory, config)
        check_data(directory, config)
        save_run_config(directory, config, reasons)
        yield
        return
    is_new = not directory.path.exists()
    if is_new:
        require_files(corpus_files(config))
    directory.create()
    with locked(directory.path):  # an error here leaves alone what another process has just begun
        try:
            check_run_config(directory, config)  # nothing is written to a run that cannot go on like this
            check_data(directory, config)
            with logging_to(directory.log):
                save_run_config(directory, config, reasons)
                directory.save_environment()
                yield
        except UserError:
            kept = directory.checkpoints, directory.metrics, directory.path / "diverged.json"
            if is_new and not any(path.exists() for path in kept):
                directory.remove()
            raise


def _set_up(context: RunContext, start: Start) -> tuple[Trainer, TrainingBatches, OnPace | None]:
    """Prepare the data, build the model, fit the batch size, and plan the updates. Every rank calls it.

    Returns the trainer, its data, and what estimates the cost during the first updates; None where that is done, or was
    done by an earlier start.
    """
    config, directory, placement, ranks = context
    torch.set_num_threads(placement.threads)
    keep_freed_memory()
    limit_generated_code()
    precision = Precision(agreed_precision(context), placement.device)
    log_only(log_header(config, precision.choice))
    init_from = config.training.init_from
    # A run that goes on takes everything from its own checkpoint.
    initial = None if init_from is None or directory.has_checkpoints else initial_weights(init_from, config)
    prepared = _prepare(context, initial)
    if initial is not None:
        score_start(context, initial.directory, Path(initial.name).name)
    started = time.monotonic() if start.time is None else start.time
    model = _build(config, prepared, initial).to(placement.device)
    ranks.seed(config.seed)
    say(_model_line(context, prepared, model, precision))
    trainer = _trainer(context, model, prepared, precision, start.refresh)
    with ranks.first_then_others("batch size"):
        batch_size = _batch_size(context, trainer, prepared)
    data = training_data(config, prepared, batch_size, ranks.share)
    estimate_from = partial(estimate_run, context, trainer, data, prepared, started)
    return trainer, data, _plan(context, trainer, data, estimate_from, start.only_estimates)


def agreed_precision(context: RunContext) -> PrecisionChoice:
    """The precision of the config. Every rank calls it.

    For `auto` on a CPU it is that in which the run began (`auto.json`), so that a resumed run has the same bits; in a
    new run bf16 where it is faster on every rank. A run that began in bf16 goes on in fp32, with a warning, where a
    CPU lacks bf16.

    Raises:
        ConfigError: the device does not support it.
        CheckpointError: auto.json is damaged.
    """
    config, directory, placement, ranks = context
    wanted, device = config.training.precision, placement.device
    if wanted != "auto" or device.type != "cpu":
        return choose_precision(wanted, device)
    known = ranks.from_first(directory.load_auto_choices().model_dump_json())
    began_in = AutoChoices.model_validate_json(known).precision
    if began_in == "bf16" and ranks.sum_host([computes_bf16()])[0] < ranks.size:
        warn("this run began in bf16, in which not every CPU here computes; it goes on in fp32")
        return PrecisionChoice("fp32", "without bf16 here")
    if began_in is not None:
        return PrecisionChoice(began_in, "as this run began")
    choice = choose_precision(wanted, device)
    faster = ranks.sum_host([choice.name == "bf16"])[0]
    if 0 < faster < ranks.size:
        choice = PrecisionChoice("fp32", "bf16 is not faster on every CPU", is_measured=True)
    if choice.is_measured and ranks.is_first:
        directory.save_auto_choices(precision=choice.name)
    return choice


def _prepare(context: RunContext, initial: InitialModel | None) -> Prepared:
    """Prepare the data, which must be the same on all ranks, and keep their texts and tokenizers with the run."""
    config, directory, _, ranks = context
    with ranks.first_then_others("data"):
        prepared = prepare_data(config, directory, None if initial is None else initial.tokenizers)
        if initial is not None:
            check_new_text(prepared, str(config.training.init_from))
        prepared = with_replay(prepared, config, directory)
        old_test = directory.load_pairs("old_test") if initial is None else initial.test_pairs
        if ranks.is_first:
            save_data(directory, prepared, old_test)
    fingerprints = [prepared.record["fingerprint"], prepared.record.get("replay", {}).get("fingerprint", "")]
    ranks.require_equal("data", f"{' '.join(fingerprints)} (tokenizer {prepared.tokenizers.fingerprint[:12]})")
    return prepared


def _trainer(
    context: RunContext, model: Seq2SeqModel, prepared: Prepared, precision: Precision, refresh: Refresh | None
) -> Trainer:
    """The trainer of a model that has its initial weights."""
    config, directory, _, ranks = context

    def open_report(step: int, max_steps: int) -> RunReport:
        return RunReport(
            directory.path,
            resumed_step=step,
            max_steps=max_steps,
            texts=_texts(prepared),
            refresh=refresh,
            tracker=config.training.tracker,
            config=config.model_dump(mode="json"),
        )

    return Trainer(
        model,
        config.training,
        precision,
        CheckpointFolder(directory.checkpoints),
        report=open_report if ranks.is_first else lambda step, max_steps: Report(),
        validate=Validator(context, model, prepared, precision) if prepared.valid_pairs else None,
        ranks=ranks,
    )


def _plan(
    context: RunContext,
    trainer: Trainer,
    data: TrainingBatches,
    estimate_from: Callable[[float], Estimate],
    only_estimates: bool,
) -> OnPace | None:
    """Fit the schedule to a budget; without one, return `estimate_from`, which the first updates will be timed for."""
    settings = context.config.training
    if context.directory.has_checkpoints:
        trainer.settings = fitted(settings, replanned_estimate(context))
        return None
    if only_estimates or settings.budget_minutes is not None:
        trainer.settings = fitted(settings, estimate_from(time_steps(trainer, data)))
        return None
    return estimate_from


def _model_line(context: RunContext, prepared: Prepared, model: Seq2SeqModel, precision: Precision) -> str:
    config, placement = context.config, context.placement
    size = sum(parameter.numel() for parameter in model.parameters())
    pairs = sum(prepared.record["corpora"])
    read = sum(training_mixture(config, prepared).draws[len(prepared.record["corpora"]) :])
    copies = f" and {read:,} noisy copies or earlier pairs in each epoch" if read else ""
    tokenizers, threads = prepared.tokenizers, placement.threads
    spread = f"{placement.device} with {threads} thread{'s' if threads > 1 else ''}"
    if placement.ranks > 1:
        spread = spread.replace(str(placement.device), f"{placement.ranks} ranks on {placement.device.type}") + " each"
    return (
        f"{config.model.kind}: {size:,} parameters, vocabulary {tokenizers.source.size:,}"
        + ("" if tokenizers.joint else f" and {tokenizers.target.size:,}")
        + f"; {pairs:,} pairs{copies}; {spread}, {precision.choice.name} ({precision.choice.reason})"
    )


def _build(config: Config, prepared: Prepared, initial: InitialModel | None) -> Seq2SeqModel:
    """The model with its initial weights."""
    torch.manual_seed(config.seed)
    model = build_model(config.model, prepared.tokenizers.source.size, prepared.tokenizers.target.size)
    if initial is not None:
        load_initial_weights(model, initial)
        say(f"starting from the weights of {initial.name}")
    if frozen := freeze(model, config.training.freeze):
        say(f"{len(frozen)} parameters stay as they are: {', '.join(frozen[:4])}{', ...' if len(frozen) > 4 else ''}")
    model.recompute = config.training.activation_checkpointing
    return model


def _texts(prepared: Prepared) -> Callable[[Batch], list[tuple[str, str]]]:
    """A function that decodes a batch to pairs of texts."""
    tokenizers = prepared.tokenizers

    def texts(batch: Batch) -> list[tuple[str, str]]:
        sources = tokenizers.source.decode([[i for i in row if i != EOS] for row in batch.source.tolist()])
        targets = tokenizers.target.decode([[i for i in row if i != EOS] for row in batch.target_out.tolist()])
        return list(zip(sources, targets, strict=True))

    return texts


def training_data(
    config: Config, prepared: Prepared, batch_size: int, share: tuple[int, int] = (0, 1)
) -> TrainingBatches:
    """Batches of the prepared pairs; `share` is (rank, ranks)."""
    sampling = config.tokenizer.sampling
    return TrainingBatches(
        prepared.train,
        batch_size=batch_size,
        batch_type=config.training.batch_type,
        seed=config.seed,
        num_workers=config.training.num_workers,
        mixture=training_mixture(config, prepared),
        sampler=SubwordSampler(prepared.tokenizers, sampling, config.seed) if sampling else None,
        share=share,
    )


def _batch_size(context: RunContext, trainer: Trainer, prepared: Prepared) -> int:
    """The batch size of the config; for `auto`, the size of an earlier start or the largest that fits."""
    config, directory = context.config, context.directory
    wanted, batch_type, device = config.training.batch_size, config.training.batch_type, trainer.precision.device
    if wanted != "auto":
        return wanted
    if (known := directory.load_auto_choices().batch_size) is not None:
        return known
    lengths = prepared.train.source_lengths, prepared.train.target_lengths
    smallest = 1 + int(max(side.max() for side in lengths)) if batch_type == "tokens" else 1
    fitted = fit_batch_size(
        lambda size: trainer.rehearse(training_data(config, prepared, size)),
        smallest,
        max(smallest, largest_useful(batch_type, device) * (trainer.ranks.size if device.type == "cuda" else 1)),
        device=device,
        processes=trainer.ranks.size,
    )
    say(f"batch size {fitted:,} {batch_type} fits into memory")
    directory.save_auto_choices(batch_size=fitted)
    return fitted


def _load_result(directory: RunDirectory) -> RunResult:
    results = directory.load_results() or Results()
    test = results.test or TestScores(sentences=0, metrics=[])
    return RunResult(
        directory=directory.path,
        metrics=_as_metrics(test.metrics),
        by_corpus={name: _as_metrics(scores) for name, scores in test.by_corpus.items()},
        checkpoint=results.checkpoint,
        minutes=results.minutes,
        steps=results.steps,
        start=results.start,
        old_test=results.old_test,
    )


def _as_metrics(scores: Sequence[Score]) -> list[MetricResult]:
    return [MetricResult(score.name, score.value, score.signature) for score in scores]
