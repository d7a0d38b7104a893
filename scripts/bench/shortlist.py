"""What a vocabulary shortlist saves, by the size of the vocabulary: CPU time of a search with and without it.

    OMP_NUM_THREADS=1 python scripts/bench/shortlist.py --vocabularies 6000 16000 32000 --rounds 3

Transformers with random weights translate random sentences of 12 tokens with one thread in fp32. Every output has 12
tokens and its end mark, so that both searches take as many steps. A list has about 600 tokens, as many as that of a
caption in a trained run has. The searches take turns; the figure is the median of the rounds. What a shortlist does to
translations is measured with a trained run:

    seq2seq evaluate runs/NAME --shortlist --baseline runs/NAME
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from seq2seq.config.model import TransformerSettings
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.interface import SearchOptions, Sentence
from seq2seq.decoding.shortlist import Shortlist
from seq2seq.models import build_model

_LENGTH, _SENTENCES, _TRANSLATIONS = 12, 64, 42


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[6000, 16000, 32000])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--beams", type=int, nargs="+", default=[5, 1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="fp32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| vocabulary | beam | whole, ms a sentence | shortlist | times as fast |\n|---|---|---|---|---|")
    for size in arguments.vocabularies:
        engines = _engines(size, arguments.width, arguments.precision)
        draws = np.random.default_rng(1)
        batch = [Sentence(draws.integers(4, size, _LENGTH).tolist(), key=(n,)) for n in range(_SENTENCES)]
        for beam in arguments.beams:
            options = SearchOptions(beam, max_length_ratio=1, max_length_offset=0, min_length_ratio=1)
            times: list[list[float]] = [[], []]
            for _ in range(arguments.rounds + 1):
                for engine, found in zip(engines, times, strict=True):
                    begin = time.process_time()
                    with engine.unchanged():
                        engine.search(batch, options)
                    found.append((time.process_time() - begin) / len(batch) * 1000)
            whole, listed = (statistics.median(found[1:]) for found in times)  # the first one prepares
            print(f"| {size:,} | {beam} | {whole:.2f} | {listed:.2f} | {whole / listed:.2f} |", flush=True)


def _engines(size: int, width: int, precision: str) -> tuple[NativeEngine, NativeEngine]:
    """Engines of one model: with the whole vocabulary, and with a shortlist."""
    torch.manual_seed(1)
    settings = TransformerSettings(
        hidden_size=width, ff_size=4 * width, num_heads=4, encoder_layers=3, decoder_layers=3, dropout=0.0
    )
    model = build_model(settings, size, size).eval()
    draws = np.random.default_rng(2)
    sources = np.repeat(np.arange(4, size), _TRANSLATIONS)
    targets, probabilities = draws.integers(4, size, len(sources)), draws.random(len(sources))
    shortlist = Shortlist.of_translations(
        sources, targets, probabilities, draws.integers(1, 9, size), best=_TRANSLATIONS, shared=False
    )
    engines = tuple(NativeEngine(model, torch.device("cpu"), precision, listed) for listed in (None, shortlist))
    for engine in engines:
        engine.prepare(characters=10**6)
    return engines[0], engines[1]


if __name__ == "__main__":
    main()
