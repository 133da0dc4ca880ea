"""The questions, in the order of the report."""

from __future__ import annotations

from constellation.evaluation import temperature
from constellation.evaluation.question import Question

QUESTIONS: tuple[Question, ...] = (temperature.QUESTION,)
