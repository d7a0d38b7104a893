"""The nouns of the built-in task and the places made from them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """A noun in both languages; `tags` say which verbs and adjectives go with it."""

    en: str
    gender: str
    de: str
    de_plural: str
    tags: tuple[str, ...]
    en_plural: str
    oblique: str
    countable: bool = True


def _english_plural(word: str) -> str:
    if word.endswith(("s", "sh", "ch", "x")) or word in ("potato", "tomato"):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


# One noun a line: English, gender, German, German plural, then its own tags.
# `en=` gives an irregular English plural, `obl=` the weak masculine accusative and dative,
# a dash for the plural means that the noun is not counted.
_TABLE = """
# person
man m Mann Männer stranger en=men
woman f Frau Frauen stranger en=women
child n Kind Kinder stranger en=children
boy m Junge Jungen stranger obl=Jungen
girl n Mädchen Mädchen stranger
doctor m Arzt Ärzte
teacher m Lehrer Lehrer
friend m Freund Freunde
# person family
brother m Bruder Brüder
sister f Schwester Schwestern
son m Sohn Söhne
daughter f Tochter Töchter
mother f Mutter - one
father m Vater - one
grandmother f Großmutter - one
grandfather m Großvater - one
# animal
dog m Hund Hunde pet
cat f Katze Katzen pet
horse n Pferd Pferde
bird m Vogel Vögel
# food
apple m Apfel Äpfel fruit
orange f Orange Orangen fruit
potato f Kartoffel Kartoffeln dish
pizza f Pizza Pizzas baked
cake m Kuchen Kuchen baked
bread n Brot - baked
cheese m Käse -
fish m Fisch - dish
# drink
water n Wasser - plain
milk f Milch -
coffee m Kaffee -
tea m Tee -
beer n Bier -
wine m Wein -
juice m Saft -
# portion
cup_of_tea f Tasse_Tee Tassen_Tee en=cups_of_tea
cup_of_coffee f Tasse_Kaffee Tassen_Kaffee en=cups_of_coffee
glass_of_water n Glas_Wasser Gläser_Wasser en=glasses_of_water
glass_of_milk n Glas_Milch Gläser_Milch en=glasses_of_milk
glass_of_wine n Glas_Wein Gläser_Wein en=glasses_of_wine
bottle_of_beer f Flasche_Bier Flaschen_Bier en=bottles_of_beer
# clothes
hat m Hut Hüte
shirt n Hemd Hemden
shoe m Schuh Schuhe cleanable
# readable thing
book n Buch Bücher writable
letter m Brief Briefe writable sendable
newspaper f Zeitung Zeitungen
# furniture
table m Tisch Tische
chair m Stuhl Stühle
bed n Bett Betten bed
sofa n Sofa Sofas
# device
lamp f Lampe Lampen
telephone n Telefon Telefone phone
computer m Computer Computer
# ware
cup f Tasse Tassen
plate m Teller Teller
glass n Glas Gläser
bottle f Flasche Flaschen openable
# thing
key m Schlüssel Schlüssel
bag f Tasche Taschen openable sack
guitar f Gitarre Gitarren
flower f Blume Blumen sendable
picture n Bild Bilder sendable
# vehicle
car n Auto Autos private washable
bus m Bus Busse public
train m Zug Züge public
# room
kitchen f Küche Küchen
bedroom n Schlafzimmer Schlafzimmer
office n Büro Büros
# opening
door f Tür Türen cleanable openable
window n Fenster Fenster cleanable openable
# building
house n Haus Häuser built house
church f Kirche Kirchen sight
museum n Museum Museen sight
restaurant n Restaurant Restaurants sight
school f Schule Schulen
station m Bahnhof Bahnhöfe
# nature
garden m Garten Gärten sight
park m Park Parks sight
forest m Wald Wälder
city f Stadt Städte sight
tree m Baum Bäume plant
# food drink clothes furniture device thing animal vehicle readable building
{noun} n {Noun} {Noun}s
"""


def _parse(table: str) -> tuple[Noun, ...]:
    found: list[Noun] = []
    group: list[str] = []
    for line in table.strip().splitlines():
        if line.startswith("#"):
            group = line[1:].split()
            continue
        english, gender, german, plural, *rest = (word.replace("_", " ") for word in line.split())
        options = dict(item.split("=") for item in rest if "=" in item)
        tags = tuple(group + [item for item in rest if "=" not in item])
        found.append(
            Noun(
                english,
                gender,
                german,
                "" if plural == "-" else plural,
                tags,
                options.get("en", _english_plural(english)),
                options.get("obl", german),
                plural != "-" or "one" in tags,
            )
        )
    return tuple(found)


NOUNS = _parse(_TABLE)
NOUN_BY_ENGLISH = {noun.en: noun for noun in NOUNS}
INVENTED = NOUNS[-1]


def nouns_tagged(tags: tuple[str, ...]) -> tuple[Noun, ...]:
    """All nouns that carry at least one of the tags, in table order."""
    return tuple(noun for noun in NOUNS if any(tag in noun.tags for tag in tags))


@dataclass(frozen=True)
class Place:
    """A place with its prepositions: `at` (German dative) and `to`."""

    noun: Noun
    en_at: str
    de_at: str
    de_to: str
    to_case: str


def _places() -> tuple[Place, ...]:
    indoors = (
        "kitchen", "bedroom", "office", "museum", "restaurant",
        "school", "church",
        "garden", "park", "forest", "city",
    )  # fmt: skip
    inside = [Place(NOUN_BY_ENGLISH[name], "in", "in", "in", "acc") for name in indoors]
    station = Place(NOUN_BY_ENGLISH["station"], "at", "an", "zu", "dat")
    return (*inside, station)


PLACES = _places()
