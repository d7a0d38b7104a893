"""The best trials of a search as one ensemble: the mean of their probabilities chooses each token (Hansen and Salamon
1990). It makes fewer errors than each of its members, and a translation takes the time of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seq2seq.console import warn
from seq2seq.evaluation.metrics import MetricResult, bleu, chrf
from seq2seq.evaluation.significance import MetricTest, paired_tests
from seq2seq.reports.run_summary import summarise
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.evaluate import evaluate
from seq2seq.runs.load import load
from seq2seq.tuning.record import Trial


class EnsembleScores(NamedTuple):
    """Scores of an ensemble."""

    validation: float | None
    """By the metric of the trials, decoded as theirs; None where that is the loss."""
    test: list[MetricResult]
    """Empty without a test set."""
    differences: list[MetricTest]
    """The ensemble on the test set beside its first member alone, which is the baseline."""


def members_of(folder: Path, finalists: Sequence[Trial], most: int) -> list[Trial]:
    """The best trials with the vocabulary of the best one; empty if it is the only one.

    Args:
        folder: the folder of the search.
        finalists: trials that trained to the end, the best first.
        most: the most members.
    """
    records = [RunDirectory(folder / trial.name).load_data_record() for trial in finalists]
    vocabularies = [None if record is None else record.tokenizer for record in records]
    alike = [trial for trial, its in zip(finalists, vocabularies, strict=True) if its == vocabularies[0]]
    if len(alike) < min(most, len(finalists)):
        warn(f"{len(finalists) - len(alike)} trials have another vocabulary and cannot be members of the ensemble")
    elif len(alike) < most:
        warn(
            f"{len(alike)} of the {most} trials for the ensemble trained to the end; "
            "a search with a longer --budget, in another folder, has more"
        )
    return alike[:most] if len(alike) > 1 else []


def score_ensemble(runs: Sequence[Path], metric: str, device: str, threads: int) -> EnsembleScores:
    """Translate the validation and the test set by an ensemble, as its first member does alone.

    Args:
        runs: the members' run directories; the settings are those of the first.
        metric: BLEU, chrF or loss, the metric of the validation.
        device: see `load`.
        threads: see `load`.

    Raises:
        UserError: a run is damaged, or out of memory.
    """
    run = load(runs[0], ensemble=runs[1:], device=device, threads=threads)
    language, validation = run.config.data.target_language, None
    if metric != "loss" and (pairs := run.directory.load_pairs("valid")):
        sources, references = [source for source, _ in pairs], [target for _, target in pairs]
        hypotheses = run.translator.translate(sources, beam_size=run.config.training.validation_beam_size)
        validation = bleu(hypotheses, references, target_language=language).value
        if metric == "chrF":
            validation = chrf(hypotheses, references).value
    if (found := summarise(runs[0]).test_set()) is None:
        return EnsembleScores(validation, [], [])
    sources, references, alone = found
    hypotheses, scores = evaluate(run, list(zip(sources, references, strict=True)))
    systems = {"first member": alone, "ensemble": hypotheses}
    return EnsembleScores(validation, scores, paired_tests(systems, references, target_language=language))
