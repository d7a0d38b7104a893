"""Language codes as people write them, and the script of a text."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice

# Every code of ISO 639-1.
_ISO_639_1 = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo
es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg
ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn
no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw
ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
# The codes of ISO 639-3 for the same languages, in the same order.
_ISO_639_3 = """
aar abk ave afr aka amh arg ara asm ava aym aze bak bel bul bih bis bam ben bod bre bos cat che cha cos cre ces chu
chv cym dan deu div dzo ewe ell eng epo spa est eus fas ful fin fij fao fra fry gle gla glg grn guj glv hau heb hin
hmo hrv hat hun hye her ina ind ile ibo iii ipk ido isl ita iku jpn jav kat kon kik kua kaz kal khm kan kor kau kas
kur kom cor kir lat ltz lug lim lin lao lit lub lav mlg mah mri mkd mal mon mar msa mlt mya nau nob nde nep ndo nld
nno nor nbl nav nya oci oji orm ori oss pan pli pol pus por que roh run ron rus kin san srd snd sme sag hbs sin slk
slv smo sna som sqi srp ssw sot sun swe swa tam tel tgk tha tir tuk tgl tsn ton tur tso tat twi tah uig ukr urd uzb
ven vie vol wln wol xho yid yor zha zho zul
"""
_CODES = frozenset(_ISO_639_1.split())
# Bibliographic codes, and those of countries. `kr` is Kanuri in ISO 639-1, but Korea is meant far more often.
_OTHERS = """
chi:zh cmn:zh yue:zh wuu:zh cn:zh tw:zh hk:zh jp:ja kr:ko bur:my tib:bo cze:cs dut:nl fre:fr ger:de gre:el ice:is per:fa
rum:ro slo:sk wel:cy alb:sq arm:hy baq:eu geo:ka mac:mk mao:mi may:ms
"""
_OTHER_CODES = dict(zip(_ISO_639_3.split(), _ISO_639_1.split(), strict=True))
_OTHER_CODES |= dict(pair.split(":") for pair in _OTHERS.split())
_WORDS = "bel ben cat dan div ell est ful her hun ice ina lin lit mac mar may mon pan per run sin sun ton"
"""Codes that are words, too, as in `my_run`."""
# English names, and codes in common use that ISO 639 does not have, for suggestions.
_NAMED = """
afrikaans:af albanian:sq amharic:am arabic:ar armenian:hy azerbaijani:az basque:eu belarusian:be bengali:bn bosnian:bs
bulgarian:bg burmese:my cantonese:yue catalan:ca chinese:zh croatian:hr czech:cs danish:da dutch:nl english:en
esperanto:eo estonian:et finnish:fi french:fr galician:gl georgian:ka german:de greek:el gujarati:gu hausa:ha
hebrew:he hindi:hi hungarian:hu icelandic:is igbo:ig indonesian:id irish:ga italian:it japanese:ja kannada:kn
kazakh:kk khmer:km korean:ko kyrgyz:ky lao:lo latin:la latvian:lv lithuanian:lt macedonian:mk malay:ms malayalam:ml
maltese:mt mandarin:zh marathi:mr mongolian:mn nepali:ne norwegian:no pashto:ps persian:fa polish:pl portuguese:pt
punjabi:pa romanian:ro russian:ru serbian:sr sinhala:si slovak:sk slovenian:sl somali:so spanish:es swahili:sw
swedish:sv tajik:tg tamil:ta telugu:te thai:th tibetan:bo turkish:tr turkmen:tk ukrainian:uk urdu:ur uzbek:uz
vietnamese:vi welsh:cy yoruba:yo zulu:zu
deutsch:de français:fr español:es italiano:it português:pt nederlands:nl polski:pl čeština:cs svenska:sv dansk:da
norsk:no suomi:fi magyar:hu română:ro türkçe:tr русский:ru українська:uk ελληνικά:el עברית:he العربية:ar فارسی:fa
हिन्दी:hi हिंदी:hi বাংলা:bn ไทย:th 中文:zh 汉语:zh 日本語:ja 한국어:ko englisch:en französisch:fr spanisch:es anglais:en
allemand:de inglés:en alemán:de cz:cs dk:da gr:el se:sv vn:vi ua:uk gb:en us:en br:pt at:de ir:fa
"""
_NAMES = dict(pair.split(":") for pair in _NAMED.split())
_CODE = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]{1,8})*")

_FILE_SUFFIX = re.compile(r"(.+)\.(?:gz|xz|bz2|zst|zip|tar|tgz|txt|text|tok|raw)", re.IGNORECASE)
_REGIONAL_ENDING = re.compile(r"(?:.*[._-])?([a-z]{2,3})[-_]([A-Z]{2}|[A-Z][a-z]{3}|cn|tw|hk)")
_ENDING = re.compile(r"(?:.*([._-]))?([A-Za-z]{2,3})")

# Scripts without spaces between words, and Hangul, whose words sacrebleu splits further.
_SCRIPTS = {
    "Han": "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "kana": "\u3041-\u3096\u309d-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "Hangul": "\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7fb",
    "Thai": "\u0e01-\u0e3a\u0e40-\u0e4e",
    "Lao": "\u0e81-\u0ecd\u0edc-\u0edf",
    "Tibetan": "\u0f00-\u0f14\u0f40-\u0fbc",
    "Burmese": "\u1000-\u103f\u1050-\u109f\ua9e0-\ua9fe\uaa60-\uaa7f",
    "Khmer": "\u1780-\u17d3",
}
WITHOUT_SPACES = "".join(characters for name, characters in _SCRIPTS.items() if name != "Hangul")
"""Characters of scripts without spaces between words, as ranges of a regular expression."""
UNSPACED_LANGUAGES = frozenset(("zh", "ja", "th", "lo", "km", "my", "bo", "dz"))
"""Languages that are written without spaces between words."""
_OF_SCRIPT = {name: re.compile(f"[{characters}]") for name, characters in _SCRIPTS.items()}
_LETTER = re.compile(r"[^\W\d_]")
_LOOKED_AT = 5000
"""Lines of a text whose script is looked at."""
_LEAST_SHARE = 0.3
"""Least share of a script among the letters: names and terms in Latin letters are common in Asian text."""
_LEAST_KANA = 0.05
"""Least share of kana among Han and kana: almost every Japanese sentence has more, and Chinese has none."""


def language_of(code: str) -> str:
    """ISO 639-1 language of a code: `zh` for `zh_CN`, `zho_Hans`, `chi` and `cn`; empty for a text that is not a code.

    Three letters that ISO 639-1 has no short form for stay as they are.
    """
    match = _CODE.fullmatch(code.strip())
    if match is None:
        return ""
    language = match[1].lower()
    language = _OTHER_CODES.get(language, language)
    return language if len(language) == 3 or language in _CODES else ""


def language_name(code: str) -> str:
    """English name of a language code, `German`; the code itself if it has none here."""
    names = (name for name, language in _NAMES.items() if language == language_of(code))
    return next(names, code).capitalize() if language_of(code) else code


def suggested_code(text: str) -> str:
    """Nearest language code to a text that is not a code, such as `ja` for `Japanese`; empty if none is near."""
    name = text.strip().lower().replace("_", "-")
    for words in (name, name.split("-")[0]):
        if words in _NAMES:
            return _NAMES[words]
    near = difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.85)
    return _NAMES[near[0]] if near else ""


def language_of_file(path: str) -> str:
    """Language in the name of a file: `zh` for `train_zh.txt`, `corpus.zh.gz` and `c.zh_CN`; empty without one.

    It is the last part of the name, apart from suffixes of formats and compression. After a dot any two or three
    letters are taken, such as `xx`.
    """
    name = path.replace("\\", "/").rpartition("/")[2]
    while match := _FILE_SUFFIX.fullmatch(name):
        name = match[1]
    match = _REGIONAL_ENDING.fullmatch(name)
    if match and (match[1] in _CODES or match[1] in _OTHER_CODES or len(match[2]) == 4):
        return language_of(match[1])
    if not (match := _ENDING.fullmatch(name)):
        return ""
    code = match[2].lower()
    known = code in _CODES or (code in _OTHER_CODES and code not in _WORDS.split())
    return language_of(code) if known else code if match[1] == "." else ""


def language_of_column(name: str) -> str | None:
    """Language code (ISO 639-1) in the name of a column: `en` of `en-US`, `eng`, `translation.en` or `English`."""
    last = name.strip().rpartition(".")[2].casefold()
    code = re.split(r"[-_]", last)[0]
    if code in _CODES:
        return code
    if len(code) == 3 and code in _OTHER_CODES:
        return _OTHER_CODES[code]
    return _NAMES.get(last) if len(last) > 3 or not last.isascii() else None


def script_of(lines: Iterable[str]) -> str:
    """Script without spaces that a text is written in: `Han`, `kana` (Japanese), `Hangul`, `Thai`, `Lao`, ...

    Empty for all other scripts.
    """
    counts: Counter[str] = Counter()
    others = 0
    for line in islice(lines, _LOOKED_AT):
        if line.isascii():
            others += len(_LETTER.findall(line))
            continue
        for name, pattern in _OF_SCRIPT.items():
            line, count = pattern.subn("", line)
            counts[name] += count
        others += len(_LETTER.findall(line))
    if counts.total() <= _LEAST_SHARE * (counts.total() + others):
        return ""
    if counts["kana"] > _LEAST_KANA * (counts["Han"] + counts["kana"]):
        counts["kana"] += counts.pop("Han")
    return counts.most_common(1)[0][0]
