"""The command runner, the corpus and the cache of the command-line tests serve the fault tests, too."""

from tests.cli.conftest import _own_cache, corpus, run, seq2seq

__all__ = ["_own_cache", "corpus", "run", "seq2seq"]
