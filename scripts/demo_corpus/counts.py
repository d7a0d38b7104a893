"""Sentence templates about numbers, hours and where things are."""

from __future__ import annotations

from . import clauses, grammar, lexicon, numbers, phrases, verbs
from .german import contract
from .grammar import NOTHING, Both, Clause, Phrase
from .nouns import NOUN_BY_ENGLISH, PLACES, nouns_tagged
from .phrases import Dice
from .templates import Sentence, sentence

_PRICED = nouns_tagged(("clothes", "furniture", "device", "ware", "readable", "sack"))
_MOVABLE = tuple(n for n in nouns_tagged(("thing", "ware", "clothes")) if n.en != "letter")
_YOUNG = ("child", "boy", "girl")
_TRANSPORT = nouns_tagged(("public",))
_OUTDOORS = ("forest", "beach", "village", "city", "park")
_FURNISHED = tuple(place for place in PLACES if place.noun.en not in _OUTDOORS)
_COUNTED = nouns_tagged(("furniture", "stranger", "ware"))
_POSITIONS = (
    ("on", "auf"),
    ("under", "unter"),
    ("behind", "hinter"),
    ("next to", "neben"),
    ("in front of", "vor"),
)
_HIDDEN_BY = tuple(NOUN_BY_ENGLISH[n] for n in ("table", "chair", "bed", "sofa", "cupboard", "shelf"))


def _number(dice: Dice, low: int, high: int) -> tuple[int, Both]:
    number = dice.between(low, high)
    return number, (numbers.english_number(number), numbers.german_number(number))


def _age(dice: Dice, subject: Phrase, full: bool = True) -> tuple[Clause, str]:
    low = 50 if subject.noun.startswith("grand") else 20 if subject.noun not in ("", *_YOUNG) else 2
    number, words = _number(dice, low, 15 if subject.noun in _YOUNG else 99)
    years = (f"{words[0]} years old", f"{words[1]} Jahre alt") if full else words
    return Clause(subject, verbs.BE, complement=years), f"{number}+years"


def age(dice: Dice) -> Sentence:
    """`My uncle is fifty-two years old`, one or two people."""
    first, combo = _age(dice, _single(dice))
    if dice.chance(0.3):
        return sentence(grammar.english_clause(first), grammar.german_clause(first), (combo,))
    other = _single(dice)
    while other.en == first.subject.en:
        other = _single(dice)
    second, more = _age(dice, other, full=False)
    return sentence(
        f"{grammar.english_clause(first)} and {grammar.english_clause(second)}",
        f"{grammar.german_clause(first)} und {grammar.german_clause(second)}",
        (combo, more),
    )


def _single(dice: Dice) -> Phrase:
    while True:
        phrase = phrases.person_subject(dice)
        if phrase.person == "3s" and not phrase.combinations:
            return phrase


def price(dice: Dice) -> Sentence:
    """What a thing costs."""
    noun = dice.pick(_PRICED)
    subject = phrases.thing(dice, noun, None, denied=False, definite=True)
    number, words = _number(dice, 2, 99)
    combos = (f"{number}+euros",)
    cost = Clause(subject, verbs.COST, complement=(f"{words[0]} euros", f"{words[1]} Euro"), extra=combos)
    return sentence(grammar.english_clause(cost), grammar.german_clause(cost), cost.combinations)


def there_are(dice: Dice) -> Sentence:
    """How many there are in a place."""
    noun = dice.pick(_COUNTED)
    number = dice.between(2, 99 if dice.chance(0.5) else 20)
    phrase = grammar.noun_phrase(noun, "", phrases.some_adjective(dice, noun), number=number)
    place = dice.pick(_FURNISHED)
    where = grammar.noun_phrase(place.noun, "the", phrases.some_adjective(dice, place.noun, 0.3))
    at = f"{place.en_at} {where.en}", contract(place.de_at, where.de["dat"])
    combos = phrase.combinations + where.combinations
    if dice.chance(0.5):
        return sentence(f"{at[0]} there are {phrase.en}", f"{at[1]} gibt es {phrase.de['acc']}", combos)
    return sentence(f"there are {phrase.en} {at[0]}", f"es gibt {phrase.de['acc']} {at[1]}", combos)


def position(dice: Dice) -> Sentence:
    """Where a thing is, or a question for it."""
    noun = dice.pick(_MOVABLE)
    subject = phrases.thing(dice, noun, None, denied=False, definite=True)
    if dice.chance(0.3):
        where = Clause(subject, verbs.BE, dice.pick(("present", "past")))
        english, german = grammar.english_question(where), grammar.german_question(where)
        return sentence(f"where {english}", f"wo {german}", where.combinations, "?")
    landmark = dice.pick(tuple(n for n in _HIDDEN_BY if n is not noun))
    det = dice.pick(("the", "the", "my", "our", "his", "her", "their"))
    phrase = grammar.noun_phrase(landmark, det, phrases.some_adjective(dice, landmark))
    english, german = dice.pick(_POSITIONS)
    at = f"{english} {phrase.en}", f"{german} {phrase.de['dat']}"
    c = Clause(subject, verbs.BE, dice.pick(("present", "present", "past")), complement=at, extra=phrase.combinations)
    if dice.chance(0.25):
        return sentence(grammar.english_question(c), grammar.german_question(c), c.combinations, "?")
    return sentence(grammar.english_clause(c), grammar.german_clause(c), c.combinations)


def time_of_day(dice: Dice) -> Sentence:
    """What time it is, or when something leaves and arrives."""
    if dice.chance(0.3):
        time, combos = clauses.hour(dice, ("it is", "es ist"))
        if dice.chance(0.4):
            return sentence(time[0], time[1], combos)
        called = phrases.name(dice)
        english, german = time[0].replace("it is", "it is already"), time[1].replace("es ist", "es ist schon")
        return sentence(f"{called.en}, {english}", f"{called.de['nom']}, {german}", combos)
    noun = dice.pick(_TRANSPORT)
    subject = grammar.noun_phrase(noun, dice.pick(("the", "the", "our", "this")), phrases.some_adjective(dice, noun))
    verb = dice.pick((verbs.LEAVE, verbs.ARRIVE))
    time, combos = clauses.hour(dice)
    city = dice.pick(lexicon.CITIES)
    place = (f"in {city[0]}", f"in {city[1]}") if verb is verbs.ARRIVE and dice.chance(0.5) else NOTHING
    tense = dice.pick(("habit", "past", "future"))
    c = Clause(subject, verb, tense, time=time, complement=place, extra=combos)
    if dice.chance(0.3):
        return sentence(grammar.english_question(c), grammar.german_question(c), c.combinations, "?")
    if dice.chance(0.3):
        untimed = Clause(subject, verb, tense, complement=place)
        english = f"{time[0]} {grammar.english_clause(untimed)}"
        return sentence(english, grammar.german_clause(untimed, time[1]), c.combinations)
    return sentence(grammar.english_clause(c), grammar.german_clause(c), c.combinations)
