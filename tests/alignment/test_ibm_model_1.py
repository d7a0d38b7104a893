"""IBM Model 1 against the textbook's loops."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from seq2seq.alignment import ibm_model_1
from seq2seq.alignment.ibm_model_1 import Ids, train

NULL = 30
DAS, HAUS, BUCH, EIN = range(4, 8)
THE, HOUSE, BOOK, A = range(14, 18)


def rows(*sentences: list[int]) -> list[Ids]:
    return [np.array(sentence, np.int32) for sentence in sentences]


def random_text(count: int) -> tuple[list[Ids], list[Ids]]:
    draws = np.random.default_rng(3)
    lengths = draws.integers(0, 9, (2, count))
    return tuple(  # type: ignore[return-value]
        [draws.integers(4, 20, length).astype(np.int32) for length in side] for side in lengths
    )


def expected(sources: list[Ids], targets: list[Ids]) -> dict[tuple[int, int], float]:
    """Figure 4.3 of Koehn, Statistical Machine Translation (2010)."""
    table: dict[tuple[int, int], float] = defaultdict(lambda: 1.0)
    for _ in range(5):
        counts: dict[tuple[int, int], float] = defaultdict(float)
        for source, target in zip(sources, targets, strict=True):
            given = [*source.tolist(), NULL]
            for word in target.tolist():
                total = sum(table[one, word] for one in given)
                for one in given:
                    counts[one, word] += table[one, word] / total
        totals: dict[int, float] = defaultdict(float)
        for (one, _), count in counts.items():
            totals[one] += count
        table = defaultdict(float, {pair: count / totals[pair[0]] for pair, count in counts.items()})
    return table


@pytest.mark.parametrize("at_a_time", [7, 10**6])
def test_the_probabilities_are_those_of_the_plain_loops(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ibm_model_1, "_COMBINATIONS", at_a_time)
    sources, targets = random_text(60)
    table = train(sources, targets, NULL)
    found = dict(
        zip(zip(table.sources.tolist(), table.targets.tolist(), strict=True), table.probabilities, strict=True)
    )
    assert found == pytest.approx(expected(sources, targets), abs=1e-12)
    assert table.sources.tolist() == sorted(table.sources.tolist())


def test_words_are_told_apart_by_their_company() -> None:
    sources = rows([DAS, HAUS], [DAS, BUCH], [EIN, BUCH])
    table = train(sources, rows([THE, HOUSE], [THE, BOOK], [A, BOOK]), NULL)
    best = {}
    for source, target, probability in zip(*table, strict=True):
        best[source] = max(best.get(source, (0.0, 0)), (probability, target))
    assert {source: best[source][1] for source in (DAS, HAUS, BUCH, EIN)} == {DAS: THE, HAUS: HOUSE, BUCH: BOOK, EIN: A}


def test_a_text_without_targets_gives_an_empty_table() -> None:
    assert [len(part) for part in train(rows([DAS]), rows([]), NULL)] == [0, 0, 0]
