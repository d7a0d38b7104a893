"""The table of `seq2seq check`, for models whose behaviour is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from seq2seq.checks.behaviour import Summary, _copies, _longest_word, _similarity, check_behaviour, summaries
from seq2seq.config import Config
from seq2seq.errors import DataError

PAIRS = [(f"The {word} man drinks tea today.", "x") for word in ("old", "young", "tall", "sad", "happy", "tired")]


def behaviour(model: Callable[[str], str], pairs: Sequence[tuple[str, str]] = PAIRS) -> dict[str, Summary]:
    def translate(texts: Sequence[str], **options: object) -> list[str]:
        return [model(text) for text in texts]

    run: Any = SimpleNamespace(
        translate=translate,
        config=Config(),
        held_out_pairs=lambda: pairs,
    )
    results = check_behaviour(run, sentences=5, target_tag=None, keep=None)
    return {summary.kind: summary for summary in summaries(results)}


def test_a_model_that_copies_keeps_everything() -> None:
    found = behaviour(lambda text: text.strip())
    assert len(found) == 22
    assert not [kind for kind, summary in found.items() if summary.altered or summary.lost]


def test_a_model_that_writes_nothing_loses_everything() -> None:
    found = behaviour(lambda text: "")
    assert {kind for kind, summary in found.items() if summary.kept} == {"blank lines"}


def test_each_fault_is_found_in_its_own_kind() -> None:
    found = behaviour(lambda text: "drinks " * 9 if text.isupper() else text.replace("://", " ").replace("%", ""))
    assert found["ALL CAPS"].lost == 5
    assert found["ALL CAPS"].example.source == PAIRS[0][0].upper()
    assert found["URLs"].altered == 2
    assert found["URLs"].kept == 2
    assert found["printf forms"].kept == 0
    assert found["tags"].kept == 6
    assert found["lower case"].kept == 5


def test_parts_that_are_doubled_and_text_that_is_dropped_are_found() -> None:
    found = behaviour(lambda text: text.strip().replace("37", "37 37"))
    assert found["numbers"].altered == 2
    assert found["numbers"].example.output.count("37") == 2
    dropped = behaviour(lambda text: text[max(0, text.find("\N{GRINNING FACE}")) :].strip())
    assert (dropped["emoji"].kept, dropped["emoji"].altered) == (3, 1)
    assert (dropped["numbers"].altered, dropped["numbers"].lost) == (0, 0)


def test_scripts_without_spaces_and_parts_that_occur_elsewhere_are_no_fault() -> None:
    chinese = {text: "那个男人今天睡觉了。" for text, _ in PAIRS}

    def translate(text: str) -> str:
        plain = next((source for source in chinese if source.split()[1] in text.split()), "")
        part = " ".join(word for word in text.split() if word not in plain.split())
        return f"那个男人{part}睡觉了。" if plain and len(text.split()) > 3 else text.strip()

    found = behaviour(translate)
    assert (found["numbers"].altered, found["numbers"].lost) == (0, 0)
    assert (found["URLs"].altered, found["URLs"].lost) == (0, 0)
    found = behaviour(lambda text: text.strip(), [(f"{text} It was in 1937.", right) for text, right in PAIRS])
    assert (found["numbers"].altered, found["numbers"].lost) == (0, 0)


def test_loops_are_found() -> None:
    found = behaviour(lambda text: text + " tea" * 40 if len(text.split()) == 1 else text)
    assert found["single words"].altered > 0
    assert found["single words"].kept == 0


def test_a_run_without_validation_set() -> None:
    with pytest.raises(DataError, match="no validation set"):
        behaviour(str, [])


def test_a_word_keeps_its_marks() -> None:
    """A word of Hindi was several, cut at its vowels."""
    assert _copies("हिन्दी हिन्दी में") == 2
    assert _similarity("हिन्दी में", "हिन्दी मे") == 0.5
    assert _longest_word("में हिन्दी") == "हिन्दी"
