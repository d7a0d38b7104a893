"""One run from config to test score."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from seq2seq.config import Config
from seq2seq.console import logging_to, say
from seq2seq.data.batching import Batch, batches, collate, plan_epoch
from seq2seq.data.prepare import Prepared, prepare
from seq2seq.data.store import Store
from seq2seq.errors import UserError
from seq2seq.evaluation.metrics import MetricResult, bleu, corpus_metrics
from seq2seq.experiment.device import choose_device, set_threads
from seq2seq.experiment.directory import RunDirectory
from seq2seq.experiment.loading import LoadedRun, load
from seq2seq.files import write_json, write_text
from seq2seq.inference.translator import Translator
from seq2seq.models import build_model
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.optimization.loss import summed_loss
from seq2seq.optimization.precision import Precision, choose_precision
from seq2seq.training.allocator import keep_freed_memory
from seq2seq.training.checkpoint import CheckpointFolder, load_checkpoint, load_model_tensors, model_tensors
from seq2seq.training.loop import EpochData, Trainer
from seq2seq.training.report import RunReport, Validation

_SAMPLES = 3


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


def cache_folder() -> Path:
    """Where prepared data lie: SEQ2SEQ_CACHE, or seq2seq in the user's cache folder."""
    root = os.environ.get("SEQ2SEQ_CACHE")
    if root:
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seq2seq"


def train(config: Config) -> RunResult:
    """Prepare, train (or resume), average, and score the best model on the test set.

    Raises:
        UserError: anything that is the user's to mend; see `seq2seq.errors`.
        Interrupted: a signal came; the same call continues.
    """
    directory = RunDirectory(run_folder(config))
    is_new = not directory.path.exists()
    directory.create()
    try:
        with directory.locked(), logging_to(directory.log):
            directory.save_config(config)
            directory.save_environment()
            if directory.load_results() is None:
                _train(config, directory)
                _finish(config, directory)
            else:
                say(f"{directory.path} is finished; its results follow (train into another directory to train again)")
    except UserError:
        if is_new and not directory.checkpoints.exists():
            shutil.rmtree(directory.path, ignore_errors=True)  # refused before it began: not a run
        raise
    return _result(directory)


def _train(config: Config, directory: RunDirectory) -> None:
    device = choose_device(config.device)
    threads = set_threads(config.threads)
    precision = Precision(choose_precision(config.training.precision, device), device)
    keep_freed_memory()
    prepared = prepare(config.data, config.tokenizer, cache=cache_folder(), seed=config.seed)
    _keep_data(directory, prepared)
    torch.manual_seed(config.seed)
    tokenizers = prepared.tokenizers
    model = build_model(config.model, tokenizers.source.size, tokenizers.target.size).to(device)
    size = sum(parameter.numel() for parameter in model.parameters())
    say(
        f"{config.model.kind}: {size:,} parameters, vocabulary {tokenizers.source.size:,}"
        + ("" if tokenizers.joint else f" and {tokenizers.target.size:,}")
        + f"; {len(prepared.train):,} pairs; {device} with {threads} threads, {precision.choice.name} "
        f"({precision.choice.reason})"
    )
    trainer = Trainer(
        model,
        config.training,
        precision,
        CheckpointFolder(directory.checkpoints),
        report=lambda step: RunReport(directory.path, resumed_step=step, max_steps=config.training.max_steps),
        validate=make_validation(config, directory, model, prepared, precision) if prepared.valid_pairs else None,
    )
    state = trainer.fit(epoch_data(config, prepared.train))
    say(f"trained {state.step:,} steps, {state.tokens_seen:,} target tokens, {state.seconds / 60:.1f} minutes")
    _average(config, directory, trainer, model)


def _keep_data(directory: RunDirectory, prepared: Prepared) -> None:
    prepared.tokenizers.save(directory.tokenizer)
    directory.save_pairs("valid", prepared.valid_pairs)
    directory.save_pairs("test", prepared.test_pairs)
    write_json(directory.data_record, {**prepared.record, "tokenizer": prepared.tokenizers.fingerprint})


def epoch_data(config: Config, store: Store) -> EpochData:
    """The training data as functions of (epoch, cursor)."""
    settings = config.training
    planned: dict[int, list[np.ndarray]] = {}

    def plan(epoch: int) -> list[np.ndarray]:
        if epoch not in planned:
            planned.clear()
            planned[epoch] = plan_epoch(
                store.source_lengths,
                store.target_lengths,
                batch_size=settings.batch_size,
                batch_type=settings.batch_type,
                seed=config.seed,
                epoch=epoch,
            )
        return planned[epoch]

    def longest() -> Batch:
        lengths = np.maximum(store.source_lengths, store.target_lengths)
        rows = max(plan(0), key=lambda rows: (len(rows) * int(lengths[rows].max()), int(lengths[rows].max())))
        return collate(*store.rows(rows))

    def epoch_batches(epoch: int, cursor: int) -> Iterator[Batch]:
        return batches(store, plan(epoch), start=cursor, num_workers=settings.num_workers)

    return EpochData(epoch_batches, lambda epoch: len(plan(epoch)), longest)


