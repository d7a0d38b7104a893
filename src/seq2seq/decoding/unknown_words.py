"""Replacement of unknown words by the source word with the most attention (Luong et al. 2015, "Addressing the Rare Word
Problem in Neural Machine Translation"; Jean et al. 2015).

It serves vocabularies of words or characters; subwords with byte fallback represent every text.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from seq2seq.decoding.kept_text import has_stand_in
from seq2seq.errors import UsageError
from seq2seq.special_tokens import UNK
from seq2seq.tags import TARGET_TAG
from seq2seq.tokenizers.normalization import normalize
from seq2seq.tokenizers.pair import TokenizerPair
from seq2seq.tokenizers.symbols import SymbolTokenizer

_LEAST_SHARE = 0.2
"""Share of the largest attention weight with which an unknown source symbol is preferred to known ones."""


def symbol_sides(tokenizers: TokenizerPair) -> tuple[SymbolTokenizer, SymbolTokenizer]:
    """The tokenizers of both sides, whose vocabularies have unknown words.

    Raises:
        UsageError: a vocabulary of subwords.
    """
    source, target = tokenizers
    if not (isinstance(source, SymbolTokenizer) and isinstance(target, SymbolTokenizer)):
        kind = (target if isinstance(source, SymbolTokenizer) else source).kind
        raise UsageError(
            f"unknown words are replaced with vocabularies of words or characters, not of {kind}",
            hint="leave --replace-unknown out: subwords spell what they do not know",
            code="model.vocabulary",
        )
    return source, target


def no_attention_error(what: str) -> UsageError:
    """Error of a model without attention, where something needs it."""
    hint = "train a transformer, or an rnn with model.attention=additive"
    return UsageError(what, hint=hint, code="model.no-attention")


def replace_unknowns(
    tokenizers: TokenizerPair, source_text: str, tokens: Sequence[int], attention: Tensor | None
) -> str:
    """The text of an output, with every `<unk>` replaced by a symbol of the source.

    Args:
        tokenizers: of words or characters on both sides.
        source_text: the source text, as it was encoded.
        tokens: the output without BOS and EOS.
        attention: [T+1, S] or [T, S], row t are the weights that wrote token t; S counts the source's EOS. Unknown
            source symbols with some attention come first, each once, then spans that are kept; EOS and target tags are
            never copied. `<unk>` remains if the source has no other symbols.

    Raises:
        UsageError: there is no attention, or the vocabulary has subwords.
    """
    source, target = symbol_sides(tokenizers)
    texts = [target.symbol(token) for token in tokens]
    if UNK in tokens:
        if attention is None:
            raise no_attention_error("this model has no attention, which --replace-unknown needs")
        symbols = list(source.symbols_of(normalize(source_text, source.normalization)))
        places = [place for place, symbol in enumerate(symbols) if not TARGET_TAG.fullmatch(symbol)]
        # Words unknown to one side are mostly unknown to the other: those symbols are used first, each of them once.
        unknown = {place for place in places if source.number(symbols[place]) == UNK}
        for row, token in enumerate(tokens):
            if token == UNK and places:
                weights = attention[row].tolist()
                near = [place for place in unknown if weights[place] >= _LEAST_SHARE * max(weights)]
                spans = [place for place in unknown if has_stand_in(symbols[place])]
                place = max(near or spans or places, key=lambda place: weights[place])
                unknown.discard(place)
                texts[row] = symbols[place]
    return target.join(texts)
