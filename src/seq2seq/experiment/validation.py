"""What is looked at while training, and at its end: loss, translations and their scores on held-out pairs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

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
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.optimization.loss import summed_loss
from seq2seq.optimization.precision import Precision
from seq2seq.training.distributed import Ranks
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
) -> Callable[[int], Validation]:
    """Loss on every validation pair, BLEU of its translations where BLEU is the metric; the ranks share the work."""
    decoding = config.decoding.model_copy(update={"beam_size": config.training.validation_beam_size})
    sources = [source for source, _ in prepared.valid_pairs]
    references = [target for _, target in prepared.valid_pairs]

    def validate(step: int) -> Validation:
        started = time.monotonic()
        model.eval()
        loss = validation_loss(model, prepared.valid, precision, ranks)
        score: MetricResult | None = None
        # A new engine each time: it may keep copies of weights, and they have changed.
        translator = Translator(NativeEngine(model, precision.device), prepared.tokenizers, decoding)
        texts = sources if config.training.metric == "bleu" else sources[:_SAMPLES]
        hypotheses = ranks.gather_texts(translator.translate(texts[ranks.rank :: ranks.size]))
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
def validation_loss(
    model: Seq2SeqModel, store: Store | None, precision: Precision, ranks: Ranks | None = None
) -> float:
    """Negative log-likelihood per target token, in nats, without smoothing or dropout."""
    if store is None or len(store) == 0:
        return math.inf
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
    ranks = ranks or Ranks.single()
    for rows in plan[ranks.rank :: ranks.size]:
        batch = collate(*store.rows(rows)).to(precision.device)
        with precision.autocast():
            hidden = model(batch.source, batch.target_in)
            total += float(summed_loss(model.output, hidden, batch.target_out).nll)
        tokens += batch.tokens
    total, every = ranks.sum_host([total, tokens])
    return total / every


def evaluate(
    run: LoadedRun, pairs: list[tuple[str, str]], ranks: Ranks | None = None
) -> tuple[list[str], list[MetricResult]]:
    """Translate the sources with the run's own decoding settings and score against the raw references."""
    ranks = ranks or Ranks.single()
    sources = [source for source, _ in pairs]
    hypotheses = ranks.gather_texts(run.translate(sources[ranks.rank :: ranks.size]))
    references = [target for _, target in pairs]
    return hypotheses, corpus_metrics(hypotheses, references, target_language=run.config.data.target_language)
