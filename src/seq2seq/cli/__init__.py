"""The command line. A command parses, calls one function, prints; torch is imported inside commands."""

from seq2seq.cli.main import main

__all__ = ["main"]
