"""The controls of the findings: each as the first round, but for the one thing that it tests.

All start from gen_v0 (where the study's rounds start from theta0, so do `permuted` and `fits_only`), all but
one take as many updates as a round, and they are trained and sampled in the first `controls.trajectories`
trajectories:

- `permuted`: the round's own programs, chosen by verdicts permuted within a task. What it gains comes from
  training on own programs at all, not from the verifier.
- `fits_only`: the round's own programs that fit the visible examples, generalising or not.
- `continued`: the warm start goes on, on fresh tasks of its own with their secret programs. What it gains
  comes from so many more updates, not from self-training.
- `own_withheld`, `secret_solved`, `secret`: on one set of tasks of the *withheld* structural classes; the
  first on the programs of gen_v0 that generalise, the others on the tasks' secret programs. If even `secret`
  does not expand what is reached, the study could not have seen an expansion. Secret programs are longer: of
  them there are fewer updates, so that the answer tokens are as many, up to the chance of the batches.
  `own_withheld` sees only the tasks that it solved, as any self-training does, and `secret_solved` the same
  tasks: from it to `secret` the tasks change, from `own_withheld` to it the programs.

`permuted_critic` is a critic trained on labels permuted within a task; what it gains over the first survivor
is the null of the critic's gain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from constellation.conductor import Stage
from constellation.domains.domain import Domain
from constellation.domains.task import Task
from constellation.evaluation.controls import Controls
from constellation.evaluation.study import SetKey, StageSummary
from constellation.experiments import config as configs
from constellation.experiments import reach
from constellation.experiments.config import BASE, CRITIC, START, asks, sample_count, value_of
from constellation.experiments.critic import critic_of, critic_samples, scores
from constellation.experiments.files import samples_of, scores_of, summaries_of
from constellation.experiments.question import Question
from constellation.experiments.star import bank_samples, rounds, warm_start
from constellation.experiments.study import Draw, Pools, Recipe, Study
from constellation.runtime.keys import host_rng
from constellation.samples import SampleSet

PERMUTED, FITS_ONLY, CONTINUED = "permuted", "fits_only", "continued"
OWN_WITHHELD, SECRET_SOLVED, SECRET = "own_withheld", "secret_solved", "secret"
PERMUTED_CRITIC = "permuted_critic"
BANKS = {  # control -> the bank that it is sampled on
    PERMUTED: "hard",
    FITS_ONLY: "hard",
    CONTINUED: "hard",
    OWN_WITHHELD: "withheld",
    SECRET_SOLVED: "withheld",
    SECRET: "withheld",
}

Choice = Callable[[int, SampleSet], dict[str, Any]]  # (trajectory, samples) to what `kept_programs` is told


class Stages(NamedTuple):
    """Every control with its samples; the first round's, continued; what reach and the critic read.

    Attributes:
        generators: control to its adapters.
        samples: control to its samples of its bank; the first round to as many, where it has fewer itself.
        first_round: the first round's name.
        reach: bank to the programs that its controls know as well, with every model's probabilities.
        critic, scores: of the permuted critic, on gen_v0's samples of the hard bank.
        own_tasks: those of tasks that were drawn for controls alone.
        own_samples: gen_v0's samples of tasks of the withheld classes.
    """

    generators: dict[str, Stage]
    samples: dict[str, Stage]
    first_round: str
    reach: dict[str, reach.Stages]
    critic: Stage
    scores: Stage
    own_tasks: list[Stage]
    own_samples: Stage

    def all(self) -> list[Stage]:
        """What a report of them reads."""
        known = [stage for found in self.reach.values() for stage in found.all()]
        return [*self.samples.values(), *known, self.scores]


def rules(config: ConfigDict, domain: Domain) -> list[configs.Rule]:
    """What holds of `config.controls`."""
    return [
        configs.banks_rule(config, domain, "hard", "withheld"),
        configs.trajectories_rule(config, "controls"),
        ("star.rounds", config.star.rounds >= 1, "at least 1 for controls"),
        configs.at_least(
            config, "controls.samples", 2 * config.evaluation.large_k, "twice evaluation.large_k"
        ),
    ]


def stages(study: Study) -> Stages:
    """Every stage."""
    config, seed = study.config, study.config.tasks.split_seed
    generators = controls(study)
    samples: dict[str, Stage] = {}
    answerers: dict[str, dict[str, reach.Answerer]] = {bank: {} for bank in BANKS.values()}
    for name, generator in generators.items():
        samples[name] = control_samples(study, name, generator)
        answerers[BANKS[name]][name] = reach.Answerer(generator, samples[name])
    first = rounds(study)[0]
    if value_of(config, sample_count(config, "hard", first.name)) < config.controls.samples:
        samples[first.name] = first_round_samples(study, first.name, first.adapters)
    known = {}
    if asks(config, "reach"):
        few = config.controls.trajectories
        known = {bank: reach.controlled(study, bank, own, few) for bank, own in answerers.items()}
    judged = bank_samples(study, "hard", START, warm_start(study), seed)
    critic = permuted_critic(study)
    return Stages(
        generators,
        samples,
        first.name,
        known,
        critic,
        scores(study, f"scores_{PERMUTED_CRITIC}_hard_{seed}", critic, "hard", seed, judged),
        [continued_tasks(study), withheld_tasks(study)],
        own_samples(study),
    )


def part(study: Study, found: Stages) -> Controls:
    """What the evaluation reads."""
    seed = study.config.tasks.split_seed
    return Controls(
        {
            SetKey(BANKS.get(name, "hard"), name, seed, r): own
            for name, stage in found.samples.items()
            for r, own in enumerate(samples_of(stage))
        },
        {SetKey("hard", START, seed, r): own for r, own in enumerate(scores_of(found.scores))},
        {bank: reach.part(study, stages) for bank, stages in found.reach.items()},
    )


def controls(study: Study) -> dict[str, Stage]:
    """Every control that is sampled."""
    return {
        PERMUTED: round_as(study, PERMUTED, lambda r, samples: _permuted(study, r, samples)),
        FITS_ONLY: round_as(study, FITS_ONLY, lambda _, samples: {"right": samples.fits}),
        CONTINUED: continued(study),
        OWN_WITHHELD: own_withheld(study),
        SECRET_SOLVED: secret(study, SECRET_SOLVED, lambda: _solved_withheld(study)),
        SECRET: secret(study, SECRET, lambda: _withheld(study)),
    }


def round_as(study: Study, name: str, choice: Choice) -> Stage:
    """The first round on its own tasks and samples, of which it keeps other programs."""
    star, first = study.config.star, rounds(study)[0]
    start = None if star.restart == BASE else warm_start(study)

    def examples() -> Pools:
        return _star_pools(study, first.tasks, first.samples, lambda r, s: {"keep": star.keep} | choice(r, s))

    return _trained(study, name, [first.tasks, first.samples], {"keep": star.keep}, examples, start)


def continued(study: Study) -> Stage:
    """gen_v0, supervised for as many updates more on fresh tasks of the warm start."""
    tasks = continued_tasks(study)

    def examples() -> Pools:
        return _supervised(study, study.tasks_of(tasks, study.config.controls.trajectories))

    return _trained(study, CONTINUED, [tasks], {}, examples, warm_start(study))


def continued_tasks(study: Study) -> Stage:
    """Tasks like the warm start's."""
    return _tasks(study, CONTINUED, "warm_start", study.config.warm_start.max_atoms, batch=1)


