"""One offline HTML page of attention: every sentence, layer and head, with the mouse as a pointer."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import torch

from seq2seq.errors import UsageError
from seq2seq.inference.alignment.matrix import readable_label
from seq2seq.inference.alignment.word_alignment import AlignmentOptions, PairAttention
from seq2seq.inference.alignment.words import Segments
from seq2seq.tokens import EOS, SPECIAL_TOKENS

_LONGEST_LABEL = 40


def html_page(pairs: Sequence[PairAttention], options: AlignmentOptions) -> str:
    """The page; `options` are what it shows first. Nothing is loaded from anywhere; weights are kept in 1/255.

    A piece that belongs to several words counts for the one that has most of it.

    Raises:
        UsageError: there are no pairs, or no such layer or head.
    """
    if not pairs:
        raise UsageError("there is no sentence to show", hint="give some text", code="usage.picture")
    pairs[0].chosen(options)
    data = {
        "layer": options.layer or 0,
        "head": options.head or 0,
        "shift": options.shift,
        "pairs": [_pair(pair) for pair in pairs],
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    template = files("seq2seq.inference.alignment").joinpath("attention_page.html").read_text(encoding="utf-8")
    # `</script>` in a text would end the data.
    return template.replace("@DATA@", text.replace("<", "\\u003c"))


def _pair(pair: PairAttention) -> dict[str, Any]:
    levels = (pair.weights.clamp(0, 1) * 255).round().to(torch.uint8).contiguous()
    return {
        "source": _side(pair.source),
        "target": _side(pair.target),
        "layers": pair.weights.shape[0],
        "heads": pair.weights.shape[1],
        "weights": base64.b64encode(bytes(levels.flatten().tolist())).decode("ascii"),
    }


def _side(segments: Segments) -> dict[str, Any]:
    end = SPECIAL_TOKENS[EOS]
    labels = [readable_label(piece, _LONGEST_LABEL) for piece in segments.pieces]
    most, owners = (
        segments.shares.max(dim=1) if segments.words else (torch.zeros(len(labels)), torch.zeros(len(labels)))
    )
    words = [int(word) if share > 0 else -1 for share, word in zip(most.tolist(), owners.tolist(), strict=True)]
    return {
        "pieces": [*labels, end],
        "words": [*(readable_label(word, _LONGEST_LABEL) for word in segments.words), end],
        "word": [*words, len(segments.words)],
    }
