"""The graph of paper B: rounds of PST and of its controls, and every model's answers to the bank.

problems -> answers in sequence -> PMI -> weights -> one LoRA update a peer -> the next round
                                                  |
                                answers to the bank, alone and in sequence, and whether they are right
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from constellation.conductor import Stage
from constellation.domains.task import read_tasks
from constellation.experiments.files import TASKS, VERIFICATION, Fresh, arrays_of, samples_of, write_arrays
from constellation.experiments.peers.answers import (
    Adapters,
    Draw,
    Sequential,
    agreements,
    answers_alone,
    answers_in,
    answers_in_sequence,
    first_answers,
    generator_of,
    judged_in_sequence,
    orders,
    peers_of,
)
from constellation.experiments.study import Base, Pools, Recipe, Study
from constellation.experiments.work import Judging, Scoring, Synthesis
from constellation.runtime.keys import Address
from constellation.samples import SampleSet
from constellation.selftraining.peers import (
    ARMS,
    Arm,
    Learning,
    Question,
    Target,
    learnt_by,
    peer_examples,
    pmi,
    sequence_targets,
)

BEFORE, UNTRAINED = "before", "untrained"  # the peers as they are; and a copy, sent through everything
THIRD = "third"  # a model that scores and is no peer
PMI = "pmi.npy"


class Round(NamedTuple):
    """A round of an arm.

    Attributes:
        problems: its own.
        sequence: the answers in sequence; None where nobody reads another.
        alone: each peer's own answers; none where they answer in sequence.
        pmi: each scoring peer's PMI; none where the arm does not weigh.
        adapters: what it trained.
    """

    arm: str
    number: int
    problems: Stage
    sequence: Sequential | None
    alone: dict[str, Stage]
    pmi: dict[str, Stage]
    adapters: dict[str, Stage]


class Evaluated(NamedTuple):
    """A model's answers to the bank: samples, greedy and in sequence, judged, and what it says of its own."""

    samples: dict[str, Stage]
    greedy: dict[str, Stage]
    sequence: Stage
    verification: dict[str, Stage]


class Graph(NamedTuple):
    """Every stage of a study but its report; `evaluated` is by model: "before" and each arm."""

    bank: Stage
    rounds: list[Round]
    judged: dict[tuple[str, int], Stage]
    evaluated: dict[str, Evaluated]


def peer_round(study: Study, name: str, number: int, before: Adapters) -> Round:
    """One round of an arm (paper B, our reconstruction); `before` are the peers' adapters."""
    arm = arm_of(name)
    label = BEFORE if number == 1 else f"{name}_{number}"  # what untrained peers answer, all arms share

    # 1. Draw problems; no bank holds them, and all arms share them.
    problems = round_problems(study, number)

    # 2. The peers answer one after the other, each reading the earlier answers, or each alone.
    draw = Draw(problems, 1, study.config.sampling.temperature, f"round {number}", label)
    sequence, alone = None, {}
    if arm.answers == "sequence":
        sequence = answers_in_sequence(study, f"answers_{label}", before, draw)
    else:
        for peer in peers_of(study):
            alone[peer] = answers_alone(study, f"alone_{label}_{peer}", peer, before[peer], draw)

    # 3. How much likelier does an answer make the reference?
    scores: dict[str, Stage] = {}
    if sequence and arm.weight != "one":
        scores = {name: pmi_stage(study, label, name, sequence, before) for name in scorers(study)}

    # 4. Every peer learns its weighted answers, or those that a control puts in their place.
    made = Round(name, number, problems, sequence, alone, scores, {})
    return made._replace(adapters={peer: train(study, made, peer, before[peer]) for peer in peers_of(study)})


def round_problems(study: Study, number: int) -> Stage:
    """A round's problems, of each trajectory."""
    config = study.config.peers
    fields = {"peers.problems": config.problems, "peers.level": config.level}
    fresh = Fresh("star", config.problems, config.level, number)
    return study.fresh_tasks(f"problems_{number}", fresh, fields, study.trajectories)


def scorers(study: Study) -> dict[str, Base]:
    """What scores the answers: the peers, each its own or the last one's, or a third model."""
    third = study.bases[len(study.config.peers.models) :]
    return {THIRD: third[0]} if third else peers_of(study)


