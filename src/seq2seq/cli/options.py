"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from seq2seq.errors import ConfigError, UsageError

HELP = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
    # typer validates missing flags of a group (None) with pydantic, whose import would slow down every --help below.
    "default_map": {"help": False, "install_completion": False, "show_completion": False},
}
_MOST_MINUTES = 10_000_000
"""Largest value of `training.budget_minutes`."""


def complete_runs(incomplete: str) -> list[str]:
    """Shell completion: run directories whose paths begin with `incomplete`."""
    return _complete(incomplete, lambda path: (path / "config.yaml").is_file())


def complete_configs(incomplete: str) -> list[str]:
    """Shell completion: YAML files whose paths begin with `incomplete`."""
    return _complete(incomplete, lambda path: path.suffix in (".yaml", ".yml") and path.is_file())


def _complete(incomplete: str, fits: Callable[[Path], bool]) -> list[str]:
    """Shell completion: paths that fit and begin with `incomplete`.

    A single matching folder is searched in turn. Among several folders the shell completes itself: the result is [].
    """
    folder, _, name = incomplete.rpartition("/")
    try:
        entries = sorted(Path(folder or ("/" if incomplete.startswith("/") else ".")).iterdir())
    except OSError:
        return []
    begun = [path for path in entries if path.name.startswith(name) and (name or not path.name.startswith("."))]
    found, folders = (
        [path for path in begun if fits(path)],
        [path for path in begun if path.is_dir() and not fits(path)],
    )
    if not folders:
        return [str(path) for path in found]
    return _complete(f"{folders[0]}/", fits) if len(folders) == 1 and not found else []


