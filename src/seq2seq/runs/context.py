"""Context of a training: its config and folder, and the place of this process in it."""

from __future__ import annotations

from typing import NamedTuple

from seq2seq.config import Config
from seq2seq.distributed.placement import Placement
from seq2seq.distributed.ranks import Ranks
from seq2seq.runs.directory import RunDirectory


class RunContext(NamedTuple):
    """A run as one of its ranks sees it."""

    config: Config
    directory: RunDirectory
    placement: Placement
    ranks: Ranks