def pmi_stage(study: Study, label: str, scorer: str, sequence: Sequential, before: Adapters) -> Stage:
    """The PMI [T, n] of the answers that a model scores, NaN where another does."""
    config, base = study.config.peers, scorers(study)[scorer]
    adapter = None if scorer == THIRD else before[scorer]
    fields = study.model_fields(base) | {
        "tasks": study.split_fields(),
        "trajectories": study.trajectories,
        "peers": {name: config[name] for name in ("reference", "scorer", "per_token")},
    }

    def run(path: Path) -> None:
        study.hold(base)
        asked = questions_for(study, sequence, scorer)
        found = pmi(
            generator_of(study, base, adapter),
            study.domain.unjudged(),
            study.split,
            [list(own.values()) for own in asked],
            config.per_token,
            study.compute.log_prob,
        )
        tasks = study.tasks_of(sequence.tasks)
        arrays = [np.full((len(own), len(sequence.places)), np.nan) for own in tasks]
        for array, own, values in zip(arrays, asked, found, strict=True):
            for place, value in zip(own, values, strict=True):
                array[place] = value
        write_arrays(path, PMI, arrays)

    assert isinstance(sequence.tasks.work, Synthesis)
    scored = sequence.tasks.work.tasks * (len(sequence.places) if scorer == THIRD else 1)
    return study.conductor.stage(
        f"pmi_{label}_{scorer}",
        fields=fields,
        inputs=[*sequence.stages, *([adapter] if adapter else [])],
        version=1,
        run=run,
        work=Scoring(2 * scored * study.trajectories, 1),
    )


def questions_for(study: Study, sequence: Sequential, scorer: str) -> list[dict[tuple[int, int], Question]]:
    """(problem, place) -> the question about the answer there, for those that a model scores."""
    asked = []
    given = answers_in(study, sequence)
    for tasks, answers, agreed in zip(
        study.tasks_of(sequence.tasks), given, agreements(sequence), strict=True
    ):
        references = agreed.reference
        scored = np.ones(answers.order.shape, np.bool_)
        if scorer != THIRD:
            whose = answers.order if study.config.peers.scorer == "self" else answers.order[:, -1:]
            scored &= whose == list(peers_of(study)).index(scorer)
        asked.append(
            {
                (t, place): Question(
                    tasks[t],
                    answers.texts[t][place],
                    answers.texts[t][references[t]],
                    bool(answers.finished[t, references[t]]),
                )
                for t, place in np.argwhere(scored).tolist()
            }
        )
    return asked


def train(study: Study, made: Round, peer: str, before: Stage | None) -> Stage:
    """A peer's adapters after a round, of all trajectories."""
    config, arm, base = study.config.peers, arm_of(made.arm), peers_of(study)[peer]
    read = made.sequence.stages if made.sequence else [own_answers(study, made, peer)]
    unjudged = study.domain.unjudged()

    def examples() -> Pools:
        each = zip(study.tasks_of(made.problems), targets_of(study, made, peer), strict=True)
        return [peer_examples(base.model, unjudged, study.split, *own) for own in each]

    fields = (
        "tau", "reference", "target", "learns_last", "restart", "passes", "problems", "learning_rate",
    )  # fmt: skip
    recipe = Recipe(
        f"{made.arm}_{made.number}_{peer}",
        {"arm": arm._asdict(), "peers": {field: config[field] for field in fields}},
        examples,
        config.passes * config.problems,
        start=before if config.restart == "continue" else None,
        learning_rate=config.learning_rate,
        address=f"round {made.number} {peer}",
    )
    return study.train(recipe, [made.problems, *read, *made.pmi.values()], base)


def own_answers(study: Study, made: Round, peer: str) -> Stage:
    """What a peer answered alone in a round; with verdicts only where an arm keeps what is right."""
    own = made.alone[peer]
    if arm_of(made.arm).keeps != "right":
        return own
    return study.judged(f"{own.name}_judged", made.problems, own, study.split_fields())


def targets_of(study: Study, made: Round, peer: str) -> list[list[Target | None]]:
    """What a peer learns of each problem of a round, in each trajectory."""
    config, arm, number = study.config.peers, arm_of(made.arm), list(peers_of(study)).index(peer)
    found = []
    if made.sequence is None:
        ordered = orders(study, f"round {made.number}", made.problems)
        for order, samples in zip(ordered, samples_of(own_answers(study, made, peer)), strict=True):
            kept = samples.per_sample(_kept(study, arm, samples))[:, 0]
            kept = kept & learnt_by(number, order, config.learns_last)
            own = zip(first_answers(samples), kept, strict=True)
            found.append([Target(*answer, 1.0) if keeps else None for answer, keeps in own])
        return found
    learning = Learning(config.target, config.learns_last, config.tau)
    address = Address(study.config.seed, "shuffle", f"{made.arm} {made.number} {peer}")
    given = answers_in(study, made.sequence)
    for r, (answers, agreed) in enumerate(zip(given, agreements(made.sequence), strict=True)):
        scores = pmi_of(made, r, answers.order.shape)
        found.append(sequence_targets(arm, learning, number, answers, agreed, scores, address.rng(r)))
    return found


