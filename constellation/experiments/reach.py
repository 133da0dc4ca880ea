"""Reach: which generalising programs are known, and each model's exact probability of them.

A model answers with a program if it writes one of its spellings, a sequence of token ids, and then a stop id.
Counted are the tokenizer's own spelling of the text and every spelling that some model was seen to use. These
are distinct answers, so probabilities add up; any other spelling is missed. Probabilities are taken at
temperature 1 over the whole vocabulary. Sampling leaves out ids that the tokenizer does not know, which makes
every other token likelier by 1 / (1 - their probability): here, too, what is computed is a lower bound.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from constellation.conductor import Stage
from constellation.domains.domain import Domain
from constellation.domains.task import Split, Task, read_tasks
from constellation.evaluation.reach import KnownPrograms, generalising
from constellation.experiments import star
from constellation.experiments.config import Rule, asks, at_least, programs_rule
from constellation.experiments.files import TASKS, arrays_of, samples_of, write_arrays
from constellation.experiments.question import Question
from constellation.experiments.study import Study
from constellation.experiments.work import Scoring
from constellation.samples import SampleSet

if TYPE_CHECKING:
    from constellation.model.model import Generator, Model

KNOWN, LOG_PROBS = "known.json", "log_probs.npy"
PROGRAMS_A_TASK = 4.0  # roughly, the known programs of a task; only a plan counts with it


class Stages(NamedTuple):
    """The known programs of a bank, and every model's probabilities of them, in the first trajectories."""

    bank: str
    known: Stage
    log_probs: dict[str, Stage]


def rules(config: ConfigDict, domain: Domain) -> list[Rule]:
    """The rules of `config.reach`."""
    evaluation, first, sampling = config.evaluation, config.reach.samples, config.sampling
    pools = [evaluation.samples, evaluation.other_samples, evaluation.middle_samples]
    pools += [config.controls.samples] if asks(config, "controls") else []
    fewest = f"from 1 to {min(pools)}, the fewest samples that a model answers a task with"
    # reach is of plain sampling: samples that are drawn otherwise could not be held against it
    plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    return [
        programs_rule(domain, "reach"),
        ("reach.samples", 1 <= first <= min(pools), fewest),
        ("reach.budgets", min(config.reach.budgets, default=0) >= 1, "one or more, each >= 1"),
        at_least(config, "reach.at", 1),
        *(
            (f"sampling.{name}", sampling[name] == value, f"{value} where reach is asked")
            for name, value in plain.items()
        ),
    ]


def stages(study: Study) -> Stages:
    """The known programs of the hard bank, and every model's probabilities of them."""
    return known_programs(study, "hard", _models(study, "hard"), study.trajectories)


def controlled(study: Study, bank: str, controls: Mapping[str, star.Sampled], trajectories: int) -> Stages:
    """The same of any bank, with controls in the place of the study's second arm."""
    own = {name: model for name, model in _models(study, bank).items() if name not in star.arm(study)}
    return known_programs(study, bank, own | dict(controls), trajectories, "controls_")


def _models(study: Study, bank: str) -> dict[str, star.Sampled]:
    """Every model of the study, with its samples under the primary split."""
    return {
        name: star.bank_samples(study, bank, name, generator)
        for name, generator in star.models(study).items()
    }


def known_programs(
    study: Study, bank: str, answerers: Mapping[str, star.Sampled], trajectories: int, prefix: str = ""
) -> Stages:
    """The known programs with these models' probabilities, in the first trajectories.

    Args:
        prefix: of the stages' names, where they are not the only ones of the bank.
    """
    known = _known(study, bank, answerers, trajectories, prefix)
    log_probs = {
        name: _log_probs(
            study, bank, known, f"{prefix}log_probs_{name}_{bank}", model.generator, trajectories
        )
        for name, model in answerers.items()
    }
    return Stages(bank, known, log_probs)


def part(study: Study, found: Stages) -> KnownPrograms:
    """The known programs with every model's probabilities."""
    table = json.loads((found.known.path / KNOWN).read_text(encoding="utf-8"))
    return KnownPrograms(
        bank=found.bank,
        samples=study.config.reach.samples,
        task=np.array(table["task"], np.int32),
        text=np.array(table["text"], np.object_),
        atoms=np.array(table["atoms"], np.int32),
        structures=tuple(map(tuple, table["structures"])),
        secret=np.array(table["secret"], np.bool_),
        log_prob={
            (name, trajectory): own
            for name, stage in found.log_probs.items()
            for trajectory, own in enumerate(arrays_of(stage, LOG_PROBS))
        },
    )


