"""Error messages for settings: the key as typed, file and line, and what to write instead."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from seq2seq.config.keys import known_key, near_key
from seq2seq.config.model import RNNSettings, TransformerSettings
from seq2seq.config.settings import DEVICE, Config
from seq2seq.config.sources import SOURCES
from seq2seq.config.yaml import Document, KeyPath
from seq2seq.errors import ConfigError, closest
from seq2seq.sanitize import shorten

_VARIANTS: dict[str, type[BaseModel]] = {
    "transformer": TransformerSettings,
    "rnn": RNNSettings,
    **SOURCES,
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "finite": "a finite number",
}
_BOUNDS = {
    "greater_than": "more than {}",
    "greater_than_equal": "{} or more",
    "less_than": "less than {}",
    "less_than_equal": "{} or less",
    "string_too_short": "a name, which cannot be empty",
}
_PATTERNS = {
    "^[A-Za-z0-9_-]+$": "letters, digits, _ and - alone",
    "^[A-Z][A-Za-z0-9_-]*$": "a capital letter, then letters, digits, _ and - alone",
    DEVICE: "auto, cpu, cuda, cuda:N or mps",
}
_NO_VALUE = ("no", "off", "none", "false", "never", "nil", "~")
_THOUSANDS = {"k": 1_000, "m": 1_000_000}
_SOURCE = "[{source: FILE, target: FILE}]"


def explain(error: ValidationError, documents: Sequence[Document]) -> ConfigError:
    """The error for the first problem, with the number of the others."""
    problems: list[dict[str, Any]] = [dict(problem) for problem in error.errors(include_url=False)]
    first = problems[0]
    path = _user_path(first["loc"])
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path = (*path, "kind")
    where = next((place for document in reversed(documents) if (place := document.place(path))), None)
    # Each member of a union type reports its own problem with the same value.
    others = len({_user_path(problem["loc"]) for problem in problems}) - 1
    more = f" (and {others} more)" if others else ""
    arms = [problem for problem in problems if _user_path(problem["loc"]) == path]
    code, what, hint = _problem(first, arms, path)
    return ConfigError(what + more, where=where, hint=hint, code=code)


def no_number(path: KeyPath, given: bool, documents: Sequence[Document]) -> ConfigError:
    """The error for `true` or `false` in place of a number."""
    where = next((place for document in reversed(documents) if (place := document.place(path))), None)
    what = f"`{'.'.join(map(str, path))}`: must be a number, not {_shown(given)}"
    return ConfigError(what, where=where, hint=_reference(path), code="config.value")


def _problem(first: Mapping[str, Any], arms: Sequence[Mapping[str, Any]], path: KeyPath) -> tuple[str, str, str | None]:
    """Error code, message and hint for a problem."""
    key = ".".join(map(str, path))
    kind, given = str(first["type"]), first["input"]
    if kind == "extra_forbidden":
        return "config.unknown-key", f"unknown key `{_visible(key)}`", _suggest(first["loc"])
    if kind == "missing" and not isinstance(path[-1], int):
        return "config.missing-key", f"`{key}` is missing", f"add `{path[-1]}:` there"
    if kind in ("missing", "too_short", "too_long"):
        path = path[:-1] if kind == "missing" else path
        what = f"`{'.'.join(map(str, path))}` has too {'many' if kind == 'too_long' else 'few'} values"
        return "config.value", what, f"{path[-1]}: {_default_list(path) or '[...]'}"
    if kind == "value_error":
        what, _, hint = str(first["msg"]).removeprefix("Value error, ").partition("; ")
        return "config.conflict", f"{key}: {what}" if key else what, hint or f"seq2seq config reference {key}".rstrip()
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        chosen = given.get("kind") if isinstance(given, dict) else given
        return "config.value", f"`model.kind`: must be transformer or rnn, not {_shown(chosen)}", _kind_of_model(chosen)
    if kind.startswith(("model_", "dict_")):
        return (
            "config.value",
            f"`{key}` is a group of settings, not {_shown(given)}",
            _how_to_group(first["loc"], given),
        )
    wanted = " or ".join(dict.fromkeys(expected(arm) for arm in arms)).replace(" or more or ", " or more, or ")
    hint = _how_to_write(first, arms, path)
    return "config.value", f"`{key}`: must be {wanted}, not {_shown(given)}", hint


def expected(problem: Mapping[str, Any]) -> str:
    """Description of the valid values, from pydantic's error: "1 or more", "a whole number"."""
    kind = str(problem["type"])
    if kind == "literal_error":
        return str(problem["ctx"]["expected"]).replace("'", "")
    if kind == "string_pattern_mismatch":
        return _PATTERNS[problem["ctx"]["pattern"]]
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(*bounds(problem))
    return _KINDS.get(kind.partition("_")[0], "of another kind")


def bounds(problem: Mapping[str, Any]) -> list[str]:
    """The bounds that a number has exceeded."""
    numbers = [value for value in problem.get("ctx", {}).values() if isinstance(value, (int, float))]
    return [str(int(value) if value == int(value) else value) for value in numbers]


