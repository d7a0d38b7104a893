"""Random clauses that make sense."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from . import lexicon, numbers, verbs
from .dice import Dice
from .grammar import NOTHING, Both, Clause, Phrase
from .nouns import INVENTED, NOUNS, Noun, nouns_tagged
from .phrases import name, person_noun, person_object, place_phrase, thing
from .verbs import Modal, Verb


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


# Verbs by what one may say with them.
_REPEATED = _listed(
    "eat drink cook read write see hear wear carry wash clean open close watch visit meet ask look help "
    "call invite pick turn tidy wait think talk play forget lose buy repair give show bring send"
)
_MOMENTARY = ("lose", "find", "forget")
_NO_MODAL = ("know", "love", "like", "need", "hear", "lose", "have")
_NO_FUTURE = ("know", "love", "like", "have", "lose", "forget")
_PLACED = _listed("eat drink read write see meet wait talk play lose find forget")
_FOR_SOMEBODY = _listed("buy cook build")


@cache
def objects_of(verb: Verb) -> tuple[Noun, ...]:
    """The nouns that may be the object of the verb."""
    return nouns_tagged(verb.objects)


@cache
def _verbs_taking(noun: Noun) -> tuple[Verb, ...]:
    return tuple(verb for verb in verbs.TRANSITIVE if noun in objects_of(verb))


_OBJECT_NOUNS = tuple(noun for noun in NOUNS if _verbs_taking(noun))


def pick_object(dice: Dice, verb: Verb) -> Noun:
    """A noun that may be the object of the verb, sometimes an invented one."""
    nouns = objects_of(verb)
    return INVENTED if INVENTED in nouns and dice.chance(0.1) else dice.pick(nouns)


def point_in_time(dice: Dice, words: Sequence[Both], past: bool) -> tuple[Both, tuple[str, ...]]:
    """An adverb, a day or a distance from today."""
    kind = dice.between(0, 9)
    if kind < 7:
        return dice.pick(words), ()
    if kind < 9:
        english, german = dice.pick(lexicon.DAYS)
        return (f"on {english}", f"am {german}"), ()
    number, unit = dice.between(2, 12), dice.pick((("days", "Tagen"), ("weeks", "Wochen")))
    english, german = numbers.english_number(number), numbers.german_number(number)
    combos = (f"{number}+{unit[0]}",)
    if past:
        return (f"{english} {unit[0]} ago", f"vor {german} {unit[1]}"), combos
    return (f"in {english} {unit[0]}", f"in {german} {unit[1]}"), combos


def _tense(dice: Dice, verb: Verb, tenses: Sequence[str]) -> str | Modal:
    tense = dice.pick(tenses)
    if tense == "modal":
        return dice.pick(verbs.MODALS) if verb.en not in _NO_MODAL else "present"
    if (tense == "past" and not verb.past) or (tense == "future" and verb.en in _NO_FUTURE):
        return "present"
    if tense == "habit" and (verb.objects and verb.en not in _REPEATED):
        return "present"
    return tense


def _when(
    dice: Dice, verb: Verb, tense: str | Modal, denied: bool, timed: bool
) -> tuple[str | Modal, Both, Both, tuple[str, ...]]:
    """(tense, time, frequency, combinations) that go together."""
    if tense == "present" and verb.en in _MOMENTARY:
        tense = "past" if denied or verb.en == "find" else "habit"
    if not timed:
        if tense == "habit" and verb.en in _MOMENTARY:
            tense = "past"
        return ("present" if tense == "habit" else tense), NOTHING, NOTHING, ()
    if tense == "habit":
        if dice.chance(0.4):
            return tense, NOTHING, NOTHING, ()
        if not denied and dice.chance(0.6):
            return tense, NOTHING, dice.pick(lexicon.FREQUENCIES), ()
        # "He does not talk to them every day" would deny the wrong thing.
        return tense, (NOTHING if denied else dice.pick(lexicon.HABIT_TIMES)), NOTHING, ()
    if tense == "present":
        time = NOTHING if verb.stative or dice.chance(0.5) else dice.pick(lexicon.NOW_TIMES)
        return tense, time, NOTHING, ()
    if dice.chance(0.2):
        return tense, NOTHING, NOTHING, ()
    past = tense == "past"
    time, combos = point_in_time(dice, lexicon.PAST_TIMES if past else lexicon.FUTURE_TIMES, past)
    return tense, time, NOTHING, combos


TENSES = ("present", "habit", "habit", "past", "past", "future", "modal")


def clause(
    dice: Dice,
    subject: Phrase,
    tenses: Sequence[str] = TENSES,
    denial: float = 0.15,
    timed: bool = True,
) -> Clause:
    """A clause about what a person does."""
    denied = dice.chance(denial)
    kind = dice.between(0, 99)
    if kind < 22:
        return _motion(dice, subject, tenses, denied, timed)
    if kind < 35:
        verb = dice.pick(verbs.DITRANSITIVE)
        noun = pick_object(dice, verb)
        recipient = person_object(dice, subject)
    else:
        recipient = None
        if dice.chance(0.5):
            verb = dice.pick(verbs.TRANSITIVE)
            noun = pick_object(dice, verb)
        else:
            noun = dice.pick(_OBJECT_NOUNS)
            verb = dice.pick(_verbs_taking(noun))
    tense, time, frequency, combos = _when(dice, verb, _tense(dice, verb, tenses), denied, timed)
    if "person" in noun.tags:
        obj = person_object(dice, subject)
        denied_something = False
    else:
        denied_something = denied and not verb.de_prep and verb.case == "acc"
        obj = thing(dice, noun, subject, denied_something, definite=denied and not denied_something)
    obj = _settle(dice, obj, denied, subject)
    complement: Both = NOTHING
    if verb.en in _FOR_SOMEBODY and not denied and dice.chance(0.2):
        friend = person_noun(dice, subject)
        complement = f"for {friend.en_object}", f"für {friend.de['acc']}"
        combos += friend.combinations
    elif verb.en in _PLACED and not verb.particle and dice.chance(0.2):
        complement, more = place_phrase(dice)
        combos += more
    return Clause(subject, verb, tense, obj, recipient, denied, time, frequency, complement, combos)


def _settle(dice: Dice, obj: Phrase, denied: bool, subject: Phrase) -> Phrase:
    """No `not ... a teacher` and no `not ... seven apples`: both could be meant in two ways."""
    while denied and not obj.definite and not obj.bans:
        obj = person_object(dice, subject)
    return obj


def _motion(dice: Dice, subject: Phrase, tenses: Sequence[str], denied: bool, timed: bool) -> Clause:
    """A clause without an object: resting, working, going, travelling, living."""
    kind = dice.between(0, 9)
    complement: Both = NOTHING
    combos: tuple[str, ...] = ()
    if kind < 5:
        verb = dice.pick(verbs.INTRANSITIVE)
        if verb.en not in verbs.NO_PLACE and dice.chance(0.6):
            complement, combos = place_phrase(dice)
    elif kind < 8:
        verb = dice.pick((verbs.GO, verbs.GO, verbs.RUN))
        complement, combos = place_phrase(dice, towards=True)
    else:
        verb = dice.pick((*verbs.TRAVEL, verbs.LIVE))
        city = dice.pick(lexicon.CITIES)
        at_home = verb is verbs.LIVE
        complement = (f"{'in' if at_home else 'to'} {city[0]}", f"{'in' if at_home else 'nach'} {city[1]}")
    if verb is not verbs.LIVE and verb.en not in verbs.NO_PLACE and dice.chance(0.2):
        friend = person_noun(dice, subject) if dice.chance(0.7) else name(dice)
        combos += friend.combinations
        complement = (
            f"{complement[0]} with {friend.en_object}".strip(),
            f"mit {friend.de['dat']} {complement[1]}".strip(),
        )
    tense, time, frequency, more = _when(dice, verb, _tense(dice, verb, tenses), denied, timed)
    return Clause(subject, verb, tense, None, None, denied, time, frequency, complement, combos + more)
