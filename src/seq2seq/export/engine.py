"""CTranslate2 as an engine of translation: the same options and answers as our own search, from an export."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seq2seq.decoding.interface import Engine, Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.length_limits import check, lengths
from seq2seq.errors import CheckpointError, DivergenceError, ResourceError, UsageError
from seq2seq.export.folder import Export
from seq2seq.export.requirements import import_ctranslate2
from seq2seq.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS
from seq2seq.system import available_cores

_BATCH_SENTENCES, _GREEDY_SENTENCES = 64, 128
_BATCH_TOKENS = 4096
_SMALLEST_BATCH = 16
"""Fewer sentences than this are not shared out among workers."""

_NEARLY_ZERO = 1e-6


class CTranslate2Engine(Engine):
    """Searches with CTranslate2 in threads of its own; calls may come from several threads, but never after a fork.

    Give it many sentences at once: it sorts them by length and keeps `parallel` batches going. Outputs and scores are
    those of our own search, but for two things: a minimum length takes EOS's probability away before the others are
    ranked, and with several beams an output that meets its maximum length may be another one.
    """

    def __init__(
        self,
        export: Export,
        *,
        device: str = "cpu",
        workers: int = 0,
        threads: int = 1,
        compute_type: str = "default",
    ) -> None:
        """Load the model of an export.

        Args:
            export: what `open_export` gave.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            workers: batches translated side by side; 0 is one for each core, on a GPU one.
            threads: threads of each worker.
            compute_type: numbers that are computed with; `default` is as the weights are stored.

        Raises:
            UsageError: no such device, CTranslate2 is not installed, or it does not know the compute type.
            CheckpointError: CTranslate2 cannot read the model.
        """
        library = import_ctranslate2()
        kind, index = _device(device, library)
        self.parallel = workers or (available_cores() if kind == "cpu" else 1)
        self.export = export
        try:
            self._translator = library.Translator(
                str(export.folder),
                device=kind,
                device_index=index,
                compute_type=compute_type,
                inter_threads=self.parallel,
                intra_threads=threads,
            )
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"CTranslate2 cannot use {export.folder}: {error}", code="export.library") from error
        self.compute_type: str = self._translator.compute_type
        """What is computed with, e.g. `int8_float32`."""
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
        """As `Engine.search`; a sentence without tokens gives one without tokens.

        Raises:
            UsageError: impossible options, or such as CTranslate2 cannot honour: sampling that a seed repeats,
                diversity, phrases.
            ResourceError: memory ran out.
            DivergenceError: the model's output is NaN.
        """
        check(sentences, options)
        _refuse(sentences, options)
        bounds = lengths(self, sentences, options)  # type: ignore[arg-type]  # looks at max_target_length alone
        tasks = [
            Task(
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
            careful = [task for task in tasks if is_faulty(answers.get(task.number), task)]
            # A greedy output that is too long begins with the one that is wanted.
            again = [
                task
                for task in careful
                if options.beam_size > 1 or task.number not in answers or holds_forbidden(answers[task.number])
            ]
            answers.update(self._translate(again, options, careful=True))
            drafts = {task.number: drafts_of(answers[task.number], task, self._target_ids) for task in tasks}
            self._score(tasks if options.with_token_scores else careful, drafts)
            found = [ranked(drafts[task.number], options) for task in tasks]
            return self._with_attention(tasks, found) if options.with_attention else found

    def _translate(self, tasks: Sequence[Task], options: SearchOptions, *, careful: bool) -> dict[int, list[Answer]]:
        """The hypotheses of each task by its number.

        Not `careful`: with limits that many tasks share, so that batches are large; an output may break its own limit,
        or hold a token that is never written. `careful`: with each task's own limit, and as many hypotheses as beams,
        for CTranslate2 ranks them by the probability of a part of their tokens.
        """
        count = options.beam_size if careful else options.n_best
        # At alpha 0 and with several hypotheses CTranslate2 stops before it has the best ones.
        alpha = options.length_penalty or (_NEARLY_ZERO if count > 1 else 0.0)
        waiting = []
        for batch in self._batches(tasks, careful, _BATCH_SENTENCES if options.beam_size > 1 else _GREEDY_SENTENCES):
            running = self._translator.translate_batch(
                [task.source for task in batch],
                [task.prefix or None for task in batch] if careful else None,
                asynchronous=True,
                beam_size=options.beam_size,
                num_hypotheses=count,
                length_penalty=alpha,
                max_input_length=0,
                min_decoding_length=batch[0].minimum,
                max_decoding_length=self._steps(batch[0], careful),
                suppress_sequences=[[token] for token in NEVER_WRITTEN] if careful else None,
                return_scores=True,
                return_end_token=True,
            )
            waiting.append((batch, running))
        return {
            task.number: list(answers_of(result.result(), alpha))
            for batch, running in waiting
            for task, result in zip(batch, running, strict=True)
        }

    def _batches(self, tasks: Sequence[Task], careful: bool, most: int) -> Iterator[list[Task]]:
        """At most so many tasks of one limit and of similar length, longest first, at least a batch a worker."""

        def alike(task: Task) -> tuple[int, int]:
            return -self._steps(task, careful), task.minimum

        most = max(_SMALLEST_BATCH, min(most, -(-len(tasks) // self.parallel)))
        for _, group in groupby(sorted(tasks, key=lambda task: (alike(task), -len(task.source))), key=alike):
            batch: list[Task] = []
            for task in group:
                if batch and (len(batch) >= most or (len(batch) + 1) * (len(batch[0].source) + 1) > _BATCH_TOKENS):
                    yield batch
                    batch = []
                batch.append(task)
            yield batch

    def _steps(self, task: Task, careful: bool) -> int:
        """Most tokens that CTranslate2 may write: the task's own limit, or a power of two above it (and above EOS)."""
        steps = max(task.maximum, 1) if careful else 1 << task.maximum.bit_length()
        return steps if self._positions is None else min(steps, self._positions)

    def _score(self, tasks: Sequence[Task], drafts: dict[int, list[Hypothesis]]) -> None:
        """Put the probability of every token, EOS and prefix included, into the drafts of these tasks."""
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
            # Where EOS was as likely as all else together, the model itself would have ended here.
            cut = draft.cut and values[-1] < -math.log(2)
            drafts[task.number][place] = draft._replace(log_probability=sum(values), token_scores=values, cut=cut)

    def _with_attention(self, tasks: Sequence[Task], found: list[list[Hypothesis]]) -> list[list[Hypothesis]]:
        """The hypotheses with the attention of forced decoding: that of CTranslate2's beams belongs to other rows."""
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
                # CTranslate2 leaves the source's EOS out; its weight is what the others have left.
                weights = torch.cat([weights, (1 - weights.sum(dim=1, keepdim=True)).clamp(min=0)], dim=1)
                found[task.number][place] = found[task.number][place]._replace(attention=weights)
        return found


