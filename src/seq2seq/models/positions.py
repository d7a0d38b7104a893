"""Position encodings: sinusoidal (Vaswani et al. 2017), learned, rotary (Su et al. 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seq2seq.errors import UsageError


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
    """Adds the position to an embedding; `rotary` adds nothing, as the attention rotates queries and keys."""

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


def rotation(start: int, length: int, width: int, device: torch.device) -> Float[Tensor, "2 T E"]:
    """Cosines and sines of rotary positions (Su et al. 2021, equation 34) from `start` on; E = width / 2."""
    angle = angles(start, length, width, device)
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Float[Tensor, "*N T E2"], rotary: Float[Tensor, "2 _ E"]) -> Float[Tensor, "*N T E2"]:
    """Rotate the pairs (i, i + E2 / 2): products of rotated vectors depend on the distance of their positions alone."""
    cosine, sine = rotary.to(x.dtype).unbind()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
