"""Every third-party package that the source imports is declared in pyproject.toml."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions, requires
from pathlib import Path

import pytest

from seq2seq.extras import EXTRAS

ROOT = Path(__file__).parents[1]


def imported_packages() -> set[str]:
    """Top-level names of the absolute imports below src, without the standard library."""
    names = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"seq2seq"}


def normalized(requirement: str) -> str:
    """Name of a distribution in the form of PEP 503, without versions and extras."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()  # type: ignore[index]


def declared_packages() -> set[str]:
    """Packages that pyproject.toml names for users."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11 and later
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return {
        normalized(text)
        for text in [
            *project["dependencies"],
            *(text for name in EXTRAS for text in extras[name]),
        ]
    }


def test_imported_packages_are_declared() -> None:
    """typing_extensions and llvmlite came along with other packages, and could have gone with them."""
    declared = declared_packages()
    distributions = packages_distributions()
    packages = imported_packages()
    assert {"torch", "ruamel", "PIL"} <= packages
    undeclared = {name for name in packages if declared.isdisjoint(map(normalized, distributions.get(name, [name])))}
    assert undeclared == set()


def licence(package: str) -> str:
    """What a distribution says of its licence, in as few words as it says it in."""
    facts = metadata(package)
    classifiers = [line for line in facts.get_all("Classifier") or [] if line.startswith("License")]
    return facts.get("License-Expression") or " ".join(classifiers) or (facts.get("License") or "")[:80]


def test_licences_are_listed_and_permissive() -> None:
    """Of all packages that come with ours; those whose markers exclude this system are not installed."""
    declared = declared_packages()
    listed = {normalized(name) for name in re.findall(r"[\w.-]+", (ROOT / "CONTRIBUTING.md").read_text())}
    assert declared - listed == set()
    found: dict[str, str] = {}
    waiting = sorted(declared)
    while waiting:
        package = waiting.pop()
        if package in found:
            continue
        try:
            found[package] = licence(package)
        except PackageNotFoundError:
            continue
        waiting += [normalized(text) for text in requires(package) or [] if "extra ==" not in text]
    assert {"torch", "pillow", "pandas"} <= set(found)
    copyleft = {name: text for name, text in found.items() if re.search(r"(?<!L)GPL|Affero|SSPL", text)}
    assert copyleft == {}