def withheld_tasks(study: Study) -> Stage:
    """Tasks of the withheld classes, with as many atoms as those of the withheld bank."""
    assert study.domain.exact is not None
    most, _ = study.domain.exact.bank_law("withheld")
    return _tasks(study, "withheld", "star", most, batch=0, withheld=True)


def own_withheld(study: Study) -> Stage:
    """Self-trained on tasks of the withheld classes, whose programs are kept for once."""
    inputs = [withheld_tasks(study), own_samples(study)]
    return _trained(study, OWN_WITHHELD, inputs, {"keep": 1}, lambda: _own_pools(study), warm_start(study))


def own_samples(study: Study) -> Stage:
    """gen_v0's samples of the tasks of the withheld classes."""
    few = study.config.controls.trajectories
    draw = Draw("star.samples", "star round", OWN_WITHHELD, trajectories=few)
    return study.samples(f"{OWN_WITHHELD}_samples", withheld_tasks(study), warm_start(study), draw)


def secret(study: Study, name: str, tasks: Callable[[], list[list[Task]]]) -> Stage:
    """Supervised on these withheld tasks' secret programs, for as many answer tokens as own ones have."""

    def visits(pools: Pools) -> int:
        own, secret = (
            float(np.mean([example.targets for pool in each for example in pool] or [0]))
            for each in (_own_pools(study), pools)
        )
        return round(_visits(study) * own / secret) if secret else 0

    return _trained(
        study,
        name,
        [withheld_tasks(study), own_samples(study)],
        {"tokens_of": OWN_WITHHELD},
        lambda: _supervised(study, tasks()),
        warm_start(study),
        visits,
    )


def permuted_critic(study: Study) -> Stage:
    """A critic trained on gen_v0's candidates, their labels permuted within a task."""
    from constellation.selftraining.star import permuted_labels

    return critic_of(
        study,
        PERMUTED_CRITIC,
        critic_samples(study),
        trajectories=study.config.controls.trajectories,
        labels=lambda r, drawn: permuted_labels(drawn, _rng(study, PERMUTED_CRITIC, r)),
    )


