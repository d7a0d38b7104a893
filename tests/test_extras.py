"""The table of extras, and what is said of a missing one."""

from __future__ import annotations

import sys

import pytest

from seq2seq.errors import UsageError
from seq2seq.extras import EXTRAS, import_library
from tests.test_dependencies import ROOT, normalized


def test_the_table_is_that_of_the_package() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11 and later
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for of_developers in ("test", "dev"):
        del declared[of_developers]
    assert {extra: tuple(map(normalized, packages)) for extra, packages in declared.items()} == EXTRAS


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UsageError, match="uvicorn is not usable here") as error:
        import_library("uvicorn")
    assert error.value.hint is not None
    assert "'.[serve]'" in error.value.hint
    assert error.value.code == "export.library"
