"""English inflection: verb forms, articles, auxiliaries."""

from __future__ import annotations

from .verbs import Modal, Verb

_BE = {"1s": ("am", "was"), "3s": ("is", "was")}


def article(next_word: str) -> str:
    """`a` or `an`."""
    return "an" if next_word[0] in "aeiou" else "a"


def third_person(verb: str) -> str:
    """`goes`, `carries`, `has breakfast`: the first word takes the ending."""
    first, _, rest = verb.partition(" ")
    if first == "have":
        first = "has"
    elif first.endswith(("s", "sh", "ch", "x", "o")):
        first += "es"
    elif first.endswith("y") and first[-2] not in "aeiou":
        first = first[:-1] + "ies"
    else:
        first += "s"
    return f"{first} {rest}".strip()


def progressive(verb: Verb) -> str:
    """The -ing form."""
    if verb.ing:
        return verb.ing
    first, _, rest = verb.en.partition(" ")
    if first.endswith("e") and not first.endswith("ee"):
        first = first[:-1]
    return f"{first}ing {rest}".strip()


def be(person: str, past: bool) -> str:
    """The form of `be`."""
    return _BE.get(person, ("are", "were"))[past]


def predicate(verb: Verb, tense: str | Modal, person: str, support: bool) -> tuple[str, str]:
    """(auxiliary, rest): `support` asks for do-support, as questions and negations need it."""
    third = person == "3s"
    if verb.en == "be" and tense in ("present", "habit", "past"):
        return be(person, tense == "past"), ""
    if isinstance(tense, Modal):
        if tense.auxiliary:
            return tense.auxiliary, f"like to {verb.en}" if tense.en == "would like to" else verb.en
        if support:
            return ("does" if third else "do"), f"{tense.en} {verb.en}"
        return "", f"{third_person(tense.en) if third else tense.en} {verb.en}"
    if tense == "future":
        return "will", verb.en
    if tense == "past":
        return ("did", verb.en) if support else ("", verb.past)
    if tense == "present" and not verb.stative:
        return be(person, False), progressive(verb)
    if support:
        return ("does" if third else "do"), verb.en
    return "", third_person(verb.en) if third else verb.en
