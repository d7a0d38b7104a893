"""Options of how a run is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from seq2seq.cli.options import require

if TYPE_CHECKING:
    from seq2seq.config.settings import DecodingPrecision
    from seq2seq.runs.load import EngineName
    from seq2seq.runs.loaded_run import LoadedRun


class LoadOptions(NamedTuple):
    """Options of how a run is loaded, most of them those of `seq2seq.load`; None is the run's own setting."""

    device: str
    threads: int
    checkpoint: str | None = None
    precision: DecodingPrecision | None = None
    workers: int | None = None
    ensemble: Sequence[Path] = ()
    engine: EngineName | None = None
    shortlist: bool = False
    rerank: Path | None = None
    rerank_weight: float | None = None
    batch_size: int | None = None
    """Maximum number of lines decoded at once."""

    def check(self, beam_size: int | None) -> None:
        """Raise `UsageError` for a weight without `--rerank`, and for `--rerank` with a beam of 1."""
        if self.rerank_weight is not None:
            require("--rerank-weight", "--rerank RUN", self.rerank is not None)
        if self.rerank is not None and beam_size == 1:
            from seq2seq.decoding.length_limits import require_beam

            require_beam("--rerank", beam_size)

    def load(self, run: Path) -> LoadedRun:
        """Load a run. Raises as `seq2seq.load`."""
        from seq2seq.runs.load import load

        options = self._asdict()
        del options["batch_size"]
        loaded = load(run, **options)
        if self.batch_size is not None:
            settings = loaded.translator.settings
            loaded.translator.settings = settings.model_copy(update={"batch_sentences": self.batch_size})
        return loaded
