"""The manifest of a checkpoint: its files with sizes and SHA-256, the versions that wrote it, and its own checksum.

    {"format": 2, "seq2seq": "0.1.0", "torch": "2.13.0", "files": {NAME: {"size": ..., "sha256": ...}}, "check": ...}

It is written last: a checkpoint without a manifest is incomplete. `check` is the SHA-256 of all other entries;
manifests of the first versions have none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seq2seq.atomic_files import read_bytes, write_text
from seq2seq.errors import CheckpointError
from seq2seq.sealed_records import checksum
from seq2seq.version import UPDATE, __version__

FORMAT_VERSION = 2
MANIFEST = "manifest.json"

_KEYS = {"format", "torch", "files"}
"""Keys of manifests without a checksum."""
_PICKLES = {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".joblib"}
_CHOOSE = "choose another one: --checkpoint step-N"


class FileRecord(NamedTuple):
    """Size and SHA-256 of a file."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> FileRecord:
        """The record of a file with this content."""
        return cls(len(content), hashlib.sha256(content).hexdigest())


def write_manifest(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Write the manifest that completes a checkpoint folder.

    Raises:
        ResourceError: the disk is full.
    """
    content: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "seq2seq": __version__,
        "torch": str(torch.__version__),
        "files": {name: record._asdict() for name, record in files.items()},
    }
    write_text(folder / MANIFEST, _text({**content, "check": checksum(content)}))


def read_manifest(folder: Path) -> dict[str, FileRecord]:
    """Read the records of the files in a checkpoint folder.

    Raises:
        CheckpointError: the manifest is missing or damaged, another version wrote it, or the folder holds a pickle.
    """
    path = folder / MANIFEST
    refuse_pickles(folder)
    try:
        raw = read_bytes(path)
        content = json.loads(raw)
        version, writer = int(content["format"]), str(content.get("seq2seq", ""))
        if "check" in content:
            whole = content["check"] == checksum(content) and raw == _text(content).encode()
        else:
            whole = set(content) <= _KEYS
        # A newer version may compute the checksum differently; a damaged version digit is not a newer version.
        whole = whole or (version > FORMAT_VERSION and writer not in ("", __version__))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(
            f"{folder} is not a complete checkpoint: it has no {MANIFEST}", hint=_CHOOSE, code="checkpoint.damaged"
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}", hint=_CHOOSE, code="checkpoint.damaged"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise _damaged(path) from None
    if not whole:
        raise _damaged(path)
    if version > FORMAT_VERSION:
        by = f"seq2seq >= {writer}" if writer else "a newer version of seq2seq"
        raise CheckpointError(f"{folder} was made by {by}", hint=UPDATE, code="checkpoint.version")
    if version < FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} was made by an older version of seq2seq",
            hint="train again, or use that version",
            code="checkpoint.version",
        )
    try:
        return {name: FileRecord(int(file["size"]), str(file["sha256"])) for name, file in content["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise _damaged(path) from None


def read_verified(path: Path, record: FileRecord) -> bytes:
    """Read a file and verify it against its record.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}", hint=_CHOOSE, code="checkpoint.damaged"
        ) from None
    if FileRecord.of(content) != record:
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is not the one recorded", hint=_CHOOSE, code="checkpoint.damaged"
        )
    return content


def refuse_pickles(place: Path) -> None:
    """Raise `CheckpointError` if `place` is or holds a pickle, which can run code when it is read."""
    pickled = None
    if place.is_file():
        pickled = place if place.suffix.lower() in _PICKLES or _looks_pickled(place) else None
    elif place.is_dir() and not (place / "model.safetensors").exists():
        named = [path for path in sorted(place.iterdir()) if path.is_file() and path.suffix.lower() in _PICKLES]
        # CTranslate2's model.bin is no pickle, and a folder that holds it is an export of a run.
        pickled = next((path for path in named if path.name != "model.bin" or _looks_pickled(path)), None)
    if pickled is not None:
        raise CheckpointError(
            f"{pickled} is in an unsafe format: reading a pickle can run code; nothing of it was read",
            hint="only checkpoints that seq2seq wrote are read (safetensors and JSON)",
            code="checkpoint.unsafe",
        )


def _looks_pickled(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4)
    return start == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in b"\x01\x02\x03\x04\x05")


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is damaged", hint=_CHOOSE, code="checkpoint.damaged")


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
