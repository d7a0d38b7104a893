"""The faster engine for a text: the native one, or an export of the same weights in the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice

from seq2seq.console import muted, say
from seq2seq.decoding.text_batches import Line
from seq2seq.decoding.translator import TranslationOptions
from seq2seq.errors import UserError
from seq2seq.runs.loaded_run import LoadedRun

WORTH_MEASURING = 1 << 20
"""Bytes of a text from which the better engine saves more than both take for the sample."""
_SAMPLE_LINES = 1000
"""Lines that each engine translates twice: what it loads for a long text counts the first time alone."""


def faster_engine(
    native: LoadedRun, load_export: Callable[[], LoadedRun], lines: Iterable[str | Line], options: TranslationOptions
) -> LoadedRun:
    """The run with the engine that translates the first lines of a text faster.

    It is the native one where the run has no export of its weights, or CTranslate2 is not installed.
    """
    try:
        export = load_export()
    except UserError as error:
        say(f"engine native: {error.what}")
        return native
    sample = list(islice(lines, _SAMPLE_LINES))
    ours, theirs = _lines_per_second(native, sample, options), _lines_per_second(export, sample, options)
    faster = "ctranslate2" if theirs > ours else "native"
    say(f"engine {faster}: native {ours:,.0f} lines/s, ctranslate2 {theirs:,.0f}")
    return export if theirs > ours else native


def _lines_per_second(run: LoadedRun, sample: list[str | Line], options: TranslationOptions) -> float:
    rate = 0.0
    with muted():
        for _ in range(2):
            started = time.perf_counter()
            for _translations in run.translator.stream(sample, options):
                pass
            rate = len(sample) / (time.perf_counter() - started)
    run.translator.outputs_cut = 0
    return rate
