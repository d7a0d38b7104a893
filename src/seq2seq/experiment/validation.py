"""What is looked at while training, and at its end: loss, translations and their scores on held-out pairs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch

from seq2seq.config import Config
from seq2seq.data.batching import collate, plan_epoch
from seq2seq.data.prepare import Prepared
from seq2seq.data.store import Store
from seq2seq.evaluation.metrics import MetricResult, bleu, corpus_metrics
from seq2seq.experiment.directory import RunDirectory
from seq2seq.experiment.loading import LoadedRun
from seq2seq.files import write_text
from seq2seq.inference.engine import NativeEngine
from seq2seq.inference.translator import Translator
from seq2seq.interruption import StopRequest
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.optimization.loss import summed_loss
from seq2seq.optimization.precision import Precision
from seq2seq.training.inputs import Validate
from seq2seq.training.ranks.group import Ranks
from seq2seq.training.report import Validation

_SAMPLES = 3
_BATCH_TOKENS = 4096


def make_validation(
    config: Config,
    directory: RunDirectory,
    model: Seq2SeqModel,
    prepared: Prepared,
    precision: Precision,
    ranks: Ranks,
) -> Validate:
    """Loss on every validation pair, BLEU of its translations where BLEU is the metric; the ranks share the work."""
    decoding = config.decoding.model_copy(update={"beam_size": config.training.validation_beam_size})
    sources = [source for source, _ in prepared.valid_pairs]
    references = [target for _, target in prepared.valid_pairs]
    texts = sources if config.training.metric == "bleu" else sources[:_SAMPLES]

    def work() -> tuple[list[float], list[str]]:
        """This rank's share, in which nothing is exchanged."""
        model.eval()
        sums = _loss_and_tokens(model, prepared.valid, precision, ranks)
        # A new engine each time: it may keep copies of weights, and they have changed.
        translator = Translator(NativeEngine(model, precision.device), prepared.tokenizers, decoding)
        return sums, translator.translate(texts[ranks.rank :: ranks.size])

    def validate(step: int, stop: StopRequest) -> Validation | None:
        started = time.monotonic()
        done = stop.unless_stopped(work)
        if sum(ranks.sum_host([float(done is None)])) or done is None:
            return None
        loss = _mean(ranks.sum_host(done[0]))
        hypotheses = ranks.gather_texts(done[1])
        score: MetricResult | None = None
        if config.training.metric == "bleu":
            score = bleu(hypotheses, references, target_language=config.data.target_language)
            if ranks.is_first:
                write_text(directory.validation / f"step-{step:08d}.hyp", "".join(line + "\n" for line in hypotheses))
        return Validation(
            step=step,
            loss=loss,
            perplexity=math.exp(min(loss, 700.0)),
            bleu=None if score is None else score.value,
            signature="" if score is None else score.signature,
            seconds=time.monotonic() - started,
            samples=list(zip(sources[:_SAMPLES], references[:_SAMPLES], hypotheses[:_SAMPLES], strict=True)),
        )

    return validate


@torch.inference_mode()
def _loss_and_tokens(model: Seq2SeqModel, store: Store | None, precision: Precision, ranks: Ranks) -> list[float]:
    """[negative log-likelihood in nats, without smoothing or dropout; target tokens] of this rank's share."""
    if store is None or len(store) == 0:
        return [0.0, 0.0]
    longest = int(max(store.source_lengths.max(), store.target_lengths.max())) + 1
    plan = plan_epoch(
        store.source_lengths,
        store.target_lengths,
        batch_size=max(_BATCH_TOKENS, longest),
        batch_type="tokens",
        seed=0,
        epoch=0,
    )
    model.eval()
    total, tokens = 0.0, 0
    for rows in plan[ranks.rank :: ranks.size]:
        batch = collate(*store.rows(rows)).to(precision.device)
        with precision.autocast():
            hidden = model(batch.source, batch.target_in)
            total += float(summed_loss(model.output, hidden, batch.target_out).nll)
        tokens += batch.tokens
    return [total, float(tokens)]


def _mean(sums: Sequence[float]) -> float:
    total, tokens = sums
    return total / tokens if tokens else math.inf


def evaluate(
    run: LoadedRun, pairs: list[tuple[str, str]], ranks: Ranks | None = None
) -> tuple[list[str], list[MetricResult]]:
    """Translate the sources with the run's own decoding settings and score against the raw references."""
    ranks = ranks or Ranks.single()
    sources = [source for source, _ in pairs]
    hypotheses = ranks.gather_texts(run.translate(sources[ranks.rank :: ranks.size]))
    references = [target for _, target in pairs]
    return hypotheses, corpus_metrics(hypotheses, references, target_language=run.config.data.target_language)
