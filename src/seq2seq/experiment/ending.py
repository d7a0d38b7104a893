"""The end of a run: the mean of the last checkpoints, and the score of the best model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from seq2seq.config import Config
from seq2seq.console import say, warn
from seq2seq.errors import CheckpointError
from seq2seq.experiment.directory import RunDirectory
from seq2seq.experiment.layout import rank_device, rank_threads
from seq2seq.experiment.loading import load
from seq2seq.experiment.validation import evaluate
from seq2seq.files import write_json, write_text
from seq2seq.interruption import StopRequest
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.training.checkpoints.checkpoint import best_metric_of
from seq2seq.training.checkpoints.folder import CheckpointFolder
from seq2seq.training.checkpoints.weights import load_model_tensors, model_tensors
from seq2seq.training.loop import Trainer
from seq2seq.training.ranks.group import Ranks


def average(config: Config, trainer: Trainer, model: Seq2SeqModel) -> None:
    """Average the last checkpoints, and make the result the best model if validation says so."""
    folder, wanted = trainer.checkpoints, config.training.average_checkpoints
    validated = folder.validated()
    if wanted == 1 or len(validated) < 2 or trainer.validate is None:
        return
    paths = validated[-wanted:]
    try:
        tensors = folder.average(paths)
    except CheckpointError as error:
        warn(f"no average of the last {len(paths)} checkpoints: {error.what}")
        return
    load_model_tensors(model, tensors, "the average of checkpoints")
    result = trainer.validate(trainer.state.step, StopRequest())
    assert result is not None, "nothing was to stop it"
    metric = trainer.metric(result)
    best = trainer.state.best_metric
    say(
        f"average of the last {len(paths)} checkpoints: validation "
        + (f"BLEU {result.bleu:.2f}" if result.bleu is not None else f"loss {result.loss:.2f}")
        + f" against {abs(best or 0.0):.2f} of step {trainer.state.best_step:,}"
    )
    before = best_metric_of(folder.path / "averaged")  # of an earlier end of this run, which may still be the best
    if trainer.ranks.is_first and metric > max(value for value in (best, before, -math.inf) if value is not None):
        state = replace(trainer.state, best_metric=metric, validated=False)
        folder.mark_best(folder.save(model_tensors(model), {}, state, name="averaged"))


def score(config: Config, directory: RunDirectory, ranks: Ranks) -> None:
    """Score the best model on the test set and write results.json."""
    ranks.barrier()  # the best model is settled
    run = load(directory.path, device=str(rank_device(config)), threads=rank_threads(config))
    pairs = directory.load_pairs("test")
    results: dict[str, Any] = {"checkpoint": run.checkpoint, "test": None}
    if pairs:
        say(f"translating {len(pairs):,} test sentences with beam {config.decoding.beam_size}")
        hypotheses, metrics = evaluate(run, pairs, ranks)
        if ranks.is_first:
            write_text(directory.path / "test.hyp", "".join(line + "\n" for line in hypotheses))
        results["test"] = {
            "sentences": len(pairs),
            "metrics": [metric._asdict() for metric in metrics],
            "decoding": config.decoding.model_dump(mode="json"),
        }
    last = CheckpointFolder(directory.checkpoints).load_last()
    if last is not None:
        results |= {"steps": last.state.step, "minutes": last.state.seconds / 60}
    if ranks.is_first:
        write_json(directory.results, results)
