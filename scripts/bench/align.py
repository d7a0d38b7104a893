"""Alignment error rate of a run's attention against alignments made by hand.

    python scripts/bench/align.py prepare train.de train.en FOLDER      # lowercase, punctuation apart, like the gold
    seq2seq train --source FOLDER/train.de --target FOLDER/train.en -o runs/de-en ...
    python scripts/bench/align.py measure runs/de-en SOURCE TARGET GOLD [--reverse runs/en-de] [--json FILE]

`measure` prints Markdown: every layer and the mean of all, at the step that writes a word and at the one after it, with
the heads' mean and the best head; with a run of the other direction, what making both one gives.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from alignment_error import AlignmentScore, GoldAlignment

    from seq2seq.alignment.word_alignment import AlignmentOptions, PairAttention

    Rows = list[tuple[str, AlignmentScore]]

# Digits keep their points and commas; an English apostrophe begins a word ("mr barnier 's").
_APART = re.compile(r"(?<!\d)([.,:])|([.,:])(?!\d)|([!?;()\"„“”«»…%])")
_APOSTROPHE = re.compile(r"(?<=\w)(['’])(?=\w)")


def prepare(files: list[Path], folder: Path) -> None:
    """Write lowercased copies with punctuation apart."""
    from seq2seq.data.files import read_lines

    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        with (folder / path.name).open("w", encoding="utf-8", newline="\n") as stream:
            for line in read_lines(path):
                apart = _APART.sub(lambda found: f" {found[0]} ", line.lower().replace("’", "'"))
                stream.write(" ".join(_APOSTROPHE.sub(r" \1", apart).split()) + "\n")


def measure(run: str, reverse: str | None, files: list[Path], threads: int) -> tuple[Rows, Rows]:
    """Scores by layer, step and head, and those of both directions made one."""
    from alignment_error import read_gold, score_alignments

    from seq2seq.alignment.symmetrisation import Symmetrisation, symmetrise
    from seq2seq.alignment.word_alignment import AlignmentOptions
    from seq2seq.data.files import read_lines

    pairs = list(zip(read_lines(files[0]), read_lines(files[1]), strict=True))
    sizes = [(len(source.split()), len(target.split())) for source, target in pairs]
    gold = read_gold(read_lines(files[2]), name=str(files[2]), lengths=sizes)
    attention = _attention(run, pairs, threads)
    single = _by_layer(attention, lambda options: _score(attention, options, gold))
    if reverse is None:
        return single, []
    turned = _attention(reverse, [(target, source) for source, target in pairs], threads)
    options = AlignmentOptions()
    forward = [pair.links(options) for pair in attention]
    backward = [[(i, j) for j, i in pair.links(options)] for pair in turned]
    both: Rows = [("forward", score_alignments(forward, gold)), ("reverse", score_alignments(backward, gold))]
    for method in get_args(Symmetrisation):
        links = [symmetrise(one, other, method) for one, other in zip(forward, backward, strict=True)]
        both.append((method, score_alignments(links, gold)))
    return single, both


def _attention(run: str, pairs: list[tuple[str, str]], threads: int) -> list[PairAttention]:
    from seq2seq.alignment.word_alignment import WordAligner
    from seq2seq.runs.load import load

    loaded = load(run, threads=threads)
    translator = loaded.translator
    aligner = WordAligner(translator.model, translator.tokenizers, loaded.config.decoding, translator.device)
    return aligner.attention(pairs)


def _score(attention: list[PairAttention], options: AlignmentOptions, gold: list[GoldAlignment]) -> AlignmentScore:
    from alignment_error import score_alignments

    return score_alignments([pair.links(options) for pair in attention], gold)


def _by_layer(attention: list[PairAttention], score: Callable[[AlignmentOptions], AlignmentScore]) -> Rows:
    from seq2seq.alignment.word_alignment import AlignmentOptions

    layers, heads = attention[0].weights.shape[:2]
    rows: Rows = []
    for layer in (*range(1, layers + 1), None):
        name = "mean of all layers" if layer is None else f"layer {layer}"
        for shift in (False, True):
            step = "the step after" if shift else "the step that writes"
            rows.append((f"{name}, {step}", score(AlignmentOptions(layer, None, shift))))
        if heads > 1 and layer is not None:
            by_head = [(score(AlignmentOptions(layer, head)), head) for head in range(1, heads + 1)]
            best, head = min(by_head)
            rows.append((f"{name}, its best head ({head})", best))
    return rows


def _print(title: str, rows: Rows) -> None:
    if rows:
        print(f"\n| {title} | AER | precision | recall | links |\n|---|---|---|---|---|")
        for name, score in rows:
            print(f"| {name} | {score.error_rate:.1f} | {score.precision:.1f} | {score.recall:.1f} | {score.links} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare")
    preparing.add_argument("files", nargs=2, type=Path)
    preparing.add_argument("folder", type=Path)
    measuring = commands.add_parser("measure")
    measuring.add_argument("run")
    for name in ("source", "target", "gold"):
        measuring.add_argument(name, type=Path)
    measuring.add_argument("--reverse", help="run of the other direction")
    measuring.add_argument("--threads", type=int, default=0)
    measuring.add_argument("--json", type=Path, help="keep the figures here too")
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        prepare(arguments.files, arguments.folder)
        return
    files = [arguments.source, arguments.target, arguments.gold]
    single, both = measure(arguments.run, arguments.reverse, files, arguments.threads)
    _print("one direction", single)
    _print("both directions", both)
    if arguments.json:
        figures: dict[str, Any] = {
            "one direction": {name: score._asdict() for name, score in single},
            "both directions": {name: score._asdict() for name, score in both},
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
