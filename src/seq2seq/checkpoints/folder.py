"""The checkpoints of a run: saving, pruning, and the links to the best and the last one.

    checkpoints/step-00000500/{model.safetensors, training.safetensors, state.json, manifest.json}   best ->   last ->

`training.safetensors` holds the optimizer state and the random state; only the newest two checkpoints keep it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from seq2seq.atomic_files import disk_error, free_bytes, make_folder, point, remove_folder, remove_partial, require_room
from seq2seq.checkpoints.checkpoint import (
    Checkpoint,
    best_metric_of,
    forget_training,
    is_validated,
    load_checkpoint,
    write_checkpoint,
)
from seq2seq.checkpoints.manifest import MANIFEST, refuse_pickles
from seq2seq.checkpoints.train_state import TrainState
from seq2seq.console import say, warn
from seq2seq.errors import CheckpointError, UserError
from seq2seq.failpoints import reach

_STEP = re.compile(r"step-(\d+)")


class CheckpointFolder:
    """The `checkpoints/` folder of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._skipped: set[Path] = set()

    def clean(self) -> None:
        """Remove unfinished saves, with a message."""
        for name in remove_partial(self.path):
            say(f"removed an unfinished save of {name}")
        for path in self._numbered():
            with suppress(OSError):  # a partial manifest, from an interruption in `forget_training`
                remove_partial(path)

    def steps(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return [path for path in self._numbered() if (path / MANIFEST).exists()]

    def validated(self) -> list[Path]:
        """Complete checkpoints that were saved right after a validation, oldest first."""
        return [path for path in self.steps() if is_validated(path)]

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
        write_checkpoint(target, model, training, state)
        self._skipped.discard(target)
        reach("save.after_rename")
        if name is None:
            point(self.path / "last", target.name)
        reach("save.end")
        return target

    def warn_if_disk_is_small(self, model_bytes: int, training_bytes: int, keep: int) -> None:
        """Warn before training that the disk may not hold the checkpoints to come.

        At most there are three complete checkpoints (one of them being written), the best model, and the models to
        average.
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
        """Point `best` at a checkpoint, unless it points at an average of earlier ones that is better."""
        reach("save.before_best")
        if not self._average_is_better_than(best_metric_of(path)):
            point(self.path / "best", path.name)

    def relink(self, checkpoint: Checkpoint) -> None:
        """Repair the links `last` and `best` after an interruption between a save and its links."""
        state = checkpoint.state
        if self._linked("last") != checkpoint.path.resolve():
            point(self.path / "last", checkpoint.path.name)
        best = self.path / f"step-{state.best_step:08d}" if state.best_step else checkpoint.path
        moved = self._linked("best") != best.resolve() and not self._average_is_better_than(state.best_metric)
        if moved and (best / MANIFEST).exists() and state.validated:
            point(self.path / "best", best.name)

    def prune(self, keep: int) -> None:
        """Remove all checkpoints but the newest `keep` validated ones, the newest two, and the best.

        Only the newest two keep their optimizer state.
        """
        reach("prune.begin")
        steps = [path for path in self.steps() if path not in self._skipped]
        kept = {*steps[-2:], *[path for path in steps if is_validated(path)][-keep:], self._linked("best")}
        faults: list[OSError | UserError] = []
        for path in self._numbered():
            try:
                if path.is_dir() and path not in kept and path.resolve() not in kept:
                    remove_folder(path)
                elif path not in steps[-2:]:
                    forget_training(path)
            except (OSError, UserError) as error:  # others may still be removable
                faults.append(error)
        if faults:
            reason = getattr(faults[0], "strerror", None) or getattr(faults[0], "what", None) or faults[0]
            warn(f"old checkpoints cannot be removed: {reason}")
        reach("prune.end")

    def load_last(self) -> Checkpoint | None:
        """Load the newest checkpoint that can be resumed from; None in a new folder.

        A damaged one is skipped with a warning.

        Raises:
            CheckpointError: no checkpoint is usable, or the newest is a pickle or of another version.
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
                    self._skipped.add(damaged)
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
                hint="put one back from a copy, or start again in another folder with -o; nothing was changed",
                code="checkpoint.missing",
            )
        return None

    def load_best(self) -> Checkpoint:
        """Load the best model, or the last one if no validation has marked one.

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
        steps = self.steps()
        what, hint = f"no checkpoint in {self.path}", "train first: seq2seq train CONFIG"
        if steps:
            what, hint = f"the best and the last checkpoint of {self.path} are gone", f"--checkpoint {steps[-1].name}"
        raise CheckpointError(what, hint=hint, code="checkpoint.missing")

    def average(self, paths: Sequence[Path]) -> dict[str, Tensor]:
        """Average the weights of checkpoints, summed in fp64 and returned in fp32.

        Raises:
            CheckpointError: one is damaged.
        """
        total: dict[str, Tensor] = {}
        for path in paths:
            for name, tensor in load_checkpoint(path, with_training=False).model.items():
                total[name] = total[name] + tensor.double() if name in total else tensor.double()
        return {name: (tensor / len(paths)).float() for name, tensor in total.items()}

    def _average_is_better_than(self, metric: float | None) -> bool:
        """Whether `best` is an average from an earlier end of this run, with a better metric."""
        marked = self._linked("best")
        if marked is None or _STEP.fullmatch(marked.name):
            return False
        mean = best_metric_of(marked)
        return mean is not None and (metric is None or mean > metric)

    def _numbered(self) -> list[Path]:
        """All entries named step-N, oldest first."""
        numbered = [(match, path) for path in self.path.glob("step-*") if (match := _STEP.fullmatch(path.name))]
        return [path for _, path in sorted((int(match[1]), path) for match, path in numbered)]

    def _linked(self, link: str) -> Path | None:
        path = self.path / link
        return path.resolve() if path.exists() else None


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
