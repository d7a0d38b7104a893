"""Check of a parallel corpus in three passes: lengths and a sample, alignment, every pair.

Memory for each pair is some 150 bytes: its hash, and its figures, several times for a moment; text is never held.
"""

from __future__ import annotations

import random
import re
import unicodedata
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice, repeat

import numpy as np
import numpy.typing as npt

from seq2seq.checks.characters import is_suspect, repair, text_faults
from seq2seq.checks.findings import KINDS, SourceReport
from seq2seq.checks.identified_languages import Identifier, SideLanguages
from seq2seq.checks.misalignment import LengthModel
from seq2seq.checks.word_translations import SHIFTS, WordTranslations
from seq2seq.config.sources import Source, TextSource, name_of
from seq2seq.console import Progress
from seq2seq.data.clean_copy import CleanCopy
from seq2seq.data.corpus import read_pairs
from seq2seq.data.files import DecodingErrors, Pair, read_lines
from seq2seq.errors import DataError
from seq2seq.fixed_text import is_blank
from seq2seq.languages import WITHOUT_SPACES

_SAMPLE = 20_000
"""Pairs from which lengths, words and languages are learned."""
_LEAST_COPIED_WORDS = 3
_LEAST_COPIED_CHARACTERS = 6
"""Characters of a script without spaces, in place of words."""
"""Shorter copies may be right: names, "OK", "Taxi"."""
_SEVERAL = 3
_MOST_COMPARED = 10_000
"""Pairs of numbers of one line from which on they are not compared one by one."""
_OWN_WORDS = 0.5
"""A line next to a misaligned block fits its own target if it has this share of the block's usual number of translated
words."""
_SURE = (-2, 2)
"""A line is moved only if its neighbours at these distances are in the same block, since the ends of a block are found
to within a line or two."""
_NUMBER = re.compile(r"\d+(?:[.,:\u00a0\u202f' ]\d+)*")
_ERAS = (543, 2018, 1988, 1925, 1911)
"""Differences of years: of the Buddhist era, of Reiwa, Heisei and Showa in Japan, and of the Republic in Taiwan."""
_GROUP = re.compile(r"\D+")
_DIGIT = re.compile(r"\d")
_UNSPACED = re.compile(f"[{WITHOUT_SPACES}]")

Fault = tuple[str, str]
"""A key of `KINDS`, and details."""


