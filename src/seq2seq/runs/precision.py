"""The precision of a run: chosen once, and the same on all ranks."""

from __future__ import annotations

import torch

from seq2seq.config import Config
from seq2seq.console import warn
from seq2seq.distributed.ranks import Ranks
from seq2seq.optimization.precision import PrecisionChoice, choose_precision
from seq2seq.runs.directory import RunDirectory
from seq2seq.sealed_records import AutoChoices
from seq2seq.system import computes_bf16


def agreed_precision(config: Config, directory: RunDirectory, device: torch.device, ranks: Ranks) -> PrecisionChoice:
    """The precision of the config. Every rank calls it.

    For `auto` on a CPU it is that in which the run began (`auto.json`), so that a resumed run has the same bits; in a
    new run bf16 where it is faster on every rank. A run that began in bf16 goes on in fp32, with a warning, where a
    CPU lacks bf16.

    Raises:
        ConfigError: the device does not support it.
        CheckpointError: auto.json is damaged.
    """
    wanted = config.training.precision
    if wanted != "auto" or device.type != "cpu":
        return choose_precision(wanted, device)
    known = ranks.from_first(directory.load_auto_choices().model_dump_json())
    began_in = AutoChoices.model_validate_json(known).precision
    if began_in == "bf16" and ranks.sum_host([computes_bf16()])[0] < ranks.size:
        warn("this run began in bf16, in which not every CPU here computes; it goes on in fp32")
        return PrecisionChoice("fp32", "without bf16 here")
    if began_in is not None:
        return PrecisionChoice(began_in, "as this run began")
    choice = choose_precision(wanted, device)
    faster = ranks.sum_host([choice.name == "bf16"])[0]
    if 0 < faster < ranks.size:
        choice = PrecisionChoice("fp32", "bf16 is not faster on every CPU", is_measured=True)
    if choice.is_measured and ranks.is_first:
        directory.save_auto_choices(precision=choice.name)
    return choice
