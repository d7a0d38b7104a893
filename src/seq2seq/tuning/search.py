"""A search on exact resume: each trial is a run that pauses at the end of a rung, and goes on if it is among the best.

Trials are compared on the validation set alone; the test set is translated once by each trial that ends.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq.atomic_files import make_folder, remove_folder, write_text
from seq2seq.checkpoints.checkpoint import read_state, state_of
from seq2seq.checkpoints.folder import CheckpointFolder
from seq2seq.config import Config, config_to_yaml
from seq2seq.config.differences import differences
from seq2seq.config.yaml import add_comments
from seq2seq.console import counted, duration, muted, say, warn
from seq2seq.errors import CheckpointError, ConfigError, UsageError, UserError
from seq2seq.runs.directory import VALIDATION_SCORES, RunDirectory
from seq2seq.runs.estimate import as_trained
from seq2seq.runs.lock import locked
from seq2seq.runs.run_config import load_run_config
from seq2seq.runs.run_data import check_data
from seq2seq.runs.train import Refresh, estimate, train
from seq2seq.sealed_records import Estimate
from seq2seq.signals import Interrupted, Stop
from seq2seq.tuning.ensemble import members_of
from seq2seq.tuning.halving import MOST_TRIALS, Budget, SearchPlan, make_plan
from seq2seq.tuning.record import FILE, RungScore, Search, Trial, load_search
from seq2seq.tuning.setup import Setup
from seq2seq.tuning.space import (
    Sampler,
    choose_sampler,
    describe,
    next_choice,
    settings_of,
    size,
)

BEST = "best.yaml"
_TELLING_SCORE = 5.0
"""BLEU or chrF from which it orders trials; below, the loss does."""
_FREE_SETTINGS = ("name", "run_directory", "device", "devices", "threads", "data.num_processes", "training.num_workers")
"""Settings that may change before a search goes on."""
_SPARE_TRIALS = 2
"""Trials beside those that go on that could still do so: they end where time is left, or where better ones fail."""
_SHORT_TRIALS = 0.6
"""Share of a config's steps below which trials say little about whole trainings."""
_LEAST_HURRIED = 0.5
"""Share of its time for which a member of an ensemble is trained to an earlier end rather than left out."""
_MOST_STARTS = 3
"""Starts without an end after which a trial is left out: its process was killed each time."""
_FATAL = ("disk.", "usage.", "data.", "network.", "hub.", "config.data-changed", "device.")
"""Codes of errors that no other trial would escape."""
_START_SHARE = 0.5
"""Of the time of the estimate, what the start of a trial takes: its data are partly prepared."""


class TuneResult(NamedTuple):
    """Result of a search."""

    folder: Path
    best: Trial
    finalists: list[Trial]
    """Trials that ended, the best first; the best of those that paused is added to a single one."""
    search: Search
    config: Path
    """The complete config of the best trial."""
    members: list[Trial]
    """The best finalists, with one vocabulary, for an ensemble; empty if none was asked for, or one alone ended."""


class Preparation(NamedTuple):
    """What is decided before the first trial."""

    estimate: Estimate
    plan: SearchPlan
    sampler: Sampler
    start_seconds: float


def prepare(setup: Setup, minutes: float, sampler: Sampler) -> Preparation:
    """Measure the config on this machine, and plan the search.

    Raises:
        UserError: the config cannot be trained, or the budget is too short.
    """
    choose_sampler(sampler, setup.space, 0)
    begun = time.monotonic()
    found = estimate(setup.config)
    took = time.monotonic() - begun
    start = _START_SHARE * took
    plan = make_plan(Budget(minutes, took, start, size(setup.space), setup.members), found)
    return Preparation(found, plan, choose_sampler(sampler, setup.space, plan.trials), start)


