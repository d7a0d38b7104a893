"""Exports need libraries that are extras of the package; a run of some seconds is exported by several tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from seq2seq.config import TransformerSettings
from seq2seq.export.engine import CTranslate2Engine
from seq2seq.export.folder import Trained, open_export
from seq2seq.tokenizers.pair import TokenizerPair
from tests.export.models import to_ctranslate2, tokenizers, trained

Exported = tuple[Trained, CTranslate2Engine]


@pytest.fixture(scope="session")
def joint() -> TokenizerPair:
    return tokenizers()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, joint: TokenizerPair) -> Callable[..., Exported]:
    """A model of these settings, exported for CTranslate2 and loaded again; once for all tests that ask for it."""
    pytest.importorskip("ctranslate2")

    @cache
    def make(settings: str, pair: TokenizerPair) -> Exported:
        folder = tmp_path_factory.mktemp("exported")
        subject = trained(TransformerSettings.model_validate_json(settings), pair, folder)
        to_ctranslate2(subject, folder / "export", sentences=5)
        return subject, CTranslate2Engine(open_export(folder / "export"))

    return lambda settings, pair=joint: make(settings.model_dump_json(), pair)
