"""Critics that are trained, or prompted, in another way, in the first `critics.trajectories` trajectories.

The study's critic is *fixed*: trained once, on gen_v0's candidates, it judges those of every round as well.
Two others have the same tasks, as many updates, and the same candidates to judge:

- *refreshed*: trained on the last round's candidates for the critic's tasks, to judge the last round's. What
  it gains over the fixed one is what the shift of the candidates costs a critic that stays.
- *other base*: an adapter on the base in `critics.model_dir` instead of the generator's, with prompts and
  answers in that base's own tokens, trained on gen_v0's candidates to judge gen_v0's. A critic that shares
  the generator's base may share its errors.

Each also has a first adapter and an order of batches of its own, so a difference holds that chance as well.

*Other numbers of visible examples*: gen_v0 and the fixed critic are shown more of a task, or less. Neither is
trained again, so what they do is in part what they make of an unusual prompt. A split shows the first
examples of an order that does not depend on how many: at any number the same programs are right; what changes
is which are drawn, and which survive.
"""

from __future__ import annotations

from typing import NamedTuple

from ml_collections import ConfigDict

from constellation.conductor import Stage
from constellation.domains.domain import Domain
from constellation.domains.task import EXAMPLES
from constellation.evaluation.critics import Critics
from constellation.evaluation.study import StageSummary
from constellation.experiments.config import CRITIC, START, Rule, asks, at_least, trajectories_rule
from constellation.experiments.critic import critic, critic_of, critic_samples, critic_tasks, scores
from constellation.experiments.files import SCORES, arrays_of, by_trajectory, samples_of, summaries_of
from constellation.experiments.question import Question
from constellation.experiments.star import Sampled, bank_samples, last_round, warm_start
from constellation.experiments.study import Base, Draw, Study

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


class Stages(NamedTuple):
    """Critics trained otherwise, by name; samples and their scores, by the number of visible examples."""

    variants: dict[str, Variant]
    visible: dict[int, tuple[Stage, Stage]]


def rules(config: ConfigDict, domain: Domain) -> list[Rule]:
    """The rules of `config.critics`."""
    visible = config.critics.visible
    return [
        trajectories_rule(config, "critics"),
        (
            "critics.visible",
            all(1 <= shown < EXAMPLES for shown in visible) and len(set(visible)) == len(visible),
            f"different numbers from 1 to {EXAMPLES - 1}",
        ),
        at_least(config, "critics.samples", config.evaluation.small_k, "evaluation.small_k"),
        (
            "critics.model_dir",
            not asks(config, "other_base") or bool(config.critics.model_dir),
            "the directory of another base",
        ),
    ]


def stages(study: Study) -> Stages | None:
    """Every stage; None where there is neither another critic nor another number of visible examples."""
    config = study.config
    visible = {
        shown: prompted_with(study, shown)
        for shown in sorted(config.critics.visible)
        if shown != config.tasks.visible
    }
    variants = refreshed(study) if config.star.rounds else {}
    if study.critic_base:
        variants |= other_base(study, study.critic_base)
    return Stages(variants, visible) if variants or visible else None


def part(study: Study, found: Stages) -> Critics:
    """The question's part of what the evaluation reads."""
    seed = study.config.tasks.split_seed
    return Critics(
        {
            shown: [
                (own, {"critic": column})
                for own, column in zip(samples_of(samples), arrays_of(scored, SCORES), strict=True)
            ]
            for shown, (samples, scored) in found.visible.items()
        },
        START,
        {
            name: by_trajectory(BANK, own.model, seed, arrays_of(own.scores, SCORES))
            for name, own in found.variants.items()
        },
    )


def prompted_with(study: Study, shown: int) -> tuple[Stage, Stage]:
    """gen_v0's samples with so many visible examples, and the fixed critic's scores of them."""
    seed, few = study.config.tasks.split_seed, study.config.critics.trajectories
    samples = study.samples(
        f"visible_{shown}_samples_{START}_{BANK}_{seed}",
        study.bank(BANK),
        warm_start(study),
        Draw("critics.samples", "evaluation", f"{START}, {shown} visible", visible=shown, trajectories=few),
    )
    sampled = Sampled(BANK, START, seed, samples, warm_start(study), shown)
    name = f"visible_{shown}_scores_{sampled.label}"
    return samples, scores(study, name, critic(study), sampled)


def refreshed(study: Study) -> dict[str, Variant]:
    """The critic trained on the last round's candidates, with that round's name in its own."""
    last, few = last_round(study), study.config.critics.trajectories
    name = f"{REFRESHED}_{last.name}"
    draw = Draw("critic.samples", "critic", last.name, trajectories=few)
    pool = study.samples(f"{name}_samples", critic_tasks(study), last.adapters, draw)
    trained = critic_of(study, name, pool, trajectories=few)
    return {name: Variant(trained, pool, last.name, scored(study, name, trained, last.name, last.adapters))}


def other_base(study: Study, base: Base) -> dict[str, Variant]:
    """The critic on the other base; one base at a time is in memory."""
    pool = critic_samples(study)
    study.base.release()
    trained = critic_of(study, OTHER_BASE, pool, trajectories=study.config.critics.trajectories, base=base)
    judged = scored(study, OTHER_BASE, trained, START, warm_start(study), base)
    base.release()
    return {OTHER_BASE: Variant(trained, None, START, judged)}


def scored(
    study: Study, name: str, trained: Stage, model: str, generator: Stage, base: Base | None = None
) -> Stage:
    """A critic's scores of a generator's samples of the hard bank under the primary split."""
    sampled = bank_samples(study, BANK, model, generator)
    return scores(study, f"scores_{name}_{sampled.label}", trained, sampled, base=base)


def summaries(study: Study, found: Stages) -> list[StageSummary]:
    """The trainings of the other critics in figures."""
    tasks = study.config.critic.tasks
    return [
        summary
        for name, (trained, pool, *_) in found.variants.items()
        for summary in summaries_of(trained, name, CRITIC, tasks, samples_of(pool) if pool else ())
    ]


OPTIONS = {"critics": None, "other_base": "critics"}
QUESTION = Question(stages, part, OPTIONS, rules, summaries)
