"""Time of one short sentence in a loaded run, on one thread, beside CTranslate2 with the same weights.

    seq2seq export runs/NAME --format ctranslate2
    python scripts/bench/latency.py runs/NAME --text data/multi30k/test_2016_flickr.en

The clock runs from text to text: segmenting, search and joining. Both translate the same lines one by one, in turn; the
first ten are not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import islice
from pathlib import Path
from typing import Any

from seq2seq import load

WARM_UP = 10


def main() -> None:
    """Print a row for each engine and beam size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--words", type=int, nargs=2, default=(8, 12), metavar=("LEAST", "MOST"))
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--beams", type=int, nargs="+", default=(1, 5))
    kinds = ("native", "int8", "ctranslate2")
    parser.add_argument("--engines", nargs="+", default=kinds, choices=kinds, help="int8: the native one in integers")
    options = parser.parse_args()

    least, most = options.words
    texts = (
        line for line in options.text.read_text(encoding="utf-8").split("\n") if least <= len(line.split()) <= most
    )
    lines = list(islice(texts, WARM_UP + options.lines))
    settings: dict[str, dict[str, Any]] = {
        "native": {"many_texts": True},
        "int8": {"many_texts": True, "precision": "int8"},
        "ctranslate2": {"engine": "ctranslate2"},
    }
    runs = {
        engine: load(options.run, device="cpu", threads=1, workers=1, **settings[engine]) for engine in options.engines
    }
    taken: dict[tuple[str, int], list[float]] = {(engine, beam): [] for engine in runs for beam in options.beams}
    for line in lines:
        for (engine, beam), times in taken.items():
            begun = time.perf_counter()
            runs[engine].translate(line, beam_size=beam)
            times.append(1e3 * (time.perf_counter() - begun))
    words = statistics.mean(len(line.split()) for line in lines)
    print(f"{len(lines) - WARM_UP} lines of {words:.1f} words, ms a line")
    print(f"{'engine':<12} {'beam':>4} {'median':>7} {'lowest':>7} {'95 %':>7}")
    for (engine, beam), times in taken.items():
        counted = sorted(times[WARM_UP:])
        late = counted[int(0.95 * len(counted))]
        print(f"{engine:<12} {beam:>4} {statistics.median(counted):>7.1f} {counted[0]:>7.1f} {late:>7.1f}")


if __name__ == "__main__":
    main()
