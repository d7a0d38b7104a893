"""Whether an export translates as the model does: greedy outputs side by side, and their BLEU.

Two libraries add the same numbers in another order, so that logits differ in the sixth digit. Where a model finds two
tokens equally likely, either may come out; every other difference is a fault of the export.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from seq2seq.decoding.engine import NativeEngine, inference
from seq2seq.decoding.interface import Engine, SearchOptions, Sentence
from seq2seq.decoding.segmentation import single_line
from seq2seq.decoding.text_batches import batches_by_length, padded, visible_ids
from seq2seq.errors import CheckpointError, DataError
from seq2seq.evaluation.metrics import MetricResult, bleu
from seq2seq.export.folder import Trained
from seq2seq.special_tokens import BOS, EOS, SPECIAL_TOKENS

_TIE = 1e-3
"""Nats by which one token may be likelier than another before a different choice is a fault."""
_RANDOM_SENTENCES = 50
_RANDOM_LENGTHS = (1, 20)


class Result(NamedTuple):
    """How one engine did."""

    name: str
    identical: int
    """Sentences whose tokens are the model's own."""
    ties: int
    """Others that part at a token which is as likely as the model's own; counted in full precision only."""
    bleu: float | None
    """0 to 100, of greedy outputs; None where there are no references."""


class Parity(NamedTuple):
    """The check of an export."""

    sentences: int
    source: str
    """Which text: `test`, `valid` or `random tokens`."""
    native: Result
    results: tuple[Result, ...]
    signature: str
    """sacrebleu's; empty without references."""

    def to_json(self) -> dict[str, Any]:
        """For `export.json`."""
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
        """BLEU less that of the model itself."""
        if result.bleu is None or self.native.bleu is None:
            return None
        return result.bleu - self.native.bleu

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Engine, identical outputs, BLEU and its difference, as text."""
        rows = []
        for result in (self.native, *self.results):
            equal = f"{result.identical}/{self.sentences}" + (f" + {result.ties} ties" if result.ties else "")
            score = "-" if result.bleu is None else f"{result.bleu:.2f}"
            change = self.difference(result)
            rows.append((result.name, equal, score, "-" if change is None else f"{change:+.2f}"))
        return rows


class Reference:
    """The model's own greedy outputs of some lines, to compare others with.

    Attributes:
        sentences: what is translated.
        texts: their lines; none where the sentences are random tokens.
        options: of the search, greedy.
        outputs: target tokens of each sentence, without EOS.
    """

    def __init__(self, trained: Trained, count: int, longest: int) -> None:
        """Translate the first `count` lines of `trained.pairs`, without those beyond `longest` tokens.

        Where there are no pairs the sentences are random tokens, and there is no BLEU.

        Raises:
            DataError: `count` is below 1.
        """
        if count < 1:
            raise DataError(
                f"an export cannot be checked with {count} sentences", hint="--sentences 200", code="data.too-few"
            )
        self._trained = trained
        decoding = trained.config.decoding
        self.options = SearchOptions(
            beam_size=1,
            length_penalty=decoding.length_penalty,
            max_length_ratio=decoding.max_length_ratio,
            max_length_offset=decoding.max_length_offset,
        )
        rows = visible_ids(trained.tokenizers.source.encode, [source for source, _ in trained.pairs[: 2 * count]])
        usable = [place for place, row in enumerate(rows) if 0 < len(row) <= longest][:count]
        self.sentences = [Sentence(rows[place]) for place in usable]
        self.texts = [trained.pairs[place][0] for place in usable]
        self._references = [trained.pairs[place][1] for place in usable]
        if not usable:
            self.sentences = _random_sentences(trained.tokenizers.source.size, min(count, _RANDOM_SENTENCES), longest)
        engine = NativeEngine(trained.model, torch.device("cpu"), precision="fp32")
        self.outputs = search_in_batches(engine, self.sentences, self.options, decoding.batch_tokens)
        score = self._bleu(self.outputs)
        self._signature = score.signature if score else ""
        self._native = Result("native fp32", len(self.sentences), 0, score.value if score else None)

    def compare(self, name: str, outputs: Sequence[Sequence[int]], *, exact: bool) -> Result:
        """How other outputs differ.

        Raises:
            CheckpointError: `exact`, and an output is not the model's although another token is clearly likelier.
        """
        identical = [list(theirs) == ours for theirs, ours in zip(outputs, self.outputs, strict=True)]
        ties = 0
        if exact:
            for place in (place for place, same in enumerate(identical) if not same):
                margin = self._margin(place, outputs[place])
                if margin > _TIE:
                    raise CheckpointError(
                        f"{name} writes something else than the model in line {place + 1} of {len(identical)} "
                        f"({sum(identical)} are the same; the model's token is likelier by {margin:.3g} nats)",
                        hint="nothing was exported; please report this with the run's config.yaml",
                        code="export.parity",
                    )
                ties += 1
        score = self._bleu(outputs)
        return Result(name, sum(identical), ties, score.value if score else None)

    def parity(self, results: Sequence[Result]) -> Parity:
        """All that was compared."""
        source = self._trained.split if self._references else "random tokens"
        return Parity(len(self.sentences), source, self._native, tuple(results), self._signature)

    def _bleu(self, outputs: Sequence[Sequence[int]]) -> MetricResult | None:
        if not self._references:
            return None
        texts = [single_line(text) for text in self._trained.tokenizers.target.decode(outputs)]
        return bleu(texts, self._references, target_language=self._trained.config.data.target_language)

    def _margin(self, place: int, theirs: Sequence[int]) -> float:
        """Nats by which our token is likelier than theirs, where the two outputs part."""
        mine, other = [*self.outputs[place], EOS], [*theirs, EOS]
        first = next(i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b)
        model, device = self._trained.model, torch.device("cpu")
        with inference(model, device):
            source = padded([[*self.sentences[place].ids, EOS]], device)
            hidden = model(source, padded([[BOS, *mine[:first]]], device))[:, -1]
            logits = model.logits(hidden)[0]
        return float(logits[mine[first]] - logits[other[first]])


def search_in_batches(
    engine: Engine, sentences: Sequence[Sentence], options: SearchOptions, batch_tokens: int
) -> list[list[int]]:
    """Tokens of the best output of each sentence."""
    outputs: list[list[int]] = [[] for _ in sentences]
    for batch in batches_by_length([len(sentence.ids) + 1 for sentence in sentences], batch_tokens):
        found = engine.search([sentences[place] for place in batch], options)
        for place, hypotheses in zip(batch, found, strict=True):
            outputs[place] = hypotheses[0].tokens
    return outputs


def _random_sentences(size: int, count: int, longest: int) -> list[Sentence]:
    draw = random.Random(1)
    shortest, most = _RANDOM_LENGTHS
    lengths = [draw.randint(shortest, max(shortest, min(most, longest))) for _ in range(count)]
    first = min(len(SPECIAL_TOKENS), size - 1)
    return [Sentence([draw.randrange(first, size) for _ in range(length)]) for length in lengths]
