"""Base class of all groups of settings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import Self

Probability = Annotated[float, Field(ge=0.0, lt=1.0)]


class Settings(BaseModel):
    """Frozen group of settings that rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    def given(self, prefix: str = "") -> dict[str, Any]:
        """The settings that are not left at their defaults, by dotted key."""
        found: dict[str, Any] = {}
        for name in self.model_fields_set:
            value = getattr(self, name)
            found |= value.given(f"{prefix}{name}.") if isinstance(value, Settings) else {prefix + name: value}
        return found

    def replaced(self, key: str, value: Any) -> Self:
        """These settings with another value, which must be valid, at a dotted key."""
        name, _, rest = key.partition(".")
        return self.model_copy(update={name: getattr(self, name).replaced(rest, value) if rest else value})


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Strings = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""List of strings; a single string needs no brackets."""
