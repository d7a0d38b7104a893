"""Diagnosis of a score: findings about translations and training curves, each with its evidence and a command."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from seq2seq.checks.identified_languages import scripts_of
from seq2seq.evaluation.metrics import FEW_SENTENCES, perplexity
from seq2seq.runs.directory import is_number
from seq2seq.sanitize import shorten
from seq2seq.tokenizers.base import UNKNOWN

EXAMPLE_LENGTH = 60
"""Characters that are shown of a line."""
_COMMON = 0.02
"""Share of the lines from which a fault is a finding."""
_LARGEST_GAP = 3.0
"""Ratio of the perplexity of validation to that of training, with dropout; good models of small corpora have 1 to 2."""
_FEW_STEPS = 3000
_LEAST_STEPS = 100
"""Fewer steps teach a model nothing."""
_TINY_LIMIT = 5.0
"""Minutes or passes below which a limit is lifted rather than doubled."""
_POOR_PERPLEXITY = 12.0
"""Good translation models of subwords have 3 to 8."""
_PENALISED = "seq2seq evaluate RUN --length-penalty {:g}"
_HIGH_PENALTY, _LOW_PENALTY = 1.2, 0.6
_SCRIPT_LINES = 200
_LEAST_WORDS = 4
"""Shorter lines, such as names and greetings, are rightly copied or alike."""


class Diagnosis(NamedTuple):
    """A probable cause of a low score."""

    code: str
    message: str
    evidence: str
    command: str
    """The command to type, with RUN in place of the run directory."""
    weight: float
    """Order of the findings: the share of lines affected, or 1 for a fault of the whole run."""


class TrainingPlan(NamedTuple):
    """The settings against which training curves are judged."""

    max_steps: int
    warmup_steps: int
    metric: str = "bleu"
    """Key of the validation score in metrics.jsonl: `bleu`, `chrf` or `loss`."""
    limits: tuple[tuple[str, float], ...] = ()
    """Settings that limit the time or the passes, such as `training.budget_minutes`, with their values."""
    has_ended: bool = False
    """True if a limit ended the training before its last step."""
    dropout: float = 0.2
    """`model.dropout`."""
    learns_translations: bool = False
    """True if the training text was translated by a model: such text is easier to foresee than that of people."""

    def longer(self, steps: int) -> str:
        """Command that trains for this many steps, with every limit doubled, or lifted where it allowed hardly any."""
        is_tiny = steps < _LEAST_STEPS
        values = ["null" if is_tiny and value < _TINY_LIMIT else f"{2 * value:g}" for _, value in self.limits]
        limits = [f"{key}={value}" for (key, _), value in zip(self.limits, values, strict=True)]
        steps = max(steps, _LEAST_STEPS)
        return " ".join(["seq2seq train RUN/config.yaml", f"training.max_steps={steps}", *limits, "-o RUN-longer"])


def diagnose(
    sources: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    metrics: Sequence[Mapping[str, Any]],
    plan: TrainingPlan,
    length_penalty: float,
) -> list[Diagnosis]:
    """Findings about a run, the gravest first.

    Args:
        sources: lines of the test or validation set; may be empty.
        references: one for each source.
        hypotheses: one for each source.
        metrics: lines of metrics.jsonl.
        plan: settings of the training.
        length_penalty: that of the search for the hypotheses.
    """
    findings: list[Diagnosis] = []
    if hypotheses:
        findings += _output_findings(sources, references, hypotheses, plan.longer(2 * plan.max_steps), length_penalty)
    findings += _curve_findings(metrics, plan)
    return sorted(findings, key=lambda finding: -finding.weight)


def _output_findings(
    sources: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    longer: str,
    length_penalty: float,
) -> Iterator[Diagnosis]:
    # Once a search for longer outputs has been tried, only more training helps.
    lengthened = longer if length_penalty >= _HIGH_PENALTY else _PENALISED.format(_HIGH_PENALTY)
    shortened = longer if length_penalty <= _LOW_PENALTY else _PENALISED.format(_LOW_PENALTY)
    triples = list(zip(sources, references, hypotheses, strict=True))
    total = len(triples)
    kinds: list[tuple[str, str, str, list[int]]] = [
        (
            "empty",
            "empty translations",
            lengthened,
            [n for n, (_, right, out) in enumerate(triples) if right.strip() and not out.strip()],
        ),
        (
            "copied",
            "translations copy the source",
            "seq2seq data check RUN/config.yaml",
            [n for n, triple in enumerate(triples) if is_copy(*triple)],
        ),
        (
            "repeated",
            "translations repeat themselves",
            longer,
            [n for n, (_, right, out) in enumerate(triples) if repeats(out) and not repeats(right)],
        ),
        (
            "unknown",
            "translations have unknown words",
            "seq2seq train RUN/config.yaml tokenizer.kind=unigram decoding.replace_unknown=false -o RUN-subwords",
            [n for n, (_, right, out) in enumerate(triples) if UNKNOWN in out and UNKNOWN not in right],
        ),
        (
            "cut",
            "translations end too early",
            lengthened,
            [n for n, (_, right, out) in enumerate(triples) if is_cut(right, out)],
        ),
    ]
    for code, message, command, lines in kinds:
        if len(lines) >= max(2, _COMMON * total):
            example = triples[lines[0]][2]
            evidence = f"{line_share(len(lines), total)}; {_example(lines[0], example)}"
            yield Diagnosis(code, message, evidence, command, len(lines) / total)
    if (same := _identical(sources, hypotheses)) is not None:
        count, line = same
        evidence = f"{line_share(count, total)} have this translation: {shorten(line, EXAMPLE_LENGTH)}"
        yield Diagnosis("identical", "different sources have the same translation", evidence, longer, count / total)
    yield from _whole_text_findings(references, hypotheses, lengthened, shortened)


def fine_tuning_findings(
    before_and_after: Sequence[tuple[str, float, float]], learning_rate: float
) -> Iterator[Diagnosis]:
    """The finding that every metric (name, before, after) of the new test set fell, the first by a point or more."""
    fall = before_and_after[0][1] - before_and_after[0][2] if before_and_after else 0.0
    if fall >= 1 and all(after < before for _, before, after in before_and_after):
        evidence = ", ".join(f"{name} {before:.2f} before, {after:.2f} now" for name, before, after in before_and_after)
        slower = f"seq2seq train RUN/config.yaml training.optimizer.learning_rate={learning_rate / 3:.3g} -o RUN-slower"
        yield Diagnosis(
            "worse", "the model is worse than the one that it started from", evidence, slower, min(1.0, fall / 10)
        )


def is_copy(source: str, reference: str, hypothesis: str) -> bool:
    """Copied source: the hypothesis equals the source, and the reference does not."""
    words = hypothesis.split()
    return len(words) >= _LEAST_WORDS and words == source.split() and words != reference.split()


def repeats(line: str) -> bool:
    """Repetition: one to four words, or two to eight letters of a text without spaces, four times in a row."""
    return bool(
        re.search(r"(?<!\S)(\S+(?: \S+){0,3})(?: \1){3}(?!\S)", " ".join(line.split()))
        or re.search(r"([^\W\d_]{2,8})\1{3}", line)
    )


def is_cut(reference: str, hypothesis: str) -> bool:
    """Truncation: the hypothesis has less than half the length of a reference that is not short."""
    return len(reference) >= 30 and 0 < len(hypothesis.strip()) < 0.5 * len(reference)


def _identical(sources: Sequence[str], hypotheses: Sequence[str]) -> tuple[int, str] | None:
    """The most frequent translation of different sources with its number of sources, if that is a finding."""
    distinct = dict(zip(sources, hypotheses, strict=True))
    counts = Counter(line for line in distinct.values() if len(line.split()) >= _LEAST_WORDS)
    for line, count in counts.most_common(1):
        if count >= max(3, _COMMON * len(distinct)):
            return count, line
    return None


def _whole_text_findings(
    references: Sequence[str], hypotheses: Sequence[str], lengthened: str, shortened: str
) -> Iterator[Diagnosis]:
    ours, theirs = sum(map(len, hypotheses)), sum(map(len, references))
    ratio = ours / theirs if theirs else 1.0
    if not 0.85 <= ratio <= 1.2:
        way, command = ("short", lengthened) if ratio < 1 else ("long", shortened)
        yield Diagnosis(
            "length",
            f"the translations are too {way} as a whole",
            f"{ratio:.2f} times the characters of the references",
            command,
            min(1.0, abs(1 - ratio)),
        )
    wanted, found = main_script(references), main_script(hypotheses)
    if wanted and found and wanted != found:
        yield Diagnosis(
            "script",
            "the translations have another script than the references",
            f"{found} in place of {wanted}",
            "seq2seq data check RUN/config.yaml",
            1.0,
        )
    if len(references) < FEW_SENTENCES:
        yield Diagnosis(
            "few-sentences",
            "the test set is small: its scores are rough",
            f"{len(references):,} sentences, where {FEW_SENTENCES:,} or more make a score",
            "seq2seq evaluate RUN --source FILE --references FILE",
            0.015,
        )


def main_script(lines: Sequence[str]) -> str:
    """Script of most letters of the lines, as `scripts_of` names it; empty if no script has most of them."""
    counts = scripts_of("".join(lines[:_SCRIPT_LINES]))
    for name, count in counts.most_common(1):
        if count > 0.6 * counts.total():
            return name
    return ""


def _curve_findings(metrics: Sequence[Mapping[str, Any]], plan: TrainingPlan) -> Iterator[Diagnosis]:
    last = max((int(row["step"]) for row in metrics if is_number(row.get("step"))), default=0)
    longer = plan.longer(2 * max(last, plan.warmup_steps))
    validations = [row for row in metrics if row.get("kind") == "validation" and is_number(row.get("loss"))]
    trained = [row for row in metrics if row.get("kind") == "train" and is_number(row.get("perplexity"))]
    losses = [float(row["loss"]) for row in validations]
    scores = [float(row[plan.metric]) for row in validations if is_number(row.get(plan.metric))]
    ended = last > 0 and (plan.has_ended or last >= plan.max_steps)
    if 0 < last <= plan.warmup_steps:
        evidence = f"{last:,} steps, of {plan.warmup_steps:,} in the warm-up"
        yield Diagnosis("warm-up", "training ended within the warm-up", evidence, longer, 1.0)
    elif ended and (evidence := _few_steps(last, losses, trained)):
        yield Diagnosis("few-steps", "training ended after few steps, with little learned", evidence, longer, 0.6)
    elif ended and _still_improving(scores, plan.metric):
        message = "training ended while the score was still improving"
        evidence = f"validation {plan.metric} {', '.join(f'{score:.2f}' for score in scores[-3:])}"
        yield Diagnosis("still-improving", message, evidence, longer, 0.5)
    more = f"model.dropout={plan.dropout + 0.1:.1f}" if plan.dropout <= 0.4 else "model.word_dropout=0.1"
    regularized = f"seq2seq train RUN/config.yaml {more} -o RUN-dropout"
    if len(losses) >= 3 and losses[-1] > 1.1 * min(losses):
        message = "the validation loss rises: the model learns the training text by heart"
        evidence = f"validation loss {min(losses):.2f} at its best, {losses[-1]:.2f} at the end"
        yield Diagnosis("overfitting", message, evidence, regularized, 0.4)
    elif losses and trained:
        known, held_out = float(trained[-1]["perplexity"]), perplexity(losses[-1])
        if held_out > _LARGEST_GAP * known and not plan.learns_translations:
            message = "the model knows its training text far better than other text"
            evidence = f"perplexity {known:.1f} in training, {held_out:.1f} in validation"
            yield Diagnosis("gap", message, evidence, regularized, 0.4)


def _few_steps(last: int, losses: Sequence[float], trained: Sequence[Mapping[str, Any]]) -> str:
    """Evidence of a training that ended long before its model was good; empty if it did not."""
    epoch = trained[-1].get("epoch") if trained else None
    if not losses or not is_number(epoch) or losses[-1] > min(losses) or perplexity(losses[-1]) < _POOR_PERPLEXITY:
        return ""
    if last >= _FEW_STEPS and epoch >= 1:
        return ""
    passes = f"{epoch:.1f} passes over the training text"
    return f"{last:,} steps, {passes}; validation perplexity {perplexity(losses[-1]):.1f}"


def _still_improving(scores: Sequence[float], metric: str) -> bool:
    """Whether the last of at least three validations is the best, and by more than the noise of a validation."""
    ranked = [-score if metric == "loss" else score for score in scores]
    return len(ranked) >= 3 and ranked[-1] > max(ranked[:-1]) + 0.01 * abs(ranked[-1])


def line_share(count: int, total: int) -> str:
    """Evidence: a number of lines and their share."""
    return f"{count:,} of {total:,} lines ({100 * count / total:.0f} %)"


def _example(place: int, text: str) -> str:
    return f"line {place + 1:,}: {shorten(text, EXAMPLE_LENGTH)}" if text.strip() else f"line {place + 1:,}"
