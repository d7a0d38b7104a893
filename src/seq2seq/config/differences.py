"""Differences between two configs, setting by setting, as YAML, and between the options of two commands."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import zip_longest
from typing import Any

from seq2seq.config.settings import Config
from seq2seq.config.yaml import write_yaml
from seq2seq.errors import UsageError
from seq2seq.sanitize import shorten

_ABSENT = object()


def differences(before: Config, after: Config) -> Iterator[tuple[str, str, str]]:
    """Key, old value and new value of every setting that differs, the values as YAML.

    Items of a list of groups are numbered from 0, as in `data.train.0.target`; a group that only one config has is
    one difference.
    """
    for key, old, new in leaves(before.model_dump(mode="json"), after.model_dump(mode="json")):
        yield key, as_yaml(old), as_yaml(new)


def changed_settings(config: Config) -> list[str]:
    """`key: value` of every setting that differs from its default, and the kind of the model."""
    default = Config(model=type(config.model)()).model_dump(mode="json")
    default["model"]["kind"] = None
    changed = leaves(default, config.model_dump(mode="json"))
    return [f"{key}: {as_yaml(value, sys.maxsize)}" for key, _, value in changed]


def require_same_options(
    before: Mapping[str, Any], now: Mapping[str, Any], *, what: str, where: str, otherwise: str
) -> None:
    """Raise `UsageError` if options have changed since `what`; `otherwise` is the remedy that keeps the new ones."""
    names = dict.fromkeys([*before, *now])
    if changed := [name for name in names if before.get(name) != now.get(name)]:
        raise UsageError(
            f"{what} with different options: "
            + "; ".join(_change(name, before.get(name), now.get(name)) for name in changed),
            where=where,
            hint=f"use the same options, or {otherwise}",
            code="usage.resume",
        )


def _change(name: str, before: Any, now: Any) -> str:
    change = f"{name}: {_given(before)} -> {_given(now)}"
    return f"{change} (another run, or another checkpoint of it)" if name == "weights" else change


def _given(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) and len(item) == 64 for item in value):
        value = ", ".join(item[:12] for item in value)  # SHA-256 of weights
    return "not given" if value is None else str(value)


def leaves(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Key, old value and new value of every difference between two trees of JSON; see `differences`."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            inner = f"{key}.{name}" if key else name
            yield from leaves(old.get(name, _ABSENT), new.get(name, _ABSENT), inner)
    elif isinstance(old, list) and isinstance(new, list) and all(isinstance(item, dict) for item in old + new):
        for place, (one, other) in enumerate(zip_longest(old, new, fillvalue=_ABSENT)):
            yield from leaves(one, other, f"{key}.{place}")
    else:
        yield key, old, new


def as_yaml(value: Any, limit: int = 80) -> str:
    """A value as YAML on one line, shortened if it is long."""
    if value is _ABSENT:
        return "not there"
    if isinstance(value, dict):
        value = {name: inner for name, inner in value.items() if inner is not None}
    return shorten(_one_line(value) if isinstance(value, (dict, list)) else _scalar(value), limit)


@lru_cache(maxsize=1000, typed=True)  # typed: 1 is equal to true
def _scalar(value: str | float | None) -> str:
    """YAML of a scalar, cached, since every report of a run asks for the same settings and YAML is slow to write."""
    return _one_line(value)


def _one_line(value: Any) -> str:
    return write_yaml(value, one_line=True).removesuffix("\n").removesuffix("\n...")