def tune(
    setup: Setup, folder: Path, minutes: float, *, sampler: Sampler = "auto", refresh: Refresh | None = None
) -> TuneResult:
    """Search in a folder, or go on with the search in it.

    Raises:
        UserError: the config cannot be trained, the command or a corpus has changed, or every trial failed.
        Interrupted: a signal came; the same call continues.
    """
    begun, is_new = time.monotonic(), not folder.exists()
    try:
        make_folder(folder)
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder}: {error.strerror}", hint="choose another with -o", code="usage.unwritable"
        ) from None
    try:
        with locked(folder):
            search = _search_in(folder, setup, minutes, sampler)
            return _Tuner(setup, folder, minutes, search, refresh, begun).run()
    except UserError:
        if is_new and not (folder / FILE).exists():  # it was refused before it had begun
            remove_folder(folder)
        raise
    except Stop as stop:
        stop.kept = stop.kept or "finished trials are saved; run the same command to continue"
        raise


def _search_in(folder: Path, setup: Setup, minutes: float, sampler: Sampler) -> Search:
    """The search that this command began in a folder, or a new one.

    Raises:
        UserError: it was begun by another command, a corpus has changed, or a new one cannot be planned.
    """
    command = {
        "config": setup.config.model_dump(mode="json"),
        "space": [[dimension.name, *map(list, dimension.settings)] for dimension in setup.space],
        "budget": minutes,
        "sampler": sampler,
        "ensemble": setup.members,
    }
    if found := load_search(folder):
        _check_command(folder, found.command, json.loads(json.dumps(command)))
        if not found.finished:
            _check_data(folder, found, setup)
            say(f"going on with the search in {folder}: {len(found.trials)} trials in {found.seconds / 60:.1f} minutes")
        return found
    taken = [name for name in ("config.yaml", "trial-000") if (folder / name).exists()]
    if taken:
        raise UsageError(
            f"{folder} holds {taken[0]}, which is not of a search",
            hint="choose another folder with -o",
            code="usage.exists",
        )
    preparation = prepare(setup, minutes, sampler)
    say(show_plan(preparation))
    search = Search(
        command=command,
        sampler=preparation.sampler,
        plan=preparation.plan,
        start_seconds=preparation.start_seconds,
    )
    search.save(folder)
    return search


