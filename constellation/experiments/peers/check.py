"""Checks the config of a study of peers before anything runs."""

from __future__ import annotations

import re
from typing import Any

from ml_collections import ConfigDict

from constellation.domains.domain import Domain, load_domain
from constellation.experiments.config import Rule, at_least, refuse, rules_of_all
from constellation.experiments.peers.answers import peer_names
from constellation.runtime.errors import unknown
from constellation.selftraining.peers import ARMS


def check_peers(config: ConfigDict) -> None:
    """Refuses a value that a stage could not work with.

    Raises:
        UserError: names the first such field and what it may be.
    """
    from constellation.model.sampling import SamplingConfig

    domain = load_domain(config.domain)
    for arm in config.arms:
        if arm not in ARMS:
            raise unknown("arm in config.arms:", arm, ARMS)
    refuse(config, _rules(config, domain))
    SamplingConfig(n=config.evaluation.samples, **config.sampling)


def _rules(config: ConfigDict, domain: Domain) -> list[Rule]:
    peers, hardest = config.peers, max(domain.difficulties)
    models, seeds = list(map(str, peers.models)), list(peers.seeds)
    quantiles, thresholds = config.evaluation.quantiles, config.evaluation.thresholds
    return [
        (
            "domain",
            domain.judge is not None,
            "a domain with a judge: what the peers learned is measured by it",
        ),
        *rules_of_all(config),
        ("peers.models", len(models) >= 2, "two directories at least: a peer needs another"),
        (
            "peers.models",
            all(map(re.compile(r"[A-Za-z0-9_-]+").fullmatch, peer_names(models, seeds)))
            and not {"mean", "aggregate", "third"} & set(peer_names(models, seeds)),
            "directories whose last parts are of letters, digits, - _ and ., not mean, aggregate or third",
        ),
        ("peers.seeds", len(seeds) == len(models), "one number for each of peers.models"),
        (
            "peers.seeds",
            len(set(zip(models, seeds, strict=False))) == len(models),
            "different for peers of one directory, which otherwise are one and the same",
        ),
        (
            "peers.models",
            len(set(peer_names(models, seeds))) == len(models),
            "directories whose last parts differ, for peers are called by them",
        ),
        ("peers.reference", peers.reference in ("last", "majority"), "last or majority"),
        (
            "peers.scorer",
            peers.scorer not in models,
            "self, last, or the directory of a model that is no peer",
        ),
        ("peers.target", peers.target in ("own", "reference"), "own or reference"),
        ("peers.restart", peers.restart in ("continue", "base"), "continue or base"),
        ("peers.tau", peers.tau > 0, "above 0: PMI is divided by it"),
        (
            "peers.level",
            1 <= peers.level <= hardest,
            f"from 1 to {hardest}, the most that {domain.name} draws",
        ),
        ("peers.learning_rate", peers.learning_rate > 0, "above 0"),
        ("arms", len(set(config.arms)) == len(config.arms), "different arms"),
        (
            "arms",
            not config.arms or "pst" in config.arms,
            "arms with pst among them, which the others are compared with; or none",
        ),
        (
            "tasks.bank",
            config.tasks.bank.removeprefix("tuning_") in domain.banks,
            f"one of {', '.join(domain.banks)}, or of those of the tuning role, as tuning_{domain.banks[-1]}",
        ),
        at_least(config, "evaluation.samples", 4),
        at_least(config, "tasks.bank_size", 2),
        ("evaluation.quantiles", _shares(quantiles), "different numbers in (0, 1), one at least"),
        ("evaluation.thresholds", _shares(thresholds), "different numbers in (0, 1), one at least"),
        *(at_least(config, f"peers.{field}", 1) for field in ("rounds", "problems", "passes")),
    ]


def _shares(values: Any) -> bool:
    return 0 < len(values) == len(set(values)) and all(0 < value < 1 for value in values)