class CorpusCheck:
    """Check of the corpora of a training, one after another; duplicates are found across all of them.

    Args:
        languages: languages of source and target; empty if unknown.
        held_out: validation and test sets, whose pairs should not be in the corpora.
        copy: where to write cleaned copies.
        most: first pairs of each corpus that are looked at; all if None.
    """

    def __init__(
        self,
        languages: tuple[str, str],
        held_out: Sequence[Source] = (),
        copy: CleanCopy | None = None,
        most: int | None = None,
    ) -> None:
        self.languages = languages
        self._held_out = {
            hash((_folded(left), _folded(right)))
            for corpus in held_out
            for left, right in _pairs(corpus)
            if _blank_side(left, right) is None
        }
        self._copy = copy
        self._most = most
        self._seen: set[int] = set()
        self._identifier = Identifier()

    @property
    def identifies_languages(self) -> bool:
        """Whether py3langid is installed."""
        return self._identifier.available

    def check(self, source: Source) -> SourceReport:
        """Check one corpus, and write its cleaned copy.

        Raises:
            DataError: it cannot be read, or has no text.
            NetworkError: a dataset of the hub cannot be fetched.
        """
        name = name_of(source)
        report = SourceReport(name)
        pairs = partial(_pairs, source, most=self._most)
        first = _FirstPass(pairs(report=report), report)
        if not report.pairs:
            raise DataError(f"{name} is empty", hint="is it the right file?", code="data.no-lines")
        languages = SideLanguages(first.sample, self.languages, self._identifier)
        if what := languages.exchanged():
            report.add("languages", what)
        model = LengthModel(*([len(pair[side]) for pair in first.sample] for side in (0, 1)))
        report.ratio = model.ratio
        outliers, shifts = first.judge(model, WordTranslations(first.sample).hits(pairs()))
        report.statistics = first.statistics(languages)
        moves = self._copy is not None and any(shifts.values())
        in_context = _in_context(pairs()) if moves else ((pair, {}) for pair in pairs())
        with Progress(f"checking {name}", report.pairs, "pairs") as progress:
            for number, (pair, targets) in enumerate(progress.over(in_context)):
                shift = shifts.get(number)
                faults = self._judge(pair, languages, shift, bool(outliers[number]))
                for kind, detail in faults:
                    report.add(kind, detail, number + 1, pair)
                if self._copy is not None:
                    moved = None
                    if shift and all(shifts.get(number + step) == shift for step in _SURE):
                        moved = self._moved(pair[0], targets.get(shift), languages)
                    _write(self._copy, name, number + 1, moved or pair, faults, moved=moved is not None)
        if (damaged := report.findings.get("encoding")) and (hints := list(_conversions(source, self._most))):
            report.conversions, damaged.advice = hints, "; ".join(hints)
        return report

    def _judge(self, pair: Pair, languages: SideLanguages, shift: int | None, is_outlier: bool) -> list[Fault]:
        """The faults of one pair by itself and in its place; `shift` is None for a pair in its place."""
        faults = self._faults(pair, languages)
        if shift is not None:
            place = f"its translation stands {abs(shift)} {_direction(shift)}"
            misaligned = ("misaligned", place if shift else "its target is the translation of another line")
            return [*(fault for fault in faults if fault[0] != "numbers"), misaligned]
        if is_outlier and not any(kind in ("blank", "copy") for kind, _ in faults):
            return [*faults, ("length", f"{len(pair[0])} and {len(pair[1])} characters")]
        return faults

    def _moved(self, source: str, target: str | None, languages: SideLanguages) -> Pair | None:
        """A misaligned source with its translation from another line; None if that pair has faults of its own."""
        if target is None or any(kind != "numbers" for kind, _ in self._faults((source, target), languages)):
            return None
        return source, target

    def _faults(self, pair: Pair, languages: SideLanguages) -> list[Fault]:
        """The faults of one pair by itself, each kind once."""
        source, target = pair
        if (blank := _blank_side(source, target)) is not None:
            return [("blank", blank)]
        faults: list[Fault] = []
        folded = _folded(source), _folded(target)
        number = hash(folded)
        if number in self._seen:
            faults.append(("duplicate", ""))
        self._seen.add(number)
        if number in self._held_out:
            faults.append(("leaked", ""))
        if folded[0] == folded[1]:
            if is_long(source) and any(map(str.isalpha, source)):
                faults.append(("copy", ""))
        elif fault := languages.fault(source, target):
            faults.append(fault)
        for side, text in (("source", source), ("target", target)):
            for kind, detail in text_faults(text) if is_suspect(text) else ():
                if all(kind != known for known, _ in faults):
                    faults.append((kind, f"{side}: {detail}" if detail else side))
        if not any(kind in ("mojibake", "entities") for kind, _ in faults) and (different := _numbers(source, target)):
            faults.append(("numbers", different))
        return faults


