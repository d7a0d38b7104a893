"""Options of `seq2seq translate`: decoding and output format."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from seq2seq.cli.options import exclude, require
from seq2seq.console import say
from seq2seq.errors import DataError, UsageError

if TYPE_CHECKING:
    from seq2seq.alignment.word_alignment import WordAligner
    from seq2seq.decoding.translation import Translation
    from seq2seq.decoding.translator import TranslationOptions
    from seq2seq.runs.loaded_run import LoadedRun


class DecodingOptions(NamedTuple):
    """Options of the decoding; None is the run's own setting."""

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
    mbr_utility: Literal["chrf", "bleu"]
    glossary: Path | None
    replace_unknown: bool
    paragraphs: bool
    keep: Sequence[str] | None

    def check(self) -> None:
        """Raise `UsageError` for options that exclude each other."""
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
            conflicts = [("--sample", self.sample), ("--n-best", self.n_best > 1), *searching]
            exclude("--mbr", conflicts, "it draws samples and prints the best one")
        if self.sample:
            exclude("--sample", searching, "samples are drawn token by token, without a search")
        if self.diversity:
            require("--diversity", "--n-best of 2 or more", self.n_best > 1)
            exclude("--diversity", [("--glossary", self.glossary is not None)], "both determine the beam")
        if not draws and self.beam_size is not None and self.beam_size < self.n_best:
            raise UsageError(
                f"a beam of {self.beam_size} cannot give {self.n_best} translations",
                where="--n-best",
                hint=f"--beam-size {self.n_best}, or leave --beam-size out",
                code="usage.conflict",
            )
        if self.max_length is not None:
            exclude("--max-length", [("--max-length-ratio", self.max_length_ratio is not None)], "both set a limit")

    def special_searches(self) -> list[tuple[str, bool]]:
        """The options that replace the plain beam search, and whether they are given."""
        return [("--sample", self.sample), ("--mbr", self.mbr is not None), ("--diversity", self.diversity > 0)]

    def options(self, loaded: LoadedRun) -> TranslationOptions:
        """The options of the translator.

        Raises:
            UsageError: the run does not support them.
            DataError: the glossary is malformed.
        """
        from seq2seq.decoding.candidates import Sampling
        from seq2seq.decoding.mbr import MBROptions
        from seq2seq.decoding.segmentation import split_sentences
        from seq2seq.decoding.translator import translation_options
        from seq2seq.decoding.unknown_words import symbol_sides
        from seq2seq.evaluation.metrics import bleu_tokenizer

        settings, tokenizers, data = loaded.translator.settings, loaded.translator.tokenizers, loaded.config.data
        if self.replace_unknown:
            symbol_sides(tokenizers)
        replaces_unknown = self.replace_unknown or settings.replace_unknown
        mbr = None
        if self.mbr is not None:
            tokenize = bleu_tokenizer(data.target_language) if self.mbr_utility == "bleu" else "13a"
            mbr = MBROptions(self.mbr, self.mbr_utility, tokenize)
        sampling = None
        if self.sample or self.mbr is not None:
            sampling = Sampling(self.temperature, self.top_k, self.top_p, self.seed)
        elif self.beam_size is None and self.n_best > settings.beam_size:
            say(f"the beam is widened from the run's {settings.beam_size} to {self.n_best} for --n-best {self.n_best}")
        options = translation_options(
            settings,
            beam_size=self.beam_size,
            n_best=self.n_best,
            length_penalty=self.length_penalty,
            min_length_ratio=self.min_length_ratio,
            max_length_ratio=self.max_length_ratio,
            max_length=self.max_length,
            diversity=self.diversity,
            sampling=sampling,
            keep=self.keep,
        )
        return options._replace(
            split=partial(split_sentences, language=data.source_language) if self.paragraphs else None,
            glossary=None
            if self.glossary is None
            else loaded.translator.read_glossary(self.glossary, replaces_unknown=replaces_unknown),
            mbr=mbr,
            replace_unknown=replaces_unknown,
        )

    def identity(self) -> dict[str, Any]:
        """The options that `--resume` requires to be equal, as JSON values."""
        glossary = None
        if self.glossary is not None:
            try:
                glossary = hashlib.sha256(self.glossary.read_bytes()).hexdigest()
            except OSError as error:
                raise DataError(
                    f"cannot read {self.glossary}: {error.strerror}", where=str(self.glossary), code="data.no-file"
                ) from None
        return self._asdict() | {"glossary": glossary}


_json = json.JSONEncoder(ensure_ascii=False).encode
"""One encoder for all lines: `json.dumps` with these options makes a new one for each call."""


class OutputFormat(NamedTuple):
    """Format of the output."""

    n_best: int
    as_json: bool
    scores: bool
    token_scores: bool
    alignments: bool

    def check(self) -> None:
        """Raise `UsageError` for an option without the one that it needs."""
        if self.token_scores:
            require("--token-scores", "--json", self.as_json)

    def given(self) -> list[tuple[str, bool]]:
        """The options, and whether they are given."""
        return [
            ("--n-best", self.n_best > 1),
            ("--json", self.as_json),
            ("--scores", self.scores),
            ("--alignments", self.alignments),
        ]

    def text(self, start: int, chunk: Sequence[Sequence[Translation]], aligner: WordAligner | None) -> str:
        """The output for the translations of each line; `start` is the number of the first line, counted from 0."""
        if not (self.as_json or self.scores or self.alignments or self.n_best > 1):
            return "".join(translations[0].text + "\n" for translations in chunk)
        links = iter(_links([item for translations in chunk for item in translations], aligner))
        rows = []
        for number, translations in enumerate(chunk, start=start + 1):
            if self.as_json:
                entries = [self._entry(item, next(links)) for item in translations]
                rows.append(_json({"line": number, "translations": entries}))
                continue
            rows += [self._row(item, next(links)) for item in translations]
            # Always n_best rows for a line, so that those of line i begin at row (i - 1) n_best + 1.
            rows += [self._row(None, "")] * (self.n_best - len(translations))
        return "".join(row + "\n" for row in rows)

    def _row(self, item: Translation | None, links: str) -> str:
        text = item.text if item else ""
        if self.scores:
            # -inf, so that a missing translation ranks last.
            text = f"{item.score if item else -math.inf:.4f}\t{text}"
        return f"{text} ||| {links}" if self.alignments else text

    def _entry(self, item: Translation, links: str) -> Mapping[str, Any]:
        scores = {"score": item.score, "log_probability": item.log_probability}
        entry: dict[str, Any] = {"text": item.text}
        entry |= {name: None if value == -math.inf else value for name, value in scores.items()}
        if item.cut:
            entry["cut"] = True
        if self.token_scores:
            entry |= {"pieces": item.pieces, "token_scores": list(item.token_scores or ())}
        if self.alignments:
            entry["alignment"] = links
        return entry


def _links(translations: Sequence[Translation], aligner: WordAligner | None) -> list[str]:
    """The word alignment of each translation; empty strings without an aligner."""
    if aligner is None:
        return [""] * len(translations)
    from seq2seq.alignment.word_alignment import pharaoh

    return [pharaoh(links) for links in aligner.align_sentences([item.pairs for item in translations])]
