"""The questions, in the order of the report.

A question's name is that of a module here, of a template in `templates/`, of its section of the config, and,
where it has stages of its own, of a module in `experiments`. For a new question one writes these and adds its
name below.
"""

from __future__ import annotations

from importlib import import_module

from constellation.evaluation.question import Question

OF_SAMPLES = (  # read nothing but the samples of the study's own models
    "curves",
    "crossover",
    "gains",
    "ledger",
    "correctness",
    "diversity",
    "training",
    "divergence",
)
OF_STAGES = (  # read what the module of their name in `experiments` adds to the study
    "selection",
    "reach",
    "controls",
    "null",
    "temperature",
    "critics",
    "filtering",
)
OF_ANOTHER = ("calibration",)  # read the part of another question


def _question(name: str) -> Question:
    """The question of that name's module."""
    found: Question = import_module(f"{__package__}.{name}").QUESTION
    assert found.name == name
    return found


QUESTIONS: tuple[Question, ...] = tuple(map(_question, (*OF_SAMPLES, *OF_STAGES, *OF_ANOTHER)))
