"""Recall and precision of `seq2seq data check` on faults injected into a corpus.

    python scripts/bench/data_check.py SOURCE TARGET --foreign FILE [--shares 0.01 0.05 0.2] [--pairs 20000]

`--foreign` is text in a third language. Every n-th pair is taken, in order. Each fault is injected alone, at each share
of the pairs. A pair is found if the check reports it as that kind. Pairs that it reports in the untouched corpus,
too, count neither for nor against it; their number is in the table, since some are real faults. Prints Markdown.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from seq2seq.checks.corpus import CorpusCheck
from seq2seq.config.sources import TextSource
from seq2seq.console import set_quiet
from seq2seq.data.files import read_lines

Pairs = list[list[str]]
Injection = Callable[[Pairs, int, random.Random, list[str]], set[int]]


def _each(change: Callable[[list[str], random.Random], bool]) -> Injection:
    """An injection into single pairs; `change` says whether a pair could be changed."""

    def inject(pairs: Pairs, count: int, draw: random.Random, foreign: list[str]) -> set[int]:
        changed: set[int] = set()
        for number in draw.sample(range(len(pairs)), len(pairs)):
            if len(changed) == count:
                break
            if change(pairs[number], draw):
                changed.add(number)
        return changed

    return inject


def _blank(pair: list[str], draw: random.Random) -> bool:
    pair[draw.randrange(2)] = draw.choice(["", "  ", "\u200b"])
    return True


def _copy(pair: list[str], draw: random.Random) -> bool:
    pair[1] = pair[0]
    return len(pair[0].split()) >= 3


def _swap(pair: list[str], draw: random.Random) -> bool:
    pair.reverse()
    return True


def _mojibake(pair: list[str], draw: random.Random) -> bool:
    for side in draw.sample((0, 1), 2):
        if not pair[side].isascii():
            coding = draw.choice(["latin-1", "cp1252"])
            pair[side] = pair[side].encode("utf-8").decode(coding, "replace" if coding == "latin-1" else "ignore")
            return True
    return False


def _tags(pair: list[str], draw: random.Random) -> bool:
    side = draw.randrange(2)
    words = pair[side].split()
    place = draw.randrange(len(words))
    words[place] = draw.choice(["<b>{}</b>", "<i>{}</i>", "{}<br/>", "<p>{}", '<a href="x">{}</a>']).format(
        words[place]
    )
    pair[side] = " ".join(words)
    return True


def _entities(pair: list[str], draw: random.Random) -> bool:
    side = draw.randrange(2)
    pair[side] = pair[side].replace(" ", draw.choice(["&nbsp;", " &amp; ", "&#160;", " &quot;"]), 1)
    return "&" in pair[side]


def _controls(pair: list[str], draw: random.Random) -> bool:
    side = draw.randrange(2)
    place = draw.randrange(len(pair[side]))
    pair[side] = pair[side][:place] + draw.choice("\x00\x01\x07\x1b\x7f\x85\u2028") + pair[side][place:]
    return True


def _bom(pair: list[str], draw: random.Random) -> bool:
    side = draw.randrange(2)
    pair[side] = pair[side] + "\ufeff"
    return True


def _numbers(pair: list[str], draw: random.Random) -> bool:
    """Another digit in a number that both sides have."""
    both = set(re.findall(r"\d+", pair[0])) & set(re.findall(r"\d+", pair[1]))
    if not both:
        return False
    number = draw.choice(sorted(both))
    place = draw.randrange(len(number))
    other = draw.choice([digit for digit in "123456789" if digit != number[place]])
    pair[1] = re.sub(rf"(?<!\d){number}(?!\d)", number[:place] + other + number[place + 1 :], pair[1], count=1)
    return True


def _cut(pair: list[str], draw: random.Random) -> bool:
    """A target that ends after a fifth."""
    if len(pair[1]) < 60:
        return False
    pair[1] = pair[1][: len(pair[1]) // 5]
    return True


def _foreign(pairs: Pairs, count: int, draw: random.Random, foreign: list[str]) -> set[int]:
    numbers = set(draw.sample(range(len(pairs)), count))
    for number in numbers:
        pairs[number][draw.randrange(2)] = draw.choice(foreign)
    return numbers


def _duplicate(pairs: Pairs, count: int, draw: random.Random, foreign: list[str]) -> set[int]:
    """Later pairs become copies of pairs before them."""
    numbers = set(draw.sample(range(len(pairs) // 2, len(pairs)), count))
    for number in numbers:
        pairs[number] = list(pairs[draw.randrange(len(pairs) // 2)])
    return numbers


def _shift(pairs: Pairs, count: int, draw: random.Random, foreign: list[str]) -> set[int]:
    """One target is lost and, `count` lines later, another one put in."""
    begin = draw.randrange(len(pairs) - count)
    targets = [pair[1] for pair in pairs]
    targets.insert(begin + count, draw.choice(targets))
    del targets[begin]
    changed = {number for number, (pair, target) in enumerate(zip(pairs, targets, strict=True)) if pair[1] != target}
    for pair, target in zip(pairs, targets, strict=True):
        pair[1] = target
    return changed


INJECTIONS: dict[str, Injection] = {
    "blank": _each(_blank),
    "duplicate": _duplicate,
    "copy": _each(_copy),
    "swapped": _each(_swap),
    "language": _foreign,
    "misaligned": _shift,
    "length": _each(_cut),
    "mojibake": _each(_mojibake),
    "tags": _each(_tags),
    "entities": _each(_entities),
    "controls": _each(_controls),
    "bom": _each(_bom),
    "numbers": _each(_numbers),
}


def found(pairs: Pairs, folder: Path, languages: tuple[str, str]) -> dict[str, set[int]]:
    """Pairs that the check reports, by kind."""
    files = [folder / name for name in ("source", "target")]
    for side, path in enumerate(files):
        path.write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8", newline="\n")
    report = CorpusCheck(languages).check(TextSource(source=str(files[0]), target=str(files[1])))
    return {kind: {line - 1 for line in finding.lines} for kind, finding in report.findings.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--foreign", type=Path, required=True)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.05, 0.2])
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--only", nargs="+", default=list(INJECTIONS))
    parser.add_argument("--show", action="store_true", help="print some of the wrong judgements")
    arguments = parser.parse_args()
    set_quiet(True)
    clean = [list(pair) for pair in zip(read_lines(arguments.source), read_lines(arguments.target), strict=True)]
    clean = clean[:: max(1, len(clean) // arguments.pairs)][: arguments.pairs]
    foreign = list(read_lines(arguments.foreign))
    languages = (arguments.source.suffix[1:], arguments.target.suffix[1:])
    with tempfile.TemporaryDirectory() as name:
        started = time.monotonic()
        before = found(clean, Path(name), languages)
        print(f"{len(clean):,} pairs; untouched: {time.monotonic() - started:.1f} s")
        if arguments.show:
            for kind, numbers in before.items():
                print(kind, len(numbers), [clean[number] for number in sorted(numbers)[:8]])
        print("\n| fault | before | share | injected | recall | precision |\n|---|---|---|---|---|---|")
        for kind in arguments.only:
            known = before.get(kind, set())
            for share in arguments.shares:
                pairs = [list(pair) for pair in clean]
                draw = random.Random(7)
                true = INJECTIONS[kind](pairs, int(share * len(pairs)), draw, foreign) - known
                reported = found(pairs, Path(name), languages).get(kind, set()) - known
                right = len(true & reported)
                print(
                    f"| {kind} | {len(known)} | {share:.0%} | {len(true)} | {right / max(len(true), 1):.1%} "
                    f"| {right / max(len(reported), 1):.1%} |",
                    flush=True,
                )
                if arguments.show:
                    print("  missed", [pairs[number] for number in sorted(true - reported)[:5]])
                    print("  false", [pairs[number] for number in sorted(reported - true)[:5]])


if __name__ == "__main__":
    main()
