"""The one door for settings: defaults < preset < YAML files in order < `key=value`, then a single validation."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from seq2seq.config.model import GRUSettings, TransformerSettings
from seq2seq.config.presets import PRESETS
from seq2seq.config.settings import Config
from seq2seq.config.sources import BuiltinSource, HubSource, JsonlSource, TextSource, TsvSource
from seq2seq.config.yaml_reader import Document, Path, read_value, read_yaml
from seq2seq.errors import ConfigError

_VARIANTS: dict[str, type[BaseModel]] = {
    "transformer": TransformerSettings,
    "gru": GRUSettings,
    "text": TextSource,
    "tsv": TsvSource,
    "jsonl": JsonlSource,
    "hub": HubSource,
    "builtin": BuiltinSource,
}
_OTHER_NAMES = {
    "lr": "learning_rate",
    "epochs": "max_epochs",
    "steps": "max_steps",
    "d_model": "hidden_size",
    "ffn": "ff_size",
    "heads": "num_heads",
    "vocab_size": "vocabulary_size",
    "warmup": "warmup_steps",
    "clip_norm": "max_gradient_norm",
    "beam": "beam_size",
}


def load_config(files: Sequence[str | FilePath] = (), overrides: Sequence[str] = ()) -> Config:
    """Read, merge and validate.

    Args:
        files: YAML files; later ones win key by key. Lists are replaced whole. A file whose `model.kind` differs
            from the earlier one starts `model` anew, since the architectures share few keys.
        overrides: `key=value` with dots, e.g. `training.max_steps=100`; the value is YAML.

    Raises:
        ConfigError: a file is missing or not YAML, a key is unknown, a value is of the wrong type or impossible.
    """
    documents = [_read_file(FilePath(file)) for file in files]
    documents += [_read_override(text) for text in overrides]
    config = parse_documents(documents)
    if config.name is None and files:
        config = config.model_copy(update={"name": FilePath(files[-1]).stem})
    return config


def parse_documents(documents: Sequence[Document]) -> Config:
    """Merge documents, preset first, and validate."""
    documents = [*_preset(documents), *documents]
    merged: dict[str, Any] = {}
    for document in documents:
        kind = (document.data.get("model") or {}).get("kind") if isinstance(document.data.get("model"), dict) else None
        before = merged.get("model", {})
        if kind and isinstance(before, dict) and before.get("kind", "transformer") != kind:
            merged.pop("model", None)
        merged = _merge(merged, document.data)
    merged.pop("preset", None)
    # The same for a group that nothing below has filled.
    merged = {key: value for key, value in merged.items() if value is not None}
    if isinstance(merged.get("model"), dict):
        merged["model"] = {"kind": "transformer", **merged["model"]}
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise _explain(error, documents) from None


def config_to_yaml(config: Config) -> str:
    """The complete tree as YAML that `load_config` reads back to an equal tree."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _read_file(file: FilePath) -> Document:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = "give the path of a YAML file; `seq2seq init` writes one"
        near = [str(found) for found in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
        if close := difflib.get_close_matches(str(file), near, n=1):
            hint = f"did you mean {close[0]}?"
        raise ConfigError(f"no config file {file}", hint=hint) from None
    except IsADirectoryError:
        raise ConfigError(f"{file} is a folder, not a YAML file", hint=f"{file}/config.yaml ?") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 at byte {error.start}", hint="save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    return read_yaml(text, str(file))


def _read_override(text: str) -> Document:
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", key):
        raise ConfigError(
            f"`{text}` is not a setting",
            hint="settings look like training.max_steps=1000, without spaces around =",
        )
    data: Any = read_value(value, name=text)
    path: Path = tuple(key.split("."))
    for part in reversed(path):
        data = {str(part): data}
    return Document(f"command line, {text}", data, {path: 0})


def _preset(documents: Sequence[Document]) -> list[Document]:
    names = [(document.data["preset"], document) for document in documents if "preset" in document.data]
    if not names:
        return []
    name, document = names[-1]
    if name not in PRESETS:
        close = difflib.get_close_matches(str(name), PRESETS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"presets: {', '.join(PRESETS)}"
        raise ConfigError(f"unknown preset `{name}`", where=document.place(("preset",)), hint=hint)
    return [Document(f"preset {name}", PRESETS[name], {})]


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if value is None and isinstance(old, dict):
            continue  # a group whose keys are all commented out says nothing
        result[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _explain(error: ValidationError, documents: Sequence[Document]) -> ConfigError:
    """The first problem in full, the number of the others after it."""
    problems = error.errors(include_url=False, include_context=False)
    first = problems[0]
    path = _user_path(first["loc"])
    key = ".".join(str(part) for part in path)
    where = next((place for document in reversed(documents) if (place := document.place(path))), None)
    # Every arm of a union reports its own problem with the same value.
    others = len({_user_path(problem["loc"]) for problem in problems}) - 1
    more = f" (and {others} more)" if others else ""
    if first["type"] == "extra_forbidden":
        return ConfigError(f"unknown key `{key}`{more}", where=where, hint=_suggest(first["loc"]))
    if first["type"] == "missing":
        return ConfigError(f"`{key}` is missing{more}", where=where, hint=f"add `{path[-1]}:` there")
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:].replace("valid tuple", "list")
    given = "" if isinstance(first["input"], (dict, list, BaseModel)) else f", not {first['input']!r}"
    if first["type"] == "union_tag_invalid":
        message, given = "must be transformer or gru", f", not {first['input'].get('kind')!r}"
    if first["type"] == "value_error":
        what, _, hint = message.partition("; ")
        return ConfigError(f"{key}: {what}{more}" if key else f"{what}{more}", where=where, hint=hint or None)
    return ConfigError(f"`{key}`: {message}{given}{more}", where=where, hint=f"seq2seq config reference {path[0]}")


def _user_path(loc: Sequence[str | int]) -> Path:
    """The path as the user typed it: pydantic puts the tag of a union between the keys."""
    path: list[str | int] = []
    for part in loc:
        is_model_tag = path == ["model"] and part in ("transformer", "gru")
        is_source_tag = len(path) == 3 and isinstance(path[2], int) and part in _VARIANTS
        is_choice_of_types = path[-1:] == ["batch_size"] or part in ("int", "str")
        if not is_model_tag and not is_source_tag and not is_choice_of_types:
            path.append(part)
    return tuple(path)


def _suggest(loc: Sequence[str | int]) -> str:
    wrong = str(loc[-1])
    siblings = list(_group_at(loc[:-1]).model_fields)
    everywhere = dict(_all_keys(Config, ()))
    wanted = _OTHER_NAMES.get(wrong, wrong)
    groups = _user_path(loc)[:-1]
    within = ".".join(map(str, groups))
    # The key as `key=value` wants it, which cannot reach into a list.
    prefix = f"{within}." if within and not any(isinstance(part, int) for part in groups) else ""
    if wanted in siblings:
        return f"did you mean {prefix}{wanted}?"
    if close := difflib.get_close_matches(wrong, siblings, n=1, cutoff=0.7):
        return f"did you mean {prefix}{close[0]}?"
    for name in (wanted, *difflib.get_close_matches(wrong, everywhere, n=1, cutoff=0.8)):
        if name in everywhere and everywhere[name].rpartition(".")[0] != within:
            return f"did you mean {everywhere[name]}?"
    return f"keys here: {', '.join(siblings)}"


def _group_at(loc: Sequence[str | int]) -> type[BaseModel]:
    group: type[BaseModel] = Config
    for part in loc:
        if part in _VARIANTS:
            group = _VARIANTS[str(part)]
        elif isinstance(part, str) and part in group.model_fields:
            annotation = group.model_fields[part].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                group = annotation
    return group


def _all_keys(group: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every key of the tree with its full path; the first of several equal names wins."""
    for name, field in group.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _all_keys(annotation, (*path, name))
        elif name == "model":
            for variant in (GRUSettings, TransformerSettings):
                yield from _all_keys(variant, ("model",))
        yield name, ".".join((*path, name))
