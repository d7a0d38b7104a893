"""Random phrases: people, things and places."""

from __future__ import annotations

from functools import cache

from . import grammar, lexicon
from .dice import Dice
from .german import contract
from .grammar import Both, Phrase
from .nouns import PLACES, Noun, nouns_tagged

_OWNERS = ("my", "his", "her", "our", "their")
_HUMANS = nouns_tagged(("person",))


@cache
def fitting_adjectives(noun: Noun) -> tuple[lexicon.Adjective, ...]:
    """The adjectives that go with the noun."""
    return tuple(word for word in lexicon.ADJECTIVES if word.fits(noun))


def some_adjective(dice: Dice, noun: Noun, share: float = 0.4) -> lexicon.Adjective | None:
    """An adjective for the noun, or none."""
    fitting = fitting_adjectives(noun)
    return dice.pick(fitting) if fitting and dice.chance(share) else None


def owner(dice: Dice, subject: Phrase | None) -> str:
    """A possessive, mostly the subject's own."""
    if subject and subject.possessive in (*_OWNERS, "your") and dice.chance(0.75):
        return subject.possessive
    return dice.pick(_OWNERS)


def person_noun(dice: Dice, subject: Phrase | None = None, indefinite: bool = False) -> Phrase:
    """`my old uncle`, `the teacher`, `these children`."""
    noun = dice.pick(_HUMANS)
    family, only_one = "family" in noun.tags, "one" in noun.tags
    plural = not only_one and dice.chance(0.2)
    dets = ["the", "the", "this"]
    if "stranger" not in noun.tags:
        dets = ["own"] if family else ["the", "own", "own"]
    if indefinite and not family and not plural:
        dets.append("a")
    det = dice.pick(dets)
    det = owner(dice, subject) if det == "own" else det
    return grammar.noun_phrase(noun, det, some_adjective(dice, noun, 0.3), plural)


def given_name(dice: Dice) -> Phrase:
    """A first name."""
    return grammar.given_name(*dice.pick(lexicon.GIVEN_NAMES))


def name(dice: Dice) -> Phrase:
    """A first name, or a family name with Mr. or Mrs."""
    if dice.chance(0.75):
        return given_name(dice)
    return grammar.titled(dice.pick(lexicon.FAMILY_NAMES), dice.pick(("f", "m")))


def person_subject(dice: Dice) -> Phrase:
    """A person as the subject."""
    if dice.chance(0.45):
        return dice.pick((grammar.ME, grammar.ME, *grammar.PRONOUNS, grammar.DU))
    return name(dice) if dice.chance(0.45) else person_noun(dice, indefinite=False)


def person_object(dice: Dice, subject: Phrase) -> Phrase:
    """A person as an object; never the first person twice."""
    if dice.chance(0.25):
        speakers = (grammar.ME, grammar.WE)
        others = [p for p in grammar.PRONOUNS if not (p in speakers and subject in speakers)]
        others += [grammar.DU] if subject is not grammar.DU else []
        return dice.pick(others)
    if dice.chance(0.25):
        other = name(dice)
        return other if other.en != subject.en else grammar.THEY
    return person_noun(dice, subject, indefinite=True)


def thing(dice: Dice, noun: Noun, subject: Phrase | None, denied: bool, definite: bool = False) -> Phrase:
    """A thing, an animal or food as an object."""
    adjective = some_adjective(dice, noun)
    if not noun.countable:
        det = "the" if definite else dice.pick(("", "", "", "the", "this"))
        return grammar.noun_phrase(noun, "no" if denied and not det else det, adjective)
    plural = dice.chance(0.2)
    kinds = ["the", "the", "own", "own", "this"] if definite else ["the", "the", "a", "a", "own", "own", "this"]
    if "building" in noun.tags or "nature" in noun.tags:
        kinds = [kind for kind in kinds if kind != "own"]
    det = dice.pick(kinds)
    det = owner(dice, subject) if det == "own" else det
    number = 0
    if det == "a" and plural:
        number = dice.between(2, 12) if dice.chance(0.3) and not denied else 0
        det = ""
    if denied and det in ("a", "") and not number:
        det = "no"
    return grammar.noun_phrase(noun, det, adjective, plural, number)


def place_phrase(dice: Dice, towards: bool = False) -> tuple[Both, tuple[str, ...]]:
    """`in the kitchen` or `to the kitchen`, with its combinations."""
    place = dice.pick(PLACES)
    phrase = grammar.noun_phrase(place.noun, dice.pick(("the",) * 5 + ("this",)), some_adjective(dice, place.noun, 0.2))
    if towards:
        both = f"to {phrase.en}", contract(place.de_to, phrase.de[place.to_case])
    else:
        both = f"{place.en_at} {phrase.en}", contract(place.de_at, phrase.de["dat"])
    return both, phrase.combinations
