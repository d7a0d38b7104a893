"""Noisy copies: what they alter and leave alone, and that they depend on pair and seed only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from seq2seq.config import load_config
from seq2seq.config.settings import AUGMENT_RATES, AugmentSettings, DataSettings, TokenizerSettings
from seq2seq.config.sources import TextSource
from seq2seq.data import augment as augment_module
from seq2seq.data.augment import Augmentation, misspell, without_full_stop
from seq2seq.data.batch_plan import Cursor
from seq2seq.data.batches import TrainingBatches
from seq2seq.data.order import Mixture
from seq2seq.data.prepare import Prepared, prepare
from seq2seq.data.store import Store
from seq2seq.errors import ConfigError
from seq2seq.letter_case import lowercase, titlecase, uppercase

Pair = tuple[str, str]
WORDS = ["apple", "banana", "cherry", "damson", "elder", "figs", "grape", "hazel"]
PAIRS = [(f"The {one} of {other}.", f"Die {other} ab {one}.") for one in WORDS for other in WORDS]
CHARACTERS = TokenizerSettings(kind="char", vocabulary_size=300)


def prepared(
    folder: Path, augment: object, pairs: list[Pair] = PAIRS, tokenizer: TokenizerSettings = CHARACTERS
) -> Prepared:
    for side, suffix in ((0, "s"), (1, "t")):
        (folder / f"c.{suffix}").write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    source = TextSource(source=str(folder / "c.s"), target=str(folder / "c.t"))
    data = DataSettings(train=(source,), augment=AugmentSettings.model_validate(augment))
    return prepare(data, tokenizer, cache=folder / "cache", tell_counts=False)


def texts(found: Prepared) -> list[Pair]:
    sources, targets = ([row.tolist() for row in side] for side in found.train.rows(range(len(found.train))))
    return list(zip(found.tokenizers.source.decode(sources), found.tokenizers.target.decode(targets), strict=True))


@pytest.mark.parametrize(
    ("text", "capitals", "initials", "small"),
    [
        ("The man's tea.", "THE MAN'S TEA.", "The Man's Tea.", "the man's tea."),
        ("Große Straße", "GROSSE STRASSE", "Große Straße", "große straße"),
        ("ΟΔΟΣ και", "ΟΔΟΣ ΚΑΙ", "ΟΔΟΣ Και", "οδος και"),
        ("{name}: www.Ex.org/a or x@y.de", "{name}: www.Ex.org/a OR x@y.de", "{name}: www.Ex.org/a Or x@y.de", None),
        ("<2de> a <b>bold</b> 12th %s", "<2de> A <b>BOLD</b> 12TH %s", "<2de> A <b>Bold</b> 12th %s", None),
        ("漢字です。", "漢字です。", "漢字です。", "漢字です。"),
    ],
)
def test_letter_case_outside_of_fixed_text(text: str, capitals: str, initials: str, small: str | None) -> None:
    assert (uppercase(text), titlecase(text), lowercase(text)) == (capitals, initials, small or text)


def test_the_turkish_dot_follows_the_language_and_not_the_locale() -> None:
    assert uppercase("iyi ılık", "tr") == "İYİ ILIK"
    assert lowercase("İYİ ILIK", "tr") == "iyi ılık"
    assert titlecase("iyi ılık", "az") == "İyi Ilık"
    assert uppercase("iyi", "en") == "IYI"


def test_a_full_stop_goes_and_an_ellipsis_stays() -> None:
    assert [without_full_stop(text) for text in ("Tea.", "Tea . ", "茶。", "Tea...", "Tea?", ".")] == [
        *("Tea", "Tea", "茶", "Tea...", "Tea?", ".")
    ]


def test_typing_errors_leave_most_of_a_text_alone() -> None:
    text = "The {placeholder} of <2de> banana was eaten at https://example.org/banana yesterday"
    for seed in range(50):
        wrong = misspell(text, seed)
        assert wrong == misspell(text, seed)
        assert all(part in wrong.split() for part in ("{placeholder}", "<2de>", "https://example.org/banana", "was"))
        changed = [pair for pair in zip(text.split(), wrong.split(), strict=True) if pair[0] != pair[1]]
        assert len(changed) <= 3
        assert all(before[0] == after[0] and abs(len(before) - len(after)) <= 1 for before, after in changed)
    assert len({misspell(text, seed) for seed in range(50)}) > 20
    assert [misspell(text, 1) for text in ("どこへ行くのですか", "a b c", "")] == ["どこへ行くのですか", "a b c", ""]


def test_the_sides_that_are_changed() -> None:
    """Capitals are answered in capitals, careless typing with a proper sentence."""
    augmentation = Augmentation.of(DataSettings(augment=AugmentSettings.model_validate(True)))
    assert augmentation.rates == AUGMENT_RATES
    pair = "The old banana.", "Die alte Banane."
    assert augmentation.copy("uppercase", pair) == ("THE OLD BANANA.", "DIE ALTE BANANE.")
    assert augmentation.copy("titlecase", pair) == ("The Old Banana.", "Die alte Banane.")
    assert augmentation.copy("lowercase", pair) == ("the old banana.", "Die alte Banane.")
    assert augmentation.copy("no_full_stop", pair) == ("The old banana", "Die alte Banane")
    assert augmentation.copy("no_full_stop", ("The old banana.", "Die alte Banane!")) is None
    assert (augmentation.copy("typos", pair) or pair)[1] == pair[1]
    assert augmentation.copy("uppercase", ("漢字", "Zeichen")) is None
    assert augmentation.copy("uppercase", ("Signs", "漢字")) == ("SIGNS", "漢字")


def test_off_leaves_data_and_cache_as_they_were(tmp_path: Path) -> None:
    plain = prepared(tmp_path, False)
    assert texts(plain) == PAIRS
    assert plain.record["fingerprint"] == prepared(tmp_path, {}).record["fingerprint"]
    assert "copies" not in plain.record
    key = (tmp_path / "cache" / plain.record["fingerprint"] / "record.json").read_text(encoding="ascii")
    assert "augment" not in key


def test_copies_follow_the_pairs_and_do_not_depend_on_their_order(tmp_path: Path) -> None:
    found = prepared(tmp_path, {"uppercase": 0.25, "typos": 0.5})
    assert texts(found)[: len(PAIRS)] == PAIRS
    assert found.record["corpora"] == [len(PAIRS)]
    assert found.record["counts"]["kept"] == len(PAIRS)
    copies = texts(found)[len(PAIRS) :]
    assert copies[: len(PAIRS)] == [(left.upper(), right.upper()) for left, right in PAIRS]
    assert 0.8 * len(PAIRS) < len(copies) - len(PAIRS)  # an error may leave a word as it is, such as a swap in "pp"
    assert {right for _, right in copies[len(PAIRS) :]} <= {right for _, right in PAIRS}
    assert not {left for left, _ in copies} & {left for left, _ in PAIRS}
    backwards = prepared(tmp_path, {"uppercase": 0.25, "typos": 0.5}, PAIRS[::-1])
    assert Counter(texts(backwards)) == Counter(texts(found))


def test_large_corpora_have_as_many_copies_as_an_epoch_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment_module, "COPIES", 16)
    copies = prepared(tmp_path, {"lowercase": 0.5, "titlecase": 0.01}).record["copies"]
    assert 20 < copies["lowercase"]["pairs"][0] < 44
    assert copies["lowercase"]["rate"] == 1
    assert copies["titlecase"]["rate"] == pytest.approx(0.01 * len(PAIRS) / 16)


def test_words_that_the_vocabulary_cannot_write_are_in_no_copy(tmp_path: Path) -> None:
    """With words as vocabulary, a misspelled word would be `<unk>`."""
    words = TokenizerSettings(kind="word", vocabulary_size=300)
    found = prepared(tmp_path, {"uppercase": 0.1, "typos": 0.5}, tokenizer=words)
    assert found.record["copies"]["typos"]["pairs"] == [0]
    assert 0 < found.record["copies"]["uppercase"]["pairs"][0] <= len(PAIRS)
    assert not any("⁇" in text for pair in texts(found) for text in pair)


def test_the_vocabulary_has_the_capitals_of_rare_letters(tmp_path: Path) -> None:
    pairs = [*PAIRS, ("The quiz.", "Die äquivalente Ecke.")]
    tokenizer = prepared(tmp_path, {"uppercase": 0.001}, pairs).tokenizers.source
    assert set("QÄUIZ") <= set("".join(tokenizer.pieces(range(tokenizer.size))))


def test_each_copy_is_read_once_in_several_epochs() -> None:
    mixture = Mixture.of([40, 10], [1.0, 2.0]).with_copies([40, 10], 0.25).with_copies([0, 1], 0.1)
    assert mixture.sizes == (40, 10, 40, 10, 0, 1)
    assert mixture.draws[2:] == (round(10 * mixture.draws[0] / 40), round(2.5 * mixture.draws[1] / 10), 0, 1)
    plain = Mixture.of([40]).with_copies([40], 0.25)
    epochs = [plain.rows(seed=3, epoch=epoch, pool=0) for epoch in range(4)]
    assert all(sorted(rows[rows < 40].tolist()) == list(range(40)) for rows in epochs)
    assert sorted(np.concatenate([rows[rows >= 40] for rows in epochs]).tolist()) == list(range(40, 80))


def test_batches_with_copies_resume_and_are_shared_among_ranks(tmp_path: Path) -> None:
    found = prepared(tmp_path, True)
    mixture = Mixture.of(found.record["corpora"])
    for copies in found.record["copies"].values():
        mixture = mixture.with_copies(copies["pairs"], copies["rate"])

    def batches(share: tuple[int, int] = (0, 1)) -> TrainingBatches:
        store = Store(found.train.path)
        return TrainingBatches(store, batch_size=400, batch_type="tokens", seed=5, mixture=mixture, share=share)

    whole = list(batches().epoch(Cursor()))
    assert sum(len(batch.source) for batch, _ in whole) == mixture.pairs > len(PAIRS)
    resumed = list(batches().epoch(whole[2][1]))
    for (batch, _), (again, _) in zip(whole[3:], resumed, strict=True):
        assert torch.equal(batch.source, again.source)
    halves = [list(batches((rank, 2)).epoch(Cursor())) for rank in (0, 1)]
    for (batch, _), *parts in zip(whole, *halves, strict=True):
        assert batch.tokens == sum(part.tokens for part, _ in parts)


def test_the_short_form_and_single_rates(tmp_path: Path) -> None:
    assert load_config([], ["data.augment=true"]).data.augment.model_dump() == {"uppercase": 0.0, **AUGMENT_RATES}
    assert load_config([], []).data.augment == AugmentSettings()
    one = load_config([], ["data.augment=true", "data.augment.typos=0"]).data.augment
    assert one.model_dump() == {"uppercase": 0.0, **AUGMENT_RATES, "typos": 0.0}
    assert load_config([], ["data.augment.typos=0.1", "data.augment=false"]).data.augment == AugmentSettings()
    file = tmp_path / "c.yaml"
    file.write_text("data:\n  augment: {upercase: 0.1}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="upercase") as caught:
        load_config([file], [])
    assert "uppercase" in (caught.value.hint or "")
    for wrong in ("data.augment=often", "data.augment.typos=true", "data.augment=0.1"):
        with pytest.raises(ConfigError, match="augment"):
            load_config([], [wrong])