def _check_command(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = (Config.model_validate(command["config"]) for command in (before, now))
    changes = [f"{key}: {value} -> {other}" for key, value, other in differences(old, new) if key not in _FREE_SETTINGS]
    before = {"ensemble": 1} | before  # a search from before there were ensembles
    changes += [
        f"--{name}: {before[name]} -> {now[name]}"
        for name in ("budget", "sampler", "ensemble")
        if before[name] != now[name]
    ]
    if before["space"] != now["space"] and not changes:
        changes.append("other settings are searched")
    if changes:
        raise ConfigError(
            f"the search in {folder} was started with another command:"
            + "".join(f"\n    {change}" for change in changes),
            hint="repeat the first command, or search in another folder with -o",
            code="config.changed",
        )


def _check_data(folder: Path, search: Search, setup: Setup) -> None:
    """Raise `ConfigError` if a corpus has changed since the first trial."""
    for trial in search.trials:
        directory = RunDirectory(folder / trial.name)
        if directory.has_checkpoints:
            check_data(directory, setup.trial_config(trial.settings))
            return


class _Tuner:
    """One call of `tune`."""

    def __init__(
        self, setup: Setup, folder: Path, minutes: float, search: Search, refresh: Refresh | None, begun: float
    ) -> None:
        self.setup, self.folder, self.minutes, self.search, self.refresh = setup, folder, minutes, search, refresh
        self._begun, self._before = begun, search.seconds
        self._starts: list[float] = []

    def run(self) -> TuneResult:
        """All rungs that have not ended yet."""
        search = self.search
        if search.finished:
            say(f"{self.folder} is finished; its results follow (tune into another folder to search again)")
            return self._result()
        if search.rung == 0:
            self._first_rung()
        while search.rung < len(search.plan.shares):
            self._later_rung()
        search.finished = True
        self._save()
        return self._result()

    # -- rungs --------------------------------------------------------------------------------------------------------

    def _first_rung(self) -> None:
        """Begin trials while there is time for them and for what follows."""
        search = self.search
        choices = [tuple(trial.choice) for trial in search.trials]
        while len(choices) < MOST_TRIALS:
            trial = next((trial for trial in search.trials if not trial.scores and not trial.error), None)
            if trial is None:
                plan, start = self._expected(), self.search.start_seconds
                scored = sum(bool(trial.scores) for trial in search.trials)
                needed = plan.rung_seconds(0, start) + plan.cost(scored + 1, start, first=1)
                # Where not all members of an ensemble seem to fit, those that begin may still turn out to be faster.
                least = max(2, min(search.plan.members, search.plan.trials))
                if scored >= least and needed > self._left():
                    break
                if not scored and choices and self._left() <= 0:  # every trial has failed
                    break
                ranking = [tuple(trial.choice) for trial in self._ranked(0)]
                sampler: Sampler = search.sampler  # type: ignore[assignment]
                choice = next_choice(sampler, self.setup.space, choices, ranking, self.setup.config.seed)
                if choice is None:
                    break
                settings = settings_of(self.setup.space, choice)
                trial = Trial(number=len(choices), choice=list(choice), settings=settings)
                search.trials.append(trial)
                choices.append(choice)
            self._train(trial)
            self._free_disk(self._ranked(0))
        self._end_rung()

    def _later_rung(self) -> None:
        """Let the best trials go on; the best one always does, so that a search ends with a whole trial."""
        search, plan = self.search, self._expected()
        is_last = plan.shares[search.rung] == 1.0
        most = plan.survivors(sum(bool(trial.scores) for trial in search.trials), search.rung)
        most += _SPARE_TRIALS if is_last else 0
        done = 0
        for place, trial in enumerate([search.trials[number] for number in search.going_on]):
            if len(trial.scores) > search.rung:
                done += 1
                continue
            if done and (place >= most or self._least_seconds(plan, done) > self._left()):
                break
            if not trial.error:
                needed = plan.rung_seconds(search.rung, search.start_seconds)
                self._train(trial, hurries=is_last and needed > self._left())
                done += not trial.error
        self._end_rung()

    def _least_seconds(self, plan: SearchPlan, done: int) -> float:
        """Seconds that must be left for another trial to go on in this rung, which `done` trials have ended."""
        search, start = self.search, self.search.start_seconds
        needed = plan.rung_seconds(search.rung, start)
        if plan.shares[search.rung] < 1.0:  # those that have ended the rung keep the time for their end
            return needed + plan.cost(max(1, min(done, plan.members)), start, first=search.rung + 1)
        return (_LEAST_HURRIED if done < plan.members else 1.0) * needed + plan.ensemble_seconds(plan.trials)

    def _end_rung(self) -> None:
        search = self.search
        ranked = self._ranked(search.rung)
        if not ranked:
            errors = [trial.error for trial in search.trials if trial.error]
            raise ConfigError(
                f"all trials failed; the first one: {errors[0] if errors else 'unknown'}",
                hint=f"seq2seq train {self.folder / search.trials[0].name / 'config.yaml'} shows more",
                code="config.no-trial",
            )
        self._free_disk(ranked)
        search.going_on = [trial.number for trial in ranked]
        search.rung += 1
        self._save()

    def _free_disk(self, ranked: Sequence[Trial]) -> None:
        """Keep the best model alone of trials that will not go on."""
        search = self.search
        if search.rung < len(search.plan.shares) - 1:
            total = max(search.plan.trials, len(ranked)) if search.rung == 0 else len(search.trials)
            for trial in ranked[self.search.plan.survivors(total, search.rung + 1) + _SPARE_TRIALS :]:
                with suppress(OSError, UserError):  # what cannot be removed does no harm
                    CheckpointFolder(self.folder / trial.name / "checkpoints").keep_best()

    def _ranked(self, rung: int) -> list[Trial]:
        """Trials that have ended a rung, the best first; by their loss where no score tells them apart yet."""
        ended = [trial for trial in self.search.trials if len(trial.scores) > rung]
        scores = [trial.scores[rung] for trial in ended]
        tells = max((score.score for score in scores), default=0.0) >= _TELLING_SCORE
        if rung == len(self.search.plan.shares) - 1:
            tells = not scores or scores[0].metric != "loss"
        return sorted(
            ended,
            key=lambda trial: (
                (-trial.scores[rung].score, trial.scores[rung].loss)
                if tells
                else (trial.scores[rung].loss, -trial.scores[rung].score)
            ),
        )

    # -- one trial ----------------------------------------------------------------------------------------------------

    def _train(self, trial: Trial, *, hurries: bool = False) -> None:
        """Train a trial to the end of the present rung, and note its score or its failure."""
        search, path = self.search, self.folder / trial.name
        share = search.plan.shares[search.rung]
        trial.starts += 1
        self._save()
        if trial.starts > _MOST_STARTS:
            self._fail(trial, f"its process was killed {_MOST_STARTS} times")
            return
        more = [f"name={trial.name}", f"run_directory={json.dumps(str(path))}"]
        trained = trial.scores[-1].seconds if trial.scores else 0.0
        if hurries:
            end = search.plan.end_seconds + search.plan.ensemble_seconds(search.plan.trials)
            left = max(1.0, self._left() - self.search.start_seconds - end)
            more.append(f"training.max_minutes={(trained + left) / 60:.4f}")
        begun = time.monotonic()
        try:
            config = self.setup.trial_config(trial.settings, [*more, *self._limits(trial)])
            with muted():
                train(config, refresh=self.refresh if share == 1.0 else None, share=share)
            gc.collect()  # the model of this trial, before that of the next one
            score = _score_of(path)
        except (Interrupted, Stop) as end:
            trial.starts = 0
            end.kept = f"{trial.name}: {end.kept}" if end.kept else ""
            self._save()
            raise
        except UserError as error:
            if error.code.startswith(_FATAL):
                raise
            self._fail(trial, f"{error.what.splitlines()[0]} [{error.code}]")
            return
        except Exception as error:  # a fault of one trial, whatever it is, does not cost the others
            self._fail(trial, f"{type(error).__name__}: {error}".splitlines()[0])
            return
        self._starts.append(max(0.0, time.monotonic() - begun - (score.seconds - trained)))
        search.start_seconds = statistics.median(self._starts) if share < 1.0 else search.start_seconds
        trial.starts, trial.scores = 0, [*trial.scores, score]
        self._save()
        say(
            f"{trial.name}  {show_score(score)} after {counted(score.step, 'step')}, {share:.0%}  [{self._clock()}]\n"
            f"    {describe(self.setup.space, tuple(trial.choice))}"
        )

    def _limits(self, trial: Trial) -> list[str]:
        """The time of a trial, and its steps where the budget does not allow all: as many passes for all of them."""
        limits = [f"training.budget_minutes={self.search.plan.most_minutes(self.minutes)}"]
        if (steps := self.search.plan.steps) is not None:
            training = self.setup.trial_config(trial.settings).training
            steps = max(2, round(steps * training.max_steps / self.setup.config.training.max_steps))
            limits.append(f"training.max_steps={steps}")
            limits.append(f"training.schedule.warmup_steps={min(training.schedule.warmup_steps, max(1, steps // 9))}")
        return limits

    def _fail(self, trial: Trial, why: str) -> None:
        trial.error, trial.starts = why, 0
        self._save()
        warn(f"{trial.name} failed and is left out: {why} ({describe(self.setup.space, tuple(trial.choice))})")

    # -- time ---------------------------------------------------------------------------------------------------------

    def _expected(self) -> SearchPlan:
        """The plan at the pace of the trials so far, which may be faster or slower than the timed steps were."""
        plan = self.search.plan
        paces = [
            trial.scores[0].seconds / (plan.shares[0] * plan.seconds) for trial in self.search.trials if trial.scores
        ]
        return plan.at_pace(plan.seconds * statistics.median(paces)) if paces else plan

    def _left(self) -> float:
        return 60.0 * self.minutes - self._spent()

    def _spent(self) -> float:
        return self._before + time.monotonic() - self._begun

    def _clock(self) -> str:
        return f"{self._spent() / 60:.1f} of {self.minutes:g} min"

    def _save(self) -> None:
        self.search.seconds = self._spent()
        self.search.save(self.folder)

    # -- end ----------------------------------------------------------------------------------------------------------

    def _result(self) -> TuneResult:
        search = self.search
        finalists = self._ranked(len(search.plan.shares) - 1)
        best = finalists[0]
        config, text = self.folder / BEST, self._best_config(best)
        # The first line names the best trial. A file that has it may have been edited since.
        if not config.exists() or not config.read_bytes().startswith(text.encode().splitlines()[0]):
            write_text(config, text)
        others = [search.trials[number] for number in search.going_on if search.trials[number] not in finalists]
        shown = finalists if len(finalists) > 1 else [best, *others[:1]]
        members = members_of(self.folder, finalists, search.plan.members) if search.plan.members > 1 else []
        return TuneResult(self.folder, best, shown, search, config, members)

    def _best_config(self, best: Trial) -> str:
        """The config of the best trial, with what was tried."""
        directory = RunDirectory(self.folder / best.name)
        config = as_trained(directory, load_run_config(directory))
        own = self.setup.config.training.max_minutes
        training = config.training.model_copy(update={"budget_minutes": None, "max_minutes": own})
        config = config.model_copy(update={"name": "best", "run_directory": None, "training": training})
        reasons: dict[str, str] = {}
        for place, dimension in enumerate(self.setup.space):
            tried_here = {trial.choice[place] for trial in self.search.trials if trial.scores}
            labels = [dimension.labels[index] for index in sorted(tried_here)]
            for key in {text.partition("=")[0] for texts in dimension.settings for text in texts}:
                if len(labels) > 1:
                    own = key == dimension.name
                    reasons[key] = f"tuned; tried {', '.join(labels)}" if own else f"tuned with {dimension.name}"
        tried, score = len(self.search.trials), show_score(best.scores[-1])
        return (
            f"# The best of {tried} trials on the validation set, {score}: {self.folder / best.name}\n"
            f"# Train it again with: seq2seq train {self.folder / BEST}\n"
            + add_comments(config_to_yaml(config), reasons)
        )


def _score_of(path: Path) -> RungScore:
    """The validation scores of a trial so far.

    Raises:
        CheckpointError: it has none, or its last checkpoint is damaged.
    """
    directory = RunDirectory(path)
    folder = CheckpointFolder(directory.checkpoints)
    best, last = state_of(folder.best()[0]).best_metric, read_state(folder.steps()[-1])
    rows = [row for row in directory.load_metrics() if row.get("kind") == "validation"]
    losses = [float(row["loss"]) for row in rows if isinstance(row.get("loss"), float)]
    record = directory.load_data_record()
    if best is None or not losses or record is None or not math.isfinite(best + min(losses)):
        raise CheckpointError(f"{path} has no validation score", hint="give a validation set", code="run.damaged")
    tokens = record.tokens.get("target", 1) / max(1, sum(record.corpora))
    return RungScore(
        score=best,
        loss=min(losses) * tokens,
        metric=next((name for key, name in VALIDATION_SCORES if rows[-1].get(key) is not None), "loss"),
        step=last.step,
        seconds=last.seconds,
    )


def show_score(score: RungScore) -> str:
    """A score with its name."""
    return f"loss {-score.score:.3f}" if score.metric == "loss" else f"{score.metric} {score.score:.2f}"


def show_plan(preparation: Preparation) -> str:
    """A line about a plan, and another if its trials are so short that a single training is the better use of it."""
    plan, stages = preparation.plan, []
    for rung, share in enumerate(plan.shares):
        count = plan.survivors(plan.trials, rung)
        stages.append(f"{count} to the end" if share == 1.0 else f"{count} for {share:.0%} of the steps")
    line = f"trials: about {', then '.join(stages)}; a whole trial takes {duration(plan.seconds)}"
    line += f" (sampler: {preparation.sampler})"
    share = 1.0 if plan.steps is None else plan.steps / preparation.estimate.steps
    if share < _SHORT_TRIALS:
        line += (
            f"\nthe budget leaves each trial {share:.0%} of the steps of the config: a single training in that time "
            "(seq2seq train CONFIG --budget TIME) may well end better than the best of such short ones"
        )
    return line