def make_validation(
    config: Config, directory: RunDirectory, model: Seq2SeqModel, prepared: Prepared, precision: Precision
) -> Callable[[int], Validation]:
    """Loss on every validation pair, BLEU of its translations where BLEU is the metric."""
    decoding = config.decoding.model_copy(update={"beam_size": config.training.validation_beam_size})
    translator = Translator(model, prepared.tokenizers, decoding, precision.device)
    sources = [source for source, _ in prepared.valid_pairs]
    references = [target for _, target in prepared.valid_pairs]

    def validate(step: int) -> Validation:
        started = time.monotonic()
        model.eval()
        loss = validation_loss(model, prepared.valid, precision)
        score: MetricResult | None = None
        texts = sources if config.training.metric == "bleu" else sources[:_SAMPLES]
        hypotheses = translator.translate(texts)
        if config.training.metric == "bleu":
            score = bleu(hypotheses, references, target_language=config.data.target_language)
            write_text(directory.validation / f"step-{step:08d}.hyp", "".join(line + "\n" for line in hypotheses))
        return Validation(
            step=step,
            loss=loss,
            perplexity=math.exp(min(loss, 700.0)),
            bleu=None if score is None else score.value,
            signature="" if score is None else score.signature,
            seconds=time.monotonic() - started,
            samples=list(zip(sources[:_SAMPLES], references[:_SAMPLES], hypotheses[:_SAMPLES], strict=True)),
        )

    return validate


@torch.inference_mode()
def validation_loss(model: Seq2SeqModel, store: Store | None, precision: Precision) -> float:
    """Negative log-likelihood per target token, in nats, without smoothing or dropout."""
    if store is None or len(store) == 0:
        return math.inf
    budget = 4096
    longest = int(max(store.source_lengths.max(), store.target_lengths.max())) + 1
    plan = plan_epoch(
        store.source_lengths,
        store.target_lengths,
        batch_size=max(budget, longest),
        batch_type="tokens",
        seed=0,
        epoch=0,
    )
    model.eval()
    total, tokens = 0.0, 0
    for batch in batches(store, plan):
        batch = batch.to(precision.device)
        with precision.autocast():
            hidden = model(batch.source, batch.target_in)
            total += float(summed_loss(model.output, hidden, batch.target_out).nll)
        tokens += batch.tokens
    return total / tokens


def _average(config: Config, directory: RunDirectory, trainer: Trainer, model: Seq2SeqModel) -> None:
    """Average the last checkpoints, and make the result the best model if validation says so."""
    folder, wanted = trainer.checkpoints, config.training.average_checkpoints
    validated = [path for path in folder.steps() if load_checkpoint(path, with_training=False).state.validated]
    if wanted == 1 or len(validated) < 2 or trainer.validate is None:
        return
    paths = validated[-wanted:]
    tensors = folder.average(paths)
    load_model_tensors(model, tensors, "the average of checkpoints")
    result = trainer.validate(trainer.state.step)
    metric = trainer.metric(result)
    best = trainer.state.best_metric
    say(
        f"average of the last {len(paths)} checkpoints: validation "
        + (f"BLEU {result.bleu:.2f}" if result.bleu is not None else f"perplexity {result.perplexity:.2f}")
        + f" against {abs(best or 0.0):.2f} of step {trainer.state.best_step:,}"
    )
    if best is None or metric > best:
        state = replace(trainer.state, best_metric=metric, validated=False)
        folder.mark_best(folder.save(model_tensors(model), {}, state, name="averaged"))


def _finish(config: Config, directory: RunDirectory) -> None:
    """Score the best model on the test set and write results.json."""
    run = load(directory.path, device=config.device, threads=config.threads)
    pairs = directory.load_pairs("test")
    results: dict[str, Any] = {"checkpoint": run.checkpoint, "test": None}
    if pairs:
        say(f"translating {len(pairs):,} test sentences with beam {config.decoding.beam_size}")
        hypotheses, metrics = evaluate(run, pairs)
        write_text(directory.path / "test.hyp", "".join(line + "\n" for line in hypotheses))
        results["test"] = {
            "sentences": len(pairs),
            "metrics": [metric._asdict() for metric in metrics],
            "decoding": config.decoding.model_dump(mode="json"),
        }
    last = CheckpointFolder(directory.checkpoints).load_last()
    if last is not None:
        results |= {"steps": last.state.step, "minutes": last.state.seconds / 60}
    write_json(directory.results, results)


def evaluate(run: LoadedRun, pairs: list[tuple[str, str]]) -> tuple[list[str], list[MetricResult]]:
    """Translate the sources with the run's own decoding settings and score against the raw references."""
    hypotheses = run.translate([source for source, _ in pairs])
    references = [target for _, target in pairs]
    return hypotheses, corpus_metrics(hypotheses, references, target_language=run.config.data.target_language)


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
