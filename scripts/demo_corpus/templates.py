"""Sentence templates: statements, questions, commands, reasons, greetings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from . import clauses, grammar, invented, lexicon, phrases, verbs
from .dice import Dice
from .grammar import NOTHING, Both, Clause, Phrase
from .nouns import INVENTED, NOUN_BY_ENGLISH, NOUNS


class Sentence(NamedTuple):
    """A sentence pair with the pairs of lemmas that it combines."""

    english: str
    german: str
    combinations: tuple[str, ...]


_THINGS = tuple(n for n in NOUNS if n.countable and "person" not in n.tags and phrases.fitting_adjectives(n))
_PERSONAL = tuple(a for a in lexicon.ADJECTIVES if "person" in a.tags and not a.not_tags)
_ADVICE = tuple(modal for modal in verbs.MODALS if modal.auxiliary in ("can", "must", "should"))
_WHERE = ("buy", "find", "lose", "meet", "see", "forget", "work", "study", "sleep", "eat", "wait")


def sentence(english: str, german: str, combinations: tuple[str, ...], end: str = ".") -> Sentence:
    """The finished pair: capital letter in front, punctuation at the end."""
    return Sentence(english[0].upper() + english[1:] + end, german[0].upper() + german[1:] + end, combinations)


def statement(dice: Dice) -> Sentence:
    """A main clause, often with the time in front."""
    c = clauses.clause(dice, phrases.person_subject(dice))
    if c.time != NOTHING and dice.chance(0.5):
        inner = replace(c, time=NOTHING)
        english = f"{c.time[0]} {grammar.english_clause(inner)}"
        return sentence(english, _fronted(c), c.combinations)
    return sentence(grammar.english_clause(c), grammar.german_clause(c), c.combinations)


def _fronted(c: Clause) -> str:
    return grammar.german_clause(replace(c, time=NOTHING), c.time[1])


def question(dice: Dice) -> Sentence:
    """A yes-or-no question about somebody."""
    c = clauses.clause(dice, phrases.person_subject(dice), denial=0)
    if c.subject in (grammar.ME, grammar.WE):
        # One asks oneself "should I", hardly "do I".
        c = clauses.clause(dice, c.subject, ("future",), denial=0, timed=False)
        while c.verb.stative:
            c = clauses.clause(dice, c.subject, ("future",), denial=0, timed=False)
        c = replace(c, tense=dice.pick(_ADVICE))
    return sentence(grammar.english_question(c), grammar.german_question(c), c.combinations, "?")


def wh_question(dice: Dice) -> Sentence:
    """A question with when, why or where."""
    return _named_once(dice, _wh_question)


def _wh_question(dice: Dice) -> Sentence:
    address, subject = (
        (phrases.given_name(dice), grammar.DU) if dice.chance(0.5) else (None, phrases.person_subject(dice))
    )
    c = clauses.clause(dice, subject, ("past", "past", "future", "present"), denial=0, timed=False)
    words: list[Both] = [("why", "warum")]
    if c.tense in ("past", "future") or not c.verb.stative:
        words.append(("when", "wann"))
    if c.complement == NOTHING and c.verb.en in _WHERE:
        words.append(("where", "wo"))
    english, german = dice.pick(words)
    english, german = f"{english} {grammar.english_question(c)}", f"{german} {grammar.german_question(c)}"
    if address:
        english, german = f"{address.en}, {english}", f"{address.de['nom']}, {german}"
    return sentence(english, german, c.combinations, "?")


def addressed(dice: Dice) -> Sentence:
    """A question or a statement to somebody."""
    return _named_once(dice, _addressed)


def _named_once(dice: Dice, template: Callable[[Dice], Sentence]) -> Sentence:
    """No `Anna, please help Anna`: draws again when the name called comes back in the sentence."""
    while True:
        drawn = template(dice)
        called, comma, rest = drawn.english.partition(", ")
        if not comma or called not in rest:
            return drawn


def _addressed(dice: Dice) -> Sentence:
    called, you = phrases.given_name(dice), grammar.DU
    head = f"{called.en}, ", f"{called.de['nom']}, "
    if dice.chance(0.6):
        c = clauses.clause(dice, you, denial=0)
        english, german = grammar.english_question(c), grammar.german_question(c)
        return sentence(head[0] + english, head[1] + german, c.combinations, "?")
    if dice.chance(0.5):
        c = clauses.clause(dice, you, ("future",))
        if not c.verb.stative:
            c = replace(c, tense=dice.pick(_ADVICE))
        english, german = grammar.english_clause(c), grammar.german_clause(c)
        return sentence(head[0] + english, head[1] + german, c.combinations)
    c = _to_you(dice, you)
    return sentence(head[0] + grammar.english_clause(c), head[1] + grammar.german_clause(c), c.combinations)


def _to_you(dice: Dice, you: Phrase) -> Clause:
    """A clause whose object is the person spoken to."""
    while (subject := phrases.person_subject(dice)) is grammar.DU:
        pass
    tense = dice.pick(("past", "future"))
    time = dice.pick(lexicon.PAST_TIMES if tense == "past" else lexicon.FUTURE_TIMES)
    if dice.chance(0.5):
        people = [v for v in verbs.TRANSITIVE if "person" in v.objects and v.past and v.en != "love"]
        return Clause(subject, dice.pick(people), tense, you, negated=dice.chance(0.2), time=time)
    verb = dice.pick(verbs.DITRANSITIVE)
    thing = phrases.thing(dice, clauses.pick_object(dice, verb), subject, denied=False)
    return Clause(subject, verb, tense, thing, you, time=time)


def command(dice: Dice) -> Sentence:
    """An imperative."""
    return _named_once(dice, _command)


def _command(dice: Dice) -> Sentence:
    called, you = phrases.given_name(dice), grammar.DU
    while True:
        c = clauses.clause(dice, you, ("present",), timed=False)
        if not c.verb.stative and c.verb.objects:
            break
    english = f"{called.en}, {grammar.english_command(c)}"
    return sentence(english, f"{called.de['nom']}, {grammar.german_command(c)}", c.combinations, "!")


def _back(subject: Phrase) -> Phrase | None:
    """The pronoun that takes up the subject."""
    if subject.pronoun:
        return subject
    return {"his": grammar.HE, "her": grammar.SHE, "their": grammar.THEY}.get(subject.possessive)


def _reason(dice: Dice, c: Clause) -> tuple[str, str, tuple[str, ...]]:
    """A reason: a mood, the weather, or a property of the object."""
    past = c.tense == "past"
    tense = "past" if past else "present"
    obj, again = c.obj, _back(c.subject)
    if obj and obj.noun and obj.person in ("3s", "p") and not obj.bans and dice.chance(0.6):
        noun = NOUN_BY_ENGLISH[obj.noun]
        known = (*obj.combinations, *(f"{colour.en}+{noun.en}" for colour in lexicon.COLOURS))
        fitting = [a for a in phrases.fitting_adjectives(noun) if f"{a.en}+{noun.en}" not in known]
        if fitting and "person" not in noun.tags:
            word = dice.pick(fitting)
            why = Clause(grammar.it(obj), verbs.BE, tense, complement=(word.en, word.de))
            return grammar.english_clause(why), grammar.german_subordinate(why), (f"{word.en}+{noun.en}",)
    if again and dice.chance(0.7):
        mood = dice.pick(lexicon.MOODS)
        degree = dice.pick((NOTHING, *lexicon.DEGREES))
        why = Clause(again, verbs.BE, tense, complement=_degreed(mood, degree))
        return grammar.english_clause(why), grammar.german_subordinate(why), ()
    verb = dice.pick((("raining", "regnet", "geregnet"), ("snowing", "schneit", "geschneit")))
    if past:
        return f"it was {verb[0]}", f"es {verb[2]} hat", ()
    return f"it is {verb[0]}", f"es {verb[1]}", ()


def _degreed(word: lexicon.Adjective, degree: Both) -> Both:
    return f"{degree[0]} {word.en}".strip(), f"{degree[1]} {word.de}".strip()


def because(dice: Dice) -> Sentence:
    """A statement and its reason, a clause with the verb at the end."""
    while True:
        c = clauses.clause(dice, phrases.person_subject(dice), ("present", "past", "past", "modal"))
        if not c.verb.stative:  # nobody loves his brother because it is raining
            break
    english, german, combos = _reason(dice, c)
    return sentence(
        f"{grammar.english_clause(c)} because {english}",
        f"{grammar.german_clause(c)}, weil {german}",
        c.combinations + combos,
    )


def description(dice: Dice) -> Sentence:
    """A predicate adjective: `The bottle is very small.`"""
    if dice.chance(0.3):
        subject = phrases.person_subject(dice)
        words = [a for a in _PERSONAL if f"{a.en}+{subject.noun}" not in subject.combinations]
    else:
        noun = INVENTED if dice.chance(0.1) else dice.pick(_THINGS)
        subject = phrases.thing(dice, noun, None, denied=False, definite=True)
        words = [a for a in phrases.fitting_adjectives(noun) if f"{a.en}+{noun.en}" not in subject.combinations]
    word = dice.pick(words)
    combos = (f"{word.en}+{subject.noun}",) if subject.noun else ()
    degree = dice.pick((NOTHING, NOTHING, *lexicon.DEGREES))
    denied = degree[0] in ("", "very") and dice.chance(0.2)
    c = Clause(
        subject, verbs.BE, dice.pick(("present", "present", "past")),
        negated=denied, complement=_degreed(word, degree), extra=combos,
    )  # fmt: skip
    if not denied and dice.chance(0.3):
        return sentence(grammar.english_question(c), grammar.german_question(c), c.combinations, "?")
    return sentence(grammar.english_clause(c), grammar.german_clause(c), c.combinations)


_GREETINGS = (
    ("hello, {}", "hallo, {}", "!"),
    ("good morning, {}", "guten Morgen, {}", "!"),
    ("thank you, {}", "danke, {}", "!"),
    ("my name is {}", "mein Name ist {}", "."),
    ("this is {}", "das ist {}", "."),
    ("I am {}", "ich bin {}", "."),
    ("where is {}", "wo ist {}", "?"),
    ("I love {}", "ich liebe {}", "."),
)


def greeting(dice: Dice) -> Sentence:
    """A greeting or an introduction, with an invented name."""
    english, german, end = dice.pick(_GREETINGS)
    return sentence(english.format(invented.NAME), german.format(invented.NAME), (), end)
