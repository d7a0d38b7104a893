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
_SPECIAL_WORD = re.compile(r"""("[^"]*"|'[^']*')|(?<![^\s\[,{])[*&@`][^\s,\]}]*?(?=:?(?:[\s,\]}]|$))""")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str")} | {"!"}
_DEEPEST = 50
_LEVELS = "a config has four levels at most"
_MOST_VALUES = 100_000
_LONGEST_NUMBER = 40


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
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        reading = _Reading(name)
        data = {} if node is None else reading.plain(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        line = "".join(text.splitlines()[mark.line : mark.line + 1]) if mark else ""
        hint = _how_to_mend(str(error), line)
        raise ConfigError(f"not valid YAML: {error.problem}", where=where, hint=hint, code="config.syntax") from None
    except yaml.reader.ReaderError as error:
        line_number = text.count("\n", 0, error.position) + 1
        what = f"not valid YAML: the character U+{_code_point(error.character):04X}"
        hint = "remove it; is this a text file?"
        raise ConfigError(what, where=f"{name}:{line_number}", hint=hint, code="config.syntax") from None
    except yaml.YAMLError as error:
        what = f"not valid YAML: {error}".splitlines()[0]
        raise ConfigError(what, where=name, hint="check indentation and colons", code="config.syntax") from None
    except RecursionError:
        raise ConfigError("not valid YAML: too many levels", where=name, hint=_LEVELS, code="config.syntax") from None
    if not isinstance(data, dict):
        what = "a config is a mapping of keys to values"
        raise ConfigError(what, where=f"{name}:1", hint=_how_to_map(text, name), code="config.syntax")
    return Document(name, data, reading.lines)


def _code_point(character: str | int) -> int:
    return character if isinstance(character, int) else ord(character)


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _how_to_mend(problem: str, line: str) -> str:
    """What to change in a line that is not YAML."""
    if "\\t" in problem:
        return "tabs cannot indent YAML; use spaces"
    if (quoted := _with_quotes(line)) != line:
        return f"quote it: {quoted.strip()}"
    if "another document" in problem:
        return "a config is one document: remove the line ---"
    if "mapping values are not allowed" in problem:
        return "one `key: value` a line, the keys of a group indented alike; quote text that holds a colon and a space"
    if "end of stream" in problem or "expected ',' or" in problem:
        return "close the bracket or the quote that is open; check indentation and colons"
    return "check indentation and colons"


def _how_to_map(text: str, name: str) -> str:
    """What to write where the whole is not `key: value`."""
    first = next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    if found := re.match(r"([A-Za-z_][\w.]*)\s*(?:=|：|:(?! ))\s*(\S.*)", first):
        return f"write `key: value` lines, with a space after the colon: {found[1]}: {found[2]}"
    if not name.endswith((".yaml", ".yml")):
        return "is this a config (`key: value` lines)? For two text files: seq2seq train --source FILE --target FILE"
    return "write `key: value` lines"


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
        raise ConfigError(error.what, where=error.where, hint=f"quote it: {setting}", code=error.code) from None


def _with_quotes(text: str) -> str:
    """The text with quotes around words such as `*` and `*embedding*`."""
    return _SPECIAL_WORD.sub(lambda found: found[0] if found[1] else f'"{found[0]}"', text)


class _Reading:
    """From the nodes of YAML to plain data, noting lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Path, int] = {}
        self._values = 0

    def plain(self, node: yaml.Node, path: Path) -> Any:
        """The data of a node. Aliases that would unfold without end, or to too much, are refused."""
        self._values += 1
        line = node.start_mark.line + 1
        if len(path) > _DEEPEST:
            raise self._error(f"more than {_DEEPEST} levels, or a group that holds itself", line, _LEVELS)
        if self._values > _MOST_VALUES:
            raise self._error(f"more than {_MOST_VALUES:,} values", line, "write out what aliases (*) repeat")
        if node.tag not in _TAGS:
            raise self._error(f"a config knows no tags such as {_short(node.tag)}", line, "remove what begins with !")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            places = [(*path, index) for index in range(len(node.value))]
            self.lines |= {place: child.start_mark.line + 1 for place, child in zip(places, node.value, strict=True)}
            return [self.plain(child, place) for place, child in zip(places, node.value, strict=True)]
        return _scalar(str(node.value), quoted=getattr(node, "style", None) is not None)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error("a key must be a plain word", line, "write `key: value`, without ? or brackets")
            key = str(key_node.value)
            here = (*path, key)
            if key in result:
                what = f"key `{key}` is given twice (first on line {self.lines[here]})"
                raise ConfigError(
                    what, where=f"{self.name}:{line}", hint="remove one of the two", code="config.duplicate-key"
                )
            self.lines[here] = line
            result[key] = self.plain(value_node, here)
        return result

    def _error(self, what: str, line: int, hint: str) -> ConfigError:
        return ConfigError(what, where=f"{self.name}:{line}", hint=hint, code="config.syntax")


def _scalar(text: str, *, quoted: bool) -> Any:
    if quoted:
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text) and len(text) <= _LONGEST_NUMBER:
        return int(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    return text
