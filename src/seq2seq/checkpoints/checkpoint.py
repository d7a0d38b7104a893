"""One checkpoint: written as a folder, loaded only if every byte is verified, and copied into a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from seq2seq.atomic_files import new_folder, write_bytes
from seq2seq.checkpoints.manifest import MANIFEST, FileRecord, read_manifest, read_verified, write_manifest
from seq2seq.checkpoints.train_state import TrainState
from seq2seq.errors import CheckpointError
from seq2seq.failpoints import reach

MODEL = "model.safetensors"
_TRAINING, _STATE = "training.safetensors", "state.json"


class Checkpoint(NamedTuple):
    """Contents of one checkpoint."""

    path: Path
    model: dict[str, Tensor]
    training: dict[str, Tensor]
    """Optimizer and random state; empty after pruning."""
    state: TrainState


def write_checkpoint(
    path: Path, model: Mapping[str, Tensor], training: Mapping[str, Tensor], state: TrainState
) -> None:
    """Write a checkpoint folder; `manifest.json` comes last.

    Raises:
        ResourceError: the disk is full.
    """
    with new_folder(path) as folder:
        # Serialised in memory and written by us: torch's and safetensors' own writers abort on a full disk.
        files = {MODEL: _write(folder / MODEL, safetensors.torch.save(_contiguous(model)))}
        if training:
            files[_TRAINING] = _write(folder / _TRAINING, safetensors.torch.save(_contiguous(training)))
        files[_STATE] = _write(folder / _STATE, (json.dumps(state.to_json(), indent=2) + "\n").encode())
        reach("save.before_manifest")
        write_manifest(folder, files)
        reach("save.before_rename")


def load_checkpoint(path: Path, *, with_training: bool) -> Checkpoint:
    """Verify and load one checkpoint folder.

    Raises:
        CheckpointError: a file is missing or damaged, or a newer version wrote it.
    """
    files = read_manifest(path)
    names = [MODEL, _STATE, *([_TRAINING] if with_training and _TRAINING in files else [])]
    content = {name: _read(path, name, files) for name in names}
    try:
        model = safetensors.torch.load(content[MODEL])
        training = safetensors.torch.load(content[_TRAINING]) if _TRAINING in content else {}
        state = json.loads(content[_STATE])
    except (safetensors.SafetensorError, ValueError, RecursionError):
        raise _damaged(f"{path} is damaged: its files are not what their names say") from None
    return Checkpoint(path, model, training, TrainState.from_json(state))


def read_state(path: Path) -> TrainState:
    """Verify and read the training state of one checkpoint folder.

    Raises:
        CheckpointError: it is missing or damaged, or a newer version wrote it.
    """
    content = _read(path, _STATE, read_manifest(path))
    try:
        return TrainState.from_json(json.loads(content))
    except (ValueError, RecursionError):
        raise _damaged(f"{path / _STATE} is damaged: it is not valid JSON") from None


def _read(path: Path, name: str, files: Mapping[str, FileRecord]) -> bytes:
    if name not in files:
        raise _damaged(f"{path / MANIFEST} does not list {name}")
    return read_verified(path / name, files[name])


def _damaged(what: str) -> CheckpointError:
    return CheckpointError(what, hint="choose another one: --checkpoint step-N", code="checkpoint.damaged")


def forget_training(path: Path) -> None:
    """Remove the training state of a checkpoint, which only resuming needs.

    Raises:
        OSError, UserError: it cannot be removed; the checkpoint is unchanged.
    """
    if not (path / _TRAINING).exists():
        return
    # The manifest drops the file before the file is removed: the checkpoint is valid at every instant.
    files = read_manifest(path)
    write_manifest(path, {name: record for name, record in files.items() if name != _TRAINING})
    reach("prune.before_unlink")
    (path / _TRAINING).unlink()


def state_of(path: Path) -> TrainState:
    """Training state of a checkpoint; an empty one, of no step and no validation, if it cannot be read."""
    try:
        return read_state(path)
    except CheckpointError:
        return TrainState()


def fault_of(path: Path) -> str | None:
    """Reason why the weights of a checkpoint cannot be used; None if they are whole."""
    try:
        load_checkpoint(path, with_training=False)
    except CheckpointError as error:
        return error.what
    return None


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter once, tied ones under their first name."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def load_model_tensors(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into the model's parameters.

    Raises:
        CheckpointError: names or shapes differ.
    """
    parameters = dict(model.named_parameters())
    if missing := sorted(parameters.keys() ^ tensors.keys()):
        raise CheckpointError(
            f"the model and its checkpoint differ in `{missing[0]}`", where=where, code="checkpoint.mismatch"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != tensors[name].shape:
                shapes = f"{tuple(tensors[name].shape)}, not {tuple(parameter.shape)}"
                raise CheckpointError(f"`{name}` has shape {shapes}", where=where, code="checkpoint.mismatch")
            parameter.copy_(tensors[name])


def _write(path: Path, content: bytes) -> FileRecord:
    write_bytes(path, content)
    return FileRecord.of(content)


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU without shared storage, which safetensors refuses (tied embeddings)."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
