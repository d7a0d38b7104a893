"""The cost of a run: time by a few timed steps of this machine, memory, steps and passes.

A budget (`training.budget_minutes`) becomes steps, warm-up and validations here, before the first step. They are
decided once and kept in estimate.json, so that a resumed run has the same schedule. Without a budget the first steps of
the training itself are timed, so that it begins at once.
"""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from seq2seq import allocator
from seq2seq.atomic_files import show_bytes
from seq2seq.config import Config, TrainingSettings
from seq2seq.config.settings_by_size import Choices
from seq2seq.console import counted, duration, say, warn
from seq2seq.data.batches import Batch, TrainingBatches, collate
from seq2seq.data.prepare import Prepared
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.translator import Translator
from seq2seq.distributed.launch import launch
from seq2seq.distributed.placement import Placement, place
from seq2seq.models import build_model
from seq2seq.optimization.optimizers import build_optimizer
from seq2seq.optimization.precision import Precision, choose_precision
from seq2seq.runs.context import RunContext
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.evaluate import Validator
from seq2seq.sealed_records import Estimate, write_record
from seq2seq.system import GENERATED_PRODUCTS, keep_freed_memory, limit_generated_code, peak_memory
from seq2seq.training.step import LossModule, train_step
from seq2seq.training.trainer import Trainer

_WORTH_SECONDS = 60.0
"""Validations of shorter trainings are not timed: that would take longer than what it foresees."""
_SAMPLE, _FEW, _ENOUGH_SECONDS = 64, 8, 0.5
"""Sentences of each rank whose translation is timed: a few where that takes long enough."""
_MARGIN = 0.95
"""Share of a budget that is planned for: steps may become a little slower."""
_VALIDATION_SHARE = 0.1
"""Share of the training time that the validations of a budget may take."""
_MOST_VALIDATIONS, _LEAST_VALIDATIONS = 20, 2
_LOADING_SECONDS = 1.0
"""Loading the best model before the test score."""
_LATER_BYTES = 100 << 20
"""Logs, validations and scorers, beside a second model for the test score."""
_PRODUCT_BYTES = 1 << 19
"""Code that oneDNN generates for a product in bf16. Attention has six in an update, of new shapes for nearly every
batch, so all but the shortest trainings reach the limit on such code; those of a few batches need up to 128 MiB less
than foreseen."""
_BASE_BYTES = 300 << 20
"""Python, torch and other libraries; the rest of a process are tensors and freed memory between them."""
_GROWTH, _GROWTH_OF_GLIBC = 1.3, 2.0
"""Growth of the rest from the first step to some hundred steps, with an allocator that sorts blocks by size and with
glibc. Measured with mimalloc 3.4 and glibc 2.36 on an AMD EPYC (Zen 5): 1.2 to 1.5 and 1.5 to 2.3, most
for large batches; glibc's heap goes on to grow slowly. `scripts/bench/RESULTS.md` has the figures."""
_LONG_HOURS = 12
_FEW_STEPS, _ENOUGH_STEPS = 50, 300
"""Steps after which even short sentences are hardly translated, and steps that make a beginning."""


def replanned_estimate(context: RunContext) -> Estimate | None:
    """The estimate of a run that has begun; a new budget continues the run with a new schedule. Every rank calls it.

    Returns:
        None for a run that was stopped within its first steps, or begun by an earlier version.

    Raises:
        CheckpointError: the record is damaged.
    """
    known, settings = context.directory.load_estimate(), context.config.training
    if known is not None and known.budget_minutes != settings.budget_minutes:
        known = with_budget(known, settings)
        _save(context, known)
    return known


def time_steps(trainer: Trainer, data: TrainingBatches) -> float:
    """Seconds of one update, measured before the first one and without a trace. Every rank must call it.

    Raises:
        ResourceError: the largest batch does not fit into memory.
    """
    if trainer.rehearses_first:
        trainer.rehearse(data)
    workers, data.num_workers = data.num_workers, 0  # loader processes need not start for a few steps
    seconds = trainer.time_steps(data)
    data.num_workers = workers
    return seconds


