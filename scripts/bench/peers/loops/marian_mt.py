"""Seq2SeqTrainer with a MarianMTModel from scratch; batches sorted by length, as those of the plain loop."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from batches import BOS, EOS, PAD, Clock, batches
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

WIDTH, FF_WIDTH, HEADS, LAYERS, VOCABULARY, DROPOUT, BUDGET = 256, 1024, 4, 3, 8000, 0.1, 4096
_IGNORED = -100


class Data(IterableDataset[dict[str, Tensor]]):
    """Ready batches; notes each one's target tokens."""

    def __init__(self, files: tuple[Path, Path, Path]) -> None:
        self.files = files
        self.tokens: list[int] = []

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for batch in batches(*self.files, BUDGET):
            self.tokens.append(batch.tokens)
            yield {
                "input_ids": batch.source,
                "attention_mask": (batch.source != PAD).long(),
                "decoder_input_ids": batch.target_in,
                "labels": batch.target_out.masked_fill(batch.target_out == PAD, _IGNORED),
            }


class Trainer(Seq2SeqTrainer):
    """Takes the batches as they are."""

    def get_train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """One item is one batch."""
        return DataLoader(self.train_dataset, batch_size=None)


class Watch(TrainerCallback):
    """Tells the clock of each update."""

    def __init__(self, data: Data) -> None:
        self.data, self.clock = data, Clock()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """The loader runs ahead by one batch: count the one that was trained on."""
        self.clock.update(self.data.tokens[self.clock.step])


def new_model() -> MarianMTModel:
    """The size that all systems have."""
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", LAYERS), ("ffn_dim", FF_WIDTH), ("attention_heads", HEADS))
    }
    return MarianMTModel(
        MarianConfig(
            vocab_size=VOCABULARY,
            d_model=WIDTH,
            **sides,
            dropout=DROPOUT,
            attention_dropout=DROPOUT,
            activation_dropout=0.0,
            activation_function="relu",
            scale_embedding=True,
            max_position_embeddings=512,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
            decoder_start_token_id=BOS,
            forced_eos_token_id=None,
        )
    )


def main() -> None:
    """Train for so many updates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("vocabulary", type=Path)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--precision", choices=("fp32", "bf16"), required=True)
    parser.add_argument("--updates", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    data = Data((options.source, options.target, options.vocabulary))
    arguments = Seq2SeqTrainingArguments(
        output_dir=options.folder,
        max_steps=options.updates,
        use_cpu=True,
        bf16=options.precision == "bf16",
        learning_rate=3e-4,
        lr_scheduler_type="constant",
        label_smoothing_factor=0.1,
        max_grad_norm=1.0,
        adam_beta2=0.98,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=1,
    )
    Trainer(model=new_model(), args=arguments, train_dataset=data, callbacks=[Watch(data)]).train()


if __name__ == "__main__":
    main()
