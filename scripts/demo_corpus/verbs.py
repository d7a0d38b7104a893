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
    Verb("drink", "drank", "trinken", "getrunken", ("drink",)),
    Verb("buy", "bought", "kaufen", "gekauft", (*_GOODS, "food", "drink", "house")),
    Verb("sell", "sold", "verkaufen", "verkauft", _GOODS),
    Verb("need", "needed", "brauchen", "gebraucht", _GOODS, stative=True),
    Verb("cook", "cooked", "kochen", "gekocht", ("dish",)),
    Verb("bake", "baked", "backen", "gebacken", ("baked",)),
    Verb("order", "ordered", "bestellen", "bestellt", ("food", "drink"), ing="ordering"),
    Verb("try", "tried", "probieren", "probiert", ("food", "drink")),
    Verb("read", "", "lesen", "gelesen", ("readable",), du="liest", er="liest", command="lies"),
    Verb("write", "wrote", "schreiben", "geschrieben", ("writable",)),
    Verb(
        "see", "saw", "sehen", "gesehen", ("person", "animal", "vehicle", "building", "nature"),
        du="siehst", er="sieht", stative=True,
    ),
    Verb("hear", "heard", "hören", "gehört", ("person", "animal", "public"), stative=True),
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
    Verb("carry", "carried", "tragen", "getragen", ("sack", "furniture", "ware"), du="trägst", er="trägt"),
    Verb("wash", "washed", "waschen", "gewaschen", ("clothes", "washable"), du="wäschst", er="wäscht"),
    Verb("repair", "repaired", "reparieren", "repariert", ("device", "private", "furniture", "repairable")),
    Verb("clean", "cleaned", "putzen", "geputzt", ("room", "cleanable")),
    Verb("open", "opened", "öffnen", "geöffnet", ("openable", "opening"), ing="opening"),
    Verb("close", "closed", "schließen", "geschlossen", ("openable", "opening")),
    Verb(
        "photograph", "photographed", "fotografieren", "fotografiert",
        ("animal", "building", "nature", "person"),
    ),
    Verb("build", "built", "bauen", "gebaut", ("built", "furniture")),
    Verb("draw", "drew", "zeichnen", "gezeichnet", ("animal", "plant", "built", "stranger", "vehicle")),
    Verb("feed", "fed", "füttern", "gefüttert", ("animal",)),
    Verb("watch", "watched", "beobachten", "beobachtet", ("animal", "stranger")),
    Verb("visit", "visited", "besuchen", "besucht", ("person", "sight"), ing="visiting"),
    Verb("meet", "met", "treffen", "getroffen", ("person",), du="triffst", er="trifft", command="triff"),
    Verb("ask", "asked", "fragen", "gefragt", ("person",)),
    Verb("know", "", "kennen", "gekannt", ("person", "sight"), stative=True),
    Verb("love", "loved", "lieben", "geliebt", ("person", "animal"), stative=True),
    Verb(
        "like", "", "mögen", "gemocht", ("person", "animal", "food", "drink", "clothes"),
        ich="mag", du="magst", er="mag", stative=True,
    ),
    Verb(
        "recommend", "recommended", "empfehlen", "empfohlen", ("food", "drink", "readable", "sight"),
        du="empfiehlst", er="empfiehlt", command="empfiehl", stative=True,
    ),
    # Dative objects.
    Verb(
        "help", "helped", "helfen", "geholfen", ("person",),
        du="hilfst", er="hilft", command="hilf", case="dat",
    ),
    Verb("thank", "thanked", "danken", "gedankt", ("person",), case="dat"),
    Verb("answer", "answered", "antworten", "geantwortet", ("person",), case="dat", ing="answering"),
    Verb("follow", "followed", "folgen", "gefolgt", ("person", "animal"), case="dat", aux="sein"),
    Verb(
        "listen", "listened", "hören", "zugehört", ("person",),
        case="dat", prefix="zu", en_prep="to", ing="listening",
    ),
    # Separable verbs.
    Verb("call", "called", "rufen", "angerufen", ("person",), prefix="an"),
    Verb("invite", "invited", "laden", "eingeladen", ("person",), du="lädst", er="lädt", prefix="ein"),
    Verb("pick", "picked", "holen", "abgeholt", ("person",), prefix="ab", particle="up"),
    Verb("wake", "woke", "wecken", "aufgeweckt", ("person",), prefix="auf", particle="up"),
    Verb("turn", "turned", "schalten", "eingeschaltet", ("device",), prefix="ein", particle="on"),
    Verb("turn", "turned", "schalten", "ausgeschaltet", ("device",), prefix="aus", particle="off"),
    Verb("try", "tried", "probieren", "anprobiert", ("clothes",), prefix="an", particle="on"),
    Verb("take", "took", "ziehen", "ausgezogen", ("clothes",), prefix="aus", particle="off"),
    Verb("tidy", "tidied", "räumen", "aufgeräumt", ("room",), prefix="auf", particle="up"),
    Verb(
        "throw", "threw", "werfen", "weggeworfen", ("thing", "clothes", "ware"),
        du="wirfst", er="wirft", command="wirf", prefix="weg", particle="away",
    ),
    Verb("choose", "chose", "wählen", "ausgewählt", ("clothes", "furniture", "thing"), prefix="aus"),
    Verb("pack", "packed", "packen", "eingepackt", ("clothes", "thing"), prefix="ein"),
    # Prepositional objects.
    Verb("wait", "waited", "warten", "gewartet", ("person", "public"), en_prep="for", de_prep="auf"),
    Verb("think", "thought", "denken", "gedacht", ("person",), en_prep="of", de_prep="an"),
    Verb(
        "talk", "talked", "sprechen", "gesprochen", ("person",),
        du="sprichst", er="spricht", command="sprich", en_prep="to", de_prep="mit", case="dat",
    ),
    Verb("play", "played", "spielen", "gespielt", ("pet", "toy"), en_prep="with", de_prep="mit", case="dat"),
    Verb(
        "dream", "dreamed", "träumen", "geträumt", ("vehicle", "nature"),
        en_prep="of", de_prep="von", case="dat",
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
    Verb("bring", "brought", "bringen", "gebracht", ("food", "drink", "thing", "ware")),
    Verb("send", "sent", "schicken", "geschickt", ("sendable",)),
    Verb("lend", "lent", "leihen", "geliehen", ("thing", "private", "ware", "device")),
)  # fmt: skip

