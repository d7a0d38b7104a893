"""The built-in tasks: the file against its generator, the grammar against hand-checked German, the pairs' promises."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from scripts.demo_corpus import corpus, generate, grammar
from scripts.demo_corpus.corpus import DemoCorpus
from scripts.demo_corpus.dice import Dice
from scripts.demo_corpus.grammar import DU, HE, ME, SHE, THEY, WE, Clause, Phrase
from scripts.demo_corpus.lexicon import ADJECTIVES
from scripts.demo_corpus.nouns import NOUN_BY_ENGLISH, NOUNS
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
    (np("hat", "the", "red"), "the red hat", "der rote Hut", "den roten Hut", "dem roten Hut"),
    (np("hat", "a", "old"), "an old hat", "ein alter Hut", "einen alten Hut", "einem alten Hut"),
    (np("lamp", "a", "new"), "a new lamp", "eine neue Lampe", "eine neue Lampe", "einer neuen Lampe"),
    (np("car", "a", "blue"), "a blue car", "ein blaues Auto", "ein blaues Auto", "einem blauen Auto"),
    (np("car", "the", "blue"), "the blue car", "das blaue Auto", "das blaue Auto", "dem blauen Auto"),
    (np("car", "our", "expensive"), "our expensive car", "unser teures Auto", "unser teures Auto",
     "unserem teuren Auto"),
    (np("cat", "her", "clever"), "her clever cat", "ihre kluge Katze", "ihre kluge Katze", "ihrer klugen Katze"),
    (np("boy", "the", "young"), "the young boy", "der junge Junge", "den jungen Jungen", "dem jungen Jungen"),
    (np("child", "the", "", True), "the children", "die Kinder", "die Kinder", "den Kindern"),
    (np("woman", "this", "", True), "these women", "diese Frauen", "diese Frauen",
     "diesen Frauen"),
    (np("car", "my", "old", True), "my old cars", "meine alten Autos", "meine alten Autos",
     "meinen alten Autos"),
    (np("apple", "", "big", True), "big apples", "große Äpfel", "große Äpfel", "großen Äpfeln"),
    (np("chair", "", "black", number=3), "three black chairs", "drei schwarze Stühle", "drei schwarze Stühle",
     "drei schwarzen Stühlen"),
    (np("coffee", "", "hot"), "hot coffee", "heißer Kaffee", "heißen Kaffee", "heißem Kaffee"),
    (np("milk", "", "cold"), "cold milk", "kalte Milch", "kalte Milch", "kalter Milch"),
    (np("bread", "", "warm"), "warm bread", "warmes Brot", "warmes Brot", "warmem Brot"),
    (np("bread", "no"), "any bread", "kein Brot", "kein Brot", "keinem Brot"),
    (np("key", "no", "", True), "any keys", "keine Schlüssel", "keine Schlüssel", "keinen Schlüsseln"),
    (np("orange", "this", "big"), "this big orange", "diese große Orange", "diese große Orange",
     "dieser großen Orange"),
    (np("cup of tea", "a"), "a cup of tea", "eine Tasse Tee", "eine Tasse Tee", "einer Tasse Tee"),
    (np("glass of water", "", "", True), "glasses of water", "Gläser Wasser", "Gläser Wasser", "Gläsern Wasser"),
    (np("shirt", "this"), "this shirt", "dieses Hemd", "dieses Hemd", "diesem Hemd"),
    (np("bag", "your"), "your bag", "deine Tasche", "deine Tasche", "deiner Tasche"),
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
HAT, BOOK, DOOR = np("hat", "the", "red"), np("book", "a", "new"), np("door")
STATEMENTS = [
    (say(VERB["eat"], tense="habit", obj=np("apple", "a"), time=EVERY_DAY), "he eats an apple every day",
     "er isst jeden Tag einen Apfel"),
    (say(VERB["buy"], ME, "past", obj=BOOK, time=YESTERDAY), "I bought a new book yesterday",
     "ich habe gestern ein neues Buch gekauft"),
    (say(VERB["buy"], ME, "past", obj=HAT, time=YESTERDAY, negated=True),
     "I did not buy the red hat yesterday",
     "ich habe den roten Hut gestern nicht gekauft"),
    (say(VERB["drink"], obj=np("coffee", "no"), negated=True), "he is not drinking any coffee",
     "er trinkt keinen Kaffee"),
    (say(VERB["drink"], tense="must", obj=np("coffee", "no"), negated=True), "he must not drink any coffee",
     "er darf keinen Kaffee trinken"),
    (say(VERB["drink"], tense="must", obj=np("coffee", "")), "he must drink coffee",
     "er muss Kaffee trinken"),
    (say(VERB["call"], WE, obj=np("father", "our"), time=TODAY), "we are calling our father today",
     "wir rufen heute unseren Vater an"),
    (say(VERB["call"], WE, "past", obj=SHE), "we called her", "wir haben sie angerufen"),
    (say(VERB["pick up"], tense="want to", obj=ME), "he wants to pick me up", "er will mich abholen"),
    (say(VERB["help"], ME, "future", obj=np("boy"), time=("tomorrow", "morgen")),
     "I will help the boy tomorrow", "ich werde dem Jungen morgen helfen"),
    (say(VERB["give"], SHE, "past", obj=BOOK, recipient=np("child")), "she gave the child a new book",
     "sie hat dem Kind ein neues Buch gegeben"),
    (say(VERB["get up"], ME, "past", time=("at half past six", "um halb sieben")),
     "I got up at half past six",
     "ich bin um halb sieben aufgestanden"),
    (say(VERB["sleep"], tense="habit", negated=True), "he does not sleep", "er schläft nicht"),
    (say(VERB["drink"], tense="habit", obj=np("cup of tea", "a")), "he drinks a cup of tea",
     "er trinkt eine Tasse Tee"),
    (say(VERB["sleep"], tense="habit", frequency=("often", "oft")), "he often sleeps", "er schläft oft"),
    (say(VERB["know"], ME, obj=HE), "I know him", "ich kenne ihn"),
    (say(BE, THEY, "past", complement=("ill", "krank")), "they were ill", "sie waren krank"),
    (say(BE, DU, complement=("ill", "krank")), "you are ill", "du bist krank"),
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
    (say(VERB["like"], SHE, obj=np("shirt")), "does she like the shirt", "mag sie das Hemd"),
    (say(VERB["read"], DU, "habit", obj=np("newspaper"), frequency=("often", "oft")),
     "do you often read the newspaper", "liest du oft die Zeitung"),
    (say(VERB["call"], tense="want to", obj=WE), "does he want to call us", "will er uns anrufen"),
    (say(BE, SHE, complement=("tired", "müde")), "is she tired", "ist sie müde"),
]  # fmt: skip


@pytest.mark.parametrize(("clause", "english", "german"), QUESTIONS)
def test_questions(clause: Clause, english: str, german: str) -> None:
    assert grammar.english_question(clause) == english
    assert grammar.german_question(clause) == german


@pytest.mark.parametrize(
    ("clause", "german"),
    [
        (say(VERB["buy"], tense="past", obj=HAT), "er den roten Hut gekauft hat"),
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
        (say(VERB["call"], DU, obj=HE), "please call him", "ruf ihn bitte an"),
        (say(VERB["help"], DU, obj=ME), "please help me", "hilf mir bitte"),
        (say(VERB["read"], DU, obj=np("letter")), "please read the letter", "lies bitte den Brief"),
    ],
)  # fmt: skip
def test_commands(clause: Clause, english: str, german: str) -> None:
    assert grammar.english_command(clause) == english
    assert grammar.german_command(clause) == german


def test_what_stands_in_front_puts_the_subject_behind_the_verb() -> None:
    clause = say(VERB["buy"], ME, "past", obj=HAT)
    assert grammar.german_clause(clause, "gestern") == "gestern habe ich den roten Hut gekauft"


@pytest.mark.parametrize(
    ("noun", "subject", "obj"), [("lamp", "sie", "sie"), ("hat", "er", "ihn"), ("car", "es", "es")]
)
def test_it_takes_the_gender_of_the_noun(noun: str, subject: str, obj: str) -> None:
    pronoun = grammar.it(np(noun))
    assert (pronoun.en, pronoun.de["nom"], pronoun.de["acc"]) == ("it", subject, obj)
    assert grammar.it(np(noun, plural=True)) is THEY


def test_no_sentence_occurs_twice(demo: DemoCorpus) -> None:
    assert tuple(len(split) for split in demo) == (12_000, 200, 500)
    pairs = [pair for split in demo for pair in split]
    for side in (0, 1):
        assert len({pair[side] for pair in pairs}) == 12_700


def test_german_is_a_function_of_english() -> None:
    dice = Dice(99)
    seen: dict[str, str] = {}
    repeated = 0
    for _ in range(10_000):
        drawn = corpus.random_sentence(dice)
        repeated += drawn.english in seen
        assert seen.setdefault(drawn.english, drawn.german) == drawn.german
    assert repeated > 100  # otherwise the check above never compared anything


def test_held_out_sentences_have_combinations_that_training_lacks() -> None:
    drawn = [corpus.random_sentence(Dice(seed)) for seed in range(3000)]
    combinations = {c for item in drawn for c in item.combinations}
    assert 0.04 < sum(map(corpus.reserved, combinations)) / len(combinations) < 0.10
    held_out = [item for item in drawn if corpus.is_new(item)]
    assert len(held_out) > 100
    assert all(any(corpus.reserved(c) for c in item.combinations) for item in held_out)


def test_training_lacks_reserved_combinations_and_the_test_has_them(demo: DemoCorpus) -> None:
    """`a red car` and its like, found in the text by their first letters, which inflection leaves alone."""
    reserved = {(a.en, n.en) for a in ADJECTIVES for n in NOUNS if a.fits(n) and corpus.reserved(f"{a.en}+{n.en}")}
    phrases = [re.compile(rf"\b{adjective} {noun}\b") for adjective, noun in reserved if "{" not in noun]
    assert len(phrases) > 20
    train, test = ("\n".join(english for english, _ in split) for split in (demo.train, demo.test))
    assert not [phrase.pattern for phrase in phrases if phrase.search(train)]
    assert sum(bool(phrase.search(test)) for phrase in phrases) > 10


def test_every_word_is_frequent_and_every_test_word_is_known(demo: DemoCorpus) -> None:
    """Words that are not copied from one side to the other, that is."""
    for side in (0, 1):
        counts = Counter(word for pair in demo.train for word in set(_own_words(pair, side)))
        assert min(counts.values()) >= 6
        assert {word for pair in demo.test + demo.valid for word in _own_words(pair, side)} <= set(counts)


def _own_words(pair: tuple[str, str], side: int) -> list[str]:
    words = [[word.strip(".,!?").lower() for word in text.split()] for text in pair]
    return [word for word in words[side] if word not in words[1 - side]]


def test_invented_words_are_copied_and_never_come_again(demo: DemoCorpus) -> None:
    known = {pair for pair in demo.train if any(word[0].isupper() for word in pair[0].split()[1:])}
    copied = [set(re.findall(r"[A-ZÄÖÜ]\w+", english)) & set(re.findall(r"\w+", german)) for english, german in known]
    counts = Counter(name for names in copied for name in names)
    once = [name for name, count in counts.items() if count == 1]
    assert len(once) > 1800


def test_length_and_form(demo: DemoCorpus) -> None:
    lengths = [len(pair[0].split()) for pair in demo.train]
    assert sum(3 <= n <= 14 for n in lengths) / len(lengths) > 0.95
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
    assert checked > 500


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
    assert len(builtin_pairs("demo", "valid")) == 200
