"""One run from config to test score."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import torch

from seq2seq.atomic_files import write_json
from seq2seq.checkpoints.checkpoint import load_checkpoint
from seq2seq.checkpoints.folder import CheckpointFolder
from seq2seq.checkpoints.weights import load_model_tensors
from seq2seq.config import Config, config_to_yaml
from seq2seq.console import logging_to, mind_stderr, record, say
from seq2seq.data.batches import Batch, TrainingBatches
from seq2seq.data.cache import cache_folder
from seq2seq.data.order import Mixture
from seq2seq.data.prepare import Prepared, prepare
from seq2seq.distributed.launch import launch
from seq2seq.distributed.placement import layout, rank_device, rank_threads, set_threads
from seq2seq.distributed.ranks import Ranks
from seq2seq.errors import CheckpointError, ResourceError, UserError
from seq2seq.evaluation.metrics import MetricResult
from seq2seq.models import build_model
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.optimization.precision import Precision, choose_precision
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.environment import log_header
from seq2seq.runs.evaluate import average_checkpoints, make_validation, score_test_set
from seq2seq.runs.fine_tuning import InitialModel, initial_weights
from seq2seq.signals import Interrupted, interruptible
from seq2seq.special_tokens import EOS
from seq2seq.system import keep_freed_memory
from seq2seq.tokenizers.sampling import SubwordSampler
from seq2seq.training.batch_size import fit_batch_size, largest_useful
from seq2seq.training.failures import is_out_of_memory
from seq2seq.training.freeze import freeze
from seq2seq.training.report import NoReport, RunReport
from seq2seq.training.trainer import Trainer


class RunResult(NamedTuple):
    """The end of a run."""

    directory: Path
    metrics: list[MetricResult]
    """Test scores of the best model; empty without a test set."""
    checkpoint: str
    minutes: float
    """Training and validation."""
    steps: int


def run_folder(config: Config) -> Path:
    """Where the run of a config lies."""
    return Path(config.run_directory or f"runs/{config.name or 'run'}")


def train(config: Config) -> RunResult:
    """Prepare, train (or resume), average, and score the best model on the test set.

    Raises:
        UserError: anything that is the user's to mend; see `seq2seq.errors`.
        Interrupted: a signal came; the same call continues.
    """
    directory = RunDirectory(run_folder(config))
    try:
        if not Ranks.expected() and (plan := layout(config)).ranks > 1:
            launch(train, config, plan)
        else:
            ranks = Ranks.start(rank_device(config).type)
            # Of several ranks each dies of a signal before the steps begin, and who started them tells of it.
            alone = interruptible() if ranks.size == 1 else nullcontext()
            with alone, ranks.joined(), ranks.silent_but_first(), ExitStack() as held:
                _run(config, ranks, held)
    except Interrupted as end:
        end.kept = end.kept or _kept(directory)
        mind_stderr()  # the signal may be the end of the terminal
        raise
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            "out of memory", hint="a smaller model or training.batch_size, or fewer devices", code="memory.host"
        ) from error
    return _result(directory)


def _kept(directory: RunDirectory) -> str:
    """What an interruption between the steps leaves, for people."""
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


def _run(config: Config, ranks: Ranks, held: ExitStack) -> None:
    """The whole run, as one rank of several or alone. The run directory is `held` by rank 0."""
    ranks.agree("torch", torch.__version__)
    ranks.agree("config", config_to_yaml(config))
    directory = RunDirectory(run_folder(config))
    with ranks.first_alone("directory"):
        if ranks.is_first:
            held.enter_context(_opened(directory, config))
    if directory.load_results() is None:
        _train(config, directory, ranks)
        score_test_set(config, directory, ranks)
    else:
        say(f"{directory.path} is finished; its results follow (train into another directory to train again)")


@contextmanager
def _opened(directory: RunDirectory, config: Config) -> Iterator[None]:
    """The run directory, held for this run; it vanishes where the run is refused before it began."""
    is_new = not directory.path.exists()
    directory.create()
    with directory.locked():  # who is refused here leaves alone what another process has just begun
        try:
            with logging_to(directory.log):
                directory.save_config(config)
                directory.save_environment()
                yield
        except UserError:
            if is_new and not directory.checkpoints.exists():
                shutil.rmtree(directory.path, ignore_errors=True)  # not a run
            raise


def _train(config: Config, directory: RunDirectory, ranks: Ranks) -> None:
    record(log_header(config))
    device = rank_device(config)
    threads = set_threads(rank_threads(config))
    precision = Precision(choose_precision(config.training.precision, device), device)
    keep_freed_memory()
    initial = None if config.training.init_from is None else initial_weights(config.training.init_from, config)
    with ranks.first_alone("data"):
        prepared = prepare(
            config.data,
            config.tokenizer,
            cache=cache_folder(),
            seed=config.seed,
            tokenizers=None if initial is None else initial.tokenizers,
        )
        if ranks.is_first:
            _keep_data(directory, prepared)
    ranks.agree("data", f"{prepared.record['fingerprint']} (tokenizer {prepared.tokenizers.fingerprint[:12]})")
    model = _build(config, prepared, initial).to(device)
    ranks.seed(config.seed)
    size = sum(parameter.numel() for parameter in model.parameters())
    tokenizers = prepared.tokenizers
    spread = f"{device} with {threads} threads"
    if ranks.size > 1:
        spread = f"{ranks.size} ranks on {device.type} with {threads} thread{'s' if threads > 1 else ''} each"
    say(
        f"{config.model.kind}: {size:,} parameters, vocabulary {tokenizers.source.size:,}"
        + ("" if tokenizers.joint else f" and {tokenizers.target.size:,}")
        + f"; {len(prepared.train):,} pairs; {spread}, {precision.choice.name} "
        f"({precision.choice.reason})"
    )
    trainer = Trainer(
        model,
        config.training,
        precision,
        CheckpointFolder(directory.checkpoints),
        report=lambda step: (
            RunReport(directory.path, resumed_step=step, max_steps=config.training.max_steps, texts=_texts(prepared))
            if ranks.is_first
            else NoReport()
        ),
        validate=make_validation(config, directory, model, prepared, precision, ranks)
        if prepared.valid_pairs
        else None,
        ranks=ranks,
    )
    with ranks.first_alone("batch size"):
        batch_size = _batch_size(config, directory, trainer, prepared)
    state = trainer.fit(training_data(config, prepared, batch_size, ranks.share))
    say(f"trained {state.step:,} steps, {state.tokens_seen:,} target tokens, {state.seconds / 60:.1f} minutes")
    average_checkpoints(config, trainer, model)


def _build(config: Config, prepared: Prepared, initial: InitialModel | None) -> Seq2SeqModel:
    """The model with the weights that training begins with."""
    torch.manual_seed(config.seed)
    model = build_model(config.model, prepared.tokenizers.source.size, prepared.tokenizers.target.size)
    if initial is not None:
        load_model_tensors(model, initial.tensors, initial.name)
        say(f"beginning with the weights of {initial.name}")
    if frozen := freeze(model, config.training.freeze):
        say(f"{len(frozen)} parameters stay as they are: {', '.join(frozen[:4])}{', ...' if len(frozen) > 4 else ''}")
    model.recompute = config.training.activation_checkpointing
    return model


def _texts(prepared: Prepared) -> Callable[[Batch], list[tuple[str, str]]]:
    """The pairs of a batch as text."""
    tokenizers = prepared.tokenizers

    def texts(batch: Batch) -> list[tuple[str, str]]:
        sources = tokenizers.source.decode([[i for i in row if i != EOS] for row in batch.source.tolist()])
        targets = tokenizers.target.decode([[i for i in row if i != EOS] for row in batch.target_out.tolist()])
        return list(zip(sources, targets, strict=True))

    return texts


def training_data(
    config: Config, prepared: Prepared, batch_size: int, share: tuple[int, int] = (0, 1)
) -> TrainingBatches:
    """The prepared pairs as the loop reads them; `share` is (rank, ranks)."""
    sampling = config.tokenizer.sampling
    weights = [source.weight for source in config.data.train]
    return TrainingBatches(
        prepared.train,
        batch_size=batch_size,
        batch_type=config.training.batch_type,
        seed=config.seed,
        num_workers=config.training.num_workers,
        mixture=Mixture.of(prepared.record["corpora"], weights, config.data.temperature),
        sampler=SubwordSampler(prepared.tokenizers, sampling, config.seed) if sampling else None,
        share=share,
        pin_memory=True,
    )


def _batch_size(config: Config, directory: RunDirectory, trainer: Trainer, prepared: Prepared) -> int:
    """The batch size of the config; where it is `auto`, the one of an earlier start, or what fits now."""
    wanted, batch_type, device = config.training.batch_size, config.training.batch_type, trainer.precision.device
    if wanted != "auto":
        return wanted
    if (known := directory.load_batch_size()) is not None:
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
    directory.save_batch_size(fitted)
    return fitted


def _keep_data(directory: RunDirectory, prepared: Prepared) -> None:
    prepared.tokenizers.save(directory.tokenizer)
    directory.save_pairs("valid", prepared.valid_pairs)
    directory.save_pairs("test", prepared.test_pairs)
    write_json(directory.data_record, {**prepared.record, "tokenizer": prepared.tokenizers.fingerprint})


def _result(directory: RunDirectory) -> RunResult:
    results = directory.load_results() or {}
    test = results.get("test") or {}
    return RunResult(
        directory=directory.path,
        metrics=[MetricResult(**metric) for metric in test.get("metrics", [])],
        checkpoint=results.get("checkpoint", ""),
        minutes=results.get("minutes", 0.0),
        steps=results.get("steps", 0),
    )
