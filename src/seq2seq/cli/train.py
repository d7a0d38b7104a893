"""`seq2seq train`"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seq2seq.cli.new_config import (
    Corpora,
    as_overrides,
    data_settings,
    holdout_setting,
    named_corpora,
    settings_for,
)
from seq2seq.cli.notify import Notify, notifying
from seq2seq.cli.options import (
    Budget,
    ConfigArguments,
    Device,
    InitFrom,
    Json,
    PairsFile,
    Quiet,
    SourceFile,
    TargetFile,
    TestFiles,
    Threads,
    ValidFiles,
    check_own_folder,
    exclude,
    machine_overrides,
    split_arguments,
)
from seq2seq.cli.results import print_result
from seq2seq.console import duration, format_table, say, set_quiet
from seq2seq.errors import UsageError
from seq2seq.system import garbage_collection_off

if TYPE_CHECKING:
    from seq2seq.config.settings_by_size import Choice, Kind
    from seq2seq.sealed_records import Estimate

_SIZES = ("hidden_size", "ff_size", "embedding_size", "encoder_layers", "decoder_layers")


def train_command(
    arguments: ConfigArguments = None,
    source: SourceFile = None,
    target: TargetFile = None,
    pairs: PairsFile = None,
    valid: ValidFiles = None,
    test: TestFiles = None,
    init_from: InitFrom = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run directory. [default: runs/NAME]")] = None,
    device: Device = "",
    devices: Annotated[
        int | None,
        typer.Option("--devices", min=0, help="Ranks on this machine, one GPU or CPU thread each; 0 decides itself."),
    ] = None,
    threads: Threads = 0,
    budget: Budget = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what training would cost here, and leave no run behind.")
    ] = False,
    notify: Notify = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model, then score it on the test set. The same command again resumes.

    \b
      seq2seq train configs/demo.yaml
      seq2seq train my.yaml --devices 4
      seq2seq train my.yaml model.kind=gru training.max_steps=5000 -o runs/gru
      seq2seq train --source corpus.en --target corpus.de -o runs/mine
      seq2seq train --pairs corpus.tsv --test test.tsv -o runs/mine
      seq2seq train --pairs corpus.tsv --budget 30m -o runs/mine
      seq2seq train --pairs new.tsv --init-from runs/mine -o runs/tuned
      seq2seq train my.yaml --dry-run
    """
    started = time.monotonic()
    set_quiet(quiet)
    if output is not None:
        check_own_folder(output, "a run wants a folder of its own", "-o runs/NAME")
    files, overrides = split_arguments(arguments)
    named = [option for option, given in (("--pairs", pairs), ("--source", source), ("--target", target)) if given]
    if named and files:
        raise UsageError(
            f"{named[0]} is for training without a config, and {files[0]} is one",
            hint=f"name the files in {files[0]}, or leave it out",
            code="usage.conflict",
        )
    if not named and not arguments:
        raise UsageError(
            "nothing to train on",
            hint="give a config, --pairs FILE, or --source FILE --target FILE",
            code="usage.nothing-to-do",
        )
    under_torchrun = "RANK" in os.environ
    for option, given in (("--budget", budget is not None), ("--dry-run", dry_run)):
        if given:
            exclude(option, [("torchrun", under_torchrun)], "it measures the ranks that this command starts itself")
    if output is not None:
        overrides.append(f"run_directory={json.dumps(str(output))}")
    overrides += machine_overrides(device, threads, budget)
    if devices is not None:
        overrides.append(f"devices={devices}")
    if init_from is not None:
        overrides.append(f"training.init_from={json.dumps(init_from)}")
    with garbage_collection_off():
        from seq2seq.config import load_config
        from seq2seq.reports.report import refresh_report
        from seq2seq.runs.directory import RunDirectory
        from seq2seq.runs.train import estimate, run_folder, train

    suggested: list[str] = []
    reasons: dict[str, str] = {}
    if corpora := named_corpora(source, target, pairs, valid, test):
        files, suggested, reasons = _without_config(corpora, overrides, budget, is_new=dry_run)
        if files:
            suggested, overrides = [], [*suggested, *overrides]
    if output is not None and not dry_run:
        RunDirectory(output)  # refuses a run with links or FIFOs before its config is read
    config = load_config(files, overrides, suggested)
    if dry_run:
        print_estimate(estimate(config, started=started), as_json=as_json)
        return
    with notifying(notify, run_folder(config)) as outcome:
        result = train(config, refresh=refresh_report, reasons=reasons, started=started)
        outcome.score = "".join(f"{metric.name} {metric.value:.2f}" for metric in result.metrics[:1])
    print_result(result, as_json=as_json, quiet=quiet)


