"""Text that is the same in every language: URLs, e-mail addresses, placeholders, tags, numbers."""

from __future__ import annotations

import re

_KINDS = {
    "urls": r"(?:(?:https?|ftps?|file)://|www\.)[^\s<>\"]*[\w/#=&%~-]",
    "emails": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    # {name}, {{ name }}, ${name}, {0:.2f}; %s, %d, %5.2f, %(name)s, %1$s
    "placeholders": r"\$?\{[^{}\s]*\}|\{\{[^{}]*\}\}|%(?:\(\w+\)|\d+\$)?[-+0#]*\d*(?:\.\d+)?[sdifgexXr](?!\w)",
    "tags": r"</?[A-Za-z][\w:-]*(?:\s[^<>]*)?/?>",
    # At least two digits: a model may well write a single one as a word.
    "numbers": r"\+\d+(?:[ .,:/-]\d+)*|\d+(?:[.,:/-]\d+)+|\d{2,}",
}
FIXED_TEXT = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items()))
"""Each group is named for its kind; these are values of `decoding.keep`."""

TARGET_TAG = re.compile("<2[A-Za-z0-9_-]+>")
"""The tag that chooses the target language, as `data.corpus` puts it before a source text."""
