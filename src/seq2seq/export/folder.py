"""Export folders: the files of the other library, the run's settings and tokenizer, and their checksums.

export/ctranslate2/  model.bin config.json *_vocabulary.json (the library's)  tokenizer/  settings.yaml  export.json

`export.json` is written last and has the size and SHA-256 of every other file. The folder is complete: it can be moved
to any machine.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq import console
from seq2seq.atomic_files import new_folder, read_json_object, write_json, write_text
from seq2seq.config import Config, config_to_yaml, load_config
from seq2seq.data.files import digest_file
from seq2seq.errors import CheckpointError, ConfigError, UsageError
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.tokenizers.pair import TokenizerPair
from seq2seq.version import UPDATE

FORMAT_VERSION = 1
MANIFEST = "export.json"
SETTINGS = "settings.yaml"
TOKENIZER = "tokenizer"
_EXPORT_AGAIN = "export it again: seq2seq export RUN --format {}"


class Trained(NamedTuple):
    """A trained model on the CPU, with everything that an export needs."""

    model: Seq2SeqModel
    tokenizers: TokenizerPair
    config: Config
    run: Path
    """The run directory."""
    checkpoint: str
    """Name under `checkpoints/`."""
    weights: str
    """SHA-256 of the checkpoint's weights."""
    pairs: list[tuple[str, str]]
    """Raw text to check the export with; may be empty."""
    split: str = "test"
    """Split of the `pairs`."""

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.config.name or self.run.resolve().name


class Export(NamedTuple):
    """A verified export for CTranslate2."""

    folder: Path
    manifest: dict[str, Any]
    config: Config
    """The run's settings; its decoding settings are the defaults of the translation."""
    tokenizers: TokenizerPair

    @property
    def checkpoint(self) -> str:
        """Name of the exported checkpoint."""
        return str(self.manifest["checkpoint"])

    @property
    def weights(self) -> str:
        """SHA-256 of the checkpoint's weights."""
        return str(self.manifest["weights"])


def default_folder(run: Path, library: str, quantization: str = "float32") -> Path:
    """Default folder of an export: `RUN/export/ctranslate2`, or e.g. `RUN/export/ctranslate2-int8`."""
    return run / "export" / (library if quantization == "float32" else f"{library}-{quantization}")


@contextmanager
def export_folder(target: Path) -> Iterator[Path]:
    """A new folder that becomes `target` when the block ends without an error; it may replace an older export.

    Raises:
        UsageError: `target` exists and is not an export.
        ResourceError: the disk is full.
    """
    if target.is_symlink() or (target.exists() and not _replaceable(target)):
        raise UsageError(f"{target} exists and is no export", hint="choose another folder with -o", code="usage.exists")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.with_name(f".partial-{target.name}").exists():
        console.say(f"removed an unfinished export of {target.name}")
    with new_folder(target) as folder:
        yield folder


def add_run(folder: Path, trained: Trained) -> None:
    """Write the run's tokenizer and settings."""
    trained.tokenizers.save(folder / TOKENIZER)
    write_text(folder / SETTINGS, config_to_yaml(trained.config))


