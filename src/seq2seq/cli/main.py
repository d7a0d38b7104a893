"""Entry point of the command line: its commands, and the conversion of errors to messages and exit codes."""

from __future__ import annotations

import copy
import errno
import os
import stat
import sys
import tempfile
import time
import traceback
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import NoReturn

import typer

from seq2seq.atomic_files import disk_error
from seq2seq.cli import (
    align,
    backtranslate,
    check,
    compare,
    config,
    data,
    demo,
    distill,
    doctor,
    evaluate,
    export,
    help,
    init,
    report,
    score,
    serve,
    tokenizer,
    train,
    translate,
    tune,
)
from seq2seq.cli.options import HELP
from seq2seq.cli.usage_errors import CommandLineError, name_not_utf8, usage_error, use_plain_commands
from seq2seq.console import create_lock, exit_now, silence_if_stderr_is_gone, warn, write_stderr
from seq2seq.errors import ResourceError, UsageError, UserError
from seq2seq.sanitize import redact
from seq2seq.signals import Interrupted, interruptible
from seq2seq.system import OUT_OF_MEMORY_HINT, is_first_rank, what_ran_out

app = typer.Typer(
    name="seq2seq",
    help="Train a translation model on your own parallel text, and use it.\n\n\b\n"
    "  seq2seq demo                                 the whole thing in some minutes\n"
    "  seq2seq train --pairs corpus.tsv -o runs/x   train on your own text\n"
    "  seq2seq translate runs/x in.en -o out.de     translate a file",
    context_settings=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("demo", short_help="The whole thing on a built-in task, in some minutes.")(demo.demo)
app.command("init", short_help="Write a commented config for your own files.")(init.init)
app.command("train")(train.train_command)
app.command("tune")(tune.tune)
app.command("translate", short_help="Translate text: a line of output for each line of input.")(translate.translate)
app.command("evaluate", short_help="BLEU, chrF and TER of a run, or of any translations.")(evaluate.evaluate)
app.command("score", short_help="Log-probability of given translations.")(score.score)
app.command("check", short_help="What a run does to numbers, URLs, capitals and the like.")(check.check)
app.command("align", short_help="Word alignments, and pictures of the attention.")(align.align)
app.command("backtranslate")(backtranslate.backtranslate)
app.command("distill")(distill.distill)
app.command("export", short_help="Write the model for CTranslate2 or Hugging Face.")(export.export)
app.add_typer(data.app, name="data")
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(config.app, name="config")
app.command("compare", short_help="Compare runs: settings, curves, scores, significance.")(compare.compare)
app.command("report", short_help="Write the report of a run as one HTML page.")(report.report)
app.command("serve", short_help="A translation server: a page, and LibreTranslate's API.")(serve.serve)
app.command("runs", short_help="List the runs in a folder.")(compare.list_runs)
app.command("doctor", short_help="Versions, devices and disks, and every file of a run.")(doctor.doctor)
app.add_typer(help.app, name="help")
use_plain_commands(app)


_RECORDS_NAMES = ("init", "train", "tune", "demo", "tokenizer", "data", "export", "config", "backtranslate", "distill")
"""Commands that write the names of files and runs into configs and records, which are UTF-8."""

_COMPLETION = "_SEQ2SEQ_COMPLETE"
"""Variable that the scripts of `--install-completion` set."""


def _version(wanted: bool) -> None:
    if wanted:
        from seq2seq import __version__

        typer.echo(f"seq2seq {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks."),
) -> None:
    pass


@cache
def _with_command(name: str) -> typer.Typer:
    """The app with this command alone, or the whole app for any other name.

    typer parses the signature of every command of an app, which takes longer than the rest of the command line.
    """
    found = [command for command in app.registered_commands if command.name == name]
    if not found:
        return app
    small = copy.copy(app)
    small.registered_commands, small.registered_groups = found, []
    return small


def main() -> NoReturn:
    """Run the command line; docs/errors.md lists the exit codes."""
    try:
        code = _run()
        if os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ:
            exit_now(code)  # a rank that torchrun started
        sys.exit(code)
    except KeyboardInterrupt:  # a second Ctrl-C, while the first one is answered
        exit_now(130)


