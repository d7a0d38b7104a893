"""Our own engine: a model of this project, searched on one device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch

from seq2seq.console import say
from seq2seq.decoding.beam_search import search
from seq2seq.decoding.candidates import Choose
from seq2seq.decoding.constraints import constrained, constrained_width
from seq2seq.decoding.diversity import diverse_search
from seq2seq.decoding.interface import Engine, Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.length_limits import check, lengths
from seq2seq.decoding.text_batches import padded
from seq2seq.errors import ResourceError, UsageError
from seq2seq.kernels import compile as kernels
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.models.linear import packed_weights
from seq2seq.special_tokens import EOS
from seq2seq.system import computes_bf16

_TYPES = {"auto": torch.float32, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_WORTH_LOADING = 40_000
"""Characters from which compiled loops are worth their loading, which takes 0.8 s; of a very long text only some lines
are seen at first. They save 0.8 s of 2.2 for 1,000 captions with beam 5 by two processes, 0.5 of 1.1 greedily."""

FEW_THREADS = 2
"""They run in one thread; with more than these torch's operators win."""


class NativeEngine(Engine):
    """Searches with a model on its device; each call is one batch.

    Diverse beams and phrases that an output must hold are ways to choose tokens, which the search itself does not know.

    `precision`: `auto` is fp32, in which a translation hardly ever depends on what else is in its batch. In `bf16` a
    CPU computes all products but the vocabulary's scores, a GPU all that torch's autocast does, as in `fp16`. Raises
    `UsageError` for others, for fp16 on a CPU, and for bf16 on one that does not have it.
    """

    def __init__(self, model: Seq2SeqModel, device: torch.device, precision: str = "auto") -> None:
        if precision not in _TYPES:
            raise UsageError(
                f"unknown precision {precision!r}", hint=f"one of {', '.join(_TYPES)}", code="usage.choice"
            )
        if precision == "fp16" and device.type == "cpu":
            raise UsageError("fp16 needs a GPU", hint="auto (--precision, decoding.precision)", code="device.precision")
        if precision == "bf16" and device.type == "cpu" and not computes_bf16():
            raise UsageError(
                "this CPU does not compute in bf16",
                hint="auto or fp32 (--precision, decoding.precision)",
                code="device.precision",
            )
        self.model, self.device, self.dtype = model, device, _TYPES[precision]
        self._is_unchanged = self._is_compiled = False

    @property
    def max_source_length(self) -> int | None:
        return self.model.max_source_length

    @property
    def max_target_length(self) -> int | None:
        return self.model.max_target_length

    def prepare(self, characters: int) -> None:
        """See `Engine`: on a CPU, compiled loops. Whether they are used does not depend on earlier texts."""
        self._is_compiled = self.device.type == "cpu" and characters >= _WORTH_LOADING
        if self._is_compiled:
            kernels.load(partial(say, kernels.COMPILING))

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """See `Engine`: on a CPU weights are put in order once."""
        if self.device.type != "cpu":
            yield
            return
        with self._numbers():
            self._is_unchanged = True
            try:
                yield
            finally:
                self._is_unchanged = False

    def version(self) -> tuple[int, ...]:
        """See `Engine`: torch counts the writes to every tensor. Also whether it uses compiled loops."""
        parts = [part for part in self.model.parameters() if not part.is_inference()]
        weights = (number for part in parts for number in (part.data_ptr(), part._version))
        return (int(self._is_compiled), *weights)

    def search(self, sentences: Sequence[Sentence], options: SearchOptions) -> list[list[Hypothesis]]:
        if not 0 <= options.diversity < float("inf"):
            raise UsageError(
                f"diversity must be 0 or more, not {options.diversity}", hint="0.2 to 0.8 is usual", code="usage.value"
            )
        wants_more = options.diversity > 0 or any(sentence.phrases for sentence in sentences)
        if options.sampling is not None and wants_more:
            raise UsageError(
                "samples know neither phrases nor diversity", hint="search with a beam instead", code="usage.conflict"
            )
        if options.diversity > 0 and any(sentence.phrases for sentence in sentences):
            raise UsageError(
                "diverse outputs cannot be made to hold phrases", hint="set the diversity to 0", code="usage.conflict"
            )
        if not sentences:
            return []
        try:
            numbers = nullcontext() if self._is_unchanged else self._numbers()
            uses_loops = self._is_compiled and torch.get_num_threads() <= FEW_THREADS
            loops = kernels.in_use() if uses_loops else nullcontext()
            with inference(self.model, self.device), numbers, loops:
                if options.diversity > 0:
                    return diverse_search(partial(self._batch, sentences), options)
                return self._by_width(sentences, options)
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"out of memory with {len(sentences)} lines at once and beam size {options.beam_size}",
                hint="halve decoding.batch_tokens",
                code="memory.translating",
            ) from error

    def _numbers(self) -> AbstractContextManager[None]:
        if self.device.type == "cpu":
            # bf16 scores of the vocabulary would be too coarse: many tie, and log P is off by hundredths.
            outputs = [part for name, part in self.model.named_modules() if name.rpartition(".")[2] == "output"]
            return packed_weights(self.model, self.dtype, exact=outputs)
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _by_width(self, sentences: Sequence[Sentence], options: SearchOptions) -> list[list[Hypothesis]]:
        """Sentences with phrases search a wider beam, apart from the others."""
        widths = [constrained_width(sentence.phrases, options.beam_size) for sentence in sentences]
        kinds = [(width, bool(sentence.phrases)) for width, sentence in zip(widths, sentences, strict=True)]
        found: list[list[Hypothesis]] = [[] for _ in sentences]
        for width, with_phrases in sorted(set(kinds)):
            places = [place for place, kind in enumerate(kinds) if kind == (width, with_phrases)]
            some, wider = [sentences[place] for place in places], options._replace(beam_size=width)
            choose = None
            if with_phrases:
                check(some, options)
                choose = constrained(some, lengths(self.model, some, wider), wider)
            for place, hypotheses in zip(places, self._batch(some, wider, choose), strict=True):
                found[place] = hypotheses
        return found

    def _batch(
        self, sentences: Sequence[Sentence], options: SearchOptions, choose: Choose | None = None
    ) -> list[list[Hypothesis]]:
        source = padded([[*sentence.ids, EOS] for sentence in sentences], self.device)
        return search(self.model, source, sentences, options, choose=choose)


@contextmanager
def inference(model: Seq2SeqModel, device: torch.device) -> Iterator[None]:
    """Eval mode, no gradients, full precision; training goes on as it was afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        model.train(was_training)
