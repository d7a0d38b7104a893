"""The small parts: dropout, embeddings and their tying, positions, norms, feed-forward blocks."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.config.model import TiedEmbeddings, TransformerSettings
from seq2seq.errors import ConfigError, UsageError
from seq2seq.tokens import PAD


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """What products of this tensor are computed in: autocast's type where it is on, else its own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


_ONEDNN_LINEAR = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Packed(NamedTuple):
    """Weights in oneDNN's own order."""

    weight: Tensor
    weight_type: torch.dtype
    bias: Tensor | None


class Linear(nn.Linear):
    """`nn.Linear` that, without gradients on a CPU, uses oneDNN's kernels instead of MKL's; relu on demand.

    They use all of AVX-512 on every maker's CPU: 190 against 85 GFLOP/s on an AMD EPYC.
    """

    packed: _Packed | None = None
    """Within `packed_weights`."""

    def forward(self, x: Float[Tensor, "*N K"], relu: bool = False) -> Float[Tensor, "*N M"]:
        packed = self.packed
        if packed is None or not _without_gradient(x):
            return fast_linear(x, self.weight, self.bias, relu)
        return _onednn(x.to(packed.weight_type), packed.weight, packed.bias, relu)


def fast_linear(
    x: Float[Tensor, "*N K"], weight: Float[Tensor, "M K"], bias: Float[Tensor, " M"] | None, relu: bool = False
) -> Float[Tensor, "*N M"]:
    """x weight^T + bias, or its positive part; by oneDNN where no gradient is wanted on a CPU."""
    if _takes(x):
        return _onednn(x, weight, bias, relu)
    if not relu:
        return F.linear(x, weight, bias)
    if _is_bf16_on_cpu(x, weight):
        positive: Tensor = _PositiveBf16.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return positive
    # Not in place: on a linear layer's view that costs four copies going backward.
    return F.relu(F.linear(x, weight, bias))


class _PositiveBf16(torch.autograd.Function):
    """relu(x weight^T + bias) as autocast would compute it in bf16, without passes over memory for bias and relu."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        narrow, weight = x.bfloat16(), weight.bfloat16()
        positive = _onednn(narrow, weight, None if bias is None else bias.bfloat16(), relu=True)
        ctx.save_for_backward(narrow, weight, positive)
        ctx.dtype = x.dtype
        return positive

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, weight, positive = ctx.saved_tensors
        rows = torch.ops.aten.threshold_backward(gradients[0], positive, 0).flatten(0, -2)
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            torch.mm(rows, weight).view(x.shape).to(ctx.dtype) if for_x else None,
            torch.mm(rows.t(), x.flatten(0, -2)).float() if for_weight else None,
            rows.sum(dim=0).float() if for_bias else None,
        )


def packs_bf16() -> bool:
    """Whether `packed_weights` can have products in bf16 here."""
    return bool(_ONEDNN_LINEAR and torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def packed_weights(
    model: nn.Module, dtype: torch.dtype = torch.float32, exact: Collection[nn.Module] = ()
) -> Iterator[None]:
    """On a CPU every `Linear` keeps a copy of its weights in oneDNN's order and in `dtype` meanwhile.

    Then small products need not reorder them each time. With bf16, products are computed from bf16 inputs and weights
    and given in bf16, as under autocast; those of `exact` layers in fp32. The weights must not change within.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Linear)]
    try:
        for layer in layers if _ONEDNN_LINEAR else []:
            if layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
                kind = torch.float32 if layer in exact else dtype
                weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().to(kind), _USUAL_ROWS)
                layer.packed = _Packed(weight, kind, None if layer.bias is None else layer.bias.detach().to(kind))
        yield
    finally:
        for layer in layers:
            layer.packed = None


_USUAL_ROWS = 128
"""oneDNN chooses its order for so many rows; any number will do later."""


def _takes(x: Tensor) -> bool:
    return _ONEDNN_LINEAR and x.dtype == torch.float32 and _without_gradient(x)


