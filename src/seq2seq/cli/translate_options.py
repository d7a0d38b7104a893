"""What a user of `translate` asks for: how to decode, and how to print."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from seq2seq.cli.options import check_choice, exclude, require
from seq2seq.console import say
from seq2seq.errors import DataError, UsageError

if TYPE_CHECKING:
    from seq2seq.alignment.word_alignment import WordAligner
    from seq2seq.decoding.interface import SearchOptions
    from seq2seq.decoding.text_batches import Line
    from seq2seq.decoding.translator import Translation, TranslationOptions
    from seq2seq.runs import LoadedRun


class Decoding(NamedTuple):
    """How to translate; None leaves it to the run."""

    beam_size: int | None
    length_penalty: float | None
    n_best: int
    diversity: float
    min_length_ratio: float | None
    max_length_ratio: float | None
    max_length: int | None
    sample: bool
    temperature: float
    top_k: int
    top_p: float
    seed: int
    mbr: int | None
    mbr_utility: str
    glossary: Path | None
    replace_unknown: bool
    paragraphs: bool

    def check(self) -> None:
        """Raise `UsageError` where two options exclude each other."""
        check_choice("--mbr-utility", self.mbr_utility, ("chrf", "bleu"))
        draws = self.sample or self.mbr is not None
        if (self.temperature != 1.0 or self.top_k or self.top_p != 1.0 or self.seed != 1) and not draws:
            raise UsageError(
                "--temperature, --top-k, --top-p and --seed belong to --sample and --mbr",
                hint="add --sample",
                code="usage.needs",
            )
        if self.mbr_utility != "chrf":
            require("--mbr-utility", "--mbr", self.mbr is not None)
        searching = [
            ("--beam-size", self.beam_size is not None),
            ("--diversity", self.diversity > 0),
            ("--glossary", self.glossary is not None),
        ]
        if self.mbr is not None:
            others = [("--sample", self.sample), ("--n-best", self.n_best > 1), *searching]
            exclude("--mbr", others, "it draws samples, and prints the best one")
        if self.sample:
            exclude("--sample", searching, "samples are drawn one token after the other, not searched for")
        if self.diversity:
            require("--diversity", "--n-best of 2 or more", self.n_best > 1)
            exclude("--diversity", [("--glossary", self.glossary is not None)], "both decide on the beam")
        if not draws and self.beam_size is not None and self.beam_size < self.n_best:
            raise UsageError(
                f"a beam of {self.beam_size} cannot give {self.n_best} translations",
                where="--n-best",
                hint=f"--beam-size {self.n_best}, or leave --beam-size out",
                code="usage.conflict",
            )
        if self.max_length is not None:
            exclude("--max-length", [("--max-length-ratio", self.max_length_ratio is not None)], "both set one limit")

    def options(self, loaded: LoadedRun) -> TranslationOptions:
        """The same for the translator.

        Raises:
            UsageError: the run cannot do it.
            DataError: the glossary is damaged.
        """
        from seq2seq.decoding.glossary import read_glossary
        from seq2seq.decoding.mbr import Risk
        from seq2seq.decoding.segmentation import split_sentences
        from seq2seq.decoding.translator import TranslationOptions
        from seq2seq.decoding.unknown_words import check_unknowns
        from seq2seq.evaluation.metrics import bleu_tokenizer

        tokenizers, data = loaded.translator.tokenizers, loaded.config.data
        if self.replace_unknown:
            check_unknowns(tokenizers)
        risk = None
        if self.mbr is not None:
            tokenize = bleu_tokenizer(data.target_language) if self.mbr_utility == "bleu" else "13a"
            risk = Risk(self.mbr, self.mbr_utility, tokenize)
        return TranslationOptions(
            self._search(loaded),
            split=partial(split_sentences, language=data.source_language) if self.paragraphs else None,
            glossary=None if self.glossary is None else read_glossary(self.glossary, tokenizers.target),
            risk=risk,
            replace_unknown=self.replace_unknown,
        )

    def _search(self, loaded: LoadedRun) -> SearchOptions:
        from seq2seq.decoding.candidates import Sampling
        from seq2seq.decoding.translator import search_options

        search = search_options(loaded.translator.settings)
        given: dict[str, Any] = {
            "beam_size": self.beam_size,
            "length_penalty": self.length_penalty,
            "min_length_ratio": self.min_length_ratio,
            "max_length_ratio": self.max_length_ratio,
        }
        search = search._replace(**{key: value for key, value in given.items() if value is not None})
        if self.max_length is not None:
            search = search._replace(max_length_ratio=0.0, max_length_offset=self.max_length)
        if self.sample or self.mbr is not None:
            return search._replace(
                n_best=self.n_best, sampling=Sampling(self.temperature, self.top_k, self.top_p, self.seed)
            )
        if self.n_best > search.beam_size:
            say(f"the beam is widened from the run's {search.beam_size} to {self.n_best} for --n-best {self.n_best}")
        return search._replace(
            beam_size=max(search.beam_size, self.n_best), n_best=self.n_best, diversity=self.diversity
        )

    def identity(self) -> dict[str, Any]:
        """What must be equal for one output file, in JSON's types."""
        glossary = None
        if self.glossary is not None:
            try:
                glossary = hashlib.sha256(self.glossary.read_bytes()).hexdigest()
            except OSError as error:
                raise DataError(
                    f"cannot read {self.glossary}: {error.strerror}", where=str(self.glossary), code="data.no-file"
                ) from None
        return self._asdict() | {"glossary": glossary}


