"""Memory that runs out and processes that die in an update, as the user should hear of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seq2seq.config import TrainingSettings
from seq2seq.data.batching import Batch
from seq2seq.errors import ResourceError, WorkerError
from seq2seq.host_memory import what_ran_out
from seq2seq.training.memory.free import address_space_left


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a device or on the host: torch has no class of its own for the latter."""
    return isinstance(error, torch.OutOfMemoryError) or what_ran_out(error) is not None


def out_of_memory(settings: TrainingSettings, device: torch.device, when: str) -> ResourceError:
    """Memory ran out: with what batch, and a smaller one that makes the same update."""
    size = settings.batch_size
    limited = device.type == "cpu" and address_space_left() is not None
    smaller = "auto" if size == "auto" else max(1, size // 2)
    return ResourceError(
        f"out of memory on {device} {when}",
        hint=("ulimit -v unlimited, or " if limited else "")
        + f"training.batch_size={smaller} training.accumulation_steps={settings.accumulation_steps * 2}, "
        "or training.activation_checkpointing=true",
        code="memory.training",
    )


def shape(batches: Sequence[Batch]) -> str:
    """The largest of some batches, for people."""
    batch = max(batches, key=lambda batch: batch.source.numel() + batch.target_in.numel())
    tokens = f"{batch.source.numel():,} source and {batch.target_in.numel():,} target tokens"
    return f"{len(batch.source):,} pairs, {tokens}, padding included"


def loader_died(error: RuntimeError) -> WorkerError | None:
    """The death of a loader process, of which torch's signal handler may tell anywhere; None for any other error."""
    if "DataLoader worker" not in str(error):
        return None
    return WorkerError(
        f"a data loader process died: {error}",
        hint="training.num_workers=0; run the same command again",
        code="worker.loader",
    )
