"""From a run directory to a translator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from seq2seq.config import Config
from seq2seq.data.tokenizer import TokenizerPair
from seq2seq.errors import CheckpointError
from seq2seq.experiment.device import choose_device, set_threads
from seq2seq.experiment.directory import RunDirectory
from seq2seq.inference.translator import Encoded, Translator
from seq2seq.models import build_model
from seq2seq.training.checkpoint import CheckpointFolder, load_checkpoint, load_model_tensors


class LoadedRun:
    """A trained run, ready for use.

    Attributes:
        config: the run's complete settings.
        directory: where it lies.
        checkpoint: name of the checkpoint that was loaded.
        translator: text -> search -> text.
    """

    def __init__(self, directory: RunDirectory, config: Config, checkpoint: str, translator: Translator) -> None:
        self.directory = directory
        self.config = config
        self.checkpoint = checkpoint
        self.translator = translator

    def translate(
        self, texts: Sequence[str], *, beam_size: int | None = None, length_penalty: float | None = None
    ) -> list[str]:
        """The best translation of each text, in order; blank in, blank out."""
        return self.translator.translate(list(texts), beam_size=beam_size, length_penalty=length_penalty)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """log P(target | source) of each pair, in nats, end mark included."""
        return self.translator.score(list(pairs))

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The encoder's states [B S D] and their mask [B S], for use downstream."""
        return self.translator.encode(list(texts))


def load(run: str | Path, *, device: str = "auto", checkpoint: str | None = None, threads: int = 0) -> LoadedRun:
    """Load the best model of a run directory.

    Args:
        run: the run directory.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        checkpoint: a name under `checkpoints/`, e.g. `last`; the best where None.
        threads: CPU threads of torch; every core where 0.

    Raises:
        CheckpointError: no run, or a damaged one.
        ConfigError: no such device.
    """
    directory = RunDirectory(Path(run))
    config = directory.load_config()
    chosen = choose_device(device)
    set_threads(threads)
    tokenizers = TokenizerPair.load(directory.tokenizer)
    check_tokenizer(directory, tokenizers)
    folder = CheckpointFolder(directory.checkpoints)
    if checkpoint is None:
        loaded = folder.load_best()
    else:
        path = directory.checkpoints / checkpoint
        if not path.exists():
            names = ", ".join(sorted(found.name for found in directory.checkpoints.glob("*")))
            raise CheckpointError(f"no checkpoint {path}", hint=f"there are: {names}")
        loaded = load_checkpoint(path.resolve(), with_training=False)
    model = build_model(config.model, tokenizers.source.size, tokenizers.target.size)
    load_model_tensors(model, loaded.model, str(loaded.path))
    model.to(chosen).eval()
    return LoadedRun(directory, config, loaded.path.name, Translator(model, tokenizers, config.decoding, chosen))


def check_tokenizer(directory: RunDirectory, tokenizers: TokenizerPair) -> None:
    """Raise `CheckpointError` where the run's tokenizer is not the one that its model was trained with."""
    try:
        expected = json.loads(directory.data_record.read_text(encoding="utf-8"))["tokenizer"]
    except (OSError, ValueError, KeyError):
        return  # only the comparison is lost; the tokenizer's own checksum was verified
    if expected != tokenizers.fingerprint:
        raise CheckpointError(
            f"the tokenizer in {directory.tokenizer} is not the one that the model was trained with "
            f"(expected {expected[:12]}, found {tokenizers.fingerprint[:12]})",
            hint="put the run's own tokenizer folder back",
        )
