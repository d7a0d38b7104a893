"""The native engine: search with a model of this project on one device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch

from seq2seq.console import say
from seq2seq.decoding.beam_search import search
from seq2seq.decoding.candidates import Choose
from seq2seq.decoding.constraints import constrained, constrained_width
from seq2seq.decoding.diversity import diverse_search
from seq2seq.decoding.interface import Engine, Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.length_limits import check, lengths
from seq2seq.decoding.shortlist import Shortlist, Tokens
from seq2seq.decoding.text_batches import padded
from seq2seq.errors import ResourceError, UsageError
from seq2seq.kernels import compile as kernels
from seq2seq.kernels.compiled_transformer import pack_for_search
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.special_tokens import EOS
from seq2seq.system import computes_bf16

_TYPES = {
    "auto": torch.float32,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.int8,
}

_OTHER_PRECISION = "auto or fp32 (--precision, decoding.precision)"
_WORTH_LOADING = 40_000
"""Characters of a text from which the compiled loops are worth loading, which takes 0.8 s; only the first lines of a
long text are counted. They save 0.8 s of 2.2 for 1,000 captions with beam 5 in two processes, 0.5 of 1.1 greedily."""

FEW_THREADS = 2
"""Maximum threads of a process for which the loops, which run in one thread, are faster than torch's operators."""


