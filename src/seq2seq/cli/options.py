"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

Run = Annotated[Path, typer.Argument(help="Run directory, e.g. runs/demo.", show_default=False)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0 takes every core.")]
Checkpoint = Annotated[
    str | None, typer.Option("--checkpoint", help="Name under checkpoints/, e.g. last. [default: the best]")
]
BeamSize = Annotated[
    int | None,
    typer.Option("--beam-size", "-b", min=1, help="Hypotheses kept; 1 is greedy. [default: the run's]"),
]
LengthPenalty = Annotated[
    float | None,
    typer.Option("--length-penalty", min=0, help="a in score = log P / length^a. [default: the run's]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notices.")]


def split_arguments(arguments: list[str] | None) -> tuple[list[str], list[str]]:
    """Config files and `key=value` settings, as they are mixed on the command line."""
    arguments = arguments or []
    return [text for text in arguments if "=" not in text], [text for text in arguments if "=" in text]
