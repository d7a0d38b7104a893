"""A loaded run: translation, scoring, encoding and attention from Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Any, TypedDict, overload

from typing_extensions import Unpack

from seq2seq.alignment.matrix import AttentionMatrix
from seq2seq.alignment.word_alignment import AlignmentOptions, WordAligner
from seq2seq.config import Config
from seq2seq.config.sources import is_distilled
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.forced_decoding import EncodedTexts, Scorer, translates_forward
from seq2seq.decoding.kept_text import check_kinds
from seq2seq.decoding.reranking import WEIGHT, RerankingEngine
from seq2seq.decoding.target_tags import TargetTags
from seq2seq.decoding.translator import Translator, translation_options
from seq2seq.errors import UsageError
from seq2seq.export.folder import is_export
from seq2seq.languages import UNSPACED_LANGUAGES, language_of
from seq2seq.runs.directory import RunDirectory


class _TranslateOptions(TypedDict, total=False):
    """Options of `LoadedRun.translate` that do not change the type of its result; they are documented there."""

    target_tag: str | None
    beam_size: int | None
    length_penalty: float | None
    max_length: int | None
    keep: str | Iterable[str] | None


class LoadedRun:
    """A trained run, loaded for use.

    Attributes:
        config: the run's complete settings.
        directory: the run directory.
        checkpoint: name of the checkpoint that was loaded.
        translator: translates and scores text.
        weights: SHA-256 of the model's weights, followed by those of the other members of an ensemble.
        backward: the run of the opposite direction that reranks, see `rerank_with`.
    """

    def __init__(
        self,
        directory: RunDirectory,
        config: Config,
        checkpoint: str,
        translator: Translator,
        weights: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.config = config
        self.checkpoint = checkpoint
        self.translator = translator
        self.weights = tuple(weights)
        self.backward: LoadedRun | None = None

    def rerank_with(self, backward: LoadedRun, weight: float = WEIGHT) -> None:
        """From now on rerank what a beam finds by a run of the opposite direction (`decoding.reranking`).

        Raises:
            UsageError: it has another direction, wants target tags or is an export; or the weight is no such number.
        """
        name, own, other = backward.directory.path, self.config.data.languages, backward.config.data.languages
        if not 0 <= weight <= 1000:
            raise UsageError(
                f"{weight} is no weight of a run", where="--rerank-weight", hint=f"{WEIGHT}", code="usage.value"
            )
        if is_export(name):
            raise UsageError(
                f"{name} is an export, which does not score text",
                where="--rerank",
                hint="the run itself",
                code="export.unsupported",
            )
        scorer, engine = backward.translator.scorer, backward.translator.engine
        turned = ((target, source) for source, target in self.held_out_pairs())
        is_other = all((*own, *other)) and other != own[::-1]
        if is_other or translates_forward(scorer, turned) is False:
            direction = f"from {other[0]} to {other[1]}" if all(other) else "in the same direction"
            raise UsageError(
                f"{name} translates {direction}",
                where="--rerank",
                hint=f"a run from {own[1]} to {own[0]}" if all(own) else "a run of the opposite direction",
                code="usage.direction",
            )
        if backward.target_tags.required:
            raise UsageError(
                f"{name} wants a target tag", where="--rerank", hint="a run without target tags", code="usage.direction"
            )
        if isinstance(engine, NativeEngine) and engine.precision == "int8":
            scorer = Scorer(engine.packed(), scorer.tokenizers, scorer.settings, scorer.device)
        reranking = RerankingEngine(self.translator.engine, self.translator.tokenizers, scorer, weight)
        self.backward, self.translator = backward, self.translator.replaced(engine=reranking)

    @property
    def identity(self) -> dict[str, Any]:
        """Facts that translations depend on beside their options: weights, precision, a shortlist, and the run that
        reranks."""
        engine = self.translator.engine
        identity: dict[str, Any] = {"weights": list(self.weights)}
        if self.backward is not None and isinstance(engine, RerankingEngine):
            identity |= {"rerank": self.backward.weights[0][:12], "rerank_weight": engine.weight}
            engine = engine.engine
        if isinstance(engine, NativeEngine) and engine.precision not in ("auto", "fp32"):
            identity["precision"] = engine.precision
        if isinstance(engine, NativeEngine) and engine.shortlist is not None:
            identity["shortlist"] = "yes"
        return identity

    @property
    def target_tags(self) -> TargetTags:
        """The target tags that the model knows, required if it was trained with one before every text."""
        tags, corpora = self.translator.tags, self.config.data.train
        have_tags = all(corpus.target_tag or is_distilled(corpus) for corpus in corpora)
        return tags._replace(required=bool(tags.tags) and have_tags)

    def held_out_pairs(self) -> list[tuple[str, str]]:
        """The validation pairs, else the test pairs, without target tags; empty for a run that has neither."""
        pairs = self.directory.load_pairs("valid") or self.directory.load_pairs("test")
        return [(self.target_tags.split(source)[1], target) for source, target in pairs]

    @overload
    def translate(  # type: ignore[overload-overlap]  # a string is a sequence of strings, too
        self, texts: str, *, n_best: None = None, **options: Unpack[_TranslateOptions]
    ) -> str: ...

    @overload
    def translate(
        self, texts: Iterable[str], *, n_best: None = None, **options: Unpack[_TranslateOptions]
    ) -> list[str]: ...

    @overload
    def translate(  # type: ignore[overload-overlap]
        self, texts: str, *, n_best: int, **options: Unpack[_TranslateOptions]
    ) -> list[str]: ...

    @overload
    def translate(
        self, texts: Iterable[str], *, n_best: int, **options: Unpack[_TranslateOptions]
    ) -> list[list[str]]: ...

    def translate(
        self,
        texts: str | Iterable[str],
        *,
        target_tag: str | None = None,
        n_best: int | None = None,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        keep: str | Iterable[str] | None = None,
    ) -> str | list[str] | list[list[str]]:
        """The best translation of each text, in order; a blank text gives a blank one.

        Args:
            texts: one text, which gives one translation, or several texts.
            target_tag: target language of a run that was trained with target tags, `de`.
            n_best: return a list of up to this many translations of each text, best first.
            beam_size: hypotheses kept; 1 is greedy. The run's own by default, as the length penalty.
            length_penalty: alpha in score = log P(target | source) / length^alpha.
            max_length: longest output in tokens, however long the source is.
            keep: kinds of text that stay as they are, `["urls", "numbers"]` or `"urls,numbers"`; see `decoding.keep`.

        Raises:
            TypeError: an argument has another type.
            UsageError: a value is impossible, or the target tag is missing or unknown.
        """
        lines = self.target_tags.add(_checked_texts(texts), _checked_tag(target_tag), "target_tag")
        check_number("n_best", n_best, Integral, 1)
        check_number("beam_size", beam_size, Integral, 1)
        check_number("length_penalty", length_penalty, Real, 0)
        check_number("max_length", max_length, Integral, 1)
        if n_best is not None and beam_size is not None and beam_size < n_best:
            raise UsageError(
                f"a beam of {beam_size} cannot give {n_best} translations",
                where="n_best",
                hint=f"beam_size={n_best}, or leave beam_size out",
                code="usage.conflict",
            )
        options = translation_options(
            self.translator.settings,
            beam_size=beam_size,
            n_best=n_best or 1,
            length_penalty=length_penalty,
            max_length=max_length,
            keep=None if keep is None else check_kinds(keep, "keep"),
        )
        found = [[item.text for item in translations] for translations in self.translator.stream(lines, options)]
        results = found if n_best is not None else [translations[0] for translations in found]
        return results[0] if isinstance(texts, str) else results

    def score(self, pairs: Iterable[tuple[str, str]], *, target_tag: str | None = None) -> list[float]:
        """log P(target | source) of each pair, in nats, end mark included. Raises as `translate`."""
        chosen = list(pairs)
        if not all(isinstance(pair, (tuple, list)) and list(map(type, pair)) == [str, str] for pair in chosen):
            raise TypeError('give a list of pairs of strings: run.score([("a source", "its target")])')
        sources = self.target_tags.add([source for source, _ in chosen], _checked_tag(target_tag), "target_tag")
        scored = self.translator.score(zip(sources, [target for _, target in chosen], strict=True))
        return [score.log_probability for score in scored]

    def encode(self, texts: str | Iterable[str], *, target_tag: str | None = None) -> EncodedTexts:
        """The encoder's states [B S D] and their mask [B S], for use downstream; one row for one text.

        Raises as `translate`.
        """
        lines = self.target_tags.add(_checked_texts(texts), _checked_tag(target_tag), "target_tag")
        return self.translator.scorer.encode(list(lines))

    def attention(self, source: str, target: str | None = None, *, target_tag: str | None = None) -> AttentionMatrix:
        """Cross-attention [T S] of the layer that aligns best, while `target` is written.

        Rows are target pieces, columns source pieces, both with the end mark last. The target defaults to the best
        translation. Raises `UsageError` for a model without attention, and as `translate`.
        """
        if not isinstance(source, str) or not isinstance(target, str | None):
            raise TypeError('give one text, and its translation or None: run.attention("a source", "its target")')
        [line] = self.target_tags.add([source], _checked_tag(target_tag), "target_tag")
        written = self.translate(line) if target is None else target
        return self.aligner().attention([(line, written)])[0].matrix(AlignmentOptions(), words=False)

    def aligner(self) -> WordAligner:
        """Word alignments from this model's attention. Raises `UsageError` for an export and for a model without it."""
        scorer = self.translator.scorer
        return WordAligner(scorer.model, scorer.tokenizers, scorer.settings, scorer.device)

    def aligns_words(self, target_language: str) -> bool:
        """Whether words can be aligned: not by an export or a model without attention, nor without spaces between."""
        model, languages = self.config.model, {self.config.data.source_language, target_language}
        if (model.kind == "rnn" and model.attention == "none") or set(map(language_of, languages)) & UNSPACED_LANGUAGES:
            return False
        try:
            return bool(self.aligner())
        except UsageError:
            return False


