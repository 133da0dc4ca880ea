"""Checks a study's config before anything runs: a mistake is not found out in the middle of a long run."""

from __future__ import annotations

from ml_collections import ConfigDict

from constellation.domains.domain import Domain, load_domain
from constellation.experiments import star
from constellation.experiments.config import (
    BASE,
    START,
    Rule,
    asks,
    at_least,
    banks_rule,
    refuse,
    rules_of_all,
    value_of,
)
from constellation.experiments.questions import QUESTIONS
from constellation.runtime.errors import UserError, unknown

RESTARTS = (BASE, START, "continue")
AT_LEAST_ONE = (
    "tasks.bank_size",
    "warm_start.tasks", "warm_start.max_atoms", "warm_start.passes",
    "star.tasks", "star.samples", "star.max_atoms", "star.keep", "star.passes",
    "critic.tasks", "critic.samples", "critic.max_atoms", "critic.passes",
)  # fmt: skip


def check(config: ConfigDict) -> None:
    """Refuses a value that a stage could not work with.

    Raises:
        UserError: names the first such field and what it may be.
    """
    from constellation.model.sampling import SamplingConfig

    options = dict(star.OPTIONS)
    for question in QUESTIONS.values():
        options |= question.options
    for option in config.questions:
        if option not in options:
            raise unknown("question in config.questions:", option, options)
    for option, needed in options.items():
        if needed and asks(config, option) and not asks(config, needed):
            raise UserError(f"config.questions has {option!r}, which needs {needed!r}: add it")
    domain = load_domain(config.domain)
    rules = [*_rules(config, domain), *star.rules(config, domain)]
    for name, question in QUESTIONS.items():
        if question.is_on(name, config):
            rules += question.rules(config, domain)
    refuse(config, rules)
    SamplingConfig(n=config.evaluation.samples, **config.sampling)


def _rules(config: ConfigDict, domain: Domain) -> list[Rule]:
    """The rules of every study of one generator, whichever questions it asks."""
    seeds = config.evaluation.split_seeds
    small, large = config.evaluation.small_k, config.evaluation.large_k
    hardest, primary = max(domain.difficulties), config.tasks.split_seed
    return [
        ("domain", domain.judge is not None, "a domain with a judge: STaR keeps what a judge finds right"),
        *rules_of_all(config),
        banks_rule(config, domain, "hard"),
        ("star.learning_rate", config.star.learning_rate > 0, "above 0"),
        ("training.learning_rate", config.training.learning_rate > 0, "above 0"),
        ("star.restart", config.star.restart in RESTARTS, f"one of {', '.join(RESTARTS)}"),
        at_least(config, "star.rounds", 0),
        ("evaluation.small_k", 1 <= small < large, "at least 1 and below large_k"),
        at_least(config, "evaluation.samples", 2 * large, "twice evaluation.large_k"),
        at_least(config, "evaluation.other_samples", 2 * small, "twice evaluation.small_k"),
        at_least(config, "evaluation.middle_samples", 2 * small, "twice evaluation.small_k"),
        (
            "evaluation.split_seeds",
            primary in seeds and len(set(seeds)) == len(seeds),
            f"different numbers, tasks.split_seed ({primary}) among them",
        ),
        at_least(config, "selection.samples", small, "evaluation.small_k"),
        at_least(config, "selection.tuning_samples", small, "evaluation.small_k"),
        *(
            (
                field,
                value_of(config, field) <= hardest,
                f"at most {hardest}, the most that {domain.name} draws",
            )
            for field in ("warm_start.max_atoms", "star.max_atoms", "critic.max_atoms")
        ),
        *(at_least(config, field, 1) for field in AT_LEAST_ONE),
    ]
