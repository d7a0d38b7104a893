"""Text that is shown, logged or stored: secrets become `***`, control characters are escaped, long text is cut."""

from __future__ import annotations

import os
import re
from functools import cache

_SECRET_NAME = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|(API|ACCESS|PRIVATE)_?KEY)(?!.*_(PATH|FILE|DIR|DIRECTORY)$)(_|$)",
    re.IGNORECASE,
)
_SHORTEST = 8
"""Shorter values, such as that of NO_TOKEN=1, are not secrets and would be cut out of every text."""
_VALUE = r"[^\s&;'\",}\])`]+"
_NAMES = r"token|password|passwd|secret|signature|credential|api[_-]?key|access[_-]?key"
_NAMES_IN_QUERIES = r"sig|key|auth|pass|pwd"
"""Names that mean something else outside the query of a URL."""

_TOKENS = (
    r"(?:hf|api_org)_[A-Za-z0-9]{16,}",  # Hugging Face
    r"(?:gh[oprsu]|github_pat)_\w{16,}",  # GitHub
    r"glpat-[\w-]{16,}",  # GitLab
    r"(?:AKIA|ASIA)[0-9A-Z]{16}",  # Amazon
    r"AIza[\w-]{30,}",  # Google
    r"xox[abeprs]-[\w-]{10,}",  # Slack
    # OpenAI and others; `sk` is also the code of Slovak, as in sk-en.
    r"(?<![\w.-])sk-(?:(?:ant|admin|or-v1|proj|svcacct)-[\w-]{16,}|(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{20,}|[a-z]{32,})",
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+",  # JSON Web Token
)
_PATTERNS = (
    (re.compile(r"(?<=://)[^/?#\s'\"]+(?=@)"), "***"),  # https://user:password@host
    (re.compile(rf"\b(?:{'|'.join(_TOKENS)})"), "***"),
    (
        re.compile(
            r"((?:authorization|x-api-key|private-token)['\"]?: *['\"]?(?:[a-z]+ +)?)[^\s'\",}]+", re.IGNORECASE
        ),
        r"\1***",
    ),
    (re.compile(r"\b(bearer|basic) +[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), r"\1 ***"),
    (re.compile(rf"((?:\b|_|-)(?:{_NAMES})=){_VALUE}", re.IGNORECASE), r"\1***"),
    (re.compile(rf"([?&;](?:{_NAMES_IN_QUERIES})=){_VALUE}", re.IGNORECASE), r"\1***"),
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""C0 without tab and newline, C1, line separators, and overrides of the writing direction."""


def redact(text: str) -> str:
    """Redact the values of environment variables such as HF_TOKEN, passwords in URLs, and anything that looks like an
    access token."""
    for name in os.environ:
        if _is_secret(name) and len(value := os.environ.get(name, "")) >= _SHORTEST:
            text = text.replace(value, "***")
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


@cache
def _is_secret(name: str) -> bool:
    """Whether the variable of this name holds a secret. Every cell of a report asks this about every variable."""
    return _SECRET_NAME.search(name) is not None


def presentable(text: str) -> str:
    """Redact the secrets of a text for the terminal or a log, and escape its control characters.

    Names of files, texts of corpora and answers of servers could otherwise move the cursor, set the title of the
    window, or show a text in another order.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), redact(text))


def shorten(text: str, limit: int) -> str:
    """A text cut to at most `limit` characters, with three dots in place of the rest."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
