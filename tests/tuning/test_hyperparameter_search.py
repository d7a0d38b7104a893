"""The search, in a world where training takes no time and quality is a formula."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.tuning.test_halving import estimate

from seq2seq.config import Config, config_to_yaml, load_config
from seq2seq.errors import CheckpointError, ConfigError, DivergenceError, ResourceError, UsageError
from seq2seq.sealed_records import DataRecord, Estimate, write_record
from seq2seq.signals import Interrupted
from seq2seq.tuning import search
from seq2seq.tuning.record import FILE, RungScore, load_search
from seq2seq.tuning.search import TuneResult, tune
from seq2seq.tuning.setup import read_setup

BASE = ["data.holdout=5", "training.max_steps=1000", "training.schedule.warmup_steps=10"]
RATES = "training.optimizer.learning_rate=1e-4,2e-4,5e-4,1e-3,2e-3,3e-3,5e-3,1e-2,2e-2"
WHOLE_SECONDS = 100.0


@dataclass
class World:
    """Training in a world with a clock of its own; `events` are called before each training with the run and share."""

    slowness: float = 1.0
    now: float = 0.0
    trained: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    calls: list[tuple[str, float]] = field(default_factory=list)
    before: Callable[[str, float], None] = lambda name, share: None
    scale: float = 30.0
    tested: list[str] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def estimate(self, config: Config) -> Estimate:
        self.now += 4.0
        return estimate(config.training.max_steps, WHOLE_SECONDS / 1000, validation=0.0, end=3.0)

    def train(self, config: Config, *, refresh: object, share: float) -> None:
        assert config.run_directory is not None
        path = Path(config.run_directory)
        self.now += 2.0
        path.mkdir(exist_ok=True)
        self.before(path.name, share)
        before = self.trained.get(path.name, 0.0)
        self.calls.append((path.name, share))
        training = config.training
        whole = self.slowness * training.max_steps * WHOLE_SECONDS / 1000
        # As `runs.estimate` and the trainer do: a budget has fewer steps where they are slow.
        assert training.budget_minutes is not None
        whole = min(whole, 60.0 * training.budget_minutes - 3.0)
        done = max(before, min(whole * share, 60.0 * (training.max_minutes or 1e9)))
        self.now += done - before
        self.trained[path.name] = done
        self.rates[path.name] = training.optimizer.learning_rate
        if share == 1.0:
            self.now += 3.0
            self.tested.append(path.name)
            (path / "config.yaml").write_text(config_to_yaml(config), encoding="utf-8")

    def score_of(self, path: Path) -> RungScore:
        quality = 1.0 / (1.0 + abs(self.rates[path.name] / 3e-3 - 1.0))
        share = self.trained[path.name] / WHOLE_SECONDS
        return RungScore(
            score=self.scale * quality * share,
            loss=5.0 - quality,
            metric="BLEU",
            step=int(1000 * share),
            seconds=self.trained[path.name],
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(search, "time", SimpleNamespace(monotonic=made.monotonic))
    monkeypatch.setattr(search, "gc", SimpleNamespace(collect=lambda: None))  # there are no models
    monkeypatch.setattr(search, "estimate", made.estimate)
    monkeypatch.setattr(search, "train", made.train)
    monkeypatch.setattr(search, "_score_of", made.score_of)
    return made


def run(folder: Path, minutes: float = 10.0, *overrides: str, sampler: Any = "random", members: int = 1) -> TuneResult:
    return tune(read_setup([], [*BASE, *(overrides or [RATES])], members), folder, minutes, sampler=sampler)


def rate_of(result: TuneResult) -> str:
    return result.best.settings[0].partition("=")[2]


def test_the_best_is_found_and_nothing_is_repeated(world: World, tmp_path: Path) -> None:
    result = run(tmp_path / "t")
    assert rate_of(result) == "3e-3"
    assert len(set(world.calls)) == len(world.calls)
    names = [name for name, _ in world.calls]
    assert sorted(set(names)) == [f"trial-00{number}" for number in range(9)]
    shares = {name: [share for other, share in world.calls if other == name] for name in names}
    assert sum(len(found) == 1 for found in shares.values()) > 3, "two thirds do not go on"
    assert shares[result.best.name][-1] == 1.0
    assert world.tested[0] == result.best.name, "the best one ends first"
    assert world.now <= 600
    kept = load_search(tmp_path / "t")
    assert kept is not None
    assert kept.trials == result.search.trials
    assert result.search.finished


def test_trials_that_do_not_go_on_free_the_disk(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freed: set[str] = set()
    monkeypatch.setattr(
        search.CheckpointFolder, "keep_best", lambda self: freed.add(self.path.parent.name), raising=True
    )
    result = run(tmp_path / "t")
    went_on = {name for name, share in world.calls if share > 0.2}
    assert 3 <= len(freed) <= 6
    assert not freed & went_on
    assert result.best.name not in freed


@pytest.mark.parametrize("slowness", [0.3, 1.0, 2.0, 6.0])
@pytest.mark.parametrize("minutes", [2.0, 5.0, 30.0])
def test_a_search_ends_in_time_with_a_whole_trial(
    minutes: float, slowness: float, world: World, tmp_path: Path
) -> None:
    """Short budgets once ended with the best trial paused and without a score."""
    world.slowness = slowness
    result = run(tmp_path / "t", minutes)
    assert result.best.name in world.tested
    assert len(result.best.scores) == len(result.search.plan.shares)
    late = world.now / (60 * minutes) - 1
    assert late <= (0 if slowness <= 1.0 else 0.5)
    assert world.now >= 0.4 * 60 * minutes or len(result.search.trials) == 9


@pytest.mark.parametrize("members", [2, 3, 5])
def test_the_members_of_an_ensemble_are_the_best_trials_and_end_in_time(
    members: int, world: World, tmp_path: Path
) -> None:
    result = run(tmp_path / "t", members=members)
    assert result.members == result.finalists[:members]
    assert len(result.members) == members
    assert set(world.tested) >= {trial.name for trial in result.members}
    assert world.now <= 600 - 3.0 * members, "the scores of the ensemble fit, too"
    with pytest.raises(ConfigError, match=f"--ensemble: {members} -> 1"):
        run(tmp_path / "t")


def test_slow_trials_leave_an_ensemble_fewer_members(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.slowness = 2.5
    result = run(tmp_path / "t", 8.0, members=4)
    assert len(result.search.trials) >= 4, "all that the ensemble wants begin"
    assert len(result.finalists) < 4
    assert "of the 4 trials for the ensemble trained to the end" in capsys.readouterr().err
    assert world.now <= 1.2 * 480


def test_a_member_that_nearly_fits_ends_earlier(world: World, tmp_path: Path) -> None:
    """Seven minutes of 52 were left over, and the third member would have taken eight."""
    durations = iter([1.0, 1.15])

    def before(name: str, share: float) -> None:
        world.slowness = next(durations, 1.15) if share == 1.0 else 1.0

    world.before = before
    result = run(tmp_path / "t", 7.0, members=3)
    assert len(result.members) == 3
    assert world.now <= 420


@pytest.mark.parametrize("minutes", [4.0, 5.0, 6.0, 8.0])
@pytest.mark.parametrize("members", [2, 3])
def test_no_member_is_given_up_while_there_is_time_for_it(
    members: int, minutes: float, world: World, tmp_path: Path
) -> None:
    """On a machine that was slow at first, a search for two members ended with one, and 12 of 30 minutes left."""

    def before(name: str, share: float) -> None:
        world.slowness = 1.6 if share < 0.2 else 1.1

    world.before = before
    result = run(tmp_path / "t", minutes, members=members)
    assert len(result.finalists) == members or 60.0 * minutes - world.now < result.search.plan.seconds
    assert world.now <= 60.0 * minutes


def test_members_of_an_ensemble_share_the_vocabulary_of_the_best(world: World, tmp_path: Path) -> None:
    other = run(tmp_path / "t", members=3).members[1].name
    write_record(tmp_path / "t" / other / "data.json", DataRecord(tokenizer="another").model_dump())
    assert other not in {trial.name for trial in run(tmp_path / "t", members=3).members}


@pytest.mark.parametrize(("minutes", "is_short"), [(1.0, True), (20.0, False)])
def test_short_trials_are_told(
    minutes: float, is_short: bool, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "t", minutes)
    assert ("a single training in that time" in capsys.readouterr().err) == is_short


def test_one_trial_is_no_ensemble(world: World, tmp_path: Path) -> None:
    assert run(tmp_path / "t").members == []


def test_a_search_for_an_ensemble_leaves_the_vocabulary_alone() -> None:
    names = {members: [each.name for each in read_setup([], BASE, members).space] for members in (1, 3)}
    assert set(names[1]) - set(names[3]) == {"tokenizer.vocabulary_size"}
    with pytest.raises(UsageError, match="share one vocabulary") as error:
        read_setup([], [*BASE, "tokenizer.vocabulary_size=500,1000"], 3)
    assert error.value.code == "usage.conflict"
    with pytest.raises(UsageError, match="the values make 2"):
        read_setup([], [*BASE, "seed=1,2"], 3)


def test_the_loss_ranks_what_no_score_tells_apart(world: World, tmp_path: Path) -> None:
    world.scale = 0.0
    assert rate_of(run(tmp_path / "t")) == "3e-3"


def test_a_budget_that_is_too_short_leaves_nothing_behind(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too short"):
        run(tmp_path / "t", 0.1)
    assert not (tmp_path / "t").exists()


def test_a_trial_that_fails_is_left_out(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing = iter([DivergenceError("the loss is NaN", code="training.diverged"), RuntimeError("a bug")])

    def before(name: str, share: float) -> None:
        if name in ("trial-002", "trial-004"):
            raise next(failing)

    world.before = before
    result = run(tmp_path / "t")
    failed = {trial.name: trial.error for trial in result.search.trials if trial.error}
    assert failed == {"trial-002": "the loss is NaN [training.diverged]", "trial-004": "RuntimeError: a bug"}
    assert rate_of(result) == "3e-3"
    assert "trial-002 failed and is left out" in capsys.readouterr().err


def test_the_best_may_fail_at_its_end(world: World, tmp_path: Path) -> None:
    def before(name: str, share: float) -> None:
        if share == 1.0 and not world.tested and not failed:
            failed.append(name)
            raise DivergenceError("the loss is NaN")

    failed: list[str] = []
    world.before = before
    result = run(tmp_path / "t", 3.0)
    assert result.best.name not in failed
    assert result.best.name in world.tested


def test_if_all_fail_the_first_failure_is_told(world: World, tmp_path: Path) -> None:
    def before(name: str, share: float) -> None:
        raise DivergenceError(f"{name} diverged")

    world.before = before
    with pytest.raises(ConfigError, match="trial-000 diverged") as error:
        run(tmp_path / "t")
    assert error.value.code == "config.no-trial"


def test_a_full_disk_ends_the_search(world: World, tmp_path: Path) -> None:
    def before(name: str, share: float) -> None:
        raise ResourceError("the disk is full", code="disk.full")

    world.before = before
    with pytest.raises(ResourceError):
        run(tmp_path / "t")
    world.before = lambda name, share: None
    assert rate_of(run(tmp_path / "t")) == "3e-3"


@pytest.mark.parametrize("kill_at", [1, 9, 11, 14])
@pytest.mark.parametrize("is_signal", [False, True])
def test_the_same_command_goes_on(kill_at: int, is_signal: bool, world: World, tmp_path: Path) -> None:
    """The trials and the result are those of a search without the interruption."""
    whole = run(tmp_path / "whole", sampler="random")
    calls, world.calls, world.trained, world.tested, world.now = world.calls, [], {}, [], 0.0

    stop = Interrupted(signal.SIGTERM, "saved step 3; run the same command to continue")

    def before(name: str, share: float) -> None:
        if len(world.calls) + 1 == kill_at:
            world.before = lambda name, share: None
            raise stop if is_signal else SystemExit

    world.before = before
    with pytest.raises(Interrupted if is_signal else SystemExit) as end:
        run(tmp_path / "parts")
    if isinstance(end.value, Interrupted):
        assert "trial-" in end.value.kept
        assert "run the same command to continue" in end.value.kept
    parts = run(tmp_path / "parts")
    assert world.calls[: len(calls) - 3] == calls[: len(calls) - 3]  # the last ones depend on the time that was lost
    assert parts.best.choice == whole.best.choice


@pytest.mark.parametrize("members", [1, 3])
def test_a_search_of_an_earlier_version_goes_on(members: int, world: World, tmp_path: Path) -> None:
    """Its record had the numbers of the plan beside the others."""

    def before(name: str, share: float) -> None:
        if len(world.calls) == 4:
            world.before = lambda name, share: None
            raise SystemExit

    world.before = before
    with pytest.raises(SystemExit):
        run(tmp_path / "t", members=members)
    begun = load_search(tmp_path / "t")
    assert begun is not None
    flat = begun.model_dump()
    plan = flat.pop("plan")
    flat |= {"seconds_per_trial": plan["seconds"], "steps_per_trial": plan["steps"], "shares": plan["shares"]}
    flat |= {"end_seconds": plan["end_seconds"], "trials_planned": plan["trials"]}
    flat["command"] = {key: value for key, value in flat["command"].items() if members > 1 or key != "ensemble"}
    write_record(tmp_path / "t" / FILE, flat)
    read = load_search(tmp_path / "t")
    assert read is not None
    assert read.plan == begun.plan
    assert rate_of(run(tmp_path / "t", members=members)) == "3e-3"


def test_a_process_that_is_killed_again_and_again_costs_one_trial(world: World, tmp_path: Path) -> None:
    def before(name: str, share: float) -> None:
        if name == "trial-001":
            raise SystemExit

    world.before = before
    for _ in range(3):
        with pytest.raises(SystemExit):
            run(tmp_path / "t")
    result = run(tmp_path / "t")
    assert "killed 3 times" in result.search.trials[1].error
    assert rate_of(result) == "3e-3"


def test_another_command_is_refused(world: World, tmp_path: Path) -> None:
    run(tmp_path / "t")
    for minutes, overrides, changed in (
        (10.0, [RATES, "training.batch_size=99"], "training.batch_size: 4096 -> 99"),
        (10.0, [RATES.replace("1e-4", "3e-4")], "other settings are searched"),
        (11.0, [RATES], "--budget: 10.0 -> 11.0"),
    ):
        with pytest.raises(ConfigError, match=changed) as error:
            run(tmp_path / "t", minutes, *overrides)
        assert error.value.code == "config.changed"
    calls = len(world.calls)
    again = run(tmp_path / "t", 10.0, RATES, "threads=1", "name=other")
    assert (rate_of(again), len(world.calls)) == ("3e-3", calls), "a finished search is shown"


@pytest.mark.fault(57)
def test_a_record_that_is_damaged_or_crafted_is_named(world: World, tmp_path: Path) -> None:
    """A trial of a setting that is not in the space ended in a traceback."""
    run(tmp_path / "t")
    whole = load_search(tmp_path / "t")
    assert whole is not None
    content = whole.model_dump()
    trials = content["trials"]
    changes: list[dict[str, Any]] = [
        {"command": {}},
        {"command": {**content["command"], "config": {"model": "?"}}},
        {"command": {**content["command"], "space": [1]}},
        {"trials": [trials[0] | {"choice": [99]}, *trials[1:]]},
        {"trials": trials[1:]},
        {"going_on": [len(trials)]},
        {"rung": 99},
        {"seconds": 1e300},
    ]
    for change in changes:
        write_record(tmp_path / "t" / FILE, content | change)
        with pytest.raises(CheckpointError, match=f"{FILE} is damaged"):
            run(tmp_path / "t")


@pytest.mark.parametrize("name", ["config.yaml", "trial-000"])
def test_a_folder_of_something_else_is_left_alone(name: str, world: World, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UsageError) as error:
        run(tmp_path)
    assert error.value.code == "usage.exists"
    assert not world.calls


def test_the_config_of_the_best_is_complete_and_says_what_was_tried(world: World, tmp_path: Path) -> None:
    result = run(tmp_path / "t", 2.0, "model.dropout=0.1,0.3", RATES)
    text = result.config.read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if "learning_rate:" in line)
    listed = [float(value) for value in line.partition("tried ")[2].split(", ")]
    assert listed == sorted(set(world.rates.values())), "what was not tried is not claimed"
    assert len(listed) < len(RATES.split(","))
    assert text.startswith(f"# The best of {len(result.search.trials)} trials")
    config = load_config([result.config])
    expected = load_config([], [*BASE, *result.best.settings])
    assert config.model == expected.model
    assert config.training.optimizer == expected.training.optimizer
    assert (config.training.budget_minutes, config.training.max_minutes) == (None, None)
    assert config.training.max_steps < 1000, "as many as the trial had"
    assert (config.name, config.run_directory) == ("best", None)


def test_trials_that_all_fail_end_with_the_budget(world: World, tmp_path: Path) -> None:
    """All 81 trials were begun, long after the end of the budget."""
    begun: list[str] = []

    def before(name: str, share: float) -> None:
        begun.append(name)
        if len(begun) == 3:
            world.now += 1e9
        raise ResourceError("out of memory")

    world.before = before
    with pytest.raises(ConfigError):
        run(tmp_path / "t")
    assert len(begun) == 3
