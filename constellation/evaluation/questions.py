"""The questions, in the order of the report."""

from __future__ import annotations

from constellation.evaluation import reach, temperature
from constellation.evaluation.question import Question

QUESTIONS: tuple[Question, ...] = (reach.QUESTION, temperature.QUESTION)
