"""Unicode normalization of texts, the same in training and in use."""

from __future__ import annotations

import unicodedata
from typing import Literal

Normalization = Literal["identity", "nfc", "nfkc"]


def normalize(text: str, normalization: Normalization) -> str:
    """Normalize a text: `nfc` composes letters and accents and makes any run of white space one space, `nfkc` is
    Unicode NFKC alone, `identity` changes nothing."""
    match normalization:
        case "nfc":
            return " ".join(unicodedata.normalize("NFC", text).split())
        case "nfkc":
            return unicodedata.normalize("NFKC", text)
        case "identity":
            return text
