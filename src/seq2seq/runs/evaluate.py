"""Validation during training; checkpoint averaging, the test score and shown attention at its end."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Literal

import torch

from seq2seq.alignment.word_alignment import AlignmentOptions, PairAttention, WordAligner
from seq2seq.atomic_files import write_text
from seq2seq.checkpoints.checkpoint import load_model_tensors, model_tensors, state_of
from seq2seq.checkpoints.folder import AVERAGED, CheckpointFolder
from seq2seq.console import say, warn
from seq2seq.data.batch_plan import Cursor
from seq2seq.data.batches import TrainingBatches
from seq2seq.data.prepare import Prepared
from seq2seq.data.store import Store
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.translator import Translator
from seq2seq.distributed.ranks import Ranks
from seq2seq.errors import CheckpointError, UserError
from seq2seq.evaluation.metrics import (
    MetricName,
    MetricResult,
    best_and_worst,
    bleu,
    choose_metric,
    chrf,
    corpus_metrics,
    perplexity,
    unknown_language,
)
from seq2seq.failpoints import reach
from seq2seq.fixed_text import is_blank
from seq2seq.languages import suggested_code
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.optimization.loss import summed_loss
from seq2seq.optimization.precision import Precision
from seq2seq.runs.context import RunContext
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.load import load
from seq2seq.runs.loaded_run import LoadedRun
from seq2seq.sealed_records import SentenceAttention, write_attention, write_record
from seq2seq.signals import StopRequest
from seq2seq.training.metrics_log import Validation
from seq2seq.training.trainer import Trainer

_SAMPLES = 3
_BATCH_TOKENS = 4096


class Validator:
    """Validation of a run: the loss on every pair, and BLEU or chrF if that is the metric; ranks share the work.

    The metric of `auto` is a function of the references, so that a resumed run has the same.

    Attributes:
        texts: the sources that it translates: all for BLEU or chrF, some as samples for the loss.
    """

    def __init__(self, context: RunContext, model: Seq2SeqModel, prepared: Prepared, precision: Precision) -> None:
        config = context.config
        self._context, self._model, self._prepared, self._precision = context, model, prepared, precision
        self._decoding = config.decoding.model_copy(update={"beam_size": config.training.validation_beam_size})
        self._sources, self._references = ([pair[side] for pair in prepared.valid_pairs] for side in (0, 1))
        self._metric = _validation_metric(config.training.metric, self._references, config.data.target_language)
        self.texts = self._sources[:_SAMPLES] if self._metric == "loss" else self._sources

    def __call__(self, step: int, stop: StopRequest) -> Validation | None:
        """Validate the model after `step` updates; None on every rank if `stop` interrupted one of them."""
        started, ranks = time.monotonic(), self._context.ranks
        done = stop.unless_stopped(self._own_share)
        if sum(ranks.sum_host([float(done is None)])) or done is None:
            return None
        loss = _mean(ranks.sum_host(done[0]))
        hypotheses = ranks.gather_texts(done[1])
        score = self._score(hypotheses)
        if score is not None and ranks.is_first:
            text = "".join(line + "\n" for line in hypotheses)
            write_text(self._context.directory.validation / f"step-{step:08d}.hyp", text)
        samples = (texts[:_SAMPLES] for texts in (self._sources, self._references, hypotheses))
        return Validation(
            step=step,
            loss=loss,
            perplexity=perplexity(loss),
            score=score,
            seconds=time.monotonic() - started,
            samples=list(zip(*samples, strict=True)),
            attention=self._attention(hypotheses) if ranks.is_first else [],
        )

    def _own_share(self) -> tuple[list[float], list[str]]:
        """Loss and tokens, and the translations, of this rank's share of the work; without exchanges."""
        model, ranks, languages = self._model, self._context.ranks, self._context.config.data.languages
        model.eval()
        sums = _loss_and_tokens(model, self._prepared.valid, self._precision, ranks)
        # A new engine each time: it may hold copies of weights, which have changed.
        engine = NativeEngine(model, self._precision.device)
        translator = Translator(engine, self._prepared.tokenizers, self._decoding, languages=languages)
        return sums, translator.translate(self.texts[ranks.rank :: ranks.size])

    def _score(self, hypotheses: Sequence[str]) -> MetricResult | None:
        match self._metric:
            case "bleu":
                language = self._context.config.data.target_language
                return bleu(hypotheses, self._references, target_language=language)
            case "chrf":
                return chrf(hypotheses, self._references)
            case "loss":
                return None

    def _attention(self, hypotheses: Sequence[str]) -> list[SentenceAttention]:
        aligner = WordAligner(self._model, self._prepared.tokenizers, self._decoding, self._precision.device)
        samples = zip(self._sources[:_SAMPLES], hypotheses[:_SAMPLES], strict=True)
        extremes = pairs_to_show(self.texts, self._references[: len(self.texts)], hypotheses)
        return sample_attention(aligner, [*samples, *extremes])


