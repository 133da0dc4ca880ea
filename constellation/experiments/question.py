"""A question as a study asks it: the stages that it adds to the graph, and what a config may say of it.

Its numbers, its figures and its section of the report are the module of the same name in `evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from constellation.conductor import Stage
from constellation.domains.domain import Domain
from constellation.evaluation.study import StageSummary
from constellation.experiments.config import Rule, asks
from constellation.experiments.study import Study


def stages_in(found: Any) -> list[Stage]:
    """Every stage in a nest of tuples, lists and dictionaries, in order."""
    if isinstance(found, Stage):
        return [found]
    if isinstance(found, Mapping):
        found = found.values()
    elif not isinstance(found, (tuple, list)):
        return []
    return [stage for each in found for stage in stages_in(each)]


class Question(NamedTuple):
    """One question, in the module of its name.

    Attributes:
        stages: study -> those that its report reads, in any nest of tuples and dictionaries; None where there
            are none.
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