def estimate_run(
    context: RunContext,
    trainer: Trainer,
    data: TrainingBatches,
    prepared: Prepared,
    started: float,
    step_seconds: float,
) -> Estimate:
    """Estimate, tell and record the cost of a run whose updates take `step_seconds`. Every rank must call it.

    Args:
        started: time of the start of the command, by `time.monotonic`.
    """
    config, directory, _, ranks = context
    settings = config.training
    shares = {"greedy": 0.0, "beam": 0.0}
    if settings.max_steps * step_seconds > _WORTH_SECONDS:
        shares = {
            name: _seconds_per_sentence(context, trainer, prepared, beam_size)
            for name, beam_size in (("greedy", settings.validation_beam_size), ("beam", config.decoding.beam_size))
        }
    validation = 0.0
    if isinstance(trainer.validate, Validator) and prepared.valid is not None:
        share = len(prepared.valid) / max(1, data.pairs_per_epoch)  # a forward pass is a third of an update
        epoch_seconds = step_seconds * data.batches_per_epoch / settings.accumulation_steps
        validation = share * epoch_seconds / 3 + len(trainer.validate.texts) * shares["greedy"]
    sentences = len(prepared.test_pairs) + len(directory.load_pairs("old_test"))
    found = Estimate(
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        steps=settings.max_steps,
        passes=settings.max_steps * settings.accumulation_steps / max(1, data.batches_per_epoch),
        warmup_steps=settings.schedule.warmup_steps,
        validate_every=settings.validate_every,
        step_seconds=step_seconds,
        validation_seconds=validation,
        preparation_seconds=time.monotonic() - started - trainer.state.seconds,
        end_seconds=validation + _LOADING_SECONDS + sentences * shares["beam"],
        memory=round(ranks.sum_host([_foreseen_memory(trainer)])[0]),
        budget_minutes=None,
    )
    found = Estimate.model_validate_json(ranks.from_first(found.model_dump_json()))
    found = with_budget(within_limits(found, settings), settings)
    _save(context, found)
    announce(found, settings)
    return found


def _foreseen_memory(trainer: Trainer) -> float:
    """Peak bytes of this process.

    On a GPU that is the peak of the largest batch, which has been rehearsed. In main memory a process goes on to grow:
    by the code that oneDNN generates for later batches, by blocks that fit badly into freed ones, and by what
    validations and the end of the run add.
    """
    device, model = trainer.precision.device, trainer.model
    so_far = float(peak_memory(device))
    later = 0 if device.type == "cuda" else _LATER_BYTES + 8 * sum(weights.numel() for weights in model.parameters())
    if device.type != "cpu":
        return so_far + later
    code = GENERATED_PRODUCTS * _PRODUCT_BYTES if trainer.precision.choice.name == "bf16" else 0
    growth = _GROWTH if allocator.loaded() else _GROWTH_OF_GLIBC
    return so_far + (growth - 1.0) * max(0.0, so_far - _BASE_BYTES) + code + later


def _save(context: RunContext, estimate: Estimate) -> None:
    if context.ranks.is_first:
        write_record(context.directory.estimate, estimate.model_dump())
    context.ranks.barrier()


def within_limits(estimate: Estimate, settings: TrainingSettings) -> Estimate:
    """The estimate of a run that `max_epochs` or `max_minutes` ends before `max_steps`."""
    steps = float(estimate.steps)
    if settings.max_epochs is not None and estimate.passes > 0:
        steps = min(steps, settings.max_epochs * estimate.steps / estimate.passes)
    if settings.max_minutes is not None and estimate.training_seconds > 60.0 * settings.max_minutes:
        steps = min(steps, estimate.steps * 60.0 * settings.max_minutes / estimate.training_seconds)
    return _with_steps(estimate, max(1, round(steps)))


