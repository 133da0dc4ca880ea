"""A question as a study asks it: the stages that it adds to the graph, and what a config may say of it.

Its numbers, its figures and its section of the report are the module of the same name in `evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from constellation.domains.domain import Domain
from constellation.evaluation.study import StageSummary
from constellation.experiments.config import Rule, asks
from constellation.experiments.study import Study


class Question(NamedTuple):
    """One question, in the module of its name.

    Attributes:
        stages: study -> its stages, with a method `all` that lists what a report of them reads; None where
            there are none.
        part: (study, its stages) -> what the evaluation reads.
        options: what `config.questions` may name for it -> the option that must be named, too, or None.
        rules: (config, domain) -> what holds of its section of the config.
        summaries: (study, its stages) -> its trainings in figures.
    """

    stages: Callable[[Study], Any]
    part: Callable[[Study, Any], Any]
    options: Mapping[str, str | None] = {}
    rules: Callable[[ConfigDict, Domain], list[Rule]] = lambda config, domain: []
    summaries: Callable[[Study, Any], list[StageSummary]] = lambda study, found: []

    def is_on(self, name: str, config: ConfigDict) -> bool:
        """Whether a study has the question of this name: always, unless its name is an option."""
        return name not in self.options or asks(config, name)
