"""The documentation of every key, made from the settings classes themselves."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from seq2seq.config.model import GRUSettings, TransformerSettings
from seq2seq.config.settings import Config
from seq2seq.config.sources import BuiltinSource, HubSource, JsonlSource, TextSource, TsvSource
from seq2seq.errors import UsageError

_SOURCES = (TextSource, TsvSource, JsonlSource, HubSource, BuiltinSource)


def reference_lines(part: str = "") -> list[str]:
    """Every key below `part` (all where empty): `key: type = default`, its meaning indented.

    Raises:
        UsageError: no key begins with `part`.
    """
    entries = list(_entries(Config, ""))
    wanted = [lines for key, lines in entries if key == part or key.startswith(part + ".") or not part]
    if not wanted:
        close = difflib.get_close_matches(part, [key for key, _ in entries], n=1)
        raise UsageError(f"no key begins with `{part}`", hint=f"did you mean {close[0]}?" if close else None)
    return [line for lines in wanted for line in lines]


def differences(config: Config) -> list[str]:
    """`key: value` of everything that differs from the defaults."""
    default = Config(model=type(config.model)()).model_dump(mode="json")
    return list(_differences(config.model_dump(mode="json"), default, ""))


def _differences(tree: dict[str, Any], default: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _differences(value, default.get(key) or {}, f"{prefix}{key}.")
        elif value != default.get(key) or prefix + key == "model.kind":
            yield f"{prefix}{key}: {value}"


def _entries(group: type[BaseModel], prefix: str) -> Iterator[tuple[str, list[str]]]:
    for name, field in group.model_fields.items():
        key = f"{prefix}{name}"
        annotation = field.annotation
        if name == "model" and group is Config:
            for variant in (TransformerSettings, GRUSettings):
                kind = variant.model_fields["kind"].default
                yield key, _group_lines(f"{key} (kind: {kind})", variant)
                yield from _entries(variant, f"{key}.")
        elif name == "train":
            yield key, _field_lines(key, field)
            for source in _SOURCES:
                yield (
                    key,
                    _group_lines(f"{key} entry, {source.__name__.removesuffix('Source').lower()}", source),
                )
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
    annotation = field.annotation
    if "Source" in str(annotation):
        return "list of sources"
    choices = [choice for choice in get_args(annotation) if isinstance(choice, str)]
    if choices:
        return " | ".join(choices)
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.sub(r"typing\.|None\b", lambda found: "null" if found[0] == "None" else "", name)