def control_samples(study: Study, name: str, generator: Stage) -> Stage:
    """A control's samples of its bank under the primary split; on withheld tasks as many as of gen_v0."""
    count = "controls.samples" if BANKS[name] == "hard" else "evaluation.other_samples"
    seed, few = study.config.tasks.split_seed, study.config.controls.trajectories
    return bank_samples(study, BANKS[name], name, generator, seed, count, few)


def first_round_samples(study: Study, name: str, adapters: Stage) -> Stage:
    """The first round's samples of the hard bank, its draws continued to as many as a control's."""
    draw = Draw("controls.samples", "evaluation", name, trajectories=study.config.controls.trajectories)
    return study.samples(f"controls_{name}_hard", study.bank("hard"), adapters, draw)


def summaries(study: Study, found: Stages) -> list[StageSummary]:
    """Their training in figures."""
    roles = {CONTINUED: "warm_start", PERMUTED_CRITIC: CRITIC}
    tasks = {PERMUTED_CRITIC: study.config.critic.tasks}
    drawn = {OWN_WITHHELD: samples_of(found.own_samples)}  # the others learn from what the study sampled
    return [
        summary
        for name, stage in {**found.generators, PERMUTED_CRITIC: found.critic}.items()
        for summary in summaries_of(
            stage,
            name,
            roles.get(name, "star"),
            tasks.get(name, study.config.star.tasks),
            drawn.get(name, ()),
        )
    ]


# Parts of the stages


def _visits(study: Study) -> int:
    """Those of a round."""
    return study.config.star.passes * study.config.star.tasks


def _tasks(study: Study, name: str, role: str, max_atoms: int, batch: int, withheld: bool = False) -> Stage:
    """As many fresh tasks as a round has."""
    count, few = study.config.star.tasks, study.config.controls.trajectories
    fields = {"star.tasks": count, "max_atoms": max_atoms}
    return study.fresh_tasks(name, role, fields, count, max_atoms, batch, few, withheld)


def _star_pools(study: Study, tasks: Stage, samples: Stage, choice: Choice) -> Pools:
    from constellation.selftraining.star import kept_programs, star_examples

    drawn = samples_of(samples)[: study.config.controls.trajectories]
    kept = [kept_programs(study.domain, own, **choice(r, own)) for r, own in enumerate(drawn)]
    return [
        star_examples(study.base.model, study.domain, own, study.split, programs)
        for own, programs in zip(study.tasks_of(tasks, len(kept)), kept, strict=True)
    ]


def _own_kept(study: Study) -> dict[str, Any]:
    """What is kept of own programs for withheld tasks; their classes, else reserved, are wanted here."""
    return {"keep": 1, "reserved": study.domain.like_evaluation}


def _own_pools(study: Study) -> Pools:
    """Own right programs for the tasks of the withheld classes."""
    return _star_pools(study, withheld_tasks(study), own_samples(study), lambda *_: _own_kept(study))


def _withheld(study: Study) -> list[list[Task]]:
    """The tasks of the withheld classes, of each trajectory."""
    return study.tasks_of(withheld_tasks(study), study.config.controls.trajectories)


def _solved_withheld(study: Study) -> list[list[Task]]:
    """Those for which there are own right programs."""
    from constellation.selftraining.star import kept_programs

    return [
        [task for task, programs in zip(own, kept, strict=True) if programs]
        for own, drawn in zip(_withheld(study), samples_of(own_samples(study)), strict=True)
        for kept in [kept_programs(study.domain, drawn, **_own_kept(study))]
    ]


def _supervised(study: Study, tasks: list[list[Task]]) -> Pools:
    from constellation.selftraining.star import warm_start_examples

    return [warm_start_examples(study.base.model, study.domain, own, study.split) for own in tasks]


def _permuted(study: Study, trajectory: int, samples: SampleSet) -> dict[str, Any]:
    from constellation.selftraining.star import permuted_star_verdicts

    return {"right": permuted_star_verdicts(study.domain, samples, _rng(study, PERMUTED, trajectory))}


def _rng(study: Study, arm: str, trajectory: int) -> np.random.Generator:
    return host_rng(study.config.seed, "permuted verdicts", arm, trajectory)


def _trained(
    study: Study,
    name: str,
    inputs: list[Stage],
    fields: dict[str, Any],
    examples: Callable[[], Pools],
    start: Stage | None,
    fewer: Callable[[Pools], int] | None = None,
) -> Stage:
    """As many updates as a round has, or as `fewer` says of the pools."""
    section = study.config.star
    fields = fields | {
        "passes": section.passes,
        "tasks": section.tasks,
        "learning_rate": section.learning_rate,
    }
    recipe = Recipe(
        name,
        {"star": fields},
        examples,
        _visits(study),
        fewer,
        start,
        section.learning_rate,
        trajectories=study.config.controls.trajectories,
        version=2,
    )
    return study.train(recipe, inputs)


QUESTION = Question(stages, part, options={"controls": None}, rules=rules, summaries=summaries)
