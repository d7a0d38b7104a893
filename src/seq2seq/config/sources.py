"""Where parallel text comes from: one class for each form, told apart by its first key."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag

from seq2seq.config.base import Settings

Name = Annotated[str, Field(min_length=1)]


class SourceSettings(Settings):
    """What every form of source may say."""

    weight: float = Field(1.0, gt=0)
    """How much more (or less) often than its size says a training corpus is drawn from."""
    target_tag: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]+$")
    """Put `<2TAG>` before every source text, so that one model can write several languages (Johnson et al. 2017)."""


class TextSource(SourceSettings):
    """Two plain text files (also .gz, .xz) with one sentence a line; line i of one translates line i of the other."""

    source: Name
    """File of the source side."""
    target: Name
    """File of the target side."""


class TsvSource(SourceSettings):
    """One file (also .gz, .xz) with tab-separated columns. A header is needed only where columns go by name."""

    tsv: Name
    """The file."""
    source: Annotated[int, Field(ge=0)] | Name = 0
    """Column of the source side: a number from 0, or a name in the header line."""
    target: Annotated[int, Field(ge=0)] | Name = 1
    """Column of the target side."""


class JsonlSource(SourceSettings):
    """One file (also .gz, .xz) with a JSON object a line."""

    jsonl: Name
    """The file."""
    source: Name
    """Key of the source side; dots reach inside, as in `translation.en`."""
    target: Name
    """Key of the target side."""


class HubSource(SourceSettings):
    """A dataset of the Hugging Face hub, fetched once and kept in the cache."""

    hub: Name
    """Dataset id, e.g. `bentrevett/multi30k`."""
    config: str | None = None
    """Configuration of the dataset, e.g. `de-en`."""
    split: str = "train"
    """Split of the dataset."""
    revision: str | None = None
    """Commit, tag or branch; the commit that was used is recorded in the run."""
    source: Name
    """Column of the source side, e.g. `en`; found inside a nested `translation` column too."""
    target: Name
    """Column of the target side."""


class BuiltinSource(SourceSettings):
    """A task that the package carries."""

    builtin: Literal["demo", "names"]
    """`demo`: everyday sentences, English to German; `names`: a name to its language."""
    split: Literal["train", "valid", "test"] = "train"
    """Split of the task."""
    reverse: bool = False
    """Swap the sides: German to English, or a language to its names."""


_FORMS = ("tsv", "jsonl", "hub", "builtin")


def _form(value: Any) -> str:
    """The form of a source as written in a config (a mapping) or as built in Python (a model)."""
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
