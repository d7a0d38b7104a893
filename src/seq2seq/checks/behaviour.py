"""Behaviour of a run on typical inputs: numbers, URLs, placeholders, capitals, odd spaces, long lines and others.

The inputs are made of sentences of the run's own validation source, so that a model of any domain is tried on text that
it can translate. Inputs are variants of a sentence, whose output should be that of the sentence itself, sentences with
a part that the output should hold unchanged beside the rest, and such a part alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from seq2seq.data.augment import misspell
from seq2seq.decoding.segmentation import join_sentences
from seq2seq.errors import DataError
from seq2seq.fixed_text import MARKS, is_blank
from seq2seq.languages import WITHOUT_SPACES, language_of
from seq2seq.letter_case import lowercase, titlecase, uppercase
from seq2seq.runs.loaded_run import LoadedRun

Verdict = Literal["kept", "altered", "lost"]

_KEPT, _ALTERED = 0.8, 0.4
"""Least similarity of words to the expected output for each verdict."""
_WORD = re.compile(rf"[\w{MARKS}]+")
_UNIT = re.compile(rf"[{WITHOUT_SPACES}][{MARKS}]*|(?:[^\W{WITHOUT_SPACES}]|[{MARKS}])+")
"""A word, or a character of a script without spaces between words."""
_SHORTEST, _LONGEST = 3, 15
"""Words of the sentences that inputs are made of, where there are such sentences."""
_MAX_COPIES = 3
"""An output that repeats a phrase more often than this beyond its input is altered."""

_INSERTED = {
    "numbers": ("37", "1987", "3.14", "1,234.56", "+49 170 1234567", "12:30"),
    "URLs": ("https://example.org/a/b?c=1&d=2#e", "www.example.org"),
    "e-mail addresses": ("anna.example@example.org",),
    "placeholders": ("{name}", "{0}", "${user}"),
    "printf forms": ("%s", "%5.2f", "%(name)s"),
    "tags": ("<br/>", '<a href="x">', "</b>"),
    "emoji": ("😀", "👍🏽"),
    "other scripts": ("Москва", "東京", "القاهرة"),
}
"""Parts that the output should hold, within a sentence and alone on a line."""

_ALONE = {"lines without a letter": ("31", "3.14", "♪", "...", "2026-11-29", "😀", "- - -", "$ 231")}


class Case(NamedTuple):
    """An input, and the expected output."""

    kind: str
    source: str
    part: str = ""
    """Text that the output should hold unchanged."""
    like: tuple[str, ...] | None = None
    """Sentences whose translations, joined, the output should be, apart from `part`; None if it may be anything."""


class Result(NamedTuple):
    """A case and its output."""

    kind: str
    source: str
    output: str
    verdict: Verdict


class Summary(NamedTuple):
    """Results of one kind of input."""

    kind: str
    kept: int
    altered: int
    lost: int
    example: Result
    """The worst result."""


def check_behaviour(
    run: LoadedRun, *, sentences: int, target_tag: str | None, keep: Sequence[str] | None
) -> list[Result]:
    """Translate all inputs, made of `sentences` sentences of the run's validation source.

    Raises:
        DataError: the run has no validation or test set.
        UsageError: as `LoadedRun.translate`.
    """
    chosen = _sentences(run, sentences)
    cases = list(_cases(chosen, language_of(run.config.data.source_language)))
    texts = [*(case.source for case in cases), *chosen]
    outputs = run.translate(texts, target_tag=target_tag, keep=keep)
    expected = dict(zip(chosen, outputs[len(cases) :], strict=True))
    return [
        Result(case.kind, case.source, output, _verdict(case, output, expected))
        for case, output in zip(cases, outputs, strict=False)
    ]


def summaries(results: Sequence[Result]) -> list[Summary]:
    """The results by kind, in the order of the kinds."""
    order: tuple[Verdict, ...] = ("lost", "altered", "kept")
    found = []
    for kind in dict.fromkeys(result.kind for result in results):
        some = [result for result in results if result.kind == kind]
        verdicts = [result.verdict for result in some]
        worst = min(some, key=lambda result: order.index(result.verdict))
        kept, altered, lost = (verdicts.count(verdict) for verdict in reversed(order))
        found.append(Summary(kind, kept, altered, lost, worst))
    return found


def _sentences(run: LoadedRun, count: int) -> list[str]:
    """Sentences of the validation source, spread over it, preferably neither short nor long; without target tags."""
    texts = list(dict.fromkeys(text for text, _ in run.held_out_pairs() if not is_blank(text)))
    if not texts:
        raise DataError(
            "the run has no validation set, of which the inputs are made",
            hint="check a run that was trained with data.valid or data.holdout, and not an export",
            code="data.no-split",
        )
    usual = [text for text in texts if _SHORTEST <= len(text.split()) <= _LONGEST] or texts
    return usual[:: max(1, len(usual) // count)][:count]


def _cases(sentences: Sequence[str], language: str) -> Iterator[Case]:
    for kind, parts in _INSERTED.items():
        for number, part in enumerate(parts):
            sentence = sentences[number % len(sentences)]
            yield Case(kind, _inserted(sentence, part), part, like=(sentence,))
            yield Case(kind, part, part, like=())
    for kind, parts in _ALONE.items():
        for part in parts:
            yield Case(kind, part, part, like=())
    for sentence in sentences:
        bare = sentence.rstrip(" .!?…。！？")
        yield Case("ALL CAPS", uppercase(sentence, language), like=(sentence,))
        yield Case("Title Case", titlecase(sentence, language), like=(sentence,))
        yield Case("lower case", lowercase(sentence, language), like=(sentence,))
        yield Case("typing errors", misspell(sentence, seed=1), like=(sentence,))
        yield Case("no full stop", bare, like=(sentence,))
        yield Case("odd spaces", "  " + sentence.replace(" ", "  ").replace("  ", "\u00a0", 1) + "\t", like=(sentence,))
        yield Case("quotes", f"“{sentence}”", like=(sentence,))
        yield Case("list items", f"- {sentence}", like=(sentence,))
    for word in dict.fromkeys(_longest_word(sentence) for sentence in sentences):
        yield Case("single words", word)
        yield Case("repetition", " ".join([word] * 20))
    yield Case("repetition", " ".join([sentences[0]] * 3), like=(sentences[0],) * 3)
    yield Case("paragraphs", " ".join(sentences[:3]), like=tuple(sentences[:3]))
    many = [sentences[number % len(sentences)] for number in range(100)]
    yield Case("very long lines", " ".join(many), like=tuple(many))
    for blank in ("", "   ", "\u200b"):
        yield Case("blank lines", blank, like=())


def _inserted(sentence: str, part: str) -> str:
    """The sentence with a part before its last word."""
    words = sentence.split()
    return " ".join([*words[:-1], part, *words[-1:]])


def _longest_word(sentence: str) -> str:
    words: list[str] = _WORD.findall(sentence)
    return max(words or [sentence], key=len)


def _verdict(case: Case, output: str, expected: dict[str, str]) -> Verdict:
    if is_blank(case.source) or is_blank(output):
        return "kept" if is_blank(case.source) and is_blank(output) else "lost"
    if case.like is None:
        return "altered" if _copies(output) > _copies(case.source) + _MAX_COPIES else "kept"
    like = join_sentences([expected[sentence] for sentence in case.like])
    if case.part:
        return _verdict_of_part(case, output, like)
    similarity = _similarity(output, like)
    return "kept" if similarity >= _KEPT else "altered" if similarity >= _ALTERED else "lost"


def _verdict_of_part(case: Case, output: str, like: str) -> Verdict:
    """Kept if the output holds the part as it is, once; lost if it holds nothing of it.

    Alone, the part should be the output. Within a sentence it may change the words around it, but not take them away.
    """
    characters = set(case.part) - set(" .,:-")
    if output.count(case.part) != like.count(case.part) + 1:
        held = sum(character in output for character in characters)
        return "altered" if 2 * held > len(characters) else "lost"
    rest = output.replace(case.part, " ", 1).strip()
    is_whole = _similarity(rest, like) >= _ALTERED if like else not rest
    return "kept" if is_whole else "altered"


def _similarity(one: str, other: str) -> float:
    """Share of equal words in order, without case and punctuation."""
    first, second = (_UNIT.findall(text.casefold()) for text in (one, other))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def _copies(text: str) -> int:
    """Number of occurrences of the most frequent word."""
    words = _WORD.findall(text.casefold())
    return max((words.count(word) for word in set(words)), default=0)
