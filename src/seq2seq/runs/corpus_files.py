"""Files of a run's corpora: their names, the folder that these start from, and the error for a missing one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from seq2seq.config import Config
from seq2seq.config.sources import files_of
from seq2seq.data.archives import file_on_disk
from seq2seq.data.files import open_binary


def corpus_files(config: Config) -> list[str]:
    """Names of the files of all corpora, as in the config."""
    data = config.data
    return [name for source in (*data.train, *data.valid, *data.test) for name in files_of(source)]


def folder_of_corpora(run: Path, config: Config) -> Path:
    """The folder that the names of a run's corpora start from, which no record of the run holds.

    It is the current folder if all of them are found from there, else the nearest one around the run from which they
    are; the current one if there is none.
    """
    names = corpus_files(config)
    around = (Path(), *run.resolve().parents)
    found = (folder for folder in around if all(_is_there(folder / name) for name in names))
    return next(found, Path())


def require_files(names: Iterable[str]) -> None:
    """Raise `DataError` if there is no file of such a name, and `UsageError` for an address. Nothing is read."""
    for path in map(Path, names):
        if not _is_there(path):
            open_binary(path).close()


def _is_there(path: Path) -> bool:
    """True for a file that is found; False within a folder that may not be searched, too."""
    try:
        return file_on_disk(path).exists()
    except OSError:
        return False
