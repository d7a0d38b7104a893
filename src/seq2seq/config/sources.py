"""Sources of parallel text: one class for each form, recognized by its first key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import Discriminator, Field, Tag, model_validator

from seq2seq.config.base import Settings
from seq2seq.tags import CORPUS, LANGUAGE

Name = Annotated[str, Field(min_length=1)]
Column = Annotated[int, Field(ge=0)] | Name
InlineTags = Literal["drop", "keep"]


class SourceSettings(Settings):
    """Settings of every source."""

    weight: float = Field(1.0, gt=0)
    """Relative sampling rate of a training corpus; 2 draws from it twice as often as its size implies."""
    target_tag: str | None = Field(None, pattern=f"^{LANGUAGE}$")
    """Put `<2TAG>` before each source text, for one model with several target languages (Johnson et al. 2017)."""
    tag: str | None = Field(None, pattern=f"^{CORPUS}$")
    """Put `<TAG>` before each source text of this training corpus, so that the model tells its text from other text:
    `BT` for back-translations (Caswell et al. 2019). Text to translate has no such tag, and none of the corpus's pairs
    is held out."""


class TextSource(SourceSettings):
    """Two text files (also .gz, .xz, .bz2, .zst), a sentence a line; line i of one translates line i of the other."""

    source: Name
    """File of the source side."""
    target: Name
    """File of the target side."""


class FileSource(SourceSettings):
    """Base of the sources with both sides in one file."""

    form: ClassVar[str]
    """Key that names the file."""

    @property
    def file(self) -> str:
        """Name of the file."""
        return str(getattr(self, self.form))


class TsvSource(FileSource):
    """One table (also compressed) with tab-separated columns. Quotation marks are text, unless the cells are plainly
    quoted as CSV does. A header row is recognized, and needed for columns given by name."""

    form = "tsv"
    tsv: Name
    """The file."""
    source: Column = 0
    """Column of the source side: a number from 0, or a name in the header row."""
    target: Column = 1
    """Column of the target side."""


class CsvSource(FileSource):
    """One table (also compressed) with quoted cells; the delimiter (comma, semicolon, tab, bar) and a header row are
    recognized."""

    form = "csv"
    csv: Name
    """The file."""
    source: Column = 0
    """Column of the source side: a number from 0, or a name in the header row."""
    target: Column = 1
    """Column of the target side."""


class JsonlSource(FileSource):
    """One file (also compressed) with one JSON object per line, or with a JSON array of objects. `json:` is another
    spelling of `jsonl:`."""

    form = "jsonl"
    jsonl: Name
    """The file."""
    source: Column
    """Key of the source side; dots reach inside, as in `translation.en`. A number counts in a list, from 0."""
    target: Column
    """Key of the target side."""

    @model_validator(mode="before")
    @classmethod
    def _json_is_jsonl(cls, value: Any) -> Any:
        if isinstance(value, dict) and "json" in value and "jsonl" not in value:
            return {"jsonl" if key == "json" else key: inner for key, inner in value.items()}
        return value


class ParquetSource(FileSource):
    """One Parquet file."""

    form = "parquet"
    parquet: Name
    """The file."""
    source: Name
    """Column of the source side; dots reach inside, as in `translation.en`."""
    target: Name
    """Column of the target side."""


class TmxSource(FileSource):
    """One translation memory (TMX 1.1 to 1.4, also compressed)."""

    form = "tmx"
    tmx: Name
    """The file."""
    source: Name | None = None
    """Language of the source side; `en` also finds `en-US`. The default is the source language that the header names,
    in a file with two languages."""
    target: Name | None = None
    """Language of the target side."""
    inline_tags: InlineTags = "drop"
    """Tags of the markup inside a text: `drop` them, or `keep` their places as {1}, {2}, ..."""


class XliffSource(FileSource):
    """One XLIFF file (1.2 or 2.0, also .sdlxliff, .mqxliff, and compressed). Untranslated units are skipped."""

    form = "xliff"
    xliff: Name
    """The file."""
    source: Name | None = None
    """Language of the source side; names the file's target language to swap the sides. The default is the file's."""
    target: Name | None = None
    """Language of the target side."""
    inline_tags: InlineTags = "drop"
    """Tags of the markup inside a text: `drop` them, or `keep` their places as {1}, {2}, ..."""


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


SOURCES: dict[str, type[SourceSettings]] = {
    "text": TextSource,
    "tsv": TsvSource,
    "csv": CsvSource,
    "jsonl": JsonlSource,
    "parquet": ParquetSource,
    "tmx": TmxSource,
    "xliff": XliffSource,
    "hub": HubSource,
    "builtin": BuiltinSource,
}
"""The class of each form."""

OneFileSource = TsvSource | CsvSource | JsonlSource | ParquetSource | TmxSource | XliffSource


def _form(value: Any) -> str:
    """Form of a source, given as a mapping (in a config) or as a model (in Python)."""
    if isinstance(value, dict):
        keys = ["jsonl" if key == "json" else key for key in value]
        return next((form for form in SOURCES if form in keys), "text")
    return next((form for form, kind in SOURCES.items() if isinstance(value, kind)), "text")


Source = Annotated[
    Union[  # noqa: UP007
        Annotated[TextSource, Tag("text")],
        Annotated[TsvSource, Tag("tsv")],
        Annotated[CsvSource, Tag("csv")],
        Annotated[JsonlSource, Tag("jsonl")],
        Annotated[ParquetSource, Tag("parquet")],
        Annotated[TmxSource, Tag("tmx")],
        Annotated[XliffSource, Tag("xliff")],
        Annotated[HubSource, Tag("hub")],
        Annotated[BuiltinSource, Tag("builtin")],
    ],
    Discriminator(_form),
]


def files_of(source: Source) -> list[str]:
    """Names of the files of a source; none for a dataset of the hub and for a built-in task."""
    match source:
        case TextSource():
            return [source.source, source.target]
        case HubSource() | BuiltinSource():
            return []
        case _:
            return [source.file]


DISTILLED = ".distilled"
"""Behind the name of a student's run directory: the folder with the translations that it learns."""


def is_distilled(source: Source) -> bool:
    """True for the translations that a student learns; their sources have the target tags of its teacher, if any."""
    return isinstance(source, TextSource) and Path(source.target).parent.name.endswith(DISTILLED)


def short_names(sources: Sequence[Source]) -> list[str]:
    """Short names that tell sources apart: `newstest2019` for newstest2019.en.gz and newstest2019.de.gz.

    Where two would have the same, all have the names of messages; a source that is given twice is numbered.
    """
    names = [_short_name(source) for source in sources]
    if len(set(names)) < len(names):
        names = list(map(name_of, sources))
    return [name if (again := names[:n].count(name)) == 0 else f"{name} ({again + 1})" for n, name in enumerate(names)]


def _short_name(source: Source) -> str:
    files = files_of(source)
    return (files and Path(files[-1]).name.partition(".")[0]) or name_of(source)


def name_of(source: Source) -> str:
    """Name of a source in messages."""
    match source:
        case TextSource():
            return f"{source.source} | {source.target}"
        case HubSource():
            return f"{source.hub} ({source.split})"
        case BuiltinSource():
            return f"{source.builtin} ({source.split})"
        case _:
            return source.file