def _refuse(sentences: Sequence[Sentence], options: SearchOptions) -> None:
    hint = "translate with the run itself (not an export of it), by --engine native"
    if options.sampling is not None:
        raise UsageError(
            "the ctranslate2 engine cannot draw samples that a seed repeats", hint=hint, code="export.unsupported"
        )
    if options.diversity > 0:
        raise UsageError("the ctranslate2 engine knows no diversity", hint=hint, code="export.unsupported")
    if any(sentence.phrases for sentence in sentences):
        raise UsageError(
            "the ctranslate2 engine cannot demand phrases (a glossary)", hint=hint, code="export.unsupported"
        )


def _device(wanted: str, library: Any) -> tuple[str, int]:
    kind, _, number = wanted.partition(":")
    found = library.get_cuda_device_count()
    if kind == "auto":
        return ("cuda" if found else "cpu"), 0
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UsageError(f"CTranslate2 knows no device {wanted}", hint="--device cpu or cuda", code="device.missing")
    index = int(number or 0)
    if kind == "cuda" and index >= found:
        raise UsageError(
            f"CTranslate2 finds no device {wanted} ({found} CUDA devices)", hint="--device cpu", code="device.missing"
        )
    return kind, index


def _vocabulary(folder: Path, side: str) -> list[str]:
    for name in (f"{side}_vocabulary.json", "shared_vocabulary.json"):
        if (folder / name).exists():
            return [str(token) for token in json.loads((folder / name).read_text(encoding="utf-8"))]
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


NEVER_WRITTEN = (SPECIAL_TOKENS[PAD], SPECIAL_TOKENS[BOS])
"""Tokens that no output holds."""

_END = SPECIAL_TOKENS[EOS]


class Task(NamedTuple):
    """One sentence as CTranslate2 is asked for it."""

    number: int
    source: list[str]
    prefix: list[str]
    minimum: int
    """Fewest tokens, EOS not counted."""
    maximum: int
    """Most tokens, EOS not counted."""


class Answer(NamedTuple):
    """One hypothesis as CTranslate2 gave it."""

    tokens: list[str]
    """Without EOS."""
    log_probability: float
    """Of the tokens, and of EOS where it was written."""
    ended: bool
    """Whether EOS was written."""


def answers_of(result: Any, alpha: float) -> Iterator[Answer]:
    """The hypotheses of one sentence; `alpha` is the length penalty they were ranked by.

    Raises:
        DivergenceError: the model's output is NaN.
    """
    for tokens, score in zip(result.hypotheses, result.scores, strict=True):
        if math.isnan(score):
            raise DivergenceError(
                "the model's output is not a number",
                hint="its weights hold NaN or infinity; use an earlier checkpoint",
                code="model.not-a-number",
            )
        if score > -math.inf:
            ended = bool(tokens) and tokens[-1] == _END
            yield Answer(tokens[:-1] if ended else tokens, score * len(tokens) ** alpha, ended)


def is_faulty(answers: Sequence[Answer] | None, task: Task) -> bool:
    """Whether a task must be searched for with care: none yet, a limit broken, or a token that is never written."""
    if answers is None:
        return True
    return any(
        len(answer.tokens) > task.maximum or (task.source and not answer.ended) for answer in answers
    ) or holds_forbidden(answers)


def holds_forbidden(answers: Sequence[Answer]) -> bool:
    """Whether one of the hypotheses holds a token that is never written."""
    return any(token in answer.tokens for answer in answers for token in NEVER_WRITTEN)


def drafts_of(answers: Sequence[Answer], task: Task, ids: dict[str, int]) -> list[Hypothesis]:
    """Different hypotheses within the task's limit, their scores left open."""
    found: dict[tuple[int, ...], Hypothesis] = {}
    for answer in answers:
        tokens = [ids[token] for token in answer.tokens[: task.maximum]]
        cut = bool(task.source) and (not answer.ended or len(answer.tokens) > task.maximum)
        found.setdefault(tuple(tokens), Hypothesis(tokens, 0.0, answer.log_probability, cut=cut))
    return list(found.values())


def ranked(drafts: Sequence[Hypothesis], options: SearchOptions) -> list[Hypothesis]:
    """The best ones by our own score, best first."""
    found = [
        draft._replace(
            score=draft.log_probability / (len(draft.tokens) + 1) ** options.length_penalty,
            token_scores=draft.token_scores if options.with_token_scores else None,
        )
        for draft in drafts
    ]
    nothing = Hypothesis([], -math.inf, -math.inf, cut=True)
    return sorted(found, key=lambda hypothesis: -hypothesis.score)[: options.n_best] or [nothing]
