"""What the sections of the configuration are made of: their base class and types of fields."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _read_exponent(value: object) -> object:
    """Return `1e-3`, which YAML 1.1 reads as text because it has no point, as a number."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def _check_slashes(uri: str) -> str:
    if re.match(r"s3:(?!//)", uri):
        raise ValueError("an S3 URI has two slashes, s3://bucket/key")
    return uri


Number = Annotated[float, BeforeValidator(_read_exponent)]
# A list of YAML or JSON may become a tuple; what is in it stays strict.
Triple = Annotated[tuple[Number, Number, Number], Field(strict=False)]
Text = Annotated[str, Field(min_length=1)]
Uri = Annotated[Text, AfterValidator(_check_slashes)]
PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[Number, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys, no silent conversions, finite numbers."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )
