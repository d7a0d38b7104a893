"""`seq2seq tokenizer`"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from seq2seq.cli.options import HELP, Quiet
from seq2seq.console import say, set_quiet
from seq2seq.errors import CheckpointError, DataError, UsageError, closest

if TYPE_CHECKING:
    from seq2seq.tokenizers.base import Tokenizer

app = typer.Typer(
    help="The subword model on its own.", context_settings=HELP, no_args_is_help=True, rich_markup_mode=None
)

Folder = Annotated[Path, typer.Argument(help="Tokenizer folder, or a run directory.", show_default=False)]
Side = Annotated[Literal["source", "target"], typer.Option("--side", help="Side whose tokenizer is used.")]
Ids = Annotated[bool, typer.Option("--ids", help="Numbers of tokens instead of pieces.")]
_WINDOW = 4096


@app.command()
def train(
    source: Annotated[Path, typer.Option("--source", "-s", help="Text of the source side.", show_default=False)],
    target: Annotated[Path, typer.Option("--target", "-t", help="Text of the target side.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", show_default=False)],
    settings: Annotated[list[str] | None, typer.Argument(help="Settings, e.g. vocabulary_size=4000 kind=bpe.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing tokenizer.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a tokenizer on two text files.

    \b
      seq2seq tokenizer train -s a.en -t a.de -o tokenizer vocabulary_size=8000
    """
    set_quiet(quiet)
    from seq2seq.config import load_config

    config = load_config([], [f"tokenizer.{setting.removeprefix('tokenizer.')}" for setting in settings or []])
    _check_output(output, force=force)
    from seq2seq.atomic_files import disk_errors
    from seq2seq.config.sources import TextSource
    from seq2seq.data.corpus import read_pairs
    from seq2seq.data.pipes import spool_pipes
    from seq2seq.tokenizers.pair import train_tokenizers

    left, right = spool_pipes([str(source), str(target)])
    files = TextSource(source=left, target=right)
    if next(read_pairs(files, option=""), None) is None:
        raise DataError(f"{source} is empty", where=str(source), hint="is it the right file?", code="data.no-lines")
    pair = train_tokenizers(config.tokenizer, lambda: read_pairs(files, option=""), config.data.seed)
    with disk_errors(output):
        pair.save(output)
    say(f"wrote {output}: {pair.source.size:,} source and {pair.target.size:,} target entries")


@app.command()
def encode(
    folder: Folder,
    side: Side = "source",
    ids: Ids = False,
) -> None:
    """Turn lines of stdin into pieces, or into the numbers of tokens.

    \b
      echo "The old man drinks tea." | seq2seq tokenizer encode runs/demo
      seq2seq tokenizer encode runs/demo --ids < input.en
    """
    tokenizer = _load(folder, side)
    lines = iter(_stdin())
    while window := list(islice(lines, _WINDOW)):
        for tokens in tokenizer.encode(window):
            typer.echo(" ".join(map(str, tokens) if ids else tokenizer.pieces(tokens)))


@app.command()
def decode(folder: Folder, side: Side = "target", ids: Ids = False) -> None:
    """Turn lines of pieces, or of numbers of tokens, back into text.

    \b
      seq2seq tokenizer encode runs/demo < in.en > in.pieces
      seq2seq tokenizer decode runs/demo --side source < in.pieces
      echo "17 4 9" | seq2seq tokenizer decode runs/demo --ids
    """
    tokenizer = _load(folder, side)
    if ids:
        known = {str(token): token for token in range(tokenizer.size)}
        hint = f"tokens have the numbers 0 to {tokenizer.size - 1}"
    else:
        known = {piece: token for token, piece in enumerate(tokenizer.pieces(range(tokenizer.size)))}
        hint = "--ids reads numbers"
    for number, line in enumerate(_stdin(), start=1):
        words = line.split() if ids else [word for word in line.split(" ") if word]
        if unknown := next((word for word in words if word not in known), None):
            raise DataError(
                f"no token of this tokenizer: {unknown[:40]!r}",
                where=f"stdin:{number}",
                hint=f"{hint}; or was it made by another tokenizer, or by the other side's (--side)?",
                code="data.tokens",
            )
        typer.echo(tokenizer.decode([[known[word] for word in words]])[0])


def _check_output(folder: Path, *, force: bool) -> None:
    """Raise before the training if the tokenizer cannot be saved, or would be written over other files."""
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    if existing.exists() and not existing.is_dir():
        raise UsageError(f"{existing} is a file, not a folder", hint="choose another with -o", code="usage.unwritable")
    hint = "choose another folder with -o"
    names = {path.name for path in folder.glob("[!.]*")}
    own = {name for name in names if name.partition(".")[0] in ("tokenizer", "joint", "source", "target")}
    if "tokenizer.json" in own and (folder.absolute().parent / "checkpoints").is_dir():
        what = f"{folder} is the tokenizer of a run, whose model would understand no other"
        raise UsageError(what, hint=hint, code="usage.exists")
    if names - own and "tokenizer.json" not in own:
        raise UsageError(f"{folder} holds other files", hint=hint, code="usage.exists")
    if own and not force:
        what = "a tokenizer" if "tokenizer.json" in own else f"{min(own)}, as a tokenizer does"
        raise UsageError(f"{folder} holds {what}", hint=f"--force replaces it; or {hint}", code="usage.exists")


def _load(folder: Path, side: Literal["source", "target"]) -> Tokenizer:
    from seq2seq.data.files import require_local
    from seq2seq.runs.directory import RunDirectory
    from seq2seq.tokenizers.pair import TokenizerPair

    require_local(folder)
    RunDirectory(folder)  # refuses links and FIFOs
    inner = folder / "tokenizer"
    is_run = inner.is_dir() or (folder / "config.yaml").is_file()
    if not is_run and not (folder / "tokenizer.json").is_file():
        what = f"no tokenizer in {folder}" if folder.exists() else f"no file or folder {folder}"
        raise CheckpointError(what, hint=_suggest(folder), code="tokenizer.missing")
    pair = TokenizerPair.load(inner if is_run else folder)
    return pair.source if side == "source" else pair.target


def _suggest(folder: Path) -> str:
    """A hint for a path that is not a tokenizer."""
    if (folder.parent / "tokenizer.json").is_file():
        return f"did you mean {folder.parent}?"
    around = folder.parent.glob("*/tokenizer.json"), folder.parent.glob("*/tokenizer/tokenizer.json")
    names = [path.relative_to(folder.parent).parts[0] for paths in around for path in sorted(paths)]
    if near := closest(folder.name, names):
        return f"did you mean {folder.parent / near}?"
    there = f"; there are: {', '.join(str(folder.parent / name) for name in names[:6])}" if names else ""
    return f"name a run, or a folder that `seq2seq tokenizer train -o` has written{there}"


def _stdin() -> Iterable[str]:
    from seq2seq.data.files import decode_lines

    if sys.stdin is None:  # closed
        return ()
    return decode_lines(sys.stdin.buffer, "stdin", "strict", option="")
