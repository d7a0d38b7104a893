"""The best trials of a search as one ensemble: the mean of their probabilities chooses each token (Hansen and Salamon
1990). Its errors are fewer than those of its members, at the cost of a model for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seq2seq.console import warn
from seq2seq.evaluation.metrics import MetricResult
from seq2seq.evaluation.significance import MetricTest, paired_tests
from seq2seq.reports.run_summary import summarise
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.evaluate import evaluate
from seq2seq.runs.load import load
from seq2seq.runs.run_config import load_run_config
from seq2seq.tuning.record import Trial


class EnsembleScores(NamedTuple):
    """Scores of the ensemble of the best trials."""

    members: list[Trial]
    """The best first."""
    validation: float | None
    """By the metric of the trials, decoded as theirs; None where that is the loss."""
    test: list[MetricResult]
    """Empty without a test set."""
    differences: list[MetricTest]
    """The ensemble on the test set beside the best trial alone, which is the baseline."""


def members_of(folder: Path, finalists: Sequence[Trial], most: int) -> list[Trial]:
    """The best trials with the vocabulary of the best one; empty if it is the only one.

    Args:
        folder: the folder of the search.
        finalists: trials that ended, the best first.
        most: the most members.
    """
    records = [RunDirectory(folder / trial.name).load_data_record() for trial in finalists]
    vocabularies = [None if record is None else record.tokenizer for record in records]
    alike = [trial for trial, vocabulary in zip(finalists, vocabularies, strict=True) if vocabulary == vocabularies[0]][
        :most
    ]
    if len(alike) < most:
        warn(f"{len(alike)} of the {most} trials for the ensemble ended in time; a longer --budget trains them all")
    return alike if len(alike) > 1 else []


def score_ensemble(folder: Path, members: Sequence[Trial]) -> EnsembleScores:
    """Translate the validation and the test set by the ensemble, as its best member does alone.

    Args:
        folder: the folder of the search.
        members: the trials, the best first.

    Raises:
        CheckpointError: a run is damaged.
    """
    best, *others = (folder / trial.name for trial in members)
    config = load_run_config(RunDirectory(best))
    run = load(best, ensemble=others, device=config.device, threads=config.threads)
    validation, metric = None, members[0].scores[-1].metric
    if metric != "loss":
        pairs = run.directory.load_pairs("valid")
        greedy = {"beam_size": config.training.validation_beam_size}
        run.translator.settings = config.decoding.model_copy(update=greedy)
        _, scores = evaluate(run, pairs)
        validation = next(score.value for score in scores if score.name == metric)
        run.translator.settings = config.decoding
    if (found := summarise(best).test_set()) is None:
        return EnsembleScores(list(members), validation, [], [])
    sources, references, alone = found
    hypotheses, scores = evaluate(run, list(zip(sources, references, strict=True)))
    systems = {"best alone": alone, "ensemble": hypotheses}
    tests = paired_tests(systems, references, target_language=config.data.target_language)
    return EnsembleScores(list(members), validation, scores, tests)
