"""The controls beside the findings: each as the first round, but for the one thing that it tests.

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
is the null of the critic's gain. Last, as many samples of gen_v0 again, drawn afresh, stand for a round that
learned nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from constellation.conductor import Stage
from constellation.domains.task import Task
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.domains.trapdoor.banks import BANKS as BANK_STREAMS
from constellation.evaluation.known import KnownPrograms
from constellation.evaluation.study import SetKey, StageSummary
from constellation.experiments import reach_stages
from constellation.experiments.critic_stages import critic_of, critic_samples, scores_by
from constellation.experiments.stage_files import samples_of, scores_of, summaries_of, write_training_tasks
from constellation.experiments.star_config import BASE, CRITIC, START, sample_count, value_of
from constellation.experiments.star_stages import StarStages
from constellation.runtime.keys import Address
from constellation.samples import SampleSet
from constellation.selftraining.batches import TrainingExample
from constellation.selftraining.permuted import permuted_labels, permuted_star_verdicts
from constellation.selftraining.star import kept_programs, star_examples
from constellation.selftraining.warm_start import warm_start_examples

PERMUTED, FITS_ONLY, CONTINUED = "permuted", "fits_only", "continued"
OWN_WITHHELD, SECRET_SOLVED, SECRET = "own_withheld", "secret_solved", "secret"
PERMUTED_CRITIC = "permuted_critic"
BANKS = {
    PERMUTED: ("hard",),
    FITS_ONLY: ("hard",),
    CONTINUED: ("hard",),
    OWN_WITHHELD: ("withheld",),
    SECRET_SOLVED: ("withheld",),
    SECRET: ("withheld",),
}
# what is kept of own programs for withheld tasks; their classes, else reserved, are wanted here
OWN_KEPT: dict[str, Any] = {"keep": 1, "reserved": trapdoor.like_evaluation}
Pools = Callable[[], list[list[TrainingExample]]]


class ControlStages:
    """The stages, each a method that returns it finished; they read the study's and add to them."""

    def __init__(self, study: StarStages):
        self.study, self.config = study, study.config
        self.trajectories: int = study.config.controls.trajectories
        self.visits: int = study.config.star.passes * study.config.star.tasks  # of a round

    def generators(self) -> dict[str, Stage]:
        """Every control that is sampled."""
        return {
            PERMUTED: self.round_as(PERMUTED, self._permuted),
            FITS_ONLY: self.round_as(FITS_ONLY, lambda _, samples: {"right": samples.fits}),
            CONTINUED: self.continued(),
            OWN_WITHHELD: self.own_withheld(),
            SECRET_SOLVED: self.secret(SECRET_SOLVED, self._solved_withheld),
            SECRET: self.secret(SECRET, self._withheld),
        }

    def round_as(self, name: str, choice: Callable[[int, SampleSet], dict[str, Any]]) -> Stage:
        """The first round on its own tasks and samples, of which it keeps other programs.

        Args:
            choice: (trajectory, its samples) to what `star_examples` is told of which to keep.
        """
        star, study = self.config.star, self.study
        tasks, samples = study.round_tasks(1, star.max_atoms), study.round_samples(1, star.max_atoms)
        start = None if star.restart == BASE else study.warm_start()
        pools = self._star_pools(tasks, samples, lambda r, drawn: {"keep": star.keep} | choice(r, drawn))
        return self._trained(name, [tasks, samples], {"keep": star.keep}, pools, start)

    def continued(self) -> Stage:
        """gen_v0, supervised for as many updates more on fresh tasks of the warm start."""
        tasks = self.continued_tasks()
        pools = self._supervised(lambda: self.study.tasks_of(tasks, self.trajectories))
        return self._trained(CONTINUED, [tasks], {}, pools, self.study.warm_start())

    def continued_tasks(self) -> Stage:
        """Tasks like the warm start's."""
        return self._tasks(CONTINUED, "warm_start", self.config.warm_start.max_atoms, batch=1)

    def withheld_tasks(self) -> Stage:
        """Tasks of the withheld classes, with as many atoms as those of the withheld bank."""
        most = BANK_STREAMS["withheld"].max_atoms
        return self._tasks("withheld", "star", most, batch=0, withheld=True)

    def own_withheld(self) -> Stage:
        """Self-trained on tasks of the withheld classes, whose programs are kept for once."""
        inputs, pools = [self.withheld_tasks(), self.own_samples()], self._own_pools()
        return self._trained(OWN_WITHHELD, inputs, {"keep": 1}, pools, self.study.warm_start())

    def own_samples(self) -> Stage:
        """gen_v0's samples of the tasks of the withheld classes."""
        return self.study.samples(
            f"{OWN_WITHHELD}_samples",
            self.withheld_tasks(),
            self.study.warm_start(),
            "star.samples",
            "star round",
            OWN_WITHHELD,
            trajectories=self.trajectories,
        )

    def secret(self, name: str, tasks: Callable[[], list[list[Task]]]) -> Stage:
        """Supervised on these withheld tasks' secret programs, for as many answer tokens as own ones have."""
        own_pools = self._own_pools()

        def visits(pools: list[list[TrainingExample]]) -> int:
            own, secret = (
                float(np.mean([example.targets for pool in each for example in pool] or [0]))
                for each in (own_pools(), pools)
            )
            return round(self.visits * own / secret) if secret else 0

        inputs, fields = [self.withheld_tasks(), self.own_samples()], {"tokens_of": OWN_WITHHELD}
        return self._trained(name, inputs, fields, self._supervised(tasks), self.study.warm_start(), visits)

    def permuted_critic(self) -> Stage:
        """A critic trained on gen_v0's candidates, their labels permuted within a task."""
        return critic_of(
            self.study,
            PERMUTED_CRITIC,
            critic_samples(self.study),
            trajectories=self.trajectories,
            labels=lambda r, drawn: permuted_labels(drawn, self._rng(PERMUTED_CRITIC, r)),
        )

    # Evaluation

    def bank_samples(self, name: str, generator: Stage, bank: str) -> Stage:
        """A control's samples of a bank under the primary split; on withheld tasks as many as of gen_v0."""
        return self.study.samples(
            f"samples_{name}_{bank}_{self.config.tasks.split_seed}",
            self.study.bank(bank),
            generator,
            "controls.samples" if bank == "hard" else "evaluation.other_samples",
            "evaluation",
            name,
            trajectories=self.trajectories,
        )

    def first_round_samples(self, name: str) -> Stage:
        """The first round's samples of the hard bank, its draws continued to as many as a control's."""
        return self.study.samples(
            f"controls_{name}_hard",
            self.study.bank("hard"),
            self.study.round(1, self.config.star.max_atoms),
            "controls.samples",
            "evaluation",
            name,
            trajectories=self.trajectories,
        )

    def null_pool(self, bank: str) -> Stage:
        """Fresh samples of gen_v0 of a bank, of draws of their own."""
        return self.study.samples(
            f"null_pool_{bank}",
            self.study.bank(bank),
            self.study.warm_start(),
            "evaluation.null_samples",
            "null pool",
            START,
            trajectories=self.trajectories,
        )

    # What the evaluation reads

    def results(self) -> tuple[dict[str, Any], list[Stage]]:
        """The controls' fields of a `StudyResults`, and the stages that they come from."""
        study, split_seed = self.study, self.config.tasks.split_seed
        inputs: list[Stage] = []

        def sets(bank: str, name: str, stage: Stage) -> dict[SetKey, SampleSet]:
            inputs.append(stage)
            return {SetKey(bank, name, split_seed, r): own for r, own in enumerate(samples_of(stage))}

        controls: dict[SetKey, SampleSet] = {}
        known: dict[str, KnownPrograms] = {}
        scores: dict[SetKey, np.ndarray] = {}
        null_pools: dict[SetKey, SampleSet] = {}
        if self.trajectories:
            asked: dict[str, dict[str, reach_stages.Asked]] = {}
            for name, generator in self.generators().items():
                for bank in BANKS[name]:
                    drawn = self.bank_samples(name, generator, bank)
                    controls |= sets(bank, name, drawn)
                    asked.setdefault(bank, {})[name] = reach_stages.Asked(generator, drawn)
            first_round = study.round_name(1, self.config.star.max_atoms)
            drawn_of_it = value_of(self.config, sample_count(self.config, "hard", first_round))
            if drawn_of_it < self.config.controls.samples:
                controls |= sets("hard", first_round, self.first_round_samples(first_round))
            for bank, others in asked.items():
                found, stages = reach_stages.known_programs(
                    study, bank, self.trajectories, others, "controls_"
                )
                inputs += stages
                if found:
                    known[bank] = found
            judged = study.bank_samples("hard", START, study.warm_start(), split_seed)
            name = f"scores_{PERMUTED_CRITIC}_hard_{split_seed}"
            scored = scores_by(study, name, self.permuted_critic(), "hard", split_seed, judged)
            inputs.append(scored)
            scores = {SetKey("hard", START, split_seed, r): own for r, own in enumerate(scores_of(scored))}
        if self.config.evaluation.null_samples:
            null_pools = sets("hard", START, self.null_pool("hard"))
        return {
            "controls": controls,
            "control_scores": scores,
            "control_known": known,
            "null_pools": null_pools,
        }, inputs

    def summaries(self) -> list[StageSummary]:
        """Their training in figures."""
        if not self.trajectories:
            return []
        stages = self.generators() | {PERMUTED_CRITIC: self.permuted_critic()}
        roles = {CONTINUED: "warm_start", PERMUTED_CRITIC: CRITIC}
        tasks = {PERMUTED_CRITIC: self.config.critic.tasks}
        drawn = {OWN_WITHHELD: samples_of(self.own_samples())}  # the others learn from what the study sampled
        return [
            summary
            for name, stage in stages.items()
            for summary in summaries_of(
                stage,
                name,
                roles.get(name, "star"),
                tasks.get(name, self.config.star.tasks),
                drawn.get(name, ()),
            )
        ]

    def own_tasks(self) -> list[list[Task]]:
        """The tasks that were drawn for controls alone, of each stage and trajectory."""
        if not self.trajectories:
            return []
        stages = [self.continued_tasks(), self.withheld_tasks()]
        return [own for stage in stages for own in self.study.tasks_of(stage, self.trajectories)]

    # Parts of the stages

    def _tasks(self, name: str, role: str, max_atoms: int, batch: int, withheld: bool = False) -> Stage:
        """As many fresh tasks as a round has."""
        seed, count = self.config.tasks.seed, self.config.star.tasks
        return self.study.conductor.stage(
            f"tasks_{name}",
            fields={
                "tasks.seed": seed,
                "star.tasks": count,
                "max_atoms": max_atoms,
                "trajectories": self.trajectories,
            },
            version=2,
            run=lambda path: write_training_tasks(
                path, self.trajectories, role, max_atoms, seed, batch, count, withheld
            ),
        )

    def _star_pools(
        self, tasks: Stage, samples: Stage, choice: Callable[[int, SampleSet], dict[str, Any]]
    ) -> Pools:
        study = self.study

        def pools() -> list[list[TrainingExample]]:
            each = zip(study.tasks_of(tasks, self.trajectories), samples_of(samples), strict=False)
            return [
                star_examples(study.model, own, drawn, study.split, **choice(r, drawn))
                for r, (own, drawn) in enumerate(each)
            ]

        return pools

    def _own_pools(self) -> Pools:
        """Own right programs for the tasks of the withheld classes."""
        tasks, samples = self.withheld_tasks(), self.own_samples()
        return self._star_pools(tasks, samples, lambda *_: OWN_KEPT)

    def _withheld(self) -> list[list[Task]]:
        """The tasks of the withheld classes, of each trajectory."""
        return self.study.tasks_of(self.withheld_tasks(), self.trajectories)

    def _solved_withheld(self) -> list[list[Task]]:
        """Those for which there are own right programs."""
        return [
            [task for task, programs in zip(own, kept, strict=True) if programs]
            for own, drawn in zip(self._withheld(), samples_of(self.own_samples()), strict=True)
            for kept in [kept_programs(own, drawn, **OWN_KEPT)]
        ]

    def _supervised(self, tasks: Callable[[], list[list[Task]]]) -> Pools:
        study = self.study
        return lambda: [warm_start_examples(study.model, own, study.split) for own in tasks()]

    def _permuted(self, trajectory: int, samples: SampleSet) -> dict[str, Any]:
        return {"right": permuted_star_verdicts(samples, self._rng(PERMUTED, trajectory))}

    def _rng(self, arm: str, trajectory: int) -> np.random.Generator:
        return Address(self.config.seed, "permuted verdicts", arm).rng(trajectory)

    def _trained(
        self,
        name: str,
        inputs: list[Stage],
        fields: dict[str, Any],
        pools: Pools,
        start: Stage | None,
        visits: Callable[[list[list[TrainingExample]]], int] | None = None,
    ) -> Stage:
        """As many updates as a round has, or as `visits` says of the pools."""
        study, section, training = self.study, self.config.star, self.study.round_training()
        fields = fields | {
            "passes": section.passes,
            "tasks": section.tasks,
            "learning_rate": training.learning_rate,
        }

        def train(path: Path) -> None:
            drawn = pools()
            count = visits(drawn) if visits else self.visits
            study.train(path, name, start, drawn, count, training)

        return study.conductor.stage(
            name,
            fields=study.training_fields({"star": fields}) | {"trajectories": self.trajectories},
            inputs=[*inputs, *([start] if start else [])],
            version=2,
            run=train,
        )
