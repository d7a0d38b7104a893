"""Where parallel text comes from: one class for each form, told apart by its first key."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

from pydantic import Discriminator, Tag

from seq2seq.config.base import Settings


class TextSource(Settings):
    """Two plain text files (also .gz, .xz) with one sentence a line; line i of one translates line i of the other."""

    source: str
    """File of the source side."""
    target: str
    """File of the target side."""


class TsvSource(Settings):
    """One file (also .gz, .xz) with tab-separated columns. A header is needed only where columns go by name."""

    tsv: str
    """The file."""
    source: int | str = 0
    """Column of the source side: a number from 0, or a name in the header line."""
    target: int | str = 1
    """Column of the target side."""


class JsonlSource(Settings):
    """One file (also .gz, .xz) with a JSON object a line."""

    jsonl: str
    """The file."""
    source: str
    """Key of the source side; dots reach inside, as in `translation.en`."""
    target: str
    """Key of the target side."""


class HubSource(Settings):
    """A dataset of the Hugging Face hub, fetched once and kept in the cache."""

    hub: str
    """Dataset id, e.g. `bentrevett/multi30k`."""
    config: str | None = None
    """Configuration of the dataset, e.g. `de-en`."""
    split: str = "train"
    """Split of the dataset."""
    revision: str | None = None
    """Commit, tag or branch; the commit that was used is recorded in the run."""
    source: str
    """Column of the source side, e.g. `en`; found inside a nested `translation` column too."""
    target: str
    """Column of the target side."""


class BuiltinSource(Settings):
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
