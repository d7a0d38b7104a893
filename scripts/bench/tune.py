"""What tuning gains: `seq2seq tune` against `seq2seq train --budget` with as much time, by test BLEU.

    python scripts/bench/tune.py shared/data/multi30k/train.en shared/data/multi30k/train.de \\
        --valid val.en val.de --test test_2016_flickr.en test_2016_flickr.de --pairs 3000 --minutes 6 -o runs/gain

One after the other, each alone on the machine. The config of the search is what `seq2seq init` chooses; the time of the
search includes the measurement before its first trial, all trials, and the test scores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

SEQ2SEQ = [sys.executable, "-m", "seq2seq"]


def cut(source: Path, target: Path, pairs: int) -> None:
    """Write every n-th line, so that `pairs` are left."""
    lines = source.read_text(encoding="utf-8").split("\n")[:-1]
    step = max(1, len(lines) // pairs)
    target.write_text("".join(f"{line}\n" for line in lines[::step][:pairs]), encoding="utf-8")


def run(*arguments: object) -> tuple[float, str]:
    """Minutes and stdout of a command."""
    begun = time.monotonic()
    done = subprocess.run([*SEQ2SEQ, *map(str, arguments)], stdout=subprocess.PIPE, check=True, text=True)
    return (time.monotonic() - begun) / 60, done.stdout


def main() -> None:
    """Print a row for each of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--valid", nargs=2, required=True, metavar="FILE")
    parser.add_argument("--test", nargs=2, required=True, metavar="FILE")
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--ensemble", type=int, default=1, help="trials that translate together at the end")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/gain"))
    parser.add_argument("settings", nargs="*", help="KEY=VALUE for both, KEY=A,B for the search")
    options = parser.parse_intermixed_args()

    options.output.mkdir(parents=True)
    files: list[object] = []
    for option, file in (("--source", options.source), ("--target", options.target)):
        name = options.output / f"train{file.suffix}"
        cut(file, name, options.pairs)
        files += [option, name]
    for option, held_out in (("--valid", options.valid), ("--test", options.test)):
        files += [part for file in held_out for part in (option, file)]
    budget = ("--budget", f"{options.minutes}m")
    both = [setting for setting in options.settings if "," not in setting]

    minutes, out = run("train", *files, *both, *budget, "-o", options.output / "train", "--json")
    scores = {metric["name"]: metric["value"] for metric in json.loads(out)["metrics"]}
    print(f"train  {minutes:.1f} min  test BLEU {scores['BLEU']:.2f}", flush=True)
    config = options.output / "mine.yaml"
    run("init", *files, config)
    search = (*budget, "--ensemble", options.ensemble, "-o", options.output / "tune", "--json")
    minutes, out = run("tune", config, *options.settings, *search)
    found = json.loads(out)
    results = json.loads((Path(found["best"]["run"]) / "results.json").read_text(encoding="utf-8"))
    scores = {metric["name"]: metric["value"] for metric in results["test"]["metrics"]}
    print(f"tune   {minutes:.1f} min  test BLEU {scores['BLEU']:.2f}  {len(found['trials'])} trials", flush=True)
    print(" ".join(found["best"]["settings"]) or "the config as it is")
    if found["ensemble"] is not None:
        scores = {metric["name"]: metric["value"] for metric in found["ensemble"]["test"]}
        print(f"ensemble of {len(found['ensemble']['runs'])}  test BLEU {scores['BLEU']:.2f}")
    print(run("compare", options.output / "train", found["best"]["run"])[1])


if __name__ == "__main__":
    main()
