"""Reference documentation of every key, generated from the settings classes."""

from __future__ import annotations

import textwrap
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from seq2seq.config.model import RNNSettings, TransformerSettings
from seq2seq.config.presets import PRESETS
from seq2seq.config.settings import Config
from seq2seq.config.sources import SOURCES
from seq2seq.errors import UsageError, closest


def reference_lines(part: str = "") -> list[str]:
    """Every key below `part` (all keys if empty): `key: type = default`, with an indented description.

    Raises:
        UsageError: no key begins with `part`.
    """
    entries = list(_entries(Config, ""))
    selected = [lines for key, lines in entries if key == part or key.startswith(part + ".") or not part]
    if not selected:
        raise UsageError(
            f"no key begins with `{part}`",
            hint=_near_keys(part, [key for key, _ in entries]),
            code="config.unknown-key",
        )
    return [line for lines in selected for line in lines]


def json_schema() -> dict[str, Any]:
    """JSON Schema of a config file: that of `Config`, with presets, and with the names that stay valid."""
    schema = Config.model_json_schema()
    schema["properties"]["preset"] = {"enum": list(PRESETS), "description": "Named starting point."}
    recurrent, model = schema["$defs"]["RNNSettings"]["properties"], schema["properties"]["model"]
    recurrent["kind"] = {"enum": ["rnn", "gru"], "default": "rnn"}
    recurrent["cell"]["enum"].append("rnn")
    model["anyOf"] = model.pop("oneOf")  # without a kind, which a preset may name, several fit
    del model["discriminator"]
    for name, setting in schema["properties"].items():  # a group whose keys are all commented out is null
        if "$ref" in setting or setting is model:
            schema["properties"][name] = {"anyOf": [setting, {"type": "null"}]}
    return schema


def _near_keys(part: str, keys: list[str]) -> str:
    """A hint for an unknown key: the same name elsewhere, a similar name, or the keys of its section."""
    section, _, name = part.rpartition(".")
    within = list(dict.fromkeys(key for key in keys if section and key.rpartition(".")[0] == section))
    by_name = {key.rpartition(".")[2]: key for key in reversed(keys)}  # the first of several wins
    last_names = [key.rpartition(".")[2] for key in within]
    if close := closest(name, last_names, 0.7):
        return f"did you mean {section}.{close}?"
    if name in by_name:
        return f"did you mean {by_name[name]}?"
    if within:
        return f"keys there: {', '.join(last_names)}"
    if close := closest(part, keys):
        return f"did you mean {close}?"
    if close := closest(name, by_name):
        return f"did you mean {by_name[close]}?"
    return f"sections: {', '.join(dict.fromkeys(key.partition('.')[0] for key in keys if '.' in key))}"


def _entries(group: type[BaseModel], prefix: str) -> Iterator[tuple[str, list[str]]]:
    for name, field in group.model_fields.items():
        key = f"{prefix}{name}"
        annotation = field.annotation
        if name == "model" and group is Config:
            for variant in (TransformerSettings, RNNSettings):
                kind = variant.model_fields["kind"].default
                yield key, _group_lines(f"{key} (kind: {kind})", variant)
                yield from _entries(variant, f"{key}.")
        elif name == "train":
            yield key, _field_lines(key, field)
            for form, source in SOURCES.items():
                yield key, _group_lines(f"{key} entry, {form}", source)
                yield from _entries(source, f"{key}[].")
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield key, _group_lines(key, annotation)
            yield from _entries(annotation, f"{key}.")
        else:
            yield key, _field_lines(key, field)


def _group_lines(title: str, group: type[BaseModel]) -> list[str]:
    return ["", f"[{title}]", *_wrapped(group.__doc__ or "")]


def _field_lines(key: str, field: FieldInfo) -> list[str]:
    default = "required" if field.is_required() else f"= {_shown(field.default)}"
    return [f"{key}: {_type_name(field)} {default}", *_wrapped(field.description or "")]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), width=96, initial_indent="    ", subsequent_indent="    ")


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return "[]" if value == () else str(value)


def _type_name(field: FieldInfo) -> str:
    return "list of sources" if "Source" in str(field.annotation) else _type_text(field.annotation)


def _type_text(annotation: Any) -> str:
    """Format a type in user notation: `int | auto`, `[str, ...]`."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_text(parts[0])
    if origin is Literal:
        return " | ".join(str(part) for part in parts)
    if origin in (Union, types.UnionType):
        return " | ".join(_type_text(part) for part in parts)
    if origin is tuple:
        return f"[{', '.join('...' if part is ... else _type_text(part) for part in parts)}]"
    if annotation is type(None):
        return "null"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
