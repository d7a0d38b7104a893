"""Options of how a run is loaded."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from seq2seq.cli.options import require
from seq2seq.errors import CheckpointError
from seq2seq.sanitize import presentable

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

    def load(self, run: Path, *, before_text: bool = False) -> LoadedRun:
        """Load a run, which in the command line may stand before a text. Raises as `seq2seq.load`."""
        from seq2seq.runs.load import load

        options = self._asdict()
        del options["batch_size"]
        try:
            loaded = load(run, **options)
        except CheckpointError as error:
            is_near = (error.hint or "").startswith("did you mean")
            if before_text and error.code == "run.missing" and run.is_file() and not is_near:
                error.hint = presentable(f"the run comes before the text: runs/NAME {shlex.quote(str(run))}")
            raise
        if self.batch_size is not None:
            settings = loaded.translator.settings
            loaded.translator.settings = settings.model_copy(update={"batch_sentences": self.batch_size})
        return loaded
