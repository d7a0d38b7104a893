"""Reference documentation of every key, generated from the settings classes."""

from __future__ import annotations

import textwrap
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from seq2seq.config.keys import near_key, walk_keys
from seq2seq.config.presets import PRESETS
from seq2seq.config.settings import Config
from seq2seq.errors import UsageError, closest


def reference_lines(part: str = "") -> list[str]:
    """Every key below `part` (all keys if empty): `key: type = default`, with an indented description.

    Raises:
        UsageError: no key begins with `part`.
    """
    entries = list(walk_keys())
    selected = [entry for entry in entries if entry[0] == part or entry[0].startswith(part + ".") or not part]
    if not selected:
        keys = list(dict.fromkeys(key for key, _, _ in entries))
        raise UsageError(f"no key begins with `{part}`", hint=_hint(part, keys), code="config.unknown-key")
    return [line for _, title, setting in selected for line in _lines(title, setting)]


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


def _hint(part: str, keys: list[str]) -> str:
    """A hint for an unknown key: the same name elsewhere, a similar one, or the keys of its section."""
    section, _, name = part.rpartition(".")
    siblings = [key.rpartition(".")[2] for key in keys if key.rpartition(".")[0] == section]
    near = near_key(section, name, siblings)
    if not near and section and siblings:
        return f"keys there: {', '.join(siblings)}"
    if near := near or closest(part, keys):
        return f"did you mean {near}?"
    return f"sections: {', '.join(dict.fromkeys(key.partition('.')[0] for key in keys if '.' in key))}"


def _lines(title: str, setting: FieldInfo | type[BaseModel]) -> list[str]:
    if not isinstance(setting, FieldInfo):
        return ["", f"[{title}]", *_wrapped(setting.__doc__ or "")]
    default = "required" if setting.is_required() else f"= {_shown(setting.default)}"
    return [f"{title}: {_type_name(setting)} {default}", *_wrapped(setting.description or "")]


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
