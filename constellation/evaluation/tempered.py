"""Samples at other temperatures, as the evaluation reads them, and the one at which two models match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.pass_at_k import pass_curve
from constellation.samples import SampleSet

Array = NDArray[np.float64]
Sets = Mapping[tuple[str, float], Sequence[SampleSet]]  # (model, temperature) -> of the first trajectories


class Match(NamedTuple):
    """The temperature at which the start solves as much with one sample as the last round does.

    Attributes:
        temperature: that temperature.
        clipped: no temperature that was tried was enough: this one came nearest.
    """

    temperature: float
    clipped: bool


@dataclass(frozen=True)
class Tempered:
    """The start and the last round at several temperatures, in the first R trajectories.

    Attributes:
        values: the temperatures of the comparison, increasing.
        own: that of all other samples, one of them; sets at it are the study's own.
        samples: n, samples a task of the primary bank; the study's own sets may have more.
        evaluated: of the primary bank under the primary split, both models at every other value, and the
            start at the matched temperature.
        tuning: of tuning tasks, both models at every value, and the start at further temperatures.
        match: found on the tuning tasks.
    """

    values: tuple[float, ...]
    own: float
    samples: int
    evaluated: Sets
    tuning: Sets
    match: Match

    @property
    def trajectories(self) -> int:
        """R."""
        return len(next(iter(self.evaluated.values())))


def pooled_curves(sets: Sequence[SampleSet], ks: Sequence[int]) -> Array:
    """[R, T, len(ks)] pass@k from R sets of samples of the same tasks."""
    return np.array([pass_curve(own.per_sample(own.generalises), ks) for own in sets])


def solved_by_one(tuning: Sets, model: str) -> dict[float, float]:
    """Temperature -> a model's pass@1, mean over trajectories and tuning tasks, temperatures increasing."""
    found = {temperature: sets for (name, temperature), sets in tuning.items() if name == model}
    return {
        temperature: float(np.mean([own.per_sample(own.generalises).mean() for own in found[temperature]]))
        for temperature in sorted(found)
    }


def match(passed: Mapping[float, float], target: float) -> Match:
    """Where a curve over temperatures takes a value, read off straight lines between its points.

    Of several such places the highest, which changes the model least; if there is none, the point that comes
    nearest to the value.

    Args:
        passed: temperature -> pass@1, temperatures increasing.
        target: the value.
    """
    temperatures, above = list(passed), np.array(list(passed.values())) - target
    for i in reversed(range(len(above))):
        if above[i] == 0:
            return Match(temperatures[i], False)
        if i and (above[i - 1] < 0) != (above[i] < 0):
            share = float(above[i] / (above[i] - above[i - 1]))
            return Match(temperatures[i] - share * (temperatures[i] - temperatures[i - 1]), False)
    return Match(temperatures[int(np.abs(above).argmin())], True)