class Format(NamedTuple):
    """How to print."""

    n_best: int
    as_json: bool
    scores: bool
    token_scores: bool
    alignments: bool

    def check(self) -> None:
        """Raise `UsageError` where an option lacks another."""
        if self.token_scores:
            require("--token-scores", "--json", self.as_json)

    def text(
        self, number: int, lines: Sequence[Line], found: Sequence[Sequence[Translation]], aligner: WordAligner | None
    ) -> str:
        """The output of some lines, `number` that of the first, counted from 0."""
        links = iter(_links(lines, found, aligner))
        rows = []
        for place, translations in enumerate(found, start=number + 1):
            if self.as_json:
                listed = [self._entry(item, next(links)) for item in translations]
                rows.append(json.dumps({"line": place, "translations": listed}, ensure_ascii=False))
                continue
            rows += [self._row(item, next(links)) for item in translations]
            # Always n_best lines a line, so that line i of the input stays at lines (i - 1) n_best + 1 and on.
            rows += [self._row(None, "")] * (self.n_best - len(translations))
        return "".join(row + "\n" for row in rows)

    def _row(self, item: Translation | None, links: str) -> str:
        text = item.text if item else ""
        if self.scores:
            # No score at all: whoever ranks or filters by it must not find nothing better than something.
            text = f"{item.score if item else -math.inf:.4f}\t{text}"
        return f"{text} ||| {links}" if self.alignments else text

    def _entry(self, item: Translation, links: str) -> Mapping[str, Any]:
        entry: dict[str, Any] = {"text": item.text, "score": item.score, "log_probability": item.log_probability}
        if item.cut:
            entry["cut"] = True
        if self.token_scores:
            entry |= {"pieces": item.pieces, "token_scores": list(item.token_scores or ())}
        if self.alignments:
            entry["alignment"] = links
        return entry


def _links(lines: Sequence[Line], found: Sequence[Sequence[Translation]], aligner: WordAligner | None) -> list[str]:
    """Word alignments of all translations, in order; empty ones where nobody asks."""
    pairs = [(line.text, item.text) for line, items in zip(lines, found, strict=True) for item in items]
    if aligner is None:
        return [""] * len(pairs)
    from seq2seq.alignment.word_alignment import pharaoh

    return [pharaoh(alignment) for alignment in aligner.align(pairs)]
