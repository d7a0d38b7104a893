"""Diagnosis of a score: findings about translations and training curves, each with its evidence and a command."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_FEW_SENTENCES = 200
"""Below it a 95 % confidence interval of BLEU is usually wider than 4 points."""
_COMMON = 0.02
"""Share of the lines from which a fault is a finding."""
_LEAST_WORDS = 4
"""Shorter lines, such as names and greetings, are rightly copied or alike."""


class Finding(NamedTuple):
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


def diagnose(
    sources: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    metrics: Sequence[Mapping[str, Any]] = (),
    plan: TrainingPlan | None = None,
) -> list[Finding]:
    """Findings about a run, the gravest first.

    Args:
        sources: lines of the test or validation set; may be empty.
        references: one for each source.
        hypotheses: one for each source.
        metrics: lines of metrics.jsonl.
        plan: settings of the training; None leaves out findings about the curves.
    """
    findings: list[Finding] = []
    if hypotheses:
        steps = str(2 * plan.max_steps) if plan else "STEPS"
        findings += _output_findings(sources, references, hypotheses, steps)
    if plan is not None:
        findings += _curve_findings(metrics, plan)
    return sorted(findings, key=lambda finding: -finding.weight)


def _output_findings(
    sources: Sequence[str], references: Sequence[str], hypotheses: Sequence[str], steps: str
) -> Iterator[Finding]:
    triples = list(zip(sources, references, hypotheses, strict=True))
    total = len(triples)
    longer = f"seq2seq train RUN/config.yaml training.max_steps={steps} -o RUN-longer"
    kinds: list[tuple[str, str, str, list[int]]] = [
        (
            "empty",
            "empty translations",
            "seq2seq evaluate RUN --length-penalty 1.2",
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
            "cut",
            "translations end too early",
            "seq2seq evaluate RUN --length-penalty 1.2",
            [n for n, (_, right, out) in enumerate(triples) if is_cut(right, out)],
        ),
    ]
    for code, message, command, lines in kinds:
        if len(lines) >= max(2, _COMMON * total):
            example = triples[lines[0]][2]
            evidence = f"{_share(len(lines), total)}; {_example(lines[0], example)}"
            yield Finding(code, message, evidence, command, len(lines) / total)
    if (same := _identical(sources, hypotheses)) is not None:
        count, line = same
        evidence = f"{_share(count, total)} have this translation: {_shorten(line)}"
        yield Finding("identical", "different sources have the same translation", evidence, longer, count / total)
    yield from _whole_text_findings(references, hypotheses)


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


def _whole_text_findings(references: Sequence[str], hypotheses: Sequence[str]) -> Iterator[Finding]:
    ours, theirs = sum(map(len, hypotheses)), sum(map(len, references))
    ratio = ours / theirs if theirs else 1.0
    if not 0.85 <= ratio <= 1.2:
        way, penalty = ("short", "1.2") if ratio < 1 else ("long", "0.6")
        yield Finding(
            "length",
            f"the translations are too {way} as a whole",
            f"{ratio:.2f} times the characters of the references",
            f"seq2seq evaluate RUN --length-penalty {penalty}",
            min(1.0, abs(1 - ratio)),
        )
    wanted, found = main_script(references), main_script(hypotheses)
    if wanted and found and wanted != found:
        yield Finding(
            "script",
            "the translations have another script than the references",
            f"{found} in place of {wanted}",
            "seq2seq data check RUN/config.yaml",
            1.0,
        )
    if len(references) < _FEW_SENTENCES:
        yield Finding(
            "few-sentences",
            "the test set is small: its scores are rough",
            f"{len(references):,} sentences, where {_FEW_SENTENCES:,} or more make a score",
            "seq2seq evaluate RUN --source FILE --references FILE",
            0.015,
        )


def main_script(lines: Sequence[str]) -> str:
    """Script of most letters of the lines, such as LATIN or CYRILLIC; empty if no script has most of them.

    The Japanese scripts count as Chinese characters (CJK), since Japanese mixes them.
    """
    counts: Counter[str] = Counter()
    for letter, count in Counter(letter for line in lines[:_FEW_SENTENCES] for letter in line).items():
        if letter.isalpha():
            name = unicodedata.name(letter, "").partition(" ")[0]
            counts["CJK" if name in ("HIRAGANA", "KATAKANA") else name] += count
    for name, count in counts.most_common(1):
        if count > 0.6 * counts.total():
            return name
    return ""


def _curve_findings(metrics: Sequence[Mapping[str, Any]], plan: TrainingPlan) -> Iterator[Finding]:
    last = max((int(row["step"]) for row in metrics if _number(row.get("step"))), default=0)
    longer = f"seq2seq train RUN/config.yaml training.max_steps={max(2 * last, 2 * plan.warmup_steps)} -o RUN-longer"
    if 0 < last <= plan.warmup_steps:
        yield Finding(
            "warm-up",
            "training ended within the warm-up",
            f"{last:,} steps, of {plan.warmup_steps:,} in the warm-up",
            longer,
            1.0,
        )
    validations = [row for row in metrics if row.get("kind") == "validation" and _number(row.get("loss"))]
    scores = [float(row[plan.metric]) for row in validations if _number(row.get(plan.metric))]
    sign = -1.0 if plan.metric == "loss" else 1.0
    ranked = [sign * score for score in scores]
    # The last of at least three validations is the best, and by more than the noise of a validation.
    least = 0.01 * abs(ranked[-1]) if ranked else 0.0
    if last >= plan.max_steps > 0 and len(ranked) >= 3 and ranked[-1] > max(ranked[:-1]) + least:
        yield Finding(
            "still-improving",
            "training ended while the score was still improving",
            f"validation {plan.metric} {', '.join(f'{score:.2f}' for score in scores[-3:])}",
            longer,
            0.5,
        )
    losses = [float(row["loss"]) for row in validations]
    if len(losses) >= 3 and losses[-1] > 1.1 * min(losses):
        yield Finding(
            "overfitting",
            "the validation loss rises: the model learns the training text by heart",
            f"validation loss {min(losses):.2f} at its best, {losses[-1]:.2f} at the end",
            "seq2seq train RUN/config.yaml model.dropout=0.3 -o RUN-dropout",
            0.4,
        )


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} lines ({100 * count / total:.0f} %)"


def _example(place: int, text: str) -> str:
    return f"line {place + 1:,}: {_shorten(text)}" if text.strip() else f"line {place + 1:,}"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
