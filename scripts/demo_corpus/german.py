"""German inflection: determiners, adjectives, nouns, verbs, contractions."""

from __future__ import annotations

from .lexicon import Adjective
from .nouns import Noun
from .verbs import Modal, Verb

CASES: tuple[str, ...] = ("nom", "acc", "dat")
# Rows by gender or plural, columns by case.
_DEFINITE = {
    "m": ("der", "den", "dem"),
    "f": ("die", "die", "der"),
    "n": ("das", "das", "dem"),
    "p": ("die", "die", "den"),
}
_STRONG = {"m": ("er", "en", "em"), "f": ("e", "e", "er"), "n": ("es", "es", "em"), "p": ("e", "e", "en")}
_WEAK = {"m": ("e", "en", "en"), "f": ("e", "e", "en"), "n": ("e", "e", "en"), "p": ("en", "en", "en")}
# The English determiners that German puts with the endings of `ein`.
EIN_WORDS = {
    "a": "ein", "no": "kein", "my": "mein", "his": "sein", "her": "ihr", "our": "unser", "their": "ihr",
    "your": "dein",
}  # fmt: skip
_CONTRACTED = {
    "in dem": "im", "an dem": "am", "zu dem": "zum", "zu der": "zur", "in das": "ins", "an das": "ans",
    "von dem": "vom",
}  # fmt: skip

_WERDEN = {"1s": "werde", "2s": "wirst", "3s": "wird", "p": "werden"}
_HABEN = {"1s": "habe", "2s": "hast", "3s": "hat", "p": "haben"}
_SEIN = {"1s": "bin", "2s": "bist", "3s": "ist", "p": "sind"}
_WAR = {"1s": "war", "2s": "warst", "3s": "war", "p": "waren"}


def determiner(det: str, gender: str, case: str) -> str:
    """The German for an English determiner (`the`, `this`, `a`, `no`, `my` ...); empty for none."""
    column = CASES.index(case)
    if det == "the":
        return _DEFINITE[gender][column]
    if det == "this":
        return "dies" + _STRONG[gender][column]
    if not det:
        return ""
    # Masculine nominative and neuter nominative and accusative have no ending.
    bare = (gender == "m" and case == "nom") or (gender == "n" and case != "dat")
    return EIN_WORDS[det] + ("" if bare else _STRONG[gender][column])


def adjective(word: Adjective, det: str, gender: str, case: str) -> str:
    """The adjective with its ending after that determiner."""
    column = CASES.index(case)
    if not det:
        return word.stem + _STRONG[gender][column]
    # A determiner without an ending leaves the strong ending to the adjective.
    bare = det in EIN_WORDS and determiner(det, gender, case) == EIN_WORDS[det]
    return word.stem + (_STRONG if bare else _WEAK)[gender][column]


def noun_form(noun: Noun, plural: bool, case: str) -> str:
    """The noun in that number and case."""
    if not plural:
        return noun.de if case == "nom" else noun.oblique
    head, space, rest = noun.de_plural.partition(" ")  # the head of `Tassen Tee` takes the ending
    ending = "n" if case == "dat" and not head.endswith(("n", "s")) else ""
    return head + ending + space + rest


def contract(preposition: str, phrase: str) -> str:
    """`in dem Park` becomes `im Park`."""
    first, _, rest = phrase.partition(" ")
    short = _CONTRACTED.get(f"{preposition} {first}")
    return f"{short} {rest}" if short and rest else f"{preposition} {phrase}"


def _stem(infinitive: str) -> str:
    return infinitive[:-2] if infinitive.endswith("en") else infinitive[:-1]


def _needs_e(stem: str) -> bool:
    return stem.endswith(("t", "d", "ffn", "chn"))


def present(verb: Verb, person: str) -> str:
    """The present tense without the separable prefix; persons 1s, 2s, 3s, p."""
    if verb.de == "sein":
        return _SEIN[person]
    stem = _stem(verb.de)
    if person == "1s":
        return verb.ich or stem + "e"
    if person == "2s":
        ending = "est" if _needs_e(stem) else "t" if stem.endswith(("s", "ß", "z")) else "st"
        return verb.du or stem + ending
    if person == "3s":
        return verb.er or stem + ("et" if _needs_e(stem) else "t")
    return verb.de


def command(verb: Verb) -> str:
    """The familiar imperative without the separable prefix."""
    stem = _stem(verb.de)
    return verb.command or (stem + "e" if _needs_e(stem) or stem.endswith("er") else stem)


def infinitive(verb: Verb) -> str:
    """The full infinitive."""
    return verb.prefix + verb.de


def predicate(verb: Verb, tense: str | Modal, person: str) -> tuple[str, str]:
    """(finite verb, what stands at the end of the main clause)."""
    if isinstance(tense, Modal):
        finite = {"1s": tense.ich, "2s": tense.du, "3s": tense.ich}.get(person, tense.wir)
        return finite, infinitive(verb)
    if tense == "future":
        return _WERDEN[person], infinitive(verb)
    if tense == "past":
        if verb.de == "sein":
            return _WAR[person], ""
        return (_SEIN if verb.aux == "sein" else _HABEN)[person], verb.participle
    return present(verb, person), verb.prefix


def subordinate_end(verb: Verb, tense: str | Modal, person: str) -> str:
    """The verbs at the end of a subordinate clause."""
    finite, end = predicate(verb, tense, person)
    if not end:
        return finite
    return end + finite if end == verb.prefix else f"{end} {finite}"
