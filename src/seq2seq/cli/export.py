"""`seq2seq export`"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from seq2seq.cli.options import Checkpoint, Json, Quiet, Run
from seq2seq.console import format_table, say, set_quiet
from seq2seq.errors import UsageError

if TYPE_CHECKING:
    from seq2seq.export.folder import Trained
    from seq2seq.export.parity import Parity

Format = Literal["ctranslate2", "huggingface"]
Quantization = Literal[
    "float32", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16"
]


def export(
    run: Run,
    format: Annotated[Format, typer.Option("--format", "-f", help="The library it is for.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder, new or an earlier export's. [default: RUN/export/FORMAT]"),
    ] = None,
    quantization: Annotated[
        Quantization,
        typer.Option(
            "--quantization",
            metavar="TYPE",
            help="ctranslate2: float32, int8, int8_float32, int8_float16, int8_bfloat16, int16, float16 or bfloat16.",
        ),
    ] = "float32",
    sentences: Annotated[
        int, typer.Option("--sentences", min=1, help="Lines of the run's test text that the export is checked with.")
    ] = 200,
    checkpoint: Checkpoint = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the model in another library's format, with the tokenizer inside, and check that it translates the same.

    The greedy outputs of the export and of the run are compared: in full precision they must be equal (but where two
    tokens are equally likely), else nothing is written. Table: equal outputs, BLEU, and its difference.

    \b
      seq2seq export runs/mine --format ctranslate2
      seq2seq export runs/mine --format ctranslate2 --quantization int8
      seq2seq translate runs/mine/export/ctranslate2-int8 input.en
      seq2seq export runs/mine --format huggingface -o my-model
    """
    set_quiet(quiet)
    if format != "ctranslate2" and quantization != "float32":
        raise UsageError("--quantization belongs to --format ctranslate2", hint="leave it out", code="usage.needs")
    trained = _trained(run, checkpoint)
    from seq2seq.export.folder import default_folder

    target = output or default_folder(run, format, quantization)
    parity = _export(trained, target, format, quantization, sentences)
    if as_json:
        typer.echo(json.dumps({"folder": str(target), **parity.to_json()}, ensure_ascii=False))
    elif quiet:
        typer.echo(str(target))
    else:
        typer.echo(format_table(["engine", "equal", "BLEU", "difference"], parity.rows()))
        signature = f"; {parity.signature}" if parity.signature else ""
        say(f"{parity.sentences} sentences ({parity.source}), greedy{signature}")
        say(_next(target, format))


def _trained(run: Path, checkpoint: str | None) -> Trained:
    from seq2seq.export.folder import Trained, is_export
    from seq2seq.runs.load import load

    if is_export(run):
        raise UsageError(f"{run} is an export already", hint="give the run directory", code="export.exported")
    loaded = load(run, device="cpu", checkpoint=checkpoint)
    splits = {split: loaded.directory.load_pairs(split) for split in ("test", "valid")}
    split = next((name for name, pairs in splits.items() if pairs), "")
    return Trained(
        model=loaded.translator.model,
        tokenizers=loaded.translator.tokenizers,
        config=loaded.config,
        run=run,
        checkpoint=loaded.checkpoint,
        weights=loaded.weights[0],
        pairs=splits.get(split, []),
        split=split,
    )


def _export(trained: Trained, target: Path, format: Format, quantization: Quantization, sentences: int) -> Parity:
    if format == "ctranslate2":
        from seq2seq.export.ctranslate2 import export_ctranslate2

        return export_ctranslate2(trained, target, quantization=quantization, sentences=sentences)
    from seq2seq.export.huggingface import export_huggingface

    return export_huggingface(trained, target, sentences=sentences)


def _next(target: Path, format: Format) -> str:
    if format == "ctranslate2":
        return f"next: seq2seq translate {shlex.quote(str(target))} FILE"
    return f"next: AutoModelForSeq2SeqLM.from_pretrained({str(target)!r}), as {target / 'README.md'} shows"