def _without_config(
    corpora: Corpora, overrides: Sequence[str], minutes: float | None, *, is_new: bool
) -> tuple[list[str], list[str], dict[str, str]]:
    """Config files, suggested settings and their reasons for files without a config.

    A run that was begun has its stored config, so that neither another speed of the machine nor another table of
    choices keeps it from being resumed; corpora and devices are those of the command line.
    """
    from seq2seq.config import load_config
    from seq2seq.config.load import keys_of
    from seq2seq.runs.directory import RunDirectory
    from seq2seq.runs.run_config import load_run_config
    from seq2seq.runs.train import run_folder

    given = {setting.partition("=")[0] for setting in overrides}
    tunes = "training.init_from" in given
    settings = data_settings(corpora, suffix="-tuned" if tunes else "")
    named = as_overrides(settings)
    kind = _wanted_kind(given, overrides)
    architecture = ["model.kind=rnn"] if kind == "gru" else []  # whose keys may be given
    directory = RunDirectory(run_folder(load_config([], overrides, [*named, *architecture])))
    if not is_new and directory.environment.exists() and directory.config.exists():
        load_run_config(directory)  # a damaged config is reported as such, not as a mistake of the command line
        return [str(directory.config)], [*named, "device=auto", "devices=0", "threads=0"], {}
    if tunes:  # fine-tuning has its own recipe, applied by `train`
        chosen = {**settings, **holdout_setting(corpora)}
        return [], as_overrides(chosen), {key: choice.reason for key, choice in chosen.items() if choice.reason}
    chosen = settings_for(corpora, minutes=minutes, overrides=overrides, kind=kind)
    if "preset" in given:  # the user has chosen all that the preset sets
        given |= {key for setting in overrides if setting.startswith("preset=") for key in keys_of(setting[7:])}
        given |= {key for key in chosen if key.startswith("model.")}
    if parts := _choices(chosen, given):
        say(f"chosen: {'; '.join(parts)}. Reasons: config.yaml of the run")
    chosen = {key: choice for key, choice in chosen.items() if key not in given}
    return [], as_overrides(chosen), {key: choice.reason for key, choice in chosen.items() if choice.reason}


def _wanted_kind(given: set[str], overrides: Sequence[str]) -> Kind:
    """The architecture that the settings of a command line imply, or `auto`."""
    from seq2seq.config import load_config
    from seq2seq.config.model import RNNSettings, TransformerSettings

    if given & {"preset", "model.kind"}:
        return "gru" if load_config([], overrides).model.kind == "rnn" else "transformer"
    keys = {key.removeprefix("model.") for key in given if key.startswith("model.")}
    if keys & (TransformerSettings.model_fields.keys() - RNNSettings.model_fields.keys()):
        return "transformer"
    return "gru" if keys & (RNNSettings.model_fields.keys() - TransformerSettings.model_fields.keys()) else "auto"


def _choices(chosen: Mapping[str, Choice], given: set[str]) -> list[str]:
    """The main choices in words, without the settings that the user has given."""
    value = {key.rpartition(".")[2]: choice.value for key, choice in chosen.items()}
    is_gru = chosen["model.kind"].value == "rnn"
    layers = "a GRU" if is_gru else f"{value['encoder_layers']} + {value['decoder_layers']} layers"
    width = f"{value['hidden_size']} ({chosen['model.hidden_size'].reason})"
    model = f"{layers} of width {width}"
    dropout = f"dropout {value['dropout']:g}"
    steps = f"{value['max_steps']:,} steps at most ({chosen['training.max_steps'].reason})"
    own_model = bool(given & {f"model.{size}" for size in _SIZES})
    return [
        *([] if "tokenizer.vocabulary_size" in given else [f"vocabulary {value['vocabulary_size']:,}"]),
        *([] if own_model else [model]),
        *([] if "model.dropout" in given else [dropout]),
        *([] if "training.batch_size" in given else [f"batches of {value['batch_size']:,} tokens"]),
        *([] if "training.max_steps" in given else [steps]),
    ]


def print_estimate(found: Estimate, *, as_json: bool) -> None:
    """Print the cost of a run that was not trained."""
    from seq2seq.atomic_files import show_bytes

    if as_json:
        typer.echo(json.dumps({**found.model_dump(), "seconds": found.seconds}))
        return
    rows = [
        ("parameters", f"{found.parameters:,}"),
        ("memory", show_bytes(found.memory)),
        ("steps", f"{found.steps:,}"),
        ("passes over the data", f"{found.passes:,.1f}"),
        ("preparation", duration(found.preparation_seconds)),
        ("training", duration(found.training_seconds)),
        ("test score", duration(found.end_seconds)),
        ("time in all", duration(found.seconds)),
    ]
    typer.echo(format_table(("to expect", "about"), rows))
