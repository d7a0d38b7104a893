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
neighbour m Nachbar Nachbarn obl=Nachbarn
colleague m Kollege Kollegen obl=Kollegen
student m Student Studenten stranger obl=Studenten
friend m Freund Freunde
guest m Gast Gäste
boss m Chef Chefs
policeman m Polizist Polizisten stranger en=policemen obl=Polizisten
waiter m Kellner Kellner stranger
# person family
brother m Bruder Brüder
sister f Schwester Schwestern
son m Sohn Söhne
daughter f Tochter Töchter
uncle m Onkel Onkel
aunt f Tante Tanten
mother f Mutter - one
father m Vater - one
grandmother f Großmutter - one
grandfather m Großvater - one
# animal
dog m Hund Hunde pet
cat f Katze Katzen pet
horse n Pferd Pferde
cow f Kuh Kühe
bird m Vogel Vögel
mouse f Maus Mäuse en=mice
duck f Ente Enten
rabbit n Kaninchen Kaninchen pet
pig n Schwein Schweine
bear m Bär Bären wild obl=Bären
# food
apple m Apfel Äpfel fruit
banana f Banane Bananen fruit
orange f Orange Orangen fruit
pear f Birne Birnen fruit
cherry f Kirsche Kirschen fruit
tomato f Tomate Tomaten fruit
potato f Kartoffel Kartoffeln dish
egg n Ei Eier dish
sausage f Wurst Würste
soup f Suppe Suppen dish
salad m Salat Salate
pizza f Pizza Pizzas baked
cake m Kuchen Kuchen baked
roll n Brötchen Brötchen baked
bread n Brot - baked
cheese m Käse -
fish m Fisch - dish
rice m Reis - dish
meat n Fleisch - dish
honey m Honig -
chocolate f Schokolade -
# drink
water n Wasser - plain
milk f Milch -
coffee m Kaffee -
tea m Tee -
beer n Bier -
wine m Wein -
juice m Saft -
lemonade f Limonade -
# clothes
coat m Mantel Mäntel
hat m Hut Hüte
shirt n Hemd Hemden
dress n Kleid Kleider
skirt m Rock Röcke
jacket f Jacke Jacken
blouse f Bluse Blusen
sweater m Pullover Pullover
scarf m Schal Schals en=scarves
glove m Handschuh Handschuhe
shoe m Schuh Schuhe cleanable
boot m Stiefel Stiefel cleanable
# readable thing
book n Buch Bücher writable
letter m Brief Briefe writable sendable
newspaper f Zeitung Zeitungen
postcard f Postkarte Postkarten writable sendable
# furniture
table m Tisch Tische
chair m Stuhl Stühle
bed n Bett Betten bed
cupboard m Schrank Schränke openable
sofa n Sofa Sofas
shelf n Regal Regale en=shelves
carpet m Teppich Teppiche
mirror m Spiegel Spiegel cleanable
# device
lamp f Lampe Lampen
telephone n Telefon Telefone phone
radio n Radio Radios
television m Fernseher Fernseher
computer m Computer Computer
fridge m Kühlschrank Kühlschränke
washing_machine f Waschmaschine Waschmaschinen
# ware
cup f Tasse Tassen
plate m Teller Teller
glass n Glas Gläser
bottle f Flasche Flaschen openable
knife n Messer Messer en=knives
fork f Gabel Gabeln
spoon m Löffel Löffel
pot m Topf Töpfe
# thing
clock f Uhr Uhren repairable
key m Schlüssel Schlüssel
bag f Tasche Taschen openable sack
suitcase m Koffer Koffer openable sack
umbrella m Regenschirm Regenschirme
box f Kiste Kisten openable sack
ball m Ball Bälle toy
doll f Puppe Puppen toy
pencil m Bleistift Bleistifte
camera f Kamera Kameras repairable
guitar f Gitarre Gitarren
ring m Ring Ringe
present n Geschenk Geschenke sendable openable
flower f Blume Blumen sendable
picture n Bild Bilder sendable
candle f Kerze Kerzen
blanket f Decke Decken
# vehicle
car n Auto Autos private washable
bicycle n Fahrrad Fahrräder private washable
lorry m Lastwagen Lastwagen private washable
boat n Boot Boote private
bus m Bus Busse public
train m Zug Züge public
ship n Schiff Schiffe public
tram f Straßenbahn Straßenbahnen public
# room
kitchen f Küche Küchen
bathroom n Badezimmer Badezimmer
bedroom n Schlafzimmer Schlafzimmer
living_room n Wohnzimmer Wohnzimmer
cellar m Keller Keller
garage f Garage Garagen
office n Büro Büros
# opening
door f Tür Türen cleanable openable
window n Fenster Fenster cleanable openable
# building
house n Haus Häuser built house
tower m Turm Türme built
bridge f Brücke Brücken built
castle n Schloss Schlösser sight
church f Kirche Kirchen sight
museum n Museum Museen sight
restaurant n Restaurant Restaurants sight
theatre n Theater Theater sight
hotel n Hotel Hotels
school f Schule Schulen
hospital n Krankenhaus Krankenhäuser
library f Bibliothek Bibliotheken sight
cinema n Kino Kinos
station m Bahnhof Bahnhöfe
supermarket m Supermarkt Supermärkte
bakery f Bäckerei Bäckereien
# nature
garden m Garten Gärten sight
park m Park Parks sight
forest m Wald Wälder
beach m Strand Strände
village n Dorf Dörfer sight
city f Stadt Städte sight
tree m Baum Bäume plant
"""


def _parse(table: str) -> tuple[Noun, ...]:
    found: list[Noun] = []
    group: list[str] = []
    for line in table.strip().splitlines():
        if line.startswith("#"):
            group = line[1:].split()
            continue
        english, gender, german, plural, *rest = line.split()
        english = english.replace("_", " ")
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


def nouns_tagged(tags: tuple[str, ...]) -> tuple[Noun, ...]:
    """All nouns that carry at least one of the tags, in table order."""
    return tuple(noun for noun in NOUNS if any(tag in noun.tags for tag in tags))


@dataclass(frozen=True)
class Place:
    """Where something happens (`at`, German dative) and how one goes there (`to`)."""

    noun: Noun
    en_at: str
    de_at: str
    de_to: str
    to_case: str


def _places() -> tuple[Place, ...]:
    indoors = (
        "kitchen", "bathroom", "bedroom", "living room", "cellar", "garage", "office", "museum", "restaurant",
        "theatre", "hotel", "school", "hospital", "library", "cinema", "supermarket", "bakery", "church",
        "garden", "park", "forest", "village", "city", "castle",
    )  # fmt: skip
    inside = [Place(NOUN_BY_ENGLISH[name], "in", "in", "in", "acc") for name in indoors]
    station = Place(NOUN_BY_ENGLISH["station"], "at", "an", "zu", "dat")
    beach = Place(NOUN_BY_ENGLISH["beach"], "on", "an", "an", "acc")
    return (*inside, station, beach)


PLACES = _places()
