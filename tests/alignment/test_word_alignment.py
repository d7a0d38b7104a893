"""Links from attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seq2seq.alignment.word_alignment import AlignmentOptions, WordAligner, pharaoh
from seq2seq.config import DecodingSettings, RNNSettings, TransformerSettings
from seq2seq.config.model import ModelSettings
from seq2seq.config.settings import TokenizerSettings
from seq2seq.errors import UsageError
from seq2seq.models import build_model
from seq2seq.models.interface import Decoded, Memory, Seq2SeqModel
from seq2seq.special_tokens import BOS, EOS, PAD
from seq2seq.tokenizers.pair import TokenizerPair, train_tokenizers
from tests.decoding.random_models import sharp
from tests.decoding.tiny_models import letters

CPU = torch.device("cpu")
PAIRS = [
    ("der alte mann trinkt tee", "the old man drinks tea"),
    ("", "the man"),
    ("mann", ""),
    ("tee tee tee tee tee tee tee tee", "tea"),
    ("der mann", "the old man drinks the tea of the man"),
    ("\u200b", "\0"),
]
MODELS: dict[str, ModelSettings] = {
    "transformer": TransformerSettings(hidden_size=16, ff_size=32, num_heads=2, encoder_layers=1, decoder_layers=3),
    "gru": RNNSettings(embedding_size=16, hidden_size=16, attention="additive"),
    "gru multi-head": RNNSettings(embedding_size=16, hidden_size=16, attention="multi_head", num_heads=2),
}


class ScriptedModel(Seq2SeqModel):
    """Attends as it is told: `weights` [L H T S] of one pair."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights
        self.output = nn.Linear(1, 1)

    def encode(self, source: Tensor) -> Memory:
        mask = source != PAD
        return Memory(mask[:, :, None].float(), mask)

    def decode(self, target_in: Tensor, memory: Memory, *, with_attention: bool = False) -> Decoded:
        assert target_in.shape[1] == self.weights.shape[2]
        assert memory.mask.shape[1] == self.weights.shape[3]
        return Decoded(target_in[:, :, None].float(), self.weights[None])

    def start(self, memory: Memory) -> Any:
        raise NotImplementedError

    def step(self, tokens: Tensor, memory: Memory, state: Any, *, with_attention: bool = False) -> Any:
        raise NotImplementedError


def subwords() -> TokenizerPair:
    settings = TokenizerSettings(kind="bpe", vocabulary_size=340)
    return train_tokenizers(settings, lambda: iter(PAIRS[:1] * 20), 1)


def aligner(model: Seq2SeqModel, tokenizers: TokenizerPair, **settings: Any) -> WordAligner:
    return WordAligner(model, tokenizers, DecodingSettings(**settings), CPU)


def test_links_follow_the_attention() -> None:
    """Two words on each side; pieces are letters, `⁇` is the space, which opens the word after it."""
    # Rows write a, space, b, c and the end; columns are d, e, space, f and the end.
    weights = torch.tensor(
        [
            [0.0, 0.1, 0.0, 0.2, 0.7],  # the end mark is no word: f it is
            [1.0, 0.0, 0.0, 0.0, 0.0],  # the space belongs to bc, and so does what it looks at
            [0.3, 0.3, 0.1, 0.3, 0.0],  # d and e are one word: 0.6 against 0.4
            [0.0, 0.4, 0.0, 0.6, 0.0],
            [0.0, 0.0, 0.0, 0.0, 1.0],
        ]
    )
    made = aligner(ScriptedModel(weights[None, None]), letters())
    assert made.align([("de f", "a bc")]) == [((0, 1), (1, 0))]
    matrix = made.attention([("de f", "a bc")])[0].matrix(AlignmentOptions(), words=True)
    assert matrix.source_pieces == ["de", "f", "</s>"]
    assert matrix.target_pieces == ["a", "bc", "</s>"]
    expected = [[0.1, 0.2, 0.7], [(1.0 + 0.6 + 0.4) / 3, (0.4 + 0.6) / 3, 0.0], [0.0, 0.0, 1.0]]
    torch.testing.assert_close(matrix.weights, torch.tensor(expected))


def spaced(words: Tensor) -> Tensor:
    """Weights over two one-letter words and the end mark as weights over letters, space and end mark."""
    rows = words[[0, 1, 1, 2]]
    return torch.stack([rows[:, 0], torch.zeros(4), rows[:, 1], rows[:, 2]], dim=1)


