"""Metrics of a server in the text format of Prometheus (exposition format 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping

_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram of durations, in seconds."""


class Metrics:
    """Counters of requests and texts."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        """By path and status."""
        self.characters = 0
        """Characters of the texts that were translated."""
        self._durations = [0] * (len(_BOUNDS) + 1)
        self._seconds = 0.0

    def finish(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered; the time of translations alone is kept."""
        self.requests[path, status] += 1
        if path == "/translate":
            self._durations[bisect_left(_BOUNDS, seconds)] += 1
            self._seconds += seconds

    def text(self, runs: Mapping[str, tuple[int, int, int]]) -> str:
        """All metrics; `runs` has (waiting sentences, rounds, sentences) of each run."""
        return "".join(f"{line}\n" for line in self._lines(runs))

    def _lines(self, runs: Mapping[str, tuple[int, int, int]]) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Answered requests by path and status.")
        for (path, status), count in sorted(self.requests.items()):
            yield f'seq2seq_requests_total{{path="{path}",status="{status}"}} {count}'
        yield from _head("characters_total", "counter", "Characters of the translated texts.")
        yield f"seq2seq_characters_total {self.characters}"
        kinds = (
            ("waiting_sentences", "gauge", "Sentences that wait for their batch."),
            ("batches_total", "counter", "Batches that were translated."),
            ("sentences_total", "counter", "Sentences that were translated."),
        )
        for place, (name, kind, meaning) in enumerate(kinds):
            yield from _head(name, kind, meaning)
            for run, figures in runs.items():
                yield f'seq2seq_{name}{{run="{_escaped(run)}"}} {figures[place]}'
        yield from _head("translate_seconds", "histogram", "Time of a request for a translation.")
        total = 0
        for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self._durations, strict=True):
            total += count
            yield f'seq2seq_translate_seconds_bucket{{le="{bound}"}} {total}'
        yield f"seq2seq_translate_seconds_sum {self._seconds:.6f}"
        yield f"seq2seq_translate_seconds_count {total}"


def _head(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP seq2seq_{name} {meaning}", f"# TYPE seq2seq_{name} {kind}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
