"""The stages of other numbers of visible examples: gen_v0 and the critic are shown more of a task, or less.

Neither is trained again: both learned from prompts with `tasks.visible` examples, so what they do with other
numbers is in part what they make of an unusual prompt.

What is compared is judged alike. A split shows the first examples of an order that does not depend on how
many (`tasks.task.split`), so those visible at one number are visible at every larger one, and those held out
are held out at every smaller one. A program generalises iff it is right on all of a task's examples, visible
or not, so at any number the same programs are right; what changes is which are drawn, and which survive.
"""

from __future__ import annotations

from constellation.conductor import Stage
from constellation.evaluation.selectors import Columns
from constellation.experiments.critic_stages import critic, scores_by
from constellation.experiments.stage_files import samples_of, scores_of
from constellation.experiments.star_config import START
from constellation.experiments.star_stages import StarStages
from constellation.samples import SampleSet

BANK = "hard"


def visible_sets(study: StarStages) -> tuple[dict[int, list[tuple[SampleSet, Columns]]], list[Stage]]:
    """gen_v0's samples of the hard bank at every other number of visible examples, and their stages.

    Returns:
        examples shown -> of each of the first trajectories, samples and the critic's scores; empty where
        variants.trajectories is 0.
    """
    config, seed = study.config, study.config.tasks.split_seed
    few = config.variants.trajectories
    found: dict[int, list[tuple[SampleSet, Columns]]] = {}
    stages: list[Stage] = []
    for shown in sorted(config.variants.visible) if few else ():
        if shown == config.tasks.visible:
            continue
        samples = study.samples(
            f"visible_{shown}_samples_{START}_{BANK}_{seed}",
            study.bank(BANK),
            study.warm_start(),
            "variants.samples",
            "evaluation",
            f"{START}, {shown} visible",
            trajectories=few,
            visible=shown,
        )
        name = f"visible_{shown}_scores_{START}_{BANK}_{seed}"
        scores = scores_by(study, name, critic(study), BANK, seed, samples, visible=shown)
        each = zip(samples_of(samples), scores_of(scores), strict=True)
        found[shown] = [(own, {"critic": column}) for own, column in each]
        stages += [samples, scores]
    return found, stages