def _validation_metric(
    metric: Literal["auto", "bleu", "chrf", "loss"], references: Sequence[str], language: str
) -> MetricName:
    """The metric of a config, chosen for `auto` so that it can move on these references; says which and why."""
    if (fault := unknown_language(language)) is not None and suggested_code(language):
        warn(f"data.target_language: {fault}")
    chosen, reason = choose_metric(references, language)
    if metric == "auto":
        names = {"bleu": "BLEU", "chrf": "chrF", "loss": "the loss"}
        say(f"the best model is chosen by validation {names[chosen]}: {reason}")
        return chosen
    if metric == "bleu" != chosen:
        warn(f"training.metric: bleu hardly tells models apart here: {reason}; training.metric=auto takes {chosen}")
    return metric


@torch.inference_mode()
def _loss_and_tokens(model: Seq2SeqModel, store: Store | None, precision: Precision, ranks: Ranks) -> list[float]:
    """Negative log-likelihood in nats, without smoothing or dropout, and target tokens of this rank's share."""
    if store is None or len(store) == 0:
        return [0.0, 0.0]
    longest = int(max(store.source_lengths.max(), store.target_lengths.max())) + 1
    data = TrainingBatches(store, batch_size=max(_BATCH_TOKENS, longest), batch_type="tokens", seed=0)
    model.eval()
    total, tokens = 0.0, 0
    for batch, _ in islice(data.epoch(Cursor()), ranks.rank, None, ranks.size):
        batch = batch.to(precision.device)
        with precision.autocast():
            hidden = model(batch.source, batch.target_in)
            total += float(summed_loss(model.output, hidden, batch.target_out).nll)
        tokens += batch.tokens
    return [total, float(tokens)]


def _mean(sums: Sequence[float]) -> float:
    total, tokens = sums
    return total / tokens if tokens else math.inf


def average_checkpoints(trainer: Trainer) -> None:
    """Average the last checkpoints, and make the average the best model if its validation metric is better."""
    reach("average.begin")
    model, folder, count = trainer.model, trainer.checkpoints, trainer.settings.average_checkpoints
    validated = folder.validated()
    if count == 1 or len(validated) < 2 or trainer.validate is None:
        return
    paths = validated[-count:]
    try:
        tensors = folder.average(paths)
    except CheckpointError as error:
        warn(f"no average of the last {len(paths)} checkpoints: {error.what}")
        return
    load_model_tensors(model, tensors, "the average of checkpoints")
    result = trainer.validate(trainer.state.step, StopRequest())
    assert result is not None, "this stop request is never set"
    metric = result.metric
    best = trainer.state.best_metric
    say(
        f"average of the last {len(paths)} checkpoints: validation {result.shown_metric} "
        f"against {abs(best or 0.0):.2f} of step {trainer.state.best_step:,}"
    )
    # The average of an earlier end of this run may still be the best. If this end was interrupted after its average was
    # saved, that average has the same metric: it is saved and marked again.
    before = state_of(folder.path / AVERAGED).best_metric
    is_best = (best is None or metric > best) and (before is None or metric >= before)
    if trainer.ranks.is_first and is_best:
        state = replace(trainer.state, best_metric=metric, best_loss=result.loss, validated=False)
        folder.mark_best(folder.save(model_tensors(model), {}, state, name=AVERAGED))


def evaluate(
    run: LoadedRun, pairs: list[tuple[str, str]], ranks: Ranks | None = None
) -> tuple[list[str], list[MetricResult]]:
    """Translate sources with the decoding settings of the run and score against the raw references."""
    ranks = ranks or Ranks.single()
    sources = [source for source, _ in pairs]
    hypotheses = ranks.gather_texts(run.translator.translate(sources[ranks.rank :: ranks.size]))
    references = [target for _, target in pairs]
    return hypotheses, corpus_metrics(hypotheses, references, target_language=run.config.data.target_language)


def metrics_by_target_tag(
    run: LoadedRun, pairs: Sequence[tuple[str, str]], hypotheses: Sequence[str], target_language: str
) -> dict[str, list[MetricResult]]:
    """The metrics of the pairs of each target tag, by language: `de`; none if the pairs have no tags or a single one.

    Scores of several languages at once hide a language that fails.
    """
    languages = [run.target_tags.language(source) for source, _ in pairs]
    found = _metrics_by(languages, pairs, hypotheses, lambda language: language or target_language)
    return {language or "none": found[language] for language in sorted(found)}


def metrics_by_corpus(
    corpora: Sequence[str], pairs: Sequence[tuple[str, str]], hypotheses: Sequence[str], target_language: str
) -> dict[str, list[MetricResult]]:
    """The metrics of the pairs of each corpus, which `corpora` names for every pair; none if there is a single one."""
    return _metrics_by(corpora, pairs, hypotheses, lambda _: target_language)


