"""Checkpoints: safetensors and JSON, complete or absent, verified before use, never pickled.

    checkpoints/step-00000500/{model.safetensors, training.safetensors, state.json, manifest.json}   best ->   last ->

`manifest.json` is written last and carries size and SHA-256 of every other file (see `manifest`). The optimizer's state
and the random state lie in `training.safetensors`, kept for the newest two checkpoints only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from seq2seq.console import say, warn
from seq2seq.errors import CheckpointError
from seq2seq.failpoints import reach
from seq2seq.files import (
    disk_error,
    free_bytes,
    make_folder,
    new_folder,
    point,
    remove_folder,
    remove_partial,
    require_room,
    write_bytes,
)
from seq2seq.training.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    FileRecord,
    read_manifest,
    read_verified,
    refuse_pickles,
    write_manifest,
)
from seq2seq.training.state import TrainState

__all__ = ["FORMAT_VERSION", "Checkpoint", "CheckpointFolder", "load_checkpoint", "load_model_tensors", "model_tensors"]

_MODEL, _TRAINING, _STATE = "model.safetensors", "training.safetensors", "state.json"
_STEP = re.compile(r"step-(\d+)")


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
        self._passed_over: set[Path] = set()

    def clean(self) -> None:
        """Undo what an interrupted save left behind, and say so."""
        for name in remove_partial(self.path):
            say(f"removed an unfinished save of {name}")

    def steps(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return [path for path in self._numbered() if (path / MANIFEST).exists()]

    def validated(self) -> list[Path]:
        """Complete checkpoints that were saved right after a validation, oldest first."""
        return [path for path in self.steps() if _is_validated(path)]

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
        reach("save.begin")
        try:
            make_folder(self.path)
        except OSError as error:
            raise disk_error(error, self.path, 0) from None
        require_room(self.path, _size(model) + _size(training))
        with new_folder(target) as folder:
            # Serialised in memory and written by us: torch's and safetensors' own writers abort on a full disk.
            files = {_MODEL: _write(folder / _MODEL, safetensors.torch.save(_contiguous(model)))}
            if training:
                files[_TRAINING] = _write(folder / _TRAINING, safetensors.torch.save(_contiguous(training)))
            files[_STATE] = _write(folder / _STATE, (json.dumps(state.to_json(), indent=2) + "\n").encode())
            reach("save.before_manifest")
            write_manifest(folder, files)
            reach("save.before_rename")
        self._passed_over.discard(target)
        reach("save.after_rename")
        if name is None:
            point(self.path / "last", target.name)
        reach("save.end")
        return target

    def warn_of_little_room(self, model_bytes: int, training_bytes: int, keep: int) -> None:
        """Say before training begins that the disk may not hold the checkpoints to come.

        At the largest there are three of the newest with all that resuming needs (one just being written), the best,
        and as many models as averaging wants.
        """
        whole = sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file() and not file.is_symlink())
        needed = 3 * (model_bytes + training_bytes) + (1 + max(0, keep - 2)) * model_bytes - whole
        free = free_bytes(self.path)
        if free < needed:
            warn(
                f"checkpoints may need {needed / 2**20:,.0f} MiB more, and {free / 2**20:,.0f} MiB are free "
                f"for {self.path}; free some space, or choose another run directory"
            )

    def mark_best(self, path: Path) -> None:
        """Point `best` at a checkpoint."""
        reach("save.before_best")
        point(self.path / "best", path.name)

    def relink(self, checkpoint: Checkpoint) -> None:
        """Point `last` and `best` where they should: an interruption may have come between a save and its links."""
        state = checkpoint.state
        if self._linked("last") != checkpoint.path.resolve():
            point(self.path / "last", checkpoint.path.name)
        best = self.path / f"step-{state.best_step:08d}" if state.best_step else checkpoint.path
        marked = self._linked("best")
        by_average = marked is not None and not _STEP.fullmatch(marked.name)
        if marked != best.resolve() and not by_average and (best / MANIFEST).exists() and state.validated:
            point(self.path / "best", best.name)

    def prune(self, keep: int) -> None:
        """Keep the newest `keep` checkpoints that were validated, the newest two of all, the best one, and two
        optimizer states."""
        reach("prune.begin")
        steps = [path for path in self.steps() if path not in self._passed_over]
        kept = {*steps[-2:], *[path for path in steps if _is_validated(path)][-keep:], self._linked("best")}
        try:
            for path in self._numbered():
                if path.is_dir() and path not in kept and path.resolve() not in kept:
                    remove_folder(path)
                elif path not in steps[-2:] and (path / _TRAINING).exists():
                    # The manifest forgets the file before the file goes: the checkpoint is valid at every instant.
                    files = read_manifest(path)
                    write_manifest(path, {name: record for name, record in files.items() if name != _TRAINING})
                    reach("prune.before_unlink")
                    (path / _TRAINING).unlink()
        except (OSError, CheckpointError) as error:
            warn(f"old checkpoints stay, as they cannot be removed: {getattr(error, 'strerror', None) or error}")
        reach("prune.end")

    def load_last(self) -> Checkpoint | None:
        """The newest checkpoint that can be resumed from; None for a fresh folder.

        A damaged one is passed over with a warning.

        Raises:
            CheckpointError: there are checkpoints, but none is usable; the newest is a pickle or of another version.
        """
        faults: list[tuple[Path, str]] = []
        for path in reversed(self._numbered()):
            try:
                checkpoint = load_checkpoint(path, with_training=True)
            except CheckpointError as error:
                if error.code in ("checkpoint.version", "checkpoint.unsafe"):
                    raise
                faults.append((path, f"is damaged ({error.what})"))
                continue
            if checkpoint.training:
                for damaged, fault in faults:
                    warn(f"{damaged.name} {fault}; using {path.name}")
                    self._passed_over.add(damaged)
                return checkpoint
            faults.append((path, "holds weights only"))
        if not faults:
            for path in sorted(self.path.glob("*")):
                refuse_pickles(path)
                if not path.name.startswith("."):
                    faults.append((path, "is left over"))
        if faults:
            names = "".join(f"\n    {path.name} {fault}" for path, fault in faults)
            raise CheckpointError(
                f"no checkpoint in {self.path} can be resumed from:{names}",
                hint="put one back from a copy, or begin anew in another folder with -o; nothing was changed",
                code="checkpoint.missing",
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
        for path in sorted(self.path.glob("*")):
            refuse_pickles(path)
        others = self.steps()
        what, hint = f"no checkpoint in {self.path}", "train first: seq2seq train CONFIG"
        if others:
            what, hint = f"the best and the last checkpoint of {self.path} are gone", f"--checkpoint {others[-1].name}"
        raise CheckpointError(what, hint=hint, code="checkpoint.missing")

    def average(self, paths: Sequence[Path]) -> dict[str, Tensor]:
        """The mean of the models' weights, summed in fp32 (fp64 on the way).

        Raises:
            CheckpointError: one is damaged.
        """
        total: dict[str, Tensor] = {}
        for path in paths:
            for name, tensor in load_checkpoint(path, with_training=False).model.items():
                total[name] = total[name] + tensor.double() if name in total else tensor.double()
        return {name: (tensor / len(paths)).float() for name, tensor in total.items()}

    def _numbered(self) -> list[Path]:
        """Everything called step-N, oldest first."""
        found = [(match, path) for path in self.path.glob("step-*") if (match := _STEP.fullmatch(path.name))]
        return [path for _, path in sorted((int(match[1]), path) for match, path in found)]

    def _linked(self, link: str) -> Path | None:
        path = self.path / link
        return path.resolve() if path.exists() else None


def load_checkpoint(path: Path, *, with_training: bool) -> Checkpoint:
    """Verify and read one checkpoint folder.

    Raises:
        CheckpointError: a file is missing or damaged, or a newer version wrote it.
    """
    files = read_manifest(path)
    for name in (_MODEL, _STATE):
        if name not in files:
            raise CheckpointError(
                f"{path / MANIFEST} does not list {name}",
                hint="choose another one: --checkpoint step-N",
                code="checkpoint.damaged",
            )
    wanted = [_MODEL, _STATE, *([_TRAINING] if with_training and _TRAINING in files else [])]
    content = {name: read_verified(path / name, files[name]) for name in wanted}
    try:
        model = safetensors.torch.load(content[_MODEL])
        training = safetensors.torch.load(content[_TRAINING]) if _TRAINING in content else {}
        state = json.loads(content[_STATE])
    except (safetensors.SafetensorError, ValueError, RecursionError):
        raise CheckpointError(
            f"{path} is damaged: its files are not what their names say",
            hint="choose another one: --checkpoint step-N",
            code="checkpoint.damaged",
        ) from None
    return Checkpoint(path, model, training, TrainState.from_json(state))


def _write(path: Path, content: bytes) -> FileRecord:
    write_bytes(path, content)
    return FileRecord.of(content)


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _is_validated(path: Path) -> bool:
    try:
        return bool(json.loads((path / _STATE).read_bytes())["validated"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


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
        raise CheckpointError(
            f"the model and its checkpoint differ in `{missing[0]}`", where=where, code="checkpoint.mismatch"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != tensors[name].shape:
                shapes = f"{tuple(tensors[name].shape)}, not {tuple(parameter.shape)}"
                raise CheckpointError(f"`{name}` has shape {shapes}", where=where, code="checkpoint.mismatch")
            parameter.copy_(tensors[name])
