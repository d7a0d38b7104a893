"""YAML in, plain data and the line of every key out.

PyYAML's own resolution has traps: `1e-4` is a string, `no` (Norwegian) is False, and the last of two equal keys wins.
Here scalars follow the YAML 1.2 core schema and a repeated key is an error.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from seq2seq.errors import ConfigError

Path = tuple[str | int, ...]

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9][0-9_]*")
# A plain word that YAML takes for something else by its first character; quoted text is passed over.
_SPECIAL_WORD = re.compile(r"""("[^"]*"|'[^']*')|(?<![^\s\[,{])[*&@%`][^\s,\]}]*""")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class Document(NamedTuple):
    """The content of one file or of one command-line setting."""

    name: str
    data: dict[str, Any]
    lines: dict[Path, int]

    def place(self, path: Path) -> str | None:
        """`file:line` of a key, or of the nearest group around it, where this document says something of it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                line = self.lines[path[:length]]
                return f"{self.name}:{line}" if line else self.name
        return None


def read_yaml(text: str, name: str) -> Document:
    """Parse one YAML document whose top level is a mapping.

    Raises:
        ConfigError: not YAML, a repeated key, or no mapping at the top; names file and line.
    """
    lines: dict[Path, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        line = "".join(text.splitlines()[mark.line : mark.line + 1]) if mark else ""
        hint = "check indentation and colons"
        if "\\t" in str(error):
            hint = "tabs cannot indent YAML; use spaces"
        elif (quoted := _with_quotes(line)) != line:
            hint = f"quote it: {quoted.strip()}"
        raise ConfigError(f"not valid YAML: {error.problem}", where=where, hint=hint) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}".splitlines()[0], where=name) from None
    data = {} if node is None else _plain(node, (), lines, name)
    if not isinstance(data, dict):
        raise ConfigError("a config is a mapping of keys to values", where=f"{name}:1", hint="write `key: value` lines")
    return Document(name, data, lines)


def read_value(text: str, name: str) -> Any:
    """Parse the right-hand side of `key=value` as YAML; `name` is the whole of it, for messages."""
    try:
        return read_yaml(f"value: {text}", name).data["value"]
    except ConfigError as error:
        quoted = _with_quotes(text)
        if quoted == text:
            raise
        setting = name.removesuffix(text) + quoted
        if "'" not in setting:
            setting = f"'{setting}'"  # for the shell, which would take the inner quotes away
        raise ConfigError(error.what, where=error.where, hint=f"quote it: {setting}") from None


def _with_quotes(text: str) -> str:
    """The text with quotes around words such as `*` and `*embedding*`."""
    return _SPECIAL_WORD.sub(lambda found: found[0] if found[1] else f'"{found[0]}"', text)


def _plain(node: yaml.Node, path: Path, lines: dict[Path, int], name: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError("a key must be a plain word", where=f"{name}:{line}")
            key = str(key_node.value)
            here = (*path, key)
            if key in result:
                first = lines[here]
                raise ConfigError(f"key `{key}` is given twice (first on line {first})", where=f"{name}:{line}")
            lines[here] = line
            result[key] = _plain(value_node, here, lines, name)
        return result
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, child in enumerate(node.value):
            place = (*path, index)
            lines[place] = child.start_mark.line + 1
            items.append(_plain(child, place, lines, name))
        return items
    return _scalar(str(node.value), quoted=getattr(node, "style", None) is not None)


def _scalar(text: str, *, quoted: bool) -> Any:
    if quoted:
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    return text
