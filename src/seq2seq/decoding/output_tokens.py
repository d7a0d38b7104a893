"""Scores of the next tokens: of the whole vocabulary, or of each sentence's own list."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from seq2seq.decoding.candidates import Candidates, Live
from seq2seq.decoding.shortlist import Tokens
from seq2seq.kernels import BLOCKS
from seq2seq.kernels.search import listed_logits
from seq2seq.models.interface import Seq2SeqModel
from seq2seq.special_tokens import PAD


class WholeVocabulary:
    """Every token may come next."""

    def __init__(self, model: Seq2SeqModel) -> None:
        self.model = model

    def logits(self, hidden: Float[Tensor, "R D"], live: Live) -> Float[Tensor, "R V"]:
        """Scores of the tokens for the hypotheses of `live`, which may be overwritten."""
        return self.model.logits(hidden)

    def named(self, candidates: Candidates, live: Live) -> Candidates:
        """The candidates with the ids of their tokens in place of their columns in `logits`."""
        return candidates


class ListedTokens(WholeVocabulary):
    """The tokens of a list of each sentence may come next: the others have no probability.

    The lists begin with the special tokens, whose columns are their ids.
    """

    def __init__(self, model: Seq2SeqModel, lists: Sequence[Tokens]) -> None:
        """`model` has an `output`; the lists are in rising order."""
        super().__init__(model)
        # The loops take `BLOCKS` columns and more. In whole blocks, sums do not depend on the longest list of a batch.
        columns = -(-max(map(len, lists)) // BLOCKS) * BLOCKS
        self.tokens = torch.full((len(lists), columns), PAD)
        self.counts = torch.tensor([len(own) for own in lists])
        for row, own in zip(self.tokens, lists, strict=True):
            row[: len(own)] = torch.from_numpy(own)

    def logits(self, hidden: Float[Tensor, "R D"], live: Live) -> Float[Tensor, "R M"]:
        lists = torch.tensor(live.sentences)
        compiled = listed_logits(hidden, self.model.output, self.tokens, self.counts, lists)
        if compiled is not None:
            return compiled
        # To gather the rows of the output matrix for each sentence takes longer than the product with all of them.
        tokens = self.tokens[lists]
        beyond = torch.arange(tokens.shape[1]) >= self.counts[lists][:, None]
        logits = self.model.logits(hidden).view(len(lists), -1, self.model.output.out_features)
        listed = logits.gather(2, tokens.to(logits.device)[:, None].expand(-1, logits.shape[1], -1))
        return listed.masked_fill_(beyond.to(logits.device)[:, None], -torch.inf).flatten(0, 1)

    def named(self, candidates: Candidates, live: Live) -> Candidates:
        return candidates._replace(tokens=self.tokens[torch.tensor(live.sentences)].gather(1, candidates.tokens))
