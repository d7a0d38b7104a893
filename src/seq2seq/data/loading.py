"""Reading ahead of the step, in processes of torch's loader; what is read does not depend on their number."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from seq2seq.errors import WorkerError

Item = TypeVar("Item")

_PREFETCHED = 4
"""Items that each loader process reads ahead; the next pool is planned within that time."""


def load(dataset: Dataset[Item], places: Iterator[Any], num_workers: int, pin_memory: bool = False) -> Iterator[Item]:
    """What the dataset holds at each of the places, in order, read by processes ahead of the reader.

    Raises:
        WorkerError: a loader process died.
    """
    if not num_workers:
        for place in places:
            item = dataset[place]
            yield _pinned(item) if pin_memory else item
        return
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside torch's threads (the children only read and copy arrays),
            # torch of more workers than cores (the user's choice).
            warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            loader = DataLoader(
                dataset,
                batch_size=None,
                sampler=_Once(places),
                num_workers=num_workers,
                prefetch_factor=_PREFETCHED,
                collate_fn=_unchanged,
                pin_memory=pin_memory,
                # Of its own: the loader draws a seed, which would shift the dropout of a run with workers.
                generator=torch.Generator(),
            )
            iterator = iter(loader)
        yield from iterator
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkerError(
            f"a data loader process died: {error}", hint="training.num_workers=0", code="worker.loader"
        ) from error


class _Once(Sampler[Any]):
    """Places as the loader wants them."""

    def __init__(self, places: Iterator[Any]) -> None:
        self._places = places

    def __iter__(self) -> Iterator[Any]:
        return self._places


def _pinned(item: Any) -> Any:
    """The same with its tensors in page-locked memory, from which copies to the GPU need not wait."""
    if isinstance(item, Tensor):
        return item.pin_memory()
    if isinstance(item, tuple):
        parts = [_pinned(part) for part in item]
        return type(item)(*parts) if hasattr(item, "_fields") else tuple(parts)
    return item


def _unchanged(batch: Any) -> Any:
    return batch
