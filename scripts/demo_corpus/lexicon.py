"""The adjectives, adverbs and names of the built-in task."""

from __future__ import annotations

from dataclasses import dataclass

from . import invented
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
        """Whether the adjective goes with the noun."""
        return any(tag in noun.tags for tag in self.tags) and not any(tag in noun.tags for tag in self.not_tags)


def _adjective(en: str, de: str, tags: str, stem: str = "", but: str = "") -> Adjective:
    return Adjective(en, de, tuple(tags.split()), stem or de, tuple(but.split()))


_MADE = "clothes furniture device ware thing vehicle"
_SIZED = f"{_MADE} room building animal nature opening"

ADJECTIVES = (
    _adjective("red", "rot", "clothes furniture vehicle ware sack toy private"),
    _adjective("blue", "blau", "clothes furniture vehicle ware sack toy opening"),
    _adjective("black", "schwarz", "clothes furniture vehicle sack device animal", but="wild"),
    _adjective("new", "neu", f"{_MADE} building room"),
    _adjective("old", "alt", f"{_MADE} building animal nature stranger"),
    _adjective("big", "groß", f"{_SIZED} fruit"),
    _adjective("small", "klein", f"{_SIZED} fruit"),
    _adjective("expensive", "teuer", f"{_MADE} drink food", "teur"),
    _adjective("cheap", "billig", f"{_MADE} drink food"),
    _adjective("beautiful", "schön", f"{_MADE} building nature animal"),
    _adjective("dirty", "schmutzig", "clothes ware vehicle room opening animal"),
    _adjective("warm", "warm", "clothes food drink room", but="plain fruit"),
    _adjective("cold", "kalt", "drink food room"),
    _adjective("hot", "heiß", "dish drink"),
    _adjective("short", "kurz", "readable clothes"),
    _adjective("famous", "berühmt", "sight built stranger"),
    _adjective("young", "jung", "person animal", but="family"),
    _adjective("friendly", "freundlich", "person animal"),
    _adjective("happy", "glücklich", "person"),
    _adjective("sad", "traurig", "person"),
    _adjective("tired", "müde", "person animal", "müd"),
    _adjective("clever", "klug", "person animal"),
    _adjective("funny", "lustig", "person readable"),
)
MOODS = tuple(a for a in ADJECTIVES if a.en in ("happy", "sad", "tired"))
COLOURS = ADJECTIVES[:3]
DEGREES = (("very", "sehr"), ("too", "zu"), ("quite", "ziemlich"))

GIVEN_NAMES = (
    ("Anna", "f"), ("Peter", "m"), ("Lisa", "f"), ("Paul", "m"), ("Maria", "f"), ("Thomas", "m"),
    ("Julia", "f"), ("Max", "m"), *((invented.NAME, ""),) * 4,
)  # fmt: skip
FAMILY_NAMES = ("Weber", "Schmidt", "Fischer", "Becker", *(invented.NAME,) * 2)
CITIES = (
    ("Berlin", "Berlin"), ("Hamburg", "Hamburg"), ("Vienna", "Wien"), ("Munich", "München"),
    ("Cologne", "Köln"), ("Paris", "Paris"), ("London", "London"), *((invented.NAME, invented.NAME),) * 3,
)  # fmt: skip

PAST_TIMES = (
    ("yesterday", "gestern"), ("last week", "letzte Woche"), ("last year", "letztes Jahr"),
    ("this morning", "heute Morgen"), ("yesterday evening", "gestern Abend"),
)  # fmt: skip
FUTURE_TIMES = (
    ("tomorrow", "morgen"), ("next week", "nächste Woche"), ("next year", "nächstes Jahr"),
    ("this evening", "heute Abend"), ("soon", "bald"),
)  # fmt: skip
NOW_TIMES = (("now", "jetzt"), ("today", "heute"), ("at the moment", "im Moment"))
HABIT_TIMES = (
    ("every day", "jeden Tag"), ("every morning", "jeden Morgen"), ("every evening", "jeden Abend"),
    ("in summer", "im Sommer"),
)  # fmt: skip
FREQUENCIES = (("often", "oft"), ("always", "immer"), ("sometimes", "manchmal"))
DAYS = (
    ("Monday", "Montag"), ("Tuesday", "Dienstag"), ("Wednesday", "Mittwoch"), ("Thursday", "Donnerstag"),
    ("Friday", "Freitag"), ("Saturday", "Samstag"), ("Sunday", "Sonntag"),
)  # fmt: skip
