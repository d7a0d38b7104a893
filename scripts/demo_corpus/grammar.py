"""Phrases and clauses, rendered side by side in English and German."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import english, german
from .lexicon import Adjective
from .nouns import Noun
from .numbers import english_number, german_number
from .verbs import BAN, Modal, Verb

Both = tuple[str, str]
NOTHING: Both = ("", "")


@dataclass(frozen=True)
class Phrase:
    """A noun phrase, a name or a pronoun, in every case."""

    en: str
    en_object: str
    de: dict[str, str]
    person: str
    possessive: str
    gender: str = "p"
    pronoun: bool = False
    definite: bool = True
    bans: bool = False
    noun: str = ""
    combinations: tuple[str, ...] = ()


def _pronoun(row: str) -> Phrase:
    subject, obj, nom, acc, dat, person, possessive = row.split()
    return Phrase(subject, obj, {"nom": nom, "acc": acc, "dat": dat}, person, possessive, pronoun=True)


ME, HE, SHE, WE, THEY = (
    _pronoun(row)
    for row in (
        "I me ich mich mir 1s my",
        "he him er ihn ihm 3s his",
        "she her sie sie ihr 3s her",
        "we us wir uns uns p our",
        "they them sie sie ihnen p their",
    )
)
DU = _pronoun("you you du dich dir 2s your")
PRONOUNS = (ME, HE, SHE, WE, THEY)


def it(antecedent: Phrase) -> Phrase:
    """The pronoun for a thing: German takes the gender of the noun."""
    if antecedent.person == "p":
        return THEY
    nom, acc, dat = {"m": ("er", "ihn", "ihm"), "f": ("sie", "sie", "ihr"), "n": ("es", "es", "ihm")}[antecedent.gender]
    return Phrase("it", "it", {"nom": nom, "acc": acc, "dat": dat}, "3s", "its", pronoun=True)


def given_name(name: str, gender: str) -> Phrase:
    """A first name."""
    return Phrase(name, name, dict.fromkeys(german.CASES, name), "3s", {"f": "her", "m": "his"}.get(gender, ""), gender)


def titled(name: str, gender: str) -> Phrase:
    """`Mrs. Weber` or `Mr. Weber`; only `Herr` changes with the case."""
    if gender == "f":
        cases = dict.fromkeys(german.CASES, f"Frau {name}")
        return Phrase(f"Mrs. {name}", f"Mrs. {name}", cases, "3s", "her", "f")
    cases = {"nom": f"Herr {name}", "acc": f"Herrn {name}", "dat": f"Herrn {name}"}
    return Phrase(f"Mr. {name}", f"Mr. {name}", cases, "3s", "his", "m")


def noun_phrase(
    noun: Noun,
    det: str = "the",
    adjective: Adjective | None = None,
    plural: bool = False,
    number: int = 0,
) -> Phrase:
    """A noun phrase; `det` is English (`no` gives `kein`), empty for none."""
    plural = plural or number > 1
    gender = "p" if plural else noun.gender
    words: list[str] = [adjective.en] if adjective else []
    words.append(noun.en_plural if plural else noun.en)
    if number:
        words.insert(0, english_number(number))
    if det == "a" or (det == "no" and noun.countable and not plural):
        words.insert(0, english.article(words[0]))
    elif det:
        shown = {"no": "any", "this": "these" if plural else "this"}.get(det, det)
        words.insert(0, shown)
    cases: dict[str, str] = {}
    for case in german.CASES:
        parts = [german.determiner(det, gender, case), german_number(number) if number else ""]
        parts += [german.adjective(adjective, det, gender, case) if adjective else ""]
        parts += [german.noun_form(noun, plural, case)]
        cases[case] = " ".join(part for part in parts if part)
    combos = [f"{adjective.en}+{noun.en}"] if adjective else []
    if number:
        combos.append(f"{number}+{noun.en}")
    text = " ".join(words)
    possessive = {"m": "his", "f": "her", "p": "their"}.get(gender, "its")
    if noun.en in ("child", "girl"):
        possessive = ""  # "its" or "her" would be a choice; the grammar leaves it out
    return Phrase(
        text, text, cases, "p" if plural else "3s", possessive, gender,
        definite=det not in ("a", "no", ""), bans=det == "no", noun=noun.en, combinations=tuple(combos),
    )  # fmt: skip


@dataclass(frozen=True)
class Clause:
    """A clause before it is put into the word order of either language."""

    subject: Phrase
    verb: Verb
    tense: str | Modal = "present"
    obj: Phrase | None = None
    recipient: Phrase | None = None
    negated: bool = False
    time: Both = NOTHING
    frequency: Both = NOTHING
    complement: Both = NOTHING
    extra: tuple[str, ...] = field(default=())

    @property
    def combinations(self) -> tuple[str, ...]:
        """The pairs of lemmas that this clause puts together."""
        found = self.subject.combinations + self.extra
        for phrase in (self.obj, self.recipient):
            found += phrase.combinations if phrase else ()
        if self.obj and self.obj.noun:
            found += (f"{self.verb.en} {self.verb.particle}".strip() + f"+{self.obj.noun}",)
        return found

    @property
    def german_tense(self) -> str | Modal:
        """The tense or modal that the German uses."""
        banned = isinstance(self.tense, Modal) and self.tense.en == "must" and self.negated
        return BAN if banned else self.tense


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)


def _english_tail(c: Clause) -> str:
    """Everything after the English verb."""
    verb = c.verb
    recipient = c.recipient.en_object if c.recipient else ""
    obj = c.obj.en_object if c.obj else ""
    if c.obj and c.obj.pronoun:
        return _join(verb.en_prep, recipient, obj, verb.particle, c.complement[0], c.time[0])
    return _join(verb.particle, verb.en_prep, recipient, obj, c.complement[0], c.time[0])


def english_clause(c: Clause) -> str:
    """Main clause: subject, verb, object."""
    aux, main = english.predicate(c.verb, c.tense, c.subject.person, c.negated)
    return _join(c.subject.en, aux, "not" if c.negated else "", c.frequency[0], main, _english_tail(c))


def english_question(c: Clause) -> str:
    """Yes-or-no question: the auxiliary comes first."""
    aux, main = english.predicate(c.verb, c.tense, c.subject.person, True)
    return _join(aux, c.subject.en, "not" if c.negated else "", c.frequency[0], main, _english_tail(c))


def english_command(c: Clause) -> str:
    """`please open the door`."""
    return _join("please", "do not" if c.negated else "", c.verb.en, _english_tail(c))


def german_middle(c: Clause, please: str = "") -> str:
    """The middle field: everything between the finite verb with its subject and the verbs at the end."""
    pronouns, dative, before, after, complement = "", "", "", "", c.complement[1]
    recipient = c.recipient.de["dat"] if c.recipient else ""
    if c.recipient and c.recipient.pronoun:
        pronouns = recipient
    else:
        dative = recipient
    if c.obj:
        text = c.obj.de[c.verb.case]
        if c.verb.de_prep:
            complement = _join(german.contract(c.verb.de_prep, text), complement)
        elif c.obj.pronoun:
            pronouns = text
        elif c.verb.case == "dat":
            dative = text
        elif c.negated and c.obj.definite:
            before = text
        else:
            after = text
    negation = "nicht" if c.negated and not (c.obj and c.obj.bans) else ""
    # Known things stand before the time when the clause is denied: "Ich kaufe das Auto heute nicht."
    return _join(pronouns, please, dative, before, c.time[1], c.frequency[1], after, negation, complement)


def german_clause(c: Clause, front: str = "") -> str:
    """Main clause: the verb comes second, after the subject or after `front`."""
    finite, end = german.predicate(c.verb, c.german_tense, c.subject.person)
    subject = c.subject.de["nom"]
    head = _join(front, finite, subject) if front else _join(subject, finite)
    return _join(head, german_middle(c), end)


def german_question(c: Clause) -> str:
    """Yes-or-no question: the verb comes first."""
    finite, end = german.predicate(c.verb, c.german_tense, c.subject.person)
    return _join(finite, c.subject.de["nom"], german_middle(c), end)


def german_subordinate(c: Clause) -> str:
    """Subordinate clause: the verb comes last."""
    end = german.subordinate_end(c.verb, c.german_tense, c.subject.person)
    return _join(c.subject.de["nom"], german_middle(c), end)


def german_command(c: Clause) -> str:
    """`öffne bitte die Tür`."""
    return _join(german.command(c.verb), german_middle(c, "bitte"), c.verb.prefix)
