"""Noise, filters and recipes of synthetic pairs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.config import Config, load_config
from seq2seq.config.sources import TextSource
from seq2seq.data.order import Mixture
from seq2seq.errors import DataError
from seq2seq.synthesis.back_translation import BLANK, add_noise
from seq2seq.synthesis.filters import FilterOptions, PairFilter
from seq2seq.synthesis.mixed_config import balanced_weight, mixed_config
from seq2seq.synthesis.originals import Original
from seq2seq.synthesis.translations import Contents, Translated, is_complete, last_row, read_translations

WORDS = [f"word{number}" for number in range(2000)]


def test_noise_is_that_of_the_paper() -> None:
    """Edunov et al. 2018, section 3: a tenth dropped, a tenth blanked, words at most 3 places from where they were."""
    noised = add_noise(" ".join(WORDS), seed=1, number=1).split(" ")
    assert len(noised) / len(WORDS) == pytest.approx(0.9, abs=0.03)
    assert noised.count(BLANK) / len(noised) == pytest.approx(0.1, abs=0.03)
    left = [word for word in noised if word != BLANK]
    order = sorted(left, key=WORDS.index)
    assert left != order
    # Blanks move, too, so that a word may pass some more words than 3.
    assert max(abs(order.index(word) - place) for place, word in enumerate(left)) <= 4
    assert add_noise(" ".join(WORDS), seed=1, number=1).split(" ") == noised
    assert add_noise(" ".join(WORDS), seed=1, number=2).split(" ") != noised


@given(st.text(alphabet="ab 漢字", min_size=1).filter(str.strip), st.integers(0, 50))
def test_noise_leaves_something(text: str, number: int) -> None:
    assert add_noise(text, 1, number)


def test_scripts_without_spaces_are_moved_by_character() -> None:
    noised = add_noise("一二三四五六七八九十" * 20, 1, 1)
    assert " " not in noised
    assert noised.count(BLANK) > 5


GENUINE = [
    (f"the {noun} of the old {other} is here", f"der {noun} von dem alten {other} ist da")
    for noun in ("Tom", "Mary", "Peter", "Anna")
    for other in ("Berlin", "Paris", "London", "Rom")
]


def judge(folder: Path, found: list[Translated], **limits: float) -> PairFilter:
    path = folder / "translations.tsv"
    path.write_text("".join(row.row() for row in found) + last_row({}, Contents(len(found), "")), encoding="utf-8")
    assert list(read_translations(path)) == found
    return PairFilter(path, [], ("en", "de"), GENUINE, FilterOptions()._replace(**limits))


@pytest.mark.parametrize(
    ("text", "found", "reason"),
    [
        ("the old Tom is here", Translated(-1.0, 5, False, "der alte Tom ist da"), None),
        ("the old Tom is here", Translated(-1.0, 0, False, " \u200b"), "no translation"),
        ("the old Tom is here", Translated(-1.0, 5, True, "der alte Tom ist da"), "cut"),
        ("the old Tom is here", Translated(-1.0, 5, False, "The old Tom is here!"), "copy"),
        ("Tom Berlin", Translated(-1.0, 5, False, "Tom Berlin"), None),
        ("the old Tom is here", Translated(-1.0, 31, False, "der alte Tom ist da und da und da"), "ratio"),
        ("the old Tom is here", Translated(-1.0, 5, False, "the old of the Tom is the here"), "language"),
        ("the old Tom is here", Translated(-1.0, 5, False, "старый Том здесь со мной"), "language"),
        ("the old Tom is here", Translated(-3.0, 5, False, "der alte Tom ist da"), "score"),
    ],
)
def test_filters(text: str, found: Translated, reason: str | None, tmp_path: Path) -> None:
    fault = judge(tmp_path, [found], min_score=-2.0).fault(Original("mono", 1, text, tokens=10), found)
    assert (fault and fault[0]) == reason


def test_each_target_tag_has_a_language_of_its_own(tmp_path: Path) -> None:
    """All good French translations of a run into German and French were dropped as wrong language."""
    french = [(f"<2fr> {source}", target.replace("der", "le").replace("von dem", "du")) for source, target in GENUINE]
    german = [(f"<2de> {source}", target) for source, target in GENUINE]
    path = tmp_path / "translations.tsv"
    path.write_text(last_row({}, Contents(0, "")), encoding="utf-8")
    judged = PairFilter(path, [], ("en", "de"), [*german, *french], FilterOptions())
    for source, target in (*german, *french):
        assert judged.fault(Original("mono", 1, source, tokens=10), Translated(-1.0, 10, False, target)) is None
    assert set(judged._languages) == {"<2de>", "<2fr>"}
    wrong = Translated(-1.0, 10, False, "the Tom of the old Berlin is here and here")
    assert (judged.fault(Original("mono", 1, french[0][0], tokens=10), wrong) or ("",))[0] == "language"


def test_the_worst_share_is_dropped(tmp_path: Path) -> None:
    found = [Translated(-number / 10, 5, False, "der alte Tom ist da") for number in range(20)]
    for share, dropped in ((0.0, 0), (0.25, 5), (0.5, 10)):
        judged = judge(tmp_path, found, drop_worst=share)
        faults = [judged.fault(Original("mono", 1, "the old Tom is here", tokens=5), row) for row in found]
        assert sum(fault is not None for fault in faults) == dropped
    assert judge(tmp_path, []).fault(Original("mono", 1, "a", tokens=1), found[0]) is None
    assert math.isinf(FilterOptions().min_score)


def recipe_of(data: str, folder: Path, tag: str | None = "BT", weight: float = 0.5) -> tuple[str, Config]:
    (folder / "run.yaml").write_text(f"data: {data}\n", encoding="utf-8")
    text = mixed_config(
        load_config([folder / "run.yaml"]), ("bt.de", "bt.en"), tag=tag, weight=weight, pairs=400, genuine=[75, 50]
    )
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    return text, load_config([folder / "recipe.yaml"])


def test_recipes_exchange_the_sides_of_every_kind_of_corpus(tmp_path: Path) -> None:
    text, config = recipe_of(
        "{source_language: en, target_language: de, train: [{tsv: a.tsv, source: 1, target: 0, weight: 2}, "
        "{source: old.en, target: old.de, tag: BT}, {builtin: demo}], valid: [{source: v.en, target: v.de}]}",
        tmp_path,
    )
    first, second, third = config.data.train  # the side that was synthetic is never a target
    assert (first.source, first.target, first.weight, first.tag) == (0, 1, 2.0, None)
    assert second.reverse
    assert (third.source, third.target, third.tag, third.weight) == ("bt.de", "bt.en", "BT", 0.5)
    assert (config.data.valid[0].source, config.data.source_language) == ("v.de", "de")
    assert text.startswith(
        "# 400 synthetic pairs, 50% of what is read, beside 125 genuine ones."
    )  # 200 and 2 * 75 + 50


def test_a_corpus_without_another_direction_is_left_to_the_reader(tmp_path: Path) -> None:
    untold = "{source: a, target: b, target_tag: de}"
    text, config = recipe_of(f"{{train: [{untold}], valid: [{untold}]}}", tmp_path, None, 1.0)
    assert "Add data.valid: that of the run cannot be exchanged" in text
    assert "Add data.test" not in text
    assert len(config.data.train) == 1
    assert (config.data.train[0].tag, config.data.train[0].weight) == (None, 1.0)
    assert "Add the genuine corpora" in text
    text, config = recipe_of("{train: [{source: a, target: b, tag: BT}]}", tmp_path)
    assert [source.source for source in config.data.train] == ["bt.de"]
    assert "Add the genuine corpora" in text


def test_synthetic_pairs_do_not_outweigh_the_genuine_ones() -> None:
    run = Config()
    run = run.model_copy(update={"data": run.data.model_copy(update={"train": (TextSource(source="a", target="b"),)})})
    assert balanced_weight(run, 141_603, [29_000]) == 0.205
    assert balanced_weight(run, 100, [29_000]) == balanced_weight(run, 100, []) == balanced_weight(run, 0, [5]) == 1.0


def test_weights_and_temperature_of_the_genuine_corpora_count(tmp_path: Path) -> None:
    """The sampler draws in proportion to weight * pairs^(1/temperature); the weight was that of equal ones."""
    corpora = [TextSource(source="a", target="b", weight=0.5), TextSource(source="c", target="d", weight=4.0)]
    run = Config()
    data = run.data.model_copy(update={"train": tuple(corpora), "temperature": 2.0})
    run = run.model_copy(update={"data": data})
    weight = balanced_weight(run, 90_000, [10_000, 400])
    drawn = Mixture.of([10_000, 400, 90_000], [0.5, 4.0, weight], 2.0).draws
    assert drawn[2] == pytest.approx(sum(drawn[:2]), rel=0.01)


@pytest.mark.parametrize("count", ["Infinity", "NaN", '"x"', "[]", "[" * 100_000])
def test_a_damaged_last_row_is_named(count: str, tmp_path: Path) -> None:
    """A number of lines that is infinite ended in a traceback."""
    path = tmp_path / "bt.translations.tsv"
    path.write_text(f'{{"options": {{}}, "lines": {count}, "sha256": "0"}}\n')
    with pytest.raises(DataError, match="is damaged"):
        is_complete(path, {}, Contents(1, "0"))


def test_a_recipe_reads_the_corpora_as_the_run_does(tmp_path: Path) -> None:
    """A corpus that needs `errors: replace` stopped the new training, and other pairs were held out."""
    settings = "temperature: 5, errors: replace, seed: 3, holdout: 9, cleaning: {drop_duplicates: false}"
    _, config = recipe_of(f"{{train: [{{source: a, target: b}}], {settings}}}", tmp_path)
    data = config.data
    assert (data.temperature, data.errors, data.seed, data.holdout) == (5.0, "replace", 3, 9)
    assert not data.cleaning.drop_duplicates
    plain, _ = recipe_of("{train: [{source: a, target: b}]}", tmp_path)
    assert "cleaning" not in plain
