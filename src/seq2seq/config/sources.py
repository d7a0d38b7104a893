"""Sources of parallel text: one class for each form, recognized by its first key."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag

from seq2seq.config.base import Settings

Name = Annotated[str, Field(min_length=1)]


class SourceSettings(Settings):
    """Settings of every source."""

    weight: float = Field(1.0, gt=0)
    """Relative sampling rate of a training corpus; 2 draws from it twice as often as its size implies."""
    target_tag: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]+$")
    """Put `<2TAG>` before each source text, for one model with several target languages (Johnson et al. 2017)."""


class TextSource(SourceSettings):
    """Two text files (also .gz, .xz, .bz2) with one sentence per line; line i of one translates line i of the other."""

    source: Name
    """File of the source side."""
    target: Name
    """File of the target side."""


class TsvSource(SourceSettings):
    """One file (also .gz, .xz, .bz2) with tab-separated columns. Columns given by name need a header."""

    tsv: Name
    """The file."""
    source: Annotated[int, Field(ge=0)] | Name = 0
    """Column of the source side: a number from 0, or a name in the header line."""
    target: Annotated[int, Field(ge=0)] | Name = 1
    """Column of the target side."""


class JsonlSource(SourceSettings):
    """One file (also .gz, .xz, .bz2) with one JSON object per line."""

    jsonl: Name
    """The file."""
    source: Name
    """Key of the source side; dots reach inside, as in `translation.en`."""
    target: Name
    """Key of the target side."""


class HubSource(SourceSettings):
    """A dataset of the Hugging Face hub, downloaded once and cached."""

    hub: Name
    """Dataset id, e.g. `bentrevett/multi30k`."""
    config: str | None = None
    """Configuration of the dataset, e.g. `de-en`."""
    split: str = "train"
    """Split of the dataset."""
    revision: str | None = None
    """Commit, tag or branch; the commit that was used is recorded in the run."""
    source: Name
    """Column of the source side, e.g. `en`; also inside a nested `translation` column."""
    target: Name
    """Column of the target side."""


class BuiltinSource(SourceSettings):
    """A task that is part of the package."""

    builtin: Literal["demo", "names"]
    """`demo`: everyday sentences, English to German; `names`: a name to its language."""
    split: Literal["train", "valid", "test"] = "train"
    """Split of the task."""
    reverse: bool = False
    """Swap the sides: German to English, or a language to its names."""


_FORMS = ("tsv", "jsonl", "hub", "builtin")


def _form(value: Any) -> str:
    """Form of a source, given as a mapping (in a config) or as a model (in Python)."""
    for form in _FORMS:
        if (form in value) if isinstance(value, dict) else hasattr(value, form):
            return form
    return "text"


Source = Annotated[
    Union[  # noqa: UP007
        Annotated[TextSource, Tag("text")],
        Annotated[TsvSource, Tag("tsv")],
        Annotated[JsonlSource, Tag("jsonl")],
        Annotated[HubSource, Tag("hub")],
        Annotated[BuiltinSource, Tag("builtin")],
    ],
    Discriminator(_form),
]
