"""Language codes as they are written: codes, and names of files and columns."""

import pytest

from seq2seq.languages import language_of, language_of_column, language_of_file


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("corpus.en", "en"),
        ("data/news.DE.gz", "de"),
        ("train_zh.txt", "zh"),
        ("a.txt.GZ", ""),
        ("c.zh.bz2", "zh"),
        ("corpus.zh_CN", "zh"),
        ("corpus.zho_Hans.xz", "zh"),
        ("train.de-en.en", "en"),
        ("a.jp", "ja"),
        ("a.xx", "xx"),
        ("my_new.txt", ""),
        ("my_run.txt", ""),
        ("train_deu.txt", "de"),
        ("en.txt", "en"),
        ("corpus", ""),
    ],
)
def test_language_of_a_file(name: str, language: str) -> None:
    """`c.txt.GZ` was taken for the language `gz`, and `train_zh.txt` for none."""
    assert language_of_file(name) == language


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("eng", "en"),
        ("deu_Latn", "de"),
        ("translation.jpn", "ja"),
        ("Deutsch", "de"),
        ("日本語", "ja"),
        ("हिन्दी", "hi"),
    ],
)
def test_language_of_a_column(name: str, language: str) -> None:
    """Codes of three letters and native names were those of no language."""
    assert language_of_column(name) == language


@pytest.mark.parametrize(("code", "language"), [("eng", "en"), ("ger", "de"), ("zho_Hans", "zh"), ("gsw", "gsw")])
def test_language_of_a_code(code: str, language: str) -> None:
    assert language_of(code) == language