def _how_to_write(first: Mapping[str, Any], arms: Sequence[Mapping[str, Any]], path: KeyPath) -> str:
    """Valid value, as an example for the hint."""
    given, name = first["input"], path[-1]
    text = str(given).strip().casefold() if isinstance(given, (str, bool)) else ""
    choices = [choice for arm in arms if arm["type"] == "literal_error" for choice in _choices(arm)]
    if choices and (close := closest(text, choices)):
        return f"did you mean {name}: {close}?"
    if str(first["type"]).startswith(("tuple", "list")):
        plain = not isinstance(given, (dict, type(None)))
        alone = f"[{_shown(given)}]" if plain else "[...]"
        return f"{name}: {_SOURCE if path[:1] == ('data',) else _default_list(path) or alone}"
    if path == ("device",) and type(given) is int:
        return f"device: cuda:{given} for that GPU, or devices: {given} for as many processes"
    if str(first["type"]).startswith("string") and isinstance(given, (int, float)):
        quoted = f'"{_shown(given)}"'
        return f"quote it: {quoted}" if isinstance(name, int) else f"quote it: {name}: {quoted}"
    if text in _NO_VALUE and _may_be_null(first["loc"]):
        return f"{name}: null"
    if (short := re.fullmatch(r"(\d+(?:\.\d+)?)([km])", text)) and "int" in str(first["type"]):
        return f"{name}: {int(float(short[1]) * _THOUSANDS[short[2]])}"
    if given is None:
        return "give a value, or remove the line"
    return _reference(path)


def _reference(path: KeyPath) -> str:
    keys = path[: next((place for place, part in enumerate(path) if isinstance(part, int)), None)]
    return f"seq2seq config reference {'.'.join(map(str, keys))}"


def _default_list(path: KeyPath) -> str:
    """The default of a list as YAML; empty if there is none."""
    field = _group_at(path[:-1]).model_fields.get(str(path[-1]))
    default = field.default if field is not None else None
    return str(list(default)) if isinstance(default, tuple) and default else ""


def _how_to_group(loc: Sequence[str | int], given: Any) -> str:
    group = _group_at(loc)
    path = _user_path(loc)
    if path == ("model",):
        return _kind_of_model(given)
    if path[0] == "data" and len(path) == 3:
        return "an entry is {source: FILE, target: FILE}"
    keys = list(group.model_fields)
    if "kind" in keys and isinstance(given, str):
        choices = get_args(group.model_fields["kind"].annotation)
        close = closest(given.casefold(), choices, 0.3)
        return f"{path[-1]}: {{kind: {close or choices[0]}}}"
    return f"keys there: {', '.join(keys)}"


def _kind_of_model(given: Any) -> str:
    text = str(given).casefold()
    if text in ("gru", "lstm", "tanh"):
        return f"model: {{kind: rnn, cell: {text}}}"
    return f"model: {{kind: {'rnn' if 'rnn' in text or 'gru' in text else 'transformer'}}}"


def _choices(problem: Mapping[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", str(problem["ctx"]["expected"]))


def _shown(value: Any) -> str:
    """A value as YAML, shortened if it is long."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case BaseModel() | dict():
            return "a group of settings"
        case list() | tuple():
            return "a list"
    return shorten(repr(value), 60)


def _visible(key: str) -> str:
    """The key with invisible and non-ASCII letters as code points."""
    return "".join(letter if letter.isascii() and letter.isprintable() else f"<U+{ord(letter):04X}>" for letter in key)


def _user_path(loc: Sequence[str | int]) -> KeyPath:
    """The path as the user typed it: pydantic puts the tag of a union between the keys."""
    path: list[str | int] = []
    for place, part in enumerate(loc):
        is_model_tag = place == 1 and loc[0] == "model" and part in ("transformer", "rnn")
        is_source_tag = place == 3 and isinstance(loc[2], int) and loc[0] == "data" and part in _VARIANTS
        is_choice_of_types = path[-1:] in (["batch_size"], ["character_coverage"])
        is_choice_of_types |= str(part).removeprefix("constrained-") in ("int", "str")
        if not is_model_tag and not is_source_tag and not is_choice_of_types:
            path.append(part)
    return tuple(path)


def _suggest(loc: Sequence[str | int]) -> str:
    """A hint for an unknown key: its place elsewhere, or a similar name."""
    typed = str(loc[-1])
    if typed == "<<":
        return "write the keys out, or use a preset: configs have no merge keys"
    if typed.isdecimal() and len(typed) == 3:
        return "write numbers without commas, as in 20000"
    if "." in typed and known_key(typed):
        first, *rest = typed.split(".")
        return f"keys nest: {first}: " + "".join(f"{{{part}: " for part in rest) + "..." + "}" * len(rest)
    section = _user_path(loc)[:-1]
    siblings = list(_group_at(loc[:-1]).model_fields)
    # The full key, as in `key=value`, which cannot address items of a list.
    prefix = "" if any(isinstance(part, int) for part in section) else ".".join(map(str, section))
    near = near_key(prefix, typed, siblings)
    return f"did you mean {near}?" if near else f"keys here: {', '.join(siblings)}"


def _group_at(loc: Sequence[str | int]) -> type[BaseModel]:
    group: type[BaseModel] = Config
    for place, part in enumerate(loc):
        if part in _VARIANTS and place in (1, 3):
            group = _VARIANTS[str(part)]
        elif isinstance(part, str) and part in group.model_fields:
            annotation = group.model_fields[part].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                group = annotation
    return group


def _may_be_null(loc: Sequence[str | int]) -> bool:
    names = [part for part in loc if isinstance(part, str)]
    field = _group_at(loc).model_fields.get(names[-1]) if names else None
    annotation = field.annotation if field else None
    return get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)
