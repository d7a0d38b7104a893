"""Exports need libraries that are extras of the package; a run of some seconds is exported by several tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seq2seq.config import ModelSettings
from seq2seq.export.ctranslate2 import export_ctranslate2
from seq2seq.export.engine import CTranslate2Engine
from seq2seq.export.folder import Trained, open_export
from seq2seq.tokenizers.pair import TokenizerPair
from tests.export.models import tokenizers, trained

Exported = tuple[Trained, CTranslate2Engine]


@pytest.fixture(scope="session")
def joint() -> TokenizerPair:
    return tokenizers()


@pytest.fixture
def exported(tmp_path: Path, joint: TokenizerPair) -> Callable[..., Exported]:
    """A model of these settings, exported for CTranslate2 and loaded again."""
    pytest.importorskip("ctranslate2")

    def make(settings: ModelSettings, pair: TokenizerPair = joint, **changes: Any) -> Exported:
        subject = trained(settings, pair, tmp_path, **changes)
        export_ctranslate2(subject, tmp_path / "export", sentences=5)
        return subject, CTranslate2Engine(open_export(tmp_path / "export"))

    return make
