"""Target tags of multilingual models: a token before each source text that names the language to translate into
(Johnson et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from seq2seq.errors import UsageError
from seq2seq.fixed_text import is_blank
from seq2seq.tags import TARGET_TAG, language_of, target_tag


class TargetTags(NamedTuple):
    """The target tags that a model knows."""

    tags: tuple[str, ...]
    """Such as `<2de>`; none for a model of one target language."""
    required: bool = False
    """Whether the model was trained with a tag before every text. Without one it chooses a language itself."""

    def split(self, text: str) -> tuple[str, str]:
        """The tag at the beginning of a text and a space, or an empty string; and the text without it."""
        if not self.tags or (found := TARGET_TAG.match(text)) is None or found[0] not in self.tags:
            return "", text
        return f"{found[0]} ", text[found.end() :].removeprefix(" ")

    def language(self, text: str) -> str:
        """The language that the tag of a text names, `de`; empty for a text without a tag."""
        return language_of(self.split(text)[0].rstrip())

    def add(self, texts: Iterable[str], language: str | None, option: str) -> Iterator[str]:
        """The texts with the tag of a language before each that has none yet. Blank texts stay blank.

        Args:
            texts: source texts.
            language: target language, `de`; None for texts that have their tags, or need none.
            option: name of the option or argument for the language, for messages.

        Raises:
            UsageError: the model does not know the language, or a text has no tag where all need one.
        """
        symbol = ""
        if language is not None:
            symbol = f"{self.symbol(language, option)} "
        return self._added(texts, symbol, option)

    def _added(self, texts: Iterable[str], symbol: str, option: str) -> Iterator[str]:
        for text in texts:
            if not text:
                yield text
            elif self.tags and (found := TARGET_TAG.match(text)):
                self.symbol(language_of(found[0]), option)
                yield text
            elif is_blank(text):
                yield text
            elif self.required and not symbol:
                raise UsageError(
                    f"the run translates into several languages: {option} is missing",
                    where=option,
                    hint=f"one of its tags: {self.names()}",
                    code="search.target-tag",
                )
            else:
                yield symbol + text

    def symbol(self, language: str, option: str) -> str:
        """The tag of a language. Raises `UsageError` if the model does not know it."""
        if (tag := target_tag(language)) in self.tags:
            return tag
        raise UsageError(
            f"the run knows no target tag {language}",
            where=option,
            hint=f"its tags: {self.names()}" if self.tags else "it was trained without target_tag: leave it out",
            code="search.target-tag",
        )

    def names(self) -> str:
        """The languages, separated by commas."""
        return ", ".join(map(language_of, self.tags))
