"""The graph of paper A: warm start, STaR rounds, and every model's answers to the banks.

tasks -> gen_v0 (supervised warm start) -> v1 -> v2 ... (own generalising programs)
                    |                        |
                 critic                 samples of theta0, gen_v0 and every round on every bank
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from constellation.conductor import Stage
from constellation.domains.domain import Domain
from constellation.experiments.config import BASE, START, Rule, asks, sample_count
from constellation.experiments.files import samples_of
from constellation.experiments.study import Draw, Pools, Recipe, Study

OPTIONS: dict[str, str | None] = {"arm": None}  # as of a `Question`


class Round(NamedTuple):
    """The stages of a round: its fresh tasks, the last generator's answers to them, and what it trained."""

    name: str
    tasks: Stage
    samples: Stage
    adapters: Stage


class Sampled(NamedTuple):
    """A model's samples of a bank under a split seed.

    Attributes:
        generator: the stage of its adapters; None for the base.
        visible: how many examples it was shown, if not as many as the config says.
    """

    bank: str
    model: str
    split_seed: int
    samples: Stage
    generator: Stage | None
    visible: int | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """As a `SetKey` without its trajectory."""
        return self.bank, self.model, self.split_seed

    @property
    def label(self) -> str:
        """As it stands in the names of stages."""
        return f"{self.model}_{self.bank}_{self.split_seed}"


def warm_start_tasks(study: Study) -> Stage:
    """Tasks whose secret programs the warm start learns."""
    return study.training_tasks(START, "warm_start", study.config.warm_start.max_atoms)


def warm_start(study: Study) -> Stage:
    """gen_v0: a fresh adapter, supervised on secret programs of the warm-start role."""
    section, tasks = study.config.warm_start, warm_start_tasks(study)

    def examples() -> Pools:
        from constellation.selftraining.star import warm_start_examples

        model = study.base.model
        return [warm_start_examples(model, study.domain, own, study.split) for own in study.tasks_of(tasks)]

    recipe = Recipe(START, {"warm_start": section}, examples, section.passes * section.tasks)
    return study.train(recipe, [tasks])


def star_round(study: Study, number: int, max_atoms: int, before: Stage) -> Round:
    """One STaR round (paper A; 2203.14465, our reconstruction); `before` is the last generator."""
    section, name = study.config.star, round_name(study, number, max_atoms)

    # 1. Draw fresh tasks, of the round's own: no bank holds them and no other round has seen them.
    tasks = round_tasks(study, number, max_atoms)

    # 2. The last generator writes programs for each, from the visible examples, and the verifier runs them.
    samples = study.samples(f"{name}_samples", tasks, before, Draw("star.samples", "star round", name))

    # 3. Keep its own programs that generalise, at most `keep` a task; never the secret program.
    def examples() -> Pools:
        from constellation.selftraining.star import kept_programs, star_examples

        kept = [kept_programs(study.domain, drawn, section.keep) for drawn in samples_of(samples)]
        return [
            star_examples(study.base.model, study.domain, own, study.split, programs)
            for own, programs in zip(study.tasks_of(tasks), kept, strict=True)
        ]

    # 4. Fine-tune on these alone: from theta0, from gen_v0, or from the last round.
    start = {BASE: None, START: warm_start(study), "continue": before}[section.restart]
    fields = {field: section[field] for field in ("restart", "keep", "passes", "tasks", "learning_rate")}
    recipe = Recipe(
        name,
        {"star": fields},
        examples,
        section.passes * section.tasks,
        start=start,
        learning_rate=section.learning_rate,
    )
    return Round(name, tasks, samples, study.train(recipe, [tasks, samples]))


def round_tasks(study: Study, number: int, max_atoms: int) -> Stage:
    """A round's fresh tasks."""
    return study.training_tasks(round_name(study, number, max_atoms), "star", max_atoms, number)


def rounds(study: Study, max_atoms: int | None = None) -> list[Round]:
    """Every round in order, each on the generator before it; `max_atoms` instead of the config's."""
    found: list[Round] = []
    for number in range(1, study.config.star.rounds + 1):
        before = found[-1].adapters if found else warm_start(study)
        found.append(star_round(study, number, max_atoms or study.config.star.max_atoms, before))
    return found


def round_name(study: Study, number: int, max_atoms: int) -> str:
    """v1, v2, ...; the rounds of the second arm are named after its tasks, too."""
    arm = "" if max_atoms == study.config.star.max_atoms else f"_{max_atoms}_atoms"
    return f"v{number}{arm}"


def arm_rounds(study: Study) -> list[Round]:
    """The rounds of the arm self-trained on other tasks, if the config asks for it."""
    return rounds(study, study.config.arm.max_atoms) if asks(study.config, "arm") else []


def arm(study: Study) -> dict[str, Stage | None]:
    """The last model of the second arm, the only one of it that is evaluated."""
    return {last.name: last.adapters for last in arm_rounds(study)[-1:]}


def models(study: Study) -> dict[str, Stage | None]:
    """Every model that is evaluated, in order of training; the base has no adapter."""
    trained = {each.name: each.adapters for each in rounds(study)}
    return {BASE: None, START: warm_start(study), **trained, **arm(study)}


def last_round(study: Study) -> Round:
    """The last round, where there are rounds."""
    return rounds(study)[-1]


def bank_samples(
    study: Study,
    bank: str,
    name: str,
    generator: Stage | None,
    split_seed: int | None = None,
    count: str | None = None,
    trajectories: int | None = None,
) -> Sampled:
    """A model's samples of a bank; by default under the primary split, as many as `sample_count` says."""
    seed = study.config.tasks.split_seed if split_seed is None else split_seed
    count = count or sample_count(study.config, bank, name)
    draw = Draw(count, "evaluation", name, seed, trajectories=trajectories)
    stage = study.samples(f"samples_{name}_{bank}_{seed}", study.bank(bank), generator, draw)
    return Sampled(bank, name, seed, stage, generator)


def evaluated(study: Study) -> Iterator[Sampled]:
    """Every model's samples of every bank."""
    config = study.config
    for name, generator in models(study).items():
        for bank in config.tasks.banks:
            seeds = config.evaluation.split_seeds if bank == "hard" else (config.tasks.split_seed,)
            for seed in seeds:
                yield bank_samples(study, bank, name, generator, seed)


def rules(config: ConfigDict, domain: Domain) -> list[Rule]:
    """The rules of the second arm, if the config asks for it."""
    if not asks(config, "arm"):
        return []
    hardest, other = max(domain.difficulties), config.star.max_atoms
    fits = 1 <= config.arm.max_atoms <= hardest and config.arm.max_atoms != other
    return [("arm.max_atoms", fits, f"from 1 to {hardest} and not star.max_atoms ({other})")]
