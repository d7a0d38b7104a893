"""Language codes in the names of files."""

import pytest

from seq2seq.languages import language_of_file


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
        ("en.txt", "en"),
        ("corpus", ""),
    ],
)
def test_language_of_a_file(name: str, language: str) -> None:
    """`c.txt.GZ` was taken for the language `gz`, and `train_zh.txt` for none."""
    assert language_of_file(name) == language
