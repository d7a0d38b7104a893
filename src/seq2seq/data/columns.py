"""Columns of a table: names, languages, and columns that hold no text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_MOST = 0.9
"""Share of a column's cells from which on it is of one kind."""

_FEWEST = 20
"""Cells below which nothing is said about a column."""

_NUMBER = re.compile(r"[\s\d.,:;%+/()*eE-]*\d[\s\d.,:;%+/()*eE-]*")
_ADDRESS = re.compile(r"\s*(?:\w+://|www\.)\S+\s*")
_IDENTIFIER = re.compile(r"(?=\S*\d)(?=\S*[\W_\d]{2}|\S{12})[\w.:#/+-]+")
NOT_TEXT = {"numbers": _NUMBER, "web addresses": _ADDRESS, "identifiers": _IDENTIFIER}
_PREFIX = 12

_LANGUAGES = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo "
    "es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka "
    "kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng "
    "nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su "
    "sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
SOURCE_NAMES = ("source", "src", "source_text", "source_sentence", "input", "original")
TARGET_NAMES = ("target", "tgt", "trg", "target_text", "target_sentence", "output", "translation", "reference", "ref")
# fmt: off
_LANGUAGE_NAMES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt",
    "dutch": "nl", "russian": "ru", "polish": "pl", "czech": "cs", "turkish": "tr", "arabic": "ar", "chinese":
    "zh", "japanese": "ja", "korean": "ko", "hindi": "hi", "thai": "th", "vietnamese": "vi", "ukrainian": "uk",
    "swedish": "sv", "finnish": "fi", "deutsch": "de", "français": "fr", "español": "es",
}
# fmt: on
_NAMES = frozenset([*SOURCE_NAMES, *TARGET_NAMES, "id", "text", "sentence", "label", "score", "license", "url"])
"""Other names of columns."""

_NAME = re.compile(r"[^\W\d][\w .-]{0,30}")


def language_of(name: str) -> str | None:
    """The language code (ISO 639-1) in the name of a column: `en` of `en-US`, `translation.en` or `English`."""
    last = name.strip().rpartition(".")[2].casefold()
    code = re.split(r"[-_]", last)[0]
    return code if code in _LANGUAGES.split() else _LANGUAGE_NAMES.get(last)


def is_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the cells of a first row are names of columns; `rows` are the rows below it.

    Two of them must be known, such as `en` and `source`. One is enough if the other is a code of three letters, and
    the texts below are longer: `en` and `yor`.
    """
    names = [cell.strip() for cell in first]
    while names and not names[-1]:
        names.pop()  # empty columns at the end
    if len({name.casefold() for name in names}) < len(names) or not all(map(_NAME.fullmatch, names)):
        return False
    known = sum(map(_is_known, names))
    lengths = [len(cell) for row in rows for cell in row]
    codes = sum(_is_known(name) or re.fullmatch("[a-z]{3}", name) is not None for name in names)
    return known >= 2 or (known == 1 and codes == len(names) > 1 and sum(lengths) > 12 * len(lengths))


def _is_known(name: str) -> bool:
    name = name.casefold().replace(" ", "_")
    is_code = re.fullmatch(r"[a-z]{2}([-_][a-z]{2,4})?", name) is not None and language_of(name) is not None
    return is_code or name in _NAMES or name in _LANGUAGE_NAMES or re.fullmatch("[a-z]{3}_[a-z]{4}", name) is not None


def kind_of_column(cells: Sequence[str]) -> str | None:
    """What a column holds, if it is plainly not text: numbers, web addresses, or nearly the same in every row."""
    cells = [cell for cell in cells if cell.strip()]
    if len(cells) < _FEWEST:
        return None
    for kind, form in NOT_TEXT.items():
        if sum(form.fullmatch(cell) is not None for cell in cells) > _MOST * len(cells):
            return kind
    beginnings = Counter(re.sub(r"\d+", "0", cell)[:_PREFIX] for cell in cells)
    if beginnings.most_common(1)[0][1] > _MOST * len(cells):
        return f"the same beginning in nearly every row ({beginnings.most_common(1)[0][0]}...)"
    return None