class NativeEngine(Engine):
    """Searches with a model on its device; each call is one batch.

    On a CPU search uses a copy of the model with packed weights and, for long texts, compiled loops.

    `precision`: `auto` is fp32, in which a translation hardly ever depends on the rest of its batch. In `bf16` a CPU
    computes all products except the vocabulary's scores, and a GPU all that torch's autocast does, as in `fp16`. In
    `int8`, for CPUs, the linear layers, that of the vocabulary included, multiply integers of 8 bits, and the loops are
    used with any number of threads. Raises `UsageError` for other precisions, and for those that the device lacks.

    With a `shortlist`, a search writes only the tokens that it lists for the sentence, unless it samples or is diverse,
    or the sentence has a prefix, phrases or a token without list.
    """

    def __init__(
        self,
        model: Seq2SeqModel,
        device: torch.device,
        precision: str = "auto",
        shortlist: Shortlist | None = None,
    ) -> None:
        if precision not in _TYPES:
            raise UsageError(
                f"unknown precision {precision!r}", hint=f"one of {', '.join(_TYPES)}", code="usage.choice"
            )
        if fault := precision_fault(precision, device):
            raise UsageError(fault, hint=_OTHER_PRECISION, code="device.precision")
        self.model, self.device, self.shortlist = model, device, shortlist
        self.precision, self.dtype = precision, _TYPES[precision]
        self._is_compiled = False
        self._parameters = [module._parameters for module in model.modules() if module._parameters]
        """The parameters of each module: finding the modules anew takes a tenth of the time of a short sentence. The
        model may get other parameters later, but no other modules."""
        self._packed: dict[bool, Seq2SeqModel] | None = None
        """The packed models, with and without loops, while the weights do not change."""
        self._kept: tuple[tuple[int, ...], dict[bool, Seq2SeqModel]] = (), {}
        """Version of the weights, and the packed models of the last `unchanged`: packing them again would take a third
        of the time of a short sentence."""

    @property
    def max_source_length(self) -> int | None:
        return self.model.max_source_length

    @property
    def max_target_length(self) -> int | None:
        return self.model.max_target_length

    def prepare(self, characters: int) -> None:
        """See `Engine`: loads compiled loops on a CPU. Whether they are used does not depend on earlier texts."""
        is_long = characters >= _WORTH_LOADING or self.dtype == torch.int8
        self._is_compiled = self.device.type == "cpu" and is_long
        if self._is_compiled:
            reason = kernels.load(partial(say, kernels.COMPILING))
            if reason and self.dtype == torch.int8:
                raise UsageError(
                    f"int8 needs loops that numba compiles: {reason}", hint=_OTHER_PRECISION, code="device.precision"
                )

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """See `Engine`: on a CPU the weights are packed once, and again only after they have changed.

        Between validations of a model in training, the packed weights are freed.
        """
        version = self._weights_version()
        if version != self._kept[0]:
            self._kept = version, {}
        self._packed = self._kept[1]
        try:
            yield
        finally:
            self._packed = None
            if self.model.training or not version:
                self._kept = (), {}

    def version(self) -> tuple[int, ...]:
        """See `Engine`: torch's counts of the writes to every parameter, and whether compiled loops are used."""
        return (int(self._is_compiled), *self._weights_version())

    def _weights_version(self) -> tuple[int, ...]:
        """Empty if unknown: torch does not count the writes to tensors that were made in inference mode."""
        parts = [part for parameters in self._parameters for part in parameters.values() if part is not None]
        if any(part.is_inference() for part in parts):
            return ()
        return tuple(number for part in parts for number in (part.data_ptr(), part._version))

    def search(self, sentences: Sequence[Sentence], options: SearchOptions) -> list[list[Hypothesis]]:
        check(sentences, options)
        if not sentences:
            return []
        if self.dtype == torch.int8 and not self._is_compiled:
            self.prepare(0)
        try:
            takes_loops = torch.get_num_threads() <= FEW_THREADS or self.dtype == torch.int8
            loops = kernels.loaded() if self._is_compiled and takes_loops else None
            with inference(self.model, self.device), self._autocast(), kernels.in_use(loops):
                model = self._packed_model(loops)
                if options.diversity > 0:
                    return diverse_search(partial(self._batch, model, sentences), options)
                return self._by_width(model, sentences, options)
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"out of memory with {len(sentences)} lines at once and beam size {options.beam_size}",
                hint="halve decoding.batch_tokens",
                code="memory.translating",
            ) from error

    def _autocast(self) -> AbstractContextManager[None]:
        is_on = self.device.type != "cpu" and self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if is_on else None, enabled=is_on)

    def packed(self) -> Seq2SeqModel:
        """The model as a search of a long text computes it, for forced decoding in `int8`."""
        self.prepare(_WORTH_LOADING)
        return self._packed_model(kernels.loaded())

    def _packed_model(self, loops: kernels.Kernels | None) -> Seq2SeqModel:
        """The model that is searched: on a CPU with packed weights."""
        if self.device.type != "cpu":
            return self.model
        if self._packed is None:
            return pack_for_search(self.model, self.dtype, loops)
        is_compiled = loops is not None
        if is_compiled not in self._packed:
            self._packed[is_compiled] = pack_for_search(self.model, self.dtype, loops)
        return self._packed[is_compiled]

    def _by_width(
        self, model: Seq2SeqModel, sentences: Sequence[Sentence], options: SearchOptions
    ) -> list[list[Hypothesis]]:
        """Search a wider beam for sentences with phrases, and the whole vocabulary for those without a list of tokens,
        separately from the others."""
        widths = [constrained_width(sentence.phrases, options.beam_size) for sentence in sentences]
        lists = [self._list(sentence, options) for sentence in sentences]
        kinds = [
            (width, bool(sentence.phrases), tokens is not None)
            for width, sentence, tokens in zip(widths, sentences, lists, strict=True)
        ]
        found: list[list[Hypothesis]] = [[] for _ in sentences]
        for width, with_phrases, is_listed in sorted(set(kinds)):
            places = [place for place, kind in enumerate(kinds) if kind == (width, with_phrases, is_listed)]
            some, wider = [sentences[place] for place in places], options._replace(beam_size=width)
            choose = constrained(some, lengths(model, some, wider), wider) if with_phrases else None
            own = [tokens for place in places if (tokens := lists[place]) is not None] or None
            for place, hypotheses in zip(places, self._batch(model, some, wider, choose, own), strict=True):
                found[place] = hypotheses
        return found

    def _batch(
        self,
        model: Seq2SeqModel,
        sentences: Sequence[Sentence],
        options: SearchOptions,
        choose: Choose | None = None,
        lists: Sequence[Tokens] | None = None,
    ) -> list[list[Hypothesis]]:
        source = padded([[*sentence.ids, EOS] for sentence in sentences], self.device)
        return search(model, source, sentences, options, choose=choose, lists=lists)

    def _list(self, sentence: Sentence, options: SearchOptions) -> Tokens | None:
        """The tokens that the output may hold; None for the whole vocabulary."""
        if self.shortlist is None or options.sampling is not None or sentence.prefix or sentence.phrases:
            return None
        return self.shortlist.tokens(sentence.ids)


def precision_fault(precision: str, device: torch.device) -> str | None:
    """Reason why the device cannot compute in this precision, for a message; None if it can."""
    on_cpu = device.type == "cpu"
    if precision == "fp16" and on_cpu:
        return "fp16 needs a GPU"
    if precision == "bf16" and on_cpu and not computes_bf16():
        return "this CPU does not compute in bf16"
    if precision == "int8":
        return kernels.int8_fault() if on_cpu else f"int8 needs a CPU, not {device.type}"
    return None


@contextmanager
def inference(model: Seq2SeqModel, device: torch.device) -> Iterator[None]:
    """Eval mode without gradients in full precision; restores the mode afterwards."""
    was_training = model.training
    if was_training:
        model.eval()
    try:
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        if was_training:
            model.train()
