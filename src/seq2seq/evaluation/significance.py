"""Paired significance tests of BLEU and chrF, as sacrebleu computes them.

Paired bootstrap resampling (Koehn 2004) also gives 95 % confidence intervals; approximate randomisation (Riezler and
Maxwell 2005) makes fewer assumptions. Both are about the choice of test sentences, not about the seed of a training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest, Result

from seq2seq.evaluation.metrics import bleu_tokenizer, composed, unicode_mark

LEVEL = 0.05
"""Differences with p-values below it are called significant."""
_MOST_LINES = 10_000  # sacrebleu keeps resamples times lines of statistics in memory
_RESAMPLES = 1_000
_TRIALS = 2_000


class SystemScore(NamedTuple):
    """Score of one system beside a baseline."""

    value: float
    interval: float
    """Half of the width of the 95 % confidence interval."""
    p_bootstrap: float | None = None
    """None for the baseline."""
    p_randomisation: float | None = None

    @property
    def significant(self) -> bool:
        """Whether both tests call the difference from the baseline significant."""
        values = (self.p_bootstrap, self.p_randomisation)
        return all(value is not None and value < LEVEL for value in values)


class Interval(NamedTuple):
    """95 % confidence interval of one metric of one system."""

    metric: str
    low: float
    high: float


class MetricTest(NamedTuple):
    """One metric of all systems, in the order given; the first is the baseline."""

    metric: str
    signature: str
    scores: list[SystemScore]


def paired_tests(
    systems: Mapping[str, Sequence[str]], references: Sequence[str], *, target_language: str
) -> list[MetricTest]:
    """Compare the hypotheses of each system with those of the first.

    Sets of more than 10,000 lines are represented by 10,000 of them, at equal distances. The random numbers are
    sacrebleu's, with its fixed seed.

    Args:
        systems: hypotheses by the name of the system, one for each reference.
        references: raw reference lines.
    """
    places = _places(len(references))
    named = [(name, composed([lines[place] for place in places])) for name, lines in systems.items()]
    chosen = [composed([references[place] for place in places])]
    mark = unicode_mark(references, *systems.values())

    def test(kind: str, samples: int) -> tuple[list[str], list[list[Result]]]:
        # A metric caches what it has counted in the references: each test has metrics of its own.
        metrics = {"BLEU": BLEU(tokenize=bleu_tokenizer(target_language, references), force=True), "chrF": CHRF()}
        signatures, scores = PairedTest(named, metrics, chosen, test_type=kind, n_samples=samples)()
        return [f"{signature}{mark}" for signature in signatures.values()], [scores[name] for name in signatures]

    signatures, resampled = test("bs", _RESAMPLES)
    _, randomised = test("ar", _TRIALS)
    changed = [
        _changed_lines(metric, [lines for _, lines in named], chosen)
        for metric in (BLEU(tokenize=bleu_tokenizer(target_language, references), force=True), CHRF())
    ]
    return [
        MetricTest(
            name,
            signature,
            [
                _system_score(*results, by_resampling[0])
                for results in zip(by_resampling, by_trials, changed_lines, strict=True)
            ],
        )
        for name, signature, by_resampling, by_trials, changed_lines in zip(
            ("BLEU", "chrF"), signatures, resampled, randomised, changed, strict=True
        )
    ]


def _changed_lines(metric: BLEU | CHRF, systems: Sequence[list[str]], references: Sequence[Sequence[str]]) -> list[int]:
    """Number of lines of each system whose statistics differ from those of the first system's lines.

    Replacing a wrong word by another one changes none.
    """
    counted = [metric._extract_corpus_statistics(lines, references) for lines in systems]
    return [sum(one != other for one, other in zip(rows, counted[0], strict=True)) for rows in counted]


def describe_difference(metric: str, score: SystemScore, name: str, baseline: SystemScore, baseline_name: str) -> str:
    """One sentence about the difference of a system from the baseline: its size, and whether it may be chance."""
    difference = score.value - baseline.value
    if difference == 0:
        return f"{name} and {baseline_name} have the same {metric}"
    way = "better" if difference > 0 else "worse"
    judged = "the difference is unlikely to be chance" if score.significant else "that may be chance"
    return (
        f"{name} is {abs(difference):.2f} {metric} {way} than {baseline_name}, and {judged}: "
        f"p {_p_value(score.p_bootstrap)} by paired bootstrap, {_p_value(score.p_randomisation)} by approximate "
        f"randomisation (significant below {LEVEL})"
    )


def _p_value(value: float | None) -> str:
    return "unknown" if value is None else "< 0.001" if value < 0.001 else f"= {value:.3f}"


def confidence_intervals(
    hypotheses: Sequence[str], references: Sequence[str], *, target_language: str = ""
) -> list[Interval]:
    """95 % confidence intervals of BLEU and chrF by bootstrap resampling of the sentences, with sacrebleu's fixed seed.

    Sets of more than 10,000 lines are represented as in `paired_tests`. Fewer than two lines have no interval.
    """
    places = _places(len(references))
    if len(places) < 2:
        return []
    chosen, wanted = (composed([lines[place] for place in places]) for lines in (hypotheses, references))
    metrics = {"BLEU": BLEU(tokenize=bleu_tokenizer(target_language, references), force=True), "chrF": CHRF()}
    intervals = []
    for name, metric in metrics.items():
        try:
            score = metric.corpus_score(chosen, [wanted], n_bootstrap=_RESAMPLES)
        except TypeError:  # sacrebleu cannot average a score that is 0 in some of the resamples
            continue
        # sacrebleu adds these two attributes to scores that it has resampled.
        mean, half = float(vars(score)["_mean"]), float(vars(score)["_ci"])
        intervals.append(Interval(name, max(0.0, mean - half), min(100.0, mean + half)))
    return intervals


def _places(lines: int) -> list[int]:
    """Places of all lines, or of 10,000 at equal distances."""
    count = min(lines, _MOST_LINES)
    return [number * lines // count for number in range(count)]


def _system_score(resampled: Result, randomised: Result, changed: int, baseline: Result) -> SystemScore:
    """The score of a system that has this number of lines that count unlike the baseline's."""
    if resampled is baseline:
        return SystemScore(float(resampled.score), float(resampled.ci))
    if resampled.score == baseline.score:
        # sacrebleu gives equal systems the smallest p-value there is.
        return SystemScore(float(resampled.score), float(resampled.ci), 1.0, 1.0)
    # It counts the trials with a difference above the one observed. Those that exchange all changed lines or none of
    # them have just that one, and belong to the p-value (Riezler and Maxwell 2005): where few lines differ, many do.
    randomised_p = min(1.0, float(randomised.p_value or 0.0) + 2.0 ** (1 - changed))
    return SystemScore(float(resampled.score), float(resampled.ci), resampled.p_value, randomised_p)
