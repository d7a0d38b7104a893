"""The checkpoints of a run: saving, pruning, and the names of the best and the last one.

    checkpoints/step-00000500/{model.safetensors, training.safetensors, state.json, manifest.json}   best   last

`best` and `last` are files with the name of a checkpoint. `training.safetensors` holds the optimizer state and the
random state; only the newest two checkpoints keep it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from seq2seq.atomic_files import (
    disk_errors,
    free_bytes,
    make_folder,
    no_follow,
    remove_folder,
    remove_partial,
    require_room,
    show_bytes,
    write_text,
)
from seq2seq.checkpoints.checkpoint import (
    Checkpoint,
    fault_of,
    forget_training,
    load_checkpoint,
    state_of,
    write_checkpoint,
)
from seq2seq.checkpoints.manifest import MANIFEST, refuse_pickles
from seq2seq.checkpoints.train_state import TrainState
from seq2seq.console import say, warn
from seq2seq.errors import CheckpointError, UserError
from seq2seq.failpoints import reach

MARKS = ("best", "last")
AVERAGED = "averaged"
"""Name of the checkpoint with averaged weights."""

_STEP = re.compile(r"step-(\d+)")
_NAME = re.compile(r"\w[\w.-]{0,60}")
_LONGEST_NAME = 100


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
        return [path for path in self.steps() if state_of(path).validated]

    def save(
        self,
        model: Mapping[str, Tensor],
        training: Mapping[str, Tensor],
        state: TrainState,
        name: str | None = None,
    ) -> Path:
        """Write one checkpoint (`step-N` unless named), the new `last` one.

        Raises:
            ResourceError: the disk is full; older checkpoints are untouched.
        """
        target = self.path / (name or _step_name(state.step))
        reach("save.begin")
        with disk_errors(self.path):
            make_folder(self.path)
        require_room(self.path, _size(model) + _size(training))
        write_checkpoint(target, model, training, state)
        self._skipped.discard(target)
        reach("save.after_rename")
        if name is None:
            self._mark("last", target.name)
        reach("save.end")
        return target

    def warn_if_disk_is_small(self, model_bytes: int, training_bytes: int, keep: int) -> None:
        """Warn before training that the disk may not hold the checkpoints to come.

        At most there are three complete checkpoints (one of them being written), the best model, and the models to
        average.
        """
        whole = sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())
        needed = 3 * (model_bytes + training_bytes) + (1 + max(0, keep - 2)) * model_bytes - whole
        free = free_bytes(self.path)
        if free < needed:
            warn(
                f"checkpoints may need {show_bytes(needed)} more, and {show_bytes(free)} are free "
                f"for {self.path}; free some space, or choose another run directory"
            )

    def mark_best(self, path: Path) -> None:
        """Make a checkpoint the best, unless an average of earlier ones is better."""
        reach("save.before_best")
        if not self._average_is_better_than(state_of(path).best_metric):
            self._mark("best", path.name)

    def restore_marks(self, last: Checkpoint) -> None:
        """Write `best` and `last` as the training state has them, after an interruption before they were written."""
        state = last.state
        best = self._best_name(state.best_metric, state.best_step) or (last.path.name if state.validated else "")
        for mark, name in (("last", last.path.name), ("best", best)):
            if name and (self.path / name / MANIFEST).exists() and self.marked(mark) != self.path / name:
                self._mark(mark, name)

    def name_of(self, mark: str) -> str | None:
        """The name in `best` or `last`, of a checkpoint that may be gone; None if there is none."""
        try:
            with open(self.path / mark, encoding="utf-8", opener=no_follow) as file:
                name = file.read(_LONGEST_NAME).strip()
        except (OSError, UnicodeDecodeError):
            return None
        return name if _NAME.fullmatch(name) and name not in MARKS else None

    def marked(self, mark: str) -> Path | None:
        """The checkpoint that is `best` or `last`; None if no name is recorded or the checkpoint is gone."""
        name = self.name_of(mark)
        return self.path / name if name and (self.path / name).is_dir() else None

    def find(self, name: str) -> Path | None:
        """The checkpoint of this name, `best` and `last` included; None if there is none."""
        if name in MARKS:
            return self.marked(name)
        return self.path / name if _NAME.fullmatch(name) and (self.path / name).is_dir() else None

    def prune(self, keep: int) -> None:
        """Remove all checkpoints but the newest `keep` validated ones, the newest two, and the best.

        Only the newest two keep their optimizer state.
        """
        reach("prune.begin")
        steps = [path for path in self.steps() if path not in self._skipped]
        kept = {*steps[-2:], *[path for path in steps if state_of(path).validated][-keep:], self.marked("best")}
        faults: list[OSError | UserError] = []
        for path in self._numbered():
            try:
                if path.is_dir() and path not in kept:
                    remove_folder(path)
                elif path not in steps[-2:]:
                    forget_training(path)
            except (OSError, UserError) as error:  # others may still be removable
                faults.append(error)
        if faults:
            reason = getattr(faults[0], "strerror", None) or getattr(faults[0], "what", None) or faults[0]
            warn(f"old checkpoints cannot be removed: {reason}")
        reach("prune.end")

    def keep_best(self) -> None:
        """Remove what only further training needs: all checkpoints but the best, and its optimizer state."""
        marked = self.marked("best")
        for path in self.steps() if marked else []:
            if path == marked:
                forget_training(path)
            else:
                remove_folder(path)

    def load_last(self) -> Checkpoint | None:
        """Load the newest checkpoint that can be resumed from; None in a new folder.

        A damaged one is skipped with a warning. If the best one is damaged or gone, the state names the next best.

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
                self._replace_damaged_best(checkpoint)
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

    def best(self, result: str = "") -> tuple[Path, str]:
        """The best checkpoint, and a warning if it had to be found without `best`; the last one without a validation.

        `result` is the name of the checkpoint that the results of the run are of, if they are known; else the training
        state names the best one.

        Raises:
            CheckpointError: there is none.
        """
        if marked := self.marked("best"):
            return marked, ""
        last, name, mark = self._last(), self.name_of("best"), self.path / "best"
        lost = f"{mark} names {name}, which is gone" if name else f"{mark} is missing or damaged"
        state = state_of(last)
        recorded = result or self._best_name(state.best_metric, state.best_step)
        found = self.find(recorded) if recorded else last
        if found == last and not name:
            return last, ""
        if found:
            again = f"to write it again: echo {found.name} > {mark}"
            return found, f"{lost}; the records of the run name {found.name} ({again})"
        hint = "put it back from a copy of the run, or take another one with --checkpoint"
        return last, f"{lost}, so the last checkpoint is used, {last.name}; {hint}"

    def load_best(self, result: str = "") -> Checkpoint:
        """Load the best checkpoint; see `best`.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        path, lost = self.best(result)
        checkpoint = load_checkpoint(path, with_training=False)
        if lost:
            warn(lost)
        return checkpoint

    def _last(self) -> Path:
        """The checkpoint that is `last`, or else the one of the latest step. Raises `CheckpointError` without any."""
        if marked := self.marked("last"):
            return marked
        if steps := self.steps():
            return steps[-1]
        for path in sorted(self.path.glob("*")):
            refuse_pickles(path)
        what, hint = f"no checkpoint in {self.path}", "train first: seq2seq train CONFIG"
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

    def _best_name(self, metric: float | None, step: int) -> str:
        """Name of the best checkpoint if `step` is the best step, with this metric; empty without a validation."""
        return AVERAGED if self._average_is_better_than(metric) else _step_name(step) if step else ""

    def _average_is_better_than(self, metric: float | None) -> bool:
        """True if an earlier end of this run left an average of checkpoints with a better metric."""
        path = self.path / AVERAGED
        mean = None if path in self._skipped or not (path / MANIFEST).exists() else state_of(path).best_metric
        return mean is not None and (metric is None or mean > metric)

    def _replace_damaged_best(self, last: Checkpoint) -> None:
        """If the best checkpoint is damaged or gone, warn and take the best of the others.

        Otherwise training to the end would find it out. Every rank decides the same, from the checkpoints alone.
        """
        state = last.state
        if self._average_is_better_than(state.best_metric):
            if (fault := fault_of(self.path / AVERAGED)) is None:
                return
            warn(f"the best model is lost: {fault}; without it, the best step is the best again")
            self._skipped.add(self.path / AVERAGED)
        best = self.path / _step_name(state.best_step)
        if not state.best_step or best == last.path or (fault := fault_of(best)) is None:
            return
        self._skipped.add(best)
        others = [path for path in self.validated() if path not in self._skipped and fault_of(path) is None]
        metrics = {path: state_of(path).metric for path in others}
        known = [path for path in others if metrics[path] is not None]
        chosen = max(known, key=lambda path: metrics[path] or 0.0) if known else next(reversed(others), None)
        state.best_step = int(chosen.name.removeprefix("step-")) if chosen else 0
        state.best_metric = metrics[chosen] if chosen else None
        state.best_loss = None  # it was that of the damaged model
        instead = f"{chosen.name} is the best of the others" if chosen else "the next validation chooses another"
        warn(f"the best model is lost: {fault}; {instead} (to keep it, put {best} back from a copy before training)")

    def _mark(self, mark: str, name: str) -> None:
        write_text(self.path / mark, name + "\n")

    def _numbered(self) -> list[Path]:
        """All entries named step-N, oldest first."""
        # Not glob, which finds nothing in a folder that may not be read.
        entries = self.path.iterdir() if self.path.is_dir() else ()
        numbered = [(match, path) for path in entries if (match := _STEP.fullmatch(path.name))]
        return [path for _, path in sorted((int(match[1]), path) for match, path in numbered)]


def _step_name(step: int) -> str:
    return f"step-{step:08d}"


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