def _known(
    study: Study, bank: str, answerers: Mapping[str, star.Sampled], trajectories: int, prefix: str
) -> Stage:
    """The known programs of a bank and their spellings."""
    tasks, first = study.bank(bank), study.config.reach.samples

    def write(path: Path) -> None:
        sets = [own for model in answerers.values() for own in samples_of(model.samples)[:trajectories]]
        table = collect_known(study.base.model, study.domain, read_tasks(tasks.path / TASKS), sets, first)
        (path / KNOWN).write_text(json.dumps(table) + "\n", encoding="utf-8")

    return study.conductor.stage(
        f"{prefix}known_programs_{bank}",
        fields={"model": study.base.fields(), "reach.samples": first, "trajectories": trajectories},
        inputs=[tasks, *(model.samples for model in answerers.values())],
        version=1,
        run=write,
        derived=True,  # another round knows more
    )


def _log_probs(
    study: Study, bank: str, known: Stage, stage: str, generator: Stage | None, trajectories: int
) -> Stage:
    """A model's ln p of every known program, in each of its trajectories."""
    tasks, own = study.bank(bank), trajectories if generator else 1

    def score(path: Path) -> None:
        table = json.loads((known.path / KNOWN).read_text(encoding="utf-8"))
        splits = [study.split(task) for task in read_tasks(tasks.path / TASKS)]
        model = study.generator(generator, own)
        write_arrays(path, LOG_PROBS, log_probs(model, study.domain, splits, table, study.compute.log_prob))

    config = study.config
    return study.conductor.stage(
        stage,
        fields={
            "model": study.base.fields(),
            "domain": study.domain.version,
            "prompt": config.prompt.to_dict(),
            "tasks": study.split_fields(),
            "trajectories": own,
        },
        inputs=[tasks, known, *([generator] if generator else [])],
        version=1,
        run=score,
        derived=True,
        work=Scoring(config.tasks.bank_size * own, PROGRAMS_A_TASK),
    )


def collect_known(
    model: Model, domain: Domain, tasks: Sequence[Task], sets: Sequence[SampleSet], first: int
) -> dict[str, list[Any]]:
    """The columns of a table of known programs, grouped by task.

    Args:
        sets: samples of these tasks.
        first: how many of a task's samples, of each set, are looked at.

    Returns:
        task, text, atoms, structures, secret as in `KnownPrograms`; spellings: lists of token ids without a
        stop id, the tokenizer's own first.
    """
    assert domain.provenance is not None
    keys = [(t, task.program) for t, task in enumerate(tasks)]
    keys += [key for own in sets for key in generalising(own, first)]
    spellings = {  # dictionaries for sets that keep their order
        (t, text): {tuple(model.tokenizer.encode(text)): None}
        for t, text in sorted(dict.fromkeys(keys), key=lambda key: key[0])
    }
    for own in sets:
        right = own.per_sample(own.right)[:, :first]
        for t, i in np.argwhere(right):
            key = int(t), str(own.text[own.program[t, i]])
            spellings[key][tuple(own.sample_tokens(t, i).tolist())] = None
    of, secrets = domain.provenance, [domain.provenance.canonical(task.program) for task in tasks]
    return {
        "task": [t for t, _ in spellings],
        "text": [text for _, text in spellings],
        "atoms": [of.atoms(text) for _, text in spellings],
        "structures": [of.structures(text) for _, text in spellings],
        "secret": [of.canonical(text) == secrets[t] for t, text in spellings],
        "spellings": [list(ways) for ways in spellings.values()],
    }


def log_probs(
    generator: Generator,
    domain: Domain,
    splits: Sequence[Split],
    table: dict[str, list[Any]],
    log_prob: Callable[..., Any],
) -> list[np.ndarray]:
    """ln p(the answer is this program | the task's prompt) of every known program.

    Args:
        splits: of each task.
        table: of `collect_known`, D programs.
        log_prob: of `model.score`.

    Returns:
        R arrays [D] float64, of the generator's trajectories.
    """
    model, trajectories = generator.model, generator.trajectories
    prompts = [model.chat(domain.messages(split)) for split in splits]
    texts: list[list[list[int]]] = [[] for _ in splits]
    program: list[list[int]] = [[] for _ in splits]
    for d, (t, ways) in enumerate(zip(table["task"], table["spellings"], strict=True)):
        answers = [[*ids, stop] for ids in ways for stop in model.stop_ids]
        texts[t] += answers
        program[t] += [d] * len(answers)
    scored = log_prob(generator, [prompts] * trajectories, [texts] * trajectories)
    result = [np.full(len(table["task"]), -np.inf) for _ in scored]
    for total, own in zip(result, scored, strict=True):
        for rows, values in zip(program, own, strict=True):
            np.logaddexp.at(total, rows, values)
    return result


QUESTION = Question(stages, part, {"reach": None}, rules)