INTRANSITIVE = (
    Verb("sleep", "slept", "schlafen", "geschlafen", du="schläfst", er="schläft"),
    Verb("work", "worked", "arbeiten", "gearbeitet"),
    Verb("sing", "sang", "singen", "gesungen"),
    Verb("dance", "danced", "tanzen", "getanzt"),
    Verb("laugh", "laughed", "lachen", "gelacht"),
    Verb("cry", "cried", "weinen", "geweint"),
    Verb("study", "studied", "lernen", "gelernt"),
    Verb("celebrate", "celebrated", "feiern", "gefeiert"),
    Verb("smoke", "smoked", "rauchen", "geraucht"),
    Verb("have breakfast", "had breakfast", "frühstücken", "gefrühstückt"),
    Verb("get up", "got up", "stehen", "aufgestanden", prefix="auf", aux="sein", ing="getting up"),
    Verb("fall asleep", "fell asleep", "schlafen", "eingeschlafen", prefix="ein", aux="sein",
         du="schläfst", er="schläft"),
    Verb("go out", "went out", "gehen", "ausgegangen", prefix="aus", aux="sein"),
    Verb("come back", "came back", "kommen", "zurückgekommen", prefix="zurück", aux="sein"),
    Verb("watch TV", "watched TV", "sehen", "ferngesehen", prefix="fern", du="siehst", er="sieht"),
)  # fmt: skip
NO_PLACE = ("get up", "fall asleep", "go out", "come back")

GO = Verb("go", "went", "gehen", "gegangen", aux="sein")
RUN = Verb("run", "ran", "laufen", "gelaufen", du="läufst", er="läuft", aux="sein", ing="running")
TRAVEL = (
    Verb("travel", "travelled", "reisen", "gereist", aux="sein", ing="travelling"),
    Verb("fly", "flew", "fliegen", "geflogen", aux="sein"),
    Verb("move", "moved", "ziehen", "gezogen", aux="sein"),
)
LIVE = Verb("live", "lived", "wohnen", "gewohnt", stative=True)
LEAVE = Verb("leave", "left", "fahren", "abgefahren", du="fährst", er="fährt", prefix="ab", aux="sein")
ARRIVE = Verb("arrive", "arrived", "kommen", "angekommen", prefix="an", aux="sein")
COST = Verb("cost", "", "kosten", "gekostet", stative=True)
BE = Verb("be", "was", "sein", "gewesen", ich="bin", du="bist", er="ist", aux="sein", stative=True)

SAY = (
    Verb("know", "", "wissen", "gewusst", ich="weiß", du="weißt", er="weiß", stative=True),
    Verb("believe", "believed", "glauben", "geglaubt", stative=True),
    Verb("hope", "hoped", "hoffen", "gehofft", stative=True),
    Verb("say", "said", "sagen", "gesagt", stative=True),
)


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
