"""Text that is the same in every language: URLs, e-mail addresses, placeholders, tags, numbers, blank text."""

from __future__ import annotations

import re
import unicodedata

from seq2seq.languages import WITHOUT_SPACES

# Chinese, Japanese, Thai and others write no space between a URL and the word after it, Korean none before a particle.
_ATTACHED = rf"{WITHOUT_SPACES}\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7fb"
_WIDE_SIGNS = r"\u3001-\u3004\u3008-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
MARKS = "".join(chr(code) for code in range(0x300, 0x1D00) if unicodedata.category(chr(code))[0] == "M")
"""Combining marks, which are no `\\w` to regular expressions."""
_MAIL = r"0-9A-Za-z_\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u0370-\u0373\u0388-\u0481\u048a-\u052f-"
"""Latin, Greek and Cyrillic letters, digits, `_` and `-`."""
_SEPARATORS = r".,:/\u066b\u066c\uff0c\uff0e\uff1a\uff0f-"
"""Signs within numbers, also those of Arabic and full-width ones."""
_KINDS = {
    # Such letters belong to a URL at the beginning of a part: `/wiki/東京`.
    "urls": rf"(?:(?:https?|ftps?|file)://|www\.)(?:[^\s<>\"{_ATTACHED}{_WIDE_SIGNS}]|(?<=[/=#?&_])[{_ATTACHED}{MARKS}]+)+"
    rf"(?<=[\w/#=&%~{MARKS}-])",
    # Bounded as by RFC 5321: a long word would take quadratic time.
    "emails": rf"[.+{_MAIL}]{{1,64}}@[{_MAIL}]{{1,63}}(?:\.[{_MAIL}]{{1,63}})+",
    # {name}, {{ name }}, ${name}, {0:.2f}; %s, %d, %5.2f, %(name)s, %1$s, %lu, %@
    "placeholders": r"\$?\{[^{}\s]*\}|\{\{[^{}]*\}\}|%(?:\(\w+\)|\d+\$)?[-+0#]*\d*(?:\.\d+)?"
    r"(?:@|(?:hh?|ll?|[qzjt])?[sdiufgexXrc](?![A-Za-z0-9_\u00c0-\u024f]))",
    "tags": r"</?[A-Za-z][\w:-]*(?:\s[^<>]*)?/?>",
    # At least two digits: a model may well write a single one as a word.
    "numbers": rf"\+\d+(?:[ {_SEPARATORS}]\d+)*|\d+(?:[{_SEPARATORS}]\d+)+|\d{{2,}}",
}
FIXED_TEXT = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items()))
"""Each group is named for its kind; these are values of `decoding.keep`."""

# A visible character: not white space, a control character, or a zero-width one (U+200B, U+FEFF, soft hyphen, ...).
_INK = re.compile(
    "[^\\s\\x00-\\x1f\\x7f-\\x9f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f"
    "\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff9-\\ufffb"
    "\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a\\U000e0000-\\U000e0fff]"
)


def is_blank(text: str) -> bool:
    """Whether a text has no visible character: spaces, control characters (NUL too) and zero-width marks only."""
    return _INK.search(text) is None


def has_letter(text: str) -> bool:
    """Whether a text has a letter outside of URLs, numbers and other text that a translation keeps."""
    return any(unicodedata.category(character)[0] == "L" for character in FIXED_TEXT.sub(" ", text))
