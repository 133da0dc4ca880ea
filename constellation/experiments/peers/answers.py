"""Stages in which peers answer: alone, or one after the other, each reading the answers before its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from constellation.conductor import Stage
from constellation.domains.task import Task
from constellation.experiments.files import SAMPLES, numbered, numbered_files, samples_of
from constellation.experiments.study import Base, Study
from constellation.experiments.work import Judging, Sampling, Synthesis
from constellation.runtime.keys import Address
from constellation.samples import SampleSet
from constellation.selftraining.peers import Agreement, Answers, agreement, draw_order, peer_prompt

if TYPE_CHECKING:
    from constellation.model.model import Generator, Model

VERDICTS_IN_SEQUENCE, AGREEMENT = "sequence.npz", "agreement.npz"
Adapters = Mapping[str, Stage | None]  # peer -> the stage of its adapters; None for fresh ones
Places = Sequence[Mapping[str, Stage]]  # at each place of a sequence, peer -> the stage of its answers


class Draw(NamedTuple):
    """How a peer answers a stage's tasks.

    Attributes:
        tasks: their stage.
        n: answers to a task.
        temperature: 0 for the likeliest answer.
        purpose, arm: of the draws' address.
    """

    tasks: Stage
    n: int
    temperature: float
    purpose: str
    arm: str


class Sequential(NamedTuple):
    """Answers in sequence to a stage's tasks.

    Attributes:
        tasks: their stage.
        purpose: of the address of the orders.
        places: at each place, the stage of each peer that answered there.
        agreed: what the answers say together, as `Agreement` has it.
    """

    tasks: Stage
    purpose: str
    places: Places
    agreed: Stage

    @property
    def stages(self) -> list[Stage]:
        """All that is read of it."""
        return [self.tasks, *_flat(self.places), self.agreed]


def peers_of(study: Study) -> dict[str, Base]:
    """Each peer's frozen model by its name: its directory's, with its seed where several have that."""
    config = study.config.peers
    names = peer_names(config.models, config.seeds)
    return dict(zip(names, study.bases, strict=False))  # a third model that scores comes behind them


def peer_names(models: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """As `peers_of`."""
    stems = [Path(model).name.replace(".", "_") for model in models]
    return [
        stem if stems.count(stem) == 1 else f"{stem}_{seed}" for stem, seed in zip(stems, seeds, strict=False)
    ]


def generator_of(study: Study, base: Base, adapter: Stage | None) -> Generator:
    """A model in all trajectories, with a stage's adapters, or with fresh ones, which change nothing."""
    if adapter:
        return study.generator(adapter, study.trajectories, base)
    return study.untrained("nothing", study.trajectories, base)


def answers_alone(study: Study, name: str, peer: str, adapter: Stage | None, draw: Draw) -> Stage:
    """A peer's answers to all tasks, having read nothing."""
    return _answers(study, name, peer, adapter, draw, None)


def answers_in_sequence(
    study: Study, name: str, adapters: Adapters, draw: Draw, alone: Mapping[str, Stage] | None = None
) -> Sequential:
    """Every peer's answer to each task, in an order that is drawn for the task.

    What each peer answered to all tasks `alone`, by the same draw, is its answer where it is first in turn.
    """
    places: list[Mapping[str, Stage]] = [alone] if alone else []
    for place in range(len(places) + 1, len(adapters) + 1):
        stages = {
            peer: _answers(study, f"{name}_{place}_{peer}", peer, adapters[peer], draw, tuple(places))
            for peer in peers_of(study)
        }
        places.append(stages)
    return Sequential(draw.tasks, draw.purpose, places, _agreement(study, name, draw, places))


def _agreement(study: Study, name: str, draw: Draw, places: Places) -> Stage:
    """What the answers to each task say together; no judge is asked."""

    def run(path: Path) -> None:
        reference, unjudged = study.config.peers.reference, study.domain.unjudged()
        given = answers_so_far(study, draw, places)
        for r, (tasks, answers) in enumerate(zip(study.tasks_of(draw.tasks), given, strict=True)):
            found = agreement(reference, unjudged, tasks, study.split, answers)
            np.savez(path / numbered(AGREEMENT, r), **found._asdict())

    return study.conductor.stage(
        f"agreement_{name}",
        fields={
            "domain": study.domain.version,
            "tasks": study.split_fields(),
            "reference": study.config.peers.reference,
        },
        inputs=[draw.tasks, *_flat(places)],
        version=1,
        run=run,
    )


def _flat(places: Places) -> list[Stage]:
    return [stage for stages in places for stage in stages.values()]


def agreements(sequence: Sequential) -> list[Agreement]:
    """What the answers say together, in each trajectory."""
    return [Agreement(**np.load(file)) for file in numbered_files(sequence.agreed, AGREEMENT)]