def _run() -> int:
    # Text is UTF-8 and lines end with LF, whatever the system's locale says.
    # A closed stream is None; output to it is discarded.
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  it stays open to the end
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if arguments and not {"-h", "--help", "--version"} & set(arguments):
        create_lock()
    try:
        # Not app(...): its own handling of a closed pipe would end with exit code 1.
        command = typer.main.get_command(_with_command(arguments[0] if arguments else ""))
        if _COMPLETION in os.environ:  # the shell asks for completions
            command.main(arguments, prog_name="seq2seq")
        # Ranks of torchrun end without a message until training begins: rank 0 reports.
        alone = nullcontext() if "RANK" in os.environ else interruptible()
        if arguments and arguments[0] in _RECORDS_NAMES and (odd := name_not_utf8(arguments)):
            raise odd
        with alone, command.make_context("seq2seq", arguments) as context:
            command.invoke(context)
        sys.stdout.flush()
        code = 0
    except typer.Exit as end:
        code = end.exit_code
        if code == 1 and sys.argv[1:2] in (["--install-completion"], ["--show-completion"]):
            code = _report(_other_shell(), debug)
    except CommandLineError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]
            code = 2
        else:
            code = _report(usage_error(error, arguments), debug)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except Interrupted as end:
        silence_if_stderr_is_gone()  # the signal may be the end of the terminal
        if is_first_rank():
            write_stderr(str(end))
        code = end.exit_code
    except UserError as error:
        code = _report(error, debug)
    except OSError as error:
        installs = sys.argv[1:2] == ["--install-completion"] and error.filename is not None
        code = _report(_not_installed(error), debug) if installs else _failed_output(error, debug)
    except UnicodeEncodeError as error:
        code = _report(odd, debug) if (odd := name_not_utf8(arguments)) else _unexpected(error, debug)
    except Exception as error:
        code = _unexpected(error, debug)
    return code


def _other_shell() -> UsageError:
    return UsageError(
        "completion is for bash, zsh, fish and PowerShell, and this command was started from none of them",
        hint="bash -c 'seq2seq --show-completion; true'",
        code="usage.choice",
    )


def _not_installed(error: OSError) -> UsageError:
    return UsageError(
        f"cannot install the completion: {error.filename}: {error.strerror}",
        hint="seq2seq --show-completion prints the script, to be put where your shell reads it",
        code="usage.unwritable",
    )


def _failed_output(error: OSError, debug: bool) -> int:
    """A closed pipe or terminal ends the command quietly; a full or broken disk is an error."""
    if isinstance(error, BrokenPipeError) or _terminal_is_gone(error):
        _silence_stdout()
        return 0
    match error.errno:
        case errno.ENOSPC if error.filename is not None:
            return _report(disk_error(error, Path(os.fsdecode(error.filename)), 0), debug)
        case errno.ENOSPC | errno.EFBIG:
            what, hint, code = "cannot write the output: the disk is full", "free some space", "disk.full"
            if error.errno == errno.EFBIG:
                what, hint = "cannot write the output: a file may not grow so large", "ulimit -f unlimited"
        case errno.EACCES | errno.EPERM if error.filename is not None:
            what, hint = f"no permission: {error.filename}", "see its owner and mode: ls -ld, chmod"
            return _report(UsageError(what, hint=hint, code="usage.permission"), debug)
        case errno.EIO if error.filename is None:
            what, hint, code = "the disk does not read or write", "check the disk, or write elsewhere", "disk.error"
        case _:
            return _unexpected(error, debug)
    _silence_stdout()
    return _report(ResourceError(what, hint=hint, code=code), debug)


def _terminal_is_gone(error: OSError) -> bool:
    """Whether stdout is a closed terminal; for a file, EIO is a disk error."""
    if error.errno != errno.EIO or error.filename is not None:
        return False
    try:
        stdout = sys.stdout.fileno()
        if not stat.S_ISCHR(os.fstat(stdout).st_mode):
            return False
        os.write(stdout, b"")
    except OSError as found:
        return found.errno == errno.EIO
    return False


def _silence_stdout() -> None:
    """Discard further output, and what is left in the buffer at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: UserError, debug: bool) -> int:
    if debug:
        write_stderr(traceback.format_exc())
    # Only one rank of torchrun reports; before the ranks have connected, the first one of each machine.
    if not getattr(error, "reported", os.environ.get("LOCAL_RANK", "0") != "0"):
        write_stderr(f"error: {error.report()}")
    return error.exit_code


def _unexpected(error: Exception, debug: bool) -> int:
    if what := what_ran_out(error):
        return _report(ResourceError(what, hint=OUT_OF_MEMORY_HINT, code="memory.host"), debug)
    if "No usable temporary directory" in str(error):  # torch wants one when it is imported
        hint = "free some space, or set TMPDIR to another folder"
        return _report(ResourceError("no temporary file can be written", hint=hint, code="disk.full"), debug)
    if debug:
        write_stderr(traceback.format_exc())
        return 1
    log = "the traceback that --debug shows"
    try:
        # A new file of this user alone: a predictable name in /tmp could be somebody else's link.
        prefix = f"seq2seq-crash-{time.strftime('%Y%m%d-%H%M%S')}-"
        descriptor, log = tempfile.mkstemp(prefix=prefix, suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(redact(traceback.format_exc()))
    except OSError:
        warn("the traceback could not be written; --debug shows it")
    kind = type(error).__name__
    hint = f"this is a bug in seq2seq; report it with what `seq2seq doctor` prints; its details are in {log}"
    write_stderr(f"error: {kind}: {error}  [internal.bug]\n  hint: {hint}")
    return 1
