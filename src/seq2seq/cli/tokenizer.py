"""`seq2seq tokenizer`"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from seq2seq.cli.options import HELP, Quiet
from seq2seq.config import load_config
from seq2seq.console import say, set_quiet
from seq2seq.errors import DataError, UsageError

app = typer.Typer(
    help="The subword model on its own.", context_settings=HELP, no_args_is_help=True, rich_markup_mode=None
)

Folder = Annotated[Path, typer.Argument(help="Tokenizer folder, or a run directory.", show_default=False)]
Side = Annotated[str, typer.Option("--side", help="source or target.")]
_WINDOW = 4096


@app.command()
def train(
    source: Annotated[Path, typer.Option("--source", "-s", help="Text of the source side.", show_default=False)],
    target: Annotated[Path, typer.Option("--target", "-t", help="Text of the target side.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", show_default=False)],
    settings: Annotated[list[str] | None, typer.Argument(help="Settings, e.g. vocabulary_size=4000 kind=bpe.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train a tokenizer on two text files.

    \b
      seq2seq tokenizer train -s corpus.en -t corpus.de -o tokenizer vocabulary_size=8000 kind=bpe
    """
    set_quiet(quiet)
    config = load_config([], [f"tokenizer.{setting}" for setting in settings or []])
    from seq2seq.config.sources import TextSource
    from seq2seq.data.corpus import read_pairs
    from seq2seq.data.tokenizer import train_tokenizers

    files = TextSource(source=str(source), target=str(target))
    pair = train_tokenizers(config.tokenizer, lambda: read_pairs(files, "strict"), config.seed)
    output.mkdir(parents=True, exist_ok=True)
    pair.save(output)
    say(f"wrote {output}: {pair.source.size:,} source and {pair.target.size:,} target entries")


@app.command()
def encode(
    folder: Folder,
    side: Side = "source",
    ids: Annotated[bool, typer.Option("--ids", help="Numbers instead of pieces.")] = False,
) -> None:
    """Turn lines of stdin into tokens.

    \b
      echo "The old man drinks tea." | seq2seq tokenizer encode runs/demo
    """
    tokenizer = _load(folder, side)
    for window in _windows(_stdin()):
        for tokens in tokenizer.encode(window):
            typer.echo(" ".join(map(str, tokens) if ids else tokenizer.pieces(tokens)))


@app.command()
def decode(folder: Folder, side: Side = "target") -> None:
    """Turn lines of token numbers (as `encode --ids` prints them) back into text.

    \b
      echo "the old man" | seq2seq tokenizer encode runs/demo --ids | seq2seq tokenizer decode runs/demo --side source
    """
    tokenizer = _load(folder, side)
    for number, line in enumerate(_stdin(), start=1):
        try:
            ids = [int(word) for word in line.split()]
        except ValueError:
            raise DataError(
                f"not token numbers: {line[:40]!r}", where=f"stdin:{number}", hint="encode --ids", code="data.tokens"
            ) from None
        if any(not 0 <= token < tokenizer.size for token in ids):
            raise DataError(
                f"token numbers go from 0 to {tokenizer.size - 1}", where=f"stdin:{number}", code="data.tokens"
            )
        typer.echo(tokenizer.decode([ids])[0])


def _load(folder: Path, side: str):  # type: ignore[no-untyped-def]  # Tokenizer lives behind slow imports
    if side not in ("source", "target"):
        raise UsageError(f"--side {side} is neither source nor target", hint="--side source", code="usage.choice")
    from seq2seq.data.tokenizer import TokenizerPair

    inner = folder / "tokenizer"
    pair = TokenizerPair.load(inner if inner.is_dir() else folder)
    return pair.source if side == "source" else pair.target


def _stdin() -> Iterable[str]:
    from seq2seq.data.lines import decode_lines

    return decode_lines(sys.stdin.buffer, "stdin", "strict")


def _windows(lines: Iterable[str]) -> Iterable[list[str]]:
    window: list[str] = []
    for line in lines:
        window.append(line)
        if len(window) == _WINDOW:
            yield window
            window = []
    if window:
        yield window
