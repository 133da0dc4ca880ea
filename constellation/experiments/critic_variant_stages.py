"""The stages of critics trained otherwise, in the first `variants.trajectories` trajectories.

The study's critic is *fixed*: trained once, on gen_v0's candidates, it judges those of every round as well.
Each of these has the same tasks, as many updates, and the same candidates to judge:

- *refreshed*: trained on the last round's candidates for the critic's tasks, to judge the last round's. What
  it gains over the fixed one is what the shift of the candidates costs a critic that stays.
- *other base*: an adapter on the base in `critic.model_dir` instead of the generator's, with prompts and
  answers in that base's own tokens, trained on gen_v0's candidates to judge gen_v0's. A critic that shares
  the generator's base may share its errors.

Each also has a first adapter and an order of batches of its own, so a difference holds that chance as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from constellation.conductor import Stage
from constellation.evaluation.study import SetKey, StageSummary
from constellation.experiments.critic_stages import critic_of, critic_samples, critic_tasks, scores_by
from constellation.experiments.stage_files import samples_of, scores_of, summaries_of
from constellation.experiments.star_config import CRITIC, START, with_base
from constellation.experiments.star_stages import StarStages

BANK = "hard"
REFRESHED, OTHER_BASE = "refreshed_critic", "other_base_critic"


class Variant(NamedTuple):
    """A critic trained otherwise.

    Attributes:
        critic: the stage that trained it.
        pool: the candidates that were drawn for it; None where it learned from the fixed critic's.
        model: the generator whose candidates it judges.
        scores: the stage of its scores of them.
    """

    critic: Stage
    pool: Stage | None
    model: str
    scores: Stage


def variants(study: StarStages) -> dict[str, Variant]:
    """Every such critic by the name of its stage; none where variants.trajectories is 0."""
    config = study.config
    found: dict[str, Variant] = {}
    if not config.variants.trajectories:
        return found
    if config.star.rounds:
        found |= refreshed(study)
    if config.critic.model_dir:
        found |= other_base(study)
    return found


def refreshed(study: StarStages) -> dict[str, Variant]:
    """The critic of the last round, whose name it bears: another round has another."""
    star, few = study.config.star, study.config.variants.trajectories
    generator, last = study.round(star.rounds, star.max_atoms), study.round_name(star.rounds, star.max_atoms)
    name = f"{REFRESHED}_{last}"
    pool = study.samples(
        f"{name}_samples",
        critic_tasks(study),
        generator,
        "critic.samples",
        "critic",
        last,
        trajectories=few,
    )
    critic = critic_of(study, name, pool, trajectories=few)
    return {name: Variant(critic, pool, last, scored(study, name, critic, last, generator))}


def other_base(study: StarStages) -> dict[str, Variant]:
    """The critic on the other base; one base at a time is in memory."""
    config = with_base(study.config, study.config.critic.model_dir)
    other, pool = StarStages(config, study.conductor, study.other_hash), critic_samples(study)
    study.release_model()
    critic = critic_of(other, OTHER_BASE, pool, trajectories=config.variants.trajectories)
    scores = scored(study, OTHER_BASE, critic, START, study.warm_start(), other)
    return {OTHER_BASE: Variant(critic, None, START, scores)}


def scored(
    study: StarStages,
    name: str,
    critic: Stage,
    model: str,
    generator: Stage,
    scorer: StarStages | None = None,
) -> Stage:
    """A critic's scores of a generator's samples of the hard bank under the primary split.

    Args:
        scorer: whose base the critic is on; the study's by default.
    """
    seed = study.config.tasks.split_seed
    samples = study.bank_samples(BANK, model, generator, seed)
    return scores_by(scorer or study, f"scores_{name}_{model}_{BANK}_{seed}", critic, BANK, seed, samples)


def variant_scores(study: StarStages) -> tuple[dict[str, dict[SetKey, np.ndarray]], list[Stage]]:
    """Critic -> of the sets that it judged, its scores [D]; and every stage behind them."""
    seed, found, stages = study.config.tasks.split_seed, {}, []
    for name, variant in variants(study).items():
        each = enumerate(scores_of(variant.scores))
        found[name] = {SetKey(BANK, variant.model, seed, r): scores for r, scores in each}
        stages += [variant.critic, variant.scores, *([variant.pool] if variant.pool else [])]
    return found, stages


def summaries(study: StarStages) -> list[StageSummary]:
    """Their training in figures."""
    tasks = study.config.critic.tasks
    return [
        summary
        for name, (critic, pool, *_) in variants(study).items()
        for summary in summaries_of(critic, name, CRITIC, tasks, samples_of(pool) if pool else ())
    ]