def _without_gradient(x: Tensor) -> bool:
    on_cpu = x.device.type == "cpu" and x.numel()
    return bool(on_cpu and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"))


def _is_bf16_on_cpu(x: Tensor, weight: Tensor) -> bool:
    return bool(
        _ONEDNN_LINEAR
        and x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and compute_dtype(x) == torch.bfloat16
        and weight.dtype == torch.float32
        and x.numel()
        and not torch.compiler.is_compiling()
    )


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")
    return product


class Dropout(nn.Module):
    """Zeroes elements with this probability while training and rescales the rest (Srivastava et al. 2014).

    On CPU one random byte decides over one element, which is ten times as fast as torch's own mask; the
    probability is rounded to 1/256 and the rescaling uses the rounded one, so that the mean is kept. The
    bytes come from torch's global generator, 64 bits a draw, so that seeding it and saving its state
    reproduce the masks.
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
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape).ge_(self.threshold)
        return x * kept.to(x.dtype).mul_(256 / (256 - self.threshold))

    def extra_repr(self) -> str:
        return f"p={self.probability}"


class Embedding(nn.Embedding):
    """Token embeddings drawn from N(0, 1/D) and scaled by sqrt(D) (Vaswani et al. 2017, section 3.4); PAD is
    zero.

    The scale makes them suitable as input (variance 1) and, tied, as output weights (logits of variance 1). Training
    zeroes whole embeddings with the probability `word_dropout` (Gal and Ghahramani 2016, section 4.2; each token for
    itself) and rescales the rest.
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

    The output has a bias only where it is not tied; a tied one needs `output_width == width`. Raises
    `ConfigError` where `all` meets two sizes.
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


def initialise_linear(module: nn.Module) -> None:
    """Glorot and Bengio's (2010) uniform weights and zero biases, where the module is a linear layer."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def angles(start: int, length: int, width: int, device: torch.device) -> Float[Tensor, "T E"]:
    """Angles p / 10000^(2i / width) in fp32, for positions p from `start` on and i < E = width / 2."""
    exponents = torch.arange(0, width, 2, device=device, dtype=torch.float32) / width
    positions = torch.arange(start, start + length, device=device, dtype=torch.float32)
    return torch.outer(positions, 10000.0**-exponents)


def sinusoids(start: int, length: int, width: int, device: torch.device) -> Float[Tensor, "T D"]:
    """Fixed positions (Vaswani et al. 2017, section 3.5); sines first, then cosines, as in Marian."""
    angle = angles(start, length, width, device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class Positions(nn.Module):
    """Adds the position to an embedding; `rotary` adds nothing here, the attention rotates."""

    def __init__(self, kind: Literal["sinusoidal", "learned", "rotary"], width: int, limit: int) -> None:
        super().__init__()
        self.kind = kind
        self.limit = limit if kind == "learned" else None
        if kind == "learned":
            self.table = nn.Parameter(torch.empty(limit, width))
            nn.init.normal_(self.table, std=width**-0.5)

    def forward(self, x: Float[Tensor, "B T D"], start: int) -> Float[Tensor, "B T D"]:
        """`x` with the positions from `start` on. Raises `UsageError` beyond the end of a learned table."""
        length = x.shape[1]
        if self.limit is not None and start + length > self.limit:
            raise UsageError(
                f"{start + length} tokens are more than the model's {self.limit} learned positions",
                where="model.max_positions",
                hint="split the line, or train with sinusoidal or rotary positions",
                code="model.too-long",
            )
        if self.kind == "learned":
            return x + self.table[start : start + length]
        if self.kind == "sinusoidal":
            return x + sinusoids(start, length, x.shape[2], x.device).to(x.dtype)
        return x


def build_norm(kind: Literal["layer_norm", "rms_norm"], width: int) -> nn.Module:
    """Layer normalisation (Ba et al. 2016) or root mean square (Zhang and Sennrich 2019)."""
    return nn.LayerNorm(width) if kind == "layer_norm" else nn.RMSNorm(width, eps=1e-6)


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
