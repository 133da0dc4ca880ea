"""What a stage works through, stated by the stage itself: a planned study is costed by it.

What takes a device's time says it in words, too.
"""

from __future__ import annotations

from typing import NamedTuple


class Synthesis(NamedTuple):
    """Tasks of each trajectory to draw, on the host; a bank is drawn once."""

    tasks: int
    trajectories: int = 1


class Sampling(NamedTuple):
    """Tasks, in all trajectories, and samples of each."""

    tasks: int
    n: int

    def __str__(self) -> str:
        return f"{self.tasks:,} tasks x {self.n} samples"


class Judging(NamedTuple):
    """Tasks, in all trajectories, and answers to each that are judged, on the host."""

    tasks: int
    n: int


class Training(NamedTuple):
    """Documents that are visited, in all trajectories.

    A generator's has one answer behind its prompt, a critic's every surviving candidate with its question.
    """

    visits: int
    candidates: float = 0.0

    def __str__(self) -> str:
        return f"{self.visits:,} documents"


class Scoring(NamedTuple):
    """Tasks, in all trajectories, and the candidates of each that are read behind its prompt."""

    tasks: int
    candidates: float

    def __str__(self) -> str:
        return f"{self.tasks:,} tasks x {self.candidates:g} candidates"


Work = Synthesis | Sampling | Judging | Training | Scoring
