"""Config for training on back-translations beside the corpora of the run that made them, with the sides exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seq2seq.config import Config
from seq2seq.config.settings import DataSettings
from seq2seq.config.sources import BuiltinSource, Source, TmxSource, XliffSource
from seq2seq.config.yaml import write_yaml


def mixed_config(
    run: Config,
    files: tuple[str, str],
    *,
    tag: str | None,
    weight: float,
    pairs: int,
    genuine: Sequence[int],
) -> str:
    """YAML of the data of a training in the direction opposite to a run's.

    Corpora with a tag are left out: the side that was synthetic would become the target.

    Args:
        run: config of the run that translates back.
        files: the synthetic source and the genuine target.
        tag: before each synthetic source.
        weight: of the synthetic corpus.
        pairs: size of the synthetic corpus.
        genuine: sizes of the run's own corpora without a tag.
    """
    data = run.data
    exchanged = {split: _exchanged(getattr(data, split)) for split in ("train", "valid", "test")}
    synthetic: dict[str, Any] = {"source": files[0], "target": files[1]}
    synthetic |= {"tag": tag} if tag else {}
    synthetic |= {"weight": weight} if weight != 1.0 else {}
    tree: dict[str, Any] = {
        "source_language": data.target_language,
        "target_language": data.source_language,
        "train": [*(exchanged["train"] or ()), synthetic],
    }
    tree |= {split: exchanged[split] for split in ("valid", "test") if exchanged[split]}
    # What decides which pairs are read and held out, so that the corpora stay those that the run knows.
    tree |= data.model_dump(mode="json", include={"temperature", "cleaning", "errors"}, exclude_defaults=True)
    if data.holdout:
        tree |= {"seed": data.seed, "holdout": data.holdout}
    drawn, drawn_genuine = weight * pairs ** (1 / data.temperature), _genuine_draws(data, genuine)
    share = drawn / (drawn + drawn_genuine) if drawn_genuine else 1.0
    head = f"# {pairs:,} synthetic pairs, {share:.0%} of what is read, beside {sum(genuine):,} genuine ones.\n"
    if not exchanged["train"]:
        head = f"# {pairs:,} synthetic pairs. Add the genuine corpora to data.train.\n"
    lost = (split for split in ("valid", "test") if exchanged[split] is None)
    head += "".join(f"# Add data.{split}: that of the run cannot be exchanged.\n" for split in lost)
    return head + write_yaml({"data": tree})


def balanced_weight(run: Config, pairs: int, genuine: Sequence[int]) -> float:
    """Weight with which as much synthetic text is read as genuine text, if there is more of it; else 1.

    `genuine` are the sizes of the run's own corpora without a tag.
    """
    drawn = _genuine_draws(run.data, genuine)
    return float(f"{min(1.0, drawn / pairs ** (1 / run.data.temperature)):.3g}") if pairs and drawn else 1.0


def _genuine_draws(data: DataSettings, sizes: Sequence[int]) -> float:
    """What the corpora without a tag are drawn in proportion to, in all; see `data.order.Mixture.of`."""
    weights = [corpus.weight for corpus in data.train if corpus.tag is None]
    return float(sum(weight * size ** (1 / data.temperature) for weight, size in zip(weights, sizes, strict=False)))


def _exchanged(sources: Sequence[Source]) -> list[dict[str, Any]] | None:
    """Config entries of corpora with source and target exchanged; None if one of them cannot be exchanged."""
    entries = []
    for source in sources:
        if source.tag is not None:
            continue
        if source.target_tag or (isinstance(source, TmxSource | XliffSource) and source.source is None):
            return None
        if isinstance(source, BuiltinSource):
            changed: Source = source.model_copy(update={"reverse": not source.reverse})
        else:
            changed = source.model_copy(update={"source": source.target, "target": source.source, "tag": None})
        defaults = {name: field.default for name, field in type(source).model_fields.items()}
        entry = changed.model_dump(mode="json")
        entries.append({name: value for name, value in entry.items() if value != defaults[name]})
    return entries
