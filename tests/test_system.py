"""The memory of generated code."""

from __future__ import annotations

import os

import pytest

from seq2seq.system import GENERATED_PRODUCTS, limit_generated_code


def test_a_user_s_number_of_kept_products_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    limit_generated_code()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    limit_generated_code()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == str(GENERATED_PRODUCTS)
