"""Every number is a row that names its quantity, bank, models and k; and how numbers are spelt in text."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.statistics import Estimate

Array = NDArray[np.float64]
DIGITS = 6  # of every float in findings.json


class Entry(NamedTuple):
    """One number; a field that is not defined or does not apply is None."""

    quantity: str  # what it is, in the words of the report's tables
    bank: str  # whose tasks it is a mean over
    models: tuple[str, ...]  # that it is about; in a difference the later one comes last
    k: int | None  # of pass@k or of a selection, or the sample budget B of reach
    estimate: Any = None
    interval: Any = None
    p: Any = None  # two-sided, of the estimate being 0; or the p of a claim
    tested: bool = False  # in the exploratory family, whose false discoveries are controlled together
    of: str = ""  # what else distinguishes it: a selector, a class of programs, a temperature
    by_trajectory: Any = None  # [K] the estimate in each trajectory
    minimum_detectable_effect: Any = None
    unit: str = "share"  # of the estimate; a share, usually of tasks, is shown in percent or points
    q: float | None = None  # p, adjusted over the exploratory family
    question: str = ""  # name of the question that it answers; `analyse` fills it in

    def as_json(self) -> dict[str, Any]:
        """The row of findings.json, without fields that do not apply."""
        optional = {"of", "p", "tested", "by_trajectory", "minimum_detectable_effect", "unit", "q"}
        return {
            name: value
            for name, value in self._asdict().items()
            if name not in optional or value not in (None, False, "", "share")
        }

    def rounded(self) -> Entry:
        """The row with its numbers as JSON holds them."""
        numbers = ("estimate", "interval", "p", "by_trajectory", "minimum_detectable_effect", "q")
        return self._replace(**{name: plain(getattr(self, name)) for name in numbers})


class Entries(Sequence[Entry]):
    """Rows, which can be filtered by the values of their fields."""

    def __init__(self, rows: Iterable[Entry]):
        self._rows = list(rows)
        self._by_quantity: dict[str, list[Entry]] = {}
        for row in self._rows:
            self._by_quantity.setdefault(row.quantity, []).append(row)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def where(self, **fields: Any) -> Entries:
        """The rows with these values: `where(quantity="pass@k", bank="hard", models=("v1",))`."""
        rows = self._by_quantity.get(fields["quantity"], []) if "quantity" in fields else self._rows
        wanted = fields.items()
        return Entries(row for row in rows if all(getattr(row, name) == value for name, value in wanted))

    def first(self, **fields: Any) -> Entry | None:
        """The first row of `where`, if there is one."""
        return next(iter(self.where(**fields)), None)

    def one(self, **fields: Any) -> Entry:
        """The only row of `where`; LookupError where there is none, or more than one."""
        (found, *more) = self.where(**fields) or [None]
        if found is None or more:
            raise LookupError(f"{'no row' if found is None else 'more than one row'} has {fields}")
        return found

    def values(self, field: str) -> list[Any]:
        """The different values of a field, in their order."""
        return list(dict.fromkeys(getattr(row, field) for row in self._rows))


def rows_of(findings: Mapping[str, Any]) -> Entries:
    """The rows that a findings.json holds."""
    return Entries(Entry(**{**row, "models": tuple(row["models"])}) for row in findings["entries"])


def entry(
    quantity: str,
    bank: str,
    models: Sequence[str],
    k: int | None,
    estimate: Estimate,
    *,
    tested: bool = False,
    **more: Any,
) -> Entry:
    """The row of one estimate, with its two-sided p if it is tested; `more` are further fields of `Entry`."""
    p = estimate.p_two_sided() if tested else None
    interval = (estimate.low, estimate.high)
    return Entry(quantity, bank, tuple(models), k, estimate.value, interval, p, tested, **more)


def entries(
    quantity: str,
    bank: str,
    models: Sequence[str],
    ks: Sequence[int],
    estimates: Estimate,
    *,
    tested: Collection[int] = (),
    by_trajectory: Array | None = None,
    **more: Any,
) -> list[Entry]:
    """The rows of estimates [M] over M values of k, tested at some of them; `by_trajectory` is [K, M]."""
    own = [None] * len(ks) if by_trajectory is None else by_trajectory.T
    return [
        entry(quantity, bank, models, k, estimates.at(i), tested=k in tested, by_trajectory=own[i], **more)
        for i, k in enumerate(ks)
    ]


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
    """A value as JSON holds it: floats rounded, keys as strings, None for what is not finite."""
    if isinstance(value, Entry):
        value = value.rounded().as_json()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range, Entries)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0 if math.isfinite(value) else None  # no negative zero
    return value
