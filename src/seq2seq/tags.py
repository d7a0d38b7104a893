"""Tags before source texts: `<2de>` for the target language `de` (Johnson et al. 2017), then `<BT>` for text of the
training corpus `BT`, such as back-translations (Caswell et al. 2019)."""

from __future__ import annotations

import re

LANGUAGE = "[A-Za-z0-9_-]+"
"""Pattern of the language in a target tag."""

CORPUS = "[A-Z][A-Za-z0-9_-]*"
"""Pattern of the name in a corpus tag; it cannot be taken for an HTML tag or a special token such as `<s>`."""

TARGET_TAG = re.compile(f"<2{LANGUAGE}>")
CORPUS_TAG = re.compile(f"<{CORPUS}>")


def target_tag(language: str) -> str:
    """The tag of a target language."""
    return f"<2{language}>"


def corpus_tag(name: str | None) -> str:
    """The tag of a training corpus; empty for a corpus without one."""
    return f"<{name}>" if name else ""


def language_of(tag: str) -> str:
    """The language of a target tag; empty for an empty tag."""
    return tag[2:-1]
