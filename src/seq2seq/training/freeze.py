"""Frozen parameters, chosen by name patterns."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from seq2seq.errors import ConfigError


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Freeze the parameters whose names match one of the patterns (`*`, `?`, `[...]`); call it before the optimizer is
    built.

    A tied matrix is one parameter with several names, and freezing it by any of them freezes it everywhere.

    Returns:
        The names of the frozen parameters, each under its first name, in the model's order.

    Raises:
        ConfigError: a pattern matches nothing, or nothing is left to train.
    """
    every = list(model.named_parameters(remove_duplicate=False))
    names = list(dict.fromkeys(name for name, _ in every))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"training.freeze: {pattern} matches no parameter", hint=_near(pattern, names), code="config.freeze"
            )
    chosen = {id(parameter) for name, parameter in every if any(fnmatchcase(name, each) for each in patterns)}
    frozen = [name for name, parameter in model.named_parameters() if id(parameter) in chosen]
    if chosen and len(frozen) == len(list(model.parameters())):
        raise ConfigError(
            f"training.freeze: {', '.join(patterns)} freezes every parameter; nothing is left to train",
            hint="freeze a part, such as encoder.*",
            code="config.freeze",
        )
    for parameter in model.parameters():
        if id(parameter) in chosen:
            parameter.requires_grad_(False)
    return frozen


def _near(pattern: str, names: list[str]) -> str:
    """Parameter names near a pattern that matches nothing."""
    if any(name.startswith(pattern + ".") for name in names):
        return f"{pattern}.*"
    parts = sorted({name.split(".")[0] for name in names})
    bare = pattern.strip("*.")
    inside = [name for name in names if bare and bare.lower() in name.lower()]
    near = get_close_matches(pattern, names, n=3, cutoff=0.5) or inside[:3]
    near += [f"{part}.*" for part in get_close_matches(bare.split(".")[0], parts, n=2)]
    return f"near it: {', '.join(near)}" if near else f"parts of the model: {', '.join(f'{part}.*' for part in parts)}"
