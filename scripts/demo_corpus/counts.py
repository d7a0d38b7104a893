"""Templates for positions and counts."""

from __future__ import annotations

from . import grammar, phrases, verbs
from .dice import Dice
from .german import contract
from .grammar import Clause
from .nouns import NOUN_BY_ENGLISH, PLACES, nouns_tagged
from .templates import Sentence, sentence

_MOVABLE = tuple(n for n in nouns_tagged(("thing", "ware", "clothes")) if n.en != "letter")
_OUTDOORS = ("forest", "city", "park")
_FURNISHED = tuple(place for place in PLACES if place.noun.en not in _OUTDOORS)
_COUNTED = nouns_tagged(("furniture", "stranger", "ware"))
_POSITIONS = (
    ("on", "auf"),
    ("under", "unter"),
    ("behind", "hinter"),
    ("next to", "neben"),
    ("in front of", "vor"),
)
_HIDDEN_BY = tuple(NOUN_BY_ENGLISH[n] for n in ("table", "chair", "bed", "sofa"))


def there_are(dice: Dice) -> Sentence:
    """A count of things or people in a place: `There are three chairs in the kitchen.`"""
    noun = dice.pick(_COUNTED)
    number = dice.between(2, 12)
    phrase = grammar.noun_phrase(noun, "", phrases.some_adjective(dice, noun), number=number)
    place = dice.pick(_FURNISHED)
    where = grammar.noun_phrase(place.noun, "the", phrases.some_adjective(dice, place.noun, 0.3))
    at = f"{place.en_at} {where.en}", contract(place.de_at, where.de["dat"])
    combos = phrase.combinations + where.combinations
    if dice.chance(0.5):
        return sentence(f"{at[0]} there are {phrase.en}", f"{at[1]} gibt es {phrase.de['acc']}", combos)
    return sentence(f"there are {phrase.en} {at[0]}", f"es gibt {phrase.de['acc']} {at[1]}", combos)


def position(dice: Dice) -> Sentence:
    """The position of a thing, or a question about it."""
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