def seal(folder: Path, trained: Trained, details: dict[str, Any]) -> dict[str, Any]:
    """Write `export.json` and return its content; `details` are `library`, `quantization`, `parity` and others."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.chmod(folder.stat().st_mode & 0o666)  # some libraries write files for their owner only
        files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": digest_file(path)}
    manifest = {
        "format": FORMAT_VERSION,
        "seq2seq": version("seq2seq"),
        "run": trained.name,
        "checkpoint": trained.checkpoint,
        "weights": trained.weights,
        **details,
        "files": files,
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def holds_export(folder: Path) -> bool:
    """Whether the folder is an export for any library, possibly a damaged one."""
    return (folder / MANIFEST).is_file()


def is_export(folder: Path) -> bool:
    """Whether the folder is an export for CTranslate2."""
    return holds_export(folder) and read_json_object(folder / MANIFEST).get("library") == "ctranslate2"


def open_export(folder: Path) -> Export:
    """Verify and read an export for CTranslate2.

    Raises:
        CheckpointError: the folder is no such export, a file is missing or damaged, or a newer version wrote it.
    """
    manifest = _read_manifest(folder)
    if manifest["library"] != "ctranslate2":
        raise CheckpointError(
            f"{folder} is an export for {manifest['library']}, not for ctranslate2",
            hint=_EXPORT_AGAIN.format("ctranslate2"),
            code="export.missing",
        )
    _check_files(folder, manifest)
    try:
        config = load_config([folder / SETTINGS])
    except ConfigError as error:  # its hash is right, so another version wrote it
        raise CheckpointError(
            f"{folder} was made by another version of seq2seq: {error.what}",
            where=error.where,
            hint=UPDATE,
            code="checkpoint.version",
        ) from None
    return Export(folder, manifest, config, TokenizerPair.load(folder / TOKENIZER))


def check_export(folder: Path) -> dict[str, Any]:
    """The content of the `export.json` of any library, after every file was compared with its hash.

    Raises:
        CheckpointError: the folder is no export, a file is missing or damaged, or a newer version wrote it.
    """
    manifest = _read_manifest(folder)
    _check_files(folder, manifest)
    return manifest


def _read_manifest(folder: Path) -> dict[str, Any]:
    hint = _EXPORT_AGAIN.format("ctranslate2")
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = int(manifest["format"])
        _ = [(int(file["size"]), str(file["sha256"])) for file in manifest["files"].values()]
        _ = [manifest[key] for key in ("library", "checkpoint", "weights", "quantization")]
    except OSError:
        what = f"{folder} is not an export: it has no {MANIFEST}"
        raise CheckpointError(what, hint=hint, code="export.damaged") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise CheckpointError(f"{folder / MANIFEST} is damaged", hint=hint, code="export.damaged") from None
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} was made by a newer version of seq2seq", hint=UPDATE, code="checkpoint.version"
        )
    return manifest


def _check_files(folder: Path, manifest: dict[str, Any]) -> None:
    hint = _EXPORT_AGAIN.format(manifest["library"])
    for path in folder.rglob("*"):
        if path.exists() and not path.is_file() and not path.is_dir():
            what = f"{path} is neither a file nor a folder, which an export must not hold"
            raise CheckpointError(what, hint="remove it", code="run.unsafe")
    for name, record in manifest["files"].items():
        path = folder / name
        try:
            within = path.resolve().is_relative_to(folder.resolve())
            size = path.stat().st_size if path.is_file() else -1
        except (OSError, ValueError):  # a name that no file can have: too long, or with a NUL
            within, size = False, -1
        if not within:
            shown = name[:200]
            raise CheckpointError(f"{folder / MANIFEST} is damaged: it names {shown}", hint=hint, code="export.damaged")
        if size != int(record["size"]) or digest_file(path) != record["sha256"]:
            raise CheckpointError(
                f"{path} is missing or damaged: its SHA-256 is not the one recorded", hint=hint, code="export.damaged"
            )


def find_export(run: Path, weights: str | None = None, checkpoint: str | None = None) -> Export:
    """The export for CTranslate2 in a run directory: the one in full precision, else the only one.

    `weights` is the SHA-256 of the weights that must have been exported, and `checkpoint` names them in a hint.

    Raises:
        CheckpointError: there is no export or more than one, it is damaged, or it is of another checkpoint.
    """
    command = f"seq2seq export {shlex.quote(str(run))} --format ctranslate2"
    command += f" --checkpoint {shlex.quote(checkpoint)}" if checkpoint else ""
    folder = default_folder(run, "ctranslate2")
    if not is_export(folder):
        exports = sorted(path for path in folder.parent.glob("ctranslate2-*") if is_export(path))
        if not exports:
            raise CheckpointError(f"{run} has not been exported for CTranslate2", hint=command, code="export.missing")
        if len(exports) > 1:
            names = ", ".join(path.name for path in exports)
            raise CheckpointError(
                f"{run} has several exports for CTranslate2: {names}",
                hint=f"name one: seq2seq translate {shlex.quote(str(exports[0]))}",
                code="export.missing",
            )
        folder = exports[0]
    export = open_export(folder)
    if weights is not None and export.weights != weights:
        raise CheckpointError(
            f"the export in {folder} is of another checkpoint ({export.checkpoint})",
            hint=f"export again: {command}",
            code="export.missing",
        )
    return export


def _replaceable(path: Path) -> bool:
    if not path.is_dir():
        return False
    return (path / MANIFEST).is_file() or not any(path.iterdir())