def test_layers_heads_and_steps() -> None:
    eye, mirror = torch.eye(3), torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    late = torch.tensor([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
    weights = [[eye, mirror], [0.9 * eye + 0.1 * mirror, late]]
    scripted = torch.stack([torch.stack([spaced(head) for head in layer]) for layer in weights])
    made = aligner(ScriptedModel(scripted), letters())

    def links(*options: Any) -> str:
        return pharaoh(made.align([("a b", "c d")], AlignmentOptions(*options))[0])

    assert links(1, 1) == "0-0 1-1"
    assert links(1, 2) == "0-1 1-0"
    assert links(2, 1) == "0-0 1-1"
    assert links() == "0-0 1-1"
    assert links(2, 2, True) == "0-1 1-0"
    for options in ((3,), (0,), (1, 3)):
        with pytest.raises(UsageError, match="of attention"):
            links(*options)


@pytest.mark.parametrize("name", list(MODELS))
def test_batches_change_nothing(name: str) -> None:
    tokenizers = subwords()
    model = sharp(MODELS[name], tokenizers)
    one = aligner(model, tokenizers, batch_tokens=1)
    many = aligner(model, tokenizers)
    for single, found in zip(one.attention(PAIRS), many.attention(PAIRS), strict=True):
        torch.testing.assert_close(single.weights, found.weights)
        torch.testing.assert_close(found.weights.sum(dim=-1), torch.ones(found.weights.shape[:-1]))
    links = many.align(PAIRS)
    assert links == one.align(PAIRS) == [attention.links(AlignmentOptions()) for attention in many.attention(PAIRS)]
    assert [len(each) for each in links] == [5, 0, 0, 1, 9, 0]
    assert links[3] == ((links[3][0][0], 0),)
    assert model.training


@pytest.mark.parametrize("name", list(MODELS))
def test_equal_to_the_attention_of_single_steps(name: str) -> None:
    tokenizers = subwords()
    model = sharp(MODELS[name], tokenizers).eval()
    found = aligner(model, tokenizers).attention(PAIRS[:1])[0]
    with torch.no_grad():
        memory = model.encode(torch.tensor([[*found.source.ids, EOS]]))
        state, rows = model.start(memory), []
        for token in [BOS, *found.target.ids]:
            stepped = model.step(torch.tensor([token]), memory, state, with_attention=True)
            state = stepped.state
            assert stepped.attention is not None
            rows.append(stepped.attention[0].clone())
    torch.testing.assert_close(found.weights[-1].mean(dim=0), torch.stack(rows))


def test_words_are_merged_as_the_marks_say() -> None:
    tokenizers = subwords()
    found = aligner(sharp(MODELS["transformer"], tokenizers), tokenizers).attention(PAIRS[:1])[0]
    pieces, words = (found.matrix(AlignmentOptions(), words=words) for words in (False, True))
    columns = [part.sum(dim=1) for part in pieces.weights.tensor_split(starts(pieces.source_pieces), dim=1)]
    rows = [part.mean(dim=0) for part in torch.stack(columns, dim=1).tensor_split(starts(pieces.target_pieces))]
    torch.testing.assert_close(words.weights, torch.stack(rows))
    assert words.source_pieces == [*PAIRS[0][0].split(), "</s>"]


def starts(pieces: list[str]) -> list[int]:
    """Where the second word and the later ones begin."""
    return [place for place, piece in enumerate(pieces) if piece.startswith(("▁", "</s>"))][1:]


def test_a_tag_before_the_source_moves_no_word() -> None:
    """With `<2en>` before each line every link was one word too far to the right."""
    settings = TokenizerSettings(kind="bpe", vocabulary_size=340)
    tokenizers = train_tokenizers(settings, lambda: iter(PAIRS[:1] * 20), 1, ["<2en>"])
    made = aligner(sharp(MODELS["transformer"], tokenizers), tokenizers)
    (links,) = made.align([("<2en> der mann", "the old man")])
    assert {i for i, _ in links} <= {0, 1}
    assert made.align([("<2en>", "the old man")]) == [()]


def test_sentences_of_a_text_are_aligned_one_by_one() -> None:
    """A paragraph was aligned as one sentence, and its words beyond the limit of the model not at all."""
    settings = TokenizerSettings(kind="bpe", vocabulary_size=340)
    tokenizers = train_tokenizers(settings, lambda: iter(PAIRS[:1] * 20), 1, ["<2en>"])
    made = aligner(sharp(MODELS["transformer"], tokenizers), tokenizers)
    sentences = [("<2en> der mann", "the old man"), ("<2en> mann", ""), ("<2en> alte tee", "tea")]
    first, _, last = made.align(sentences)
    shifted = tuple((i + 3, j + 3) for i, j in last)
    assert made.align_sentences([sentences, [], sentences[:1]]) == [(*first, *shifted), (), first]


def test_long_texts_are_cut_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizers = subwords()
    made = aligner(sharp(MODELS["transformer"], tokenizers), tokenizers, max_source_tokens=8)
    (links,) = made.align([("tee " * 100, "tea " * 50)])
    assert links
    assert max(max(link) for link in links) < 8
    errors = capsys.readouterr().err
    assert "source 1: more than 8 tokens" in errors
    assert "target 1: more than 8 tokens" in errors


def test_no_attention_to_show() -> None:
    tokenizers = subwords()
    settings = RNNSettings(embedding_size=16, hidden_size=16, attention="none", input_feeding=False)
    model = build_model(settings, tokenizers.source.size, tokenizers.target.size)
    with pytest.raises(UsageError, match="no attention"):
        aligner(model, tokenizers).align(PAIRS)
    assert aligner(model, tokenizers).align([]) == []
