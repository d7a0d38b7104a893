"""What faults in the training text cost, and what `seq2seq data check --fix` gives back, by test BLEU.

    python scripts/bench/cleaning.py shared/data/multi30k/train.en shared/data/multi30k/train.de \\
        --foreign train.fr --valid val.en val.de --test test_2016_flickr.en test_2016_flickr.de \\
        --config configs/multi30k-en-de.yaml -o runs/cleaning training.max_steps=1200

Each fault is injected alone into a share of the training pairs (`data_check.py`), the result is cleaned by the command,
and a model is trained on the untouched, the faulty and the cleaned text, with the same settings. Prints Markdown.
`--prepare` stops before the trainings.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

from data_check import INJECTIONS, Pairs

from seq2seq.data.files import read_lines

SEQ2SEQ = [sys.executable, "-m", "seq2seq"]


def write(pairs: Pairs, stem: Path, languages: tuple[str, str]) -> None:
    """Write STEM.LANGUAGE of both sides."""
    for side, language in enumerate(languages):
        text = "".join(pair[side] + "\n" for pair in pairs)
        Path(f"{stem}.{language}").write_text(text, encoding="utf-8", newline="\n")


def prepare(options: argparse.Namespace, languages: tuple[str, str]) -> list[str]:
    """Write the untouched, the faulty and the cleaned text; returns their names."""
    clean = [list(pair) for pair in zip(read_lines(options.source), read_lines(options.target), strict=True)]
    foreign = list(read_lines(options.foreign))
    write(clean, options.output / "untouched", languages)
    names = ["untouched"]
    for kind in options.kinds:
        pairs = [list(pair) for pair in clean]
        INJECTIONS[kind](pairs, int(options.share * len(pairs)), random.Random(7), foreign)
        faulty, cleaned = options.output / kind, options.output / f"{kind}-cleaned"
        write(pairs, faulty, languages)
        files = [f"--source={faulty}.{languages[0]}", f"--target={faulty}.{languages[1]}"]
        done = subprocess.run(
            [*SEQ2SEQ, "data", "check", *files, "--fix", str(cleaned), "--json"], stdout=subprocess.PIPE
        )
        if done.returncode not in (0, 3):  # 3: there are faults
            raise SystemExit(done.returncode)
        names += [kind, f"{kind}-cleaned"]
    return names


def train_command(options: argparse.Namespace, name: str, languages: tuple[str, str]) -> list[str]:
    """The command that trains on the text of that name."""

    def files(stem: str) -> str:
        return f"[{{source: {stem}.{languages[0]}, target: {stem}.{languages[1]}}}]"

    held_out = [
        f"data.{part}=[{{source: {given[0]}, target: {given[1]}}}]"
        for part, given in (("valid", options.valid), ("test", options.test))
    ]
    text = f"data.train={files(str(options.output / name))}"
    return [
        *SEQ2SEQ,
        "train",
        *options.config,
        text,
        *held_out,
        *options.settings,
        "-o",
        str(options.output / "runs" / name),
    ]


def main() -> None:
    """Prepare, train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--foreign", type=Path, required=True, help="text in a third language")
    parser.add_argument("--valid", nargs=2, required=True, metavar="FILE")
    parser.add_argument("--test", nargs=2, required=True, metavar="FILE")
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--kinds", nargs="+", default=["copy", "language", "misaligned"], choices=INJECTIONS)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/cleaning"))
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_intermixed_args()
    options.output.mkdir(parents=True, exist_ok=True)
    languages = (options.source.suffix[1:], options.target.suffix[1:])
    names = prepare(options, languages)
    print("| training text | pairs | test BLEU | chrF |\n|---|---|---|---|")
    for name in names:
        pairs = sum(1 for _ in read_lines(Path(f"{options.output / name}.{languages[0]}")))
        if options.prepare:
            print(f"| {name} | {pairs:,} | | |")
            continue
        subprocess.run(train_command(options, name, languages), check=True, stdout=subprocess.DEVNULL)
        results = json.loads((options.output / "runs" / name / "results.json").read_text(encoding="utf-8"))
        scores = {metric["name"]: metric["value"] for metric in results["test"]["metrics"]}
        print(f"| {name} | {pairs:,} | {scores['BLEU']:.2f} | {scores['chrF']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
