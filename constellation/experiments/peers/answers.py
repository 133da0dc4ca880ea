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
from constellation.experiments.files import SAMPLES, numbered, samples_of
from constellation.experiments.study import Base, Study
from constellation.experiments.work import Judging, Sampling, Synthesis
from constellation.runtime.keys import Address
from constellation.samples import SampleSet
from constellation.selftraining.peers import Agreement, Answers, agreement, draw_order, peer_prompt

if TYPE_CHECKING:
    from constellation.model.model import Generator

VERDICTS_IN_SEQUENCE = "sequence.npz"
Adapters = Mapping[str, Stage | None]  # peer -> the stage of its adapters; None for fresh ones


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
    """Answers in sequence to a stage's tasks: at each place, the stage of each peer that answered there.

    `purpose` is of the address of the orders.
    """

    tasks: Stage
    purpose: str
    places: tuple[dict[str, Stage], ...]


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


def answers_in_sequence(study: Study, name: str, adapters: Adapters, draw: Draw) -> Sequential:
    """Every peer's answer to each task, in an order that is drawn for the task."""
    found = Sequential(draw.tasks, draw.purpose, ())
    for place in range(len(adapters)):
        stages = {
            peer: _answers(study, f"{name}_{place + 1}_{peer}", peer, adapters[peer], draw, found)
            for peer in peers_of(study)
        }
        found = found._replace(places=(*found.places, stages))
    return found


def _answers(
    study: Study,
    name: str,
    peer: str,
    adapter: Stage | None,
    draw: Draw,
    before: Sequential | None,
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
        "place": len(before.places) if before else None,
        "peer": (number, len(study.config.peers.models), seed),
    }
    read = [stage for stages in (before.places if before else ()) for stage in stages.values()]

    def run(path: Path) -> None:
        from constellation.model.sampling import SamplingConfig
        from constellation.solve import draw_answers

        study.hold(base)
        tasks = study.tasks_of(draw.tasks)
        earlier = answers_so_far(study, before) if before else [None] * len(tasks)
        prompts = [_prompts(study, peer, own, given) for own, given in zip(tasks, earlier, strict=True)]
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
    share = len(peers_of(study)) if before else 1  # a peer is in turn at one task in so many
    return study.conductor.stage(
        name,
        fields=fields,
        inputs=[draw.tasks, *([adapter] if adapter else []), *read],
        version=1,
        run=run,
        work=Sampling(draw.tasks.work.tasks * study.trajectories // share, draw.n),
    )


def _prompts(
    study: Study, peer: str, tasks: Sequence[Task], given: Answers | None
) -> list[tuple[str, list[int]]]:
    """The ids and prompts of the tasks that a peer is in turn at, behind what is given; or of all."""
    model, number = peers_of(study)[peer].model, list(peers_of(study)).index(peer)
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


def answers_so_far(study: Study, sequence: Sequential) -> list[Answers]:
    """The answers of each trajectory."""
    found = [
        Answers(order, [[] for _ in order], np.zeros((len(order), len(sequence.places)), np.bool_))
        for order in orders(study, sequence.purpose, sequence.tasks)
    ]
    for place, stages in enumerate(sequence.places):
        for number, stage in enumerate(stages.values()):
            for answers, samples in zip(found, samples_of(stage), strict=True):
                turns = np.flatnonzero(answers.order[:, place] == number)
                for t, (text, done) in zip(turns, first_answers(samples), strict=True):
                    answers.texts[t].append(text)
                    answers.finished[t, place] = done
    return found


def first_answers(samples: SampleSet) -> list[tuple[str, bool]]:
    """The first answer to each task, and whether it came to its end."""
    rows = zip(samples.program[:, :1].ravel(), samples.finished[:, :1].ravel(), strict=True)
    return [(str(samples.text[row]), bool(done)) for row, done in rows]


def judged_in_sequence(study: Study, name: str, sequence: Sequential) -> Stage:
    """The verdicts on every answer of a sequence, in the order of the answers: for measures alone."""

    def run(path: Path) -> None:
        tasks = study.tasks_of(sequence.tasks)
        for r, (own, answers) in enumerate(zip(tasks, answers_so_far(study, sequence), strict=True)):
            np.savez(path / numbered(VERDICTS_IN_SEQUENCE, r), **verdicts_of(study, own, answers))

    assert isinstance(sequence.tasks.work, Synthesis)
    return study.conductor.stage(
        name,
        fields={
            "domain": study.domain.version,
            "tasks": study.split_fields(),
            "reference": study.config.peers.reference,
        },
        inputs=[sequence.tasks, *(stage for stages in sequence.places for stage in stages.values())],
        version=1,
        run=run,
        work=Judging(sequence.tasks.work.tasks * study.trajectories, len(sequence.places)),
    )


def verdicts_of(study: Study, tasks: Sequence[Task], answers: Answers) -> dict[str, Any]:
    """The fields of `InSequence`; an answer that came to no end is wrong."""
    found = {name: np.zeros(answers.order.shape, np.bool_) for name in ("right", "flexible", "fits")}
    for t, (task, texts) in enumerate(zip(tasks, answers.texts, strict=True)):
        for place, text in enumerate(texts):
            verdict = study.domain.verdict(task, study.split(task), text)
            said = {"right": verdict.right, "flexible": verdict.matches, "fits": verdict.fits}
            for name, value in said.items():
                found[name][t, place] = value and answers.finished[t, place]
    agreed = agreement_of(study, tasks, answers)
    return {"order": answers.order, **found, "key": agreed.key, "reference": agreed.reference}


def agreement_of(study: Study, tasks: Sequence[Task], answers: Answers) -> Agreement:
    """What answers in sequence say together, as the config has the reference."""
    return agreement(study.config.peers.reference, study.domain.unjudged(), tasks, study.split, answers)