def with_budget(estimate: Estimate, settings: TrainingSettings) -> Estimate:
    """The estimate with the steps, the warm-up and the validations that fit into `budget_minutes`."""
    if settings.budget_minutes is None:
        return estimate.model_copy(update={"budget_minutes": None})
    seconds = _MARGIN * _seconds_to_train(estimate, settings.budget_minutes)
    count = validation_count(seconds, estimate.validation_seconds)
    validations = min(count * estimate.validation_seconds, seconds / 2)
    fitting = int((seconds - validations) / max(estimate.step_seconds, 1e-6))
    most = within_limits(_with_steps(estimate, settings.max_steps), settings).steps
    steps = max(1, min(most, fitting))
    return _with_steps(estimate, steps).model_copy(
        update={
            "budget_minutes": settings.budget_minutes,
            "validate_every": max(1, -(-steps // count)),
            "warmup_steps": min(settings.schedule.warmup_steps, max(1, steps // 9)),
        }
    )


def validation_count(seconds: float, validation_seconds: float) -> int:
    """Number of validations in `seconds` of training with a budget: few where each takes long."""
    if validation_seconds <= 0:
        return _MOST_VALIDATIONS
    count = round(_VALIDATION_SHARE * seconds / max(validation_seconds, 1e-6))
    return min(_MOST_VALIDATIONS, max(_LEAST_VALIDATIONS, count))


def _seconds_to_train(estimate: Estimate, budget_minutes: float) -> float:
    """Seconds of a budget for updates and validations. The end, timed on an untrained model, has a third at most."""
    left = max(0.0, 60.0 * budget_minutes - estimate.preparation_seconds)
    return left - min(estimate.end_seconds, left / 3)


def _with_steps(estimate: Estimate, steps: int) -> Estimate:
    return estimate.model_copy(update={"steps": steps, "passes": estimate.passes * steps / max(1, estimate.steps)})


def fitted(settings: TrainingSettings, estimate: Estimate | None) -> TrainingSettings:
    """The training settings with what a budget has decided; without a budget as they are."""
    if estimate is None or estimate.budget_minutes is None:
        return settings
    minutes = max(_seconds_to_train(estimate, estimate.budget_minutes) / 60.0, 1e-3)
    return settings.model_copy(
        update={
            "max_steps": max(1, estimate.steps),
            "validate_every": max(1, estimate.validate_every),
            "max_minutes": minutes if settings.max_minutes is None else min(minutes, settings.max_minutes),
            "schedule": settings.schedule.model_copy(update={"warmup_steps": estimate.warmup_steps}),
        }
    )


def as_trained(directory: RunDirectory, config: Config) -> Config:
    """The stored config of a run with the steps and the schedule that a budget has decided."""
    if config.training.budget_minutes is None:
        return config
    training = fitted(config.training, directory.load_estimate())
    own = {"max_minutes": config.training.max_minutes}  # that of the budget follows from the speed of the machine
    return config.model_copy(update={"training": training.model_copy(update=own)})


def announce(estimate: Estimate, settings: TrainingSettings) -> None:
    """Say what a run will cost, and warn of what will go wrong."""
    steps = counted(estimate.steps, "step")
    if estimate.steps < settings.max_steps:
        steps = f"{estimate.steps:,} of {counted(settings.max_steps, 'step')}"
    passes = f"{estimate.passes:,.0f}" if estimate.passes >= 9.5 else f"{estimate.passes:.1f}"
    say(
        f"to expect: {steps}, {passes} passes over the data, {duration(estimate.seconds)} in "
        f"all ({duration(estimate.step_seconds)} a step), {show_bytes(estimate.memory)} of memory"
    )
    if estimate.budget_minutes is not None:
        if _seconds_to_train(estimate, estimate.budget_minutes) < 60.0 * estimate.budget_minutes / 4:
            warn(
                f"preparation and the test score take most of training.budget_minutes={estimate.budget_minutes:g}; "
                "the data are prepared once: the next run with them has more time"
            )
        say(
            f"fitted to {estimate.budget_minutes:g} minutes: warm-up of {counted(estimate.warmup_steps, 'step')}, "
            f"validation every {counted(estimate.validate_every, 'step')}"
        )
        if estimate.steps < min(_FEW_STEPS, settings.max_steps):
            needed = estimate.preparation_seconds + _ENOUGH_STEPS * estimate.step_seconds + estimate.end_seconds
            warn(
                f"{counted(estimate.steps, 'step')} will not do to learn to translate; a budget of about "
                f"{duration(needed)} allows {_ENOUGH_STEPS}, as may a smaller model or batch"
            )
    elif estimate.seconds > 3600.0 * _LONG_HOURS:
        say(
            "to train within a time of your choice: training.budget_minutes=120, or --budget 2h for a model of its size"
        )


def compare_with_truth(context: RunContext, estimate: Estimate, seconds: float) -> None:
    """Say what a run has cost beside what was expected; every rank must call it."""
    memory = sum(context.ranks.sum_host([float(peak_memory(context.placement.device))]))
    say(
        f"took {duration(seconds)} (estimated {duration(estimate.seconds)}), "
        f"peak {show_bytes(memory)} (estimated {show_bytes(estimate.memory)})"
    )


@torch.inference_mode()
def _seconds_per_sentence(context: RunContext, trainer: Trainer, prepared: Prepared, beam_size: int) -> float:
    """Seconds of this run's ranks for one sentence of the held-out text.

    A model without training rarely ends a sentence, so outputs may be as long as their sources.
    """
    config, ranks, model = context.config, context.ranks, trainer.model
    texts = [source for source, _ in (prepared.valid_pairs or prepared.test_pairs)][: _SAMPLE * ranks.size]
    mine = texts[ranks.rank :: ranks.size]
    if not mine:
        return 0.0
    update = {"beam_size": beam_size, "max_length_ratio": 1.0, "max_length_offset": 1, "min_length_ratio": 0.0}
    model.eval()
    translator = Translator(
        NativeEngine(model, trainer.precision.device), prepared.tokenizers, config.decoding.model_copy(update=update)
    )
    translator.translate(mine[:2])  # caches and kernels
    for some in (mine[:_FEW], mine):
        begin = time.monotonic()
        translator.translate(some)
        seconds = time.monotonic() - begin
        if seconds > _ENOUGH_SECONDS:
            break
    return seconds / len(some) / ranks.size


def machine_speed(config: Config, choices: Choices) -> float:
    """FLOP/s of training steps like those of `choices` on this machine: all ranks at once, on random tokens.

    Raises:
        ConfigError: there is no such device.
    """
    placement = place(config)
    with tempfile.TemporaryDirectory(prefix="seq2seq-speed-") as folder:
        work = partial(_time_machine, Path(folder), choices)
        # Processes of their own: ranks cannot be forked once torch has computed here.
        launch(work, config, placement)
        return sum(float(file.read_text()) for file in Path(folder).iterdir())


def _time_machine(folder: Path, choices: Choices, config: Config, placement: Placement) -> None:
    """Time training steps as one rank, and write FLOP/s to a file."""
    torch.set_num_threads(placement.threads)
    keep_freed_memory()
    limit_generated_code()
    precision = Precision(choose_precision(config.training.precision, placement.device), placement.device)
    model = build_model(config.model, choices.vocabulary, choices.vocabulary).to(placement.device)
    losses = LossModule(model, label_smoothing=config.training.label_smoothing)
    optimizer = build_optimizer(model, config.training.optimizer)
    length = max(2, round(choices.tokens))
    rows = max(1, choices.batch_size // length // placement.ranks)
    text = torch.randint(4, choices.vocabulary, (rows, length)).tolist()
    batch: Batch = collate(text, text)
    model.train()
    tokens, begin = 0, time.monotonic()
    for number in range(50):
        update = train_step(losses, [batch], optimizer, precision, max_gradient_norm=1.0)
        float(update.loss)  # waits for the device
        tokens += batch.tokens
        if number == 0:  # caches and kernels
            tokens, begin = 0, time.monotonic()
        elif time.monotonic() - begin > 2.0 and number >= 2:
            break
    speed = choices.flops * tokens / (time.monotonic() - begin)
    file = tempfile.NamedTemporaryFile("w", dir=folder, delete=False)  # noqa: SIM115
    with file:
        file.write(str(speed))
    sys.stderr.flush()
