"""Scores against published figures, and what must hold of any score."""

from __future__ import annotations

import csv
import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.errors import DataError
from seq2seq.evaluation import metrics
from seq2seq.evaluation.metrics import (
    best_and_worst,
    bleu,
    bleu_tokenizer,
    choose_metric,
    chrf,
    corpus_metrics,
    unknown_language,
)
from seq2seq.evaluation.significance import confidence_intervals, paired_tests

SYSTEMS = ["PROMT-Rule-based.4735", "uedin-nmt.4722"]
ENGLISH = [
    "the small cat sat on the mat",
    "a dog runs through the park today",
    "they read two old books",
    "it rains .",
]


def lines(path: Path) -> list[str]:
    return path.read_bytes().decode().removesuffix("\n").split("\n")


@pytest.fixture(scope="module")
def published(shared_data: Path) -> tuple[Path, dict[str, dict[str, str]]]:
    folder = shared_data / "metric_refs" / "wmt17_en-de"
    with (folder / "published_scores.tsv").open(encoding="utf-8", newline="") as file:
        return folder, {row["system"]: row for row in csv.DictReader(file, delimiter="\t")}


@pytest.mark.parametrize("system", SYSTEMS)
def test_published_bleu_of_wmt17(system: str, published: tuple[Path, dict[str, dict[str, str]]]) -> None:
    folder, scores = published
    result = bleu(lines(folder / f"newstest2017.{system}.en-de.txt"), lines(folder / "REF0.de"), target_language="de")
    row = scores[f"{system}.en-de"]
    assert round(result.value, 2) == float(row["mteval_v13a_bleu_published"])
    assert result.value == pytest.approx(float(row["sacrebleu_2.6.0_bleu_13a"]), abs=1e-4)
    assert result.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


@pytest.mark.parametrize("system", ["FBK.4870"])
def test_published_chrf_of_wmt17(system: str, published: tuple[Path, dict[str, dict[str, str]]]) -> None:
    folder, scores = published
    result = chrf(lines(folder / f"newstest2017.{system}.en-de.txt"), lines(folder / "REF0.de"))
    row = scores[f"{system}.en-de"]
    assert round(result.value, 2) == round(float(row["sacrebleu_2.6.0_chrf2"]), 2)
    if row["chrf_published(eps_smoothing)"]:
        assert round(result.value, 2) == round(float(row["chrf_published(eps_smoothing)"]), 2)


def test_identical_and_empty() -> None:
    same = {result.name: result.value for result in corpus_metrics(ENGLISH, ENGLISH)}
    assert same == pytest.approx({"BLEU": 100, "BLEU lowercased": 100, "chrF": 100, "TER": 0, "exact match": 100})
    empty = {result.name: result.value for result in corpus_metrics([""] * 4, ENGLISH)}
    assert empty == pytest.approx({"BLEU": 0, "BLEU lowercased": 0, "chrF": 0, "TER": 100, "exact match": 0})
    blank = {result.name: result.value for result in corpus_metrics(ENGLISH, ["", *ENGLISH[1:]])}
    assert 0 < blank["BLEU"] < 100
    assert blank["exact match"] == 75


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), min_size=1, max_size=6), st.randoms())
def test_order_of_the_pairs_changes_nothing(pairs: list[tuple[str, str]], draws: random.Random) -> None:
    pairs = [*pairs, *zip(ENGLISH, reversed(ENGLISH), strict=True)]
    shuffled = draws.sample(pairs, len(pairs))
    one, other = [bleu([p[0] for p in some], [p[1] for p in some]).value for some in (pairs, shuffled)]
    assert one == pytest.approx(other)
    assert -1e-9 <= one <= 100 + 1e-9


def test_pairing_counts() -> None:
    """eole dropped blank hypotheses and blank references each on its own and so shifted all later pairs."""
    hypotheses, references = ["", *ENGLISH], ["new here and now", *ENGLISH]
    paired = bleu(hypotheses, references).value
    assert 80 < paired < 100
    assert bleu([*ENGLISH, ""], references).value < 20
    assert bleu(["", *ENGLISH], ["", *ENGLISH]).value == pytest.approx(100)