def _checked_texts(texts: str | Iterable[str]) -> list[str]:
    """The texts as a list: of one for a string, which is not a list of characters."""
    if isinstance(texts, str):
        return [texts]
    listed = isinstance(texts, Iterable) and not isinstance(texts, (Mapping, Set, bytes, bytearray))
    chosen = list(texts) if listed else None
    if chosen is None or not all(isinstance(text, str) for text in chosen):
        odd = texts if chosen is None else next(text for text in chosen if not isinstance(text, str))
        raise TypeError(f'give a string or a list of strings, as in run.translate(["a text"]), not {_shown(odd)}')
    return chosen


def _checked_tag(target_tag: str | None) -> str | None:
    if not isinstance(target_tag, str | None):
        raise TypeError(f'target_tag must be a string, as in target_tag="de", not {_shown(target_tag)}')
    return target_tag


def check_number(name: str, value: Any, kind: type, least: int) -> None:
    """Check an optional number as the command line does."""
    if value is None:
        return
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number:
        number = "a whole number" if kind is Integral else "a number"
        raise TypeError(f"{name} must be {number}, as in {name}={max(least, 1)}, not {_shown(value)}")
    if not value >= least:  # NaN too
        raise UsageError(
            f"{name} must be {least} or more, not {value}", hint=f"{name}={max(least, 1)}", code="usage.value"
        )


def _shown(value: object) -> str:
    return f"{type(value).__name__} {value!r:.60}"
