"""The built-in tasks: the file against its generator, the grammar against hand-checked German, the pairs' promises."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from scripts.demo_corpus import corpus, generate, grammar
from scripts.demo_corpus.corpus import DemoCorpus, demo_corpus
from scripts.demo_corpus.grammar import DU, HE, ME, SHE, SIE, THEY, WE, Clause, Phrase
from scripts.demo_corpus.lexicon import ADJECTIVES
from scripts.demo_corpus.nouns import NOUN_BY_ENGLISH, NOUNS
from scripts.demo_corpus.numbers import (
    clock,
    date,
    english_number,
    english_ordinal,
    german_number,
    german_ordinal,
)
from scripts.demo_corpus.phrases import Dice
from scripts.demo_corpus.verbs import BE, DITRANSITIVE, GO, INTRANSITIVE, MODALS, TRANSITIVE, Verb

from seq2seq.data.demo import DEMO_PAIRS, builtin_pairs

ADJECTIVE = {word.en: word for word in ADJECTIVES}
VERB = {f"{v.en} {v.particle}".strip(): v for v in (*TRANSITIVE, *DITRANSITIVE, *INTRANSITIVE)}
MODAL = {modal.en: modal for modal in MODALS}


def np(noun: str, det: str = "the", adjective: str = "", plural: bool = False, number: int = 0) -> Phrase:
    return grammar.noun_phrase(NOUN_BY_ENGLISH[noun], det, ADJECTIVE[adjective] if adjective else None, plural, number)


@pytest.fixture(scope="module")
def demo() -> DemoCorpus:
    return DemoCorpus(*(builtin_pairs("demo", split) for split in DemoCorpus._fields))


@pytest.mark.slow
def test_the_generator_writes_the_file_that_is_shipped() -> None:
    assert generate.compressed() == DEMO_PAIRS.read_bytes()


# English, then the German nominative, accusative and dative, all written by hand.
NOUN_PHRASES = [
    (np("coat", "the", "red"), "the red coat", "der rote Mantel", "den roten Mantel", "dem roten Mantel"),
    (np("coat", "a", "old"), "an old coat", "ein alter Mantel", "einen alten Mantel", "einem alten Mantel"),
    (np("lamp", "a", "new"), "a new lamp", "eine neue Lampe", "eine neue Lampe", "einer neuen Lampe"),
    (np("car", "a", "blue"), "a blue car", "ein blaues Auto", "ein blaues Auto", "einem blauen Auto"),
    (np("car", "the", "blue"), "the blue car", "das blaue Auto", "das blaue Auto", "dem blauen Auto"),
    (np("car", "our", "expensive"), "our expensive car", "unser teures Auto", "unser teures Auto",
     "unserem teuren Auto"),
    (np("cat", "her", "lazy"), "her lazy cat", "ihre faule Katze", "ihre faule Katze", "ihrer faulen Katze"),
    (np("boy", "the", "young"), "the young boy", "der junge Junge", "den jungen Jungen", "dem jungen Jungen"),
    (np("neighbour", "my"), "my neighbour", "mein Nachbar", "meinen Nachbarn", "meinem Nachbarn"),
    (np("student", "a"), "a student", "ein Student", "einen Studenten", "einem Studenten"),
    (np("child", "the", "", True), "the children", "die Kinder", "die Kinder", "den Kindern"),
    (np("woman", "this", "", True), "these women", "diese Frauen", "diese Frauen",
     "diesen Frauen"),
    (np("car", "my", "old", True), "my old cars", "meine alten Autos", "meine alten Autos",
     "meinen alten Autos"),
    (np("apple", "", "big", True), "big apples", "große Äpfel", "große Äpfel", "großen Äpfeln"),
    (np("chair", "", "white", number=3), "three white chairs", "drei weiße Stühle", "drei weiße Stühle",
     "drei weißen Stühlen"),
    (np("coffee", "", "hot"), "hot coffee", "heißer Kaffee", "heißen Kaffee", "heißem Kaffee"),
    (np("milk", "", "cold"), "cold milk", "kalte Milch", "kalte Milch", "kalter Milch"),
    (np("bread", "", "fresh"), "fresh bread", "frisches Brot", "frisches Brot", "frischem Brot"),
    (np("bread", "no"), "any bread", "kein Brot", "kein Brot", "keinem Brot"),
    (np("egg", "no"), "an egg", "kein Ei", "kein Ei", "keinem Ei"),
    (np("key", "no", "", True), "any keys", "keine Schlüssel", "keine Schlüssel", "keinen Schlüsseln"),
    (np("pear", "this", "sour"), "this sour pear", "diese saure Birne", "diese saure Birne",
     "dieser sauren Birne"),
    (np("dress", "this"), "this dress", "dieses Kleid", "dieses Kleid", "diesem Kleid"),
    (np("bag", "your"), "your bag", "deine Tasche", "deine Tasche", "deiner Tasche"),
    (np("bag", "Your"), "your bag", "Ihre Tasche", "Ihre Tasche", "Ihrer Tasche"),
    (grammar.titled("Weber", "m"), "Mr. Weber", "Herr Weber", "Herrn Weber", "Herrn Weber"),
    (grammar.titled("Weber", "f"), "Mrs. Weber", "Frau Weber", "Frau Weber", "Frau Weber"),
    (HE, "he", "er", "ihn", "ihm"),
    (THEY, "they", "sie", "sie", "ihnen"),
]  # fmt: skip


@pytest.mark.parametrize(("phrase", "english", "nominative", "accusative", "dative"), NOUN_PHRASES)
def test_noun_phrases(phrase: Phrase, english: str, nominative: str, accusative: str, dative: str) -> None:
    assert phrase.en == english
    assert phrase.de == {"nom": nominative, "acc": accusative, "dat": dative}


def say(verb: Verb, subject: Phrase = HE, tense: str = "present", **rest: object) -> Clause:
    return replace(Clause(subject, verb, MODAL.get(tense, tense)), **rest)  # type: ignore[arg-type]


TODAY, EVERY_DAY, YESTERDAY = ("today", "heute"), ("every day", "jeden Tag"), ("yesterday", "gestern")
COAT, BOOK, DOOR = np("coat", "the", "red"), np("book", "a", "new"), np("door")
STATEMENTS = [
    (say(VERB["eat"], tense="habit", obj=np("egg", "a"), time=EVERY_DAY), "he eats an egg every day",
     "er isst jeden Tag ein Ei"),
    (say(VERB["carry"], SHE, "habit", obj=np("table")), "she carries the table", "sie trägt den Tisch"),
    (say(VERB["buy"], ME, "past", obj=BOOK, time=YESTERDAY), "I bought a new book yesterday",
     "ich habe gestern ein neues Buch gekauft"),
    (say(VERB["buy"], ME, "past", obj=COAT, time=YESTERDAY, negated=True),
     "I did not buy the red coat yesterday",
     "ich habe den roten Mantel gestern nicht gekauft"),
    (say(VERB["drink"], obj=np("coffee", "no"), negated=True), "he is not drinking any coffee",
     "er trinkt keinen Kaffee"),
    (say(VERB["drink"], tense="must", obj=np("coffee", "no"), negated=True), "he must not drink any coffee",
     "er darf keinen Kaffee trinken"),
    (say(VERB["drink"], tense="must", obj=np("coffee", "")), "he must drink coffee",
     "er muss Kaffee trinken"),
    (say(VERB["call"], WE, obj=np("uncle", "our"), time=TODAY), "we are calling our uncle today",
     "wir rufen heute unseren Onkel an"),
    (say(VERB["call"], WE, "past", obj=SHE), "we called her", "wir haben sie angerufen"),
    (say(VERB["pick up"], tense="want to", obj=ME), "he wants to pick me up", "er will mich abholen"),
    (say(VERB["help"], ME, "future", obj=np("student"), time=("tomorrow", "morgen")),
     "I will help the student tomorrow", "ich werde dem Studenten morgen helfen"),
    (say(VERB["wait"], THEY, obj=np("bus"), negated=True), "they are not waiting for the bus",
     "sie warten nicht auf den Bus"),
    (say(VERB["dream"], tense="past", obj=np("car")), "he dreamed of the car", "er hat vom Auto geträumt"),
    (say(VERB["give"], SHE, "past", obj=BOOK, recipient=np("child")), "she gave the child a new book",
     "sie hat dem Kind ein neues Buch gegeben"),
    (say(VERB["get up"], ME, "past", time=("at half past six", "um halb sieben")),
     "I got up at half past six",
     "ich bin um halb sieben aufgestanden"),
    (say(VERB["sleep"], tense="habit", negated=True), "he does not sleep", "er schläft nicht"),
    (say(VERB["have breakfast"], tense="habit", frequency=("often", "oft")), "he often has breakfast",
     "er frühstückt oft"),
    (say(VERB["know"], ME, obj=HE), "I know him", "ich kenne ihn"),
    (say(BE, THEY, "past", complement=("ill", "krank")), "they were ill", "sie waren krank"),
    (say(BE, DU, complement=("ill", "krank")), "you are ill", "du bist krank"),
    (say(BE, SIE, complement=("ill", "krank"), negated=True), "you are not ill", "Sie sind nicht krank"),
    (say(VERB["open"], SIE, "should", obj=DOOR), "you should open the door", "Sie sollten die Tür öffnen"),
    (say(VERB["wash"], DU, "would like to", obj=np("car", "your")), "you would like to wash your car",
     "du möchtest dein Auto waschen"),
    (say(GO, WE, "past", complement=("to the park", "in den Park")), "we went to the park",
     "wir sind in den Park gegangen"),
]  # fmt: skip


@pytest.mark.parametrize(("clause", "english", "german"), STATEMENTS)
def test_statements(clause: Clause, english: str, german: str) -> None:
    assert grammar.english_clause(clause) == english
    assert grammar.german_clause(clause) == german


QUESTIONS = [
    (say(VERB["buy"], DU, "past", obj=BOOK), "did you buy a new book", "hast du ein neues Buch gekauft"),
    (say(VERB["buy"], SIE, obj=BOOK), "are you buying a new book", "kaufen Sie ein neues Buch"),
    (say(VERB["like"], SHE, obj=np("dress")), "does she like the dress", "mag sie das Kleid"),
    (say(VERB["read"], DU, "habit", obj=np("newspaper"), frequency=("often", "oft")),
     "do you often read the newspaper", "liest du oft die Zeitung"),
    (say(VERB["invite"], tense="want to", obj=WE), "does he want to invite us", "will er uns einladen"),
    (say(BE, SHE, complement=("tired", "müde")), "is she tired", "ist sie müde"),
]  # fmt: skip


@pytest.mark.parametrize(("clause", "english", "german"), QUESTIONS)
def test_questions(clause: Clause, english: str, german: str) -> None:
    assert grammar.english_question(clause) == english
    assert grammar.german_question(clause) == german


@pytest.mark.parametrize(
    ("clause", "german"),
    [
        (say(VERB["buy"], tense="past", obj=COAT), "er den roten Mantel gekauft hat"),
        (say(VERB["call"], SHE, obj=ME), "sie mich anruft"),
        (say(VERB["call"], ME, "can", obj=THEY), "ich sie anrufen kann"),
        (say(VERB["get up"], WE, "past"), "wir aufgestanden sind"),
        (say(VERB["help"], THEY, "future", obj=HE, negated=True), "sie ihm nicht helfen werden"),
        (say(BE, HE, complement=("very tired", "sehr müde")), "er sehr müde ist"),
    ],
)
def test_verb_last_in_subordinate_clauses(clause: Clause, german: str) -> None:
    assert grammar.german_subordinate(clause) == german


@pytest.mark.parametrize(
    ("clause", "english", "german"),
    [
        (say(VERB["open"], DU, obj=DOOR), "please open the door", "öffne bitte die Tür"),
        (say(VERB["open"], SIE, obj=DOOR), "please open the door", "öffnen Sie bitte die Tür"),
        (say(VERB["call"], DU, obj=HE), "please call him", "ruf ihn bitte an"),
        (say(VERB["help"], DU, obj=ME), "please help me", "hilf mir bitte"),
        (say(VERB["read"], DU, obj=np("letter")), "please read the letter", "lies bitte den Brief"),
        (say(VERB["buy"], SIE, obj=np("dog", "no"), negated=True), "please do not buy a dog",
         "kaufen Sie bitte keinen Hund"),
    ],
)  # fmt: skip
def test_commands(clause: Clause, english: str, german: str) -> None:
    assert grammar.english_command(clause) == english
    assert grammar.german_command(clause) == german


def test_what_stands_in_front_puts_the_subject_behind_the_verb() -> None:
    clause = say(VERB["buy"], ME, "past", obj=COAT)
    assert grammar.german_clause(clause, "gestern") == "gestern habe ich den roten Mantel gekauft"


@pytest.mark.parametrize(
    ("noun", "subject", "obj"), [("lamp", "sie", "sie"), ("coat", "er", "ihn"), ("car", "es", "es")]
)
def test_it_takes_the_gender_of_the_noun(noun: str, subject: str, obj: str) -> None:
    pronoun = grammar.it(np(noun))
    assert (pronoun.en, pronoun.de["nom"], pronoun.de["acc"]) == ("it", subject, obj)
    assert grammar.it(np(noun, plural=True)) is THEY


ENGLISH = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    " seventeen eighteen nineteen"
)
GERMAN = (
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn"
    " siebzehn achtzehn neunzehn"
)
TENS = {
    20: ("twenty", "zwanzig"), 30: ("thirty", "dreißig"), 40: ("forty", "vierzig"), 50: ("fifty", "fünfzig"),
    60: ("sixty", "sechzig"), 70: ("seventy", "siebzig"), 80: ("eighty", "achtzig"),
    90: ("ninety", "neunzig"),
}  # fmt: skip


def test_numbers() -> None:
    english, german = ENGLISH.split(" "), GERMAN.split(" ")
    assert [english_number(n) for n in range(20)] == english
    assert [german_number(n) for n in range(20)] == german
    for ten, (en, de) in TENS.items():
        assert (english_number(ten), german_number(ten)) == (en, de)
        assert (english_number(ten + 1), german_number(ten + 1)) == (f"{en}-one", f"einund{de}")
        for one in range(2, 10):
            assert english_number(ten + one) == f"{en}-{english[one]}"
            assert german_number(ten + one) == f"{german[one]}und{de}"
    for wrong in (-1, 100):
        with pytest.raises(ValueError, match="not between"):
            german_number(wrong)


def test_ordinals() -> None:
    english = (
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
        "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth twenty-first "
        "twenty-second "
        "twenty-third twenty-fourth twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth "
        "thirtieth thirty-first"
    )
    german = (
        "ersten zweiten dritten vierten fünften sechsten siebten achten neunten zehnten elften zwölften "
        "dreizehnten vierzehnten fünfzehnten sechzehnten siebzehnten achtzehnten neunzehnten zwanzigsten "
        "einundzwanzigsten zweiundzwanzigsten dreiundzwanzigsten vierundzwanzigsten "
        "fünfundzwanzigsten sechsundzwanzigsten "
        "siebenundzwanzigsten achtundzwanzigsten neunundzwanzigsten dreißigsten einunddreißigsten"
    )
    assert " ".join(english_ordinal(n) for n in range(1, 32)) == english
    assert " ".join(german_ordinal(n) for n in range(1, 32)) == german


@pytest.mark.parametrize(
    ("hour", "minute", "english", "german"),
    [
        (7, 3, "twenty past seven", "zwanzig nach sieben"),
        (7, 4, "half past seven", "halb acht"),
        (12, 4, "half past twelve", "halb eins"),
        (1, 9, "one o'clock", "ein Uhr"),
        (1, 0, "five past one", "fünf nach eins"),
        (6, 6, "a quarter to six", "Viertel vor sechs"),
    ],
)
def test_times_of_day(hour: int, minute: int, english: str, german: str) -> None:
    assert clock(hour, minute) == (english, german)


def test_dates() -> None:
    assert date(3, 5) == ("on the third of May", "am dritten Mai")
    assert date(20, 3) == ("on the twentieth of March", "am zwanzigsten März")
    with pytest.raises(ValueError, match="not between"):
        date(30, 2)


def test_no_sentence_occurs_twice(demo: DemoCorpus) -> None:
    assert tuple(len(split) for split in demo) == (20_000, 500, 500)
    pairs = [pair for split in demo for pair in split]
    for side in (0, 1):
        assert len({pair[side] for pair in pairs}) == 21_000


def test_german_is_a_function_of_english() -> None:
    dice = Dice(99)
    seen: dict[str, str] = {}
    repeated = 0
    for _ in range(40_000):
        drawn = corpus.random_sentence(dice)
        repeated += drawn.english in seen
        assert seen.setdefault(drawn.english, drawn.german) == drawn.german
    assert len(seen) > 30_000
    assert repeated > 100  # otherwise the check above never compared anything


def test_held_out_sentences_have_combinations_that_training_lacks() -> None:
    drawn_by_english: dict[str, tuple[str, ...]] = {}
    dice = Dice(1)
    while len(drawn_by_english) < 60_000:
        drawn = corpus.random_sentence(dice)
        drawn_by_english.setdefault(drawn.english, drawn.combinations)
    small = demo_corpus(2000, 100, 100)
    in_training = {c for english, _ in small.train for c in drawn_by_english[english]}
    assert len(in_training) > 1000
    for english, _ in small.valid + small.test:
        combinations = drawn_by_english[english]
        assert any(c not in in_training and corpus.reserved(c) for c in combinations)
    assert not any(corpus.reserved(c) for c in in_training)


def test_the_share_of_reserved_combinations() -> None:
    pairs = [f"{a.en}+{n.en}" for a in ADJECTIVES for n in NOUNS if a.fits(n)]
    assert 0.05 < sum(map(corpus.reserved, pairs)) / len(pairs) < 0.10


def test_every_word_is_frequent_and_every_test_word_is_known(demo: DemoCorpus) -> None:
    for side in (0, 1):
        counts = Counter(word for pair in demo.train for word in {w.strip(".,!?").lower() for w in pair[side].split()})
        assert min(counts.values()) >= 15
        known = {word for pair in demo.train for word in pair[side].split()}
        assert {word for pair in demo.test + demo.valid for word in pair[side].split()} <= known


def test_length_and_form(demo: DemoCorpus) -> None:
    lengths = [len(pair[0].split()) for pair in demo.train]
    assert sum(4 <= n <= 16 for n in lengths) / len(lengths) > 0.95
    for pair in demo.train:
        for text in pair:
            assert text[0].isupper()
            assert text[-1] in ".?!"
            assert "  " not in text
        assert pair[0][-1] == pair[1][-1]


def test_articles_and_english_agreement(demo: DemoCorpus) -> None:
    text = "\n".join(pair[0] for split in demo for pair in split)
    assert len(re.findall(r"\ban [aeiou]", text)) > 100
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|\bI (is|are|has|does)\b", text)
    assert len(re.findall(r"^(?:He|She) (?:is|has|does) ", text, re.MULTILINE)) > 100
    assert not re.search(r"(^|that |because |if )(he|she) (are|have|do|am)\b", text, re.MULTILINE | re.IGNORECASE)


def test_german_noun_phrases_agree(demo: DemoCorpus) -> None:
    """An article's ending tells the gender; the table is written here a second time."""
    allowed: dict[str, set[str]] = {}
    for noun in NOUNS:
        singular = {
            "m": "der dieser",
            "f": "die der dieser diese eine einer",
            "n": "das dem dieses diesem ein einem",
        }
        forms = set(singular[noun.gender].split()) | (
            {"den", "dem", "diesen", "diesem", "ein", "einen", "einem"} if noun.gender == "m" else set()
        )
        allowed.setdefault(noun.de, set()).update(forms)
        allowed.setdefault(noun.oblique, set()).update(forms)
        if noun.de_plural:
            for plural in (noun.de_plural, noun.de_plural + "n"):
                allowed.setdefault(plural, set()).update({"die", "den", "diese", "diesen"})
    articles = {a for forms in allowed.values() for a in forms}
    adjectives = {word.stem + end for word in ADJECTIVES for end in ("e", "en", "er", "es", "em")}
    checked = 0
    for _, german in demo.train:
        words = [word.strip(".,!?") for word in german.split()]
        for at, word in enumerate(words):
            if word.lower() not in articles or at + 1 >= len(words):
                continue
            noun = words[at + 2] if words[at + 1] in adjectives and at + 2 < len(words) else words[at + 1]
            if noun in allowed:
                assert word.lower() in allowed[noun], german
                checked += 1
    assert checked > 5000


