"""Redaction of secrets in text that is shown, logged or stored: tokens and passwords become `***`."""

from __future__ import annotations

import os
import re

_SECRET_NAME = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|(API|ACCESS|PRIVATE)_?KEY)(?!.*_(PATH|FILE|DIR|DIRECTORY)$)(_|$)",
    re.IGNORECASE,
)
_SHORTEST = 8
"""Shorter values, such as that of NO_TOKEN=1, are not secrets and would be cut out of every text."""
_NAMED = re.compile(
    r"((?:\b|_|-)(?:token|password|passwd|secret|signature|api[_-]?key|access[_-]?key)=)[^\s&'\",}\])`]+", re.IGNORECASE
)
_PATTERNS = (
    (re.compile(r"(?<=://)[^/\s@'\"]+(?=@)"), "***"),  # https://user:password@host
    (re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}"), "***"),  # access tokens of the Hugging Face hub
    (re.compile(r"\b(bearer|basic) +[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), r"\1 ***"),
    (_NAMED, r"\1***"),  # also in the query of a URL
)


def redact(text: str) -> str:
    """Redact the values of environment variables such as HF_TOKEN, passwords in URLs, and anything that looks like an
    access token."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
