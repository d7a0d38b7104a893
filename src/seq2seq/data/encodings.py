"""Recognition of files that are not UTF-8 text: other encodings and compressed files, with the command that converts.

A wrong reading seldom fails: Latin-1 reads any bytes at all. Proposals therefore show the text as it would be read.
"""

from __future__ import annotations

import codecs
import shlex
import unicodedata
import zipfile
from pathlib import Path

from seq2seq.errors import DataError
from seq2seq.languages import language_of_file
from seq2seq.sanitize import shorten

SAMPLE_BYTES = 1 << 15

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", ".gz"),
    b"\xfd7zXZ\x00": ("xz", ".xz"),
    b"BZh": ("bzip2", ".bz2"),
    b"\x28\xb5\x2f\xfd": ("zstd", ".zst"),
    b"PK\x03\x04": ("zip", ".zip"),
}

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}

_WIDE = ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE")

_ENCODINGS = {
    "cp1252": ("Windows-1252", "CP1252"),
    "cp1251": ("Windows-1251", "CP1251"),
    "koi8_r": ("KOI8-R", "KOI8-R"),
    "gb18030": ("GB18030", "GB18030"),
    "big5": ("Big5", "BIG5"),
    "cp932": ("Shift-JIS", "CP932"),
    "cp949": ("EUC-KR", "UHC"),
    "euc_jp": ("EUC-JP", "EUC-JP"),
    "cp1250": ("Windows-1250", "CP1250"),
    "cp1253": ("Windows-1253", "CP1253"),
    "cp1254": ("Windows-1254", "CP1254"),
    "cp1255": ("Windows-1255", "CP1255"),
    "cp1256": ("Windows-1256", "CP1256"),
    "cp874": ("TIS-620 (Windows-874)", "CP874"),
    "cp437": ("code page 437", "CP437"),
    "iso8859_2": ("ISO 8859-2", "ISO-8859-2"),
    "iso8859_5": ("ISO 8859-5", "ISO-8859-5"),
    "cp866": ("code page 866", "CP866"),
    "cp1257": ("Windows-1257", "CP1257"),
    "cp1258": ("Windows-1258", "CP1258"),
}
"""Python's names of encodings with the usual name and that of iconv, likelier ones first."""

_RARE = ("iso8859_2", "iso8859_5", "cp866", "cp1257", "cp1258")
"""Encodings that are tried only for their languages."""

_OF_LANGUAGES = {
    "ja": ("cp932", "euc_jp"),
    "zh": ("gb18030", "big5"),
    "ko": ("cp949",),
    "th": ("cp874",),
    "ru uk be bg mk sr": ("cp1251", "koi8_r", "iso8859_5", "cp866"),
    "pl cs sk hu sl hr bs ro sq": ("cp1250", "iso8859_2"),
    "el": ("cp1253",),
    "tr az": ("cp1254",),
    "he yi": ("cp1255",),
    "ar fa ur": ("cp1256",),
    "et lv lt": ("cp1257",),
    "vi": ("cp1258",),
}
"""Encodings of languages that have their own."""

_SHIFTS = (b"\x1b$B", b"\x1b$@", b"\x1b(J")
"""Escape sequences of ISO-2022-JP, which is valid UTF-8."""

_UNSURE = 0.1
"""Difference of two scores (disorder minus likeness to a language) below which both readings are shown."""

_OFFICE_DOCUMENTS = {
    "word/": "a Word document (.docx)",
    "xl/": "an Excel workbook (.xlsx)",
    "ppt/": "a PowerPoint presentation (.pptx)",
    "META-INF/manifest.xml": "an OpenDocument file (.odt, .ods)",
}
"""Names of files in zip archives that are documents, and the documents."""

_DECOMPRESS = {".gz": "gzip -dc", ".xz": "xz -dc", ".bz2": "bzip2 -dc", ".zst": "zstd -dc"}
_SHOWN_CHARACTERS = 60


def refuse_other_formats(head: bytes, name: str, *, by_signature: bool = False) -> None:
    """Raise `DataError` if the first bytes of a text are those of a compressed file, or of UTF-16, UTF-32 or
    ISO-2022-JP.

    ASCII text in UTF-16 is valid UTF-8, with a NUL in every character: it would be dropped line by line. With
    `by_signature` only what begins with the signature of its format is refused, for text that may hold any bytes.
    """
    for magic, (kind, suffix) in _COMPRESSED.items():
        if head.startswith(magic):
            what = "a zip archive" if kind == "zip" else f"compressed by {kind}"
            hint = f"unpack it first, e.g. {_DECOMPRESS.get(suffix, 'unzip -p')}"
            if kind == "zip" and Path(name).is_file() and (document := office_document(Path(name))):
                hint = "save its text as a file of plain text, a sentence or a paragraph a line"
                raise DataError(f"{name} is {document}, not a text", where=name, hint=hint, code="data.format")
            if Path(name).is_file():
                old, new = shlex.quote(name), shlex.quote(name + suffix)
                then = f"then name {new}" + ("/FILE, a text in it" if kind == "zip" else "")
                hint = f"mv {old} {new}; {then}"
            raise DataError(f"{name} is {what}, not a text", where=name, hint=hint, code="data.compression")
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            raise _other_encoding(name, head, encoding, encoding)
    if by_signature:
        return
    if any(shift in head for shift in _SHIFTS):
        raise _other_encoding(name, head, "ISO-2022-JP", "ISO-2022-JP")
    if b"\0" in head and not _is_utf8_with_nul(head):
        for encoding in _WIDE:
            if _is_text(_decode_whole(head, encoding)):
                raise _other_encoding(name, head, encoding, encoding)


