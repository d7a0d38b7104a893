"""Parity check of exports: greedy outputs compared with those of the model, and their BLEU.

Two libraries add the same numbers in different orders, so logits differ in the sixth digit. If two tokens are equally
likely, either may be chosen; any other difference is a fault of the export.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from seq2seq.decoding.engine import NativeEngine, inference
from seq2seq.decoding.interface import Engine, SearchOptions, Sentence
from seq2seq.decoding.segmentation import single_line
from seq2seq.decoding.text_batches import batches_by_length, encode_texts, padded
from seq2seq.errors import CheckpointError
from seq2seq.evaluation.metrics import MetricResult, bleu
from seq2seq.export.folder import Trained
from seq2seq.special_tokens import BOS, EOS, SPECIAL_TOKENS

_TIE = 1e-3
"""Maximum difference in nats of two tokens that count as equally likely."""
_RANDOM_SENTENCES = 50
_RANDOM_LENGTHS = (1, 20)


class Result(NamedTuple):
    """Result of one engine."""

    name: str
    identical: int
    """Number of sentences with the same tokens as the model's."""
    ties: int
    """Number of others whose first different token is equally likely; counted in full precision only."""
    bleu: float | None
    """BLEU of the greedy outputs, 0 to 100; None without references."""


class Parity(NamedTuple):
    """Results of a parity check."""

    sentences: int
    source: str
    """The text: `test`, `valid` or `random tokens`."""
    native: Result
    results: tuple[Result, ...]
    signature: str
    """sacrebleu's signature; empty without references."""

    def to_json(self) -> dict[str, Any]:
        """The results for `export.json`."""
        return {
            "sentences": self.sentences,
            "source": self.source,
            "search": "greedy",
            "signature": self.signature,
            "engines": [
                {**result._asdict(), "bleu_difference": self.difference(result)}
                for result in (self.native, *self.results)
            ],
        }

    def difference(self, result: Result) -> float | None:
        """Difference to the BLEU of the model itself."""
        if result.bleu is None or self.native.bleu is None:
            return None
        return result.bleu - self.native.bleu

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Table rows: engine, identical outputs, BLEU, and its difference."""
        rows = []
        for result in (self.native, *self.results):
            equal = f"{result.identical}/{self.sentences}" + (f" + {result.ties} ties" if result.ties else "")
            score = "-" if result.bleu is None else f"{result.bleu:.2f}"
            change = self.difference(result)
            rows.append((result.name, equal, score, "-" if change is None else f"{change:+.2f}"))
        return rows


class Reference:
    """Greedy outputs of the model, to compare an export with.

    Attributes:
        sentences: the translated sentences.
        texts: their lines; empty if the sentences are random tokens.
        options: options of the greedy search.
        outputs: target tokens of each sentence, without EOS.
    """

    def __init__(self, trained: Trained, count: int, longest: int) -> None:
        """Translate the first `count` lines of `trained.pairs` that have at most `longest` tokens.

        Without pairs the sentences are random tokens, and no BLEU is computed.
        """
        self._trained = trained
        decoding = trained.config.decoding
        self.options = SearchOptions(
            beam_size=1,
            length_penalty=decoding.length_penalty,
            max_length_ratio=decoding.max_length_ratio,
            max_length_offset=decoding.max_length_offset,
        )
        rows = encode_texts(trained.tokenizers.source.encode, [source for source, _ in trained.pairs[: 2 * count]])
        usable = [index for index, row in enumerate(rows) if 0 < len(row) <= longest][:count]
        self.sentences = [Sentence(rows[index]) for index in usable]
        self.texts = [trained.pairs[index][0] for index in usable]
        self._references = [trained.pairs[index][1] for index in usable]
        if not usable:
            self.sentences = _random_sentences(trained.tokenizers.source.size, min(count, _RANDOM_SENTENCES), longest)
        engine = NativeEngine(trained.model, torch.device("cpu"), precision="fp32")
        self.outputs = _search_in_batches(engine, self.sentences, self.options, decoding.batch_tokens)
        score = self._bleu(self.outputs)
        self._signature = score.signature if score else ""
        self._native = Result("native fp32", len(self.sentences), 0, score.value if score else None)

    def compare(self, name: str, outputs: Sequence[Sequence[int]], *, exact: bool) -> Result:
        """Compare outputs with those of the model.

        Raises:
            CheckpointError: `exact`, and an output has a token that is less likely than the model's.
        """
        identical = [list(theirs) == ours for theirs, ours in zip(outputs, self.outputs, strict=True)]
        ties = 0
        if exact:
            for index in (index for index, same in enumerate(identical) if not same):
                margin = self._margin(index, outputs[index])
                if margin > _TIE:
                    raise CheckpointError(
                        f"{name} writes something else than the model in line {index + 1} of {len(identical)} "
                        f"({sum(identical)} are the same; the model's token is likelier by {margin:.3g} nats)",
                        hint="nothing was exported; please report this with the run's config.yaml",
                        code="export.parity",
                    )
                ties += 1
        score = self._bleu(outputs)
        return Result(name, sum(identical), ties, score.value if score else None)

    def parity(self, results: Sequence[Result]) -> Parity:
        """The results of all engines."""
        source = self._trained.split if self._references else "random tokens"
        return Parity(len(self.sentences), source, self._native, tuple(results), self._signature)

    def _bleu(self, outputs: Sequence[Sequence[int]]) -> MetricResult | None:
        if not self._references:
            return None
        texts = [single_line(text) for text in self._trained.tokenizers.target.decode(outputs)]
        return bleu(texts, self._references, target_language=self._trained.config.data.target_language)

    def _margin(self, index: int, theirs: Sequence[int]) -> float:
        """Nats by which the model's token is likelier than theirs, at the first difference of the outputs."""
        own, other = [*self.outputs[index], EOS], [*theirs, EOS]
        first = next(i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b)
        model, device = self._trained.model, torch.device("cpu")
        with inference(model, device):
            source = padded([[*self.sentences[index].ids, EOS]], device)
            hidden = model(source, padded([[BOS, *own[:first]]], device))[:, -1]
            logits = model.logits(hidden)[0]
        return float(logits[own[first]] - logits[other[first]])


def _search_in_batches(
    engine: Engine, sentences: Sequence[Sentence], options: SearchOptions, batch_tokens: int
) -> list[list[int]]:
    """Tokens of the best output of each sentence."""
    outputs: list[list[int]] = [[] for _ in sentences]
    for batch in batches_by_length([len(sentence.ids) + 1 for sentence in sentences], batch_tokens):
        results = engine.search([sentences[index] for index in batch], options)
        for index, hypotheses in zip(batch, results, strict=True):
            outputs[index] = hypotheses[0].tokens
    return outputs


def _random_sentences(size: int, count: int, longest: int) -> list[Sentence]:
    draw = random.Random(1)
    shortest, most = _RANDOM_LENGTHS
    lengths = [draw.randint(shortest, max(shortest, min(most, longest))) for _ in range(count)]
    first = min(len(SPECIAL_TOKENS), size - 1)
    return [Sentence([draw.randrange(first, size) for _ in range(length)]) for length in lengths]
