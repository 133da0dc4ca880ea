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
from constellation.evaluation.study import StageSummary
from constellation.experiments import config as configs
from constellation.experiments import reach
from constellation.experiments.config import BASE, CRITIC, START
from constellation.experiments.critic import critic_of, critic_samples, scores
from constellation.experiments.files import SCORES, Fresh, arrays_of, by_trajectory, samples_of, summaries_of
from constellation.experiments.question import Question
from constellation.experiments.star import Sampled, bank_samples, rounds, warm_start
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

Choice = Callable[[int, SampleSet], dict[str, Any]]  # (trajectory, samples) -> arguments of `kept_programs`


class Stages(NamedTuple):
    """The stages that the evaluation reads.

    Attributes:
        samples: control -> its samples of its bank; the first round's, too, if the study drew fewer of it.
        reach: bank -> the known programs, those of its controls included, with every model's probabilities.
        scores: of the permuted critic, on gen_v0's samples of the hard bank.
    """

    samples: dict[str, Stage]
    reach: dict[str, reach.Stages]
    scores: Stage


def rules(config: ConfigDict, domain: Domain) -> list[configs.Rule]:
    """The rules of `config.controls`."""
    twice = 2 * config.evaluation.large_k
    return [
        configs.banks_rule(config, domain, "hard", "withheld"),
        configs.trajectories_rule(config, "controls"),
        ("questions", domain.exact is not None, f"without controls: {domain.name} has no `exact` law"),
        ("star.rounds", config.star.rounds >= 1, "at least 1 for controls"),
        configs.at_least(config, "controls.samples", twice, "twice evaluation.large_k"),
    ]


def stages(study: Study) -> Stages:
    """Every control is trained and sampled, then what reach and the critic read."""
    config, seed, few = study.config, study.config.tasks.split_seed, study.config.controls.trajectories
    samples: dict[str, Stage] = {}
    answerers: dict[str, dict[str, Sampled]] = {bank: {} for bank in BANKS.values()}
    for name, generator in controls(study).items():
        bank = BANKS[name]
        count = "controls.samples" if bank == "hard" else "evaluation.other_samples"  # as many as of gen_v0
        sampled = bank_samples(study, bank, name, generator, seed, count, few)
        samples[name], answerers[bank][name] = sampled.samples, sampled
    first = rounds(study)[0]
    own_count = configs.sample_count(config, "hard", first.name)
    if configs.value_of(config, own_count) < config.controls.samples:  # its draws are continued
        draw = Draw("controls.samples", "evaluation", first.name, trajectories=few)
        stage = f"controls_{first.name}_hard"
        samples[first.name] = study.samples(stage, study.bank("hard"), first.adapters, draw)
    known = {}
    if configs.asks(config, "reach"):
        known = {bank: reach.controlled(study, bank, own, few) for bank, own in answerers.items()}
    judged = bank_samples(study, "hard", START, warm_start(study))
    critic, stage = permuted_critic(study), f"scores_{PERMUTED_CRITIC}_hard_{seed}"
    return Stages(samples, known, scores(study, stage, critic, judged))


def part(study: Study, found: Stages) -> Controls:
    """The question's part of what the evaluation reads."""
    seed = study.config.tasks.split_seed
    return Controls(
        {
            key: own
            for name, stage in found.samples.items()
            for key, own in by_trajectory(BANKS.get(name, "hard"), name, seed, samples_of(stage)).items()
        },
        by_trajectory("hard", START, seed, arrays_of(found.scores, SCORES)),
        {bank: reach.part(study, stages) for bank, stages in found.reach.items()},
    )


def controls(study: Study) -> dict[str, Stage]:
    """Name -> the stage that trains it, of every control that is sampled."""
    star, first, start = study.config.star, rounds(study)[0], warm_start(study)
    round_start = None if star.restart == BASE else start
    of_round, of_withheld = [first.tasks, first.samples], [withheld_tasks(study), own_samples(study)]
    more = continued_tasks(study)

    def of_the_round(name: str, choice: Choice) -> Stage:
        """Trained as the first round is, on its tasks and samples, of which other programs are kept."""

        def examples() -> Pools:
            kept = _kept(study, first.samples, lambda r, own: {"keep": star.keep} | choice(r, own))
            return _own_programs(study, first.tasks, kept)

        return _trained(study, name, of_round, {"keep": star.keep}, examples, round_start)

    def secret(name: str, tasks: Callable[[], list[list[Task]]]) -> Stage:
        """Supervised on withheld tasks' secret programs, for as many answer tokens as own ones have."""
        fields = {"tokens_of": OWN_WITHHELD}

        def examples() -> Pools:
            return _secret_programs(study, tasks())

        return _trained(study, name, of_withheld, fields, examples, start, lambda p: _visits_of(study, p))

    return {
        PERMUTED: of_the_round(PERMUTED, lambda r, own: {"right": _permuted(study, r, own)}),
        FITS_ONLY: of_the_round(FITS_ONLY, lambda _, own: {"right": own.fits}),
        CONTINUED: _trained(
            study, CONTINUED, [more], {}, lambda: _secret_programs(study, _tasks_of(study, more)), start
        ),
        OWN_WITHHELD: _trained(
            study, OWN_WITHHELD, of_withheld, {"keep": 1}, lambda: _own_withheld(study), start
        ),
        SECRET_SOLVED: secret(SECRET_SOLVED, lambda: _solved_withheld(study)),
        SECRET: secret(SECRET, lambda: _tasks_of(study, withheld_tasks(study))),
    }


