"""Report of a run: one offline page, or Markdown, from the files of the run, without loading the model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from sacrebleu.metrics import CHRF

from seq2seq.atomic_files import write_text
from seq2seq.checks.diagnosis import Finding, TrainingPlan, diagnose
from seq2seq.config import Config
from seq2seq.config.differences import differences
from seq2seq.console import warn
from seq2seq.evaluation.significance import confidence_intervals
from seq2seq.evaluation.slices import slice_scores
from seq2seq.reports.charts import Curve, line_chart
from seq2seq.reports.page import Chart, Command, Paragraph, Samples, Section, Table, to_html, to_markdown
from seq2seq.reports.run_summary import BEFORE_AND_AFTER, RunSummary, read_metrics, summarise
from seq2seq.runs.directory import RunDirectory

FILE_NAME = "report.html"
_SAMPLES = 5
_MOST_SAMPLED = 300
"""Sentences among which the best and the worst are chosen."""
_REFRESH_SECONDS = 30


class Translations(NamedTuple):
    """The newest translations of a run beside their references."""

    split: str
    sources: list[str]
    references: list[str]
    hypotheses: list[str]


def run_findings(path: Path, translations: Translations | None = None) -> list[Finding]:
    """Findings about a run, the gravest first.

    Args:
        translations: the text to judge; by default the newest translations in the run.

    Raises:
        CheckpointError: it is no run, or its records are damaged.
    """
    summary = summarise(path)
    return _findings(summary, translations or _translations(summary))


def refresh_report(path: Path) -> bool:
    """Write the report of a run into its folder; a failure is a warning, since a training must go on."""
    try:
        write_text(path / FILE_NAME, report(path))
    except Exception as error:
        warn(f"cannot write {path / FILE_NAME}: {' '.join(str(error).split()) or type(error).__name__}")
        return False
    return True


def report(path: Path, *, markdown: bool = False) -> str:
    """The report of a run as HTML or Markdown.

    Raises:
        CheckpointError: it is no run, or its records are damaged.
    """
    summary = summarise(path)
    title = f"Run {path.resolve().name}"
    sections = list(_sections(summary))
    if markdown:
        return to_markdown(title, sections)
    return to_html(title, sections, refresh_seconds=_REFRESH_SECONDS if summary.state == "running" else 0)


def _sections(summary: RunSummary) -> Iterator[Section]:
    translations = _translations(summary)
    yield Section("Summary", [_summary_table(summary)])
    yield _findings_section(summary, _findings(summary, translations))
    yield from _scores(summary, translations)
    yield from _curves(summary)
    yield from _samples(translations)
    yield from _data(summary)
    changed = [(key, new, old) for key, old, new in differences(_defaults(summary.config), summary.config)]
    changed = [row for row in changed if row[0] not in ("name", "run_directory")]
    yield Section("Settings that differ from the defaults", [Table(("setting", "value", "default"), changed)])
    yield from _environment(summary)
    command = f"seq2seq train {quote(str(summary.path / 'config.yaml'))} -o {quote(f'{summary.path}-again')}"
    yield Section("The command that repeats it", [Command(command)])


def _defaults(config: Config) -> Config:
    """The default config with the same kind of model."""
    return Config.model_validate({"model": {"kind": config.model.kind}})


def _summary_table(summary: RunSummary) -> Table:
    config, best = summary.config, summary.best
    rows = [
        ("state", summary.state),
        ("languages", f"{config.data.source_language} to {config.data.target_language}"),
        ("model", config.model.kind),
        ("parameters", f"{summary.parameters:,}" if summary.parameters else ""),
        ("steps", f"{summary.step:,} of {config.training.max_steps:,}"),
        ("best validation", f"{summary.metric} {best.score:.2f} at step {best.step:,}" if best else ""),
        *((name, f"{value:.2f}") for name, value in list(summary.scores.items())[:1]),
        ("minutes", f"{summary.minutes:.1f}" if summary.minutes is not None else ""),
        ("tokens per second", f"{summary.tokens_per_second:,.0f}" if summary.tokens_per_second else ""),
    ]
    return Table((), [row for row in rows if row[1]])


def _translations(summary: RunSummary) -> Translations | None:
    """Translations of the test set; before the end, those of the last validation."""
    if (test := summary.test_set()) is not None:
        return Translations("test", *test)
    directory = RunDirectory(summary.path)
    files = sorted(directory.validation.glob("step-*.hyp"))
    pairs = directory.load_pairs("valid") if files else []
    if not pairs:
        return None
    lines = files[-1].read_bytes().decode("utf-8", "replace").split("\n")[:-1]
    if len(lines) != len(pairs):
        return None
    return Translations("validation", [source for source, _ in pairs], [target for _, target in pairs], lines)


def _findings(summary: RunSummary, translations: Translations | None) -> list[Finding]:
    training = summary.config.training
    plan = TrainingPlan(training.max_steps, training.schedule.warmup_steps, summary.metric.lower())
    metrics = read_metrics(summary.path / "metrics.jsonl")
    if summary.state == "running":
        plan = plan._replace(warmup_steps=0)  # it has not ended, there or anywhere
    texts = translations or Translations("", [], [], [])
    found = diagnose(texts.sources, texts.references, texts.hypotheses, metrics, plan)
    return [finding._replace(command=finding.command.replace("RUN", quote(str(summary.path)))) for finding in found]


def _findings_section(summary: RunSummary, findings: Sequence[Finding]) -> Section:
    if not findings:
        return Section("Findings", [Paragraph("Nothing conspicuous.")])
    blocks: list[Paragraph | Command | Table | Chart | Samples] = []
    for finding in findings:
        blocks += [Paragraph(f"{finding.message}: {finding.evidence}"), Command(finding.command)]
    return Section("Findings", blocks)


def _scores(summary: RunSummary, translations: Translations | None) -> Iterator[Section]:
    if not summary.scores:
        return
    language = summary.config.data.target_language
    intervals: dict[str, str] = {}
    texts = translations if translations is not None and translations.split == "test" else None
    if texts is not None:
        for found in confidence_intervals(texts.hypotheses, texts.references, target_language=language):
            intervals[found.metric] = f"{found.low:.2f} to {found.high:.2f}"
    rows = [
        (name, f"{value:.2f}", intervals.get(name, ""), summary.signatures.get(name, ""))
        for name, value in summary.scores.items()
    ]
    columns = ("metric", "score", "95 % interval", "sacrebleu signature")
    yield Section(f"Scores of {summary.test_sentences:,} test sentences", [Table(columns, rows)])
    if summary.before_and_after:
        yield Section("Before and after fine-tuning", [Table(BEFORE_AND_AFTER, summary.before_and_after)])
    if texts is None:
        return
    slices = slice_scores(
        texts.sources,
        texts.references,
        texts.hypotheses,
        tags=_target_tags(texts.sources, summary.config),
        target_language=language,
    )
    if slices:
        parts = [(part.name, f"{part.sentences:,}", f"{part.bleu:.2f}", f"{part.chrf:.2f}") for part in slices]
        yield Section("Scores by slice", [Table(("sentences with", "count", "BLEU", "chrF"), parts)])


def _target_tags(sources: Sequence[str], config: Config) -> list[str]:
    """First word of each source if the run has target tags."""
    if not any(source.target_tag for source in config.data.train):
        return []
    return [source.partition(" ")[0] for source in sources]


def _curves(summary: RunSummary) -> Iterator[Section]:
    rows = read_metrics(summary.path / "metrics.jsonl")

    def curve(name: str, kind: str, key: str) -> Curve:
        return Curve(
            name,
            [
                (float(row["step"]), float(row[key]))
                for row in rows
                if row.get("kind") == kind
                and isinstance(row.get("step"), (int, float))
                and isinstance(row.get(key), (int, float))
            ],
        )

    score = "" if summary.metric == "loss" else summary.metric.lower()
    charts = [
        (f"Validation {summary.metric}", [curve(summary.metric, "validation", score)] if score else []),
        ("Loss", [curve("training", "train", "loss"), curve("validation", "validation", "loss")]),
        ("Learning rate", [curve("learning rate", "train", "learning_rate")]),
        ("Gradient norm", [curve("gradient norm", "train", "gradient_norm")]),
    ]
    drawn = [Chart(title, line_chart(title, curves)) for title, curves in charts]
    if drawn := [chart for chart in drawn if chart.svg]:
        yield Section("Training curves", list(drawn))


def _samples(texts: Translations | None) -> Iterator[Section]:
    """The sentences with the highest and the lowest chrF; exact matches of short lines say little and come last."""
    if texts is None:
        return
    stride = max(1, -(-len(texts.sources) // _MOST_SAMPLED))
    metric = CHRF(eps_smoothing=True)
    scored = [
        (metric.sentence_score(texts.hypotheses[place], [texts.references[place]]).score, place)
        for place in range(0, len(texts.sources), stride)
    ]
    scored.sort(key=lambda item: (-item[0], -len(texts.references[item[1]])))
    count = min(_SAMPLES, len(scored) // 2)
    for name, chosen in (("Worst", scored[len(scored) - count :][::-1]), ("Best", scored[:count])):
        if chosen:
            rows = [
                (f"{score:.0f}", texts.sources[place], texts.references[place], texts.hypotheses[place])
                for score, place in chosen
            ]
            yield Section(f"{name} translations of the {texts.split} set, by chrF", [Samples(rows)])


def _data(summary: RunSummary) -> Iterator[Section]:
    record = RunDirectory(summary.path).load_data_record()
    if record is None:
        return
    counts = [(name.replace("_", " "), f"{count:,}") for name, count in record.counts.model_dump().items() if count]
    tokens = [(f"{side} tokens", f"{count:,}") for side, count in record.tokens.items()]
    rows = counts + tokens
    if len(record.corpora) > 1:
        rows += [(f"pairs of corpus {number}", f"{count:,}") for number, count in enumerate(record.corpora)]
    if record.replay is not None:
        share = f"{summary.config.training.replay:.0%} of an epoch"
        rows.append((f"pairs of {record.replay.run}, {share}", f"{sum(record.replay.sizes):,}"))
    if rows:
        yield Section("Data", [Table(("pairs", "count"), rows)])


def _environment(summary: RunSummary) -> Iterator[Section]:
    try:
        found = json.loads((summary.path / "env.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    if isinstance(found, dict):
        rows = [(str(name), str(value)) for name, value in found.items()]
        yield Section("Environment", [Table(("part", "version"), rows)])