class _FirstPass:
    """Lengths of all pairs, and a random sample of them."""

    def __init__(self, pairs: Iterable[Pair], report: SourceReport) -> None:
        self.lengths = (array("I"), array("I"))
        self.sample: list[Pair] = []
        draw = random.Random(1)
        left, right = self.lengths
        with Progress("reading", None, "pairs") as progress:
            for number, pair in enumerate(progress.over(pairs), start=1):
                blank = _blank_side(*pair) is not None
                left.append(0 if blank else len(pair[0]))
                right.append(0 if blank else len(pair[1]))
                if not blank:
                    if len(self.sample) < _SAMPLE:
                        self.sample.append(pair)
                    elif (place := int(draw.random() * number)) < _SAMPLE:
                        self.sample[place] = pair
        draw.shuffle(self.sample)
        report.pairs = len(left)

    def judge(self, model: LengthModel, hits: Mapping[int, array[int]]) -> tuple[npt.NDArray[np.bool_], dict[int, int]]:
        """Mask of the length outliers, and the shifts of the misaligned pairs by their numbers from 0.

        The shift is 0 where a target belongs to a pair of a block, so that its own source has no translation.
        """
        source, target = (np.frombuffer(side, dtype=np.uint32).astype(np.float64) for side in self.lengths)
        translated = {shift: np.frombuffer(counts, dtype=np.uint8) for shift, counts in hits.items()}
        blocks = model.misaligned(source, target, translated)
        shifts = {number: block.shift for block in blocks for number in range(block.first, block.last + 1)}
        for block in blocks:
            taken = range(block.first + min(0, block.shift), block.last + 1 + max(0, block.shift))
            usual = translated[block.shift][block.first : block.last + 1].mean()
            for number in taken:
                # The end of a block is found to a line or two.
                if 0 <= number < len(source) and translated[0][number] <= _OWN_WORDS * usual:
                    shifts.setdefault(number, 0)
        return model.outliers(source, target), shifts

    def statistics(self, languages: SideLanguages) -> dict[str, dict[str, float | int | str]]:
        """Figures of both sides."""
        figures: dict[str, dict[str, float | int | str]] = {}
        for side, (name, lengths) in enumerate(zip(("source", "target"), self.lengths, strict=True)):
            counts = np.frombuffer(lengths, dtype=np.uint32)
            words = [len(pair[side].split()) for pair in self.sample]
            figures[name] = {
                "characters": int(counts.sum(dtype=np.int64)),
                "mean": float(counts.mean()),
                "median": int(np.median(counts)),
                "longest": int(counts.max()),
                "words a line": float(np.mean(words)) if words else 0.0,
            }
            if language := languages.languages[side]:
                figures[name]["language"] = language
        return figures


def _pairs(source: Source, report: SourceReport | None = None, most: int | None = None) -> Iterator[Pair]:
    """The first `most` pairs of a corpus, up to the end of its shorter side; unequal sides are added to the report."""
    try:
        yield from islice(read_pairs(source.model_copy(update={"target_tag": None, "tag": None}), "replace"), most)
    except DataError as error:
        if error.code != "data.line-counts":
            raise
        if report is not None:
            report.add("line-counts", error.what)


def _conversions(source: Source, most: int | None) -> Iterator[str]:
    """A hint for each file of a corpus that is not UTF-8, from its first lines; see `SourceReport.conversions`.

    A file with more lines that are UTF-8 with other characters than ASCII has no other encoding: it is damaged.
    """
    readers: list[Callable[[DecodingErrors], Iterator[str | Pair]]] = [partial(read_pairs, source, option="")]
    if isinstance(source, TextSource):
        readers = [partial(read_lines, source.source), partial(read_lines, source.target)]
    for read in readers:
        try:
            deque(islice(read("strict"), most), maxlen=0)
        except DataError as error:
            lines = ("".join(line) for line in islice(read("replace"), most))
            damaged = ["\ufffd" in line for line in lines if not line.isascii()]
            if error.code == "data.encoding" and 2 * sum(damaged) > len(damaged):
                yield f"{error.where}: {error.hint}"


def _in_context(pairs: Iterator[Pair]) -> Iterator[tuple[Pair, dict[int, str]]]:
    """Each pair with the targets of the lines around it, by their distance."""
    reach = max(SHIFTS)
    window: deque[Pair | None] = deque([None] * reach, maxlen=2 * reach + 1)
    for pair in chain(pairs, repeat(None, reach)):
        window.append(pair)
        if len(window) == window.maxlen and (here := window[reach]) is not None:
            around = enumerate(window, start=-reach)
            yield here, {distance: other[1] for distance, other in around if other is not None}


