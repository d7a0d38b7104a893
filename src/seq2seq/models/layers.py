"""Dropout, embeddings and their tying, norms, feed-forward blocks."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.config.model import TiedEmbeddings, TransformerSettings
from seq2seq.errors import ConfigError
from seq2seq.models.linear import Linear, initialise_linear
from seq2seq.special_tokens import PAD


class Dropout(nn.Module):
    """Zeroes elements with this probability in training and rescales the rest (Srivastava et al. 2014).

    On a CPU one random byte decides on each element, which is ten times as fast as torch's own mask. The probability is
    rounded to 1/256, and the rescaling uses the rounded one to keep the mean. The bytes come from torch's global
    generator, 64 bits a draw, so that its seed or saved state reproduces the masks.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.threshold = min(round(probability * 256), 255)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or self.probability == 0.0:
            return x
        if x.device.type != "cpu" or self.threshold == 0 or torch.compiler.is_compiling():
            return F.dropout(x, self.probability)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        # Comparing in place and converting from uint8 stay in vector code; anything with bool does not.
        mask = words.view(torch.uint8)[: x.numel()].view(x.shape).ge_(self.threshold)
        return x * mask.to(x.dtype).mul_(256 / (256 - self.threshold))

    def extra_repr(self) -> str:
        return f"p={self.probability}"


class Embedding(nn.Embedding):
    """Token embeddings drawn from N(0, 1/D) and scaled by sqrt(D) (Vaswani et al. 2017, section 3.4); PAD is zero.

    The scale suits them as inputs (variance 1) and, tied, as output weights (logits of variance 1). Training zeroes
    whole embeddings with the probability `word_dropout` (Gal and Ghahramani 2016, section 4.2; each token separately)
    and rescales the rest.
    """

    def __init__(self, size: int, width: int, word_dropout: float = 0.0) -> None:
        super().__init__(size, width, padding_idx=PAD)
        self.word_dropout = Dropout(word_dropout)
        nn.init.normal_(self.weight, std=width**-0.5)
        with torch.no_grad():
            self.weight[PAD].zero_()

    def forward(self, tokens: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape D"]:
        embedded: Tensor = super().forward(tokens) * math.sqrt(self.embedding_dim)
        if not self.training or self.word_dropout.probability == 0.0:
            return embedded
        kept: Tensor = self.word_dropout(torch.ones_like(embedded[..., :1]))
        return embedded * kept


def embeddings_and_output(
    tied: TiedEmbeddings, source_size: int, target_size: int, width: int, output_width: int, word_dropout: float
) -> tuple[Embedding, Embedding, nn.Linear]:
    """Source embedding, target embedding and output projection, sharing one Parameter where tied.

    The output has a bias only if it is not tied; a tied one needs `output_width == width`. Raises `ConfigError` if the
    sizes differ under `all`.
    """
    if tied == "all" and source_size != target_size:
        raise ConfigError(
            f"tied embeddings need one vocabulary, not {source_size} source and {target_size} target entries",
            where="model.tied_embeddings",
            hint="set tokenizer.joint: true, or model.tied_embeddings: target",
            code="config.conflict",
        )
    source = Embedding(source_size, width, word_dropout)
    target = source if tied == "all" else Embedding(target_size, width, word_dropout)
    output = Linear(output_width, target_size, bias=tied == "none")
    if tied == "none":
        initialise_linear(output)
    else:
        output.weight = target.weight
    return source, target, output


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` in the type of its input: bf16 where the residual stream is.

    CUDA's autocast would convert input and output to fp32, two more passes over memory each way. Mean and variance are
    in fp32 in any case.
    """

    def forward(self, x: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
        if x.device.type != "cuda" or x.dtype == self.weight.dtype:
            normalised: Tensor = super().forward(x)
            return normalised
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        with torch.autocast("cuda", enabled=False):
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


def build_norm(kind: Literal["layer_norm", "rms_norm"], width: int) -> nn.LayerNorm | nn.RMSNorm:
    """Layer normalisation (Ba et al. 2016) or root mean square normalisation (Zhang and Sennrich 2019)."""
    return LayerNorm(width) if kind == "layer_norm" else nn.RMSNorm(width, eps=1e-6)


class FeedForward(nn.Module):
    """Two linear layers around relu, gelu or the gated swiglu (Shazeer 2020) of `ff_size` inner units."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.activation = settings.activation
        gates = 2 if settings.activation == "swiglu" else 1
        self.inner = Linear(settings.hidden_size, gates * settings.ff_size)
        self.outer = Linear(settings.ff_size, settings.hidden_size)
        self.dropout = Dropout(settings.ff_dropout)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        x = self.inner(x, relu=self.activation == "relu")
        match self.activation:
            case "relu":
                pass
            case "gelu":
                x = F.gelu(x)
            case "swiglu":
                gate, value = x.chunk(2, dim=-1)
                x = F.silu(gate) * value
        outer: Tensor = self.outer(self.dropout(x))
        return outer
