"""Search engine that calls CTranslate2, with the options and results of the native engine."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seq2seq.decoding.interface import Engine, Hypothesis, SearchOptions, Sentence, not_a_number_error
from seq2seq.decoding.length_limits import check, lengths
from seq2seq.errors import CheckpointError, ResourceError, UsageError
from seq2seq.export.folder import Export
from seq2seq.extras import import_library
from seq2seq.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS
from seq2seq.system import available_cores

_BATCH_SENTENCES, _GREEDY_SENTENCES = 64, 128
_BATCH_TOKENS = 4096
_SMALLEST_BATCH = 16
"""Batches are not made smaller than this to keep all workers busy."""
_SMALL_ALPHA = 1e-6


_NEVER_WRITTEN = (SPECIAL_TOKENS[PAD], SPECIAL_TOKENS[BOS])
"""Tokens that no output holds."""


class _Task(NamedTuple):
    """A sentence in CTranslate2's terms."""

    number: int
    source: list[str]
    prefix: list[str]
    minimum: int
    """Minimum length of the output in tokens, EOS not counted."""
    maximum: int
    """Maximum length of the output in tokens, EOS not counted."""


class _Answer(NamedTuple):
    """A hypothesis of CTranslate2."""

    tokens: list[str]
    """Without EOS."""
    log_probability: float
    """Log-probabilities of the tokens, and of EOS if it was written."""
    ended: bool
    """Whether EOS was written."""


