"""The catalogue of errors and the places that raise them agree both ways."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from seq2seq import errors
from seq2seq.error_catalogue import CATALOGUE
from tests.cli.conftest import Runner

SOURCE = Path(errors.__file__).parent
FILES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}


class Site(NamedTuple):
    """A place that makes an error."""

    place: str
    kind: str
    code: ast.expr | None


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _kinds() -> dict[str, tuple[int, str]]:
    """Exit code and default code of `UserError` and of every class below it, wherever it is defined."""
    kinds = {"UserError": (errors.UserError.exit_code, "")}
    classes = [node for tree in FILES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while True:
        found = [
            node for node in classes if node.name not in kinds and any(_name(base) in kinds for base in node.bases)
        ]
        if not found:
            return kinds
        for node in found:
            exit_code, code = next(kinds[_name(base)] for base in node.bases if _name(base) in kinds)
            for line in node.body:
                if isinstance(line, ast.Assign) and _name(line.targets[0]) == "exit_code":
                    exit_code = ast.literal_eval(line.value)
            # `super().__init__(what, code="...")`
            calls = [call for call in ast.walk(node) if isinstance(call, ast.Call) and _name(call.func) == "__init__"]
            given = [word.value for call in calls for word in call.keywords if word.arg == "code"]
            kinds[node.name] = (exit_code, str(ast.literal_eval(given[0])) if given else code)


KINDS = _kinds()


def _sites() -> Iterator[Site]:
    for path, tree in FILES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _name(node.func) in KINDS:
                code = next((keyword.value for keyword in node.keywords if keyword.arg == "code"), None)
                yield Site(f"{path.relative_to(SOURCE)}:{node.lineno}", _name(node.func), code)


def test_every_error_has_a_code() -> None:
    """Without one the fault cannot be looked up, nor found by a search engine."""
    without = [site.place for site in _sites() if site.code is None and not KINDS[site.kind][1]]
    assert not without, 'add code="...", a key of src/seq2seq/error_catalogue.py'


def test_every_code_is_in_the_catalogue_with_the_exit_code_of_its_error() -> None:
    for site in _sites():
        code = site.code.value if isinstance(site.code, ast.Constant) else KINDS[site.kind][1]
        if code:  # an expression hands on the code of another error
            assert code in CATALOGUE, f"{site.place}: {code}"
            assert CATALOGUE[str(code)].exit_code == KINDS[site.kind][0], f"{site.place}: {code}"


def test_every_entry_of_the_catalogue_is_in_use() -> None:
    used = {
        node.value
        for path, tree in FILES.items()
        for node in ast.walk(tree)
        if path.name != "error_catalogue.py" and isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    printed = {word.strip("[]") for text in used for word in text.split() if word.startswith("[")}  # internal.bug
    assert CATALOGUE.keys() - used - printed == set()


def test_entries_say_something() -> None:
    for code, entry in CATALOGUE.items():
        assert code.islower()
        assert "." in code
        assert entry.exit_code in range(1, 9)
        assert entry.cause.endswith(".")
        assert 3 < len(entry.remedy) < 100
        assert entry.remedy.endswith(".")


def test_help_errors_prints_the_catalogue(seq2seq: Runner) -> None:
    everything = seq2seq("help", "errors")
    assert everything.code == 0
    for code, entry in CATALOGUE.items():
        assert f"{code}  (exit code {entry.exit_code})" in everything.out
    one = seq2seq("help", "errors", "[config.unknown-key]").out  # as it is copied from a message
    assert one.count("(exit code") == 1
    assert "Remedy: " in one
    assert seq2seq("help", "errors", "tokenizer").out.count("(exit code") >= 3
    parsed = json.loads(seq2seq("help", "errors", "--json").out)
    assert parsed.keys() == CATALOGUE.keys()


@pytest.mark.parametrize(
    ("code", "hint"), [("config.unknown-ky", "config.unknown-key"), ("zzz", "seq2seq help errors")]
)
def test_an_unknown_code_is_told(code: str, hint: str, seq2seq: Runner) -> None:
    outcome = seq2seq("help", "errors", code)
    assert outcome.code == 2
    assert hint in outcome.err
    assert outcome.err.splitlines()[0].endswith("[usage.code]")


def test_the_code_stands_at_the_end_of_the_first_line() -> None:
    error = errors.DataError("none is left\nfilter  pairs", where="a:1", hint="b", code="data.nothing-left")
    assert error.report() == "none is left  [data.nothing-left]\nfilter  pairs\n  --> a:1\n  hint: b"
    assert str(error) == "none is left\nfilter  pairs\n  --> a:1\n  hint: b"
