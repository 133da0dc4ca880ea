"""Numbers as findings.json and the report's sentences spell them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.statistics import Estimate

Array = NDArray[np.float64]
Key = TypeVar("Key", int, str)
DIGITS = 6  # of every float in findings.json


def as_json(estimate: Estimate, tested: bool = False) -> dict[str, Any]:
    """One estimate as findings.json spells it; with its two-sided p if it is tested against 0."""
    entry = {"estimate": estimate.value, "interval": [estimate.low, estimate.high]}
    return entry | {"p": estimate.p_two_sided()} if tested else entry


def keyed(keys: Iterable[Key], estimates: Estimate, tested: bool = False) -> dict[Key, dict[str, Any]]:
    """Estimates of shape [M] as one entry for each of M keys."""
    return {key: as_json(estimates.at(i), tested) for i, key in enumerate(keys)}


def signed(value: float | Array) -> str:
    """A share in percentage points with its sign, "+3.1"."""
    text = f"{100 * float(value):+.1f}".replace("-", "\N{MINUS SIGN}")
    return "0.0" if text[1:] == "0.0" else text


def points(value: float | Array, low: float | Array, high: float | Array) -> str:
    """A difference of shares in percentage points with its interval, "+3.1 [+1.0, +5.2]"."""
    return f"{signed(value)} [{signed(low)}, {signed(high)}]"


def written_p(p: float | Array) -> str:
    """A p-value, "0.012"; "< 0.001" below that."""
    return "< 0.001" if p < 0.001 else f"{float(p):.3f}"


def plain(value: Any) -> Any:
    """JSON values, of the same bytes for the same inputs: rounded floats, string keys, None if not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0 if math.isfinite(value) else None  # no negative zero
    return value
