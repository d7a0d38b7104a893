"""Text in, text out: line for line, whatever the text and the batch."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest
import torch

from seq2seq.alignment.matrix import AttentionMatrix
from seq2seq.alignment.word_alignment import AlignmentOptions, WordAligner
from seq2seq.config import DecodingSettings, RNNSettings, TransformerSettings
from seq2seq.decoding.candidates import Sampling
from seq2seq.decoding.engine import NativeEngine
from seq2seq.decoding.forced_decoding import Scorer
from seq2seq.decoding.interface import SearchOptions, Sentence
from seq2seq.decoding.mbr import MBROptions
from seq2seq.decoding.segmentation import single_line, split_to_fit
from seq2seq.decoding.text_batches import Line, make_batches, split_chunks
from seq2seq.decoding.translator import TranslationOptions, Translator, translation_options
from seq2seq.decoding.workers import Parallelism
from seq2seq.errors import UsageError
from seq2seq.fixed_text import is_blank
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.special_tokens import EOS
from seq2seq.tokenizers.pair import TokenizerPair
from tests.decoding.random_models import sharp
from tests.decoding.tiny_models import MarkovModel, RecurrentModel, letters

ODD = "abc éß中文字😀👩‍👩‍👧שלום\x85\u2028\u2029\x0b\x0c\x1c\r\t\n."
BLANK = ["", " ", "\t", "\u200b\ufeff\u200d", "\0", "\0 \u00a0\u2028\u3000\x85", "\n", "\r\n"]

MODELS = {
    "transformer": TransformerSettings(
        hidden_size=16, ff_size=32, num_heads=2, encoder_layers=1, decoder_layers=1, positions="rotary"
    ),
    "learned positions": TransformerSettings(
        hidden_size=16,
        ff_size=16,
        num_heads=2,
        encoder_layers=1,
        decoder_layers=1,
        positions="learned",
        max_positions=24,
    ),
    "gru": RNNSettings(embedding_size=16, hidden_size=16, attention="additive"),
    "plain gru": RNNSettings(embedding_size=16, hidden_size=16, attention="none", input_feeding=False),
}


def translator(
    model: Seq2SeqModel,
    tokenizers: TokenizerPair,
    settings: DecodingSettings | None = None,
    parallelism: Parallelism | None = None,
) -> Translator:
    settings, device = settings or DecodingSettings(), torch.device("cpu")
    scorer = Scorer(model, tokenizers, settings, device)
    return Translator(NativeEngine(model, device, "fp32"), tokenizers, settings, scorer=scorer, parallelism=parallelism)


def options(settings: DecodingSettings | None = None, **changes: object) -> TranslationOptions:
    return TranslationOptions(translation_options(settings or DecodingSettings()).search._replace(**changes))  # type: ignore[arg-type]


def scores(made: Translator, pairs: list[tuple[str, str]]) -> list[float]:
    return [scored.log_probability for scored in made.scorer.score(pairs)]


def odd_lines(count: int) -> list[str]:
    """Everything that a file of lines may hold: no line contains a line feed."""
    draws = random.Random(1)
    characters = ODD.replace("\n", "\0")
    lines = ["".join(draws.choices(characters, k=draws.randrange(30))) for _ in range(count)]
    lines += [
        "x",
        "😀",
        "a\u2028b",
        "a\x85b",
        "a\0b",
        "a\tb",
        "\ud800 lone",
        "שלום עולם",
        "a" * 90,
        "中" * 70,
    ]
    return [*lines, " ".join(draws.choices(["ab", "cab.", "b,", "中文"], k=150)), *BLANK]


@pytest.mark.parametrize("name", MODELS)
def test_odd_text_line_for_line_at_every_batch_size_and_order(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """JoeyNMT split lines at U+2028 and U+0085, dropped blank ones, and so shifted its output."""
    tokenizers = letters(ODD)
    model = sharp(MODELS[name], tokenizers)
    lines = odd_lines(12)
    results = []
    for batch_lines in (1, 64):
        settings = DecodingSettings(
            beam_size=2,
            max_length_ratio=0.3,
            max_length_offset=4,
            max_source_tokens=40,
            batch_tokens=batch_lines * 41,
        )
        results.append(translator(model, tokenizers, settings).translate(lines))
    assert results[0] == results[1]
    order = random.Random(2).sample(range(len(lines)), len(lines))
    sevens = settings.model_copy(update={"batch_tokens": 7 * 41})
    shuffled = translator(model, tokenizers, sevens).translate([lines[place] for place in order])
    assert shuffled == [results[0][place] for place in order]
    assert len(results[0]) == len(lines)
    for line, text in zip(lines, results[0], strict=True):
        assert len(text.splitlines()) <= 1
        assert text == "" or not is_blank(line)
    assert results[0][-len(BLANK) :] == [""] * len(BLANK)
    assert any(results[0])
    assert model.training
    assert re.search(r"line \d+: \d+ tokens, more than the \d+ read at once", capsys.readouterr().err)


def test_blank_lines_never_reach_the_model() -> None:
    model = RecurrentModel(14, seed=1)
    made = translator(model, letters())
    assert made.translate(BLANK) == [""] * len(BLANK)
    assert made.translate([]) == []
    assert model.rows_stepped == 0
    assert [len(found) for found in made.stream(["", "ab"], options(n_best=3))] == [1, 3]
    # A text of spaces took twice the time of one of empty lines: a chunk held 1,024 of its lines, not 9,216.
    for blank in ("", " \t", "\u200b\0"):
        assert [len(chunk) for chunk in split_chunks([Line(blank)] * 600, 4)] == [600]


@pytest.mark.parametrize("name", ["transformer", "gru", "plain gru"])
def test_score_equals_the_searchs_own_log_probability(name: str) -> None:
    tokenizers = letters()
    made = translator(sharp(MODELS[name], tokenizers), tokenizers, DecodingSettings(max_length_offset=6))
    lines = ["abc", "j", "gfedcba" * 4, "aa"]
    for sampling in (None, Sampling(seed=4)):
        asked = options(made.settings, n_best=4, sampling=sampling, with_token_scores=True)
        for line, found in zip(lines, made.stream(lines, asked), strict=True):
            forced = scores(made, [(line, translation.text) for translation in found])
            assert forced == pytest.approx([t.log_probability for t in found], abs=1e-4)
            sums = [sum(t.token_scores or ()) for t in found]
            assert sums == pytest.approx([t.log_probability for t in found], abs=1e-5)
            lengths = [len(t.pieces) + 1 for t in found]
            assert [t.score for t in found] == pytest.approx(
                [t.log_probability / n for t, n in zip(found, lengths, strict=True)]
            )


def test_score_does_not_depend_on_the_batch() -> None:
    tokenizers = letters()
    model = sharp(MODELS["transformer"], tokenizers)
    draws = random.Random(5)
    pairs = [
        ("".join(draws.choices("abcdefghij", k=draws.randrange(1, 20))), "abc"[: draws.randrange(4)]) for _ in "x" * 30
    ]
    together = scores(translator(model, tokenizers), pairs)
    alone = scores(translator(model, tokenizers, DecodingSettings(batch_tokens=1)), pairs)
    assert together == pytest.approx(alone, abs=1e-4)
    assert all(score < 0 for score in together)
    assert scores(translator(model, tokenizers), []) == []


def test_a_long_line_is_translated_in_parts(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizers = letters("abcdefghij .")
    settings = DecodingSettings(max_source_tokens=12, max_length_ratio=1, max_length_offset=1)
    made = translator(RecurrentModel(16, seed=1), tokenizers, settings)
    long = "abc def. ghi jab cde fgh"
    whole = made.translate(["ab", long])[1]
    assert whole == " ".join(text for text in made.translate(["abc def.", "ghi jab cde", "fgh"]) if text)
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == ["warning: line 2: 24 tokens, more than the 12 read at once; translated in 3 parts"]
    # The longest came first, and a book of long lines filled the terminal.
    made.translate(["ab", *(long + " " + "a" * n for n in range(9))])
    warnings = capsys.readouterr().err.splitlines()
    assert [warning.split(":")[1] for warning in warnings[:5]] == [f" line {line}" for line in range(2, 7)]
    assert warnings[5:] == ["warning: 4 more of these 10 lines are translated in parts"]


def test_sentences_of_a_long_line_are_translated_one_by_one() -> None:
    """As many at once as the model reads, and it left most of them out."""
    tokenizers = letters("abcdefghiA .")
    settings = DecodingSettings(max_source_tokens=14, max_length_ratio=1, max_length_offset=1)
    made = translator(RecurrentModel(16, seed=1), tokenizers, settings)
    whole, *alone = made.translate(["Abc. Ade. Af am 3. Abc. Agh.", "Abc.", "Ade.", "Af am 3. Abc.", "Agh."])
    assert whole == " ".join(text for text in alone if text)


def test_split_parts_fit_and_lose_nothing() -> None:
    draws = random.Random(7)
    for limit in (1, 5, 20):
        for _ in range(100):
            text = "".join(draws.choices("ab é中。. ,👩‍👧e\u0301", k=draws.randrange(1, 120)))
            parts = split_to_fit(text, limit, lambda texts: [len(t) for t in texts])
            assert [c for c in "".join(parts) if not is_blank(c)] == [c for c in text if not is_blank(c)]
            assert max(map(len, parts), default=0) <= limit
    parts = split_to_fit("One two three. Four five six seven", 20, lambda texts: [len(t) for t in texts])
    assert parts == ["One two three.", "Four five six seven"]


@pytest.mark.parametrize("letter", ["ก\u0e33", "👩\U0001f3fd", "e\u0301", "ﾀ\uff9e"])
def test_a_part_does_not_begin_within_a_letter(letter: str) -> None:
    for limit in range(3, 12):
        parts = split_to_fit(letter * 20, limit, lambda texts: [len(t) for t in texts])
        assert all(part.startswith(letter[0]) and part.endswith(letter[-1]) for part in parts)


def test_outputs_cut_at_the_limit_are_counted() -> None:
    """Hugging Face cuts at 20 tokens by a default and says nothing."""
    table = torch.zeros(14, 14)
    table[:, EOS] = -9.0
    made = translator(MarkovModel(table), letters(), DecodingSettings(max_length_ratio=3, max_length_offset=2))
    assert [len(text) for text in made.translate(["a", "", "abcabcabc" * 3])] == [5, 0, 83]
    assert made.outputs_cut == 2


def test_output_never_holds_a_line_break() -> None:
    """A byte-level vocabulary can write a line feed, which would shift all later lines of the output file."""
    tokenizers = letters("\n\r\u2028\x85a")
    made = translator(MarkovModel(torch.randn(9, 9, generator=torch.Generator().manual_seed(1))), tokenizers)
    for found in made.stream(["aaaa"] * 20, options(n_best=5, sampling=Sampling(seed=3))):
        for translation in found:
            assert len(f"{translation.text}.".splitlines()) == 1
    assert single_line("a\r\nb\u2028c") == "a  b c"


def test_a_translation_that_is_cut_does_not_end_in_a_space() -> None:
    """Pieces such as ▁ begin a word that the length limit may cut off."""
    table = torch.zeros(8, 8)
    table[:, :4] = -99.0  # letters alone
    made = translator(MarkovModel(table), letters("a bc"))
    found = [item for some in made.stream(["aaaa"] * 20, options(n_best=5, sampling=Sampling(seed=3))) for item in some]
    assert any(item.pieces[-1:] == [" "] for item in found)
    assert not any(item.text.endswith(" ") for item in found)


def test_stream_is_lazy_and_in_order() -> None:
    """Ten million lines must not be read before the first is written."""
    made = translator(RecurrentModel(14, seed=2), letters(), DecodingSettings(beam_size=1, max_length_offset=1))
    read = 0

    def lines() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "abcdefghij"[: 1 + read % 10] + "\n"

    stream = made.stream(lines())
    first = [next(stream)[0].text for _ in range(5000)]
    assert read <= 5000 + 3 * 1024
    assert first[:20] == made.translate([f"{'abcdefghij'[: 1 + n % 10]}" for n in range(1, 21)])
    assert [len(chunk) for chunk in split_chunks([Line("x" * 1_000_000)] * 5, 100)] == [2, 2, 1]


def test_settings_of_one_call() -> None:
    made = translator(RecurrentModel(14, seed=3), letters(), DecodingSettings(beam_size=3))
    greedy = made.translate(["abc"], beam_size=1)
    assert greedy == [t[0].text for t in made.stream(["abc"], options(DecodingSettings(beam_size=1)))]
    assert made.settings.beam_size == 3
    sampled = [
        [found[0].text for found in made.stream(["abc"] * 20, options(sampling=Sampling(seed=seed)))]
        for seed in (1, 1, 2)
    ]
    assert sampled[0] == sampled[1] != sampled[2]
    assert len(set(sampled[0])) > 1
    with pytest.raises(UsageError):
        made.translate(["abc"], beam_size=0)
    with pytest.raises(UsageError):
        list(made.stream(["abc"], options(length_penalty=-1.0)))
    with pytest.raises(UsageError, match="beam of 3"):
        next(made.stream(["abc"], options(made.settings, n_best=4)))


def test_encode_gives_states_and_mask() -> None:
    tokenizers = letters()
    model = sharp(MODELS["gru"], tokenizers)
    texts = ["abc", "", "abcdefgh", "a"]
    states, mask = translator(model, tokenizers, DecodingSettings(batch_tokens=8)).scorer.encode(texts)
    assert mask.sum(dim=1).tolist() == [4, 1, 9, 2]
    assert states.shape == (4, 9, 16)
    assert not states[~mask].any()
    alone = translator(model, tokenizers).scorer.encode(["abc"])
    torch.testing.assert_close(states[:1, :4], alone.states)
    assert translator(model, tokenizers).scorer.encode([]).states.shape == (0, 0, 16)


def test_attention_of_a_translation() -> None:
    tokenizers = letters()
    made = translator(sharp(MODELS["transformer"], tokenizers), tokenizers)

    def attention(made: Translator, source: str, target: str) -> AttentionMatrix:
        scorer = made.scorer
        aligner = WordAligner(scorer.model, scorer.tokenizers, scorer.settings, scorer.device)
        return aligner.attention([(source, target)])[0].matrix(AlignmentOptions(), words=False)

    matrix = attention(made, "abcd", "ja")
    assert matrix.source_pieces == ["a", "b", "c", "d", "</s>"]
    assert matrix.target_pieces == ["j", "a", "</s>"]
    torch.testing.assert_close(matrix.weights.sum(dim=1), torch.ones(3))
    assert attention(made, "", "ja").weights.shape[1] == 1
    with pytest.raises(UsageError, match="no attention"):
        attention(translator(sharp(MODELS["plain gru"], tokenizers), tokenizers), "abc", "ja")


def test_texts_beyond_the_models_own_limit(capsys: pytest.CaptureFixture[str]) -> None:
    """Learned positions end somewhere: translate splits, score cuts, both say so."""
    tokenizers = letters()
    made = translator(sharp(MODELS["learned positions"], tokenizers), tokenizers)
    assert len(made.translate(["a" * 100])[0]) > 0
    assert "23 read at once" in capsys.readouterr().err
    assert scores(made, [("a" * 100, "b" * 100)]) == pytest.approx(scores(made, [("a" * 23, "b" * 23)]))
    assert "source 1: 100 tokens" in capsys.readouterr().err


def test_batches_hold_every_part_once_and_keep_the_limits() -> None:
    draws = random.Random(3)
    for lines, tokens, sentences in ((5, 10, 100), (300, 400, 64), (5000, 4096, 256), (40, 10**6, 1000)):
        parts = [Sentence([4] * draws.randrange(1, 40)) for _ in range(lines)]
        batches = list(make_batches(iter(parts), lines, tokens, sentences))
        assert [part for batch in batches for part in batch] == parts
        for batch in batches:
            assert len(batch) <= sentences
            assert len(batch) == 1 or len(batch) * (max(len(part.ids) for part in batch) + 1) <= tokens
    assert len(batches) == 1
    sizes = [len(batch) for batch in make_batches(iter(parts * 10), 400, tokens, sentences, share=0.3)]
    assert sizes == [120, 88, 64, 56, 56, 16]  # ever smaller, so that all who share them end together


def test_the_most_common_sample_is_chosen() -> None:
    """With exact matches only, minimum Bayes risk is a vote."""
    table = torch.full((14, 14), -30.0)
    table[1, 5:8] = torch.tensor([0.5, 0.3, 0.2]).log()  # BOS -> b, c or d
    table[5:8, EOS] = 0.0
    made = translator(MarkovModel(table), letters())
    drawn = options(n_best=1, sampling=Sampling(seed=1))._replace(mbr=MBROptions(64))
    assert [found[0].text for found in made.stream(["a", "", "b"], drawn)] == ["b", "", "b"]


def test_prefixes_begin_the_translation_of_a_line() -> None:
    tokenizers = letters()
    made = translator(sharp(MODELS["transformer"], tokenizers), tokenizers, DecodingSettings(max_source_tokens=8))
    lines = [Line("abcd", "hij"), Line("abcd"), Line("", "a"), Line("abcdabcdabcdabcd", "ij"), Line("b", "a" * 60)]
    texts = [found[0].text for found in made.stream(lines)]
    assert [text[: len(line.prefix)] for text, line in zip(texts, lines, strict=True)] == [
        "hij",
        "",
        "",
        "ij",
        "a" * 60,
    ]
    assert texts[1] == made.translate(["abcd"])[0]
    assert texts[2] == ""


def test_paragraphs_are_translated_sentence_by_sentence() -> None:
    from seq2seq.decoding.segmentation import split_sentences

    tokenizers = letters("abcdefghij. ")
    made = translator(sharp(MODELS["transformer"], tokenizers), tokenizers)
    paragraph, sentences = "A bc de. Ab! Jih.", ["A bc de.", "Ab!", "Jih."]
    whole = options()._replace(split=split_sentences)
    best = [translations[0] for translations in made.stream([paragraph, "", sentences[0]], whole)]
    alone = made.translate(sentences)
    assert [item.text for item in best] == [" ".join(text for text in alone if text), "", alone[0]]
    assert best[0].pairs == tuple(zip(sentences, alone, strict=True))
    assert best[2].pairs == ((sentences[0], alone[0]),)


def test_search_options_come_from_the_settings() -> None:
    settings = DecodingSettings(beam_size=3, length_penalty=0.5, max_length_ratio=1.5, min_length_ratio=0.2)
    assert translation_options(settings).search == SearchOptions(3, 0.5, 1, 1.5, 20, 0.2)