def _answers(
    study: Study,
    name: str,
    peer: str,
    adapter: Stage | None,
    draw: Draw,
    before: Places | None,
) -> Stage:
    """A peer's answers at the next place of a sequence, where it is in turn; or alone, to all tasks."""
    config, base = study.config, peers_of(study)[peer]
    number = list(peers_of(study)).index(peer)
    seed = config.peers.seeds[number]
    sampling = config.sampling.to_dict() | {"temperature": draw.temperature}
    fields = study.model_fields(base) | {
        "tasks": study.split_fields(),
        "n": draw.n,
        "sampling": sampling,
        "purpose": draw.purpose,
        "arm": draw.arm,
        "trajectories": study.trajectories,
        "place": None if before is None else len(before),
        "peer": (number, len(study.config.peers.models), seed),
    }

    def run(path: Path) -> None:
        from constellation.model.sampling import SamplingConfig
        from constellation.solve import draw_answers

        study.hold(base)
        tasks = study.tasks_of(draw.tasks)
        earlier = [None] * len(tasks) if before is None else answers_so_far(study, draw, before)
        prompts = [
            _prompts(study, base.model, number, own, given) for own, given in zip(tasks, earlier, strict=True)
        ]
        drawn = draw_answers(
            generator_of(study, base, adapter),
            [[prompt for _, prompt in own] for own in prompts],
            [[task_id for task_id, _ in own] for own in prompts],
            SamplingConfig(n=draw.n, **sampling),
            Address(config.seed, draw.purpose, f"{draw.arm} {peer} {seed}"),
            base.memory,
            name,
            study.compute.sample,
        )
        digests = {"tasks_digest": draw.tasks.digest, "adapter": adapter.digest if adapter else None}
        for r, own in enumerate(drawn):
            dataclasses.replace(own, meta=fields | digests | own.meta).save(path / numbered(SAMPLES, r))

    assert isinstance(draw.tasks.work, Synthesis)
    share = 1 if before is None else len(peers_of(study))  # a peer is in turn at one task in so many
    return study.conductor.stage(
        name,
        fields=fields,
        inputs=[draw.tasks, *([adapter] if adapter else []), *_flat(before or ())],
        version=1,
        run=run,
        work=Sampling(draw.tasks.work.tasks * study.trajectories // share, draw.n),
    )


def _prompts(
    study: Study, model: Model, number: int, tasks: Sequence[Task], given: Answers | None
) -> list[tuple[str, list[int]]]:
    """The ids and prompts of the tasks that a peer, by its number, is in turn at; or of all tasks."""
    return [
        (task.id, peer_prompt(model, study.domain, study.split, task, given.texts[t] if given else []))
        for t, task in enumerate(tasks)
        if given is None or given.order[t, len(given.texts[t])] == number
    ]


def orders(study: Study, purpose: str, tasks: Stage) -> list[NDArray[np.int_]]:
    """[T, n] the order of the peers at each task, of each trajectory."""
    address, peers = Address(study.config.seed, "order", purpose), len(peers_of(study))
    return [
        draw_order(address, r, [task.id for task in own], peers)
        for r, own in enumerate(study.tasks_of(tasks))
    ]


def answers_so_far(study: Study, of: Draw | Sequential, places: Places) -> list[Answers]:
    """The answers at these places of a sequence, in each trajectory."""
    found = [
        Answers(order, [[] for _ in order], np.zeros((len(order), len(places)), np.bool_))
        for order in orders(study, of.purpose, of.tasks)
    ]
    tasks = study.tasks_of(of.tasks)
    for place, stages in enumerate(places):
        for number, stage in enumerate(stages.values()):
            for own, answers, samples in zip(tasks, found, samples_of(stage), strict=True):
                given = dict(zip(samples.task_ids, first_answers(samples), strict=True))
                for t in np.flatnonzero(answers.order[:, place] == number):
                    text, answers.finished[t, place] = given[own[t].id]
                    answers.texts[t].append(text)
    return found


def answers_in(study: Study, sequence: Sequential) -> list[Answers]:
    """All answers of a sequence, in each trajectory."""
    return answers_so_far(study, sequence, sequence.places)


def first_answers(samples: SampleSet) -> list[tuple[str, bool]]:
    """The first answer to each task, and whether it came to its end."""
    rows = zip(samples.program[:, :1].ravel(), samples.finished[:, :1].ravel(), strict=True)
    return [(str(samples.text[row]), bool(done)) for row, done in rows]


def judged_in_sequence(study: Study, name: str, sequence: Sequential) -> Stage:
    """The verdicts on every answer of a sequence, in the order of the answers: for measures alone."""

    def run(path: Path) -> None:
        tasks = study.tasks_of(sequence.tasks)
        given = answers_in(study, sequence)
        for r, (own, answers, agreed) in enumerate(zip(tasks, given, agreements(sequence), strict=True)):
            found = verdicts_of(study, own, answers) | {"key": agreed.key, "reference": agreed.reference}
            np.savez(path / numbered(VERDICTS_IN_SEQUENCE, r), **found)

    assert isinstance(sequence.tasks.work, Synthesis)
    return study.conductor.stage(
        name,
        fields={"domain": study.domain.version, "tasks": study.split_fields()},
        inputs=sequence.stages,
        version=1,
        run=run,
        work=Judging(sequence.tasks.work.tasks * study.trajectories, len(sequence.places)),
    )


def verdicts_of(study: Study, tasks: Sequence[Task], answers: Answers) -> dict[str, Any]:
    """order [T, n] int; right, flexible, fits [T, n] bool: an answer that came to no end is wrong."""
    found = {name: np.zeros(answers.order.shape, np.bool_) for name in ("right", "flexible", "fits")}
    for t, (task, texts) in enumerate(zip(tasks, answers.texts, strict=True)):
        for place, text in enumerate(texts):
            verdict = study.domain.verdict(task, study.split(task), text)
            said = {"right": verdict.right, "flexible": verdict.matches, "fits": verdict.fits}
            for name, value in said.items():
                found[name][t, place] = value and answers.finished[t, place]
    return {"order": answers.order, **found}
