"""The verbs of the built-in task with their frames."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """A verb in both languages.

    `past` is empty where the English past looks like the present, so that no sentence is ambiguous.
    `objects` are the noun tags that may be its object; `prefix` is the separable German particle.
    """

    en: str
    past: str
    de: str
    participle: str
    objects: tuple[str, ...] = ()
    du: str = ""
    er: str = ""
    ich: str = ""
    command: str = ""
    aux: str = "haben"
    prefix: str = ""
    case: str = "acc"
    particle: str = ""
    en_prep: str = ""
    de_prep: str = ""
    ing: str = ""
    stative: bool = False


_GOODS = ("clothes", "furniture", "device", "ware", "thing", "private")
_FIND = ("clothes", "thing", "ware", "animal", "person", "readable")

TRANSITIVE = (
    Verb("eat", "ate", "essen", "gegessen", ("food",), du="isst", er="isst", command="iss"),
    Verb("drink", "drank", "trinken", "getrunken", ("drink", "portion")),
    Verb("buy", "bought", "kaufen", "gekauft", (*_GOODS, "food", "drink", "portion", "house")),
    Verb("sell", "sold", "verkaufen", "verkauft", _GOODS),
    Verb("need", "needed", "brauchen", "gebraucht", _GOODS, stative=True),
    Verb("cook", "cooked", "kochen", "gekocht", ("dish",)),
    Verb("read", "", "lesen", "gelesen", ("readable",), du="liest", er="liest", command="lies"),
    Verb("write", "wrote", "schreiben", "geschrieben", ("writable",)),
    Verb(
        "see", "saw", "sehen", "gesehen", ("person", "animal", "vehicle", "building", "nature"),
        du="siehst", er="sieht", stative=True,
    ),
    Verb("look", "looked", "suchen", "gesucht", _FIND, en_prep="for"),
    Verb(
        "find", "found", "finden", "gefunden", ("clothes", "thing", "ware", "animal", "readable"),
        stative=True,
    ),
    Verb("lose", "lost", "verlieren", "verloren", ("clothes", "thing"), stative=True),
    Verb(
        "forget", "forgot", "vergessen", "vergessen", ("clothes", "thing"),
        du="vergisst", er="vergisst", stative=True,
    ),
    Verb(
        "have", "", "haben", "gehabt", ("animal", "private", "thing", "device"),
        du="hast", er="hat", stative=True,
    ),
    Verb("wear", "wore", "tragen", "getragen", ("clothes",), du="trägst", er="trägt"),
    Verb("wash", "washed", "waschen", "gewaschen", ("clothes", "washable"), du="wäschst", er="wäscht"),
    Verb("clean", "cleaned", "putzen", "geputzt", ("room", "cleanable")),
    Verb("open", "opened", "öffnen", "geöffnet", ("openable", "opening"), ing="opening"),
    Verb("visit", "visited", "besuchen", "besucht", ("person", "sight"), ing="visiting"),
    Verb("meet", "met", "treffen", "getroffen", ("person",), du="triffst", er="trifft", command="triff"),
    Verb("ask", "asked", "fragen", "gefragt", ("person",)),
    Verb("know", "", "kennen", "gekannt", ("person", "sight"), stative=True),
    Verb("love", "loved", "lieben", "geliebt", ("person", "animal"), stative=True),
    Verb(
        "like", "", "mögen", "gemocht", ("person", "animal", "food", "drink", "clothes"),
        ich="mag", du="magst", er="mag", stative=True,
    ),
    # Dative objects.
    Verb(
        "help", "helped", "helfen", "geholfen", ("person",),
        du="hilfst", er="hilft", command="hilf", case="dat",
    ),
    # Separable verbs.
    Verb("call", "called", "rufen", "angerufen", ("person",), prefix="an"),
    Verb("pick", "picked", "holen", "abgeholt", ("person",), prefix="ab", particle="up"),
    # Prepositional objects.
    Verb(
        "talk", "talked", "sprechen", "gesprochen", ("person",),
        du="sprichst", er="spricht", command="sprich", en_prep="to", de_prep="mit", case="dat",
    ),
)  # fmt: skip

DITRANSITIVE = (
    Verb(
        "give", "gave", "geben", "gegeben", ("thing", "food", "ware", "clothes"),
        du="gibst", er="gibt", command="gib",
    ),
    Verb(
        "show", "showed", "zeigen", "gezeigt", ("thing", "room", "sight", "private", "clothes", "furniture"),
    ),
    Verb("bring", "brought", "bringen", "gebracht", ("food", "drink", "portion", "thing", "ware")),
    Verb("send", "sent", "schicken", "geschickt", ("sendable",)),
)  # fmt: skip

INTRANSITIVE = (
    Verb("sleep", "slept", "schlafen", "geschlafen", du="schläfst", er="schläft"),
    Verb("work", "worked", "arbeiten", "gearbeitet"),
    Verb("sing", "sang", "singen", "gesungen"),
    Verb("dance", "danced", "tanzen", "getanzt"),
    Verb("laugh", "laughed", "lachen", "gelacht"),
    Verb("get up", "got up", "stehen", "aufgestanden", prefix="auf", aux="sein", ing="getting up"),
    Verb("watch TV", "watched TV", "sehen", "ferngesehen", prefix="fern", du="siehst", er="sieht"),
)  # fmt: skip
NO_PLACE = ("get up", "fall asleep", "go out", "come back")

GO = Verb("go", "went", "gehen", "gegangen", aux="sein")
RUN = Verb("run", "ran", "laufen", "gelaufen", du="läufst", er="läuft", aux="sein", ing="running")
TRAVEL = (
    Verb("travel", "travelled", "reisen", "gereist", aux="sein", ing="travelling"),
    Verb("fly", "flew", "fliegen", "geflogen", aux="sein"),
)
LIVE = Verb("live", "lived", "wohnen", "gewohnt", stative=True)
BE = Verb("be", "was", "sein", "gewesen", ich="bin", du="bist", er="ist", aux="sein", stative=True)


@dataclass(frozen=True)
class Modal:
    """A modal verb; `en` is an English auxiliary (`can`) or a full verb with `to` (`want to`)."""

    en: str
    ich: str
    du: str
    wir: str
    auxiliary: str = ""


MODALS = (
    Modal("can", "kann", "kannst", "können", "can"),
    Modal("must", "muss", "musst", "müssen", "must"),
    Modal("should", "sollte", "solltest", "sollten", "should"),
    Modal("want to", "will", "willst", "wollen"),
    Modal("would like to", "möchte", "möchtest", "möchten", "would"),
)
# "Must not" is a ban, which German says with another modal.
BAN = Modal("must", "darf", "darfst", "dürfen", "must")