def continued_tasks(study: Study) -> Stage:
    """Fresh tasks like the warm start's, as many as a round has."""
    return _fresh_tasks(study, CONTINUED, "warm_start", study.config.warm_start.max_atoms, batch=1)


def withheld_tasks(study: Study) -> Stage:
    """Fresh tasks of the withheld classes, as many as a round has, as hard as the withheld bank's."""
    assert study.domain.exact is not None
    most, _ = study.domain.exact.bank_law("withheld")
    return _fresh_tasks(study, "withheld", "star", most, withheld=True)


def own_samples(study: Study) -> Stage:
    """gen_v0's samples of the tasks of the withheld classes."""
    few = study.config.controls.trajectories
    draw = Draw("star.samples", "star round", OWN_WITHHELD, trajectories=few)
    return study.samples(f"{OWN_WITHHELD}_samples", withheld_tasks(study), warm_start(study), draw)


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


def summaries(study: Study, found: Stages) -> list[StageSummary]:
    """The trainings of the controls and of the permuted critic in figures."""
    roles, tasks = {CONTINUED: "warm_start", PERMUTED_CRITIC: CRITIC}, study.config.star.tasks
    counts = {PERMUTED_CRITIC: study.config.critic.tasks}
    drawn = {OWN_WITHHELD: samples_of(own_samples(study))}  # the others learn from what the study sampled
    return [
        summary
        for name, stage in {**controls(study), PERMUTED_CRITIC: permuted_critic(study)}.items()
        for summary in summaries_of(
            stage, name, roles.get(name, "star"), counts.get(name, tasks), drawn.get(name, ())
        )
    ]


# What a control is trained on


def _fresh_tasks(
    study: Study, name: str, role: str, max_atoms: int, batch: int = 0, withheld: bool = False
) -> Stage:
    count, few = study.config.star.tasks, study.config.controls.trajectories
    fields = {"star.tasks": count, "max_atoms": max_atoms}
    return study.fresh_tasks(name, Fresh(role, count, max_atoms, batch, withheld), fields, few)


def _tasks_of(study: Study, stage: Stage) -> list[list[Task]]:
    return study.tasks_of(stage, study.config.controls.trajectories)


def _kept(study: Study, samples: Stage, choice: Choice) -> list[list[list[str]]]:
    """What is kept of each trajectory's own programs, for each task."""
    from constellation.selftraining.star import kept_programs

    drawn = samples_of(samples)[: study.config.controls.trajectories]
    return [kept_programs(study.domain, own, **choice(r, own)) for r, own in enumerate(drawn)]


def _kept_withheld(study: Study) -> list[list[list[str]]]:
    """One own program of each withheld task that has any: its class, elsewhere reserved, is wanted here."""
    choice = {"keep": 1, "reserved": study.domain.like_evaluation}
    return _kept(study, own_samples(study), lambda *_: choice)


def _own_programs(study: Study, tasks: Stage, kept: list[list[list[str]]]) -> Pools:
    from constellation.selftraining.star import star_examples

    return [
        star_examples(study.base.model, study.domain, own, study.split, programs)
        for own, programs in zip(_tasks_of(study, tasks), kept, strict=True)
    ]


def _own_withheld(study: Study) -> Pools:
    return _own_programs(study, withheld_tasks(study), _kept_withheld(study))


def _solved_withheld(study: Study) -> list[list[Task]]:
    """The withheld tasks for which there are own right programs."""
    return [
        [task for task, programs in zip(own, kept, strict=True) if programs]
        for own, kept in zip(_tasks_of(study, withheld_tasks(study)), _kept_withheld(study), strict=True)
    ]


def _secret_programs(study: Study, tasks: list[list[Task]]) -> Pools:
    from constellation.selftraining.star import warm_start_examples

    return [warm_start_examples(study.base.model, study.domain, own, study.split) for own in tasks]


def _permuted(study: Study, trajectory: int, samples: SampleSet) -> Any:
    from constellation.selftraining.star import permuted_star_verdicts

    return permuted_star_verdicts(study.domain, samples, _rng(study, PERMUTED, trajectory))


def _rng(study: Study, arm: str, trajectory: int) -> np.random.Generator:
    return host_rng(study.config.seed, "permuted verdicts", arm, trajectory)


# How long a control is trained


def _round_visits(study: Study) -> int:
    return study.config.star.passes * study.config.star.tasks


def _visits_of(study: Study, secret: Pools) -> int:
    """How many visits of secret programs have as many answer tokens as a round's visits of own programs."""
    own, longer = (
        float(np.mean([example.targets for pool in pools for example in pool] or [0]))
        for pools in (_own_withheld(study), secret)
    )
    return round(_round_visits(study) * own / longer) if longer else 0


def _trained(
    study: Study,
    name: str,
    inputs: list[Stage],
    fields: dict[str, Any],
    examples: Callable[[], Pools],
    start: Stage | None,
    fewer: Callable[[Pools], int] | None = None,
) -> Stage:
    """Trained for as many updates as a round has, or for as many visits as `fewer` says of the pools."""
    star = study.config.star
    fields = fields | {name: star[name] for name in ("passes", "tasks", "learning_rate")}
    recipe = Recipe(
        name,
        {"star": fields},
        examples,
        _round_visits(study),
        fewer,
        start,
        star.learning_rate,
        trajectories=study.config.controls.trajectories,
        version=2,
    )
    return study.train(recipe, inputs)


QUESTION = Question(stages, part, {"controls": None}, rules, summaries)