def office_document(file: Path) -> str | None:
    """The kind of a zip archive that is a document, such as "a Word document (.docx)"; None for another file."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return None
    kinds = _OFFICE_DOCUMENTS.items()
    return next((kind for part, kind in kinds if any(name.startswith(part) for name in names)), None)


def not_utf8(raw: bytes, error: UnicodeDecodeError, name: str, number: int, sample: bytes, option: str) -> DataError:
    """The error for a line that is not UTF-8, with the likeliest encodings of the text.

    `sample` is the line with the text that follows it. `option` is the setting that replaces the bytes, if any.
    """
    readings = _readings(sample, raw, name)
    if not readings:
        hint = "is it a text file? its bytes fit no encoding in wide use"
    else:
        (label, encoding, shown), *others = readings
        hint = f"it reads as {label}: '{shown}'; {_command(name, encoding)}"
        for label, encoding, shown in others:
            hint += f"; or as {label} (-f {encoding}): '{shown}'"
    if option:
        hint += f"; or {option} puts U+FFFD there"
    return DataError(
        f"not UTF-8: byte 0x{raw[error.start]:02x} at byte {error.start} of the line",
        where=f"{name}:{number}",
        hint=hint,
        code="data.encoding",
    )


def _readings(sample: bytes, line: bytes, name: str) -> list[tuple[str, str, str]]:
    """Name, name for iconv, and the line as it reads, of the likeliest encoding, or of two if neither is sure.

    The encodings of the language in the file's name come first: text of one is often valid in others.
    """
    language = language_of_file(name)
    own = next((codecs for languages, codecs in _OF_LANGUAGES.items() if language in languages.split()), ())
    common = [codec for codec in _ENCODINGS if codec not in _RARE]
    for candidates in filter(None, (own, common)):
        scores = _scores(sample[:SAMPLE_BYTES], list(candidates))
        ranked = sorted(scores, key=lambda codec: (scores[codec], list(_ENCODINGS).index(codec)))
        readings: list[tuple[str, str, str]] = []
        for codec in ranked:
            shown = _shown(line.decode(codec, "replace"))
            if scores[codec] - scores[ranked[0]] < _UNSURE and shown not in [each for *_, each in readings]:
                readings.append((*_ENCODINGS[codec], shown))
        if readings:
            return readings[:2]
    return []


def _scores(sample: bytes, candidates: list[str]) -> dict[str, float]:
    """Score of each possible encoding of a sample, the lower the better: disorder minus likeness to a language."""
    # Imported here, since only files with a fault need it.
    from charset_normalizer import from_bytes

    scores: dict[str, float] = {}
    for match in from_bytes(sample, cp_isolation=candidates, threshold=0.5, preemptive_behaviour=False):
        # The library reports encodings that read the sample alike under one of their names.
        alike = [each for each in {match.encoding, *match.could_be_from_charset} if each in candidates]
        codec = min(alike, key=candidates.index)
        scores[codec] = min(scores.get(codec, 1.0), match.chaos - match.coherence)
    return scores


def _other_encoding(name: str, head: bytes, label: str, encoding: str) -> DataError:
    line = _decode_whole(head, encoding).split("\n")[0]
    return DataError(
        f"{name} is {label} text, not UTF-8",
        where=name,
        hint=f"it reads '{_shown(line)}'; {_command(name, encoding)}",
        code="data.encoding",
    )


def _command(name: str, encoding: str) -> str:
    """The command that converts a file, or the text of a pipe or of an archive's member."""
    path, convert = Path(name), f"iconv -f {encoding} -t UTF-8"
    if not path.is_file():
        return convert
    decompress = _DECOMPRESS.get(path.suffix.lower())
    plain = path.with_suffix("") if decompress else path
    new = shlex.quote(str(plain.with_name(f"{plain.stem}.utf8{plain.suffix}")))
    if decompress:
        return f"{decompress} {shlex.quote(name)} | {convert} > {new}"
    return f"{convert} {shlex.quote(name)} > {new}"


def _decode_whole(sample: bytes, encoding: str) -> str:
    """Decode a sample that may end within a character; empty if it does not decode."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return ""


def _is_text(text: str) -> bool:
    """Whether a text has characters, and none of them are control characters or unassigned."""
    return bool(text) and not any(
        unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs") and character not in "\t\n\r\ufeff"
        for character in text
    )


def _is_utf8_with_nul(sample: bytes) -> bool:
    """Whether a sample is UTF-8 with a NUL here and there."""
    rest = sample.replace(b"\0", b"")
    return len(sample) - len(rest) < 0.1 * len(sample) and _is_text(_decode_whole(rest, "utf-8"))


def _shown(line: str) -> str:
    return shorten(" ".join(line.strip("\ufeff\r\n").split()), _SHOWN_CHARACTERS)
