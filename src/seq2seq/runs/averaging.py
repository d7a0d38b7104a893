"""The average of the last checkpoints, as a candidate for the best model."""

from __future__ import annotations

from dataclasses import replace

from seq2seq.checkpoints.checkpoint import load_model_tensors, model_tensors, state_of
from seq2seq.checkpoints.folder import AVERAGED
from seq2seq.config import Config
from seq2seq.console import say, warn
from seq2seq.errors import CheckpointError
from seq2seq.failpoints import reach
from seq2seq.signals import StopRequest
from seq2seq.training.trainer import Trainer


def average_checkpoints(config: Config, trainer: Trainer) -> None:
    """Average the last checkpoints, and make the average the best model if its validation metric is better."""
    reach("average.begin")
    model, folder, count = trainer.model, trainer.checkpoints, config.training.average_checkpoints
    validated = folder.validated()
    if count == 1 or len(validated) < 2 or trainer.validate is None:
        return
    paths = validated[-count:]
    try:
        tensors = folder.average(paths)
    except CheckpointError as error:
        warn(f"no average of the last {len(paths)} checkpoints: {error.what}")
        return
    load_model_tensors(model, tensors, "the average of checkpoints")
    result = trainer.validate(trainer.state.step, StopRequest())
    assert result is not None, "this stop request is never set"
    metric = result.metric
    best = trainer.state.best_metric
    say(
        f"average of the last {len(paths)} checkpoints: validation "
        + (result.score or f"loss {result.loss:.2f}")
        + f" against {abs(best or 0.0):.2f} of step {trainer.state.best_step:,}"
    )
    # The average of an earlier end of this run may still be the best. If this end was interrupted after its average was
    # saved, that average has the same metric: it is saved and marked again.
    before = state_of(folder.path / AVERAGED).best_metric
    is_best = (best is None or metric > best) and (before is None or metric >= before)
    if trainer.ranks.is_first and is_best:
        state = replace(trainer.state, best_metric=metric, best_loss=result.loss, validated=False)
        folder.mark_best(folder.save(model_tensors(model), {}, state, name=AVERAGED))