def _metrics_by(
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    hypotheses: Sequence[str],
    target_language: Callable[[str], str],
) -> dict[str, list[MetricResult]]:
    """The metrics of the pairs of each name, in the order of the names; none for fewer than two names."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    if len(rows) < 2:
        return {}
    return {
        name: corpus_metrics(
            [hypotheses[row] for row in chosen],
            [pairs[row][1] for row in chosen],
            target_language=target_language(name),
        )
        for name, chosen in rows.items()
    }


def score_start(context: RunContext, earlier: RunDirectory, checkpoint: str) -> None:
    """Score the model that a fine-tuning starts from, on the new test set and on that of its run; every rank must call
    it, the first writes start.json."""
    config, directory, placement, ranks = context
    scores: dict[str, Any] = {"run": str(earlier.path), "checkpoint": checkpoint}
    sets = {split: pairs for split in ("test", "old_test") if (pairs := directory.load_pairs(split))}
    if not sets:
        return
    loaded = load(earlier.path, checkpoint=checkpoint, device=str(placement.device), threads=placement.threads)
    loaded.translator.settings = config.decoding
    run = LoadedRun(earlier, config, loaded.checkpoint, loaded.translator)  # decoded and scored like the new run
    for split, pairs in sets.items():
        say(f"translating {len(pairs):,} {split.replace('_', ' ')} sentences before fine-tuning")
        scores[split], _ = _scores(context, run, pairs, directory.load_corpora(split))
    if ranks.is_first:
        write_record(directory.start, scores)


def _scores(
    context: RunContext, run: LoadedRun, pairs: list[tuple[str, str]], corpora: Sequence[str]
) -> tuple[dict[str, Any], str]:
    """Scores of a test set as a record, and the translations."""
    config = context.config
    hypotheses, metrics = evaluate(run, pairs, context.ranks)
    text = "".join(line + "\n" for line in hypotheses)
    scores: dict[str, Any] = {
        "sentences": len(pairs),
        "metrics": [metric._asdict() for metric in metrics],
        "decoding": config.decoding.model_dump(mode="json"),
        "hypotheses": hashlib.sha256(text.encode("utf-8")).hexdigest(),
    }
    language = config.data.target_language
    for key, by in (
        ("by_corpus", metrics_by_corpus(corpora, pairs, hypotheses, language)),
        ("by_target_tag", metrics_by_target_tag(run, pairs, hypotheses, language)),
    ):
        if by:
            scores[key] = {name: [metric._asdict() for metric in found] for name, found in by.items()}
    return scores, text


def score_test_set(context: RunContext) -> None:
    """Score the best model on the test set, also on that of the run it was fine-tuned from, and write results.json."""
    config, directory, placement, ranks = context
    ranks.barrier()  # rank 0 has marked the best model
    run = load(directory.path, device=str(placement.device), threads=placement.threads)
    results: dict[str, Any] = {"checkpoint": run.checkpoint, "test": None}
    for split in ("test", "old_test"):
        if pairs := directory.load_pairs(split):
            say(f"translating {len(pairs):,} {split.replace('_', ' ')} sentences with beam {config.decoding.beam_size}")
            results[split], text = _scores(context, run, pairs, directory.load_corpora(split))
            if ranks.is_first:
                write_text(directory.path / f"{split}.hyp", text)
            if ranks.is_first and split == "test":
                sides = [source for source, _ in pairs], [target for _, target in pairs]
                shown = pairs_to_show(*sides, text.split("\n")[:-1])
                write_attention(directory.attention, sample_attention(run.aligner(), shown))
    if (start := directory.load_start()) is not None:
        results["start"] = start.model_dump(mode="json", exclude={"format", "check"})
    states = map(state_of, reversed(CheckpointFolder(directory.checkpoints).steps()))
    if (state := next((state for state in states if state.step), None)) is not None:
        results |= {"steps": state.step, "minutes": state.seconds / 60}
    if ranks.is_first:
        write_record(directory.results, results)


def sample_attention(aligner: WordAligner, pairs: Sequence[tuple[str, str]]) -> list[SentenceAttention]:
    """Attention over the words of (source, translation) pairs.

    Left out are blank texts and those beyond the model's limits. A model without attention, or too little memory for
    it, gives none: it is only shown.
    """
    shown = [pair for pair in dict.fromkeys(pairs) if not any(map(is_blank, pair))]
    try:
        whole = aligner.within_limits(shown)
        return [_over_words(pair, found) for pair, found in zip(whole, aligner.attention(whole), strict=True)]
    except UserError:
        return []


def pairs_to_show(
    sources: Sequence[str], references: Sequence[str], hypotheses: Sequence[str]
) -> list[tuple[str, str]]:
    """The (source, translation) pairs with the highest and the lowest chrF, which the report shows."""
    best, worst = best_and_worst(references, hypotheses)
    return [(sources[found.line], hypotheses[found.line]) for found in (*best, *worst)]


def _over_words(pair: tuple[str, str], found: PairAttention) -> SentenceAttention:
    matrix = found.matrix(AlignmentOptions(), words=True)
    percent = (100 * matrix.weights).round().clamp(0, 100).int().tolist()
    return SentenceAttention(
        source=pair[0],
        translation=pair[1],
        source_words=matrix.source_pieces,
        target_words=matrix.target_pieces,
        weights=percent,
    )
