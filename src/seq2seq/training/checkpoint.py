"""Checkpoints: safetensors and JSON, complete or absent, verified before use, never pickled.

    checkpoints/step-000500/{model.safetensors, training.safetensors, state.json, manifest.json}   best ->   last ->

`manifest.json` is written last and carries size and SHA-256 of every other file. The optimizer's state and the random
state lie in `training.safetensors`, kept for the newest two checkpoints only.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from seq2seq.console import say, warn
from seq2seq.errors import CheckpointError
from seq2seq.files import new_folder, point, remove_partial, write_bytes, write_json
from seq2seq.training.state import TrainState

FORMAT_VERSION = 2
_MODEL, _TRAINING, _STATE, _MANIFEST = (
    "model.safetensors",
    "training.safetensors",
    "state.json",
    "manifest.json",
)


class Checkpoint(NamedTuple):
    """What one checkpoint holds."""

    path: Path
    model: dict[str, Tensor]
    training: dict[str, Tensor]
    """Optimizer and random state; empty where it was pruned."""
    state: TrainState


class CheckpointFolder:
    """The `checkpoints/` folder of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def clean(self) -> None:
        """Remove what an interrupted save left behind, and say so."""
        for name in remove_partial(self.path):
            say(f"removed an unfinished save of {name}")

    def steps(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(path for path in self.path.glob("step-*") if (path / _MANIFEST).exists())

    def save(
        self,
        model: Mapping[str, Tensor],
        training: Mapping[str, Tensor],
        state: TrainState,
        name: str | None = None,
    ) -> Path:
        """Write one checkpoint (`step-N` unless named) and point `last` at it.

        Raises:
            ResourceError: the disk is full; older checkpoints are untouched.
        """
        target = self.path / (name or f"step-{state.step:08d}")
        self.path.mkdir(parents=True, exist_ok=True)
        with new_folder(target) as folder:
            # Serialised in memory and written by us: torch's and safetensors' own writers abort on a full disk.
            write_bytes(folder / _MODEL, safetensors.torch.save(_contiguous(model)))
            if training:
                write_bytes(folder / _TRAINING, safetensors.torch.save(_contiguous(training)))
            write_json(folder / _STATE, state.to_json())
            files = {path.name: _fingerprint(path) for path in sorted(folder.iterdir())}
            write_json(folder / _MANIFEST, {"format": FORMAT_VERSION, "torch": torch.__version__, "files": files})
        if name is None:
            point(self.path / "last", target.name)
        return target

    def mark_best(self, path: Path) -> None:
        """Point `best` at a checkpoint."""
        point(self.path / "best", path.name)

    def prune(self, keep: int) -> None:
        """Keep the newest `keep` checkpoints (two at least), the best one, and two optimizer states."""
        steps = self.steps()
        kept = set(steps[-max(2, keep) :]) | {self._linked("best")}
        for path in steps:
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)
            elif path not in steps[-2:] and (path / _TRAINING).exists():
                # The manifest forgets the file before the file goes, so that the checkpoint is valid at every instant.
                manifest = json.loads((path / _MANIFEST).read_text())
                manifest["files"].pop(_TRAINING, None)
                write_json(path / _MANIFEST, manifest)
                (path / _TRAINING).unlink()

    def load_last(self) -> Checkpoint | None:
        """The newest checkpoint that can be resumed from; None for a fresh folder.

        A damaged one is passed over with a warning.

        Raises:
            CheckpointError: there are checkpoints, but none is usable.
        """
        steps = self.steps()
        for path in reversed(steps):
            try:
                checkpoint = load_checkpoint(path, with_training=True)
            except CheckpointError as error:
                warn(f"{path.name} is damaged ({error.what}); trying the one before")
                continue
            if checkpoint.training:
                return checkpoint
        if steps or any(self.path.glob("step-*")):
            names = ", ".join(path.name for path in self.path.glob("step-*"))
            raise CheckpointError(
                f"no checkpoint in {self.path} can be resumed from ({names})",
                hint="restore one from a copy, or train into another folder; nothing was changed",
            )
        return None

    def load_best(self) -> Checkpoint:
        """The best model, or the last where no validation marked one.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        for link in ("best", "last"):
            if path := self._linked(link):
                return load_checkpoint(path, with_training=False)
            if (self.path / link).is_symlink():
                warn(f"{self.path / link} points to a checkpoint that is gone")
        raise CheckpointError(f"no checkpoint in {self.path}", hint="train first: seq2seq train CONFIG")

    def average(self, paths: Sequence[Path]) -> dict[str, Tensor]:
        """The mean of the models' weights, summed in fp32 (fp64 on the way)."""
        total: dict[str, Tensor] = {}
        for path in paths:
            for name, tensor in load_checkpoint(path, with_training=False).model.items():
                total[name] = total[name] + tensor.double() if name in total else tensor.double()
        return {name: (tensor / len(paths)).float() for name, tensor in total.items()}

    def _linked(self, link: str) -> Path | None:
        path = self.path / link
        return path.resolve() if path.exists() else None


def load_checkpoint(path: Path, *, with_training: bool) -> Checkpoint:
    """Verify and read one checkpoint folder.

    Raises:
        CheckpointError: a file is missing or damaged, or a newer version wrote it.
    """
    try:
        manifest: dict[str, Any] = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        version = int(manifest["format"])
        files = {name: (int(file["size"]), str(file["sha256"])) for name, file in manifest["files"].items()}
    except FileNotFoundError:
        raise CheckpointError(f"{path} is not a complete checkpoint", hint="choose another checkpoint") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{path / _MANIFEST} is damaged", hint="choose another checkpoint") from None
    if version > FORMAT_VERSION:
        raise CheckpointError(f"{path} was made by a newer version of seq2seq", hint="pip install -U seq2seq")
    if version < FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was made by an older version of seq2seq", hint="train again, or use that version"
        )
    for name in (_MODEL, _STATE):
        if name not in files:
            raise CheckpointError(f"{path / _MANIFEST} does not list {name}", hint="choose another checkpoint")
    wanted = [_MODEL, _STATE, *([_TRAINING] if with_training and _TRAINING in files else [])]
    content = {name: _verified(path / name, *files[name]) for name in wanted}
    return Checkpoint(
        path,
        safetensors.torch.load(content[_MODEL]),
        safetensors.torch.load(content[_TRAINING]) if _TRAINING in content else {},
        TrainState.from_json(json.loads(content[_STATE])),
    )


def _verified(path: Path, size: int, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", hint="choose another checkpoint") from None
    if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is not the one recorded", hint="choose another checkpoint"
        )
    return content


def _fingerprint(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, each with memory of its own: safetensors refuses shared storage (tied embeddings)."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


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
        raise CheckpointError(f"the model and its checkpoint differ in `{missing[0]}`", where=where)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != tensors[name].shape:
                shapes = f"{tuple(tensors[name].shape)}, not {tuple(parameter.shape)}"
                raise CheckpointError(f"`{name}` has shape {shapes}", where=where)
            parameter.copy_(tensors[name])