AUXILIARIES = (
    "habe hast hat haben bin bist ist sind war waren werde wirst wird werden kann können muss müssen "
    "sollte sollten will wollen möchte möchten darf dürfen"
)


def test_subordinate_clauses_end_with_a_finite_verb(demo: DemoCorpus) -> None:
    auxiliaries = set(AUXILIARIES.split(" "))
    checked = 0
    for _, german in demo.train:
        match = re.search(r", (?:dass|ob|weil|wenn) (.*)\.$", german)
        if not match:
            continue
        words = match[1].split()
        inside = [word for word in words[:-1] if word in auxiliaries - {"haben", "werden"}]
        assert not inside, german
        checked += words[-1] in auxiliaries
    assert checked > 1000


def test_familiar_and_polite_address(demo: DemoCorpus) -> None:
    familiar = polite = 0
    for english, german in demo.train:
        if re.search(r"\byou\b", english):
            formal = german.startswith(("Frau ", "Herr "))
            assert bool(re.search(r"\b(Sie|Ihnen)\b", german)) == formal, german
            assert bool(re.search(r"\b(du|dich|dir)\b", german)) != formal, german
            familiar, polite = familiar + (not formal), polite + formal
    assert min(familiar, polite) > 300


def test_names() -> None:
    rows = {split: builtin_pairs("names", split) for split in ("train", "valid", "test")}
    everything = [row for split in rows.values() for row in split]
    assert len({name for name, _ in everything}) == len(everything) >= 400
    sizes = Counter(language for _, language in everything)
    assert len(sizes) == 10
    assert all(40 <= size <= 50 for size in sizes.values())
    assert 0.75 < len(rows["train"]) / len(everything) < 0.85
    for split in rows.values():
        assert {language for _, language in split} == set(sizes)


@pytest.mark.parametrize(("task", "split"), [("demo", "dev"), ("other", "train")])
def test_unknown_pairs(task: str, split: str) -> None:
    with pytest.raises(ValueError, match=f"no built-in pairs {task} {split}"):
        builtin_pairs(task, split)


def test_the_callers_list_is_not_the_cache() -> None:
    builtin_pairs("demo", "valid").clear()
    assert len(builtin_pairs("demo", "valid")) == 500
