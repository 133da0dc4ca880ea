"""The stages behind reach: which generalising programs are known, and each model's exact probability of them.

A model answers with a program if it writes one of its spellings, a sequence of token ids, and then a stop id.
Counted are the tokenizer's own spelling of the text and every spelling that some model was seen to use. These
are distinct answers, so probabilities add up; any other spelling is missed. Probabilities are taken at
temperature 1 over the whole vocabulary. Sampling leaves out ids that the tokenizer does not know, which makes
every other token likelier by 1 / (1 - their probability): here, too, what is computed is a lower bound.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from constellation.conductor import Stage
from constellation.domains.task import Split, Task, read_tasks
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.domains.trapdoor.language import parse
from constellation.domains.trapdoor.language.syntax import parts_of
from constellation.domains.trapdoor.structure import withheld_classes
from constellation.evaluation.known import KnownPrograms, generalising
from constellation.experiments.stage_files import (
    TASKS,
    first_adapters,
    numbered,
    numbered_files,
    samples_of,
)
from constellation.experiments.star_config import sample_count
from constellation.experiments.star_stages import StarStages
from constellation.samples import SampleSet

if TYPE_CHECKING:
    from constellation.model.model import Generator, Model

KNOWN, LOG_PROBS = "known.json", "log_probs.npy"


class Asked(NamedTuple):
    """A model that is asked: the stage of its adapters, None for the base, and of its samples of the bank."""

    generator: Stage | None
    samples: Stage


def models(study: StarStages, bank: str) -> dict[str, Asked]:
    """Every model of the study, with its samples under the primary split."""
    config = study.config

    def asked(name: str, generator: Stage | None) -> Asked:
        count = sample_count(config, bank, name)
        return Asked(generator, study.bank_samples(bank, name, generator, config.tasks.split_seed, count))

    return {name: asked(name, generator) for name, generator in study.models().items()}


def known_programs(
    study: StarStages,
    bank: str,
    trajectories: int,
    others: Mapping[str, Asked] | None = None,
    prefix: str = "",
) -> tuple[KnownPrograms | None, list[Stage]]:
    """The known programs with every model's probabilities, and the stages they were read from.

    None, and no stages, where evaluation.reach_samples is 0.

    Args:
        trajectories: the first so many.
        others: models that know programs and are asked instead of the study's arms, by name.
        prefix: of the stages' names, where they are not the only ones of the bank.
    """
    if not study.config.evaluation.reach_samples:
        return None, []
    own = {name: model for name, model in models(study, bank).items() if not (others and name in study.arm())}
    asked = own | dict(others or {})
    known = known_stage(study, bank, asked, trajectories, prefix)
    table = json.loads((known.path / KNOWN).read_text(encoding="utf-8"))
    stages = {
        name: log_prob_stage(study, bank, known, name, model.generator, trajectories, prefix)
        for name, model in asked.items()
    }
    log_prob = {
        (name, trajectory): np.load(file)
        for name, stage in stages.items()
        for trajectory, file in enumerate(numbered_files(stage, LOG_PROBS))
    }
    return KnownPrograms(
        bank=bank,
        samples=study.config.evaluation.reach_samples,
        task=np.array(table["task"], np.int32),
        text=np.array(table["text"], np.object_),
        atoms=np.array(table["atoms"], np.int32),
        structures=tuple(map(tuple, table["structures"])),
        secret=np.array(table["secret"], np.bool_),
        log_prob=log_prob,
    ), [known, *stages.values()]


def known_stage(
    study: StarStages, bank: str, asked: Mapping[str, Asked], trajectories: int, prefix: str
) -> Stage:
    """The known programs of a bank and their spellings."""
    tasks, first = study.bank(bank), study.config.evaluation.reach_samples

    def write(path: Path) -> None:
        sets = [own for model in asked.values() for own in samples_of(model.samples)[:trajectories]]
        table = collect_known(study.model, read_tasks(tasks.path / TASKS), sets, first)
        (path / KNOWN).write_text(json.dumps(table) + "\n", encoding="utf-8")

    return study.conductor.stage(
        f"{prefix}known_programs_{bank}",
        fields={
            "model": study.model_fields(),
            "evaluation.reach_samples": first,
            "trajectories": trajectories,
        },
        inputs=[tasks, *(model.samples for model in asked.values())],
        version=1,
        run=write,
        derived=True,  # another round knows more
    )


def log_prob_stage(
    study: StarStages,
    bank: str,
    known: Stage,
    name: str,
    generator: Stage | None,
    trajectories: int,
    prefix: str,
) -> Stage:
    """A model's ln p of every known program, in each of its trajectories.

    Args:
        known: of `known_stage`.
        name: of the model.
        generator: the stage that holds its adapters; None for the base.
    """
    tasks, each = study.bank(bank), trajectories if generator else 1

    def score(path: Path) -> None:
        from constellation.model.model import Generator

        table = json.loads((known.path / KNOWN).read_text(encoding="utf-8"))
        splits = [study.split(task) for task in read_tasks(tasks.path / TASKS)]
        adapters = first_adapters(generator, each) if generator else None
        for trajectory, own in enumerate(log_probs(Generator(study.model, adapters), splits, table)):
            np.save(path / numbered(LOG_PROBS, trajectory), own)

    config = study.config
    return study.conductor.stage(
        f"{prefix}log_probs_{name}_{bank}",
        fields={
            "model": study.model_fields(),
            "domain": trapdoor.version,
            "prompt": config.prompt.to_dict(),
            "tasks": {"visible": config.tasks.visible, "split_seed": config.tasks.split_seed},
            "trajectories": each,
        },
        inputs=[tasks, known, *([generator] if generator else [])],
        version=1,
        run=score,
        derived=True,
    )


def collect_known(
    model: Model, tasks: Sequence[Task], sets: Sequence[SampleSet], first: int
) -> dict[str, list[Any]]:
    """The columns of a table of known programs, grouped by task.

    Args:
        sets: samples of these tasks.
        first: how many of a task's samples, of each set, are looked at.

    Returns:
        task, text, atoms, structures, secret as in `KnownPrograms`; spellings: lists of token ids without a
        stop id, the tokenizer's own first.
    """
    keys = [(t, task.program) for t, task in enumerate(tasks)]
    keys += [key for own in sets for key in generalising(own, first)]
    spellings = {  # dictionaries for sets that keep their order
        (t, text): {tuple(model.tokenizer.encode(text)): None}
        for t, text in sorted(dict.fromkeys(keys), key=lambda key: key[0])
    }
    for own in sets:
        right = own.per_sample(own.generalises)[:, :first]
        for t, i in np.argwhere(right):
            key = int(t), str(own.text[own.program[t, i]])
            spellings[key][tuple(own.sample_tokens(t, i).tolist())] = None
    programs = [parse(trapdoor.extract(text)) for _, text in spellings]
    secrets = [parse(task.program) for task in tasks]
    return {
        "task": [t for t, _ in spellings],
        "text": [text for _, text in spellings],
        "atoms": [len(parts_of(program)) for program in programs],
        "structures": [withheld_classes(program) for program in programs],
        "secret": [p == secrets[t] for p, (t, _) in zip(programs, spellings, strict=True)],
        "spellings": [list(ways) for ways in spellings.values()],
    }


def log_probs(generator: Generator, splits: Sequence[Split], table: dict[str, list[Any]]) -> list[np.ndarray]:
    """ln p(the answer is this program | the task's prompt) of every known program.

    Args:
        splits: of each task.
        table: of `collect_known`, D programs.

    Returns:
        R arrays [D] float64.
    """
    from constellation.model.score import log_prob

    model, trajectories = generator.model, generator.trajectories
    prompts = [model.chat(trapdoor.messages(split)) for split in splits]
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
