"""Every key of a config, and the one that an unknown key was meant to be."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from seq2seq.config.model import RNNSettings, TransformerSettings
from seq2seq.config.settings import Config
from seq2seq.config.sources import SOURCES
from seq2seq.errors import closest

# Names in other toolkits and papers.
_OTHER_NAMES = {
    "lr": "learning_rate",
    "epochs": "max_epochs",
    "steps": "max_steps",
    "d_model": "hidden_size",
    "ffn": "ff_size",
    "heads": "num_heads",
    "nhead": "num_heads",
    "layers": "encoder_layers",
    "num_layers": "encoder_layers",
    "emb_size": "embedding_size",
    "vocab_size": "vocabulary_size",
    "warmup": "warmup_steps",
    "clip_norm": "max_gradient_norm",
    "grad_clip": "max_gradient_norm",
    "beam": "beam_size",
    "batch": "batch_size",
    "optim": "optimizer",
    "src": "source",
    "tgt": "target",
    "src_lang": "source_language",
    "tgt_lang": "target_language",
}


def walk_keys(
    group: type[BaseModel] = Config, prefix: str = ""
) -> Iterator[tuple[str, str, FieldInfo | type[BaseModel]]]:
    """Key, title, and field (of a group its class) of every setting; the keys of a corpus are `data.train[].KEY`.

    `model` and the corpora come once in each of their forms.
    """
    for name, field in group.model_fields.items():
        key, below, forms = f"{prefix}{name}", f"{prefix}{name}.", {}
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            forms = {key: field.annotation}
        elif key == "model":
            forms = {"model (kind: transformer)": TransformerSettings, "model (kind: rnn)": RNNSettings}
        else:
            yield key, key, field
        if key == "data.train":
            below, forms = f"{key}[].", {f"{key} entry, {form}": source for form, source in SOURCES.items()}
        for title, form in forms.items():
            yield key, title, form
            yield from walk_keys(form, below)


def known_key(text: str) -> bool:
    """True if a text is the full key of a setting, such as `training.max_steps`."""
    return any(text == key for key, _, _ in walk_keys())


def near_key(section: str, typed: str, siblings: Collection[str]) -> str:
    """The key that an unknown one in `section` probably means, by the same name or a similar one; empty if none does.

    `siblings` are the names of the keys in the section.
    """
    name = typed.strip().casefold().replace("-", "_").replace(" ", "_")
    name = _OTHER_NAMES.get(name, name)
    prefix = f"{section}." if section else ""
    if name in siblings:
        return f"{prefix}{name}"
    # Of several keys with one name, the one that is less deep comes last, and counts.
    keys = sorted((key for key, _, _ in walk_keys() if "[]" not in key), key=lambda key: -key.count("."))
    by_name = {key.rpartition(".")[2]: key for key in keys if not key.endswith(".kind")}
    near, far = closest(name, siblings, 0.7), closest(name, by_name, 0.8)
    candidates = by_name.get(name), near and f"{prefix}{near}", by_name.get(far)
    return next((key for key in candidates if key and key not in (section, f"{prefix}{name}")), "")