def pmi_of(made: Round, trajectory: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The PMI [T, n] of a round's answers, whoever scored them; 0 in a round that does not weigh."""
    scores = np.zeros(shape)
    for stage in made.pmi.values():
        found = arrays_of(stage, PMI)[trajectory]
        scores = np.where(np.isfinite(found), found, scores)
    return scores


def _kept(study: Study, arm: Arm, samples: SampleSet) -> NDArray[np.bool_]:
    """[D] which of its own answers a peer keeps."""
    if arm.keeps == "right":
        return samples.right
    if arm.keeps == "format":
        formats = [study.domain.in_format(str(text)) for text in samples.text]
        return samples.ended & np.array(formats, np.bool_)
    return np.ones(len(samples.text), np.bool_)


def arm_of(name: str) -> Arm:
    """The arm of this name, which is trained."""
    arm = ARMS[name]
    assert arm is not None
    return arm


def evaluated(study: Study, model: str, adapters: Adapters) -> Evaluated:
    """A model's answers to the bank, drawn, greedy and in sequence, judged; and what it says of its own."""
    config, bank, fields = study.config, study.bank(study.config.tasks.bank), study.split_fields()
    draw = Draw(bank, config.evaluation.samples, config.sampling.temperature, "bank", model)
    greedy = draw._replace(n=1, temperature=0.0)
    samples: dict[str, Stage] = {}
    likeliest: dict[str, Stage] = {}
    verified: dict[str, Stage] = {}
    alone: dict[str, Stage] = {}
    for peer in peers_of(study):
        alone[peer] = answers_alone(study, f"draws_greedy_{model}_{peer}", peer, adapters[peer], greedy)
        drawn = answers_alone(study, f"draws_samples_{model}_{peer}", peer, adapters[peer], draw)
        likeliest[peer] = study.judged(f"greedy_{model}_{peer}", bank, alone[peer], fields)
        samples[peer] = study.judged(f"samples_{model}_{peer}", bank, drawn, fields)
        verified[peer] = verification(study, model, peer, samples[peer], adapters[peer])
    sequence = answers_in_sequence(study, f"bank_{model}", adapters, greedy, alone)
    return Evaluated(
        samples, likeliest, judged_in_sequence(study, f"judged_bank_{model}", sequence), verified
    )


def verification(study: Study, model: str, peer: str, samples: Stage, adapter: Stage | None) -> Stage:
    """p(yes) [D] by a peer of each of its own distinct answers: yes against no, at one token."""
    base, bank = peers_of(study)[peer], study.bank(study.config.tasks.bank)

    def run(path: Path) -> None:
        study.hold(base)
        drawn = samples_of(samples)
        logits = study.compute.critic_scores(
            generator_of(study, base, adapter),
            study.domain,
            read_tasks(bank.path / TASKS),
            drawn,
            study.split,
            lambda own: own.ended,
        )
        write_arrays(path, VERIFICATION, (expit(own) for own in logits))

    assert isinstance(samples.work, Judging)
    return study.conductor.stage(
        f"verification_{model}_{peer}",
        fields=study.model_fields(base) | {"tasks": study.split_fields()},
        inputs=[bank, samples, *([adapter] if adapter else [])],
        version=1,
        run=run,
        work=Scoring(samples.work.tasks, samples.work.n),
    )


def graph(study: Study) -> Graph:
    """Asks the conductor for every stage of the study, in the order in which they run."""
    nothing: Adapters = dict.fromkeys(peers_of(study))
    models = {BEFORE: evaluated(study, BEFORE, nothing)}
    made: list[Round] = []
    for name in study.config.arms:
        adapters = nothing
        for number in range(1, study.config.peers.rounds + 1) if name != UNTRAINED else ():
            made.append(peer_round(study, name, number, adapters))
            adapters = dict(made[-1].adapters)
        models[name] = evaluated(study, name, adapters)
    return Graph(study.bank(study.config.tasks.bank), made, judged_rounds(study, made), models)


def judged_rounds(study: Study, made: Sequence[Round]) -> dict[tuple[str, int], Stage]:
    """The verdicts on what was answered in sequence in each round: measures, which no training reads."""
    return {
        (each.arm, each.number): judged_in_sequence(study, f"judged_{_label(each)}", each.sequence)
        for each in made
        if each.sequence
    }


def _label(made: Round) -> str:
    """By which the answers of a round are called: arms share those of untrained peers."""
    return BEFORE if made.number == 1 else f"{made.arm}_{made.number}"
