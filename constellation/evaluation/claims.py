"""A claim as measured, and its verdict by the rule that `findings` states."""

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
VERDICTS = SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"
FAMILY = 3  # primary claims, judged together


@dataclass(frozen=True)
class Claim:
    """One claim about P numbers, before it is judged with the others of its family."""

    text: str
    directions: tuple[int, ...]  # [P] what it says of each number: +1 above 0, -1 below
    both: tuple[Estimate, Estimate | None]  # the numbers [P], from `Bootstrap.both`
    values: Array  # [K, T, P] what they are means of
    openings: tuple[str, str, str]  # how its sentence opens with each of the `VERDICTS`
    sentence: str  # what was measured
    details: Mapping[str, Any] = field(default_factory=dict)  # what else findings.json says of it

    @property
    def estimate(self) -> Estimate:
        """The numbers with the intervals that decide, arrays [P]."""
        return wider(*self.both)

    def p_value(self) -> float:
        """The p of all its numbers at once: the largest of theirs (intersection-union test, Berger 1982)."""
        return float(np.where(np.array(self.directions) > 0, *self.estimate[5:]).max())

    def entry(self, quantity: str, bank: str, models: Sequence[str], k: int | None, of: str = "") -> Entry:
        """The row that enters its p in the exploratory family; its numbers have rows of their own."""
        return Entry(quantity, bank, tuple(models), k, p=self.p_value(), tested=True, of=of)

    def judged(
        self, choice: AnalysisConfig, scope: str, p_adjusted: float | None = None, family: int = 1
    ) -> dict[str, Any]:
        """The verdict with all it rests on: numbers for a claim about one number, lists for other claims.

        A claim that stands alone has no `p_adjusted` and is judged by its own p.
        """
        p = self.p_value()
        outcome = verdict(self.estimate, self.directions, p if p_adjusted is None else p_adjusted, choice)
        variances = variance_components(self.values)._asdict()
        estimate, low, high, lower, upper = self.estimate[:5]
        boot, student = (None if one is None else np.stack([one.low, one.high], axis=-1) for one in self.both)
        numbers = {
            "estimate": estimate,
            "interval": np.stack([low, high], axis=-1),
            "interval_bootstrap": boot,
            "interval_student": student,  # None where `Bootstrap.both` has none
            "bound": np.where(np.array(self.directions) > 0, lower, upper),
            "minimum_detectable_effect": minimum_detectable_effect(
                self.values, (1 - choice.level) / family, choice.power
            ),
            "by_trajectory": self.values.mean(1).T,  # [P, K]
            **{f"variance_of_{name}": variance for name, variance in variances.items()},
        }
        if len(self.directions) == 1:
            numbers = {name: part if part is None else part[0] for name, part in numbers.items()}
        return {
            "claim": self.text,
            "verdict": outcome,
            "p": p,
            **({} if p_adjusted is None else {"p_adjusted": p_adjusted}),
            **numbers,
            "scope": scope,
            "sentence": f"{self.openings[VERDICTS.index(outcome)]}: {self.sentence}.",
            **self.details,
        }


def verdict(
    estimate: Estimate, directions: tuple[int, ...], p_adjusted: float, choice: AnalysisConfig
) -> str:
    """The verdict of a claim about P numbers, `estimate` and `directions` [P]; `findings` states the rule."""
    if p_adjusted <= 1 - choice.level:
        return SUPPORTED
    up = np.array(directions) > 0
    low, high = np.where(up, estimate.low, -estimate.high), np.where(up, estimate.high, -estimate.low)
    contrary = (high < 0) | ((low >= -choice.margin) & (high <= choice.margin))
    return NOT_SUPPORTED if contrary.any() else INCONCLUSIVE


@dataclass(frozen=True)
class NotMeasured:
    """A claim whose data the study does not hold."""

    text: str
    reason: str

    def p_value(self) -> float:
        """1: it cannot be supported, and makes no other claim of its family easier to support."""
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