def test_case() -> None:
    upper = [line.upper() for line in ENGLISH]
    assert bleu(upper, ENGLISH).value < 5
    (result,) = [metric for metric in corpus_metrics(upper, ENGLISH) if metric.name == "BLEU lowercased"]
    assert result.value == pytest.approx(100)
    assert "case:lc" in result.signature


def test_counts_must_agree() -> None:
    """OpenNMT-py and eole cut the longer file short without a word."""
    for score in (bleu, corpus_metrics):
        with pytest.raises(DataError, match="3 hypotheses but 4 references"):
            score(ENGLISH[:3], ENGLISH)
        with pytest.raises(DataError, match="no lines"):
            score([], [])


def test_tokenizer_follows_the_target_language(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = {
        "": "13a",
        "de": "13a",
        "zh": "zh",
        "zh-CN": "zh",
        "zho_Hans": "zh",
        "cmn": "zh",
        "jav": "13a",
        "en_KO": "13a",
    }
    assert {code: bleu_tokenizer(code) for code in codes} == codes
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None)
    metrics._warn_of_missing.cache_clear()
    assert bleu_tokenizer("ja") == bleu_tokenizer("kor") == "char"
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert "tok:char" in warnings[0]
    assert "sacrebleu[ko]" in warnings[1]
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: object())
    assert [bleu_tokenizer(code) for code in ("ja-JP", "ko")] == ["ja-mecab", "ko-mecab"]
    chinese = bleu(["我们今天去公园"], ["我们今天去公园"], target_language="zh")
    assert chinese.value == pytest.approx(100)
    assert "tok:zh" in chinese.signature


@pytest.mark.parametrize(
    ("hypothesis", "warning"),
    [
        ("▁the ▁cat ▁sat ▁on", "subword mark '▁'"),
        ("the c@@ at sat on it", "subword mark '@@'"),
        ("the cat , it sat on the mat .", "look tokenised"),
        ("The cat, it sat on the mat.", ""),
    ],
)
def test_odd_hypotheses_are_warned_about(hypothesis: str, warning: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Scores of subwords or of tokenised text look fine and compare with nothing."""
    corpus_metrics([hypothesis] * 100, ["The cat, it sat on the mat."] * 100)
    said = capsys.readouterr().err
    assert warning in said
    assert bool(said) == bool(warning)


@pytest.mark.parametrize("unlike", [0, 3, 100])
def test_letters_of_another_normal_form_are_equal(unlike: int) -> None:
    """Perfect translations scored BLEU 0.7, where the references were decomposed and the model wrote NFC."""
    composed, decomposed = "Ọlọ́run wà nílé báyìí fún wọn.", "Ọlọ́run wà nílé báyìí fún wọn."
    composed, decomposed = unicodedata.normalize("NFC", composed), unicodedata.normalize("NFD", decomposed)
    references = [decomposed] * unlike + [composed] * (100 - unlike)
    found = corpus_metrics([composed] * 100, references)
    assert [result.value for result in found] == pytest.approx([100, 100, 100, 0, 100])
    assert all(result.signature.endswith("|unicode:nfc") == (unlike > 0) for result in found[:-1])
    assert best_and_worst(references, [composed] * 100)[1][0].score == pytest.approx(100)
    (bleu, _) = paired_tests({"a": [composed] * 100, "b": references}, references, target_language="yo")
    assert [score.value for score in bleu.scores] == pytest.approx([100, 100])
    assert bleu.signature.endswith("|unicode:nfc") == (unlike > 0)
    assert [interval.low for interval in confidence_intervals([composed] * 100, references)] == pytest.approx(
        [100, 100]
    )


def test_references_too_short_for_bleu(capsys: pytest.CaptureFixture[str]) -> None:
    """Exact answers of one word score BLEU 0: say why."""
    assert corpus_metrics(["German"], ["German"])[0].value == 0
    assert "chrF" in capsys.readouterr().err


CHINESE, JAPANESE, KOREAN, THAI = (
    "我们今天去公园散步",
    "今日は公園へ行きます",
    "우리는 오늘 공원에 간다",
    "วันนี้เราไปสวนสาธารณะ",
)


@pytest.mark.parametrize(
    ("language", "text", "tokenizer"),
    [
        *[(code, CHINESE, "zh") for code in ("zh_CN", "zho_Hans", "cmn_Hans", "chi", "cn", "tgt", "de", "Chinese")],
        *[(code, JAPANESE, "ja-mecab") for code in ("jp", "ja_JP", "", "zh")],
        *[(code, KOREAN, "ko-mecab") for code in ("kr", "kor", "xx")],
        *[(code, THAI, "char") for code in ("th", "tha", "tgt", "en")],
        *[("", text, "char") for text in ("ມື້ນີ້ພວກເຮົາໄປ", "ថ្ងៃនេះយើងទៅ", "ဒီနေ့ငါတို့သွား", "དེ་རིང་ང་ཚོ་འགྲོ")],
        ("ja", "公園散歩", "ja-mecab"),
        ("zh", "only Latin letters", "zh"),
        ("kr", "Kanuri has Latin letters", "ko-mecab"),
        ("ru", "сегодня мы идём в парк 公园", "13a"),
        ("", "", "13a"),
    ],
)
def test_tokenizer_follows_language_and_script(
    language: str, text: str, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chinese named zh_CN and all Thai were scored as words between spaces: BLEU 0.00 at every validation."""
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: object())
    assert bleu_tokenizer(language, [text, text + "。"]) == tokenizer


