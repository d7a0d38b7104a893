"""YAML parser that returns plain data and the line of every key.

ruamel.yaml resolves scalars as YAML 1.2 does: `1e-4` is a number and `no` (Norwegian) is text, which PyYAML reads as
text and as False. What it leaves open is decided here: a repeated key is an error, keys and dates are text, and aliases
may not unfold without end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import StringIO
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from seq2seq.errors import ConfigError

KeyPath = tuple[str | int, ...]

# An unquoted word that YAML would misread because of its first character; quoted text is skipped.
_SPECIAL_WORD = re.compile(r"""("[^"]*"|'[^']*')|(?<![^\s\[,{])[*&@`][^\s,\]}]*?(?=:?(?:[\s,\]}]|$))""")
_STANDARD_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {_STANDARD_TAG + name for name in ("str", "timestamp", "merge", "value")}
_TAGS = _TEXT_TAGS | {_STANDARD_TAG + name for name in ("map", "seq", "int", "float", "bool", "null")}
_MAX_DEPTH = 50
_MAX_VALUES = 100_000
_LEVELS = "a config has four levels at most"


class Document(NamedTuple):
    """The content of one file or of one command-line setting."""

    name: str
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    def place(self, path: KeyPath) -> str | None:
        """`file:line` of a key, or of the nearest group around it; None if the document sets neither."""
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
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False
    reader = _Reader(name, yaml)
    try:
        node = yaml.compose(text)
        data = {} if node is None else reader.read(node, ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        line = "".join(text.splitlines()[mark.line : mark.line + 1]) if mark else ""
        hint = _syntax_hint(str(error), line)
        raise ConfigError(f"not valid YAML: {error.problem}", where=where, hint=hint, code="config.syntax") from None
    except ReaderError as error:
        where = f"{name}:{text.count(chr(10), 0, error.position) + 1}"
        what = f"not valid YAML: the character U+{error.character:04X}"
        raise ConfigError(what, where=where, hint="remove it; is this a text file?", code="config.syntax") from None
    except YAMLError as error:
        what = f"not valid YAML: {error}".splitlines()[0]
        raise ConfigError(what, where=name, hint="check indentation and colons", code="config.syntax") from None
    except RecursionError:
        raise ConfigError("not valid YAML: too many levels", where=name, hint=_LEVELS, code="config.syntax") from None
    if not isinstance(data, dict):
        what = "a config is a mapping of keys to values"
        raise ConfigError(what, where=f"{name}:1", hint=_mapping_hint(text, name), code="config.syntax")
    return Document(name, data, reader.lines)


def read_value(text: str, name: str) -> Any:
    """Parse the right-hand side of `key=value` as YAML; `name` is the complete setting, for messages."""
    try:
        return read_yaml(f"value: {text}", name).data["value"]
    except ConfigError as error:
        quoted = _with_quotes(text)
        if quoted == text:
            raise
        setting = name.removesuffix(text) + quoted
        if "'" not in setting:
            setting = f"'{setting}'"  # for the shell, which would remove the inner quotes
        raise ConfigError(error.what, where=error.where, hint=f"quote it: {setting}", code=error.code) from None


def write_yaml(value: Any, *, one_line: bool = False) -> str:
    """YAML text of plain data, keys in their order; `one_line` writes lists and groups in brackets."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = one_line
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 2**31 if one_line else 110
    stream = StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()


def add_comments(text: str, comments: Mapping[str, str]) -> str:
    """Text of `write_yaml` with comments at the end of lines, by dotted key, one below the other."""
    lines, found = text.splitlines(), {}
    path: list[str] = []
    for number, line in enumerate(lines):
        if match := re.match(r"((?:  )*)(\w+):", line):
            path = [*path[: len(match[1]) // 2], match[2]]
            if comment := comments.get(".".join(path)):
                found[number] = comment
    width = max((len(lines[number]) for number in found), default=0)
    for number, comment in found.items():
        lines[number] = f"{lines[number]:<{width}}  # {comment}"
    return "".join(line + "\n" for line in lines)


class _Reader:
    """Converts YAML nodes to plain data and notes the lines of keys."""

    def __init__(self, name: str, yaml: YAML) -> None:
        self.name, self.yaml = name, yaml
        self.lines: dict[KeyPath, int] = {}
        self._values = 0

    def read(self, node: Node, path: KeyPath) -> Any:
        """The data of a node. Aliases that unfold without end, or to too much, are refused."""
        self._values += 1
        if len(path) > _MAX_DEPTH:
            raise self._error(f"more than {_MAX_DEPTH} levels, or a group that holds itself", node, _LEVELS)
        if self._values > _MAX_VALUES:
            raise self._error(f"more than {_MAX_VALUES:,} values", node, "write out what aliases (*) repeat")
        if node.tag not in _TAGS:
            tag = str(node.tag).replace(_STANDARD_TAG, "!!")
            raise self._error(f"a config has no tags such as {tag}", node, "remove what begins with !")
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            places = [(*path, index) for index in range(len(node.value))]
            for place, item in zip(places, node.value, strict=True):
                self.lines[place] = item.start_mark.line + 1
            return [self.read(item, place) for place, item in zip(places, node.value, strict=True)]
        if node.tag in _TEXT_TAGS:
            return node.value
        try:
            return self.yaml.constructor.construct_object(node)
        except (ValueError, LookupError):  # -_ and !!int x are no numbers, and Python converts no 5,000 digits
            return node.value

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode) or not key_node.value:
                raise self._error("a key must be a plain word", key_node, "write `key: value`, without ? or brackets")
            key = str(key_node.value)
            here = (*path, key)
            if key in result:
                what = f"key `{key}` is given twice (first on line {self.lines[here]})"
                raise self._error(what, key_node, "remove one of the two", code="config.duplicate-key")
            self.lines[here] = key_node.start_mark.line + 1
            result[key] = self.read(value_node, here)
        return result

    def _error(self, what: str, node: Node, hint: str, code: str = "config.syntax") -> ConfigError:
        return ConfigError(what, where=f"{self.name}:{node.start_mark.line + 1}", hint=hint, code=code)


def _syntax_hint(problem: str, line: str) -> str:
    """Hint for a line that is not YAML."""
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


def _mapping_hint(text: str, name: str) -> str:
    """Hint for a file whose top level is not a mapping."""
    first = next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    if match := re.match(r"([A-Za-z_][\w.]*)\s*(?:=|：|:(?! ))\s*(\S.*)", first):
        return f"write `key: value` lines, with a space after the colon: {match[1]}: {match[2]}"
    if not name.endswith((".yaml", ".yml")):
        return "is this a config (`key: value` lines)? For two text files: seq2seq train --source FILE --target FILE"
    return "write `key: value` lines"


def _with_quotes(text: str) -> str:
    """The text with quotes around words such as `*` and `*embedding*`."""
    return _SPECIAL_WORD.sub(lambda found: found[0] if found[1] else f'"{found[0]}"', text)
