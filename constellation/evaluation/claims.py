"""A claim as measured, and the rule that turns it into a verdict; the rule stands in `findings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.entries import Entry
from constellation.evaluation.statistics import (
    Estimate,
    minimum_detectable_effect,
    variance_components,
    wider,
)
from constellation.evaluation.study import AnalysisConfig

Array = NDArray[np.float64]
SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"
FAMILY = 3  # primary claims, judged together


@dataclass(frozen=True)
class Claim:
    """One claim about P numbers, before it is judged with the others of its family.

    Attributes:
        text: the claim.
        directions: [P] what it says of each number: +1 above 0, -1 below.
        both: the numbers with the bootstrap's intervals and with Student's, as `Bootstrap.both`, arrays [P].
        values: [K, T, P] what they are means of.
        openings: verdict -> how its sentence opens.
        sentence: what was measured.
        details: what else findings.json says of it.
    """

    text: str
    directions: tuple[int, ...]
    both: tuple[Estimate, Estimate | None]
    values: Array
    openings: Mapping[str, str]
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def estimate(self) -> Estimate:
        """The numbers with the intervals that decide, arrays [P]."""
        return wider(*self.both)

    def p_value(self) -> float:
        """Of all its parts holding: the largest of theirs (the intersection-union test, Berger 1982)."""
        return float(np.where(np.array(self.directions) > 0, *self.estimate[5:]).max())

    def entry(self, quantity: str, bank: str, models: Sequence[str], k: int | None, of: str = "") -> Entry:
        """The row of its p in the exploratory family; the numbers have rows of their own."""
        return Entry(quantity, bank, tuple(models), k, p=self.p_value(), tested=True, of=of)

    def judged(
        self, choice: AnalysisConfig, scope: str, p_adjusted: float | None = None, family: int = 1
    ) -> dict[str, Any]:
        """The verdict with all it rests on; a claim about one number holds numbers, others lists.

        Args:
            choice: for level, margin and power.
            scope: what the verdict speaks of.
            p_adjusted: of the claim within its family; its own p where it stands alone.
            family: claims of the family.
        """
        p = self.p_value()
        outcome = verdict(self.estimate, self.directions, p if p_adjusted is None else p_adjusted, choice)
        detectable = minimum_detectable_effect(self.values, (1 - choice.level) / family, choice.power)
        variances = variance_components(self.values)._asdict()
        estimate, low, high, lower, upper = self.estimate[:5]
        numbers = {
            "estimate": estimate,
            "interval": np.stack([low, high], axis=-1),
            **intervals(*self.both),
            "bound": np.where(np.array(self.directions) > 0, lower, upper),
            "minimum_detectable_effect": detectable,
            "by_trajectory": self.values.mean(1).T,  # [P, K]
        }
        numbers |= {f"variance_of_{name}": part for name, part in variances.items()}
        if len(self.directions) == 1:
            numbers = {name: part if part is None else part[0] for name, part in numbers.items()}
        return {
            "claim": self.text,
            "verdict": outcome,
            "p": p,
            **({} if p_adjusted is None else {"p_adjusted": p_adjusted}),
            **numbers,
            "scope": scope,
            "sentence": f"{self.openings[outcome]}: {self.sentence}.",
            **self.details,
        }


def intervals(boot: Estimate, other: Estimate | None) -> dict[str, Any]:
    """Both intervals of `Bootstrap.both` as findings.json names them, [P, 2] each; Student's may be None."""
    pairs = {"interval_bootstrap": boot, "interval_student": other}
    return {
        name: None if one is None else np.stack([one.low, one.high], axis=-1) for name, one in pairs.items()
    }


def verdict(
    estimate: Estimate, directions: tuple[int, ...], p_adjusted: float, choice: AnalysisConfig
) -> str:
    """The verdict of a claim; the rule is the docstring of `findings`.

    Args:
        estimate: arrays [P].
        directions: [P] +1 or -1.
        p_adjusted: of the claim, within its family.
        choice: for level and margin.
    """
    if p_adjusted <= 1 - choice.level:
        return SUPPORTED
    up = np.array(directions) > 0
    low, high = np.where(up, estimate.low, -estimate.high), np.where(up, estimate.high, -estimate.low)
    contrary = (high < 0) | ((low >= -choice.margin) & (high <= choice.margin))
    return NOT_SUPPORTED if contrary.any() else INCONCLUSIVE


@dataclass(frozen=True)
class NotMeasured:
    """A claim whose data the study does not hold; in its family it counts with p = 1."""

    text: str
    reason: str

    def p_value(self) -> float:
        """1: it cannot be supported, and makes no other claim easier to support."""
        return 1.0

    def judged(
        self, choice: AnalysisConfig, scope: str, p_adjusted: float | None = None, family: int = 1
    ) -> dict[str, Any]:
        """As `Claim.judged`, without numbers."""
        missing = ("p", "p_adjusted", "estimate", "interval", "minimum_detectable_effect")
        return {
            "claim": self.text,
            "verdict": INCONCLUSIVE,
            **dict.fromkeys(missing),
            "scope": scope,
            "sentence": f"Not measured: {self.reason}.",
        }
