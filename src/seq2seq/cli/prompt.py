"""The prompt of `seq2seq translate RUN` on a terminal: lines are translated, and lines with a colon are commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from seq2seq.cli.translate_options import OutputFormat
from seq2seq.console import write_stderr
from seq2seq.errors import UserError
from seq2seq.sanitize import presentable

if TYPE_CHECKING:
    from seq2seq.decoding.translation import Translation
    from seq2seq.decoding.translator import TranslationOptions
    from seq2seq.runs.loaded_run import LoadedRun

_COMMANDS = {
    ":n-best N": "N translations of each line, with scores",
    ":scores": "scores on or off",
    ":attention": "a picture of the attention on or off",
    ":help": "these commands",
    ":quit": "the end, as Ctrl-D",
}


def is_conversation() -> bool:
    """Whether a person types at a terminal and reads the translations there."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


class Prompt:
    """A conversation with a run.

    Args:
        loaded: the run.
        options: search and the rest, which `:n-best` changes.
        output_format: what is shown of a translation.
        target_tag: as `--target-tag`.
        read: reads a line after a prompt; raises `EOFError` at the end.
    """

    def __init__(
        self,
        loaded: LoadedRun,
        options: TranslationOptions,
        output_format: OutputFormat,
        target_tag: str | None,
        read: Callable[[str], str] = input,
    ) -> None:
        self.loaded, self.options, self.format, self.target_tag = loaded, options, output_format, target_tag
        self._read, self._attention = read, False
        self._first_options = options

    def run(self) -> None:
        """Translate lines and obey commands until the end of the input or `:quit`."""
        _use_readline()
        data = self.loaded.config.data
        write_stderr(f"{data.source_language} to {data.target_language}; :help lists the commands, Ctrl-D ends")
        while True:
            try:
                line = self._read("> ")
            except EOFError:
                typer.echo()  # the shell's prompt begins a new line
                return
            except UnicodeDecodeError:
                write_stderr("that line is not UTF-8")
                continue
            if line.strip() in (":quit", ":q"):
                return
            try:
                shown = self._obey(line.strip()) if line.startswith(":") else self._translate(line)
            except UserError as error:
                shown = f"error: {error}"
            if shown:
                typer.echo(presentable(shown))

    def _obey(self, line: str) -> str:
        """Obey a command, and return what it says."""
        command, _, value = line.partition(" ")
        match command:
            case ":n-best" if value.strip().isdecimal() and 1 <= int(value) <= 100:
                number = int(value)
                self.options = self._first_options.with_n_best(number)
                self.format = self.format._replace(n_best=number, scores=number > 1)
                return "one translation of each line" if number == 1 else f"{number} translations of each line"
            case ":n-best":
                return "a number from 1 to 100 is missing, as in :n-best 3"
            case ":scores":
                self.format = self.format._replace(scores=not self.format.scores)
                return f"scores: {_on(self.format.scores)}"
            case ":attention":
                self._attention = not self._attention
                return f"attention: {_on(self._attention)}"
            case ":help":
                return "\n".join(f"  {name:<11} {meaning}" for name, meaning in _COMMANDS.items())
            case _:
                return f"there is no command {command}; :help lists them, and a space before it makes it text"

    def _translate(self, line: str) -> str:
        """The translations of a line, one below the other, and the attention of the best."""
        if not line.strip():
            return ""
        lines = self.loaded.target_tags.add([line], self.target_tag, "--target-tag")
        [found] = self.loaded.translator.stream(lines, self.options)
        aligner = self.loaded.aligner() if self.format.alignments else None
        shown = self.format._replace(n_best=len(found)).text(0, [found], aligner).rstrip("\n")
        return f"{shown}\n{self._picture(found[0])}" if self._attention and found[0].pieces else shown

    def _picture(self, best: Translation) -> str:
        from seq2seq.alignment.matrix import draw_attention
        from seq2seq.alignment.word_alignment import AlignmentOptions

        [attention] = self.loaded.aligner().attention([(best.source.text, best.text)])
        return draw_attention(attention.matrix(AlignmentOptions(), words=True))


def _on(value: bool) -> str:
    return "on" if value else "off"


def _use_readline() -> None:
    """Edit lines, and find earlier ones with the arrow keys, where Python has readline; a tab completes commands."""
    with suppress(ImportError):
        import readline

        names = [name.partition(" ")[0] for name in _COMMANDS]

        def complete(text: str, state: int) -> str | None:
            return ([name for name in names if text and name.startswith(text)] + [None])[state]

        readline.set_completer_delims(" \t\n")
        readline.set_completer(complete)
        readline.parse_and_bind("tab: complete")
