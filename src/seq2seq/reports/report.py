"""Report of a run: one offline page, or Markdown, from the files of the run, without loading the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from seq2seq.atomic_files import read_json_object, write_text
from seq2seq.checks.diagnosis import Diagnosis, TrainingPlan, diagnose, fine_tuning_findings
from seq2seq.checks.identified_languages import Identifier
from seq2seq.checks.unlike_training import RunText, text_findings
from seq2seq.config import Config
from seq2seq.config.differences import differences
from seq2seq.config.sources import is_distilled
from seq2seq.console import warn
from seq2seq.errors import UserError
from seq2seq.evaluation.metrics import best_and_worst, perplexity
from seq2seq.evaluation.significance import confidence_intervals
from seq2seq.evaluation.slices import slice_scores
from seq2seq.reports.charts import Curve, line_chart
from seq2seq.reports.page import (
    Block,
    Chart,
    Command,
    Details,
    Facts,
    Note,
    Page,
    Paragraph,
    Sample,
    Samples,
    Section,
    Table,
    to_html,
    to_markdown,
)
from seq2seq.reports.run_summary import BEFORE_AND_AFTER, RunSummary, summarise
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.load import load_tokenizers

_GRAVE = 0.5
"""Weight from which on a finding is grave."""
_REFRESH_SECONDS = 30
_LABELS = ("score", "source", "reference", "translation")


class Translations(NamedTuple):
    """The newest translations of a run beside their references."""

    split: str
    sources: list[str]
    references: list[str]
    hypotheses: list[str]
    length_penalty: float | None = None
    """None: that of the run."""


def run_findings(path: Path, translations: Translations | None = None) -> list[Diagnosis]:
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
    file = path / "report.html"
    try:
        write_text(RunDirectory(path).report, report(path))
    except Exception as error:
        what = error.what if isinstance(error, UserError) else " ".join(str(error).split()) or type(error).__name__
        warn(what if str(file) in what else f"cannot write {file}: {what}")
        return False
    return True


def report(path: Path, *, markdown: bool = False) -> str:
    """The report of a run as HTML or Markdown.

    Raises:
        CheckpointError: it is no run, or its records are damaged.
    """
    summary = summarise(path)
    config = summary.config
    parts = [
        f"{config.data.source_language} to {config.data.target_language}",
        config.model.kind if config.model.kind == "transformer" else "recurrent model",
        f"{summary.parameters:,} parameters" if summary.parameters else "",
    ]
    page = Page(
        f"Run {path.resolve().name}",
        list(_sections(summary)),
        subtitle=" · ".join(filter(None, parts)),
        state=summary.state,
        level="good" if summary.state == "finished" else "warn",
        refresh_seconds=_REFRESH_SECONDS if summary.state == "running" else 0,
    )
    return to_markdown(page) if markdown else to_html(page)


def _sections(summary: RunSummary) -> Iterator[Section]:
    translations = _translations(summary)
    yield Section("Summary", [Facts(_facts(summary))])
    yield _findings_section(_findings(summary, translations))
    yield from _scores(summary, translations)
    yield from _curves(summary)
    yield from _samples(summary, translations)
    yield from _data(summary)
    yield from _settings(summary.config)
    yield from _environment(summary)
    command = f"seq2seq train {quote(str(summary.path / 'config.yaml'))} -o {quote(f'{summary.path}-again')}"
    yield Section("The command that repeats it", [Command(command)])


def _facts(summary: RunSummary) -> list[tuple[str, str]]:
    best = summary.best
    rows = [(name, f"{value:.2f}") for name, value in summary.scores.items()]
    rows += [
        (f"validation {summary.metric}", f"{best.score:.2f}" if best else ""),
        ("best step", f"{best.step:,}" if best else ""),
        ("steps", f"{summary.step:,} of {summary.config.training.max_steps:,}"),
        ("minutes", f"{summary.minutes:.1f}" if summary.minutes is not None else ""),
        ("tokens per second", f"{summary.tokens_per_second:,.0f}" if summary.tokens_per_second else ""),
    ]
    return [row for row in rows if row[1]]


def _settings(config: Config) -> Iterator[Section]:
    defaults = Config.model_validate({"model": {"kind": config.model.kind}})
    changed = [(key, new, old) for key, old, new in differences(defaults, config)]
    if changed := [row for row in changed if row[0] not in ("name", "run_directory")]:
        yield Section("Settings that differ from the defaults", [Table(("setting", "value", "default"), changed)])


def _translations(summary: RunSummary) -> Translations | None:
    """Translations of the test set; before the end, those of the last validation."""
    if (test := summary.test_set()) is not None:
        return Translations("test", *test)
    directory = RunDirectory(summary.path)
    files = sorted(directory.validation.glob("step-*.hyp"))
    found = directory.load_translated("valid", files[-1]) if files else None
    return None if found is None else Translations("validation", *found)


def _findings(summary: RunSummary, translations: Translations | None) -> list[Diagnosis]:
    training = summary.config.training
    plan = TrainingPlan(training.max_steps, training.schedule.warmup_steps, summary.metric.lower())
    names = ("max_minutes", "max_epochs", "budget_minutes")
    given = [(f"training.{name}", value) for name in names if (value := getattr(training, name)) is not None]
    if summary.state == "running" or given:  # it has not ended, or a limit has shortened the warm-up
        plan = plan._replace(warmup_steps=0)
    plan = plan._replace(
        limits=tuple(given),
        has_ended=bool(given) and summary.state == "finished",
        dropout=summary.config.model.dropout,
        learns_translations=any(is_distilled(corpus) for corpus in summary.config.data.train),
    )
    texts = translations or Translations("", [], [], [])
    penalty = summary.config.decoding.length_penalty if texts.length_penalty is None else texts.length_penalty
    found = diagnose(texts.sources, texts.references, texts.hypotheses, summary.metrics, plan, penalty)
    if texts.hypotheses and (run := _run_text(summary)) is not None:
        found += text_findings(texts.sources, texts.references, texts.hypotheses, run)
    fell = [(name, float(old), float(new)) for test, _, name, old, new, _ in summary.before_and_after if test == "new"]
    found += fine_tuning_findings(fell, training.optimizer.learning_rate)
    found.sort(key=lambda finding: -finding.weight)
    return [finding._replace(command=finding.command.replace("RUN", quote(str(summary.path)))) for finding in found]


def _run_text(summary: RunSummary) -> RunText | None:
    """The text of a run for comparisons; None for a run of several target languages, or without a tokenizer."""
    directory, data = RunDirectory(summary.path), summary.config.data
    if any(source.target_tag for source in data.train) or not directory.tokenizer.is_dir():
        return None
    # Languages are identified at the end: it takes a second or two.
    identifier = Identifier(wanted=summary.state != "running")
    named = data.source_language, data.target_language
    return RunText(directory.load_pairs("valid"), load_tokenizers(directory), named, identifier)


def _findings_section(findings: Sequence[Diagnosis]) -> Section:
    if not findings:
        return Section("Findings", [Note("good", "Nothing conspicuous")])
    return Section(
        "Findings",
        [
            Note(
                "bad" if found.weight >= _GRAVE else "warn",
                found.message[:1].upper() + found.message[1:],
                found.evidence,
                found.command,
            )
            for found in findings
        ],
    )


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
        corpora=RunDirectory(summary.path).load_corpora("test"),
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
    """Curves, and the figures of each validation as a table."""
    score, best = "" if summary.metric == "loss" else summary.metric.lower(), summary.best
    mark = (float(best.step), best.score) if best else None
    loss = Curve("validation", summary.metric_curve("validation", "loss"), None if score else mark)
    charts: list[tuple[str, list[Curve]]] = [
        ("Loss", [Curve("training", summary.metric_curve("train", "loss")), loss]),
        ("Learning rate", [Curve("learning rate", summary.metric_curve("train", "learning_rate"))]),
        ("Gradient norm", [Curve("gradient norm", summary.metric_curve("train", "gradient_norm"))]),
    ]
    if score:
        curve = Curve(summary.metric, summary.metric_curve("validation", score), mark)
        charts.insert(0, (f"Validation {summary.metric}", [curve]))
    drawn = [Chart(title, svg) for title, curves in charts if (svg := line_chart(title, curves))]
    if not drawn:
        return
    blocks: list[Block] = [*drawn]
    if summary.curve:
        rows = [
            (
                f"{point.step:,}",
                *([f"{point.score:.2f}"] if score else []),
                f"{point.loss:.3f}",
                f"{value:,.2f}" if (value := perplexity(point.loss)) < 1e6 else f"{value:.2e}",
            )
            for point in summary.curve
        ]
        columns = ("step", *([summary.metric] if score else []), "loss", "perplexity")
        blocks.append(Details("the figures of every validation", Table(columns, rows)))
    yield Section("Training curves", blocks)


def _samples(summary: RunSummary, texts: Translations | None) -> Iterator[Section]:
    """The translations with the highest and the lowest chrF."""
    if texts is None:
        return
    attention = {(found.source, found.translation): found for found in RunDirectory(summary.path).load_attention()}
    best, worst = best_and_worst(texts.references, texts.hypotheses)
    for name, chosen in (("Worst", worst), ("Best", best)):
        rows = []
        for score, line in chosen:
            source, written = texts.sources[line], texts.hypotheses[line]
            found = attention.get((source, written))
            rows.append(Sample((f"chrF {score:.0f}", source, texts.references[line], written), found))
        if rows:
            shown = any(row.attention is not None for row in rows)
            hint = [Paragraph("Point at a word, or tap it, to see which words it attends to.")] if shown else []
            yield Section(f"{name} translations of the {texts.split} set", [*hint, Samples(_LABELS, rows)])


def _data(summary: RunSummary) -> Iterator[Section]:
    record = RunDirectory(summary.path).load_data_record()
    if record is None:
        return
    blocks: list[Block] = []
    counts = [(name.replace("_", " "), f"{count:,}") for name, count in record.counts.model_dump().items() if count]
    rows = counts + [(f"{side} tokens", f"{count:,}") for side, count in record.tokens.items()]
    if len(record.corpora) > 1:
        rows += [(f"pairs of corpus {number}", f"{count:,}") for number, count in enumerate(record.corpora)]
    if record.replay is not None:
        share = f"{summary.config.training.replay:.0%} of an epoch"
        rows.append((f"pairs of {record.replay.run}, {share}", f"{sum(record.replay.sizes):,}"))
    if rows:
        blocks.append(Table(("pairs", "count"), rows))
    files = [
        (split, file.file, f"{file.bytes:,}", file.sha256[:12])
        for split, inputs in record.inputs.items()
        for found in inputs
        for file in found.files
    ]
    if files:
        blocks.append(Table(("split", "file", "bytes", "SHA-256"), files))
    if blocks:
        yield Section("Data", blocks)


def _environment(summary: RunSummary) -> Iterator[Section]:
    rows: list[tuple[str, str]] = []
    with suppress(RecursionError):  # a text of deep nesting may be read, and be too deep to write
        rows = [(name, str(value)) for name, value in read_json_object(summary.path / "env.json").items()]
    if rows:
        yield Section("Environment", [Table(("part", "version"), rows)])