def _folded(text: str) -> str:
    """A text without differences of case, spaces and composition, for comparisons."""
    text = " ".join(text.split()).casefold()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _blank_side(source: str, target: str) -> str | None:
    sides = [side for side, text in (("source", source), ("target", target)) if is_blank(text)]
    return " and ".join(sides) if sides else None


def _direction(shift: int) -> str:
    return ("line" if abs(shift) == 1 else "lines") + (" further on" if shift > 0 else " before")


def is_long(text: str) -> bool:
    """True for a text that is longer than a name, which may be the same in two languages."""
    return len(text.split()) >= _LEAST_COPIED_WORDS or len(_UNSPACED.findall(text)) >= _LEAST_COPIED_CHARACTERS


def _numbers(source: str, target: str) -> str:
    """Description of the numbers that differ between the sides; empty if none do.

    A number that one side lacks may be written as a word. Separators of thousands and decimals, zeros at the end
    ("2.5 million"), halves of the day, short years, and years of other eras differ between languages.
    """
    if _DIGIT.search(source) is None or _DIGIT.search(target) is None:
        return ""
    sides = [Counter(map(_plain_number, _NUMBER.findall(text))) for text in (source, target)]
    left, right = (list((one - other).elements()) for one, other in (sides, sides[::-1]))
    if not left or not right or "".join(sorted("".join(left))) == "".join(sorted("".join(right))):
        return ""
    if len(left) * len(right) > _MOST_COMPARED:  # a row of a table, say
        return f"{', '.join(left[:_SEVERAL])} | {', '.join(right[:_SEVERAL])}"
    for number in left.copy():
        if match := next((other for other in right if _same_number(number, other)), None):
            left.remove(number)
            right.remove(match)
    return f"{', '.join(left[:_SEVERAL])} | {', '.join(right[:_SEVERAL])}" if left and right else ""


def _plain_number(text: str) -> str:
    digits = _GROUP.sub("", text)
    return digits if digits.isascii() else "".join(str(unicodedata.digit(char, 0)) for char in digits)


def _same_number(one: str, other: str) -> bool:
    if one.strip("0") == other.strip("0") or one.endswith(other) or other.endswith(one):
        return True
    if len(one) > 4 or len(other) > 4:
        return False
    if abs(int(one) - int(other)) in _ERAS:
        return True
    hours = int(one[:-2] or one), int(other[:-2] or other)
    ends_alike = len(one) <= 2 or len(other) <= 2 or one[-2:] == other[-2:]
    return ends_alike and abs(hours[0] - hours[1]) == 12 and max(hours) <= 24


def _write(copy: CleanCopy, name: str, line: int, pair: Pair, faults: Sequence[Fault], moved: bool) -> None:
    """Write a pair, repaired where it can be, or leave it out; the receipt says why.

    A pair that has been `moved` has its faults no longer.
    """
    drops, repairs = ([fault for fault in faults if KINDS[fault[0]].action == action] for action in ("drop", "repair"))
    if moved:
        copy.note(name, line, "repaired", [fault for fault in faults if fault[0] == "misaligned"])
    elif drops:
        copy.note(name, line, "dropped", drops)
        return
    elif repairs:
        pair = _repaired(pair, repairs)
        if _blank_side(*pair) is not None:
            copy.note(name, line, "dropped", [*repairs, ("blank", "after the repair")])
            return
        copy.note(name, line, "repaired", repairs)
    copy.write(pair)


def _repaired(pair: Pair, faults: Sequence[Fault]) -> Pair:
    source, target = (repair(text) if is_suspect(text) else text for text in pair)
    return (target, source) if any(kind == "swapped" for kind, _ in faults) else (source, target)