def parse_minutes(text: str) -> float:
    """Minutes of a time such as 90s, 30m, 2h or 1.5 (minutes). Raises `UsageError` for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|sec|m|min|h|d)?", text.strip().lower())
    minutes = float(match[1]) * {"s": 1 / 60, "h": 60, "d": 1440}.get((match[2] or "m")[0], 1) if match else 0.0
    if not 0 < minutes <= _MOST_MINUTES:
        what = f"--budget {text} is {'longer than 19 years' if minutes > _MOST_MINUTES else 'not a time'}"
        raise UsageError(what, hint="--budget 30m, or 90s, 2h, 1d", code="usage.value")
    return round(minutes, 4)


def parse_kinds(text: str) -> tuple[str, ...]:
    """The kinds of text of `--keep`. Raises `UsageError` for an unknown one."""
    from seq2seq.decoding.kept_text import check_kinds

    return check_kinds(text, "--keep")


Run = Annotated[
    Path, typer.Argument(help="Run directory, e.g. runs/demo.", show_default=False, autocompletion=complete_runs)
]
ConfigArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG...] [KEY=VALUE...]",
        help="YAML files, then settings.",
        show_default=False,
        autocompletion=complete_configs,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Threads = Annotated[int, typer.Option("--threads", min=0, max=1024, help="CPU threads; 0 uses every core.")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Single-threaded processes that translate in parallel on a CPU; 0 uses one per core for long texts. "
        "[default: the run's]",
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16", "int8"] | None,
    typer.Option(
        "--precision",
        help="Number format to compute in; int8, on a CPU, is faster and nearly as good. [default: the run's, auto]",
    ),
]

Engine = Annotated[
    Literal["native", "ctranslate2", "auto"] | None,
    typer.Option(
        "--engine",
        help="ctranslate2 needs an export in the run; auto takes what is faster here for a long file. "
        "[default: native; ctranslate2 for an export]",
    ),
]
Shortlist = Annotated[
    bool,
    typer.Option(
        "--shortlist",
        help="Search among the likely translations of each sentence's tokens alone: faster for long texts on a CPU, "
        "most of all with a large vocabulary. Learned once from the training text.",
    ),
]
Checkpoint = Annotated[
    str | None, typer.Option("--checkpoint", help="Name under checkpoints/, e.g. last. [default: the best]")
]
BeamSize = Annotated[
    int | None,
    typer.Option("--beam-size", "-b", min=1, max=1000, help="Hypotheses kept; 1 is greedy. [default: the run's]"),
]
Ensemble = Annotated[
    list[Path] | None,
    typer.Option("--ensemble", help="Another run with the same vocabulary; the mean probability decides. Repeatable."),
]
Rerank = Annotated[
    Path | None,
    typer.Option(
        "--rerank",
        help="A run of the opposite direction, which reranks the beam's hypotheses (noisy channel).",
        metavar="RUN",
        show_default=False,
    ),
]
RerankWeight = Annotated[
    float | None,
    typer.Option(
        "--rerank-weight",
        min=0,
        max=1000,
        help="Weight of log P(source | translation) per source token. [default: 0.2]",
    ),
]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        "--length-penalty",
        min=0,
        help="a in score = log P(target | source) / length^a, where length counts the target's tokens and its end "
        "mark; 0 prefers short output. [default: the run's]",
    ),
]
MinLengthRatio = Annotated[
    float | None,
    typer.Option(
        "--min-length-ratio", min=0, help="Shortest output in tokens: int(ratio * source tokens). [default: the run's]"
    ),
]
MaxLengthRatio = Annotated[
    float | None,
    typer.Option(
        "--max-length-ratio",
        min=0,
        help="Longest output in tokens: int(ratio * source tokens) + decoding.max_length_offset. [default: the run's]",
    ),
]
MaxLength = Annotated[
    int | None, typer.Option("--max-length", min=1, help="Longest output in tokens, however long the source is.")
]
TargetTag = Annotated[
    str | None,
    typer.Option("--target-tag", help="Target language of a run that was trained with target tags: de."),
]
Keep = Annotated[
    Sequence[str] | None,
    typer.Option(
        "--keep",
        metavar="KINDS",
        parser=parse_kinds,
        help="Text that stays as it is: urls,emails,placeholders,tags,numbers,lines,unseen or none."
        " [default: the run's]",
    ),
]
SourceFile = Annotated[
    str | None,
    typer.Option("--source", "-s", help="Source side, one sentence a line; with --pairs its column or language."),
]
TargetFile = Annotated[str | None, typer.Option("--target", "-t", help="Target side, its translations.")]
PairsFile = Annotated[
    str | None,
    typer.Option("--pairs", "-p", help="Both sides in one file: TSV, CSV, JSON, Parquet, TMX, XLIFF."),
]
ValidFiles = Annotated[
    list[str] | None,
    typer.Option("--valid", help="Validation set, a file like --pairs; for two text files give it twice."),
]
TestFiles = Annotated[list[str] | None, typer.Option("--test", help="Test set, as --valid.")]
InitFrom = Annotated[
    str | None,
    typer.Option(
        "--init-from",
        metavar="RUN",
        help="Fine-tune this run: its weights and vocabulary, and a recipe for the size.",
        autocompletion=complete_runs,
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        parser=parse_minutes,
        help="Time for everything, such as 90s, 30m or 2h (a bare number: minutes); it shapes model and schedule.",
    ),
]
OutputFile = Annotated[Path | None, typer.Option("--output", "-o", help="Where to write. [default: stdout]")]
Errors = Annotated[
    Literal["strict", "replace"], typer.Option("--errors", help="Refuse or replace bytes that are not UTF-8.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HtmlFile = Annotated[
    Path | None, typer.Option("--html", help="Also write a page, which needs no network; - is stdout, for it alone.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")]


_CORPUS = re.compile(r"\.(tsv|csv|jsonl|ndjson|parquet|tmx|xlf|xliff|\w*xliff)(\.(gz|xz|bz2|zst))?$", re.IGNORECASE)


def split_arguments(arguments: list[str] | None) -> tuple[list[str], list[str]]:
    """Separate config files from `key=value` settings.

    Raises `ConfigError` for a URL, or a corpus in the place of a config.
    """
    arguments = arguments or []
    if address := next((text for text in arguments if re.match(r"\w+://", text)), None):
        raise ConfigError(
            f"{address} is a URL, but a config must be a local file", hint="download it first", code="config.no-file"
        )
    files = [text for text in arguments if "=" not in text]
    if corpus := next((name for name in files if _CORPUS.search(name)), None):
        what = f"{corpus} is a corpus by its name, not a config"
        raise ConfigError(what, hint=f"seq2seq train --pairs {corpus}", code="config.no-file")
    return files, [text for text in arguments if "=" in text]


def machine_overrides(device: str, threads: int, minutes: float | None = None) -> list[str]:
    """The settings of --device, --threads and --budget, where they are given."""
    given = {"device": device, "threads": threads, "training.budget_minutes": minutes}
    return [f"{key}={value}" for key, value in given.items() if value]


def check_own_folder(folder: Path, what: str, hint: str) -> None:
    """Raise `UsageError` if a folder to write is the current one.

    An empty path counts as the current folder, too: `-o "$UNSET"` must not write into it.
    """
    if folder.resolve() == Path.cwd():
        raise UsageError(what, where="-o", hint=hint, code="usage.value")


def exclude(option: str, others: Sequence[tuple[str, bool]], why: str) -> None:
    """Raise `UsageError` if another option excludes `option`."""
    if given := [name for name, wanted in others if wanted]:
        raise UsageError(
            f"{option} and {given[0]} exclude each other: {why}",
            hint=f"leave out {option} or {given[0]}",
            code="usage.conflict",
        )


def exclude_json(html: Path | None, as_json: bool) -> None:
    """Raise `UsageError` if both a page and JSON are to be printed."""
    if str(html) == "-":
        exclude("--html -", [("--json", as_json)], "each is all of the standard output")


def require(option: str, other: str, given: bool) -> None:
    """Raise `UsageError` if the option that `option` needs is missing."""
    if not given:
        raise UsageError(f"{option} needs {other}", hint=f"add {other}", code="usage.needs")