def test_references_in_another_script_than_the_language_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Chinese text named `de` was scored with tok:zh without a word."""
    metrics._warn_of_script.cache_clear()
    assert [bleu_tokenizer(code, [CHINESE]) for code in ("de", "de", "", "zh")] == ["zh"] * 4
    assert capsys.readouterr().err.count("the references are in Han, in which 'de' is not written") == 1


def test_what_is_no_language_code() -> None:
    assert "did you mean ja?" in (unknown_language("Japanese") or "")
    assert unknown_language("Klingon") == "'Klingon' is no language code"
    assert all(unknown_language(code) is None for code in ("de", "zh-CN", "deu", "jp", "tgt", "sr_Latn"))


@pytest.mark.fault(63)
@pytest.mark.parametrize(
    ("references", "metric"),
    [
        (["a text of five words", "and one of five too"], "bleu"),
        (["two words", "three more words"], "chrf"),
        (["GETEA", "MOKIKIA"], "chrf"),
        (["one of five words here", "short", "shorter", "no"], "chrf"),
        ([CHINESE, CHINESE], "bleu"),
        ([THAI, THAI], "bleu"),
        (["A", "B", "C"], "loss"),
        (["", " "], "loss"),
    ],
)
def test_the_validation_metric_is_one_that_can_move(references: list[str], metric: str) -> None:
    """With one-word targets BLEU was 0.00 at every validation, the first model was kept and patience ended the run."""
    assert choose_metric(references, "tgt")[0] == metric


def test_several_references(capsys: pytest.CaptureFixture[str]) -> None:
    scores = corpus_metrics(ENGLISH, ["something else"] * 4, ENGLISH)
    assert [score.value for score in scores] == pytest.approx([100, 100, 100, 0, 100])
    assert scores[0].signature.startswith("nrefs:2|")
    assert "a score of 4 sentences is no measure" in capsys.readouterr().err
    with pytest.raises(DataError, match="4 hypotheses but 3 references"):
        corpus_metrics(ENGLISH, ENGLISH, ENGLISH[:3])


def test_ter_of_text_without_spaces() -> None:
    """Without normalisation sacrebleu compares Japanese lines as one word each: 69 instead of 8."""
    ter = {score.name: score for score in corpus_metrics(["彼女は学生だ"], ["彼女は学生です"], target_language="ja")}[
        "TER"
    ]
    assert ter.value == pytest.approx(100 / 6)
    assert "norm:yes" in ter.signature
    assert "asian:yes" in ter.signature
    assert "TER" not in [score.name for score in corpus_metrics([THAI], [THAI])]


def test_no_false_alarm_about_text_without_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    """`no reference has four words` was said of Chinese sentences, which have no spaces."""
    corpus_metrics([CHINESE] * 100, [CHINESE] * 100)
    assert capsys.readouterr().err == ""
