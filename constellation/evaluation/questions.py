"""The questions, in the order of the report."""

from __future__ import annotations

from constellation.evaluation import (
    controls,
    correctness,
    critics,
    crossover,
    curves,
    diversity,
    gains,
    ledger,
    null,
    reach,
    temperature,
    training,
)
from constellation.evaluation.question import Question

CORE: tuple[Question, ...] = (  # of every study
    curves.QUESTION,
    crossover.QUESTION,
    gains.QUESTION,
    ledger.QUESTION,
    correctness.QUESTION,
    diversity.QUESTION,
    training.QUESTION,
)
QUESTIONS: tuple[Question, ...] = (
    *CORE,
    reach.QUESTION,
    controls.QUESTION,
    null.QUESTION,
    temperature.QUESTION,
    critics.QUESTION,
)
