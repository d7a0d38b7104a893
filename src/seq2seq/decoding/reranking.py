"""Noisy channel reranking of a beam's hypotheses by a run of the opposite direction (Yee et al. 2019).

    score = log P(target | source) / length^alpha + weight * log P(source | target) / (length of the source)

The lengths count the end mark.
"""

from __future__ import annotations

from collections.abc import Sequence

from seq2seq.decoding.forced_decoding import Scorer
from seq2seq.decoding.interface import Engine, EngineWrapper, Hypothesis, SearchOptions, Sentence
from seq2seq.decoding.length_limits import require_beam
from seq2seq.decoding.target_tags import TargetTags
from seq2seq.tokenizers.pair import TokenizerPair

WEIGHT = 0.2
"""Default weight; 0.1 to 0.3 are best on Multi30k, in both directions (`configs/README.md`)."""


class RerankingEngine(EngineWrapper):
    """Searches with another engine, and orders all that the beam finds by the scores of both directions.

    Samples and diverse beams stay as they are.
    """

    def __init__(self, engine: Engine, tokenizers: TokenizerPair, scorer: Scorer, weight: float = WEIGHT) -> None:
        """Args:
        engine: translates the source language to the target language.
        tokenizers: of the engine.
        scorer: of a run that translates the target language to the source language.
        weight: of the scorer's log-probabilities.
        """
        super().__init__(engine)
        self.tokenizers, self.scorer, self.weight = tokenizers, scorer, weight
        self.tags = TargetTags(tuple(tokenizers.source.tags))

    def search(self, sentences: Sequence[Sentence], options: SearchOptions) -> list[list[Hypothesis]]:
        """See `Engine`; `Hypothesis.score` is that of both directions.

        Raises what the engine raises, and as `require_beam`.
        """
        if options.sampling is not None or options.diversity:
            return self.engine.search(sentences, options)
        require_beam("--rerank", options.beam_size)
        found = self.engine.search(sentences, options._replace(n_best=max(options.n_best, options.beam_size)))
        texts = self.tokenizers.target.decode([item.tokens for hypotheses in found for item in hypotheses])
        sources = [
            self.tags.split(sentence.text)[1]
            for sentence, hypotheses in zip(sentences, found, strict=True)
            for _ in hypotheses
        ]
        backward = iter(self.scorer.score(list(zip(texts, sources, strict=True))))
        reranked = []
        for hypotheses in found:
            scored = [
                item._replace(score=item.score + self.weight * score.log_probability / score.length)
                for item, score in zip(hypotheses, backward, strict=False)
            ]
            reranked.append(sorted(scored, key=lambda item: -item.score)[: options.n_best])
        return reranked
