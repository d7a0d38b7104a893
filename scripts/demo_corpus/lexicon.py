"""The adjectives, adverbs and names of the built-in task."""

from __future__ import annotations

from dataclasses import dataclass

from .nouns import Noun


@dataclass(frozen=True)
class Adjective:
    """An adjective in both languages; `stem` is the German form before an ending."""

    en: str
    de: str
    tags: tuple[str, ...]
    stem: str
    not_tags: tuple[str, ...] = ()

    def fits(self, noun: Noun) -> bool:
        """Whether a speaker would say this of the noun."""
        return any(tag in noun.tags for tag in self.tags) and not any(tag in noun.tags for tag in self.not_tags)


def _adjective(en: str, de: str, tags: str, stem: str = "", but: str = "") -> Adjective:
    return Adjective(en, de, tuple(tags.split()), stem or de, tuple(but.split()))


_MADE = "clothes furniture device ware thing vehicle"
_SIZED = f"{_MADE} room building animal nature opening"

ADJECTIVES = (
    _adjective("red", "rot", "clothes furniture vehicle ware sack toy private"),
    _adjective("blue", "blau", "clothes furniture vehicle ware sack toy opening"),
    _adjective("green", "grün", "clothes furniture vehicle ware sack toy opening"),
    _adjective("yellow", "gelb", "clothes furniture vehicle ware toy"),
    _adjective("black", "schwarz", "clothes furniture vehicle sack device animal", but="wild"),
    _adjective("white", "weiß", "clothes furniture vehicle ware animal", but="wild"),
    _adjective("brown", "braun", "clothes furniture animal sack"),
    _adjective("grey", "grau", "clothes furniture vehicle"),
    _adjective("new", "neu", f"{_MADE} building room"),
    _adjective("old", "alt", f"{_MADE} building animal nature stranger"),
    _adjective("big", "groß", f"{_SIZED} fruit"),
    _adjective("small", "klein", f"{_SIZED} fruit"),
    _adjective("expensive", "teuer", f"{_MADE} drink food", "teur"),
    _adjective("cheap", "billig", f"{_MADE} drink food"),
    _adjective("beautiful", "schön", f"{_MADE} building nature animal"),
    _adjective("ugly", "hässlich", "clothes furniture building ware vehicle"),
    _adjective("dirty", "schmutzig", "clothes ware vehicle room opening animal"),
    _adjective("heavy", "schwer", "furniture sack device"),
    _adjective("broken", "kaputt", "device private repairable furniture toy"),
    _adjective("modern", "modern", "furniture device building room vehicle"),
    _adjective("warm", "warm", "clothes food drink room", but="plain fruit"),
    _adjective("cold", "kalt", "drink food room"),
    _adjective("hot", "heiß", "dish drink"),
    _adjective("fresh", "frisch", "food drink"),
    _adjective("sweet", "süß", "fruit drink baked", but="plain"),
    _adjective("sour", "sauer", "fruit", "saur"),
    _adjective("delicious", "lecker", "food drink", but="plain"),
    _adjective("long", "lang", "readable clothes public built"),
    _adjective("short", "kurz", "readable clothes"),
    _adjective("empty", "leer", "ware sack openable room", but="opening"),
    _adjective("interesting", "interessant", "readable sight stranger"),
    _adjective("boring", "langweilig", "readable sight"),
    _adjective("famous", "berühmt", "sight built stranger"),
    _adjective("quiet", "ruhig", "nature hotel room building"),
    _adjective("dangerous", "gefährlich", "wild animal built"),
    _adjective("young", "jung", "person animal", but="family"),
    _adjective("friendly", "freundlich", "person animal"),
    _adjective("happy", "glücklich", "person"),
    _adjective("sad", "traurig", "person"),
    _adjective("tired", "müde", "person animal", "müd"),
    _adjective("ill", "krank", "person animal"),
    _adjective("clever", "klug", "person animal"),
    _adjective("polite", "höflich", "person"),
    _adjective("strong", "stark", "person animal"),
    _adjective("hungry", "hungrig", "person animal"),
    _adjective("lazy", "faul", "person animal"),
    _adjective("funny", "lustig", "person readable"),
    _adjective("rich", "reich", "person"),
)
MOODS = tuple(a for a in ADJECTIVES if a.en in ("happy", "sad", "tired", "ill"))
COLOURS = ADJECTIVES[:8]
DEGREES = (("very", "sehr"), ("too", "zu"), ("quite", "ziemlich"))

GIVEN_NAMES = (
    ("Anna", "f"), ("Peter", "m"), ("Lisa", "f"), ("Paul", "m"), ("Maria", "f"), ("Thomas", "m"),
    ("Julia", "f"), ("Max", "m"), ("Laura", "f"), ("Felix", "m"), ("Sophie", "f"), ("Lukas", "m"),
)  # fmt: skip
FAMILY_NAMES = ("Weber", "Schmidt", "Fischer", "Becker", "Wagner", "Hoffmann")
CITIES = (
    ("Berlin", "Berlin"), ("Hamburg", "Hamburg"), ("Vienna", "Wien"), ("Munich", "München"),
    ("Cologne", "Köln"), ("Zurich", "Zürich"), ("Paris", "Paris"), ("London", "London"), ("Rome", "Rom"),
)  # fmt: skip

PAST_TIMES = (
    ("yesterday", "gestern"), ("last week", "letzte Woche"), ("last year", "letztes Jahr"),
    ("last month", "letzten Monat"), ("this morning", "heute Morgen"),
    ("the day before yesterday", "vorgestern"), ("yesterday evening", "gestern Abend"),
)  # fmt: skip
FUTURE_TIMES = (
    ("tomorrow", "morgen"), ("next week", "nächste Woche"), ("next month", "nächsten Monat"),
    ("next year", "nächstes Jahr"), ("this evening", "heute Abend"), ("soon", "bald"),
    ("the day after tomorrow", "übermorgen"),
)  # fmt: skip
NOW_TIMES = (("now", "jetzt"), ("today", "heute"), ("at the moment", "im Moment"))
HABIT_TIMES = (
    ("every day", "jeden Tag"), ("every morning", "jeden Morgen"), ("every evening", "jeden Abend"),
    ("every week", "jede Woche"), ("in summer", "im Sommer"), ("in winter", "im Winter"),
)  # fmt: skip
FREQUENCIES = (
    ("often", "oft"), ("always", "immer"), ("sometimes", "manchmal"), ("usually", "meistens"),
    ("rarely", "selten"),
)  # fmt: skip
DAYS = (
    ("Monday", "Montag"), ("Tuesday", "Dienstag"), ("Wednesday", "Mittwoch"), ("Thursday", "Donnerstag"),
    ("Friday", "Freitag"), ("Saturday", "Samstag"), ("Sunday", "Sonntag"),
)  # fmt: skip
MONTHS = (
    ("January", "Januar", 31), ("February", "Februar", 28), ("March", "März", 31), ("April", "April", 30),
    ("May", "Mai", 31), ("June", "Juni", 30), ("July", "Juli", 31), ("August", "August", 31),
    ("September", "September", 30), ("October", "Oktober", 31), ("November", "November", 30),
    ("December", "Dezember", 31),
)  # fmt: skip