class CTranslate2Engine(Engine):
    """Searches with CTranslate2, in its own threads. Calls may come from several threads, but not after a fork.

    A call should have many sentences: they are sorted by length and searched in `parallel` batches at a time. Outputs
    and scores are those of the native engine, with two exceptions: under a minimum length the probability of EOS is
    removed before the others are ranked, and with several beams an output at its maximum length may differ.
    """

    takes_phrases = False

    def __init__(self, export: Export, *, device: str = "cpu", workers: int = 0) -> None:
        """Load the model of an export.

        Args:
            export: an export of `open_export`.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            workers: batches searched at the same time, each by one thread; 0 is one for each core, or one on a GPU.

        Raises:
            UsageError: an unknown device, or CTranslate2 is not installed.
            CheckpointError: CTranslate2 cannot read the model.
        """
        library = import_library("ctranslate2")
        kind, index = _device(device, library)
        self.parallel = workers or (available_cores() if kind == "cpu" else 1)
        self.export = export
        try:
            self._translator = library.Translator(
                str(export.folder),
                device=kind,
                device_index=index,
                inter_threads=self.parallel,
                intra_threads=1,
            )
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"CTranslate2 cannot use {export.folder}: {error}", code="export.library") from error
        self.compute_type: str = self._translator.compute_type
        """Type of numbers that CTranslate2 computes with, e.g. `int8_float32`."""
        self._source_tokens, self._target_tokens = (_vocabulary(export.folder, side) for side in ("source", "target"))
        self._target_ids = {token: number for number, token in enumerate(self._target_tokens)}
        self._positions: int | None = export.manifest["positions"]

    @property
    def max_source_length(self) -> int | None:
        return self._positions

    @property
    def max_target_length(self) -> int | None:
        return self._positions

    def search(self, sentences: Sequence[Sentence], options: SearchOptions) -> list[list[Hypothesis]]:
        """See `Engine`. Seeded sampling, diversity and phrases raise `UsageError`."""
        check(sentences, options)
        _check_supported(sentences, options)
        bounds = lengths(self, sentences, options)  # type: ignore[arg-type]  # looks at max_target_length alone
        tasks = [
            _Task(
                number,
                [self._source_tokens[token] for token in sentence.ids],
                [self._target_tokens[token] for token in sentence.prefix],
                *bounds[number],
            )
            for number, sentence in enumerate(sentences)
        ]
        with _library_errors():
            plain = [task for task in tasks if not task.prefix and not task.minimum]
            answers = self._translate(plain, options, careful=False)
            careful = [task for task in tasks if _is_faulty(answers.get(task.number), task)]
            # A greedy output that is too long begins with the right one.
            repeated = [
                task
                for task in careful
                if options.beam_size > 1 or task.number not in answers or _holds_forbidden(answers[task.number])
            ]
            answers.update(self._translate(repeated, options, careful=True))
            drafts = {task.number: _drafts(answers[task.number], task, self._target_ids) for task in tasks}
            self._score(tasks if options.with_token_scores else careful, drafts)
            ranked = [_ranked(drafts[task.number], options) for task in tasks]
            return self._with_attention(tasks, ranked) if options.with_attention else ranked

    def _translate(self, tasks: Sequence[_Task], options: SearchOptions, *, careful: bool) -> dict[int, list[_Answer]]:
        """The hypotheses of each task, by its number.

        Without `careful`, many tasks share a length limit, so that batches are large; an output may exceed its own
        limit, or hold a token that is never written. With `careful`, each task has its own limit, and as many
        hypotheses as beams, because CTranslate2 ranks them by the probability of a part of their tokens.
        """
        count = options.beam_size if careful else options.n_best
        # At alpha 0 and with several hypotheses CTranslate2 stops before it has found the best ones.
        alpha = options.length_penalty or (_SMALL_ALPHA if count > 1 else 0.0)
        running = []
        for batch in self._batches(tasks, careful, _BATCH_SENTENCES if options.beam_size > 1 else _GREEDY_SENTENCES):
            results = self._translator.translate_batch(
                [task.source for task in batch],
                [task.prefix or None for task in batch] if careful else None,
                asynchronous=True,
                beam_size=options.beam_size,
                num_hypotheses=count,
                length_penalty=alpha,
                max_input_length=0,
                min_decoding_length=batch[0].minimum,
                max_decoding_length=self._steps(batch[0], careful),
                suppress_sequences=[[token] for token in _NEVER_WRITTEN] if careful else None,
                return_scores=True,
                return_end_token=True,
            )
            running.append((batch, results))
        return {
            task.number: list(_answers(result.result(), alpha))
            for batch, results in running
            for task, result in zip(batch, results, strict=True)
        }

    def _batches(self, tasks: Sequence[_Task], careful: bool, most: int) -> Iterator[list[_Task]]:
        """Batches of at most `most` tasks with the same limits and similar lengths, longest first, one a worker."""

        def limits(task: _Task) -> tuple[int, int]:
            return -self._steps(task, careful), task.minimum

        most = max(_SMALLEST_BATCH, min(most, -(-len(tasks) // self.parallel)))
        for _, group in groupby(sorted(tasks, key=lambda task: (limits(task), -len(task.source))), key=limits):
            batch: list[_Task] = []
            for task in group:
                if batch and (len(batch) >= most or (len(batch) + 1) * (len(batch[0].source) + 1) > _BATCH_TOKENS):
                    yield batch
                    batch = []
                batch.append(task)
            yield batch

    def _steps(self, task: _Task, careful: bool) -> int:
        """Maximum decoding length: the task's own limit, or a power of two above it, with EOS."""
        steps = max(task.maximum, 1) if careful else 1 << task.maximum.bit_length()
        return steps if self._positions is None else min(steps, self._positions)

    def _score(self, tasks: Sequence[_Task], drafts: dict[int, list[Hypothesis]]) -> None:
        """Score the drafts of these tasks by forced decoding, EOS and prefix included."""
        rows = [(task, place) for task in tasks if task.source for place in range(len(drafts[task.number]))]
        results = self._translator.score_batch(
            [task.source for task, _ in rows],
            [[self._target_tokens[token] for token in drafts[task.number][place].tokens] for task, place in rows],
            max_batch_size=_BATCH_SENTENCES,
            max_input_length=0,
        )
        for (task, place), result in zip(rows, results, strict=True):
            values = tuple(float(value) for value in result.log_probs)
            draft = drafts[task.number][place]
            # If EOS has at least half of the probability, the model itself would have ended here.
            cut = draft.cut and values[-1] < -math.log(2)
            drafts[task.number][place] = draft._replace(log_probability=sum(values), token_scores=values, cut=cut)

    def _with_attention(self, tasks: Sequence[_Task], found: list[list[Hypothesis]]) -> list[list[Hypothesis]]:
        """The hypotheses with the attention of forced decoding, as CTranslate2 mixes up that of its beams."""
        rows = [(task, place) for task in tasks if task.source for place in range(len(found[task.number]))]
        rows.sort(key=lambda row: -len(found[row[0].number][row[1]].tokens))
        for begin in range(0, len(rows), _BATCH_SENTENCES):
            batch = rows[begin : begin + _BATCH_SENTENCES]
            outputs = [found[task.number][place].tokens for task, place in batch]
            results = self._translator.translate_batch(
                [task.source for task, _ in batch],
                [[self._target_tokens[token] for token in tokens] or None for tokens in outputs],
                beam_size=1,
                max_input_length=0,
                min_decoding_length=0,
                max_decoding_length=len(outputs[0]) + 1,
                return_end_token=True,
                return_attention=True,
            )
            for (task, place), tokens, result in zip(batch, outputs, results, strict=True):
                weights = torch.tensor(result.attention[0][: len(tokens) + 1], dtype=torch.float32)
                # CTranslate2 omits the source's EOS; its weight is the rest of the sum of 1.
                weights = torch.cat([weights, (1 - weights.sum(dim=1, keepdim=True)).clamp(min=0)], dim=1)
                found[task.number][place] = found[task.number][place]._replace(attention=weights)
        return found


def _check_supported(sentences: Sequence[Sentence], options: SearchOptions) -> None:
    unsupported = {
        "seeded samples": options.sampling is not None,
        "diversity": options.diversity > 0,
        "phrases (a glossary)": any(sentence.phrases for sentence in sentences),
    }
    for name, is_used in unsupported.items():
        if is_used:
            raise UsageError(
                f"the ctranslate2 engine does not support {name}",
                hint="translate with the run itself (not an export of it), with --engine native",
                code="export.unsupported",
            )


def _device(wanted: str, library: Any) -> tuple[str, int]:
    kind, _, number = wanted.partition(":")
    devices = library.get_cuda_device_count()
    if kind == "auto":
        return ("cuda" if devices else "cpu"), 0
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UsageError(f"CTranslate2 knows no device {wanted}", hint="--device cpu or cuda", code="device.missing")
    index = int(number or 0)
    if kind == "cuda" and index >= devices:
        raise UsageError(
            f"CTranslate2 finds no device {wanted} ({devices} CUDA devices)", hint="--device cpu", code="device.missing"
        )
    return kind, index


def _vocabulary(folder: Path, side: str) -> list[str]:
    for name in (f"{side}_vocabulary.json", "shared_vocabulary.json"):
        if not (folder / name).exists():
            continue
        try:
            return [str(token) for token in json.loads((folder / name).read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError, RecursionError):
            what = f"{folder / name} is not a list of tokens"
            raise CheckpointError(what, hint="export it again", code="export.damaged") from None
    raise CheckpointError(f"{folder} has no {side} vocabulary", hint="export it again", code="export.damaged")


@contextmanager
def _library_errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error) or "bad_alloc" in str(error):
            raise ResourceError(
                "CTranslate2 ran out of memory", hint="lower --batch-size or --beam-size", code="memory.translating"
            ) from error
        raise


def _answers(result: Any, alpha: float) -> Iterator[_Answer]:
    """The hypotheses of a sentence; `alpha` is the length penalty of their scores. Raises `DivergenceError` for NaN."""
    for tokens, score in zip(result.hypotheses, result.scores, strict=True):
        if math.isnan(score):
            raise not_a_number_error()
        if score > -math.inf:
            ended = bool(tokens) and tokens[-1] == SPECIAL_TOKENS[EOS]
            yield _Answer(tokens[:-1] if ended else tokens, score * len(tokens) ** alpha, ended)


def _is_faulty(answers: Sequence[_Answer] | None, task: _Task) -> bool:
    """Whether the answers are missing, exceed a limit, or hold a token that is never written."""
    if answers is None:
        return True
    return any(
        len(answer.tokens) > task.maximum or (task.source and not answer.ended) for answer in answers
    ) or _holds_forbidden(answers)


def _holds_forbidden(answers: Sequence[_Answer]) -> bool:
    """Whether an answer holds a token that is never written."""
    return any(token in answer.tokens for answer in answers for token in _NEVER_WRITTEN)


def _drafts(answers: Sequence[_Answer], task: _Task, ids: dict[str, int]) -> list[Hypothesis]:
    """The different answers as hypotheses within the task's limit, without scores."""
    found: dict[tuple[int, ...], Hypothesis] = {}
    for answer in answers:
        tokens = [ids[token] for token in answer.tokens[: task.maximum]]
        cut = bool(task.source) and (not answer.ended or len(answer.tokens) > task.maximum)
        found.setdefault(tuple(tokens), Hypothesis(tokens, 0.0, answer.log_probability, cut=cut))
    return list(found.values())


def _ranked(drafts: Sequence[Hypothesis], options: SearchOptions) -> list[Hypothesis]:
    """The n-best hypotheses by the native engine's score, best first."""
    hypotheses = [
        draft._replace(
            score=draft.log_probability / (len(draft.tokens) + 1) ** options.length_penalty,
            token_scores=draft.token_scores if options.with_token_scores else None,
        )
        for draft in drafts
    ]
    nothing = Hypothesis([], -math.inf, -math.inf, cut=True)
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)[: options.n_best] or [nothing]
