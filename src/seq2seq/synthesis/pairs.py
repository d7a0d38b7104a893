"""Training pairs made of the translations of a text, for `backtranslate` and `distill`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seq2seq.console import Progress, counted, say, warn
from seq2seq.data.clean_copy import clean_copy
from seq2seq.decoding.text_batches import Line
from seq2seq.decoding.translation import Translation
from seq2seq.decoding.translator import TranslationOptions
from seq2seq.resumable_output import is_begun, open_output
from seq2seq.runs.loaded_run import LoadedRun
from seq2seq.synthesis.back_translation import Method
from seq2seq.synthesis.filters import FilterCounts, FilterOptions, PairFilter
from seq2seq.synthesis.originals import Original, Originals
from seq2seq.synthesis.translations import Contents, Translated, is_complete, last_row, read_translations

Choose = Callable[[Original, Sequence[Translation]], Translation]
"""Chooses one of the translations of a line."""


def translate_all(
    loaded: LoadedRun,
    originals: Originals,
    options: TranslationOptions,
    path: Path,
    identity: Mapping[str, Any],
    *,
    target_tag: str | None = None,
    choose: Choose | None = None,
    resume: bool | None,
) -> None:
    """Translate the lines into a file that can be resumed. A complete file is kept and can be filtered again.

    Args:
        loaded: the run.
        originals: the lines.
        options: of the translator.
        path: the file.
        identity: what `resume` requires to be equal, beside the run's own identity and the target tag.
        target_tag: target language of a run with target tags.
        choose: by default the first one of a line's translations.
        resume: continue an interrupted file; None does that wherever there is one, without an option of the command.

    Raises:
        UsageError: the file was begun with other options.
        DataError: it has the translations of other lines.
    """
    identity = {**loaded.identity, "target_tag": target_tag, **identity}
    contents = Contents.of(originals.read())
    if is_complete(path, identity, contents):
        say(f"{path} is complete: nothing is translated again")
        return
    ahead: deque[Original] = deque()
    lines = _lines(originals, loaded, target_tag, ahead)
    cut = 0
    goes_on = is_begun(path) if resume is None else resume
    with open_output(path, identity, resume=goes_on, resumes_itself=resume is None) as output:
        output.skip_translated(lines)
        ahead.clear()
        number = output.lines
        with Progress("translating", contents.lines, "lines", initial=number) as progress:
            for chunk in loaded.translator.stream_chunks(lines, options, start=number):
                rows = []
                for translations in chunk:
                    original = ahead.popleft()
                    chosen = translations[0] if choose is None else choose(original, translations)
                    rows.append(Translated.of(chosen).row())
                    cut += chosen.cut
                output.write("".join(rows), [translations[0].source for translations in chunk], {})
                progress.update(len(chunk))
        output.write(last_row(identity, contents), [], {})
    if cut:
        warn(f"{counted(cut, 'translation')} reached the length limit")


def _lines(originals: Originals, loaded: LoadedRun, target_tag: str | None, ahead: deque[Original]) -> Iterator[Line]:
    """The lines for the translator; `ahead` holds the lines that are read but not yet translated."""

    def texts() -> Iterator[str]:
        for original in originals.read():
            ahead.append(original)
            yield original.text

    for text in loaded.target_tags.add(texts(), target_tag, "--target-tag"):
        yield Line(text)


def write_pairs(
    loaded: LoadedRun,
    originals: Originals,
    path: Path,
    output: str,
    limits: FilterOptions,
    *,
    backward: Method | None = None,
    replace: bool = False,
) -> FilterCounts:
    """Write the good pairs as OUTPUT.LANGUAGE, and the dropped lines with their reasons as OUTPUT.receipt.tsv.

    Args:
        loaded: the run.
        originals: the lines.
        path: the file of their translations.
        output: beginning of the names.
        limits: of the filters.
        backward: the translations become the sources, with the noise of this method; None: they become the targets.
        replace: replace files of these names.

    Raises:
        UsageError: a file exists, or cannot be written.
        ResourceError: the disk is full.
        DataError: nothing is left.
    """
    data = loaded.config.data
    languages = data.source_language, data.target_language
    genuine, named = originals.genuine, languages
    if backward is not None and loaded.target_tags.tags:  # the lines have no tags, and held-out pairs several languages
        genuine, named = [], (languages[0], "")
    judge = PairFilter(path, originals.read(), named, genuine, limits)
    sides = languages if backward is None else languages[::-1]
    counts = FilterCounts()
    with clean_copy(output, sides, option="-o", replace=replace) as copy:

        def drop(original: Original, reason: str, detail: str) -> None:
            counts.read += 1
            counts.dropped[reason] += 1
            copy.note(original.place, original.line, "dropped", [(reason, detail)])

        for original, found in zip(originals.read(drop), read_translations(path), strict=True):
            if fault := judge.fault(original, found):
                drop(original, *fault)
                continue
            counts.read += 1
            if backward is None:
                copy.write((original.text, found.text))
            else:
                copy.write((backward.source(found.text, original.line), original.text))
        counts.require_any_kept(path)
    return counts
