"""From stored stages to the report of a study of peers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from constellation.conductor import Stage, canonical_json
from constellation.domains.task import read_tasks
from constellation.evaluation.peers.report import write_report
from constellation.evaluation.peers.results import (
    InSequence,
    PeersResults,
    RoundData,
    Step,
    Trace,
)
from constellation.evaluation.study import AnalysisConfig
from constellation.experiments.files import (
    TASKS,
    VERIFICATION,
    arrays_of,
    numbered_files,
    samples_of,
    summaries_of,
)
from constellation.experiments.peers.answers import VERDICTS_IN_SEQUENCE, answers_in, peers_of
from constellation.experiments.peers.graph import (
    Graph,
    Round,
    arm_of,
    graph,
    pmi_of,
    targets_of,
)
from constellation.experiments.question import stages_in
from constellation.experiments.report import copy_results
from constellation.experiments.study import Study

TRACES = 4  # problems whose way is shown


def report(study: Study) -> Path:
    """Runs every stage and at the end the report; returns the path of report.html in the workdir."""
    found = graph(study)

    def run(path: Path) -> None:
        write_report(results(study, found, study.conductor.provenance()), path)

    stage = study.conductor.stage(
        "report",
        fields={"config": study.config, "models": [base.hash for base in study.bases]},
        inputs=sources(found),
        version=1,
        run=run,
        derived=True,
    )
    return copy_results(stage, study.conductor.workdir)


def write(study: Study, made_by: Mapping[str, str], directory: Path) -> None:
    """Writes the report of a finished study; `made_by` is the provenance that it states."""
    write_report(results(study, graph(study), made_by), directory)


def sources(found: Graph) -> list[Stage]:
    """Every stage that the report reads."""
    nests = [found.bank, *found.rounds, found.judged, list(found.evaluated.values())]
    return list({stage.name: stage for stage in stages_in(nests)}.values())


def results(study: Study, found: Graph, made_by: Mapping[str, str]) -> PeersResults:
    """What the evaluation reads, from stored stages alone."""
    config, evaluation, peers = study.config, study.config.evaluation, tuple(peers_of(study))
    models = tuple(found.evaluated)
    each = [(model, peer) for model in models for peer in peers]
    rounds = [data for made in found.rounds for data in _round_data(study, found, made)]
    return PeersResults(
        peers=peers,
        models=models,
        problems=len(read_tasks(found.bank.path / TASKS)),
        samples={key: samples_of(found.evaluated[key[0]].samples[key[1]]) for key in each},
        greedy={key: samples_of(found.evaluated[key[0]].greedy[key[1]]) for key in each},
        verification={
            key: arrays_of(found.evaluated[key[0]].verification[key[1]], VERIFICATION) for key in each
        },
        sequences={model: _verdicts(found.evaluated[model].sequence) for model in models},
        rounds=rounds,
        traces=_traces(study, found),
        quantiles=tuple(evaluation.quantiles),
        thresholds=tuple(evaluation.thresholds),
        analysis=AnalysisConfig(**{name: evaluation[name] for name in ("seed", "resamples", "margin")}),
        learnt={(made.arm, made.number): _learnt(study, made) for made in found.rounds},
        config=json.loads(canonical_json(config)),
        provenance=dict(made_by) | {name: base.hash for name, base in peers_of(study).items()},
        sources={stage.name: stage.content for stage in sources(found)},
    )


def _verdicts(stage: Stage) -> list[InSequence]:
    return [InSequence(**np.load(file)) for file in numbered_files(stage, VERDICTS_IN_SEQUENCE)]


def _round_data(study: Study, found: Graph, made: Round) -> Iterator[RoundData]:
    """A round in which peers read one another, from inside."""
    if made.sequence is None:
        return
    judged = _verdicts(found.judged[made.arm, made.number])
    scores = [pmi_of(made, r, own.right.shape) for r, own in enumerate(judged)]
    own = (arm_of(made.arm).target or study.config.peers.target) == "own"
    weights = _weights(study, made, judged) if own else None
    yield RoundData(made.arm, made.number, judged, scores if made.pmi else None, weights)


def _weights(study: Study, made: Round, judged: Sequence[InSequence]) -> list[NDArray[np.float64]]:
    """[T, n] the weight of every answer as its peer learns it, in each trajectory."""
    weights = [np.zeros(own.right.shape) for own in judged]
    for number, peer in enumerate(peers_of(study)):
        for own, verdicts, targets in zip(weights, judged, targets_of(study, made, peer), strict=True):
            own[verdicts.order == number] = [target.weight if target else 0.0 for target in targets]
    return weights


def _traces(study: Study, found: Graph) -> list[Trace]:
    """A few problems' way through the first round of PST, in the first trajectory."""
    made = next((each for each in found.rounds if each.arm == "pst"), None)
    if made is None or made.sequence is None:
        return []
    tasks, peers = study.tasks_of(made.problems)[0], list(peers_of(study))
    judged = _verdicts(found.judged[made.arm, made.number])
    answers, verdicts = answers_in(study, made.sequence)[0], judged[0]
    scores, weights = pmi_of(made, 0, verdicts.right.shape), _weights(study, made, judged)[0]
    differ = (verdicts.key.max(1) > 0) & verdicts.right.any(1)  # and one is right
    shown = np.flatnonzero(differ)[:TRACES]
    return [
        Trace(
            study.domain.messages(study.split(tasks[t]))[-1]["content"],
            tasks[t].examples[0].output,
            [
                Step(
                    peers[answers.order[t, place]],
                    answers.texts[t][place],
                    bool(verdicts.right[t, place]),
                    float(scores[t, place]),
                    float(weights[t, place]),
                    bool(place == verdicts.reference[t]),
                )
                for place in range(len(peers))
            ],
        )
        for t in shown.tolist()
    ]


def _learnt(study: Study, made: Round) -> NDArray[np.float64]:
    """[K] the tokens of answers that all peers learnt in a round."""
    tokens = np.zeros(study.trajectories)
    for stage in made.adapters.values():
        for summary in summaries_of(stage, stage.name, "star", study.config.peers.problems):
            tokens[summary.trajectory] += summary.answer_tokens or 0
    return tokens
