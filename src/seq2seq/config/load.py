"""Loading of settings, in order of precedence: defaults, preset, suggestions, the run of `training.init_from`, YAML
files, `key=value`. The merged tree is validated once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from seq2seq.config.keys import known_key
from seq2seq.config.messages import explain, no_number
from seq2seq.config.model import current_names
from seq2seq.config.presets import PRESETS
from seq2seq.config.settings import Config, ScheduleSettings, TrainingSettings, augment_rates
from seq2seq.config.yaml import Document, KeyPath, read_value, read_yaml, write_yaml
from seq2seq.console import say
from seq2seq.errors import ConfigError, closest
from seq2seq.sanitize import redact

_WARMUP = ("training", "schedule", "warmup_steps")
_STEPS = ("training", "max_steps")


def load_config(
    files: Sequence[str | Path | Document] = (), overrides: Sequence[str] = (), suggested: Sequence[str] = ()
) -> Config:
    """Read, merge and validate.

    Args:
        files: YAML files, or what was read from them; later ones win key by key. Lists are replaced whole. A file whose
            `model.kind` differs from the earlier one discards the earlier `model`, since the architectures share few
            keys.
        overrides: `key=value` with dots, e.g. `training.max_steps=100`; the value is YAML.
        suggested: settings that the tool has chosen; files override them, as they override a preset.

    Raises:
        ConfigError: a file is missing or not YAML, a key is unknown, a value is of the wrong type or impossible.
    """
    documents = [file if isinstance(file, Document) else _read_file(Path(file)) for file in files]
    documents += [_read_override(text) for text in overrides]
    config = parse_documents(documents, [_read_override(text) for text in suggested])
    if config.name is None and files:
        config = config.model_copy(update={"name": Path(documents[len(files) - 1].name).stem})
    return config


def parse_documents(documents: Sequence[Document], suggested: Sequence[Document] = ()) -> Config:
    """Merge the preset, the suggestions and the given documents, and validate the result."""
    given = documents
    documents = [*_preset([*suggested, *given]), *suggested, *_initial_run(given), *given]
    merged: dict[str, Any] = {}
    for document in documents:
        data, model = document.data, document.data.get("model")
        if isinstance(model, dict):
            model = current_names(model)
            data = {**data, "model": model}
            before = merged.get("model", {})
            if model.get("kind") and isinstance(before, dict) and before.get("kind", "transformer") != model["kind"]:
                merged.pop("model", None)
        if isinstance(augment := _value(data, ("data", "augment")), bool):  # single rates may follow
            data = {**data, "data": {**data["data"], "augment": augment_rates(augment)}}
        merged = _merge(merged, data)
    warmup_from, steps_from = _last_with(given, _WARMUP), _last_with(given, _STEPS)
    if warmup_from is None or warmup_from is not steps_from:  # one file with both contradicts itself
        merged = _shorten_warmup(merged)
    merged.pop("preset", None)
    # A group whose keys are all commented out is null.
    merged = {key: value for key, value in merged.items() if value is not None or key not in Config.model_fields}
    if isinstance(merged.get("model"), dict):
        merged["model"] = {"kind": "transformer", **merged["model"]}
    for path, value in _leaves(merged, ()):
        if isinstance(value, str) and redact(value) != value:
            key = ".".join(map(str, path))
            raise ConfigError(
                f"`{key}` holds a password or a token, which the run would store",
                where=next((place for document in reversed(documents) if (place := document.place(path))), None),
                hint="download the file yourself (curl -o FILE URL) and give its path",
                code="config.secret",
            )
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        raise explain(error, documents) from None
    for path, value in _leaves(merged, ()):
        # Python takes true for 1.
        if isinstance(value, bool) and not isinstance(_setting(config, path), bool):
            raise no_number(path, value, documents)
    return config


def config_to_yaml(config: Config) -> str:
    """The complete settings as YAML, which `load_config` reads back to an equal `Config`."""
    return write_yaml(config.model_dump(mode="json"))


def _read_file(file: Path) -> Document:
    if file.is_fifo() and not str(file).startswith(("/dev/", "/proc/")):  # those are of `<(command)`
        raise ConfigError(
            f"{file} is a named pipe, not a YAML file", hint="write its text to a file", code="config.no-file"
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = "give the path of a YAML file; `seq2seq init` writes one"
        near = [str(found) for found in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
        if close := closest(str(file), near):
            hint = f"did you mean {close}?"
        if known_key(str(file)):
            hint = f"a setting has = and no spaces: {file}=VALUE"
        raise ConfigError(f"no config file {file}", hint=hint, code="config.no-file") from None
    except IsADirectoryError:
        hint = f"did you mean {file}/config.yaml?" if (file / "config.yaml").exists() else "give a YAML file"
        raise ConfigError(f"{file} is a folder, not a YAML file", hint=hint, code="config.no-file") from None
    except UnicodeDecodeError as error:
        what = f"{file} is not UTF-8 at byte {error.start}"
        raise ConfigError(what, hint="save the file as UTF-8", code="config.no-file") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        what = f"cannot read {file}: {getattr(error, 'strerror', None) or error}"
        raise ConfigError(what, hint="check its permissions", code="config.no-file") from None
    return _parsed(text, str(file))


@lru_cache(maxsize=4)  # each report of a run in training reads its config again
def _parsed(text: str, name: str) -> Document:
    return read_yaml(text, name)


def _read_override(text: str) -> Document:
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", key):
        raise ConfigError(
            f"`{text}` is not a setting",
            hint="settings look like training.max_steps=1000, without spaces around =",
            code="config.setting",
        )
    data: Any = read_value(value, name=text)
    path: KeyPath = tuple(key.split("."))
    for part in reversed(path):
        data = {str(part): data}
    return Document(f"command line, {text}", data, {path: 0})


def _preset(documents: Sequence[Document]) -> list[Document]:
    names = [(document.data["preset"], document) for document in documents if document.data.get("preset") is not None]
    if not names:
        return []
    name, document = names[-1]
    if not isinstance(name, str) or name not in PRESETS:
        close = closest(str(name), PRESETS)
        hint = f"did you mean {close}?" if close else f"presets: {', '.join(PRESETS)}"
        where = document.place(("preset",))
        raise ConfigError(f"unknown preset `{name}`", where=where, hint=hint, code="config.unknown-preset")
    return [Document(f"preset {name}", PRESETS[name], {})]


def keys_of(preset: str) -> set[str]:
    """The keys that a preset sets, with dots; empty if there is no such preset."""
    return {".".join(map(str, path)) for path, _ in _leaves(PRESETS.get(preset, {}), ())}


def _initial_run(given: Sequence[Document]) -> list[Document]:
    """Model and tokenizer settings of the run in `training.init_from`, so that fine-tuning need not repeat sizes.

    A damaged run is ignored here; loading its weights reports it.
    """
    names = [name for document in given if (name := _value(document.data, ("training", "init_from")))]
    if not names or not isinstance(names[-1], str):
        return []
    path = Path(names[-1]).resolve()  # a run, its checkpoints, or one of them
    file = next((found for folder in (path, *path.parents[:2]) if (found := folder / "config.yaml").is_file()), None)
    try:
        run = None if file is None else _read_file(file)
    except ConfigError:
        run = None
    if run is None:
        return []
    groups = {name: dict(group) for name in ("model", "tokenizer") if isinstance(group := run.data.get(name), dict)}
    # The run has the vocabulary: these files may be gone, and it may have been extended itself.
    for name in ("source_model", "target_model", "extend"):
        groups.get("tokenizer", {}).pop(name, None)
    return [run._replace(data=groups)]


def _shorten_warmup(merged: dict[str, Any]) -> dict[str, Any]:
    """Shorten the warm-up if `max_steps` is smaller, so that short tests work."""
    schedule, training = ScheduleSettings(), TrainingSettings()
    kind = _value(merged, ("training", "schedule", "kind")) or schedule.kind
    warmup = _value(merged, _WARMUP)
    warmup = schedule.warmup_steps if warmup is None else warmup
    steps = _value(merged, _STEPS) or training.max_steps
    if kind not in ("cosine", "wsd") or type(steps) is not int or type(warmup) is not int or not 0 < steps <= warmup:
        return merged
    say(f"the warm-up is shortened to {steps // 10:,} updates (training.schedule.warmup_steps), as there are {steps:,}")
    return _merge(merged, {"training": {"schedule": {"warmup_steps": steps // 10}}})


def _last_with(documents: Sequence[Document], path: tuple[str, ...]) -> Document | None:
    """The last document that sets a key; None if there is none."""
    return next((found for found in reversed(documents) if _value(found.data, path) is not None), None)


def _leaves(tree: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Every value of the tree with its path."""
    if isinstance(tree, (dict, list)):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(value, (*path, key))
    else:
        yield path, tree


def _setting(config: Config, path: KeyPath) -> Any:
    """The value of a key after validation."""
    value: Any = config
    for part in path:
        value = value[part] if isinstance(part, int) else getattr(value, part)
    return value


def _value(tree: Any, path: Sequence[str]) -> Any:
    """The value at a path; None if there is none."""
    for part in path:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if value is None and isinstance(old, dict):
            continue  # a group whose keys are all commented out
        result[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result
